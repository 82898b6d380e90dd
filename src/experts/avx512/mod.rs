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

/// A row of weights times each of `x`. `None` for types without a kernel.
pub(super) fn dot(ty: TensorType, row: &[u8], x: &[Row<'_>], out: &mut [f32]) -> Option<()> {
    fn all<F: Format>(row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
        let n = row.len() / group_bytes(F::TYPE);
        assert!(x.iter().all(|x| x.groups.len() >= n), "a row of activations is too short");
        let (mut x, mut out) = (x, out);
        while !x.is_empty() {
            let at_once = x.len().min(4);
            let ptr = |n: usize| x[n].groups.as_ptr();
            // SAFETY: lengths are checked above; kernels are called where they are supported only.
            unsafe {
                match at_once {
                    1 => out[..1].copy_from_slice(&dot_n::<F, 1>(row.as_ptr(), n, [ptr(0)])),
                    2 => out[..2].copy_from_slice(&dot_n::<F, 2>(row.as_ptr(), n, [ptr(0), ptr(1)])),
                    3 => out[..3].copy_from_slice(&dot_n::<F, 3>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2)])),
                    _ => out[..4].copy_from_slice(&dot_n::<F, 4>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2), ptr(3)])),
                }
            }
            x = &x[at_once..];
            out = &mut out[at_once..];
        }
    }
    match ty {
        TensorType::IQ1_S => all::<iq::Iq1S>(row, x, out),
        TensorType::IQ1_M => all::<iq::Iq1M>(row, x, out),
        TensorType::IQ2_XXS => all::<iq::Iq2Xxs>(row, x, out),
        TensorType::IQ2_XS => all::<iq::Iq2Xs>(row, x, out),
        TensorType::IQ2_S => all::<iq::Iq2S>(row, x, out),
        TensorType::IQ3_XXS => all::<iq::Iq3Xxs>(row, x, out),
        TensorType::IQ3_S => all::<iq::Iq3S>(row, x, out),
        TensorType::IQ4_XS => all::<iq::Iq4Xs>(row, x, out),
        TensorType::IQ4_NL => all::<plain::Iq4Nl>(row, x, out),
        TensorType::Q2_K => all::<k::Q2K>(row, x, out),
        TensorType::Q3_K => all::<k::Q3K>(row, x, out),
        TensorType::Q4_K => all::<k::Q4K>(row, x, out),
        TensorType::Q5_K => all::<k::Q5K>(row, x, out),
        TensorType::Q6_K => all::<k::Q6K>(row, x, out),
        TensorType::Q4_0 => all::<plain::Q4_0>(row, x, out),
        TensorType::Q5_0 => all::<plain::Q5_0>(row, x, out),
        TensorType::Q8_0 => all::<plain::Q8_0>(row, x, out),
        _ => return None,
    }
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::activation::quantize;
    use crate::experts::block::GROUP;
    use crate::experts::scalar;
    use crate::experts::testing::{TYPES, noise, random_rows};

    #[test]
    fn as_the_plain_kernel() {
        if !is_supported() {
            return;
        }
        for ty in TYPES {
            for n in [1, 2, 7] {
                let row = random_rows(ty, n, 5);
                let x: Vec<Vec<Group>> = (0..6)
                    .map(|seed| {
                        let mut groups = vec![Group::ZERO; n];
                        quantize(&noise(seed, n * GROUP), &mut groups);
                        groups
                    })
                    .collect();
                let rows: Vec<Row<'_>> = x.iter().map(|groups| Row { groups }).collect();
                for count in 1..=rows.len() {
                    let (mut found, mut expected) = (vec![0.0; count], vec![0.0; count]);
                    dot(ty, &row, &rows[..count], &mut found).unwrap();
                    scalar::dot(ty, &row, &rows[..count], &mut expected);
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!((found - expected).abs() <= 2e-4 * expected.abs().max(1.0), "{ty} {n} {count}: {found} {expected}");
                    }
                }
            }
        }
    }
}
