//! Rows of weights as panels of BF16, for many tokens at once.
//!
//! Where a run of weights has few different values, these are computed once and the weights looked up among them
//! ([`by_levels`]): a table of 32 words holds those of two to eight runs. Other weights are computed one by one.

use super::tables::{codes, tables};
use super::{Floats, Scales, Whole};
use crate::experts::activation::{Order, SUBS};
use crate::experts::block::{SUB, group_bytes};
use crate::experts::gemm::{GROUP_TILES, PANEL_ROWS, TILE_K};
use std::arch::x86_64::*;

/// Words of a tile.
const TILE: usize = PANEL_ROWS * TILE_K;

/// Scales and mins of the runs of a group, at each place. A macro, so that the order is known where it is used.
///
/// # Safety
/// The CPU has what [`is_supported`](super::is_supported) asks for.
macro_rules! scales_and_mins {
    ($F:ident, $w:expr) => {{
        let runs =
            _mm512_loadu_si512((const { &$crate::experts::avx512::panel::run_lanes($F::ORDER) }).as_ptr().cast());
        let pairs = _mm512_srli_epi32(runs, 1);
        let in_places = |by_run: __m512i| match $F::ORDER {
            Order::Natural => by_run,
            _ => _mm512_permutexvar_epi32(runs, by_run),
        };
        let scale = match $F::SCALES {
            Scales::Bytes => in_places(_mm512_cvtepu8_epi32($w.scales)),
            Scales::SignedBytes => in_places(_mm512_cvtepi8_epi32($w.scales)),
            Scales::Words => {
                let words = _mm512_castsi256_si512(_mm256_cvtepi16_epi32($w.scales));
                _mm512_permutexvar_epi32(pairs, words)
            }
        };
        let scale = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), _mm512_set1_ps($w.d));
        let mut min = _mm512_setzero_ps();
        if $F::HAS_MINS {
            let mins = _mm512_cvtepi32_ps(in_places(_mm512_cvtepi16_epi32($w.mins)));
            min = _mm512_mul_ps(mins, _mm512_set1_ps($w.d_min));
        }
        (scale, min)
    }};
}
pub(super) use scales_and_mins;

/// A group of sixteen rows that are `stride` bytes apart: to the eight tiles at `to`.
///
/// # Safety
/// `from` points to a group of each row, `to` to eight tiles; the CPU has what
/// [`is_supported`](super::is_supported) asks for, and AVX512-BF16.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
pub(super) unsafe fn by_levels<F: Whole>(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    let tables = codes();
    // SAFETY: as the caller says; the arrays are as long as the vectors.
    unsafe {
        let values = _mm512_loadu_ps(F::levels(tables).as_ptr());
        for row in 0..PANEL_ROWS {
            let group = from.add(row * stride);
            prefetch(soon.wrapping_add(row * stride), const { group_bytes(F::TYPE) });
            let w = F::unpack::<0>(group, tables);
            let (scale, min) = scales_and_mins!(F, w);
            let (mut scales, mut mins) = (Floats16([0.0; SUBS]), Floats16([0.0; SUBS]));
            _mm512_store_ps(scales.0.as_mut_ptr(), scale);
            _mm512_store_ps(mins.0.as_mut_ptr(), min);
            // Each of sixteen values at some places in turn.
            let half = |n: usize| {
                let each = |of: &Floats16| match F::LEVELS {
                    4 => _mm512_broadcast_f32x4(_mm_load_ps(of.0.as_ptr().add(4 * n))),
                    8 => _mm512_castpd_ps(_mm512_set1_pd(of.0.as_ptr().add(2 * n).cast::<f64>().read())),
                    // Both runs have the same.
                    _ => _mm512_set1_ps(of.0[2 * n]),
                };
                match F::HAS_MINS {
                    true => _mm512_fmadd_ps(values, each(&scales), each(&mins)),
                    false => _mm512_mul_ps(values, each(&scales)),
                }
            };
            let to = to.add(row * TILE_K);
            let mut table = _mm512_setzero_si512();
            for i in 0..4 {
                // A table is for one vector of weights, or for two.
                let nth = if F::LEVELS == 4 { i / 2 } else { i };
                if F::LEVELS > 4 || i % 2 == 0 {
                    table = words_of(_mm512_cvtne2ps_pbh(half(2 * nth + 1), half(2 * nth)));
                }
                let offsets = _mm512_loadu_si512((const { &offsets(F::LEVELS) })[i % 2].as_ptr().cast());
                // Numbers of bytes; those of levels are small, so that no bit goes into the next byte.
                let shifted = match F::LEVELS {
                    4 => _mm512_slli_epi16(w.u[i], 3),
                    8 => _mm512_slli_epi16(w.u[i], 2),
                    _ => _mm512_slli_epi16(w.u[i], 1),
                };
                let index = _mm512_or_si512(shifted, offsets);
                for part in 0..2 {
                    let both = _mm512_loadu_si512((const { &TWICE })[part].as_ptr().cast());
                    let bytes = _mm512_or_si512(_mm512_permutexvar_epi8(both, index), _mm512_set1_epi16(0x100));
                    let mut words = _mm512_permutexvar_epi8(bytes, table);
                    if F::HAS_SIGNS {
                        let signs = (w.signs[i] >> (32 * part)) as u32;
                        words = _mm512_mask_add_epi16(words, signs, words, _mm512_set1_epi16(i16::MIN));
                    }
                    let run = const { F::ORDER.runs() }[4 * i + 2 * part];
                    _mm512_storeu_si512(to.add(run / 2 * TILE).cast(), words);
                }
            }
        }
    }
}

