//! Writes GGUF version 3, in one file or in shards, tensor after tensor as the data comes.
//!
//! All tensors are declared before the first byte is written, so headers are complete from the
//! start and nothing is held in memory. Files grow under a `.partial` name and get their own when
//! all of them are whole and on the disk: what has a final name is a complete model.

use super::encode::{Encode, encoded, put_string};
use super::parse::{DEFAULT_ALIGNMENT, MAX_STRING, MAX_TENSOR_NAME};
use super::split::{MAX_SHARDS, ShardName};
use super::types::{Shape, TensorType};
use super::value::ValueType;
use crate::files;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{0}: exists already; write to another name, or over it with --force")]
    Exists(PathBuf),
    #[error("{0}: is no regular file, and is not written over")]
    NotAFile(PathBuf),
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
    #[error("general.alignment must be a u32 and a power of two")]
    Alignment,
    #[error("the metadata key '{0}' is empty, longer than 1 GiB or contains a NUL")]
    Key(String),
    #[error("{0} shards; at most {MAX_SHARDS} are allowed")]
    TooManyShards(usize),
    #[error("the tensors have more bytes together than 63 bits can count")]
    TooLarge,
    #[error("the model is incomplete: writing it failed before")]
    Failed,
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
    /// Each key with its encoded value, and where in this list it is.
    entries: Vec<(String, Vec<u8>)>,
    by_key: HashMap<String, usize>,
    tensors: Vec<Declared>,
    names: HashSet<String>,
    /// Bytes of all tensors so far, each with the most padding it may get.
    bytes: u64,
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
        Writer {
            entries: Vec::new(),
            by_key: HashMap::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
            bytes: 0,
            alignment: DEFAULT_ALIGNMENT,
        }
    }

    /// Sets a metadata key; a key that is set already keeps its place and gets the new value.
    ///
    /// So that all keys of another file can be copied: `general.alignment` sets the alignment of the
    /// data too, and the keys that say how a file is split are left out, for the writer sets them.
    pub fn set(&mut self, key: &str, value: impl Encode) -> Result<(), WriteError> {
        if key.is_empty() || key.len() as u64 > MAX_STRING || key.contains('\0') {
            return Err(WriteError::Key(key.to_owned()));
        }
        if ["split.no", "split.count", "split.tensors.count"].contains(&key) {
            return Ok(());
        }
        let bytes = encoded(value);
        if key == "general.alignment" {
            self.alignment = alignment_in(&bytes)?;
        }
        match self.by_key.get(key).and_then(|index| self.entries.get_mut(*index)) {
            Some((_, old)) => *old = bytes,
            None => {
                self.by_key.insert(key.to_owned(), self.entries.len());
                self.entries.push((key.to_owned(), bytes));
            }
        }
        Ok(())
    }

    /// Sets the alignment of the data in bytes, and the key that states it.
    pub fn set_alignment(&mut self, alignment: u32) -> Result<(), WriteError> {
        self.set("general.alignment", alignment)
    }

    /// Declares the next tensor.
    pub fn add_tensor(&mut self, name: &str, ty: TensorType, shape: Shape) -> Result<(), WriteError> {
        if name.is_empty() || name.len() as u64 > MAX_TENSOR_NAME || name.contains('\0') {
            return Err(WriteError::TensorName { name: name.to_owned() });
        }
        let len = shape.n_bytes(ty).ok_or_else(|| WriteError::Shape { name: name.to_owned(), ty, shape })?;
        // The alignment may still change, but is below 2^32.
        let bytes = len.checked_add(1 << 32).and_then(|len| self.bytes.checked_add(len));
        let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(WriteError::TooLarge)?;
        if !self.names.insert(name.to_owned()) {
            return Err(WriteError::DuplicateTensor(name.to_owned()));
        }
        self.bytes = bytes;
        self.tensors.push(Declared { name: name.to_owned(), ty, shape, len });
        Ok(())
    }

    /// Begins to write to `path`, or, split, to `{path without .gguf}-00001-of-….gguf` and so on.
    /// Refuses to write over a file.
    pub fn create(&self, path: &Path, split: Split) -> Result<Output, WriteError> {
        match self.targets(path, split)?.into_iter().find(|target| target.symlink_metadata().is_ok()) {
            Some(target) => Err(WriteError::Exists(target)),
            None => self.begin(self.targets(path, split)?, self.groups(split)),
        }
    }

    /// As [`create`](Self::create), but files that have the names go when the model is whole; what was left of
    /// one that was not finished goes at once.
    pub fn create_over(&self, path: &Path, split: Split) -> Result<Output, WriteError> {
        let groups = self.groups(split);
        let targets = self.targets(path, split)?;
        let partials = targets.iter().map(|target| partial(target));
        for path in targets.iter().cloned().chain(partials.clone()) {
            if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
                return Err(WriteError::NotAFile(path));
            }
        }
        for path in partials.filter(|path| path.exists()) {
            std::fs::remove_file(&path).map_err(|error| file_error(&path, error))?;
        }
        self.begin(targets, groups)
    }

    fn begin(&self, targets: Vec<PathBuf>, groups: Vec<usize>) -> Result<Output, WriteError> {
        let count = targets.len() as u16;
        let mut files = Vec::new();
        let mut rest = self.tensors.as_slice();
        for ((number, group), target) in (0..count).zip(&groups).zip(targets) {
            let (tensors, after) = rest.split_at(*group);
            rest = after;
            let header = self.header(tensors, (count > 1).then_some((number, count)));
            files.push(ShardFile { target, header, tensors: tensors.to_vec() });
        }
        files.reverse();
        let mut output = Output {
            waiting: files,
            open: None,
            written: Vec::new(),
            alignment: self.alignment.into(),
            state: State::Writing,
        };
        output.file_with_room()?;
        Ok(output)
    }

    /// The beginning of the file that the model would be in, unsplit: everything before the data; and how long
    /// the file would be.
    pub fn outline(&self) -> (Vec<u8>, u64) {
        let header = self.header(&self.tensors, None);
        let align = u64::from(self.alignment);
        let data: u64 = self.tensors.iter().map(|tensor| tensor.len.next_multiple_of(align)).sum();
        let len = header.len() as u64 + data;
        (header, len)
    }

    /// The files that the model will be in.
    pub fn targets(&self, path: &Path, split: Split) -> Result<Vec<PathBuf>, WriteError> {
        match self.groups(split).len() as u64 {
            1 => Ok(vec![path.to_owned()]),
            count @ ..=MAX_SHARDS => (1..=count)
                .map(|number| ShardName::path(path, number, count).ok_or_else(|| WriteError::Name(path.to_owned())))
                .collect(),
            count => Err(WriteError::TooManyShards(count as usize)),
        }
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
            Some((1.., _)) if self.alignment == DEFAULT_ALIGNMENT => Vec::new(),
            Some((1.., _)) => vec![("general.alignment", encoded(self.alignment))],
            _ => self.entries.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())).collect(),
        };
        if let Some((number, count)) = shard {
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

/// The alignment that an encoded value of `general.alignment` states.
fn alignment_in(encoded: &[u8]) -> Result<u32, WriteError> {
    let value = encoded.strip_prefix(&(ValueType::U32 as u32).to_le_bytes());
    let alignment = value.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    alignment.filter(|alignment| alignment.is_power_of_two()).ok_or(WriteError::Alignment)
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
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// Something could not be written: what there is must not get a final name.
    Failed,
    Done,
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
        self.attempt(|output| output.fill(name, fill))
    }

    /// Leaves a hole for a tensor: it reads as zeros and takes no room on the disk.
    pub fn write_hole(&mut self, name: &str) -> Result<(), WriteError> {
        self.attempt(|output| output.skip(name))
    }

    /// After a failure nothing more is written, and nothing is finished.
    fn attempt(&mut self, step: impl FnOnce(&mut Output) -> Result<(), WriteError>) -> Result<(), WriteError> {
        if self.state != State::Writing {
            return Err(WriteError::Failed);
        }
        let result = step(self);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn fill(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), WriteError> {
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

    fn skip(&mut self, name: &str) -> Result<(), WriteError> {
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

    /// Completes the model: flushes it to the disk and gives all files their names, or none.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WriteError> {
        self.attempt(Output::complete)?;
        let targets: Vec<PathBuf> = self.written.iter().map(|(_, target)| target.clone()).collect();
        for (number, (partial, target)) in self.written.iter().enumerate() {
            if let Err(error) = std::fs::rename(partial, target) {
                targets.iter().take(number).for_each(|named| drop(std::fs::remove_file(named)));
                return Err(file_error(target, error));
            }
        }
        self.state = State::Done;
        targets.first().map_or(Ok(()), |target| sync_folder(target))?;
        Ok(targets)
    }

    /// All tensors are there, and on the disk.
    fn complete(&mut self) -> Result<(), WriteError> {
        if let Some(expected) = self.file_with_room()?.and_then(|file| file.tensors.last()) {
            let expected = Some(expected.name.clone());
            return Err(WriteError::Order { got: "the end".to_owned(), expected });
        }
        self.close()
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
        if self.state != State::Done {
            let open = self.open.take().map(|file| file.partial);
            for partial in self.written.iter().map(|(partial, _)| partial).chain(&open) {
                let _ = std::fs::remove_file(partial);
            }
        }
    }
}

impl OpenFile {
    fn create(file: ShardFile) -> Result<OpenFile, WriteError> {
        let partial = partial(&file.target);
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

/// What a file is called until it is whole.
fn partial(target: &Path) -> PathBuf {
    files::beside(target, files::PARTIAL)
}

fn file_error(path: &Path, source: std::io::Error) -> WriteError {
    WriteError::Io { path: path.to_owned(), source }
}

/// A rename survives a power failure once the folder is on the disk too.
fn sync_folder(file: &Path) -> Result<(), WriteError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    files::sync_folder(folder).map_err(|error| file_error(folder, error))
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
