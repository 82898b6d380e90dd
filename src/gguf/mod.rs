//! GGUF files: read, mapped, verified, and written.
//!
//! A [`Gguf`] is one model, in one file, in shards, or [embedded](Source) in the program. It owns the mappings; every tensor's data is
//! within its file by construction, because [`Header::parse`] refuses a header that says otherwise.
//! ggml never opens a file: it sees only what has passed here.
//!
//! Knows nothing of architectures. Bytes become a header in `parse`, paths become shards in `split`,
//! values are read in `value`; `write` goes the other way.

mod encode;
mod error;
mod map;
mod parse;
mod read;
mod sigbus;
mod split;
mod types;
mod value;
mod write;

pub use encode::Encode;
pub use error::{Damage, Error, Fault, MetadataError, Place, Problem, SplitFault};
pub use parse::{Header, MAX_ARRAY, MAX_STRING, MAX_TENSOR_NAME, TensorInfo};
pub use read::{Progress as ReadProgress, through as read_through};
pub use sigbus::install as install_sigbus_handler;
pub use split::{MAX_SHARDS, Shard};
pub use types::{Shape, TensorType};
pub use value::{Array, Elements, FromValue, Metadata, Value, ValueType};
pub use write::{Output, Split, WriteError, Writer};

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where the bytes of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, any shard of a split, or a folder that holds one model.
    Path(PathBuf),
    /// In the program itself: a whole GGUF file, at an address that ggml can work with if nothing is to be
    /// copied (a multiple of 32).
    Embedded { name: &'static str, bytes: &'static [u8] },
}

impl Source {
    /// What to call it.
    pub fn name(&self) -> Cow<'_, str> {
        self.path().to_string_lossy()
    }

    /// How large an embedded one is.
    pub fn embedded_bytes(&self) -> Option<u64> {
        match self {
            Source::Path(_) => None,
            Source::Embedded { bytes, .. } => Some(bytes.len() as u64),
        }
    }

    /// Its path; of an embedded one its name.
    pub fn path(&self) -> &Path {
        match self {
            Source::Path(path) => path,
            Source::Embedded { name, .. } => Path::new(name),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Source {
    fn from(path: &P) -> Source {
        Source::Path(path.as_ref().to_owned())
    }
}

impl From<&Source> for Source {
    fn from(source: &Source) -> Source {
        source.clone()
    }
}

/// An open model.
pub struct Gguf {
    shards: Vec<Shard>,
    /// Name → shard and place in its table.
    by_name: HashMap<String, (usize, usize)>,
}

/// A tensor of an open model, with its data.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    pub info: &'a TensorInfo,
    pub data: &'a [u8],
    /// Which of [`Gguf::shards`] holds it.
    pub shard: usize,
}

impl Gguf {
    pub fn open(source: impl Into<Source>) -> Result<Gguf, Error> {
        Gguf::of(match source.into() {
            Source::Path(path) => split::open_all(&path)?,
            Source::Embedded { name, bytes } => vec![split::Shard::embedded(name, bytes)?],
        })
    }

    /// Opens the model whose shards are `paths`, in any order, under any names.
    pub fn open_shards(paths: &[PathBuf]) -> Result<Gguf, Error> {
        Gguf::of(split::open_listed(paths)?)
    }

    fn of(shards: Vec<Shard>) -> Result<Gguf, Error> {
        let mut by_name = HashMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for (index, tensor) in shard.header.tensors().iter().enumerate() {
                if let Some((other, _)) = by_name.insert(tensor.name.clone(), (number, index)) {
                    let other = shards.get(other).map_or(String::new(), |s| s.path.display().to_string());
                    let fault = SplitFault::DuplicateTensor { name: tensor.name.clone(), other };
                    return Err(Error::new(&shard.path, fault));
                }
            }
        }
        Ok(Gguf { shards, by_name })
    }

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The model's metadata: that of the first shard. Later shards hold their split keys only.
    pub fn metadata(&self) -> Metadata<'_> {
        // `split` refuses an empty list.
        self.shards[0].metadata()
    }

    /// Bytes of all files together.
    pub fn n_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::len).sum()
    }

    /// Bytes of all files together that are in memory.
    pub fn n_resident_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.map.resident()).sum()
    }

    /// Reads what of the files is not in memory, one behind the other, so that it is when it is needed.
    pub fn fill(&self, progress: ReadProgress<'_>) -> Result<(), Error> {
        self.shards.iter().try_for_each(|shard| {
            let filled = shard.map.fill(&shard.path, progress);
            filled.map_err(|error| Error::new(&shard.path, Problem::Unreadable(error)))
        })
    }

    /// Copies the files into memory of the process's own, which no change of the files can reach.
    pub fn copy(&mut self, progress: ReadProgress<'_>) -> Result<(), Error> {
        self.shards.iter_mut().try_for_each(|shard| {
            let copied = shard.map.copy(&shard.path, shard.header.data_start(), progress);
            copied.map_err(|error| Error::new(&shard.path, Problem::Unreadable(error)))
        })
    }

    /// Keeps the system from taking memory with the model in it back.
    pub fn lock(&self) -> std::io::Result<()> {
        self.shards.iter().try_for_each(|shard| shard.map.lock())
    }

    /// All tensors, shard by shard, in the order of the files' tables.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.shards
            .iter()
            .enumerate()
            .flat_map(|(shard, file)| file.header.tensors().iter().filter_map(move |info| tensor_of(file, shard, info)))
    }

    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (shard, index) = *self.by_name.get(name)?;
        let file = self.shards.get(shard)?;
        tensor_of(file, shard, file.header.tensors().get(index)?)
    }

    /// Tells the kernel that a tensor's data will be read from front to back.
    pub fn read_ahead(&self, tensor: &Tensor<'_>) {
        if let Some(shard) = self.shards.get(tensor.shard) {
            shard.map.read_ahead(tensor.info.range.clone());
        }
    }
}

fn tensor_of<'a>(file: &'a Shard, shard: usize, info: &'a TensorInfo) -> Option<Tensor<'a>> {
    let range = usize::try_from(info.range.start).ok()?..usize::try_from(info.range.end).ok()?;
    Some(Tensor { info, data: file.map.bytes().get(range)?, shard })
}
