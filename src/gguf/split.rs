//! From a path to the shards of one model, in order, proven to belong together.

use super::error::{Error, MetadataError, Problem, SplitFault};
use super::map::Map;
use super::parse::Header;
use super::value::Metadata;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Far above what is published (9), low enough that a hostile count costs nothing.
pub const MAX_SHARDS: u64 = 1024;

/// One file of a model.
pub struct Shard {
    pub(super) path: PathBuf,
    pub(super) map: Map,
    pub(super) header: Header,
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Shard, Error> {
        Shard::of(path, Map::open(path)?)
    }

    pub(super) fn embedded(name: &'static str, bytes: &'static [u8]) -> Result<Shard, Error> {
        Shard::of(Path::new(name), Map::Embedded(bytes))
    }

    fn of(path: &Path, map: Map) -> Result<Shard, Error> {
        let bytes = map.bytes();
        let header = Header::parse(bytes, bytes.len() as u64).map_err(|damage| Error::new(path, damage))?;
        Ok(Shard { path: path.to_owned(), header, map })
    }

    /// Where the file is; of an embedded one its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything before the tensors' data.
    pub fn header_bytes(&self) -> &[u8] {
        let bytes = self.map.bytes();
        let end = usize::try_from(self.header.data_start()).unwrap_or(usize::MAX);
        bytes.get(..end).unwrap_or(bytes)
    }

    pub fn metadata(&self) -> Metadata<'_> {
        self.header.metadata(self.map.bytes())
    }

    fn fault(&self, fault: SplitFault) -> Error {
        Error::new(&self.path, fault)
    }

    /// The shard's place in its set, `None` for a file that is not split.
    fn position(&self) -> Result<Option<Position>, Error> {
        let number = self.split_key("split.no")?;
        let count = self.split_key("split.count")?;
        // Tools that merge shards leave a count of 0 behind.
        let Some(count) = count.filter(|count| *count > 1) else {
            return Ok(None);
        };
        if count > MAX_SHARDS {
            return Err(self.fault(SplitFault::TooMany(count)));
        }
        let missing = |key| self.fault(SplitFault::Key { key, problem: "the key is missing".to_owned() });
        let number = number.ok_or_else(|| missing("split.no"))?;
        if number >= count {
            return Err(self.fault(SplitFault::NumberTooHigh { number, count }));
        }
        let tensors = self.split_key("split.tensors.count")?.ok_or_else(|| missing("split.tensors.count"))?;
        Ok(Some(Position { number, count, tensors }))
    }

    fn split_key(&self, key: &'static str) -> Result<Option<u64>, Error> {
        self.metadata().get(key).map_err(|e: MetadataError| {
            let problem = match e {
                MetadataError::Type { expected, found, .. } => format!("must be {expected}, but is {found}"),
                other => other.to_string(),
            };
            self.fault(SplitFault::Key { key, problem })
        })
    }
}

/// `number` counts from 0, as `split.no` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    number: u64,
    count: u64,
    /// Tensors in all shards together.
    tensors: u64,
}

/// The parts of a name `{prefix}-{number}-of-{count}.gguf`, which need not be UTF-8; `number` counts
/// from 1, as names do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardName {
    prefix: OsString,
    number: u64,
    count: u64,
}

impl ShardName {
    /// Length of the part behind the prefix: `-00001-of-00004.gguf`.
    const SUFFIX: usize = 1 + 5 + 4 + 5 + 5;

