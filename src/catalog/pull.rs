//! From a model's name to its files on the disk: what there is, what is here already, and the rest from the hub.

use super::error::Error;
use super::fetch::{Event, Fetch, Report};
use super::hash;
use super::hub::{self, Hub};
use super::parts::{JOURNAL, PARTIAL};
use super::quant::{self, Set};
use super::reference::{Reference, Repo};
use super::store::{ChunkHash, Manifest, Pulled, PulledFile, Store, is_file_name};
use crate::files::{beside, make_shared_folder, remove, sync_folder};
use std::fs;
use std::path::{Path, PathBuf};

pub const MAIN: &str = "main";

/// The files of a model, and where they go.
pub struct Plan<'h> {
    hub: &'h Hub,
    repo: Repo,
    pulled: Pulled,
}

impl<'h> Plan<'h> {
    /// Asks the hub what there is, and looks what of it is here. Of several repositories the first one with the quant.
    pub fn new(hub: &'h Hub, store: &Store, reference: &Reference, revision: &str) -> Result<Plan<'h>, Error> {
        let (repo, commit, set) = find(hub, reference, revision)?;
        let folder = store.folder_of(&repo, &set.quant);
        let entries = entries(&set)?;
        let mut manifest = Manifest::new(&repo, &set.quant, &commit, entries);
        // What was verified before, and is still what the hub has, stays.
        if let Ok(Some(earlier)) = Pulled::at(&folder) {
            for file in &mut manifest.files {
                let same = |known: &&PulledFile| {
                    known.sha256 == file.sha256 && known.size == file.size && known.name == file.name
                };
                if let Some(known) = earlier.manifest.files.iter().find(same) {
                    file.clone_from(known);
                }
            }
        }
        Ok(Plan { hub, repo, pulled: Pulled { folder, manifest } })
    }

    /// Files that are in a folder already, as the hub says that they must be.
    pub fn for_folder(hub: &Hub, reference: &Reference, revision: &str, folder: &Path) -> Result<Pulled, Error> {
        let (repo, commit, set) = find(hub, reference, revision)?;
        let manifest = Manifest::new(&repo, &set.quant, &commit, entries(&set)?);
        Ok(Pulled { folder: folder.to_owned(), manifest })
    }

    /// The same files as were pulled before, from the same commit.
    pub fn again(hub: &'h Hub, pulled: Pulled) -> Result<Plan<'h>, Error> {
        let repo = &pulled.manifest.repo;
        let form = || Error::Form { text: repo.clone(), wanted: "repository of the form OWNER/REPO" };
        Ok(Plan { hub, repo: Repo::parse(repo).ok_or_else(form)?, pulled })
    }

    pub fn pulled(&self) -> &Pulled {
        &self.pulled
    }

    /// The files that are to be fetched.
    pub fn missing(&self) -> Vec<&PulledFile> {
        self.pulled.manifest.files.iter().filter(|file| !self.pulled.has(file)).collect()
    }

    /// Bytes that are free where the files go.
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.pulled.folder)
    }

    /// Bytes of what is missing that an earlier attempt has left.
    pub fn kept_bytes(&self) -> u64 {
        self.missing().iter().map(|file| self.kept_of(file)).sum()
    }

