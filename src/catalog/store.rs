//! The folder of models: `OWNER/REPO/QUANT/`, in each its files and `cachalot.json`, which says what they must be.
//!
//! A file has its name only when it is whole and was verified. What is still being fetched ends in `.partial`, with
//! a journal beside it; see `parts`.

use super::error::Error;
use super::models::models_or_own;
use super::quant;
use super::reference::{Reference, Repo};
use crate::files::{Lock, Replacement, beside, make_shared_folder, remove, sync_folder};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the folder of models in place of the one in the user's data.
pub const FOLDER_VARIABLE: &str = "CACHALOT_MODELS";
const MANIFEST: &str = "cachalot.json";
const LOCK: &str = ".lock";
const FORMAT: u32 = 1;
/// Far above the 300 kB that hashes for 250 GB take.
const MAX_MANIFEST: u64 = 64 << 20;

/// The folder of models.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    is_default: bool,
}

/// A quant of a repository, as far as it is here.
#[derive(Debug)]
pub struct Pulled {
    pub folder: PathBuf,
    pub manifest: Manifest,
}

/// What the files of a quant must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub repo: String,
    pub quant: String,
    /// The commit that the files are of.
    pub revision: String,
    pub files: Vec<PulledFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledFile {
    pub name: String,
    /// Within the repository.
    pub path: String,
    pub size: u64,
    pub sha256: String,
    /// Bytes of a chunk; the last one may be shorter.
    pub chunk_bytes: u64,
    /// BLAKE3 of each chunk; empty until the file was whole.
    #[serde(default)]
    pub chunks: Vec<blake3_hex::Hash>,
}

/// BLAKE3 hashes as hexadecimal digits.
mod blake3_hex {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    pub struct Hash(pub blake3::Hash);

    impl From<Hash> for String {
        fn from(hash: Hash) -> String {
            hash.0.to_hex().to_string()
        }
    }

    impl TryFrom<String> for Hash {
        type Error = blake3::HexError;

        fn try_from(text: String) -> Result<Hash, blake3::HexError> {
            blake3::Hash::from_hex(text).map(Hash)
        }
    }
}

pub(super) use blake3_hex::Hash as ChunkHash;

impl PulledFile {
    pub(super) fn n_chunks(&self) -> usize {
        usize::try_from(self.size.div_ceil(self.chunk_bytes.max(1))).unwrap_or(usize::MAX)
    }

    /// Whether it was whole once, so that its chunks are known.
    pub(super) fn was_whole(&self) -> bool {
        !self.chunks.is_empty()
    }
}

impl Manifest {
    pub(super) fn new(repo: &Repo, quant: &str, revision: &str, files: Vec<PulledFile>) -> Manifest {
        let (repo, quant, revision) = (repo.to_string(), quant.to_owned(), revision.to_owned());
        Manifest { format: FORMAT, repo, quant, revision, files }
    }

    /// What others wrote is not trusted with paths.
    fn fault(&self) -> Option<String> {
        let is_sound = |file: &PulledFile| {
            let is_hash = file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            let n_chunks = file.chunks.len();
            is_hash
                && file.size > 0
                && file.chunk_bytes > 0
                && (n_chunks == 0 || n_chunks == file.n_chunks())
                && is_file_name(&file.name)
        };
        match self.files.iter().find(|file| !is_sound(file)) {
            _ if self.format != FORMAT => Some(format!("format {} is not known", self.format)),
            _ if self.files.is_empty() => Some("it names no files".to_owned()),
            Some(file) => Some(format!("what it says of '{}' cannot be", file.name.escape_default())),
            None if Repo::parse(&self.repo).is_none() => Some("it names no repository".to_owned()),
            None => None,
        }
    }
}

/// Whether a name from elsewhere may be that of a file: one part of a path, not hidden, ending in `.gguf`.
pub(super) fn is_file_name(name: &str) -> bool {
    let is_char = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
    name.len() <= 200 && name.ends_with(".gguf") && !name.starts_with('.') && name.chars().all(is_char)
}

