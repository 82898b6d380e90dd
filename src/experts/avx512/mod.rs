//! Kernels with 512-bit vectors and VNNI: a group of 256 weights becomes four vectors of unsigned bytes, which
//! are multiplied by the activations' bytes as they are. What makes them signed, offsets and mins, is one
//! more product a group, with the sums of the activations.
//!
//! Every function here needs [`is_supported`].
#![allow(unsafe_code)]

mod iq;
mod k;
mod plain;
mod tables;

use super::activation::{Group, Row};
use super::kernel::Dot;
use super::block::group_bytes;
use crate::gguf::TensorType;
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

/// 256 weights: weight `i` is `scale[i / 16] · u[i] + min[i / 16]`.
#[derive(Clone, Copy)]
struct Weights {
    u: [__m512i; 4],
    scale: __m512,
    min: __m512,
}

/// A type of weights.
trait Format {
    const TYPE: TensorType;

    /// # Safety
    /// `group` points to the bytes of a group, and the CPU has what [`is_supported`] asks for.
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights;
}

/// A row of weights times each of `N` rows.
///
/// # Safety
/// `row` points to `n` groups, and so do all of `x`; the CPU has what [`is_supported`] asks for.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn dot_n<F: Format, const N: usize>(row: *const u8, n: usize, x: [*const Group; N]) -> [f32; N] {
    let (bytes, tables) = (group_bytes(F::TYPE), tables());
    // Lane `j` of vector `i` has the weights 64·i + 4·j and the three behind it.
    let subs = [0, 4, 8, 12].map(|first| {
        let sub = |n: i32| first + n;
        _mm512_setr_epi32(
            sub(0), sub(0), sub(0), sub(0), sub(1), sub(1), sub(1), sub(1),
            sub(2), sub(2), sub(2), sub(2), sub(3), sub(3), sub(3), sub(3),
        )
    });
    let mut sums = [_mm512_setzero_ps(); N];
    for g in 0..n {
        // SAFETY: group `g` of `n`, of each.
        let w = unsafe { F::unpack(row.add(g * bytes), tables) };
        for (sum, x) in sums.iter_mut().zip(x) {
            // SAFETY: as above; the arrays of a group are as long as the vectors read.
            let (q, d, by_sub) = unsafe {
                let x = &*x.add(g);
                let q: [__m512i; 4] = std::array::from_fn(|i| _mm512_loadu_si512(x.q.as_ptr().add(64 * i).cast()));
                (q, _mm512_loadu_ps(x.d.as_ptr()), _mm512_loadu_ps(x.sum.as_ptr()))
            };
            let scale = _mm512_mul_ps(w.scale, d);
            let mut group = _mm512_mul_ps(w.min, by_sub);
            for i in 0..4 {
                let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.u[i], q[i]));
                group = _mm512_fmadd_ps(dot, _mm512_permutexvar_ps(subs[i], scale), group);
            }
            *sum = _mm512_add_ps(*sum, group);
        }
    }
    sums.map(|sum| _mm512_reduce_add_ps(sum))
}

/// A row of weights times each of `x`.
fn dot<F: Format>(row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
    let n = row.len() / group_bytes(F::TYPE);
    assert!(x.iter().all(|x| x.groups.len() >= n), "a row of activations is too short");
    for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
        let ptr = |n: usize| x[n].groups.as_ptr();
        // SAFETY: lengths are checked above; kernels are called where they are supported only.
        unsafe {
            match x.len() {
                1 => out.copy_from_slice(&dot_n::<F, 1>(row.as_ptr(), n, [ptr(0)])),
                2 => out.copy_from_slice(&dot_n::<F, 2>(row.as_ptr(), n, [ptr(0), ptr(1)])),
                3 => out.copy_from_slice(&dot_n::<F, 3>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2)])),
                _ => out.copy_from_slice(&dot_n::<F, 4>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2), ptr(3)])),
            }
        }
    }
}

/// The kernel of a type; to be called where [`is_supported`] only.
pub(super) fn kernel(ty: TensorType) -> Option<Dot> {
    Some(match ty {
        TensorType::IQ1_S => dot::<iq::Iq1S>,
        TensorType::IQ1_M => dot::<iq::Iq1M>,
        TensorType::IQ2_XXS => dot::<iq::Iq2Xxs>,
        TensorType::IQ2_XS => dot::<iq::Iq2Xs>,
        TensorType::IQ2_S => dot::<iq::Iq2S>,
        TensorType::IQ3_XXS => dot::<iq::Iq3Xxs>,
        TensorType::IQ3_S => dot::<iq::Iq3S>,
        TensorType::IQ4_XS => dot::<iq::Iq4Xs>,
        TensorType::IQ4_NL => dot::<plain::Iq4Nl>,
        TensorType::Q2_K => dot::<k::Q2K>,
        TensorType::Q3_K => dot::<k::Q3K>,
        TensorType::Q4_K => dot::<k::Q4K>,
        TensorType::Q5_K => dot::<k::Q5K>,
        TensorType::Q6_K => dot::<k::Q6K>,
        TensorType::Q4_0 => dot::<plain::Q4_0>,
        TensorType::Q5_0 => dot::<plain::Q5_0>,
        TensorType::Q8_0 => dot::<plain::Q8_0>,
        _ => return None,
    })
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

/// The lower halves of two vectors.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn lower(a: __m512i, b: __m512i) -> __m512i {
    _mm512_inserti64x4(a, _mm512_castsi512_si256(b), 1)
}

/// The upper halves of two vectors.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn upper(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i64x2(a, b, 0b11_10_11_10)
}
