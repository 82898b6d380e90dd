//! The IQ types of 256 weights: indices into codebooks, signs, scales of four bits.

use super::{Codebooks, GROUP, Unpacked, even_signs, f16, u16_at, u32_at};

/// Scales and mins that are the same for 32 weights.
fn set_scale(out: &mut Unpacked, n: usize, scale: f32) {
    out.scale[2 * n..2 * n + 2].fill(scale);
    out.min[2 * n..2 * n + 2].fill(0.0);
}

/// Eight weights, those with a bit in `signs` negative.
fn set_signed(out: &mut Unpacked, eight: usize, amounts: impl IntoIterator<Item = i8>, signs: u8) {
    for (j, (q, amount)) in out.q[8 * eight..][..8].iter_mut().zip(amounts).enumerate() {
        *q = if signs >> j & 1 == 1 { -amount } else { amount };
    }
}

/// d · 32 bytes of indices · 8 u16 of four times 3 more bits of index, 3 bits of scale, a sign for the shift
pub(super) fn iq1_s(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 0);
    for n in 0..8 {
        let high = u16_at(block, 34 + 2 * n);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        set_scale(out, n, scale);
        let shift = if high >> 15 == 1 { -0.125 } else { 0.125 };
        out.min[2 * n..2 * n + 2].fill(scale * shift);
        for l in 0..4 {
            let index = usize::from(block[2 + 4 * n + l]) | usize::from(high >> (3 * l) & 7) << 8;
            out.q[32 * n + 8 * l..][..8].copy_from_slice(&books.iq1[index]);
        }
    }
}

/// 32 bytes of indices · 32 nibbles of 3 more bits of index and a sign for the shift · 16 scales of 3 bits in
/// 4 u16, whose high nibbles are d
pub(super) fn iq1_m(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let scales: [u16; 4] = std::array::from_fn(|n| u16_at(block, 48 + 2 * n));
    let d = half::f16::from_bits(iq1_m_d(scales)).to_f32();
    for n in 0..16 {
        // The shift is an eighth, and differs within a scale: numbers are eight times as large instead.
        out.scale[n] = d * f32::from(2 * (scales[n / 4] >> (3 * (n % 4)) & 7) + 1) / 8.0;
        out.min[n] = 0.0;
    }
    for eight in 0..32 {
        let nibble = block[32 + eight / 2] >> (4 * (eight % 2)) & 15;
        let entry = &books.iq1[usize::from(block[eight]) | usize::from(nibble & 7) << 8];
        let shift = if nibble >> 3 == 1 { -1 } else { 1 };
        for (q, value) in out.q[8 * eight..][..8].iter_mut().zip(entry) {
            *q = 8 * value + shift;
        }
    }
}

/// The F16 in the high nibbles of the four scale words.
#[inline]
pub(in crate::experts) fn iq1_m_d(scales: [u16; 4]) -> u16 {
    scales[0] >> 12 | scales[1] >> 8 & 0xf0 | scales[2] >> 4 & 0xf00 | scales[3] & 0xf000
}

/// d · 8 times: 4 indices, four times 7 signs and 4 bits of scale
pub(super) fn iq2_xxs(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 0);
    for n in 0..8 {
        let (indices, more) = (&block[2 + 8 * n..][..4], u32_at(block, 6 + 8 * n));
        set_scale(out, n, d * (0.5 + (more >> 28) as f32) * 0.25);
        for (l, index) in indices.iter().enumerate() {
            let signs = even_signs(more >> (7 * l));
            set_signed(out, 4 * n + l, books.iq2_xxs[usize::from(*index)], signs);
        }
    }
}

/// Scales of four bits, each for 16 weights.
fn nibble_scales(d: f32, scales: &[u8], out: &mut Unpacked) {
    for n in 0..16 {
        let scale = scales[n / 2] >> (4 * (n % 2)) & 15;
        out.scale[n] = d * (0.5 + f32::from(scale)) * 0.25;
        out.min[n] = 0.0;
    }
}

/// d · 32 u16 of 9 bits of index and 7 signs · 16 scales of 4 bits
pub(super) fn iq2_xs(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    nibble_scales(f16(block, 0), &block[66..74], out);
    for eight in 0..32 {
        let word = u16_at(block, 2 + 2 * eight);
        let amounts = books.iq2_xs[usize::from(word & 511)];
        set_signed(out, eight, amounts, even_signs(u32::from(word >> 9)));
    }
}

/// d · 32 bytes of indices · 32 bytes of signs · 32 times 2 more bits of index · 16 scales of 4 bits
pub(super) fn iq2_s(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    nibble_scales(f16(block, 0), &block[74..82], out);
    for eight in 0..32 {
        let high = block[66 + eight / 4] >> (2 * (eight % 4)) & 3;
        let amounts = books.iq2_s[usize::from(block[2 + eight]) | usize::from(high) << 8];
        set_signed(out, eight, amounts, block[34 + eight]);
    }
}

/// d · 64 bytes of indices · 8 times four times 7 signs and 4 bits of scale
pub(super) fn iq3_xxs(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 0);
    for n in 0..8 {
        let more = u32_at(block, 66 + 4 * n);
        set_scale(out, n, d * (0.5 + (more >> 28) as f32) * 0.5);
        for l in 0..4 {
            let pair = &block[2 + 8 * n + 2 * l..][..2];
            let amounts = pair.iter().flat_map(|index| books.iq3_xxs[usize::from(*index)]);
            set_signed(out, 4 * n + l, amounts, even_signs(more >> (7 * l)));
        }
    }
}

/// d · 64 bytes of indices · 64 more bits of index · 32 bytes of signs · 8 scales of 4 bits
pub(super) fn iq3_s(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let d = f16(block, 0);
    for n in 0..8 {
        let scale = block[106 + n / 2] >> (4 * (n % 2)) & 15;
        set_scale(out, n, d * f32::from(1 + 2 * scale));
    }
    for eight in 0..GROUP / 8 {
        let amounts = (2 * eight..2 * eight + 2).flat_map(|four| {
            let high = block[66 + four / 8] >> (four % 8) & 1;
            books.iq3_s[usize::from(block[2 + four]) | usize::from(high) << 8]
        });
        set_signed(out, eight, amounts, block[74 + eight]);
    }
}

/// d · 8 times 2 high bits of scale · 8 nibbles of scale · 128 bytes of 4 bits
pub(super) fn iq4_xs(block: &[u8], books: &Codebooks, out: &mut Unpacked) {
    let (d, high) = (f16(block, 0), u16_at(block, 2));
    for n in 0..8 {
        let low = block[4 + n / 2] >> (4 * (n % 2)) & 15;
        let scale = i16::from(low) | ((high >> (2 * n) & 3) << 4) as i16;
        set_scale(out, n, d * f32::from(scale - 32));
        for (j, byte) in block[8 + 16 * n..][..16].iter().enumerate() {
            out.q[32 * n + j] = books.iq4[usize::from(byte & 15)];
            out.q[32 * n + 16 + j] = books.iq4[usize::from(byte >> 4)];
        }
    }
}