impl Store {
    /// What `folder` says, or `CACHALOT_MODELS`, or `cachalot/models` in the folder for the user's data
    /// (`$XDG_DATA_HOME`, `~/.local/share`).
    pub fn open(folder: Option<&Path>) -> Result<Store, Error> {
        let named = std::env::var_os(FOLDER_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = folder {
            return Ok(Store { root: folder.to_owned(), is_default: named.as_deref() == Some(folder) });
        }
        let root = match named {
            Some(named) => named,
            None => directories::BaseDirs::new().ok_or(Error::NoHome)?.data_dir().join("cachalot").join("models"),
        };
        Ok(Store { root, is_default: true })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a model's name finds what is in this folder.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    pub(super) fn folder_of(&self, repo: &Repo, quant: &str) -> PathBuf {
        let (owner, name) = repo.parts();
        self.root.join(owner).join(name).join(quant)
    }

    /// Everything that is here, whole or not; and what is damaged.
    pub fn list(&self) -> Result<(Vec<Pulled>, Vec<Error>), Error> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let owners = folders_in(&self.root)?;
        for repo in owners.iter().map(|owner| folders_in(owner)).collect::<Result<Vec<_>, _>>()?.concat() {
            for folder in folders_in(&repo)? {
                match Pulled::at(&folder) {
                    Ok(pulled) => found.extend(pulled),
                    Err(error) => damaged.push(error),
                }
            }
        }
        found.sort_by(|a, b| (&a.manifest.repo, &a.manifest.quant).cmp(&(&b.manifest.repo, &b.manifest.quant)));
        Ok((found, damaged))
    }

    /// What is here of a model, whole or not; of several repositories the preferred one's.
    pub fn find(&self, reference: &Reference) -> Result<Pulled, Error> {
        if let (true, Some(model)) = (reference.repos.is_empty(), reference.model) {
            return Err(Error::NoFiles(model.name.clone()));
        }
        let mut found = self.matching(reference)?;
        let not_pulled = || Error::NotPulled { name: reference.text.clone(), hint: self.hint(reference) };
        if reference.quant.is_none() && found.iter().filter(|pulled| pulled.is_whole()).count() == 1 {
            found.retain(Pulled::is_whole);
        }
        if reference.quant.is_none() && found.len() > 1 {
            let quants = found.into_iter().map(|pulled| pulled.manifest.quant).collect();
            return Err(Error::SeveralHere { name: reference.text.clone(), quants });
        }
        if found.is_empty() { Err(not_pulled()) } else { Ok(found.swap_remove(0)) }
    }

    /// As [`find`](Self::find), and whole.
    pub fn find_whole(&self, reference: &Reference) -> Result<Pulled, Error> {
        let pulled = self.find(reference)?;
        match pulled.missing() {
            0 => Ok(pulled),
            missing => Err(Error::Unfinished { name: pulled.name(), missing, files: pulled.manifest.files.len() }),
        }
    }

    /// In the order of the reference's repositories; an exact quant goes first.
    fn matching(&self, reference: &Reference) -> Result<Vec<Pulled>, Error> {
        let mut found = Vec::new();
        for repo in &reference.repos {
            let (owner, name) = repo.parts();
            let mut here = Vec::new();
            for folder in folders_in(&self.root.join(owner).join(name))? {
                here.extend(Pulled::at(&folder)?);
            }
            if let Some(wanted) = &reference.quant {
                here.retain(|pulled| quant::is(&pulled.manifest.quant, wanted));
                here.sort_by_key(|pulled| !pulled.manifest.quant.eq_ignore_ascii_case(wanted));
            }
            found.append(&mut here);
        }
        Ok(found)
    }

    fn hint(&self, reference: &Reference) -> String {
        let Some(model) = reference.model.filter(|_| reference.quant.is_none()) else {
            return String::new();
        };
        let names = model.files.iter().flat_map(|files| files.quants.iter()).filter(|quant| quant.recommended);
        match names.map(|quant| quant.name.as_str()).next() {
            Some(quant) => format!(", with a quant behind a colon, such as {}", reference.with_quant(quant)),
            None => String::new(),
        }
    }
}

