//! Metadata values to bytes: the other way of `value`.

use super::value::{Array, Value, ValueType};

/// What can be a metadata value: appends its type and its bytes.
pub trait Encode {
    fn encode(&self, out: &mut Vec<u8>);
}

pub(super) fn encoded(value: impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

fn put_type(out: &mut Vec<u8>, ty: ValueType) {
    out.extend((ty as u32).to_le_bytes());
}

pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
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