    fn kept_of(&self, file: &PulledFile) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(beside(&self.pulled.path_of(file), PARTIAL));
        found.map_or(0, |found| (found.blocks() * 512).min(file.size))
    }

    /// Brings the files here. `report` hears of them by their place among the missing.
    pub fn run(mut self, connections: usize, report: Report<'_>) -> Result<Pulled, Error> {
        let folder = self.pulled.folder.clone();
        let lock = Pulled::lock(&folder)?;
        let earlier = Pulled::at(&folder).ok().flatten();
        let missing: Vec<usize> = (0..self.pulled.manifest.files.len())
            .filter(|at| self.file(*at).is_some_and(|file| !self.pulled.has(file)))
            .collect();
        for at in &missing {
            if let Some(file) = self.pulled.manifest.files.get_mut(*at) {
                file.chunks.clear();
            }
        }
        self.pulled.write()?;
        for file in self.pulled.manifest.files.iter().filter(|file| self.pulled.has(file)) {
            remove_partial(&self.pulled.path_of(file))?;
        }
        let mut wanted = Vec::new();
        for (place, at) in missing.iter().enumerate() {
            match self.adopt(*at, report)? {
                true => report(Event::Finished { file: place }),
                false => wanted.push((place, *at)),
            }
        }
        if !wanted.is_empty() {
            self.fetch(&wanted, connections, report)?;
        }
        if let Some(earlier) = earlier {
            self.remove_others(&earlier)?;
        }
        drop(lock);
        Ok(self.pulled)
    }

    fn file(&self, at: usize) -> Option<&PulledFile> {
        self.pulled.manifest.files.get(at)
    }

    /// Takes a file that is on the disk already: under its name, or in the cache of Hugging Face's own tools.
    fn adopt(&mut self, at: usize, report: Report<'_>) -> Result<bool, Error> {
        let Some(file) = self.file(at).cloned() else { return Ok(false) };
        let path = self.pulled.path_of(&file);
        let has_size = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == file.size);
        let cached = cached(&self.repo, &file).filter(|path| has_size(path));
        let found = if has_size(&path) { Some(path.clone()) } else { cached };
        let Some(found) = found else { return Ok(false) };
        report(Event::Note(&format!("{}: here already; verifying it", found.display())));
        // What cannot be read is not reused.
        let Ok((sha256, chunks)) = hash::both(&found, &file, |_| ()) else { return Ok(false) };
        if sha256 != file.sha256 {
            return Ok(false);
        }
        if found != path && !link(&found, &path)? {
            return Ok(false);
        }
        self.note(at, chunks)?;
        remove_partial(&path)?;
        Ok(true)
    }

    fn note(&mut self, at: usize, chunks: Vec<ChunkHash>) -> Result<(), Error> {
        if let Some(file) = self.pulled.manifest.files.get_mut(at) {
            file.chunks = chunks;
        }
        self.pulled.write()
    }

    /// `wanted`: their places among the missing and in the manifest.
    fn fetch(&mut self, wanted: &[(usize, usize)], connections: usize, report: Report<'_>) -> Result<(), Error> {
        let place = |file: usize| wanted.get(file).map_or(file, |(place, _)| *place);
        let report_places = |event: Event<'_>| {
            report(match event {
                Event::Begun { file, bytes } => Event::Begun { file: place(file), bytes },
                Event::Received { file, bytes } => Event::Received { file: place(file), bytes },
                Event::Lost { file, bytes } => Event::Lost { file: place(file), bytes },
                Event::Finished { file } => Event::Finished { file: place(file) },
                Event::Note(text) => Event::Note(text),
            });
        };
        let entries: Vec<PulledFile> = wanted.iter().filter_map(|(_, at)| self.file(*at).cloned()).collect();
        let paths: Vec<PathBuf> = entries.iter().map(|file| self.pulled.path_of(file)).collect();
        let needed = entries.iter().map(|file| file.size - self.kept_of(file)).fold(0, u64::saturating_add);
        check_space(&self.pulled.folder, needed)?;
        let files = entries.into_iter().zip(paths.iter().map(PathBuf::as_path)).collect();
        let (hub, repo, commit) = (self.hub, self.repo.clone(), self.pulled.manifest.revision.clone());
        let fetch = Fetch::new(hub, &repo, &commit, files, &report_places)?;
        fetch.run(connections, |file, chunks| match wanted.get(file) {
            Some((_, at)) => self.note(*at, chunks),
            None => Ok(()),
        })
    }

    /// Files of an earlier commit that this one has not.
    fn remove_others(&self, earlier: &Pulled) -> Result<(), Error> {
        let is_other = |file: &&PulledFile| self.pulled.manifest.files.iter().all(|known| known.name != file.name);
        for file in earlier.manifest.files.iter().filter(is_other) {
            let path = earlier.path_of(file);
            remove_partial(&path)?;
            remove(&path).map_err(Error::write(&path))?;
        }
        Ok(())
    }
}

