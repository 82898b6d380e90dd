//! Writes GGUF version 3, in one file or in shards, tensor after tensor as the data comes.
//!
//! All tensors are declared before the first byte is written, so headers are complete from the
//! start and nothing is held in memory. Files grow under a `.partial` name and get their own when
//! all of them are whole and on the disk: what has a final name is a complete model.

use super::parse::{MAX_STRING, MAX_TENSOR_NAME};
use super::types::{Shape, TensorType};
use super::value::{Array, Value, ValueType};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{0}: exists already; remove it or write to another name")]
    Exists(PathBuf),
    #[error("{path}: cannot be written: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0}: to split a model its name must end in .gguf")]
    Name(PathBuf),
    #[error("the tensor '{0}' is declared twice")]
    DuplicateTensor(String),
    #[error("'{name}': a tensor's name has 1 to {MAX_TENSOR_NAME} bytes and no NUL")]
    TensorName { name: String },
    #[error("'{name}': {ty} data cannot have the shape {shape}")]
    Shape { name: String, ty: TensorType, shape: Shape },
    #[error("'{got}' was written, but '{}' comes next", expected.as_deref().unwrap_or("nothing"))]
    Order { got: String, expected: Option<String> },
    #[error("'{name}' takes {expected} bytes, not {got}")]
    Length { name: String, expected: u64, got: u64 },
    #[error("alignment {0} is not a power of two")]
    Alignment(u32),
    #[error("the metadata key '{0}' is empty, longer than 1 GiB or contains a NUL")]
    Key(String),
    #[error("more than 65535 shards")]
    TooManyShards,
}

/// How a model is spread over files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// One file.
    None,
    /// Shards whose tensors take at most so many bytes; a larger tensor gets a shard of its own.
    MaxBytes(u64),
    /// Shards of at most so many tensors.
    MaxTensors(usize),
}

/// A model to be written: its metadata and its tensors' names, types and shapes.
#[derive(Debug, Clone)]
pub struct Writer {
    entries: Vec<(String, Vec<u8>)>,
    tensors: Vec<Declared>,
    names: HashSet<String>,
    alignment: u32,
}

#[derive(Debug, Clone)]
struct Declared {
    name: String,
    ty: TensorType,
    shape: Shape,
    len: u64,
}

impl Default for Writer {
    fn default() -> Self {
        Writer::new()
    }
}

impl Writer {
    pub fn new() -> Writer {
        Writer { entries: Vec::new(), tensors: Vec::new(), names: HashSet::new(), alignment: 32 }
    }

    /// Sets a metadata key; a key that is set already keeps its place and gets the new value.
    pub fn set(&mut self, key: &str, value: impl Encode) -> Result<(), WriteError> {
        if key.is_empty() || key.len() as u64 > MAX_STRING || key.contains('\0') {
            return Err(WriteError::Key(key.to_owned()));
        }
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = bytes,
            None => self.entries.push((key.to_owned(), bytes)),
        }
        Ok(())
    }

    /// Sets the alignment of the data in bytes, and the key that states it.
    pub fn set_alignment(&mut self, alignment: u32) -> Result<(), WriteError> {
        if !alignment.is_power_of_two() {
            return Err(WriteError::Alignment(alignment));
        }
        self.alignment = alignment;
        self.set("general.alignment", alignment)
    }

    /// Declares the next tensor.
    pub fn add_tensor(&mut self, name: &str, ty: TensorType, shape: Shape) -> Result<(), WriteError> {
        if name.is_empty() || name.len() as u64 > MAX_TENSOR_NAME || name.contains('\0') {
            return Err(WriteError::TensorName { name: name.to_owned() });
        }
        let len = shape.n_bytes(ty).ok_or_else(|| WriteError::Shape { name: name.to_owned(), ty, shape })?;
        if !self.names.insert(name.to_owned()) {
            return Err(WriteError::DuplicateTensor(name.to_owned()));
        }
        self.tensors.push(Declared { name: name.to_owned(), ty, shape, len });
        Ok(())
    }

    /// Begins to write to `path`, or, split, to `{path without .gguf}-00001-of-….gguf` and so on.
    /// Refuses to write over a file.
    pub fn create(&self, path: &Path, split: Split) -> Result<Output, WriteError> {
        let groups = self.groups(split);
        let count = u16::try_from(groups.len()).map_err(|_| WriteError::TooManyShards)?;
        let mut files = Vec::new();
        let mut rest = self.tensors.as_slice();
        for (number, group) in (0..count).zip(&groups) {
            let (tensors, after) = rest.split_at(*group);
            rest = after;
            let target = if count > 1 { shard_path(path, number, count)? } else { path.to_owned() };
            let header = self.header(tensors, (count > 1).then_some((number, count)));
            files.push(ShardFile { target, header, tensors: tensors.to_vec() });
        }
        if let Some(file) = files.iter().find(|file| file.target.symlink_metadata().is_ok()) {
            return Err(WriteError::Exists(file.target.clone()));
        }
        files.reverse();
        let mut output =
            Output { waiting: files, open: None, written: Vec::new(), alignment: self.alignment.into(), done: false };
        output.file_with_room()?;
        Ok(output)
    }

    /// How many tensors go into each file.
    fn groups(&self, split: Split) -> Vec<usize> {
        let mut groups = vec![0];
        let mut bytes = 0u64;
        for tensor in &self.tensors {
            let last = groups.len() - 1;
            let full = match split {
                Split::None => false,
                Split::MaxBytes(max) => bytes.saturating_add(tensor.len) > max,
                Split::MaxTensors(max) => groups[last] >= max,
            };
            if full && groups[last] > 0 {
                groups.push(1);
                bytes = tensor.len;
            } else {
                groups[last] += 1;
                bytes += tensor.len;
            }
        }
        groups
    }

    /// The bytes before the data, padding included. Only the first shard carries the model's metadata.
    fn header(&self, tensors: &[Declared], shard: Option<(u16, u16)>) -> Vec<u8> {
        let mut entries: Vec<(&str, Vec<u8>)> = match shard {
            Some((1.., _)) if self.alignment == 32 => Vec::new(),
            Some((1.., _)) => vec![("general.alignment", encoded(self.alignment))],
            _ => self.entries.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())).collect(),
        };
        if let Some((number, count)) = shard {
            entries.retain(|(key, _)| !key.starts_with("split."));
            entries.push(("split.no", encoded(number)));
            entries.push(("split.count", encoded(count)));
            entries.push(("split.tensors.count", encoded(self.tensors.len() as i32)));
        }
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((entries.len() as u64).to_le_bytes());
        for (key, value) in entries {
            put_string(&mut out, key.as_bytes());
            out.extend(value);
        }
        let mut offset = 0u64;
        for tensor in tensors {
            put_string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.shape.dims().len() as u32).to_le_bytes());
            tensor.shape.dims().iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.ty.id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += tensor.len.next_multiple_of(self.alignment.into());
        }
        if !tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        }
        out
    }
}

