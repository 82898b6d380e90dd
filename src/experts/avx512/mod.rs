//! Kernels with 512-bit vectors and VNNI: a group of 256 weights becomes four vectors of unsigned bytes, which
//! are multiplied by the activations' bytes.
//!
//! Where scales are whole numbers, sums of four products are narrowed to 16 bits and multiplied by them as such
//! ([`Whole`]); where they are floats, or four products do not fit, as floats ([`Floats`]). What makes weights
//! signed, mins and offsets, is one more product a group, with the sums of the activations.
//!
//! Everything here needs [`is_supported`].
#![allow(unsafe_code)]

mod bytes;
mod iq;
mod k;
mod panel;
mod plain;
mod tables;

use super::activation::{Group, Order, Row};
use super::avx2;
use super::block::group_bytes;
use super::dots::dots;
use super::gemm::Unpack;
use super::kernel::Way;
use crate::gguf::TensorType;
pub(super) use panel::floats as unpack_floats;
use std::arch::x86_64::*;
use tables::{Tables, tables};

/// Whether this CPU has what the kernels need: Intel's since Ice Lake, AMD's since Zen 4.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("bmi2")
}

/// 256 weights: number `i`, negative where its sign is set, times its run's scale, times `d`; and the run's min
/// times `d_min`.
#[derive(Clone, Copy)]
struct Weights {
    u: [__m512i; 4],
    signs: [u64; 4],
    /// As the type's [`Scales`] say.
    scales: __m128i,
    d: f32,
    /// Sixteen words.
    mins: __m256i,
    d_min: f32,
}

/// What scales that are whole numbers are, in order.
#[derive(Clone, Copy)]
enum Scales {
    /// Sixteen bytes.
    Bytes,
    SignedBytes,
    /// Eight words, each for two runs.
    Words,
}

/// A type whose scales are whole numbers.
trait Whole {
    const TYPE: TensorType;
    const ORDER: Order;
    const SCALES: Scales;
    const HAS_SIGNS: bool = false;
    const HAS_MINS: bool = false;
    /// By how much all numbers are too large, where mins say that and nothing else.
    const OFFSET: u8 = 0;
    /// How many values a run of 16 weights may have before signs, or of 32 where it is 16; more than 16 is 0. Numbers are
    /// below it where unpacked with [`codes`](tables::codes).
    const LEVELS: usize = 0;

    /// What numbers below [`LEVELS`](Whole::LEVELS) stand for, each as often as there are sixteen.
    fn levels(_: &Tables) -> &[f32; 16] {
        match Self::LEVELS {
            4 => &NUMBERS[0],
            8 => &NUMBERS[1],
            _ => &NUMBERS[2],
        }
    }

    /// For each number of rows a function of its own: with one caller it is inlined, whatever its size, and no vector
    /// has to go through memory.
    ///
    /// # Safety
    /// `group` points to the bytes of a group, and the CPU has what [`is_supported`] asks for.
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights;
}

/// The numbers below 4, 8 and 16, each four times, twice, and once.
static NUMBERS: [[f32; 16]; 3] = [
    [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0],
    [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 7.0, 7.0],
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0],
];

/// A row of weights times each of `N` rows.
///
/// # Safety
/// `row` points to `n` groups, and so do all of `x`; the CPU has what [`is_supported`] asks for.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn dot_whole<F: Whole, const N: usize>(row: *const u8, n: usize, x: [*const Group; N]) -> [f32; N] {
    let (bytes, tables) = (const { group_bytes(F::TYPE) }, tables());
    let mut sums = [_mm512_setzero_ps(); N];
    let mut min_sums = [_mm256_setzero_ps(); N];
    for g in 0..n {
        // SAFETY: group `g` of `n`.
        let w = unsafe { F::unpack::<N>(row.add(g * bytes), tables) };
        let scales = match F::SCALES {
            Scales::Bytes => spread(w.scales, const { &pairs(F::ORDER, false) }),
            // They come in the upper halves of words.
            Scales::SignedBytes => {
                spread(w.scales, const { &pairs(F::ORDER, true) }).map(|words| _mm512_srai_epi16(words, 8))
            }
            Scales::Words => spread(w.scales, const { &word_pairs(F::ORDER) }),
        };
        for n in 0..N {
            // SAFETY: as above; the arrays of a group are as long as the vectors read.
            let (x, q) = unsafe {
                let x = &*x[n].add(g);
                let q: [__m512i; 4] = std::array::from_fn(|i| _mm512_loadu_si512(x.q.as_ptr().add(64 * i).cast()));
                (x, q)
            };
            let zero = _mm512_setzero_si512();
            let dots: [__m512i; 4] = std::array::from_fn(|i| {
                let q = if F::HAS_SIGNS { _mm512_mask_sub_epi8(q[i], w.signs[i], zero, q[i]) } else { q[i] };
                _mm512_dpbusd_epi32(zero, w.u[i], q)
            });
            let sum = _mm512_madd_epi16(_mm512_packs_epi32(dots[0], dots[1]), scales[0]);
            let sum = _mm512_dpwssd_epi32(sum, _mm512_packs_epi32(dots[2], dots[3]), scales[1]);
            sums[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(w.d * x.d), sums[n]);
            if F::HAS_MINS {
                // SAFETY: 32 bytes.
                let by_run = unsafe { _mm256_loadu_si256(x.sums.as_ptr().cast()) };
                let sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(w.mins, by_run));
                min_sums[n] = _mm256_fmadd_ps(sum, _mm256_set1_ps(w.d_min * x.d), min_sums[n]);
            }
        }
    }
    std::array::from_fn(|n| {
        let mins = if F::HAS_MINS { min_sums[n] } else { _mm256_setzero_ps() };
        _mm512_reduce_add_ps(_mm512_add_ps(sums[n], _mm512_zextps256_ps512(mins)))
    })
}