/// In memory, to be read a few at a time.
#[repr(align(64))]
struct Floats16([f32; SUBS]);

/// A group on its way: run at place `n` is `scale[n] · u + min[n]`.
#[repr(align(64))]
struct Runs {
    u: [[u8; SUB]; SUBS],
    scale: [f32; SUBS],
    min: [f32; SUBS],
}

/// The sixteen runs to their places in eight tiles, for which there is room at `$to`. A macro, so that the order is known
/// where it is used, and the loop is none. Unsafe as the functions below.
macro_rules! write_runs {
    ($runs:expr, $order:expr, $to:expr) => {{
        let (runs, to): (&Runs, *mut u16) = ($runs, $to);
        let order = const { $order.runs() };
        let values = |place: usize| {
            let u = _mm512_cvtepu8_epi32(_mm_loadu_si128(runs.u[place].as_ptr().cast()));
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

/// As [`by_levels`], for types without signs.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
pub(super) unsafe fn whole<F: Whole>(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    debug_assert!(!F::HAS_SIGNS);
    let tables = tables();
    for row in 0..PANEL_ROWS {
        // SAFETY: as the caller says; the arrays are as long as the vectors.
        unsafe {
            let group = from.add(row * stride);
            prefetch(soon.wrapping_add(row * stride), const { group_bytes(F::TYPE) });
            let w = F::unpack::<0>(group, tables);
            let (scale, min) = scales_and_mins!(F, w);
            write_runs!(&held(w.u, scale, min), F::ORDER, to.add(row * TILE_K));
        }
    }
}

/// As [`by_levels`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
pub(super) unsafe fn by_floats<F: Floats>(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    let tables = tables();
    let runs = const { run_lanes(F::ORDER) };
    for row in 0..PANEL_ROWS {
        // SAFETY: as the caller says; the arrays are as long as the vectors.
        unsafe {
            let group = from.add(row * stride);
            prefetch(soon.wrapping_add(row * stride), const { group_bytes(F::TYPE) });
            let w = F::unpack::<0>(group, tables);
            let scale = _mm512_permutexvar_ps(_mm512_loadu_si512(runs.as_ptr().cast()), w.scale);
            let min = _mm512_mul_ps(scale, _mm512_set1_ps(-F::OFFSET));
            write_runs!(&held(w.u, scale, min), F::ORDER, to.add(row * TILE_K));
        }
    }
}

/// As [`by_levels`], of BF16.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn words(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    for row in 0..PANEL_ROWS {
        prefetch(soon.wrapping_add(row * stride), 2 * GROUP_TILES * TILE_K);
        for tile in 0..GROUP_TILES {
            // SAFETY: as the caller says.
            unsafe {
                let words = _mm512_loadu_si512(from.add(row * stride + 2 * tile * TILE_K).cast());
                _mm512_storeu_si512(to.add(tile * TILE + row * TILE_K).cast(), words);
            }
        }
    }
}

/// As [`by_levels`], of F32.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(in crate::experts) unsafe fn floats(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    for row in 0..PANEL_ROWS {
        prefetch(soon.wrapping_add(row * stride), 4 * GROUP_TILES * TILE_K);
        for tile in 0..GROUP_TILES {
            // SAFETY: as the caller says.
            unsafe {
                let values = from.add(row * stride + 4 * tile * TILE_K).cast::<f32>();
                let both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(values.add(16)), _mm512_loadu_ps(values));
                to.add(tile * TILE + row * TILE_K).cast::<__m512bh>().write_unaligned(both);
            }
        }
    }
}