fn shard_path(path: &Path, number: u16, count: u16) -> Result<PathBuf, WriteError> {
    let stem = path
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".gguf"))
        .ok_or_else(|| WriteError::Name(path.to_owned()))?;
    Ok(path.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", u32::from(number) + 1)))
}

/// A file to come.
struct ShardFile {
    target: PathBuf,
    header: Vec<u8>,
    tensors: Vec<Declared>,
}

/// The file being written.
struct OpenFile {
    target: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    /// Last first.
    tensors: Vec<Declared>,
}

/// A model in the making. Tensors are written in the order in which they were declared; without
/// [`finish`](Output::finish) nothing remains of it.
pub struct Output {
    /// Last first.
    waiting: Vec<ShardFile>,
    open: Option<OpenFile>,
    /// Whole files, as (partial, target).
    written: Vec<(PathBuf, PathBuf)>,
    alignment: u64,
    done: bool,
}

impl Output {
    /// Writes a tensor's data.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<(), WriteError> {
        self.write_with(name, |out| out.write_all(data))
    }

    /// Writes a tensor's data through `fill`, which must produce exactly the tensor's bytes.
    pub fn write_with(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), WriteError> {
        let alignment = self.alignment;
        let (file, expected) = self.begin(name)?;
        let mut counted = Counted { out: &mut file.out, bytes: 0 };
        fill(&mut counted).map_err(|e| file_error(&file.partial, e))?;
        let got = counted.bytes;
        if got != expected {
            return Err(WriteError::Length { name: name.to_owned(), expected, got });
        }
        let padding = expected.next_multiple_of(alignment) - expected;
        std::io::copy(&mut std::io::repeat(0).take(padding), &mut file.out)
            .map_err(|e| file_error(&file.partial, e))?;
        Ok(())
    }

    /// Leaves a hole for a tensor: it reads as zeros and takes no room on the disk.
    pub fn write_hole(&mut self, name: &str) -> Result<(), WriteError> {
        let alignment = self.alignment;
        let (file, len) = self.begin(name)?;
        let skipped = i64::try_from(len.next_multiple_of(alignment)).map_err(std::io::Error::other);
        skipped.and_then(|n| file.out.seek_relative(n)).map_err(|e| file_error(&file.partial, e))
    }

    /// The file that takes the tensor `name`, which must be the next, and the tensor's bytes.
    fn begin(&mut self, name: &str) -> Result<(&mut OpenFile, u64), WriteError> {
        let order = |expected| WriteError::Order { got: name.to_owned(), expected };
        let file = self.file_with_room()?.ok_or_else(|| order(None))?;
        match file.tensors.pop_if(|tensor| tensor.name == name) {
            Some(tensor) => Ok((file, tensor.len)),
            None => Err(order(file.tensors.last().map(|tensor| tensor.name.clone()))),
        }
    }

    /// Completes the model: flushes it to the disk and gives all files their names.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WriteError> {
        if let Some(expected) = self.file_with_room()?.and_then(|file| file.tensors.last()) {
            let expected = Some(expected.name.clone());
            return Err(WriteError::Order { got: "the end".to_owned(), expected });
        }
        self.close()?;
        for (partial, target) in &self.written {
            std::fs::rename(partial, target).map_err(|e| file_error(target, e))?;
        }
        self.done = true;
        if let Some((_, target)) = self.written.first() {
            sync_folder(target)?;
        }
        Ok(self.written.iter().map(|(_, target)| target.clone()).collect())
    }

    /// The file that takes the next tensor; `None` when all of them are full.
    fn file_with_room(&mut self) -> Result<Option<&mut OpenFile>, WriteError> {
        while self.open.as_ref().is_none_or(|file| file.tensors.is_empty()) && !self.waiting.is_empty() {
            self.close()?;
            self.open = self.waiting.pop().map(OpenFile::create).transpose()?;
        }
        Ok(self.open.as_mut())
    }

    fn close(&mut self) -> Result<(), WriteError> {
        let Some(OpenFile { target, partial, out, .. }) = self.open.take() else {
            return Ok(());
        };
        let synced = out.into_inner().map_err(|e| e.into_error()).and_then(|mut file| {
            // A hole at the end is part of the file too.
            let len = file.stream_position()?;
            file.set_len(len)?;
            file.sync_all()
        });
        self.written.push((partial.clone(), target));
        synced.map_err(|e| file_error(&partial, e))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.done {
            let open = self.open.take().map(|file| file.partial);
            for partial in self.written.iter().map(|(partial, _)| partial).chain(&open) {
                let _ = std::fs::remove_file(partial);
            }
        }
    }
}

