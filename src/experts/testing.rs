//! What tests of the kernels are made of.

use super::block::group_bytes;
use crate::gguf::TensorType;

/// Random bits.
pub(super) fn bits(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Numbers from -1 to 1.
pub(super) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut next = bits(seed);
    (0..n).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Groups of random bits, but with scales that are finite: each F16 of one is from 2⁻¹⁴ to 2, either sign.
pub(super) fn random_rows(ty: TensorType, n_groups: usize, seed: u64) -> Vec<u8> {
    let mut next = bits(seed);
    let mut bytes: Vec<u8> = (0..n_groups * group_bytes(ty)).map(|_| (next() >> 32) as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes() as usize) {
        for place in scale_places(ty) {
            let exponent = 1 + (next() >> 32) as u16 % 15;
            let scale = (next() >> 48) as u16 & 0x83ff | exponent << 10;
            block[*place..place + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if ty == TensorType::IQ1_M {
            // The scale is in the high nibbles of four words: keep its exponent small.
            block[55] &= 0xbf;
        }
    }
    bytes
}

fn scale_places(ty: TensorType) -> &'static [usize] {
    match ty {
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q6_K => &[208],
        TensorType::IQ1_M => &[],
        _ => &[0],
    }
}
