//! Quantised files: which tensor is stored in which type, and the writing of them.
//!
//! `mix` has the mixes, `target` what a user may ask for instead, `imatrix` reads how important columns are,
//! and `collect` gathers that.
//! A [`Quantization`] is planned from a file's header and checked before the first byte is written; `run`
//! writes it.

mod collect;
mod imatrix;
mod mix;
mod run;
mod target;

pub use collect::{Collector, Coverage, Reached};
pub use imatrix::ImatrixError;
pub use mix::{Mix, UnknownMix};
pub use target::{BadTarget, Override, Target};

use crate::ggml::{DequantizeError, QuantizeError};
use crate::gguf::{self, Gguf, Shape, Source, Split, TensorType, WriteError, Writer};
use imatrix::Imatrix;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use target::{is_matrix, wants_importance};

/// The version of ggml's block formats, which files state.
const FORMAT_VERSION: u32 = 2;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub target: Target,
    /// The last that matches a tensor counts.
    pub overrides: Vec<Override>,
    pub imatrix: Option<PathBuf>,
}

/// A model to be written in other types.
pub struct Quantization {
    gguf: Gguf,
    imatrix: Option<Imatrix>,
    writer: Writer,
    tensors: Vec<Planned>,
}

/// A tensor of the new file.
struct Planned {
    name: String,
    shape: Shape,
    from: TensorType,
    ty: TensorType,
    n_bytes: u64,
    /// Experts of it that the importance matrix has not seen; `None` where it knows nothing of the tensor.
    unreached: Option<u64>,
}

/// What will be, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub n_bytes: u64,
    pub n_parameters: u64,
    /// Type → tensors, bytes.
    pub types: BTreeMap<&'static str, (usize, u64)>,
    /// Tensors stored in other types than an exception asked, since their rows are no whole blocks of it.
    pub replaced: Vec<(String, &'static str)>,
    /// Matrices in few bits of which the importance matrix says nothing.
    pub without_importance: usize,
    /// Experts never reached, over all tensors that have some, and those tensors.
    pub unreached: (u64, usize),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Open(#[from] gguf::Error),
    #[error(transparent)]
    Imatrix(#[from] ImatrixError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("--tensor: no matrix has '{}' in its name", crate::text::Escaped(.0))]
    NoMatch(String),
    #[error(
        "'{tensor}' would be {ty}, which is useless without an importance matrix{}: give the model's with --imatrix \
         (`cachalot imatrix` makes one, and so does llama-imatrix), or give the tensor another type with --tensor PATTERN=TYPE",
        where_looked(.file.as_deref())
    )]
    NoImportance { tensor: String, ty: TensorType, file: Option<PathBuf> },
    #[error("{}: is read from; write to another name", .0.display())]
    Same(PathBuf),
    #[error("'{tensor}': {error}")]
    Decode { tensor: String, error: DequantizeError },
    #[error("'{tensor}': {error}")]
    Encode { tensor: String, error: QuantizeError },
}

fn where_looked(file: Option<&Path>) -> String {
    file.map_or(String::new(), |file| format!(" ({} has none for it)", file.display()))
}

impl Quantization {
    /// Reads headers and importance, and decides each tensor's type.
    pub fn plan(input: impl Into<Source>, options: &Options) -> Result<(Quantization, Summary), Error> {
        let gguf = Gguf::open(input)?;
        let imatrix = options.imatrix.as_deref().map(Imatrix::open).transpose()?;
        let mut writer = metadata(&gguf, options.target, imatrix.as_ref())?;
        let mut summary = Summary::default();
        let mut tensors = Vec::new();
        let mut matched = vec![false; options.overrides.len()];
        let n_layer = n_layer(&gguf);
        for tensor in gguf.tensors() {
            let info = tensor.info;
            let asked = last_match(&options.overrides, &info.name, &info.shape, &mut matched);
            let ty = match asked {
                _ if !is_weights(info.ty) => info.ty,
                Some(asked) => mix::fitting(asked, info.shape.ne()[0]),
                None => options.target.tensor_type(&info.name, &info.shape, n_layer),
            };
            if asked.is_some_and(|asked| asked != ty) {
                summary.replaced.push((info.name.clone(), ty.name()));
            }
            writer.add_tensor(&info.name, ty, info.shape)?;
            let [row, _, matrices @ ..] = info.shape.ne();
            let known = match &imatrix {
                Some(imatrix) if ty != info.ty && ty.block_len() > 1 => {
                    imatrix.importance(&info.name, row, matrices.iter().product())?
                }
                _ => None,
            };
            let planned = Planned {
                name: info.name.clone(),
                shape: info.shape,
                from: info.ty,
                ty,
                n_bytes: info.shape.n_bytes(ty).unwrap_or(0),
                unreached: known.map(|known| known.n_unreached),
            };
            if planned.unreached.is_none() && wants_importance(ty) && ty != info.ty {
                let file = imatrix.map(|imatrix| imatrix.path);
                return Err(Error::NoImportance { tensor: planned.name, ty, file });
            }
            summary.add(&planned, imatrix.is_some());
            tensors.push(planned);
        }
        if let Some((unused, _)) = options.overrides.iter().zip(&matched).find(|(_, matched)| !**matched) {
            return Err(Error::NoMatch(unused.pattern.to_string()));
        }
        Ok((Quantization { gguf, imatrix, writer, tensors }, summary))
    }