    fn parse(path: &Path) -> Option<ShardName> {
        let name = path.file_name()?.as_bytes();
        let (prefix, suffix) = name.split_at_checked(name.len().checked_sub(Self::SUFFIX)?)?;
        let suffix = str::from_utf8(suffix).ok()?.strip_prefix('-')?.strip_suffix(".gguf")?;
        let (number, count) = suffix.split_once("-of-")?;
        let parse = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse().ok(),
            false => None,
        };
        Some(ShardName { prefix: OsStr::from_bytes(prefix).to_owned(), number: parse(number)?, count: parse(count)? })
    }

    fn suffix(number: u64, count: u64) -> String {
        format!("-{number:05}-of-{count:05}.gguf")
    }

    /// The path of shard `number` (from 1) of a model that would be `whole` in one file; `None` unless
    /// that ends in .gguf.
    pub(super) fn path(whole: &Path, number: u64, count: u64) -> Option<PathBuf> {
        let stem = whole.file_name()?.as_bytes().strip_suffix(b".gguf")?;
        let name = ShardName { prefix: OsStr::from_bytes(stem).to_owned(), number, count };
        Some(whole.with_file_name(name.sibling(number)))
    }

    /// The name of shard `number` (from 1) of the same set.
    fn sibling(&self, number: u64) -> OsString {
        let mut name = self.prefix.clone();
        name.push(Self::suffix(number, self.count));
        name
    }
}

/// All shards of the model at `path`, which is a file, any shard, or a folder with one model.
pub(super) fn open_all(path: &Path) -> Result<Vec<Shard>, Error> {
    if path.is_dir() {
        return open_all(&only_model_in(path)?);
    }
    let shard = Shard::open(path)?;
    let Some(position) = shard.position()? else {
        return Ok(vec![shard]);
    };
    let named = |path: &Path| ShardName::parse(path).filter(|name| name.count == position.count);
    let Some(name) = named(path) else {
        // A link under a name of its own, to a shard that has its siblings beside it.
        if let Some(target) = path.canonicalize().ok().filter(|target| target != path && named(target).is_some()) {
            return open_all(&target);
        }
        let (number, count) = (position.number + 1, position.count);
        let expected = ShardName::suffix(number, count);
        return Err(shard.fault(SplitFault::Name { number, count, expected }));
    };
    if name.number != position.number + 1 {
        return Err(shard.fault(SplitFault::Number { named: name.number, found: position.number + 1 }));
    }
    let mut shards = Vec::new();
    let mut given = Some(shard);
    for number in 0..position.count {
        let shard = match given.take_if(|_| number == position.number) {
            Some(shard) => shard,
            None => open_sibling(path, &name, number, position.count)?,
        };
        shards.push(shard);
    }
    verify(shards)
}

/// The shards at `paths`, in any order, under any names.
pub(super) fn open_listed(paths: &[PathBuf]) -> Result<Vec<Shard>, Error> {
    let mut by_number: BTreeMap<u64, Shard> = BTreeMap::new();
    for path in paths {
        let shard = Shard::open(path)?;
        let number = shard.position()?.map_or(0, |position| position.number);
        if let Some(other) = by_number.get(&number) {
            return Err(shard.fault(SplitFault::Twice(number + 1, other.path.display().to_string())));
        }
        by_number.insert(number, shard);
    }
    if let Some(shard) = by_number.values().next() {
        let count = shard.position()?.map_or(1, |position| position.count);
        if let Some(number) = (0..count).find(|number| !by_number.contains_key(number)) {
            return Err(shard.fault(SplitFault::Missing { number: number + 1, count }));
        }
    }
    verify(by_number.into_values().collect())
}

fn open_sibling(path: &Path, name: &ShardName, number: u64, count: u64) -> Result<Shard, Error> {
    let sibling = path.with_file_name(name.sibling(number + 1));
    Shard::open(&sibling).map_err(|error| match error.problem {
        Problem::NotFound => Error::new(&sibling, SplitFault::Missing { number: number + 1, count }),
        _ => error,
    })
}