/// 256 weights: number `i` less 128, or what [`Floats::OFFSET`] is, times its run's scale.
#[derive(Clone, Copy)]
struct FloatWeights {
    u: [__m512i; 4],
    /// One a run, in order.
    scale: __m512,
}

/// A type whose scales are floats, or with numbers of which four products do not fit into 16 bits.
trait Floats {
    const TYPE: TensorType;
    const ORDER: Order = Order::Natural;
    const OFFSET: f32;

    /// As [`Whole::unpack`].
    ///
    /// # Safety
    /// As there.
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> FloatWeights;
}

/// As [`dot_whole`].
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn dot_floats<F: Floats, const N: usize>(row: *const u8, n: usize, x: [*const Group; N]) -> [f32; N] {
    let (bytes, tables) = (const { group_bytes(F::TYPE) }, tables());
    let runs = const { quarters(F::ORDER) };
    // SAFETY: four times 64 bytes.
    let runs: [__m512i; 4] = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(runs[i].as_ptr().cast()) });
    let mut sums = [_mm512_setzero_ps(); N];
    for g in 0..n {
        // SAFETY: group `g` of `n`.
        let w = unsafe { F::unpack::<N>(row.add(g * bytes), tables) };
        let scales: [__m512; 4] = std::array::from_fn(|i| _mm512_permutexvar_ps(runs[i], w.scale));
        let min = _mm512_mul_ps(w.scale, _mm512_set1_ps(-F::OFFSET));
        for (sum, x) in sums.iter_mut().zip(x) {
            // SAFETY: as above; the arrays of a group are as long as the vectors read.
            let (x, q, by_run) = unsafe {
                let x = &*x.add(g);
                let q: [__m512i; 4] = std::array::from_fn(|i| _mm512_loadu_si512(x.q.as_ptr().add(64 * i).cast()));
                (x, q, _mm512_loadu_ps(x.float_sums.as_ptr()))
            };
            let mut group = _mm512_mul_ps(min, by_run);
            for i in 0..4 {
                let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.u[i], q[i]));
                group = _mm512_fmadd_ps(dot, scales[i], group);
            }
            *sum = _mm512_fmadd_ps(group, _mm512_set1_ps(x.d), *sum);
        }
    }
    sums.map(|sum| _mm512_reduce_add_ps(sum))
}

/// For each lane of the four vectors of a group, its run.
const fn quarters(order: Order) -> [[i32; 16]; 4] {
    let (mut all, mut at) = ([[0; 16]; 4], 0);
    while at < 64 {
        all[at / 16][at % 16] = order.runs()[at / 4] as i32;
        at += 1;
    }
    all
}

/// Where, in sixteen scales of a byte each, those of two vectors' sums are, when both are narrowed into one: as
/// words of the byte, or of the byte in their upper half.
const fn pairs(order: Order, upper: bool) -> [[u8; 64]; 2] {
    let (mut all, mut at) = ([[0x80; 64]; 2], 0);
    while at < 128 {
        // Of each 16 bytes four words are the first vector's, four the second's.
        let (pair, lane, word) = (at / 64, at % 64 / 16, at % 16 / 2);
        let place = 8 * pair + 4 * (word / 4) + lane;
        if (at % 2 == 1) == upper {
            all[pair][at % 64] = order.runs()[place] as u8;
        }
        at += 1;
    }
    all
}

/// The same for eight scales of a word each, one for two runs.
const fn word_pairs(order: Order) -> [[u8; 64]; 2] {
    let (mut all, mut at) = ([[0; 64]; 2], 0);
    while at < 128 {
        let (pair, lane, word) = (at / 64, at % 64 / 16, at % 16 / 2);
        let place = 8 * pair + 4 * (word / 4) + lane;
        all[pair][at % 64] = (order.runs()[place] / 2 * 2 + at % 2) as u8;
        at += 1;
    }
    all
}

