//! Activations to packs, and sums to where they are wanted.

use super::{PACK_TOKENS, PANEL_ROWS, Sums, TILE_BYTES, TILE_K, Tile};
use crate::ggml::{Memory, OutOfMemory, Shared};
use std::arch::x86_64::*;
use std::cell::UnsafeCell;
use std::mem::transmute;

/// Memory for tiles. Pages are not touched before they are used.
pub(in crate::experts) struct Pack {
    memory: Memory,
    n_tiles: usize,
}

impl Pack {
    pub(in crate::experts) fn new(n_tiles: usize) -> Result<Pack, OutOfMemory> {
        Ok(Pack { memory: Memory::zeroed(n_tiles.saturating_mul(TILE_BYTES))?, n_tiles })
    }

    /// All tiles.
    pub(in crate::experts) fn shared(&self) -> Shared<'_, Tile> {
        let first = self.memory.as_ptr().cast::<UnsafeCell<Tile>>();
        // SAFETY: as many tiles, aligned, and reached through promises only.
        unsafe { Shared::from_cells(std::slice::from_raw_parts(first, self.n_tiles)) }
    }
}

/// Tiles `first..first + to.len()` of the pack in BF16 of some rows of activations, at most 16; what is beyond them is 0.
pub(super) fn pack_rows(rows: &[&[f32]], first: usize, to: &mut [Tile]) {
    assert!(rows.len() <= PACK_TOKENS && rows.iter().all(|row| row.len() >= (first + to.len()) * TILE_K));
    for (n, tile) in to.iter_mut().enumerate() {
        // SAFETY: as many values are in each row, and packs are made where the CPU has what they are for only.
        unsafe { pack_tile(rows, (first + n) * TILE_K, tile) };
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack_tile(rows: &[&[f32]], at: usize, tile: &mut Tile) {
    let mut all = [_mm512_setzero_si512(); PACK_TOKENS];
    for (pairs, row) in all.iter_mut().zip(rows) {
        // SAFETY: 32 values from `at` on. Vectors of BF16 are vectors of words.
        *pairs = unsafe {
            let (a, b) = (_mm512_loadu_ps(row.as_ptr().add(at)), _mm512_loadu_ps(row.as_ptr().add(at + 16)));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a))
        };
    }
    for (to, pairs) in tile.as_chunks_mut::<16>().0.iter_mut().zip(transposed(all)) {
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
    }
}

/// Column `n` of 16 rows of 16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    let (mut a, mut b) = ([zero; 16], [zero; 16]);
    for n in 0..8 {
        a[2 * n] = _mm512_unpacklo_epi32(rows[2 * n], rows[2 * n + 1]);
        a[2 * n + 1] = _mm512_unpackhi_epi32(rows[2 * n], rows[2 * n + 1]);
    }
    // Of four rows each: b[4 · n + c] has the columns c, c + 4, c + 8, c + 12 in its lanes.
    for n in 0..4 {
        b[4 * n] = _mm512_unpacklo_epi64(a[4 * n], a[4 * n + 2]);
        b[4 * n + 1] = _mm512_unpackhi_epi64(a[4 * n], a[4 * n + 2]);
        b[4 * n + 2] = _mm512_unpacklo_epi64(a[4 * n + 1], a[4 * n + 3]);
        b[4 * n + 3] = _mm512_unpackhi_epi64(a[4 * n + 1], a[4 * n + 3]);
    }
    let mut columns = [zero; 16];
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0b01_00_01_00);
        let high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0b01_00_01_00);
        columns[c] = _mm512_shuffle_i32x4(low, high, 0b10_00_10_00);
        columns[4 + c] = _mm512_shuffle_i32x4(low, high, 0b11_01_11_01);
        let low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0b11_10_11_10);
        let high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0b11_10_11_10);
        columns[8 + c] = _mm512_shuffle_i32x4(low, high, 0b10_00_10_00);
        columns[12 + c] = _mm512_shuffle_i32x4(low, high, 0b11_01_11_01);
    }
    columns
}

/// The sums of each of `n_tokens` tokens to 16 places, which `to` gives.
pub(in crate::experts) fn store_tile<'o>(sums: &Sums, n_tokens: usize, to: impl Fn(usize) -> &'o mut [f32]) {
    // SAFETY: sums are made where the CPU has what it needs only.
    unsafe { by_token::<false>(sums, n_tokens, to) }
}

