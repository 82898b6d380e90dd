//! Kernels with 256-bit vectors: a group of 256 weights becomes eight vectors of bytes, which are multiplied by the
//! activations' bytes to sums of two in 16 bits.
//!
//! These need an unsigned and a signed byte. Weights are made unsigned by an offset, for which the sums of the
//! activations are one more product a group, or give their sign to the activations. Two products of an activation and
//! an amount up to 128 fit. Where scales are whole numbers ([`Whole`]) the sums of two are multiplied by them as such,
//! where they are floats ([`Floats`]), after they have been added to sums of four.
//!
//! Everything here needs [`is_supported`]. PDEP and PEXT are left out: AMD's CPUs before Zen 3 are slow with them.
#![allow(unsafe_code)]

/// Something for each of the eight vectors of a group, whose number is a constant.
macro_rules! each {
    (|$i:ident| $vector:expr) => {
        each!(@ $i $vector, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $vector:expr, $($n:literal)*) => {
        $({
            const $i: usize = $n;
            $vector
        })*
    };
}

mod iq;
mod k;
mod plain;
mod tables;

use super::activation::{Group, Order, Row};
use super::block::group_bytes;
use super::dots::dots;
use super::kernel::Way;
use crate::gguf::TensorType;
use std::arch::x86_64::*;
use tables::{Tables, tables};

/// Whether this CPU has what the kernels need: Intel's since Haswell, AMD's since Zen.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// How weights are negative.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signs {
    /// They are not.
    None,
    /// Where a bit is set in [`Head::eights`].
    Bits,
    /// As bytes are.
    Bytes,
}

/// What is added to the weights of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mins {
    None,
    /// A whole number, times `d` as the weights.
    Scaled,
    /// A whole number, times `d_min`, which is subtracted.
    Own,
}

/// What belongs to 256 weights: number `i` is worth as much, times its run's scale, times `d`; and the run's min.
#[derive(Clone, Copy)]
struct Head {
    /// A byte for eight weights, in order: those of the first four vectors in both halves, and of the other four.
    eights: [__m256i; 2],
    /// Sixteen words: number `i` of each half is for that half of vector `i`.
    scales: __m256i,
    d: __m256,
    /// Sixteen words, in order.
    mins: __m256i,
    d_min: __m256,
}

/// A type whose scales are whole numbers.
trait Whole {
    const TYPE: TensorType;
    const SIGNS: Signs = Signs::None;
    const MINS: Mins = Mins::None;
    /// What sums are multiplied by at the end.
    const UNIT: f32 = 1.0;

    /// For each number of rows a function of its own: with one caller it is inlined, whatever its size.
    ///
    /// # Safety
    /// `group` points to the bytes of a group, and the CPU has what [`is_supported`] asks for.
    unsafe fn head<const N: usize>(group: *const u8) -> Head;

    /// Vector `I` of eight. Each is multiplied before the next is unpacked, so that loads and products overlap.
    ///
    /// # Safety
    /// As above.
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, head: &Head, tables: &Tables) -> __m256i;
}

/// A row of weights times each of `N` rows.
///
/// # Safety
/// `row` points to `n` groups, and so do all of `x`; the CPU has what [`is_supported`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_whole<F: Whole, const N: usize>(row: *const u8, n: usize, x: [*const Group; N]) -> [f32; N] {
    let (bytes, tables) = (const { group_bytes(F::TYPE) }, tables());
    let mut sums = [_mm256_setzero_ps(); N];
    for g in 0..n {
        // SAFETY: group `g` of `n`, here and in the rows of activations.
        let (group, x) = unsafe { (row.add(g * bytes), x.map(|x| &*x.add(g))) };
        // SAFETY: as above.
        let w = unsafe { F::head::<N>(group) };
        let mut whole = [_mm256_setzero_si256(); N];
        if F::MINS == Mins::Scaled {
            for n in 0..N {
                whole[n] = _mm256_madd_epi16(w.mins, by_run(x[n]));
            }
        }
        each!(|I| {
            let scale = _mm256_shuffle_epi8(w.scales, place::<I>(tables));
            // SAFETY: as above.
            let u = unsafe { F::vector::<N, I>(group, &w, tables) };
            let (u, sign) = match F::SIGNS {
                Signs::None => (u, u),
                Signs::Bits => (u, signs::<I>(w.eights)),
                Signs::Bytes => (_mm256_abs_epi8(u), u),
            };
            for n in 0..N {
                let q = match F::SIGNS {
                    Signs::None => vector::<I>(x[n]),
                    _ => _mm256_sign_epi8(vector::<I>(x[n]), sign),
                };
                whole[n] = _mm256_add_epi32(whole[n], _mm256_madd_epi16(_mm256_maddubs_epi16(u, q), scale));
            }
        });
        for n in 0..N {
            sums[n] =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[n]), _mm256_mul_ps(w.d, _mm256_set1_ps(x[n].d)), sums[n]);
            if F::MINS == Mins::Own {
                let sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(w.mins, by_run(x[n])));
                sums[n] = _mm256_fnmadd_ps(sum, _mm256_mul_ps(w.d_min, _mm256_set1_ps(x[n].d)), sums[n]);
            }
        }
    }
    sums.map(|sum| reduced(sum) * F::UNIT)
}

/// A type of blocks of 32 signed weights with one F16 scale, which they begin with.
trait Floats {
    const TYPE: TensorType;