/// Scales to where they are needed.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn spread(scales: __m128i, places: &'static [[u8; 64]; 2]) -> [__m512i; 2] {
    let all = _mm512_broadcast_i32x4(scales);
    // SAFETY: twice 64 bytes.
    std::array::from_fn(|i| unsafe { _mm512_shuffle_epi8(all, _mm512_loadu_si512(places[i].as_ptr().cast())) })
}

dots!(whole, Whole, dot_whole);
dots!(floats, Floats, dot_floats);

/// The kernel of a type; to be called where [`is_supported`] only.
pub(super) fn kernel(ty: TensorType) -> Option<Way> {
    match ty {
        // On AMD's CPUs 256-bit vectors are faster here: 4.1 GB/s, not 3.3.
        TensorType::IQ1_M if !gathers_pay() => avx2::kernel(ty),
        _ => all(ty).map(|all| all.way),
    }
}

/// How a type becomes panels of BF16; to be called where there is AVX512-BF16 besides only.
pub(super) fn unpack(ty: TensorType) -> Option<Unpack> {
    match ty {
        TensorType::BF16 => Some(panel::words),
        _ => all(ty).map(|all| all.to_bf16),
    }
}

/// How a type becomes panels of whole numbers; to be called where [`is_supported`] only.
pub(super) fn unpack_bytes(ty: TensorType) -> Option<Unpack> {
    all(ty).map(|all| all.to_bytes)
}

/// What is made of a type's weights.
struct All {
    way: Way,
    to_bf16: Unpack,
    to_bytes: Unpack,
}

fn all(ty: TensorType) -> Option<All> {
    fn of_whole<F: Whole>() -> All {
        let to_bf16 = if F::LEVELS > 0 { panel::by_levels::<F> } else { panel::whole::<F> };
        All { way: Way { dot: whole::<F>, order: F::ORDER }, to_bf16, to_bytes: bytes::whole::<F> }
    }
    fn of_floats<F: Floats>() -> All {
        let way = Way { dot: floats::<F>, order: F::ORDER };
        All { way, to_bf16: panel::by_floats::<F>, to_bytes: bytes::by_floats::<F> }
    }
    let gathers = gathers_pay();
    Some(match ty {
        TensorType::IQ1_S if gathers => of_whole::<iq::Iq1S<true>>(),
        TensorType::IQ1_S => of_whole::<iq::Iq1S<false>>(),
        TensorType::IQ1_M if gathers => of_whole::<iq::Iq1M<true>>(),
        TensorType::IQ1_M => of_whole::<iq::Iq1M<false>>(),
        TensorType::IQ2_XXS if gathers => of_whole::<iq::Iq2Xxs<false>>(),
        TensorType::IQ2_XXS => of_whole::<iq::Iq2Xxs<true>>(),
        TensorType::IQ2_XS => of_whole::<iq::Iq2Xs>(),
        TensorType::IQ2_S if gathers => of_whole::<iq::Iq2S<true>>(),
        TensorType::IQ2_S => of_whole::<iq::Iq2S<false>>(),
        TensorType::IQ3_XXS => of_whole::<iq::Iq3Xxs>(),
        TensorType::IQ3_S => of_whole::<iq::Iq3S>(),
        TensorType::IQ4_XS => of_floats::<iq::Iq4Xs>(),
        TensorType::IQ4_NL => of_floats::<plain::Iq4Nl>(),
        TensorType::Q2_K => of_whole::<k::Q2K>(),
        TensorType::Q3_K => of_whole::<k::Q3K>(),
        TensorType::Q4_K => of_whole::<k::Q4K>(),
        TensorType::Q5_K => of_whole::<k::Q5K>(),
        TensorType::Q6_K => of_whole::<k::Q6K>(),
        TensorType::Q4_0 => of_floats::<plain::Q4_0>(),
        TensorType::Q5_0 => of_floats::<plain::Q5_0>(),
        TensorType::Q8_0 => of_floats::<plain::Q8_0>(),
        _ => return None,
    })
}

/// Whether eight entries of a book are had faster by one instruction than by eight loads: on Intel's CPUs (of these
/// generations: measured 7.8 ns for 32 entries, by loads 10.8), not on AMD's (12.7 and 6.6).
fn gathers_pay() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == *b"GenuineIntel"
}

/// An F16 as a float.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn f16(at: *const u8) -> f32 {
    // SAFETY: the caller's pointer has two bytes.
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(unsafe { at.cast::<u16>().read_unaligned() }))))
}

/// Eight values, each twice.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn twice(eight: __m256) -> __m512 {
    let pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    _mm512_permutexvar_ps(pairs, _mm512_castps256_ps512(eight))
}