impl OpenFile {
    fn create(file: ShardFile) -> Result<OpenFile, WriteError> {
        let mut name = file.target.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let error = |source: std::io::Error| match source.kind() {
            ErrorKind::AlreadyExists => WriteError::Exists(partial.clone()),
            _ => file_error(&partial, source),
        };
        let out = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(error)?;
        let mut tensors = file.tensors;
        tensors.reverse();
        let mut open = OpenFile {
            target: file.target,
            partial: partial.clone(),
            out: BufWriter::with_capacity(1 << 20, out),
            tensors,
        };
        open.out.write_all(&file.header).map_err(error)?;
        Ok(open)
    }
}

fn file_error(path: &Path, source: std::io::Error) -> WriteError {
    WriteError::Io { path: path.to_owned(), source }
}

/// A rename survives a power failure once the folder is on the disk too.
fn sync_folder(file: &Path) -> Result<(), WriteError> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| file_error(folder, e))
}

struct Counted<'a> {
    out: &'a mut BufWriter<File>,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(data)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// What can be a metadata value: appends its type and its bytes.
pub trait Encode {
    fn encode(&self, out: &mut Vec<u8>);
}

fn encoded(value: impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

fn put_type(out: &mut Vec<u8>, ty: ValueType) {
    out.extend((ty as u32).to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_array_head(out: &mut Vec<u8>, element: ValueType, len: usize) {
    put_type(out, ValueType::Array);
    put_type(out, element);
    out.extend((len as u64).to_le_bytes());
}

macro_rules! encode_numbers {
    ($($ty:ty => $variant:ident,)*) => {$(
        impl Encode for $ty {
            fn encode(&self, out: &mut Vec<u8>) {
                put_type(out, ValueType::$variant);
                out.extend(self.to_le_bytes());
            }
        }

        impl Encode for &[$ty] {
            fn encode(&self, out: &mut Vec<u8>) {
                put_array_head(out, ValueType::$variant, self.len());
                self.iter().for_each(|v| out.extend(v.to_le_bytes()));
            }
        }
    )*};
}

encode_numbers! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32,
    f32 => F32, u64 => U64, i64 => I64, f64 => F64,
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        put_type(out, ValueType::Bool);
        out.push((*self).into());
    }
}

impl Encode for &[bool] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_array_head(out, ValueType::Bool, self.len());
        out.extend(self.iter().map(|v| u8::from(*v)));
    }
}

impl Encode for &str {
    fn encode(&self, out: &mut Vec<u8>) {
        put_type(out, ValueType::String);
        put_string(out, self.as_bytes());
    }
}

macro_rules! encode_strings {
    ($($ty:ty,)*) => {$(
        impl Encode for &[$ty] {
            fn encode(&self, out: &mut Vec<u8>) {
                put_array_head(out, ValueType::String, self.len());
                self.iter().for_each(|s| put_string(out, s.as_bytes()));
            }
        }
    )*};
}

encode_strings! { &str, String, }

impl Encode for Array<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_array_head(out, self.element(), self.len());
        out.extend(self.bytes());
    }
}

/// A value taken over from another file.
impl Encode for Value<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) => v.encode(out),
            Value::I8(v) => v.encode(out),
            Value::U16(v) => v.encode(out),
            Value::I16(v) => v.encode(out),
            Value::U32(v) => v.encode(out),
            Value::I32(v) => v.encode(out),
            Value::F32(v) => v.encode(out),
            Value::U64(v) => v.encode(out),
            Value::I64(v) => v.encode(out),
            Value::F64(v) => v.encode(out),
            Value::Bool(v) => v.encode(out),
            Value::Array(v) => v.encode(out),
            Value::String(bytes) => {
                put_type(out, ValueType::String);
                put_string(out, bytes);
            }
        }
    }
}
