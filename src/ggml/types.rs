//! ggml's tensor types.

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
}
