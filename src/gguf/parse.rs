//! Bytes → header: the metadata and the tensor table of one file, every length and offset checked.
//!
//! Knows neither files nor maps, so that it can be fuzzed, and used on bytes fetched from elsewhere.
//! Nothing is allocated by a count from the file before as many items were there to read.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)]

use super::error::{Damage, Fault, Place};
use super::types::{Shape, TensorType};
use super::value::{Array, Metadata, Value, ValueType};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Longest string, in bytes, as in ggml's reader.
pub const MAX_STRING: u64 = 1 << 30;
/// Longest array, in elements, as in ggml's reader.
pub const MAX_ARRAY: u64 = 1 << 30;
/// ggml keeps a tensor's name in 64 bytes, the closing NUL included.
pub const MAX_TENSOR_NAME: u64 = 63;
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// The fewest bytes a metadata entry takes: a key's length and one byte of it, a type, a value.
const MIN_ENTRY: u64 = 8 + 1 + 4 + 1;
/// The fewest bytes a tensor of the table takes: a name's length, no dimensions, type, offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;

/// What precedes the tensor data in a file.
#[derive(Debug)]
pub struct Header {
    version: u32,
    alignment: u32,
    entries: Vec<(String, Raw)>,
    by_key: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
    data_start: u64,
}

/// One tensor of a file's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub ty: TensorType,
    pub shape: Shape,
    /// Where its data lies, in bytes from the start of the file: within the file, aligned, and
    /// apart from that of every other tensor.
    pub range: Range<u64>,
}

/// A metadata value as the header keeps it: scalars themselves, the rest as a place in the file.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    Fixed(Value<'static>),
    String(Range<usize>),
    Array { element: ValueType, len: usize, range: Range<usize> },
}

impl Raw {
    pub(super) fn resolve<'a>(&self, bytes: &'a [u8]) -> Option<Value<'a>> {
        Some(match self {
            Raw::Fixed(value) => *value,
            Raw::String(range) => Value::String(bytes.get(range.clone())?),
            Raw::Array { element, len, range } => {
                Value::Array(Array { element: *element, len: *len, bytes: bytes.get(range.clone())? })
            }
        })
    }
}

