//! Where each block format keeps its scales: the floats that the block's small numbers are multiplied
//! by, or that are added to them.
//!
//! Knows nothing else of the formats, and no scale that is not a float.

use crate::gguf::TensorType;

/// A scale of a block, by the byte where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    F16(usize),
    F32(usize),
    /// An f16 in pieces: the upper four bits of the four 16-bit words that begin here, lowest first.
    Spread(usize),
    /// A power of two; all bits set are the NaN of E8M0.
    E8M0(usize),
}

/// The scales of a type's blocks: first what multiplies, then what is added. None where a block is a
/// number by itself, and for NVFP4, of whose scales ggml reads every bit pattern as a number.
pub(crate) fn scales(ty: TensorType) -> &'static [Scale] {
    use Scale::{E8M0, F16, F32, Spread};
    match ty {
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
        | TensorType::IQ4_XS => &[F16(0)],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q8_1 | TensorType::Q4_K | TensorType::Q5_K => {
            &[F16(0), F16(2)]
        }
        TensorType::Q2_K => &[F16(80), F16(82)],
        TensorType::Q3_K => &[F16(108)],
        TensorType::Q6_K => &[F16(208)],
        TensorType::Q8_K => &[F32(0)],
        TensorType::IQ1_M => &[Spread(48)],
        TensorType::TQ1_0 => &[F16(52)],
        TensorType::TQ2_0 => &[F16(64)],
        TensorType::MXFP4 => &[E8M0(0)],
        TensorType::NVFP4
        | TensorType::F32
        | TensorType::F64
        | TensorType::F16
        | TensorType::BF16
        | TensorType::I8
        | TensorType::I16
        | TensorType::I32
        | TensorType::I64 => &[],
    }
}

impl Scale {
    /// Whether the scale in `block` is a NaN or an infinity.
    pub(crate) fn is_bad(self, block: &[u8]) -> bool {
        match self {
            Scale::F16(at) => f16_is_bad(block, at),
            Scale::F32(at) => f32_is_bad(block, at),
            Scale::Spread(_) => self.f16_bits(block).is_some_and(|bits| f16_is_bad(&bits.to_le_bytes(), 0)),
            Scale::E8M0(at) => block.get(at) == Some(&0xff),
        }
    }

    /// The scale in `block`; `None` where it is no f16.
    pub(crate) fn f16_bits(self, block: &[u8]) -> Option<u16> {
        match self {
            Scale::F16(at) => Some(u16::from_le_bytes([*block.get(at)?, *block.get(at + 1)?])),
            Scale::Spread(at) => {
                let [_, a, _, b, _, c, _, d] = *block.get(at..)?.first_chunk()?;
                Some(u16::from_le_bytes([a >> 4 | b & 0xf0, c >> 4 | d & 0xf0]))
            }
            Scale::F32(_) | Scale::E8M0(_) => None,
        }
    }

    /// Writes the scale into `block`; `None` where it is no f16.
    pub(crate) fn set_f16_bits(self, block: &mut [u8], bits: u16) -> Option<()> {
        match self {
            Scale::F16(at) => *block.get_mut(at..)?.first_chunk_mut()? = bits.to_le_bytes(),
            Scale::Spread(at) => {
                let [_, a, _, b, _, c, _, d] = block.get_mut(at..)?.first_chunk_mut()?;
                let [low, high] = bits.to_le_bytes();
                for (byte, upper) in [(a, low << 4), (b, low & 0xf0), (c, high << 4), (d, high & 0xf0)] {
                    *byte = *byte & 0x0f | upper;
                }
            }
            Scale::F32(_) | Scale::E8M0(_) => return None,
        }
        Some(())
    }
}

/// Whether the f16 at this offset has all exponent bits set.
pub(super) fn f16_is_bad(block: &[u8], at: usize) -> bool {
    block.get(at + 1).is_some_and(|high| high & 0x7c == 0x7c)
}

/// Whether the f32 at this offset has all exponent bits set.
pub(super) fn f32_is_bad(block: &[u8], at: usize) -> bool {
    matches!(block.get(at + 2..at + 4), Some([low, high]) if high & 0x7f == 0x7f && low & 0x80 == 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_that_is_set_is_read_and_nothing_else_changes() {
        for ty in TensorType::ALL.iter().copied() {
            for scale in scales(ty) {
                let block: Vec<u8> = (0..ty.block_bytes()).map(|i| (i * 37 + 11) as u8).collect();
                let mut changed = block.clone();
                if scale.set_f16_bits(&mut changed, 0x5a3c).is_none() {
                    assert!(matches!(scale, Scale::F32(_) | Scale::E8M0(_)), "{ty}");
                    continue;
                }
                assert_eq!(scale.f16_bits(&changed), Some(0x5a3c), "{ty}");
                scale.set_f16_bits(&mut changed, scale.f16_bits(&block).unwrap()).unwrap();
                assert_eq!(changed, block, "{ty}");
            }
        }
        assert_eq!(Scale::F16(3).f16_bits(&[0; 4]), None, "beyond the end");
        assert_eq!(Scale::Spread(0).set_f16_bits(&mut [0; 7], 1), None);
    }
}