/// Asks for so many bytes. Nothing is read where there is no memory.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch(at: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64 * line).cast());
    }
}

/// Vectors of BF16 are vectors of words.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
fn words_of(bf16: __m512bh) -> __m512i {
    // SAFETY: both are 512 bits, and any are a value.
    unsafe { std::mem::transmute(bf16) }
}

#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,avx512bf16,bmi2")]
fn held(u: [__m512i; 4], scale: __m512, min: __m512) -> Runs {
    let mut runs = Runs { u: [[0; SUB]; SUBS], scale: [0.0; SUBS], min: [0.0; SUBS] };
    // SAFETY: 256, 64 and 64 bytes.
    unsafe {
        let to = runs.u.as_mut_ptr().cast::<__m512i>();
        (0..4).for_each(|i| _mm512_storeu_si512(to.add(i), u[i]));
        _mm512_storeu_ps(runs.scale.as_mut_ptr(), scale);
        _mm512_storeu_ps(runs.min.as_mut_ptr(), min);
    }
    runs
}

/// Each byte of the lower, and of the upper half, twice.
const TWICE: [[u8; 64]; 2] = {
    let (mut all, mut at) = ([[0; 64]; 2], 0);
    while at < 128 {
        all[at / 64][at % 64] = (at / 2) as u8;
        at += 1;
    }
    all
};

/// Where the first value of the run of each of 64 weights is in its table, in bytes: of an even vector, and of an odd one.
const fn offsets(levels: usize) -> [[u8; 64]; 2] {
    let (mut all, mut at) = ([[0; 64]; 2], 0);
    while at < 128 {
        let run = at / 16;
        all[at / 64][at % 64] = match levels {
            4 => 32 * (run / 4) + 2 * (run % 4),
            8 => 32 * (run % 4 / 2) + 2 * (run % 2),
            _ => 32 * (run % 4 / 2),
        } as u8;
        at += 1;
    }
    all
}

/// The run at each place.
pub(super) const fn run_lanes(order: Order) -> [i32; SUBS] {
    let (mut all, mut place) = ([0; SUBS], 0);
    while place < SUBS {
        all[place] = order.runs()[place] as i32;
        place += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::avx512::{is_supported, unpack};
    use crate::experts::block::GROUP;
    use crate::experts::gemm::has_vectors;
    use crate::experts::kernel::TYPES;
    use crate::experts::testing::random_rows;
    use crate::ggml::dequantize;

    /// AMX takes them as vectors do, but few machines have it.
    #[test]
    fn panels_are_what_ggml_decodes_to_eight_bits() {
        if !is_supported() || !has_vectors() {
            return;
        }
        for (seed, ty) in TYPES.into_iter().enumerate() {
            let (n_groups, group) = (2, group_bytes(ty));
            let rows = random_rows(ty, PANEL_ROWS * n_groups, seed as u64);
            let mut values = vec![0.0; PANEL_ROWS * n_groups * GROUP];
            dequantize(ty, &rows, &mut values).unwrap();
            let unpack = unpack(ty).unwrap();
            for g in 0..n_groups {
                let mut panel = vec![0u16; GROUP_TILES * TILE];
                let from = rows[g * group..].as_ptr();
                // SAFETY: a group of each of sixteen rows; eight tiles; what is asked for is checked above.
                unsafe { unpack(from, n_groups * group, from, panel.as_mut_ptr()) };
                for (at, word) in panel.iter().enumerate() {
                    let (tile, row, nth) = (at / TILE, at % TILE / TILE_K, at % TILE_K);
                    let expected = values[(row * n_groups + g) * GROUP + tile * TILE_K + nth];
                    let found = f32::from_bits(u32::from(*word) << 16);
                    // Half a step, and what scales, mins and their sums are rounded by before.
                    let most = values[(row * n_groups + g) * GROUP..][..GROUP].iter().fold(0f32, |m, x| m.max(x.abs()));
                    let bound = expected.abs() / 256.0 + most * 1e-5;
                    assert!((found - expected).abs() <= bound, "{ty} row {row}, {tile}/{nth}: {found}, not {expected}");
                }
            }
        }
    }
}
