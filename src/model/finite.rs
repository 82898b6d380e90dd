//! Whether stored weights are numbers: no NaN and no infinity among values or scales.
//!
//! Knows where each block format keeps its scales, and no more of it. ggml has such a check too, but
//! it prints what it finds; a test holds this one against it.

use crate::gguf::TensorType;

/// The first block of `data` that holds a NaN or an infinity; `data` is whole blocks of `ty`.
pub(super) fn first_bad_block(ty: TensorType, data: &[u8]) -> Option<usize> {
    let is_bad: fn(&[u8]) -> bool = match ty {
        TensorType::F32 => |block| f32_at(block, 0),
        // Computed with as f32: what overflows there is infinite.
        TensorType::F64 => |block| block.first_chunk().is_some_and(|b| !(f64::from_le_bytes(*b) as f32).is_finite()),
        TensorType::F16 => |block| f16_at(block, 0),
        TensorType::BF16 => |block| matches!(block, [low, high] if high & 0x7f == 0x7f && low & 0x80 == 0x80),
        TensorType::Q4_0
        | TensorType::Q5_0
        | TensorType::Q8_0
        | TensorType::Q1_0
        | TensorType::Q2_0
        | TensorType::IQ1_S
        | TensorType::IQ2_XXS
        | TensorType::IQ2_XS
        | TensorType::IQ2_S
        | TensorType::IQ3_XXS
        | TensorType::IQ3_S
        | TensorType::IQ4_NL
        | TensorType::IQ4_XS => |block| f16_at(block, 0),
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q8_1 | TensorType::Q4_K | TensorType::Q5_K => {
            |block| f16_at(block, 0) || f16_at(block, 2)
        }
        TensorType::Q2_K => |block| f16_at(block, 80) || f16_at(block, 82),
        TensorType::Q3_K => |block| f16_at(block, 108),
        TensorType::Q6_K => |block| f16_at(block, 208),
        TensorType::Q8_K => |block| f32_at(block, 0),
        TensorType::IQ1_M => iq1_m,
        TensorType::TQ1_0 => |block| f16_at(block, 52),
        TensorType::TQ2_0 => |block| f16_at(block, 64),
        // An exponent of all ones is the NaN of E8M0.
        TensorType::MXFP4 => |block| block.first() == Some(&0xff),
        // ggml reads every bit pattern of its E4M3 scales as a number.
        TensorType::NVFP4 => return None,
        TensorType::I8 | TensorType::I16 | TensorType::I32 | TensorType::I64 => return None,
    };
    data.chunks_exact(ty.block_bytes() as usize).position(is_bad)
}

/// The scale is spread over the upper four bits of the four 16-bit words that end the block.
fn iq1_m(block: &[u8]) -> bool {
    let nibble = |at: usize| block.get(at).map_or(0, |byte| byte >> 4);
    let (low, high) = (nibble(49) | nibble(51) << 4, nibble(53) | nibble(55) << 4);
    f16_at(&[low, high], 0)
}

/// Whether the f16 at this offset has all exponent bits set.
fn f16_at(block: &[u8], at: usize) -> bool {
    block.get(at + 1).is_some_and(|high| high & 0x7c == 0x7c)
}

/// Whether the f32 at this offset has all exponent bits set.
fn f32_at(block: &[u8], at: usize) -> bool {
    matches!(block.get(at + 2..at + 4), Some([low, high]) if high & 0x7f == 0x7f && low & 0x80 == 0x80)
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
