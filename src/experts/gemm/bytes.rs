//! Whole numbers by vectors: AVX512-VNNI. A panel is the numbers of 16 rows with their scales, a pack is the activations
//! of 16 tokens as eight bits for 256 values, [64 quads][16 tokens][4]: each four numbers of a row are multiplied by
//! a quad of all tokens at once.
//!
//! Numbers are without sign. By how much they are too large, if it is the same for all, the sums begin below 0; mins
//! that differ are one more product, with the sums of the activations.

use super::pack::transposed;
use super::{GROUP_TILES, PACK_TOKENS, PANEL_ROWS, Sums, TILE_BYTES};
use crate::experts::activation::{Group, Order, SUBS};
use crate::experts::block::{GROUP, SUB};
use std::arch::x86_64::*;

/// A group of 16 rows: number `i` of a run, less `offset`, times the run's scale; and the run's min times `d_min`.
#[repr(C, align(64))]
pub(in crate::experts) struct Panel {
    /// In the order of places.
    pub(in crate::experts) u: [[u8; GROUP]; PANEL_ROWS],
    /// One for each place.
    pub(in crate::experts) scales: [[f32; SUBS]; PANEL_ROWS],
    /// One for each run.
    pub(in crate::experts) mins: [[i16; SUBS]; PANEL_ROWS],
    pub(in crate::experts) d_min: [f32; PANEL_ROWS],
    pub(in crate::experts) kind: Kind,
}

/// What all groups of a type have in common.
#[derive(Debug, Clone, Copy)]
pub(in crate::experts) struct Kind {
    pub(in crate::experts) order: Order,
    pub(in crate::experts) offset: u8,
    /// Whether runs of 32 have one scale, and lie side by side.
    pub(in crate::experts) is_wide: bool,
    pub(in crate::experts) has_mins: bool,
}

/// A group of 16 tokens.
#[repr(C, align(64))]
struct Pack {
    q: [[[i8; 4]; PACK_TOKENS]; GROUP / 4],
    /// Of two runs each.
    sums: [[[i16; 2]; PACK_TOKENS]; SUBS / 2],
    d: [f32; PACK_TOKENS],
}

/// Tiles of a pack's group.
pub(super) const PACK_TILES: usize = size_of::<Pack>().div_ceil(TILE_BYTES);

const _: () = assert!(size_of::<Panel>() <= GROUP_TILES * TILE_BYTES);

/// Rows whose sums are in registers.
const ROWS: usize = 8;

/// A group of some rows of activations, at most 16, to a pack's tiles; what is beyond them is 0.
///
/// # Safety
/// The CPU has AVX-512, and `to` has [`PACK_TILES`] tiles.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack(rows: &[&[f32]], group: usize, to: *mut u32) {
    let mut groups = [Group::ZERO; PACK_TOKENS];
    for (to, row) in groups.iter_mut().zip(rows) {
        to.set(&row.as_chunks::<GROUP>().0[group], Order::Natural);
    }
    // SAFETY: as the caller says, and vectors are as long as what they are read from and written to.
    unsafe {
        let to = &mut *to.cast::<Pack>();
        for (part, quads) in to.q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let rows = groups.each_ref().map(|group| _mm512_loadu_si512(group.q.as_ptr().add(64 * part).cast()));
            for (quad, column) in quads.iter_mut().zip(transposed(rows)) {
                _mm512_store_si512(quad.as_mut_ptr().cast(), column);
            }
        }
        let rows =
            groups.each_ref().map(|group| _mm512_zextsi256_si512(_mm256_loadu_si256(group.sums.as_ptr().cast())));
        for (sums, column) in to.sums.iter_mut().zip(transposed(rows)) {
            _mm512_store_si512(sums.as_mut_ptr().cast(), column);
        }
        to.d = groups.each_ref().map(|group| group.d);
    }
}

/// Adds a panel's group times a pack's, of which only the first `n_tokens` are wanted.
///
/// # Safety
/// They point to a [`Panel`] and to what [`pack`] wrote; the CPU has AVX512-VNNI.
pub(super) unsafe fn multiply(panel: *const u16, pack: *const u32, n_tokens: usize, sums: &mut Sums) {
    // SAFETY: the caller's word.
    unsafe {
        let (panel, pack) = (&*panel.cast::<Panel>(), &*pack.cast::<Pack>());
        // CPUs whose vectors of 512 bits take two steps do half of the tokens in one.
        match (n_tokens <= PACK_TOKENS / 2, panel.kind.is_wide, panel.kind.has_mins) {
            (false, true, true) => sixteen::rows::<true, true>(panel, pack, sums),
            (false, true, false) => sixteen::rows::<true, false>(panel, pack, sums),
            (false, false, true) => sixteen::rows::<false, true>(panel, pack, sums),
            (false, false, false) => sixteen::rows::<false, false>(panel, pack, sums),
            (true, true, true) => eight::rows::<true, true>(panel, pack, sums),
            (true, true, false) => eight::rows::<true, false>(panel, pack, sums),
            (true, false, true) => eight::rows::<false, true>(panel, pack, sums),
            (true, false, false) => eight::rows::<false, false>(panel, pack, sums),
        }
    }
}