impl Pulled {
    /// What a folder holds that was pulled; `None` where nothing was.
    pub fn at(folder: &Path) -> Result<Option<Pulled>, Error> {
        let path = folder.join(MANIFEST);
        let fault = |fault: String| Error::Manifest { path: path.clone(), fault };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_MANIFEST => return Err(fault("is too long".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read(&path)(error)),
        }
        let bytes = fs::read(&path).map_err(Error::read(&path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        match manifest.fault() {
            Some(text) => Err(fault(text)),
            None => Ok(Some(Pulled { folder: folder.to_owned(), manifest })),
        }
    }

    /// Puts the manifest on the disk.
    pub(super) fn write(&self) -> Result<(), Error> {
        let path = self.folder.join(MANIFEST);
        let write = || {
            let mut file = Replacement::create_shared(&path)?;
            serde_json::to_writer_pretty(&mut file, &self.manifest)?;
            file.write_all(b"\n")?;
            file.finish(None)
        };
        write().map_err(Error::write(&path))
    }

    /// For whoever changes what is in the folder.
    pub(super) fn lock(folder: &Path) -> Result<Lock, Error> {
        make_shared_folder(folder).map_err(Error::write(folder))?;
        let taken = Lock::take(&folder.join(LOCK)).map_err(Error::write(folder))?;
        taken.ok_or_else(|| Error::Locked(folder.to_owned()))
    }

    pub fn path_of(&self, file: &PulledFile) -> PathBuf {
        self.folder.join(&file.name)
    }

    /// What a program opens.
    pub fn first(&self) -> PathBuf {
        self.manifest.files.first().map_or_else(|| self.folder.clone(), |file| self.path_of(file))
    }

    pub(super) fn has(&self, file: &PulledFile) -> bool {
        file.was_whole() && fs::metadata(self.path_of(file)).is_ok_and(|found| found.len() == file.size)
    }

    /// How many files are not here, or not whole.
    pub fn missing(&self) -> usize {
        self.manifest.files.iter().filter(|file| !self.has(file)).count()
    }

    pub fn is_whole(&self) -> bool {
        self.missing() == 0
    }

    /// Of all files, when they are here.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// What it takes on the disk so far.
    pub fn bytes_here(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let allocated = |path: PathBuf| fs::metadata(path).map_or(0, |found| (found.blocks() * 512).min(found.len()));
        let files = self.manifest.files.iter().map(|file| self.path_of(file));
        files.map(|path| allocated(beside(&path, super::parts::PARTIAL)) + allocated(path)).sum()
    }

    /// The shortest name that finds it.
    pub fn name(&self) -> String {
        let Manifest { repo, quant, .. } = &self.manifest;
        let is_first = |files: &[super::models::Files]| {
            let with_quant =
                files.iter().filter(|files| files.quants.iter().any(|known| quant::is(quant, &known.name)));
            with_quant.chain(files).next().is_some_and(|files| files.repo == *repo)
        };
        match models_or_own().iter().find(|model| is_first(&model.files)) {
            Some(model) => format!("{}:{quant}", model.name),
            None => format!("hf:{repo}:{quant}"),
        }
    }

    /// Removes it from the disk.
    pub fn remove(self) -> Result<(), Error> {
        let lock = Pulled::lock(&self.folder)?;
        // The manifest last: what is left of an interrupted removal can still be named.
        for file in &self.manifest.files {
            let path = self.path_of(file);
            for path in [beside(&path, super::parts::PARTIAL), beside(&path, super::parts::JOURNAL), path] {
                remove(&path).map_err(Error::write(&path))?;
            }
        }
        let manifest = self.folder.join(MANIFEST);
        remove(&manifest).map_err(Error::write(&manifest))?;
        sync_folder(&self.folder).map_err(Error::write(&self.folder))?;
        drop(lock);
        // Folders that hold anything else stay.
        let _ = self.folder.ancestors().take(3).try_for_each(fs::remove_dir);
        Ok(())
    }
}

/// None where there is no such folder.
fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(folder)(error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::read(folder))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = PulledFile {
            name: "m-Q8_0.gguf".to_owned(),
            path: "x/m-Q8_0.gguf".to_owned(),
            size: 10,
            sha256: "ab".repeat(32),
            chunk_bytes: 8,
            chunks: vec![ChunkHash(blake3::hash(b"1")), ChunkHash(blake3::hash(b"2"))],
        };
        Manifest::new(&Repo::parse("a/b").unwrap(), "Q8_0", "main", vec![entry])
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_and_says_no_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let pulled = Pulled { folder: folder.path().to_owned(), manifest: manifest() };
        pulled.write().unwrap();
        assert_eq!(Pulled::at(folder.path()).unwrap().unwrap().manifest, manifest());
        let spoil: [fn(&mut Manifest); 6] = [
            |m| m.files[0].name = "../m.gguf".to_owned(),
            |m| m.files[0].sha256 = "ab".to_owned(),
            |m| m.files[0].chunks.truncate(1),
            |m| m.files[0].chunk_bytes = 0,
            |m| m.files.clear(),
            |m| m.repo = "a/../b".to_owned(),
        ];
        for spoil in spoil {
            let mut manifest = manifest();
            spoil(&mut manifest);
            let pulled = Pulled { folder: folder.path().to_owned(), manifest };
            pulled.write().unwrap();
            assert!(matches!(Pulled::at(folder.path()), Err(Error::Manifest { .. })), "{:?}", pulled.manifest);
        }
        assert!(Pulled::at(&folder.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn names_that_a_file_may_have() {
        for name in ["a.gguf", "DeepSeek-V3-0324-UD-Q2_K_XL-00001-of-00006.gguf", "ü b.gguf"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in
            ["", "..", ".gguf", "../a.gguf", "a/b.gguf", "/a.gguf", "a\0.gguf", "a\\b.gguf", ".a.gguf", "a.json"]
        {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(!is_file_name(&format!("{}.gguf", "a".repeat(300))));
    }
}
