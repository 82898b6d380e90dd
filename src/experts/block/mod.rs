//! What blocks of weights mean, as plain code: one function a type, from 256 stored weights to whole numbers
//! with scales. The kernels in the other files are held against these, and these against ggml's decoder.
//!
//! Formats are ggml's (`ggml-common.h` describes the layouts, `ggml-quants.c` what they are worth).

mod codebook;
mod iq;
mod k;
mod plain;

pub(super) use codebook::{Codebooks, codebooks};
pub(super) use iq::iq1_m_d;
pub(super) use k::{eight_scales_and_mins, q3_k_scales};

use crate::gguf::TensorType;

/// Weights that are unpacked at a time: a block of a K or IQ type, eight of the types with 32.
pub(super) const GROUP: usize = 256;
/// Weights of a group that share a scale.
pub(super) const SUB: usize = 16;

/// A group: weight `i` is `scale[i / 16] · q[i] + min[i / 16]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unpacked {
    pub(super) q: [i8; GROUP],
    pub(super) scale: [f32; GROUP / SUB],
    pub(super) min: [f32; GROUP / SUB],
}

impl Unpacked {
    pub(super) const ZERO: Unpacked = Unpacked { q: [0; GROUP], scale: [0.0; GROUP / SUB], min: [0.0; GROUP / SUB] };
}

/// From the bytes of a group to its weights.
pub(super) type Unpack = fn(&[u8], &Codebooks, &mut Unpacked);

/// Bytes of a group of a type that has one.
pub(super) const fn group_bytes(ty: TensorType) -> usize {
    ty.block_bytes() as usize * (GROUP / ty.block_len() as usize)
}

/// `None` for types that are no whole numbers with scales.
pub(super) fn unpacker(ty: TensorType) -> Option<Unpack> {
    Some(match ty {
        TensorType::IQ1_S => iq::iq1_s,
        TensorType::IQ1_M => iq::iq1_m,
        TensorType::IQ2_XXS => iq::iq2_xxs,
        TensorType::IQ2_XS => iq::iq2_xs,
        TensorType::IQ2_S => iq::iq2_s,
        TensorType::IQ3_XXS => iq::iq3_xxs,
        TensorType::IQ3_S => iq::iq3_s,
        TensorType::IQ4_XS => iq::iq4_xs,
        TensorType::IQ4_NL => plain::iq4_nl,
        TensorType::Q2_K => k::q2_k,
        TensorType::Q3_K => k::q3_k,
        TensorType::Q4_K => k::q4_k,
        TensorType::Q5_K => k::q5_k,
        TensorType::Q6_K => k::q6_k,
        TensorType::Q4_0 => plain::q4_0,
        TensorType::Q5_0 => plain::q5_0,
        TensorType::Q8_0 => plain::q8_0,
        _ => return None,
    })
}

/// The F16 at a byte.
fn f16(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Seven signs and the eighth, which makes their number even.
fn even_signs(seven: u32) -> u8 {
    let seven = seven as u8 & 0x7f;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::TYPES;
    use crate::experts::testing::random_rows;
    use crate::ggml::dequantize;

    /// ggml multiplies scales in another order, so a value may differ by its last bits.
    #[test]
    fn groups_are_worth_what_ggml_says() {
        for ty in TYPES {
            let unpack = unpacker(ty).unwrap();
            let bytes = random_rows(ty, 64, 11);
            let mut expected = vec![0.0; 64 * GROUP];
            dequantize(ty, &bytes, &mut expected).unwrap();
            let mut group = Unpacked::ZERO;
            for (n, (bytes, expected)) in bytes.chunks(group_bytes(ty)).zip(expected.chunks(GROUP)).enumerate() {
                unpack(bytes, codebooks(), &mut group);
                let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
                for (i, expected) in expected.iter().enumerate() {
                    let value = group.scale[i / SUB] * f32::from(group.q[i]) + group.min[i / SUB];
                    assert!((value - expected).abs() <= 1e-6 * largest, "{ty} group {n}, {i}: {value}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn signs_are_even() {
        assert_eq!(even_signs(0), 0);
        assert_eq!(even_signs(1), 0x81);
        assert_eq!(even_signs(0b11), 0b11);
        assert!((0..128).all(|seven| even_signs(seven).count_ones().is_multiple_of(2)));
    }
}