/// Rows times tokens, a token in each of a vector's dwords; the instructions are those of the vectors' length.
macro_rules! rows {
    (
        $zero:ident, $zero_ps:ident, $load:ident, $load_ps:ident, $store_ps:ident, $set:ident, $set_ps:ident,
        $dot_words:ident, $dot_bytes:ident, $float:ident, $mul:ident, $fmadd:ident
    ) => {
        #[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
        pub(super) unsafe fn rows<const WIDE: bool, const MINS: bool>(panel: &Panel, pack: &Pack, sums: &mut Sums) {
            let (runs, zero) = (panel.kind.order.runs(), $zero());
            let less = -i32::from(panel.kind.offset);
            // For the sums of two runs: of both, of the first, of the second.
            let [low, high] = [less & 0xffff, less << 16];
            let offsets = [low | high, low, high].map(|both| $set(both));
            for first in (0..PANEL_ROWS).step_by(ROWS) {
                let mut all = [$zero_ps(); ROWS];
                // SAFETY: four numbers, or two mins, are read at a time within their rows, and vectors within arrays that
                // are at least as long.
                unsafe {
                    if MINS {
                        let mut by_mins = [zero; ROWS];
                        for (pair, sums) in pack.sums.iter().enumerate() {
                            let sums = $load(sums.as_ptr().cast());
                            for (row, sum) in by_mins.iter_mut().enumerate() {
                                let mins = panel.mins[first + row].as_ptr().add(2 * pair).cast::<i32>().read();
                                *sum = $dot_words(*sum, sums, $set(mins));
                            }
                        }
                        for (row, (all, sum)) in all.iter_mut().zip(by_mins).enumerate() {
                            *all = $mul($float(sum), $set_ps(panel.d_min[first + row]));
                        }
                    }
                    for place in (0..SUBS).step_by(if WIDE { 2 } else { 1 }) {
                        let run = runs[place];
                        let less = if WIDE { offsets[0] } else { offsets[1 + run % 2] };
                        let begin = $dot_words(zero, $load(pack.sums[run / 2].as_ptr().cast()), less);
                        let mut dots = [begin; ROWS];
                        for quad in 0..(if WIDE { 2 } else { 1 }) * SUB / 4 {
                            let tokens = $load(pack.q[run * SUB / 4 + quad].as_ptr().cast());
                            for (row, dot) in dots.iter_mut().enumerate() {
                                let at = panel.u[first + row].as_ptr().add(place * SUB + 4 * quad);
                                *dot = $dot_bytes(*dot, $set(at.cast::<i32>().read()), tokens);
                            }
                        }
                        for (row, (all, dot)) in all.iter_mut().zip(dots).enumerate() {
                            *all = $fmadd($float(dot), $set_ps(panel.scales[first + row][place]), *all);
                        }
                    }
                    let d = $load_ps(pack.d.as_ptr());
                    for (to, all) in sums.0[first..].iter_mut().zip(all) {
                        $store_ps(to.as_mut_ptr(), $fmadd(all, d, $load_ps(to.as_ptr())));
                    }
                }
            }
        }
    };
}

mod sixteen {
    use super::*;

    rows!(
        _mm512_setzero_si512,
        _mm512_setzero_ps,
        _mm512_load_si512,
        _mm512_load_ps,
        _mm512_store_ps,
        _mm512_set1_epi32,
        _mm512_set1_ps,
        _mm512_dpwssd_epi32,
        _mm512_dpbusd_epi32,
        _mm512_cvtepi32_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
}

mod eight {
    use super::*;

    rows!(
        _mm256_setzero_si256,
        _mm256_setzero_ps,
        _mm256_load_si256,
        _mm256_load_ps,
        _mm256_store_ps,
        _mm256_set1_epi32,
        _mm256_set1_ps,
        _mm256_dpwssd_epi32,
        _mm256_dpbusd_epi32,
        _mm256_cvtepi32_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
}