impl Header {
    /// Parses the header at the start of `bytes`, of a file `file_len` bytes long.
    ///
    /// `bytes` may stop anywhere after the header; if it stops within, the error is
    /// [`Fault::Truncated`].
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Header, Damage> {
        Parser { bytes, at: 0, file_len, place: Place::Header }.header()
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    /// `general.alignment` in bytes: a power of two.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Where the tensor data begins, in bytes from the start of the file.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The metadata, read from the bytes that this header was parsed from.
    pub fn metadata<'a>(&'a self, bytes: &'a [u8]) -> Metadata<'a> {
        Metadata { header: self, bytes }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Raw)> {
        self.entries.iter().map(|(key, raw)| (key.as_str(), raw))
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Raw> {
        self.entries.get(*self.by_key.get(key)?).map(|(_, raw)| raw)
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    file_len: u64,
    place: Place,
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, Damage> {
        let version = self.magic_and_version()?;
        let n_tensors = self.count("tensors", MIN_TENSOR)?;
        let n_entries = self.count("metadata keys", MIN_ENTRY)?;

        let mut entries = Vec::new();
        let mut by_key = HashMap::new();
        for number in 0..n_entries {
            let (key, raw) = self.entry(number)?;
            if by_key.insert(key.clone(), entries.len()).is_some() {
                return Err(self.fault(Fault::DuplicateKey));
            }
            entries.push((key, raw));
        }
        let mut header =
            Header { version, alignment: DEFAULT_ALIGNMENT, entries, by_key, tensors: Vec::new(), data_start: 0 };
        header.alignment = self.alignment(&header)?;

        let mut table = Vec::new();
        for number in 0..n_tensors {
            table.push(self.tensor(number, header.alignment)?);
        }
        self.place = Place::Header;
        header.data_start = self.data_start(n_tensors, header.alignment)?;
        header.tensors = self.place_tensors(table, header.data_start)?;
        Ok(header)
    }

    fn magic_and_version(&mut self) -> Result<u32, Damage> {
        if self.file_len == 0 {
            return Err(self.fault(Fault::Empty));
        }
        let magic = self.fixed::<4>("the magic number").map_err(|e| Damage { place: Place::Header, ..e })?;
        if magic != *b"GGUF" {
            return Err(self.fault(Fault::Magic(magic)));
        }
        match self.u32("the version")? {
            version @ (2 | 3) => Ok(version),
            version if version & 0xffff == 0 && version != 0 => Err(self.fault(Fault::BigEndian(version))),
            version => Err(self.fault(Fault::Version(version))),
        }
    }

    /// A number of items of at least `min_bytes` each.
    fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<u64, Damage> {
        let count = i64::from_le_bytes(self.fixed("the header")?);
        match u64::try_from(count) {
            Ok(n) if n <= self.file_len.checked_div(min_bytes).unwrap_or(0) => Ok(n),
            _ => Err(self.fault(Fault::Count { what, count })),
        }
    }

    fn entry(&mut self, number: u64) -> Result<(String, Raw), Damage> {
        self.place = Place::Key(number, None);
        let key = self.name("a key", MAX_STRING)?;
        if key.is_empty() {
            return Err(self.fault(Fault::EmptyKey));
        }
        self.place = Place::Key(number, Some(key.clone()));
        let raw = match self.value_type()? {
            ValueType::String => Raw::String(self.string("a string")?),
            ValueType::Array => self.array()?,
            ty => Raw::Fixed(self.scalar(ty)?),
        };
        Ok((key, raw))
    }

    fn value_type(&mut self) -> Result<ValueType, Damage> {
        let id = self.u32("a value's type")?;
        ValueType::from_id(id).ok_or_else(|| self.fault(Fault::ValueType(id)))
    }

    fn scalar(&mut self, ty: ValueType) -> Result<Value<'static>, Damage> {
        let bytes = self.take(ty.size().unwrap_or(0), "a value")?;
        self.check_bools(ty, bytes)?;
        Value::read_fixed(ty, bytes).ok_or_else(|| self.fault(Fault::ValueType(ty as u32)))
    }

    fn check_bools(&self, ty: ValueType, bytes: &[u8]) -> Result<(), Damage> {
        match bytes.iter().find(|byte| ty == ValueType::Bool && **byte > 1) {
            Some(byte) => Err(self.fault(Fault::Bool(*byte))),
            None => Ok(()),
        }
    }

    fn array(&mut self) -> Result<Raw, Damage> {
        let element = self.value_type()?;
        if element == ValueType::Array {
            return Err(self.fault(Fault::NestedArray));
        }
        let count = self.u64("an array's length")?;
        if count > MAX_ARRAY {
            return Err(self.fault(Fault::ArrayTooLong(count)));
        }
        let len = usize::try_from(count).map_err(|_| self.fault(Fault::ArrayTooLong(count)))?;
        let start = self.at;
        match element.size() {
            Some(size) => {
                let total = len.checked_mul(size).ok_or_else(|| self.fault(Fault::ArrayTooLong(count)))?;
                let bytes = self.take(total, "an array")?;
                self.check_bools(element, bytes)?;
            }
            None => {
                for _ in 0..len {
                    self.string("a string of an array")?;
                }
            }
        }
        Ok(Raw::Array { element, len, range: start..self.at })
    }

    fn alignment(&mut self, header: &Header) -> Result<u32, Damage> {
        const KEY: &str = "general.alignment";
        let Some(raw) = header.entry(KEY) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let number = header.by_key.get(KEY).map_or(0, |i| *i as u64);
        self.place = Place::Key(number, Some(KEY.to_owned()));
        match raw {
            Raw::Fixed(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(*alignment),
            Raw::Fixed(Value::U32(alignment)) => Err(self.fault(Fault::Alignment(*alignment))),
            Raw::Fixed(other) => Err(self.fault(Fault::AlignmentType(other.ty()))),
            Raw::String(_) => Err(self.fault(Fault::AlignmentType(ValueType::String))),
            Raw::Array { .. } => Err(self.fault(Fault::AlignmentType(ValueType::Array))),
        }
    }

    /// A tensor with the offset that the file gives, relative to the data's start.
    fn tensor(&mut self, number: u64, alignment: u32) -> Result<Unplaced, Damage> {
        self.place = Place::Tensor(number, None);
        let entry = self.at;
        let name = self.name("a tensor's name", MAX_TENSOR_NAME)?;
        self.place = Place::Tensor(number, Some(name.clone()));
        let shape = self.shape()?;
        let ty = self.tensor_type()?;
        let len = self.size(shape, ty)?;
        let offset = self.u64("a tensor's offset")?;
        let alignment = u64::from(alignment);
        if !offset.is_multiple_of(alignment) {
            return Err(self.fault(Fault::Misaligned { offset, alignment }));
        }
        Ok(Unplaced { info: TensorInfo { name, ty, shape, range: 0..len }, offset, entry })
    }

    fn shape(&mut self) -> Result<Shape, Damage> {
        let n_dims = self.u32("a tensor's dimensions")?;
        let mut dims = Vec::new();
        for index in 0..usize::try_from(n_dims.min(4)).unwrap_or(0) {
            let value = i64::from_le_bytes(self.fixed("a tensor's dimensions")?);
            dims.push(u64::try_from(value).map_err(|_| self.fault(Fault::NegativeDimension { index, value }))?);
        }
        Shape::new(&dims).filter(|_| n_dims <= 4).ok_or_else(|| self.fault(Fault::Dimensions(n_dims)))
    }

    fn tensor_type(&mut self) -> Result<TensorType, Damage> {
        let id = self.u32("a tensor's type")?;
        TensorType::from_id(id).ok_or_else(|| {
            self.fault(if TensorType::removed(id) { Fault::RemovedTensorType(id) } else { Fault::TensorType(id) })
        })
    }

    fn size(&self, shape: Shape, ty: TensorType) -> Result<u64, Damage> {
        let [row, ..] = shape.ne();
        if !row.is_multiple_of(ty.block_len()) {
            return Err(self.fault(Fault::Ragged { row, name: ty.name(), block: ty.block_len() }));
        }
        shape.n_bytes(ty).ok_or_else(|| self.fault(Fault::ShapeOverflow(shape.to_string())))
    }

    /// The end of the table, rounded up to the alignment if there is any data.
    fn data_start(&mut self, n_tensors: u64, alignment: u32) -> Result<u64, Damage> {
        let end = self.at as u64;
        if n_tensors == 0 {
            return Ok(end);
        }
        let start =
            end.checked_next_multiple_of(alignment.into()).ok_or_else(|| self.fault(Fault::OffsetOverflow(end)))?;
        match start.checked_sub(self.file_len) {
            None | Some(0) => Ok(start),
            Some(missing) => {
                let left = self.file_len.saturating_sub(end);
                let needed = left.saturating_add(missing);
                Err(self.fault(Fault::Truncated { what: "the padding after the tensor table", needed, left }))
            }
        }
    }

    /// Turns offsets into ranges of the file, and checks that these lie within it, apart from each other.
    fn place_tensors(&mut self, table: Vec<Unplaced>, data_start: u64) -> Result<Vec<TensorInfo>, Damage> {
        let mut names = HashSet::with_capacity(table.len());
        for (number, Unplaced { info, entry, .. }) in table.iter().enumerate() {
            if !names.insert(info.name.as_str()) {
                return Err(table_fault(number, &info.name, *entry, Fault::DuplicateTensor));
            }
        }
        let mut tensors = Vec::with_capacity(table.len());
        let mut order = Vec::with_capacity(table.len());
        for (number, Unplaced { mut info, offset, entry }) in table.into_iter().enumerate() {
            let start = data_start.checked_add(offset);
            let end = start.and_then(|start| start.checked_add(info.range.end));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(table_fault(number, &info.name, entry, Fault::OffsetOverflow(offset)));
            };
            if end > self.file_len {
                let fault = Fault::PastEnd { end, file_len: self.file_len };
                return Err(table_fault(number, &info.name, entry, fault));
            }
            info.range = start..end;
            if start < end {
                order.push((start, end, number, entry));
            }
            tensors.push(info);
        }
        order.sort_unstable();
        for pair in order.windows(2) {
            if let [(_, end, first, _), (start, _, second, entry)] = pair
                && start < end
            {
                let name = |number: &usize| tensors.get(*number).map_or(String::new(), |t| t.name.clone());
                return Err(table_fault(*second, &name(second), *entry, Fault::Overlap { other: name(first) }));
            }
        }
        Ok(tensors)
    }

    fn name(&mut self, what: &'static str, max: u64) -> Result<String, Damage> {
        let range = self.string_up_to(what, max)?;
        // Copied before it is looked at: the file may change meanwhile.
        let bytes = self.bytes.get(range).unwrap_or_default().to_vec();
        let text = String::from_utf8(bytes).map_err(|_| self.fault(Fault::NotUtf8(what)))?;
        // ggml's names end at a NUL: two that differ after it would be one to ggml.
        match text.contains('\0') {
            true => Err(self.fault(Fault::Nul(what))),
            false => Ok(text),
        }
    }

    fn string(&mut self, what: &'static str) -> Result<Range<usize>, Damage> {
        self.string_up_to(what, MAX_STRING)
    }

    fn string_up_to(&mut self, what: &'static str, max: u64) -> Result<Range<usize>, Damage> {
        let len = self.u64(what)?;
        if len > max {
            return Err(self.fault(Fault::TooLong { what, len, max }));
        }
        let len = usize::try_from(len).map_err(|_| self.fault(Fault::TooLong { what, len, max }))?;
        let start = self.at;
        self.take(len, what)?;
        Ok(start..self.at)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Damage> {
        self.fixed(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Damage> {
        self.fixed(what).map(u64::from_le_bytes)
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damage> {
        let bytes = self.take(N, what)?;
        bytes.first_chunk().copied().ok_or_else(|| self.truncated(what, N))
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Damage> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, taken)) => {
                self.at = end;
                Ok(taken)
            }
            None => Err(self.truncated(what, len)),
        }
    }

    fn truncated(&self, what: &'static str, needed: usize) -> Damage {
        let left = self.bytes.len().saturating_sub(self.at) as u64;
        self.fault(Fault::Truncated { what, needed: needed as u64, left })
    }

    fn fault(&self, fault: Fault) -> Damage {
        Damage { place: self.place.clone(), offset: self.at as u64, fault }
    }
}

struct Unplaced {
    info: TensorInfo,
    offset: u64,
    /// Where its entry in the table begins.
    entry: usize,
}

fn table_fault(number: usize, name: &str, entry: usize, fault: Fault) -> Damage {
    Damage { place: Place::Tensor(number as u64, Some(name.to_owned())), offset: entry as u64, fault }
}
