//! Tiles by vectors: AVX512-BF16.

use super::{PACK_TOKENS, PANEL_ROWS, Sums, TILE_K};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Adds a panel times a pack, of `n_k` tiles each.
///
/// # Safety
/// Both have so many tiles, and the CPU has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn multiply(panel: *const u16, pack: *const u32, n_k: usize, sums: &mut Sums) {
    // SAFETY: 64 bytes each.
    let mut all: [__m512; PANEL_ROWS] = std::array::from_fn(|row| unsafe { _mm512_loadu_ps(sums.0[row].as_ptr()) });
    for k in 0..n_k {
        // SAFETY: tile `k` of `n_k`.
        let (panel, pack) = unsafe { (panel.add(k * PANEL_ROWS * TILE_K), pack.add(k * PACK_TOKENS * TILE_K / 2)) };
        for pair in 0..TILE_K / 2 {
            // SAFETY: a row of a tile of the pack, and a pair of each row of one of the panel. Vectors of BF16 are vectors
            // of words.
            unsafe {
                let tokens: __m512bh = transmute(_mm512_loadu_si512(pack.add(PACK_TOKENS * pair).cast()));
                for (row, sum) in all.iter_mut().enumerate() {
                    let weights = panel.add(row * TILE_K + 2 * pair).cast::<i32>().read_unaligned();
                    *sum = _mm512_dpbf16_ps(*sum, tokens, transmute::<__m512i, __m512bh>(_mm512_set1_epi32(weights)));
                }
            }
        }
    }
    for (to, sum) in sums.0.iter_mut().zip(all) {
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sum) };
    }
}
