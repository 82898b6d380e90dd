//! The K types: 256 weights, scales of whole numbers times one or two F16s.

use super::{Codebooks, Unpacked, f16, u32_at};

/// 16 scale bytes (low half scale, high half min) · 64 bytes of 2 bits · d · dmin
pub(super) fn q2_k(block: &[u8], _: &Codebooks, out: &mut Unpacked) {
    let (d, dmin) = (f16(block, 80), f16(block, 82));
    for (n, byte) in block[..16].iter().enumerate() {
        out.scale[n] = d * f32::from(byte & 15);
        out.min[n] = -dmin * f32::from(byte >> 4);
    }
    for (i, q) in out.q.iter_mut().enumerate() {
        *q = (two_bits(&block[16..], i)) as i8;
    }
}

/// Two bits of weight `i`: each 32 bytes hold 128 weights, in four layers.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3
}

/// 32 bytes of high bits · 64 bytes of 2 bits · 16 scales of 6 bits · d
pub(super) fn q3_k(block: &[u8], _: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 108);
    let scales = &block[96..108];
    for n in 0..16 {
        let low = scales[n % 8] >> (4 * (n / 8)) & 15;
        let high = scales[8 + n % 4] >> (2 * (n / 4)) & 3;
        out.scale[n] = d * f32::from((low | high << 4) as i8 - 32);
        out.min[n] = 0.0;
    }
    for (i, q) in out.q.iter_mut().enumerate() {
        let high = block[i % 32] >> (i / 32) & 1;
        *q = (two_bits(&block[32..], i) | high << 2) as i8 - 4;
    }
}

/// Scale and min of 32 weights, of 6 bits, in 12 bytes.
fn scale_and_min(bytes: &[u8], n: usize) -> (u8, u8) {
    if n < 4 {
        return (bytes[n] & 63, bytes[n + 4] & 63);
    }
    (bytes[n + 4] & 15 | bytes[n - 4] >> 6 << 4, bytes[n + 4] >> 4 | bytes[n] >> 6 << 4)
}

/// d · dmin · 12 bytes of scales and mins · what follows
fn eight_scales(block: &[u8], out: &mut Unpacked) {
    let (d, dmin) = (f16(block, 0), f16(block, 2));
    for n in 0..16 {
        let (scale, min) = scale_and_min(&block[4..16], n / 2);
        out.scale[n] = d * f32::from(scale);
        out.min[n] = -dmin * f32::from(min);
    }
}

/// Four bits of weight `i`: each 32 bytes hold 64 weights.
fn four_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[32 * (i / 64) + i % 32] >> (4 * (i % 64 / 32)) & 15
}

/// d · dmin · scales · 128 bytes of 4 bits
pub(super) fn q4_k(block: &[u8], _: &Codebooks, out: &mut Unpacked) {
    eight_scales(block, out);
    for (i, q) in out.q.iter_mut().enumerate() {
        *q = four_bits(&block[16..], i) as i8;
    }
}

/// d · dmin · scales · 32 bytes of high bits · 128 bytes of 4 bits
pub(super) fn q5_k(block: &[u8], _: &Codebooks, out: &mut Unpacked) {
    eight_scales(block, out);
    for (i, q) in out.q.iter_mut().enumerate() {
        let high = block[16 + i % 32] >> (i / 32) & 1;
        *q = (four_bits(&block[48..], i) | high << 4) as i8;
    }
}

/// 128 bytes of 4 bits · 64 bytes of 2 bits · 16 scales of 8 bits · d
pub(super) fn q6_k(block: &[u8], _: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 208);
    for n in 0..16 {
        out.scale[n] = d * f32::from(block[192 + n] as i8);
        out.min[n] = 0.0;
    }
    for (i, q) in out.q.iter_mut().enumerate() {
        // Each 64 bytes hold 128 weights.
        let low = block[64 * (i / 128) + i % 64] >> (4 * (i % 128 / 64)) & 15;
        *q = (low | two_bits(&block[128..], i) << 4) as i8 - 32;
    }
}

/// The scales of Q3_K as 16 bytes, in order, 32 too large.
#[inline]
pub(in crate::experts) fn q3_k_scales(bytes: &[u8]) -> u128 {
    const LOW: u32 = 0x0f0f_0f0f;
    const HIGH: u32 = 0x0303_0303;
    let (a, b, high) = (u32_at(bytes, 0), u32_at(bytes, 4), u32_at(bytes, 8));
    let words = [
        a & LOW | (high & HIGH) << 4,
        b & LOW | (high >> 2 & HIGH) << 4,
        a >> 4 & LOW | (high >> 4 & HIGH) << 4,
        b >> 4 & LOW | (high >> 6 & HIGH) << 4,
    ];
    (0..).zip(words).fold(0, |all, (n, word)| all | u128::from(word) << (32 * n))
}

/// Scales and mins of Q4_K and Q5_K as 8 bytes each, in order.
#[inline]
pub(in crate::experts) fn eight_scales_and_mins(bytes: &[u8]) -> (u64, u64) {
    const SIX: u32 = 0x3f3f_3f3f;
    const LOW: u32 = 0x0f0f_0f0f;
    const HIGH: u32 = 0x0303_0303;
    let (scale, min, more) = (u32_at(bytes, 0), u32_at(bytes, 4), u32_at(bytes, 8));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (
        join(scale & SIX, more & LOW | (scale >> 6 & HIGH) << 4),
        join(min & SIX, more >> 4 & LOW | (min >> 6 & HIGH) << 4),
    )
}
