//! The K types. Their layouts are told in `block/k.rs`.

use super::tables::Tables;
use super::{Format, Weights, f16, lower, twice, upper};
use crate::experts::block::{eight_scales_and_mins, q3_k_scales};
use crate::gguf::TensorType;
use std::arch::x86_64::*;
use std::slice;

/// Sixteen unsigned bytes as floats.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn floats(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

pub(super) struct Q2K;

impl Format for Q2K {
    const TYPE: TensorType = TensorType::Q2_K;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 84 bytes.
        let (scales, q, d, dmin) = unsafe {
            (_mm_loadu_si128(group.cast()), _mm512_loadu_si512(group.add(16).cast()), f16(group.add(80)), f16(group.add(82)))
        };
        let nibble = _mm_set1_epi8(15);
        let scale = floats(_mm_and_si128(scales, nibble));
        let min = floats(_mm_and_si128(_mm_srli_epi16(scales, 4), nibble));
        let two = _mm512_set1_epi8(3);
        let layers = [
            _mm512_and_si512(q, two),
            _mm512_and_si512(_mm512_srli_epi16(q, 2), two),
            _mm512_and_si512(_mm512_srli_epi16(q, 4), two),
            _mm512_and_si512(_mm512_srli_epi16(q, 6), two),
        ];
        Weights {
            u: in_order(layers),
            scale: _mm512_mul_ps(scale, _mm512_set1_ps(d)),
            min: _mm512_mul_ps(min, _mm512_set1_ps(-dmin)),
        }
    }
}

/// Layers of 32 weights of the first and 32 of the second 128, in the order of the weights.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn in_order([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    [lower(a, b), lower(c, d), upper(a, b), upper(c, d)]
}

pub(super) struct Q3K;

impl Format for Q3K {
    const TYPE: TensorType = TensorType::Q3_K;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 110 bytes.
        let (high, q, scales, d) = unsafe {
            let scales = q3_k_scales(slice::from_raw_parts(group.add(96), 12));
            let high = _mm256_loadu_si256(group.cast());
            (high, _mm512_loadu_si512(group.add(32).cast()), scales, f16(group.add(108)))
        };
        let scales = _mm_set_epi64x((scales >> 64) as i64, scales as i64);
        let scale = _mm512_mul_ps(_mm512_sub_ps(floats(scales), _mm512_set1_ps(32.0)), _mm512_set1_ps(d));
        // Of the second 128 weights, the high bits are four further up.
        let high = _mm512_inserti64x4(_mm512_castsi256_si512(high), _mm256_srli_epi16(high, 4), 1);
        let (two, four) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
        // (low & 3) | (high & 4)
        let join = |low: __m512i, high: __m512i| {
            _mm512_ternarylogic_epi64(_mm512_and_si512(low, two), high, four, 0b1111_1000)
        };
        let layers = [
            join(q, _mm512_slli_epi16(high, 2)),
            join(_mm512_srli_epi16(q, 2), _mm512_slli_epi16(high, 1)),
            join(_mm512_srli_epi16(q, 4), high),
            join(_mm512_srli_epi16(q, 6), _mm512_srli_epi16(high, 1)),
        ];
        Weights { u: in_order(layers), scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-4.0)) }
    }
}

/// Scales and mins of 32 weights each, times d and -dmin, which are in front of them.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn eight_scales(group: *const u8) -> (__m512, __m512) {
    // SAFETY: the caller's group has 16 bytes.
    let (d, dmin, (scales, mins)) = unsafe {
        (f16(group), f16(group.add(2)), eight_scales_and_mins(slice::from_raw_parts(group.add(4), 12)))
    };
    let floats = |bytes: u64| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)));
    (
        twice(_mm256_mul_ps(floats(scales), _mm256_set1_ps(d))),
        twice(_mm256_mul_ps(floats(mins), _mm256_set1_ps(-dmin))),
    )
}

pub(super) struct Q4K;

impl Format for Q4K {
    const TYPE: TensorType = TensorType::Q4_K;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 144 bytes.
        let ((scale, min), a, b) = unsafe {
            let (a, b) = (group.add(16), group.add(80));
            (eight_scales(group), _mm512_loadu_si512(a.cast()), _mm512_loadu_si512(b.cast()))
        };
        let nibble = _mm512_set1_epi8(15);
        let (a_low, b_low) = (_mm512_and_si512(a, nibble), _mm512_and_si512(b, nibble));
        let a_high = _mm512_and_si512(_mm512_srli_epi16(a, 4), nibble);
        let b_high = _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble);
        let u = [lower(a_low, a_high), upper(a_low, a_high), lower(b_low, b_high), upper(b_low, b_high)];
        Weights { u, scale, min }
    }
}

pub(super) struct Q5K;

impl Format for Q5K {
    const TYPE: TensorType = TensorType::Q5_K;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 176 bytes.
        let ((scale, min), high, a, b) = unsafe {
            let (a, b) = (group.add(48), group.add(112));
            let high = _mm256_loadu_si256(group.add(16).cast());
            (eight_scales(group), high, _mm512_loadu_si512(a.cast()), _mm512_loadu_si512(b.cast()))
        };
        // Of each second 64 weights, the high bits are two further up.
        let high = _mm512_inserti64x4(_mm512_castsi256_si512(high), _mm256_srli_epi16(high, 2), 1);
        let (nibble, sixteen) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        // (low & 15) | (high & 16)
        let join = |low: __m512i, high: __m512i| {
            _mm512_ternarylogic_epi64(_mm512_and_si512(low, nibble), high, sixteen, 0b1111_1000)
        };
        let a_low = join(a, _mm512_slli_epi16(high, 4));
        let a_high = join(_mm512_srli_epi16(a, 4), _mm512_slli_epi16(high, 3));
        let b_low = join(b, high);
        let b_high = join(_mm512_srli_epi16(b, 4), _mm512_srli_epi16(high, 1));
        let u = [lower(a_low, a_high), upper(a_low, a_high), lower(b_low, b_high), upper(b_low, b_high)];
        Weights { u, scale, min }
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    const TYPE: TensorType = TensorType::Q6_K;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 210 bytes.
        let (a, b, high, scales, d) = unsafe {
            (
                _mm512_loadu_si512(group.cast()),
                _mm512_loadu_si512(group.add(64).cast()),
                _mm512_loadu_si512(group.add(128).cast()),
                _mm_loadu_si128(group.add(192).cast()),
                f16(group.add(208)),
            )
        };
        let scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)), _mm512_set1_ps(d));
        // Of each second 32 weights, the high bits are two further up.
        let both = |half: __m512i| {
            _mm512_inserti64x4(half, _mm256_srli_epi16(_mm512_castsi512_si256(half), 2), 1)
        };
        let (high_a, high_b) = (both(high), both(upper(high, high)));
        let (nibble, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        // (low & 15) | (high & 0x30)
        let join = |low: __m512i, high: __m512i| {
            _mm512_ternarylogic_epi64(_mm512_and_si512(low, nibble), high, two, 0b1111_1000)
        };
        let u = [
            join(a, _mm512_slli_epi16(high_a, 4)),
            join(_mm512_srli_epi16(a, 4), high_a),
            join(b, _mm512_slli_epi16(high_b, 4)),
            join(_mm512_srli_epi16(b, 4), high_b),
        ];
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-32.0)) }
    }
}