/// The one model of a folder: its only .gguf file, or any shard of its only set.
fn only_model_in(folder: &Path) -> Result<PathBuf, Error> {
    let unreadable = |e| Error::new(folder, Problem::Unreadable(e));
    let mut models: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf")) && !path.is_dir() {
            let model = match ShardName::parse(&path) {
                Some(name) if name.count > 1 => {
                    let mut model = name.prefix;
                    model.push(format!("-*-of-{:05}.gguf", name.count));
                    model
                }
                _ => path.file_name().unwrap_or_default().to_owned(),
            };
            let first = models.entry(model).or_insert_with(|| path.clone());
            if path < *first {
                *first = path;
            }
        }
    }
    let mut paths = models.values();
    match (paths.next(), paths.next()) {
        (None, _) => Err(Error::new(folder, Problem::EmptyFolder)),
        (Some(path), None) => Ok(path.clone()),
        _ => {
            let names = models.into_keys().map(|name| name.to_string_lossy().into_owned()).collect();
            Err(Error::new(folder, Problem::SeveralModels(names)))
        }
    }
}

/// Proves that the shards are one model: same counts, each number once, all tensors there, none
/// twice, and no `general.*` key that contradicts the first shard's.
fn verify(shards: Vec<Shard>) -> Result<Vec<Shard>, Error> {
    let Some(first) = shards.first() else {
        return Err(Error::new(Path::new("(no file)"), Problem::NotFound));
    };
    let Some(expected) = first.position()? else {
        return match shards.get(1) {
            Some(second) => Err(second.fault(SplitFault::Count { expected: 1, found: shards.len() as u64 })),
            None => Ok(shards),
        };
    };
    if let Some(extra) = shards.get(usize::try_from(expected.count).unwrap_or(usize::MAX)) {
        return Err(extra.fault(SplitFault::Count { expected: expected.count, found: shards.len() as u64 }));
    }
    for (shard, number) in shards.iter().zip(0u64..) {
        let found = shard.position()?.unwrap_or(Position { number: 0, count: 1, tensors: 0 });
        if found.count != expected.count {
            return Err(shard.fault(SplitFault::Count { expected: expected.count, found: found.count }));
        }
        if found.number != number {
            return Err(shard.fault(SplitFault::Number { named: number + 1, found: found.number + 1 }));
        }
        if found.tensors != expected.tensors {
            let fault = SplitFault::TensorCount { expected: expected.tensors, found: found.tensors };
            return Err(shard.fault(fault));
        }
        if let Some(key) = contradiction(first, shard) {
            return Err(shard.fault(SplitFault::Mixed { key }));
        }
    }
    let found: u64 = shards.iter().map(|shard| shard.header.tensors().len() as u64).sum();
    if found != expected.tensors {
        return Err(first.fault(SplitFault::Incomplete { expected: expected.tensors, found }));
    }
    Ok(shards)
}

/// A `general.*` key that both shards carry with different values. The alignment is each file's own.
fn contradiction(first: &Shard, other: &Shard) -> Option<String> {
    other
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("general.") && *key != "general.alignment")
        .find(|(key, value)| first.metadata().value(key).is_some_and(|expected| expected != *value))
        .map(|(key, _)| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names() {
        let name = ShardName::parse(Path::new("/m/DeepSeek-V3-UD-IQ1_S-00002-of-00004.gguf")).unwrap();
        assert_eq!((name.prefix.to_str(), name.number, name.count), (Some("DeepSeek-V3-UD-IQ1_S"), 2, 4));
        assert_eq!(name.sibling(4), "DeepSeek-V3-UD-IQ1_S-00004-of-00004.gguf");
        let odd = ShardName::parse(Path::new(OsStr::from_bytes(b"caf\xe9-00001-of-00002.gguf"))).unwrap();
        assert_eq!(odd.sibling(2).as_bytes(), b"caf\xe9-00002-of-00002.gguf");
        for other in ["a.gguf", "a-2-of-4.gguf", "a-00002-of-00004.bin", "a-0000x-of-00004.gguf", "-of-00004.gguf"] {
            assert_eq!(ShardName::parse(Path::new(other)), None, "{other}");
        }
    }
}
