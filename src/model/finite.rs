//! Whether stored weights are numbers: no NaN and no infinity among values or scales.
//!
//! ggml has such a check too, but it prints what it finds; a test holds this one against it.

use super::scales::{f16_is_bad, f32_is_bad, scales};
use crate::gguf::TensorType;

/// The first block of `data` that holds a NaN or an infinity; `data` is whole blocks of `ty`.
pub(crate) fn first_bad_block(ty: TensorType, data: &[u8]) -> Option<usize> {
    let mut blocks = data.chunks_exact(ty.block_bytes() as usize);
    match ty {
        TensorType::F32 => blocks.position(|block| f32_is_bad(block, 0)),
        // Computed with as f32: what overflows there is infinite.
        TensorType::F64 => {
            blocks.position(|block| block.first_chunk().is_some_and(|b| !(f64::from_le_bytes(*b) as f32).is_finite()))
        }
        TensorType::F16 => blocks.position(|block| f16_is_bad(block, 0)),
        TensorType::BF16 => {
            blocks.position(|block| matches!(block, [low, high] if high & 0x7f == 0x7f && low & 0x80 == 0x80))
        }
        _ => match scales(ty) {
            [] => None,
            [scale] => blocks.position(|block| scale.is_bad(block)),
            scales => blocks.position(|block| scales.iter().any(|scale| scale.is_bad(block))),
        },
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn ggml_says_finite(ty: TensorType, data: &[u8]) -> bool {
        // SAFETY: a known type, and readable data of whole blocks.
        unsafe { ggml_sys::ggml_validate_row_data(ty.id(), data.as_ptr().cast(), data.len()) }
    }

    /// Each byte of a block in turn becomes the upper byte of every kind of infinity and NaN.
    #[test]
    fn every_format_is_judged_as_ggml_judges_it() {
        for ty in TensorType::ALL.iter().copied().filter(|ty| *ty != TensorType::Q8_1) {
            let block = ty.block_bytes() as usize;
            let mut bad = 0;
            for at in 0..block {
                for (low, high) in [(0x00, 0x7c), (0x01, 0xfc), (0x80, 0x7f), (0xc0, 0xff), (0xff, 0xff), (0xf0, 0x70)]
                {
                    // In the second of three blocks.
                    let mut data = vec![0u8; block * 3];
                    data[block + at] = high;
                    if at > 0 {
                        data[block + at - 1] = low;
                    }
                    let found = first_bad_block(ty, &data);
                    assert_eq!(found.is_none(), ggml_says_finite(ty, &data), "{ty} byte {at}: {low:#x} {high:#x}");
                    assert!(found.is_none() || found == Some(1), "{ty} byte {at}: block {found:?}");
                    bad += usize::from(found.is_some());
                }
            }
            let always_finite = ["I8", "I16", "I32", "I64", "NVFP4", "IQ1_M"].contains(&ty.name());
            assert!(bad > 0 || always_finite, "{ty}: nothing was found");
        }
    }

    /// The scale of IQ1_M and both of Q8_1, which ggml does not judge, need more than two bytes.
    #[test]
    fn spread_scales() {
        let mut block = [0u8; 56];
        block[53] = 0xc0;
        block[55] = 0x70;
        assert_eq!(first_bad_block(TensorType::IQ1_M, &block), Some(0));
        assert!(!ggml_says_finite(TensorType::IQ1_M, &block));
        block[53] = 0x80;
        assert_eq!(first_bad_block(TensorType::IQ1_M, &block), None);
        assert!(ggml_says_finite(TensorType::IQ1_M, &block));
        let mut block = [0u8; 36];
        block[3] = 0x7c;
        assert_eq!(first_bad_block(TensorType::Q8_1, &block), Some(0));
    }
}