    /// The weights of a block. As [`Whole::vector`] it is a function of its own for each use.
    ///
    /// # Safety
    /// `block` points to the bytes of a block, and the CPU has what [`is_supported`] asks for.
    unsafe fn vector<const N: usize, const I: usize>(block: *const u8, tables: &Tables) -> __m256i;
}

/// As [`dot_whole`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_floats<F: Floats, const N: usize>(row: *const u8, n: usize, x: [*const Group; N]) -> [f32; N] {
    let (bytes, tables) = (F::TYPE.block_bytes() as usize, tables());
    let mut sums = [_mm256_setzero_ps(); N];
    for g in 0..n {
        // SAFETY: group `g` of `n`, here and in the rows of activations.
        let (group, x) = unsafe { (row.add(8 * g * bytes), x.map(|x| &*x.add(g))) };
        let mut of_group = [_mm256_setzero_ps(); N];
        each!(|I| {
            // SAFETY: as above.
            let (w, scale) = unsafe {
                let block = group.add(I * bytes);
                (F::vector::<N, I>(block, tables), f16(block))
            };
            let u = _mm256_abs_epi8(w);
            for n in 0..N {
                let q = _mm256_sign_epi8(vector::<I>(x[n]), w);
                let dot = _mm256_madd_epi16(_mm256_maddubs_epi16(u, q), _mm256_set1_epi16(1));
                of_group[n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, of_group[n]);
            }
        });
        for n in 0..N {
            sums[n] = _mm256_fmadd_ps(of_group[n], _mm256_set1_ps(x[n].d), sums[n]);
        }
    }
    sums.map(|sum| reduced(sum))
}

/// Where word `I` of each half is.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn place<const I: usize>(tables: &Tables) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(tables.words[I].as_ptr().cast()) }
}

/// Vector `I` of the activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn vector<const I: usize>(x: &Group) -> __m256i {
    const { assert!(I < 8) };
    // SAFETY: 32 bytes of 256.
    unsafe { _mm256_load_si256(x.q.as_ptr().add(32 * I).cast()) }
}

/// The sums of activations, sixteen words.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn by_run(x: &Group) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_load_si256(x.sums.as_ptr().cast()) }
}

/// Bytes of which those with a sign bit of vector `I` are negative.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signs<const I: usize>(bits: [__m256i; 2]) -> __m256i {
    let eight = |n: usize| (4 * (I % 4) + n) as i64 * 0x0101_0101_0101_0101;
    let bytes = _mm256_shuffle_epi8(bits[I / 4], _mm256_setr_epi64x(eight(0), eight(1), eight(2), eight(3)));
    // The lowest bit that is added makes it negative.
    _mm256_add_epi8(_mm256_and_si256(bytes, _mm256_set1_epi64x(BIT_OF_EIGHT)), _mm256_set1_epi8(0x7f))
}

/// Byte n has bit n.
const BIT_OF_EIGHT: i64 = 0x8040_2010_0804_0201_u64 as i64;

/// Each half twice.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn halves(both: __m256i) -> [__m256i; 2] {
    [_mm256_permute4x64_epi64(both, 0b0100_0100), _mm256_permute4x64_epi64(both, 0b1110_1110)]
}

/// Sixteen scales of a byte each, in order, as [`Weights`] has them: the even ones, then the odd ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn by_halves(scales: __m128i) -> __m128i {
    _mm_shuffle_epi8(scales, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn reduced(sums: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// An F16 as a float, in all places.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16(at: *const u8) -> __m256 {
    // SAFETY: the caller's pointer has two bytes.
    _mm256_cvtph_ps(_mm_set1_epi16(unsafe { at.cast::<i16>().read_unaligned() }))
}

dots!(whole, Whole, dot_whole);
dots!(floats, Floats, dot_floats);

/// The kernel of a type; to be called where [`is_supported`] only.
pub(super) fn kernel(ty: TensorType) -> Option<Way> {
    // Eight vectors of 32 come out of all types in order.
    let dot = match ty {
        TensorType::IQ1_S => whole::<iq::Iq1S>,
        TensorType::IQ1_M => whole::<iq::Iq1M>,
        TensorType::IQ2_XXS => whole::<iq::Iq2Xxs>,
        TensorType::IQ2_XS => whole::<iq::Iq2Xs>,
        TensorType::IQ2_S => whole::<iq::Iq2S>,
        TensorType::IQ3_XXS => whole::<iq::Iq3Xxs>,
        TensorType::IQ3_S => whole::<iq::Iq3S>,
        TensorType::IQ4_XS => whole::<iq::Iq4Xs>,
        TensorType::IQ4_NL => floats::<plain::Iq4Nl>,
        TensorType::Q2_K => whole::<k::Q2K>,
        TensorType::Q3_K => whole::<k::Q3K>,
        TensorType::Q4_K => whole::<k::Q4K>,
        TensorType::Q5_K => whole::<k::Q5K>,
        TensorType::Q6_K => whole::<k::Q6K>,
        TensorType::Q4_0 => floats::<plain::Q4_0>,
        TensorType::Q5_0 => floats::<plain::Q5_0>,
        TensorType::Q8_0 => floats::<plain::Q8_0>,
        _ => return None,
    };
    Some(Way { dot, order: Order::Natural })
}
