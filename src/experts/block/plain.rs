//! The types of 32 weights with one F16 scale; a group is eight blocks.

use super::{Codebooks, Unpacked, f16, u32_at};

fn blocks(group: &[u8], bytes: usize, out: &mut Unpacked, mut weights: impl FnMut(&[u8], &mut [i8])) {
    for (n, (block, q)) in group.chunks_exact(bytes).zip(out.q.chunks_exact_mut(32)).enumerate() {
        out.scale[2 * n..2 * n + 2].fill(f16(block, 0));
        out.min[2 * n..2 * n + 2].fill(0.0);
        weights(&block[2..], q);
    }
}

/// The low nibbles, then the high ones.
fn nibbles(bytes: &[u8], i: usize) -> u8 {
    bytes[i % 16] >> (4 * (i / 16)) & 15
}

pub(super) fn q4_0(group: &[u8], _: &Codebooks, out: &mut Unpacked) {
    blocks(group, 18, out, |block, q| (0..32).for_each(|i| q[i] = nibbles(block, i) as i8 - 8));
}

pub(super) fn q5_0(group: &[u8], _: &Codebooks, out: &mut Unpacked) {
    blocks(group, 22, out, |block, q| {
        let high = u32_at(block, 0);
        (0..32).for_each(|i| q[i] = (nibbles(&block[4..], i) | ((high >> i & 1) as u8) << 4) as i8 - 16);
    });
}

pub(super) fn q8_0(group: &[u8], _: &Codebooks, out: &mut Unpacked) {
    blocks(group, 34, out, |block, q| (0..32).for_each(|i| q[i] = block[i] as i8));
}

pub(super) fn iq4_nl(group: &[u8], books: &Codebooks, out: &mut Unpacked) {
    blocks(group, 18, out, |block, q| (0..32).for_each(|i| q[i] = books.iq4[usize::from(nibbles(block, i))]));
}
