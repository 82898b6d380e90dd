//! ggml's tensor types, and the check that their data makes sense.

use std::ffi::CStr;

/// A tensor type that ggml knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type(ggml_sys::ggml_type);

impl Type {
    /// `None` for ids that ggml has no type for.
    pub fn from_id(id: u32) -> Option<Type> {
        let ty = Type(id);
        (id < ggml_sys::GGML_TYPE_COUNT && ty.block_len() > 0).then_some(ty)
    }

    /// ggml's name for it, in lower case.
    pub fn name(self) -> String {
        // SAFETY: the id is below GGML_TYPE_COUNT; names are static NUL-terminated strings.
        unsafe { CStr::from_ptr(ggml_sys::ggml_type_name(self.0)) }.to_string_lossy().to_lowercase()
    }

    /// Values in a block.
    pub fn block_len(self) -> u64 {
        // SAFETY: the id is below GGML_TYPE_COUNT (checked by the only constructor).
        u64::try_from(unsafe { ggml_sys::ggml_blck_size(self.0) }).unwrap_or(0)
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        // SAFETY: as above.
        unsafe { ggml_sys::ggml_type_size(self.0) }
    }

    /// Whether `data`, whole blocks of this type, holds no NaN and no infinity, in the values or
    /// in the scales. ggml writes to stderr which block is at fault.
    pub fn is_finite(self, data: &[u8]) -> bool {
        if self.0 == ggml_sys::GGML_TYPE_Q8_1 {
            // The one type that ggml's check does not know: two f16 scales lead each block.
            return data.chunks_exact(self.block_bytes()).all(|block| !block[..4].chunks(2).any(is_f16_special));
        }
        if !data.as_ptr().cast::<u64>().is_aligned() {
            // ggml reads through typed pointers; a file with a small alignment may not serve them.
            let mut copy = vec![0u64; data.len().div_ceil(8)];
            // SAFETY: `copy` is at least as long as `data`, and any bytes are valid u64s.
            let bytes = unsafe { std::slice::from_raw_parts_mut(copy.as_mut_ptr().cast::<u8>(), data.len()) };
            bytes.copy_from_slice(data);
            return self.validate(bytes);
        }
        self.validate(data)
    }

    fn validate(self, data: &[u8]) -> bool {
        // SAFETY: `data` is readable for its length and aligned to 8 bytes; ggml checks that the
        // length is a whole number of blocks and reads nothing beyond.
        unsafe { ggml_sys::ggml_validate_row_data(self.0, data.as_ptr().cast(), data.len()) }
    }
}

/// A little-endian f16 that is infinite or not a number.
fn is_f16_special(bytes: &[u8]) -> bool {
    matches!(bytes, [_, high] if high & 0x7c == 0x7c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;

    /// Our table against ggml's, id by id, both ways.
    #[test]
    fn the_type_table_is_ggmls() {
        for id in 0..ggml_sys::GGML_TYPE_COUNT + 10 {
            match (Type::from_id(id), TensorType::from_id(id)) {
                (Some(theirs), Some(ours)) => {
                    assert_eq!(theirs.name(), ours.name().to_lowercase());
                    assert_eq!(theirs.block_len(), ours.block_len(), "{ours}");
                    assert_eq!(theirs.block_bytes() as u64, ours.block_bytes(), "{ours}");
                }
                (None, None) => {}
                (theirs, ours) => panic!("type {id}: ggml {theirs:?}, ours {ours:?}"),
            }
        }
    }

    #[test]
    fn non_finite_values_and_scales_are_found() {
        for ty in TensorType::ALL {
            let ty = Type::from_id(ty.id()).unwrap();
            let zeros = vec![0u8; ty.block_bytes() * 3];
            assert!(ty.is_finite(&zeros), "{}", ty.name());
            // Integers are always finite, and ggml reads NVFP4's scales so that they are.
            let always = ["i8", "i16", "i32", "i64", "nvfp4"].contains(&ty.name().as_str());
            let ones = vec![0xffu8; ty.block_bytes() * 3];
            assert_eq!(ty.is_finite(&ones), always, "{}", ty.name());
        }
    }

    #[test]
    fn unaligned_data_is_read_as_it_is() {
        let f32s = Type::from_id(0).unwrap();
        let mut bytes = vec![0u8; 4];
        bytes.extend(f32::NAN.to_le_bytes());
        bytes.extend([0; 4]);
        for start in 0..8 {
            let mut shifted = vec![0u8; start];
            shifted.extend(&bytes);
            assert!(!f32s.is_finite(&shifted[start..]), "{start}");
            assert!(f32s.is_finite(&shifted[start..start + 4]), "{start}");
        }
    }
}