/// The first repository that has what is wanted.
pub(super) fn find(hub: &Hub, reference: &Reference, revision: &str) -> Result<(Repo, String, Set), Error> {
    let mut first = None;
    for repo in &reference.repos {
        let found = hub.commit(repo, revision).and_then(|commit| {
            let listing = hub.listing(repo, &commit)?;
            let set = quant::choose(repo, &reference.text, reference.quant.as_deref(), listing)?;
            Ok((repo.clone(), commit, set))
        });
        match found {
            Ok(found) => return Ok(found),
            Err(error @ (Error::NoQuant { .. } | Error::NoGguf { .. } | Error::NoRepository { .. })) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| Error::NoFiles(reference.text.clone())))
}

/// What the hub says of the files, if it can be believed.
fn entries(set: &Set) -> Result<Vec<PulledFile>, Error> {
    let entry = |file: &quant::Listed| {
        let name = file.name();
        if !is_file_name(name) || file.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::FileName(file.path.clone()));
        }
        let answer = |fault: &str| Error::Answer { what: file.path.clone(), fault: fault.to_owned() };
        let sha256 =
            file.sha256.clone().ok_or_else(|| answer("it says no SHA-256, without which nothing can be verified"))?;
        if file.size == 0 {
            return Err(answer("the file is empty"));
        }
        let (name, path, size) = (name.to_owned(), file.path.clone(), file.size);
        Ok(PulledFile { name, path, size, sha256, chunk_bytes: hash::chunk_bytes(size), chunks: Vec::new() })
    };
    set.files.iter().map(entry).collect()
}

/// What a process that was killed may have left of a file.
fn remove_partial(path: &Path) -> Result<(), Error> {
    let partials = [beside(path, JOURNAL), beside(path, PARTIAL)];
    partials.iter().try_for_each(|partial| remove(partial)).map_err(Error::write(path))
}

/// Where Hugging Face's own tools would have it.
fn cached(repo: &Repo, file: &PulledFile) -> Option<PathBuf> {
    let (owner, name) = repo.parts();
    Some(hub::cache()?.join(format!("models--{owner}--{name}")).join("blobs").join(&file.sha256))
}

/// Gives a file a second name; where that cannot be, its bytes are copied, if there is room.
fn link(from: &Path, to: &Path) -> Result<bool, Error> {
    // A cache may hold links in place of files.
    let from = fs::canonicalize(from).map_err(Error::read(from))?;
    remove_partial(to)?;
    let partial = beside(to, PARTIAL);
    if fs::hard_link(&from, &partial).is_err() {
        let size = fs::metadata(&from).map_err(Error::read(&from))?.len();
        if to.parent().and_then(free_bytes).is_some_and(|free| free < size) || fs::copy(&from, &partial).is_err() {
            remove(&partial).map_err(Error::write(&partial))?;
            return Ok(false);
        }
    }
    let finish = || {
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, to)?;
        to.parent().map_or(Ok(()), sync_folder)
    };
    finish().map_err(Error::write(to))?;
    Ok(true)
}

/// What the file system of a folder, or of where it would be, has left for this user.
fn free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists()).filter(|path| !path.as_os_str().is_empty());
    let found = rustix::fs::statvfs(there.unwrap_or(Path::new("."))).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

fn check_space(folder: &Path, needed: u64) -> Result<(), Error> {
    make_shared_folder(folder).map_err(Error::write(folder))?;
    match free_bytes(folder) {
        Some(free) if free < needed => {
            let in_words = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
            Err(Error::NoSpace { folder: folder.to_owned(), needed: in_words(needed), free: in_words(free) })
        }
        _ => Ok(()),
    }
}
