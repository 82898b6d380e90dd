//! What can be wrong with a GGUF file, said so that its owner knows what, where, and what to do.

use super::value::ValueType;
use crate::text::{Clipped, Escaped};
use std::fmt;
use std::path::{Path, PathBuf};

/// A file, or a set of shards, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", Escaped(&path.to_string_lossy()))]
pub struct Error {
    pub path: PathBuf,
    pub problem: Problem,
}

impl Error {
    pub(crate) fn new(path: &Path, problem: impl Into<Problem>) -> Error {
        Error { path: path.to_owned(), problem: problem.into() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("no such file or folder")]
    NotFound,
    #[error("{0}, not a regular file")]
    NotAFile(&'static str),
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("the folder holds no .gguf file")]
    EmptyFolder,
    #[error("the folder holds {} models: name one of them: {}", .0.len(), names(.0))]
    SeveralModels(Vec<String>),
    #[error("{0}")]
    Damaged(#[from] Damage),
    #[error("{0}")]
    Split(#[from] SplitFault),
}

impl Problem {
    /// Whether memory ran out: a file larger than the address space that the system allows.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Problem::Unreadable(error) if error.kind() == std::io::ErrorKind::OutOfMemory)
    }

    /// Whether nothing was there to read, as opposed to something that is wrong.
    pub fn is_missing(&self) -> bool {
        !matches!(self, Problem::Damaged(_) | Problem::Split(_))
            || matches!(self, Problem::Split(SplitFault::Missing { .. }))
    }
}

/// A fault in the bytes of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    pub place: Place,
    /// Bytes from the start of the file.
    pub offset: u64,
    pub fault: Fault,
}

impl std::error::Error for Damage {}

impl Damage {
    /// Whether bytes were missing, as in the beginning of a file that has more.
    pub fn is_too_short(&self) -> bool {
        matches!(self.fault, Fault::Truncated { .. } | Fault::Empty)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Header => {}
            place => write!(f, "{place}, byte {}: ", self.offset)?,
        }
        write!(f, "{}", self.fault)?;
        match self.fault.advice() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

/// Which part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Header,
    /// A metadata key: its number from 0 and, once read, its name.
    Key(u64, Option<String>),
    /// A tensor of the table: its number from 0 and, once read, its name.
    Tensor(u64, Option<String>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, number, name) = match self {
            Place::Header => return f.write_str("header"),
            Place::Key(number, name) => ("metadata key", number, name),
            Place::Tensor(number, name) => ("tensor", number, name),
        };
        match name {
            Some(name) => write!(f, "{kind} '{}'", Clipped(name)),
            None => write!(f, "{kind} number {number}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the file is empty")]
    Empty,
    #[error("not a GGUF file: it begins with {}, not with 'GGUF'", magic(.0))]
    Magic([u8; 4]),
    #[error("a big-endian GGUF file (version field {0:#010x}); only little-endian ones are supported")]
    BigEndian(u32),
    #[error("GGUF version {0} is not supported; versions 2 and 3 are")]
    Version(u32),
    #[error("the file ends inside {what}: of {needed} bytes, {left} are there")]
    Truncated { what: &'static str, needed: u64, left: u64 },
    #[error("the number of {what} is {count}: more than a file of this size can hold")]
    Count { what: &'static str, count: i64 },
    #[error("{what} of {len} bytes; at most {max} are allowed")]
    TooLong { what: &'static str, len: u64, max: u64 },
    #[error("an array of {0} elements; at most {max} are allowed", max = super::parse::MAX_ARRAY)]
    ArrayTooLong(u64),
    #[error("{0} is not valid UTF-8")]
    NotUtf8(&'static str),
    #[error("{0} contains a NUL byte")]
    Nul(&'static str),
    #[error("the key is empty")]
    EmptyKey,
    #[error("the key occurs twice")]
    DuplicateKey,
    #[error("unknown value type {0}")]
    ValueType(u32),
    #[error("arrays inside arrays are not supported")]
    NestedArray,
    #[error("a bool must be 0 or 1, not {0}")]
    Bool(u8),
    #[error("must be u32, is {0}")]
    AlignmentType(ValueType),
    #[error("alignment {0} is not a power of two")]
    Alignment(u32),
    #[error("the tensor occurs twice")]
    DuplicateTensor,
    #[error("{0} dimensions; at most 4 are allowed")]
    Dimensions(u32),
    #[error("dimension {index} is negative ({value})")]
    NegativeDimension { index: usize, value: i64 },
    #[error("the shape {0} has more elements, or bytes, than 64 bits can count")]
    ShapeOverflow(String),
    #[error("unknown tensor type {0}")]
    TensorType(u32),
    #[error("tensor type {0} was removed from the format")]
    RemovedTensorType(u32),
    #[error("a row of {row} values is no multiple of {name}'s block of {block}")]
    Ragged { row: u64, name: &'static str, block: u64 },
    #[error("the data's offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned { offset: u64, alignment: u64 },
    #[error("offset {0} plus size exceed what 64 bits can count")]
    OffsetOverflow(u64),
    #[error("the data ends at byte {end}, but the file at byte {file_len}")]
    PastEnd { end: u64, file_len: u64 },
    #[error("the data overlaps that of '{}'", Clipped(.other))]
    Overlap { other: String },
}

impl Fault {
    fn advice(&self) -> &'static str {
        match self {
            Fault::Empty => "copy or download it again",
            Fault::Truncated { .. } | Fault::PastEnd { .. } => "the file is incomplete: copy or download it again",
            Fault::Magic(_) => "give a .gguf file",
            Fault::BigEndian(_) => "convert it with gguf-py's gguf_convert_endian",
            Fault::Version(1) => "convert the model again with a current converter",
            Fault::Version(_) => "a newer cachalot may read it",
            Fault::RemovedTensorType(_) => "use a file quantised since 2025",
            Fault::TensorType(_) => "a newer cachalot may know it",
            _ => "the file is damaged, or a faulty program wrote it: download it again",
        }
    }
}

/// What is wrong with a set of shards; `Error::path` is the shard that shows it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitFault {
    #[error("shard {number} of {count} is missing: download it, or copy it here")]
    Missing { number: u64, count: u64 },
    #[error(
        "this is shard {number} of {count}, but its name does not end in '{expected}', so the others \
         cannot be found: give all shards back the names that they were published under"
    )]
    Name { number: u64, count: u64, expected: String },
    #[error("by its name it is shard {named}, by its contents shard {found}: shards were renamed; download them again")]
    Number { named: u64, found: u64 },
    #[error("split.no is {number}, but split.count only {count}")]
    NumberTooHigh { number: u64, count: u64 },
    #[error("split.count is {found} here and {expected} in the other shards: shards of two models are mixed")]
    Count { expected: u64, found: u64 },
    #[error("a split of {0} shards; at most {max} are allowed", max = super::split::MAX_SHARDS)]
    TooMany(u64),
    #[error("{key}: {problem}")]
    Key { key: &'static str, problem: String },
    #[error("two files are shard {0}: {1}")]
    Twice(u64, String),
    #[error("split.tensors.count is {found} here and {expected} in the other shards: shards of two models are mixed")]
    TensorCount { expected: u64, found: u64 },
    #[error("the shards hold {found} tensors together, but split.tensors.count says {expected}")]
    Incomplete { expected: u64, found: u64 },
    #[error("the tensor '{}' is in another shard too ({})", Clipped(name), Clipped(other))]
    DuplicateTensor { name: String, other: String },
    #[error("'{}' differs from the first shard's: shards of two models are mixed", Clipped(key))]
    Mixed { key: String },
}

/// A metadata value that is missing, or not what the reader of it needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("the metadata key '{key}' is missing")]
    Missing { key: String },
    #[error("the metadata key '{key}' must be {expected}, but is {found}")]
    Type { key: String, expected: &'static str, found: String },
}

fn magic(bytes: &[u8; 4]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => format!("'{text}'"),
        _ => format!("the bytes {}", bytes.map(|byte| format!("{byte:02x}")).join(" ")),
    }
}

fn names(list: &[String]) -> String {
    let shown: Vec<String> = list.iter().take(5).map(|name| Clipped(name).to_string()).collect();
    let more = list.len().saturating_sub(shown.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &tail
}