/// The same, added to what is there.
pub(in crate::experts) fn add_tile<'o>(sums: &Sums, n_tokens: usize, to: impl Fn(usize) -> &'o mut [f32]) {
    // SAFETY: as above.
    unsafe { by_token::<true>(sums, n_tokens, to) }
}

#[target_feature(enable = "avx512f")]
fn by_token<'o, const ADD: bool>(sums: &Sums, n_tokens: usize, to: impl Fn(usize) -> &'o mut [f32]) {
    // SAFETY: 64 bytes a row.
    let rows = std::array::from_fn(|n| unsafe { _mm512_loadu_si512(sums.0[n].as_ptr().cast()) });
    for (n, column) in transposed(rows).into_iter().enumerate().take(n_tokens) {
        let (to, mut column) = (to(n), _mm512_castsi512_ps(column));
        assert!(to.len() == PANEL_ROWS);
        // SAFETY: 64 bytes.
        unsafe {
            if ADD {
                column = _mm512_add_ps(column, _mm512_loadu_ps(to.as_ptr()));
            }
            _mm512_storeu_ps(to.as_mut_ptr(), column);
        }
    }
}

/// silu(gate) · up · weight, as half a tile of the pack that down is multiplied by: eight pairs of rows.
pub(in crate::experts) fn hidden_tile(gate: &Sums, up: &Sums, weights: &[f32; PACK_TOKENS], to: &mut [u32]) {
    // SAFETY: as above.
    unsafe { gated(gate, up, weights, to) }
}

#[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
fn gated(gate: &Sums, up: &Sums, weights: &[f32; PACK_TOKENS], to: &mut [u32]) {
    assert_eq!(to.len(), PANEL_ROWS / 2 * PACK_TOKENS);
    // SAFETY: 64 bytes each, here and below. Vectors of BF16 are vectors of words.
    let weights = unsafe { _mm512_loadu_ps(weights.as_ptr()) };
    let words = |row: usize| {
        let values = unsafe { gated_row(gate, up, row, weights) };
        _mm512_cvtepu16_epi32(unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) })
    };
    for (pair, to) in to.as_chunks_mut::<PACK_TOKENS>().0.iter_mut().enumerate() {
        let both = _mm512_or_si512(words(2 * pair), _mm512_slli_epi32(words(2 * pair + 1), 16));
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), both) };
    }
}

/// silu(gate) · up · weight, sixteen values of each of `n_tokens` tokens, to the places that `to` gives.
pub(in crate::experts) fn hidden_rows<'o>(
    [gate, up]: [&Sums; 2],
    weights: &[f32; PACK_TOKENS],
    n_tokens: usize,
    to: impl Fn(usize) -> &'o mut [f32],
) {
    let mut all = Sums::ZERO;
    // SAFETY: as above.
    unsafe { gated_rows(gate, up, weights, &mut all) };
    store_tile(&all, n_tokens, to);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn gated_rows(gate: &Sums, up: &Sums, weights: &[f32; PACK_TOKENS], to: &mut Sums) {
    // SAFETY: 64 bytes each.
    let weights = unsafe { _mm512_loadu_ps(weights.as_ptr()) };
    for (row, to) in to.0.iter_mut().enumerate() {
        // SAFETY: as above.
        unsafe { _mm512_store_ps(to.as_mut_ptr(), gated_row(gate, up, row, weights)) };
    }
}

/// # Safety
/// There are sixteen rows.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn gated_row(gate: &Sums, up: &Sums, row: usize, weights: __m512) -> __m512 {
    // SAFETY: 64 bytes each.
    let (gate, up) = unsafe { (_mm512_loadu_ps(gate.0[row].as_ptr()), _mm512_loadu_ps(up.0[row].as_ptr())) };
    _mm512_mul_ps(_mm512_mul_ps(silu(gate), up), weights)
}

/// x / (1 + exp -x), to about seven digits: exp as a power of two and a polynomial for the rest, from -ln 2 / 2 to
/// ln 2 / 2, of Taylor's terms.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn silu(x: __m512) -> __m512 {
    const TERMS: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // ln 2 in two parts, so that the rest is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let negative = _mm512_xor_ps(x, _mm512_set1_ps(-0.0));
    let power = _mm512_roundscale_ps(_mm512_mul_ps(negative, _mm512_set1_ps(std::f32::consts::LOG2_E)), 0);
    let rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN_2[0]), negative);
    let rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN_2[1]), rest);
    let sum =
        TERMS[1..].iter().fold(_mm512_set1_ps(TERMS[0]), |sum, term| _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(*term)));
    _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), _mm512_scalef_ps(sum, power)))
}
