//! Metadata values: borrowed from the file, read by the type that the reader needs.

use super::error::MetadataError;
use super::parse::Header;
use std::fmt;

/// The type of a metadata value, by GGUF's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    pub fn from_id(id: u32) -> Option<ValueType> {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64].into_iter().find(|ty| *ty as u32 == id)
    }

    /// Bytes of a value; `None` for strings and arrays, whose length is in the file.
    pub fn size(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Not necessarily UTF-8: the format does not ask for it.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    pub fn ty(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Any integer, whatever its width.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// Type and, where it is short, value: for error messages.
    fn describe(&self) -> String {
        match self {
            Value::Array(array) => format!("an array of {} {} values", array.len, array.element),
            Value::String(bytes) if std::str::from_utf8(bytes).is_err() => "a string that is not UTF-8".to_owned(),
            Value::String(_) => "a string".to_owned(),
            Value::Bool(v) => format!("bool {v}"),
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            _ => format!("{} {}", self.ty(), self.as_integer().unwrap_or_default()),
        }
    }

    /// The value of a fixed-size type at the start of `bytes`. `bool`s were checked when the file was parsed.
    pub(super) fn read_fixed(ty: ValueType, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match ty {
            ValueType::U8 => Value::U8(*bytes.first()?),
            ValueType::I8 => Value::I8(i8::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::Bool => Value::Bool(*bytes.first()? != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(*bytes.first_chunk()?)),
            ValueType::String | ValueType::Array => return None,
        })
    }
}

/// An array in the file, decoded element by element as it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    pub(super) element: ValueType,
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub fn element(&self) -> ValueType {
        self.element
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order. The parser has checked that all of them are there.
    pub fn iter(&self) -> Elements<'a> {
        Elements { array: *self }
    }

    /// The encoded elements, without the array's own head.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Iterates over an [`Array`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    array: Array<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let array = &mut self.array;
        array.len = array.len.checked_sub(1)?;
        let (value, used) = match array.element.size() {
            Some(size) => (Value::read_fixed(array.element, array.bytes)?, size),
            None => {
                let len = usize::try_from(u64::from_le_bytes(*array.bytes.first_chunk()?)).ok()?;
                let end = len.checked_add(8)?;
                (Value::String(array.bytes.get(8..end)?), end)
            }
        };
        array.bytes = array.bytes.get(used..)?;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.array.len))
    }
}

/// The metadata of a file.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    pub(super) header: &'a Header,
    pub(super) bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let Metadata { header, bytes } = *self;
        header.entries().filter_map(move |(key, raw)| Some((key, raw.resolve(bytes)?)))
    }

    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.header.entry(key)?.resolve(self.bytes)
    }

    /// The value of `key`, `None` where the file has no such key.
    ///
    /// Integers are taken from any integer type that the value fits; floats from `f32` and `f64`.
    pub fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(MetadataError::Type { key: key.to_owned(), expected: T::EXPECTED, found: value.describe() }),
        }
    }

    /// As [`get`](Self::get), where the key must be there.
    pub fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, MetadataError> {
        self.get(key)?.ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
    }
}

/// What a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// In words, for error messages.
    const EXPECTED: &'static str;

    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! from_integer {
    ($($ty:ty, $name:literal, $names:literal;)*) => {$(
        impl<'a> FromValue<'a> for $ty {
            const EXPECTED: &'static str = $name;

            fn from_value(value: Value<'a>) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }

        impl<'a> FromValue<'a> for Vec<$ty> {
            const EXPECTED: &'static str = $names;

            fn from_value(value: Value<'a>) -> Option<Self> {
                all_elements(value)
            }
        }
    )*};
}

from_integer! {
    u16, "an integer from 0 to 65535", "an array of integers from 0 to 65535";
    u32, "an integer of 32 bits, not negative", "an array of integers of 32 bits, none negative";
    i32, "an integer of 32 bits", "an array of integers of 32 bits";
    u64, "an integer, not negative", "an array of integers, none negative";
}

impl<'a> FromValue<'a> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Vec<f32> {
    const EXPECTED: &'static str = "an array of floats";

    fn from_value(value: Value<'a>) -> Option<Self> {
        all_elements(value)
    }
}

impl<'a> FromValue<'a> for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a UTF-8 string";

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Vec<&'a str> {
    const EXPECTED: &'static str = "an array of UTF-8 strings";

    fn from_value(value: Value<'a>) -> Option<Self> {
        all_elements(value)
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    const EXPECTED: &'static str = "an array";

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }
}

fn all_elements<'a, T: FromValue<'a>>(value: Value<'a>) -> Option<Vec<T>> {
    let Value::Array(array) = value else {
        return None;
    };
    array.iter().map(T::from_value).collect()
}
