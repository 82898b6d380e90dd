//! Rows of weights as panels of BF16, for many tokens at once.

use super::tables::tables;
use super::{Floats, Whole};
use crate::experts::activation::{Order, SUBS};
use crate::experts::block::{SUB, group_bytes};
use crate::experts::gemm::{PANEL_ROWS, TILE_K};
use std::arch::x86_64::*;

/// Words of a tile.
const TILE: usize = PANEL_ROWS * TILE_K;

/// A group on its way: run at place `n` is `scale[n] · (±u) + min[n]`.
#[repr(align(64))]
struct Runs {
    u: [[u8; SUB]; SUBS],
    signs: [u16; SUBS],
    scale: [f32; SUBS],
    min: [f32; SUBS],
}

/// The sixteen runs to their places in eight tiles, for which there is room at `$to`. A macro, so that the order is known
/// where it is used, and the loop is none. Unsafe as the functions below.
macro_rules! write_runs {
    ($runs:expr, $has_signs:expr, $order:expr, $to:expr) => {{
        let (runs, to): (&Runs, *mut u16) = ($runs, $to);
        let order = const { $order.runs() };
        let values = |place: usize| {
            let mut u = _mm512_cvtepu8_epi32(_mm_loadu_si128(runs.u[place].as_ptr().cast()));
            if $has_signs {
                u = _mm512_mask_sub_epi32(u, runs.signs[place], _mm512_setzero_si512(), u);
            }
            let (scale, min) = (_mm512_set1_ps(runs.scale[place]), _mm512_set1_ps(runs.min[place]));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(u), scale, min)
        };
        let mut place = 0;
        while place < SUBS {
            let run = order[place];
            let at = to.add(run / 2 * TILE + run % 2 * SUB);
            if run % 2 == 0 && order[place + 1] == run + 1 {
                let both = _mm512_cvtne2ps_pbh(values(place + 1), values(place));
                at.cast::<__m512bh>().write_unaligned(both);
                place += 2;
            } else {
                at.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(values(place)));
                place += 1;
            }
        }
    }};
}

/// Row `row` of a panel, from `n` groups: to `to`, which has room for the whole panel.
///
/// # Safety
/// `from` points to `n` groups, `to` to as many times 256 words for each row of a panel; the CPU has what
/// [`is_supported`](super::is_supported) asks for, and AVX512-BF16.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
pub(super) unsafe fn whole<F: Whole>(from: *const u8, n: usize, row: usize, to: *mut u16) {
    let (bytes, tables) = (const { group_bytes(F::TYPE) }, tables());
    let scale_words = const { scale_words() };
    let runs = const { run_words(F::ORDER) };
    for g in 0..n {
        // SAFETY: group `g` of `n`; the arrays are as long as the vectors.
        unsafe {
            let w = F::unpack::<0>(from.add(g * bytes), tables);
            let places = _mm512_loadu_si512(scale_words.as_ptr().cast());
            let scales = _mm512_castsi512_si256(_mm512_permutex2var_epi16(w.scales[0], places, w.scales[1]));
            let scale = _mm512_mul_ps(floats(scales), _mm512_set1_ps(w.d));
            let mut min = _mm512_setzero_ps();
            if F::HAS_MINS {
                let runs = _mm256_loadu_si256(runs.as_ptr().cast());
                let mins = _mm256_permutexvar_epi16(runs, w.mins);
                min = _mm512_mul_ps(floats(mins), _mm512_set1_ps(w.d_min));
            }
            let runs = held(w.u, w.signs, scale, min);
            write_runs!(&runs, F::HAS_SIGNS, F::ORDER, to.add(8 * g * TILE + row * TILE_K));
        }
    }
}

/// As [`whole`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
pub(super) unsafe fn by_floats<F: Floats>(from: *const u8, n: usize, row: usize, to: *mut u16) {
    let (bytes, tables) = (const { group_bytes(F::TYPE) }, tables());
    let runs = const { run_lanes(F::ORDER) };
    for g in 0..n {
        // SAFETY: group `g` of `n`; the arrays are as long as the vectors.
        unsafe {
            let w = F::unpack::<0>(from.add(g * bytes), tables);
            let scale = _mm512_permutexvar_ps(_mm512_loadu_si512(runs.as_ptr().cast()), w.scale);
            let min = _mm512_mul_ps(scale, _mm512_set1_ps(-F::OFFSET));
            let runs = held(w.u, [0; 4], scale, min);
            write_runs!(&runs, false, F::ORDER, to.add(8 * g * TILE + row * TILE_K));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
fn floats(words: __m256i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words))
}

#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
fn held(u: [__m512i; 4], signs: [u64; 4], scale: __m512, min: __m512) -> Runs {
    let mut runs = Runs { u: [[0; SUB]; SUBS], signs: [0; SUBS], scale: [0.0; SUBS], min: [0.0; SUBS] };
    // SAFETY: 256, 64 and 64 bytes.
    unsafe {
        let to = runs.u.as_mut_ptr().cast::<__m512i>();
        (0..4).for_each(|i| _mm512_storeu_si512(to.add(i), u[i]));
        _mm512_storeu_ps(runs.scale.as_mut_ptr(), scale);
        _mm512_storeu_ps(runs.min.as_mut_ptr(), min);
    }
    for (n, signs_of_run) in runs.signs.iter_mut().enumerate() {
        *signs_of_run = (signs[n / 4] >> (16 * (n % 4))) as u16;
    }
    runs
}

/// Where in both vectors of [`Whole`]'s scales that of each place is.
const fn scale_words() -> [u16; 32] {
    let (mut all, mut place) = ([0; 32], 0);
    while place < SUBS {
        all[place] = (32 * (place / 8) + 8 * (place % 4) + 4 * (place % 8 / 4)) as u16;
        place += 1;
    }
    all
}

const fn run_words(order: Order) -> [u16; SUBS] {
    let (mut all, mut place) = ([0; SUBS], 0);
    while place < SUBS {
        all[place] = order.runs()[place] as u16;
        place += 1;
    }
    all
}

const fn run_lanes(order: Order) -> [i32; SUBS] {
    let (mut all, mut place) = ([0; SUBS], 0);
    while place < SUBS {
        all[place] = order.runs()[place] as i32;
        place += 1;
    }
    all
}