    /// Writes the model to `output`, or to shards of at most so many bytes; `progress` is told of every so many
    /// bytes written, and may end it with an error. Only with `replace` does it write over files. Returns the files.
    pub fn write(
        &self,
        output: &Path,
        max_shard_bytes: Option<u64>,
        replace: bool,
        progress: &dyn Fn(u64) -> std::io::Result<()>,
    ) -> Result<Vec<PathBuf>, Error> {
        let split = max_shard_bytes.map_or(Split::None, Split::MaxBytes);
        let read = self.gguf.shards().iter().map(|shard| shard.path());
        let read: Vec<&Path> = read.chain(self.imatrix.as_ref().map(|imatrix| imatrix.path.as_path())).collect();
        for target in self.writer.targets(output, split)? {
            if read.iter().any(|read| is_same_file(read, &target)) {
                return Err(Error::Same(target));
            }
        }
        let mut out = match replace {
            true => self.writer.create_over(output, split)?,
            false => self.writer.create(output, split)?,
        };
        for tensor in &self.tensors {
            run::write(self, tensor, &mut out, progress)?;
        }
        Ok(out.finish()?)
    }
}

impl Summary {
    fn add(&mut self, tensor: &Planned, has_imatrix: bool) {
        self.n_bytes += tensor.n_bytes;
        self.n_parameters += tensor.shape.n_elements().unwrap_or(0);
        let (count, bytes) = self.types.entry(tensor.ty.name()).or_default();
        *count += 1;
        *bytes += tensor.n_bytes;
        match tensor.unreached {
            None if has_imatrix && tensor.ty.block_len() > 1 && tensor.ty != tensor.from => {
                self.without_importance += 1;
            }
            Some(unreached @ 1..) => self.unreached = (self.unreached.0 + unreached, self.unreached.1 + 1),
            _ => {}
        }
    }
}

/// All of the model's keys, and those that say how it is stored now.
fn metadata(gguf: &Gguf, target: Target, imatrix: Option<&Imatrix>) -> Result<Writer, WriteError> {
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        writer.set(key, value)?;
    }
    writer.set("general.file_type", target.file_type())?;
    writer.set("general.quantization_version", FORMAT_VERSION)?;
    if let Some(imatrix) = imatrix {
        // Its name only: folders are nobody's business.
        let name = imatrix.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        writer.set("quantize.imatrix.file", &*name)?;
        writer.set("quantize.imatrix.entries_count", imatrix.len())?;
        imatrix.n_chunks().map_or(Ok(()), |chunks| writer.set("quantize.imatrix.chunks_count", chunks))?;
        let texts = imatrix.texts();
        texts.first().map_or(Ok(()), |text| writer.set("quantize.imatrix.dataset", text.as_str()))?;
    }
    Ok(writer)
}

fn n_layer(gguf: &Gguf) -> u32 {
    let metadata = gguf.metadata();
    let architecture: Option<&str> = metadata.get("general.architecture").ok().flatten();
    let layers = architecture.and_then(|name| metadata.get(&format!("{name}.block_count")).ok().flatten());
    layers.unwrap_or(0)
}

/// The type that the last exception for this tensor asks for; notes which exceptions are for any.
fn last_match(overrides: &[Override], name: &str, shape: &Shape, matched: &mut [bool]) -> Option<TensorType> {
    let mut ty = None;
    for (exception, matched) in overrides.iter().zip(matched) {
        if is_matrix(name, shape) && exception.pattern.is_match(name) {
            *matched = true;
            ty = Some(exception.ty);
        }
    }
    ty
}

/// Integers and doubles are no weights, and stay what they are.
fn is_weights(ty: TensorType) -> bool {
    use TensorType::{F64, I8, I16, I32, I64};
    !matches!(ty, I8 | I16 | I32 | I64 | F64)
}

/// Also by another name, or through a link.
fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    id(a).is_some_and(|a| id(b) == Some(a))
}
