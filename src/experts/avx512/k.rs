//! The K types. Their layouts are told in `block/k.rs`.

use super::tables::Tables;
use super::{Scales, Weights, Whole, f16};
use crate::experts::activation::Order;
use crate::experts::block::{eight_scales_and_mins, q3_k_scales};
use crate::gguf::TensorType;
use std::arch::x86_64::*;
use std::slice;

/// (low & few) | (high & one)
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn join(low: __m512i, few: __m512i, high: __m512i, one: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64(_mm512_and_si512(low, few), high, one, 0b1111_1000)
}

pub(super) struct Q2K;

impl Whole for Q2K {
    const TYPE: TensorType = TensorType::Q2_K;
    const ORDER: Order = Order::Halves;
    const SCALES: Scales = Scales::Bytes;
    const HAS_MINS: bool = true;
    const LEVELS: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 84 bytes.
        let (both, q, d, d_min) = unsafe {
            let q = _mm512_loadu_si512(group.add(16).cast());
            (_mm_loadu_si128(group.cast()), q, f16(group.add(80)), f16(group.add(82)))
        };
        let (two, nibble) = (_mm512_set1_epi8(3), _mm_set1_epi8(15));
        Weights {
            u: [
                _mm512_and_si512(q, two),
                _mm512_and_si512(_mm512_srli_epi16(q, 2), two),
                _mm512_and_si512(_mm512_srli_epi16(q, 4), two),
                _mm512_and_si512(_mm512_srli_epi16(q, 6), two),
            ],
            signs: [0; 4],
            scales: _mm_and_si128(both, nibble),
            d,
            mins: _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), nibble)),
            d_min: -d_min,
        }
    }
}

pub(super) struct Q3K;

impl Whole for Q3K {
    const TYPE: TensorType = TensorType::Q3_K;
    const ORDER: Order = Order::Halves;
    const SCALES: Scales = Scales::SignedBytes;
    const HAS_MINS: bool = true;
    const OFFSET: u8 = 4;
    const LEVELS: usize = 8;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 110 bytes.
        let (high, q, scales, d) = unsafe {
            let scales = q3_k_scales(slice::from_raw_parts(group.add(96), 12));
            let high = _mm256_loadu_si256(group.cast());
            (high, _mm512_loadu_si512(group.add(32).cast()), scales, f16(group.add(108)))
        };
        let scales = _mm_set_epi64x((scales >> 64) as i64, scales as i64);
        let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
        // Of the second 128 weights, the high bits are four further up.
        let high = _mm512_inserti64x4(_mm512_castsi256_si512(high), _mm256_srli_epi16(high, 4), 1);
        let (two, four) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
        Weights {
            u: [
                join(q, two, _mm512_slli_epi16(high, 2), four),
                join(_mm512_srli_epi16(q, 2), two, _mm512_slli_epi16(high, 1), four),
                join(_mm512_srli_epi16(q, 4), two, high, four),
                join(_mm512_srli_epi16(q, 6), two, _mm512_srli_epi16(high, 1), four),
            ],
            signs: [0; 4],
            scales,
            d,
            mins: _mm256_cvtepi8_epi16(scales),
            d_min: -f32::from(Self::OFFSET) * d,
        }
    }
}

/// Scales and mins of 32 weights each, as words, and what they are multiplied by.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn eight_scales(group: *const u8) -> (__m128i, __m256i, f32, f32) {
    // SAFETY: the caller's group has 16 bytes.
    let (d, d_min, (scales, mins)) =
        unsafe { (f16(group), f16(group.add(2)), eight_scales_and_mins(slice::from_raw_parts(group.add(4), 12))) };
    let words = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(scales as i64));
    let mins = _mm_cvtsi64_si128(mins as i64);
    // Each min for two runs.
    (words, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins)), d, -d_min)
}

pub(super) struct Q4K;

impl Whole for Q4K {
    const TYPE: TensorType = TensorType::Q4_K;
    const ORDER: Order = Order::Pairs;
    const SCALES: Scales = Scales::Words;
    const HAS_MINS: bool = true;
    const LEVELS: usize = 16;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 144 bytes.
        let ((scales, mins, d, d_min), a, b) = unsafe {
            let (a, b) = (group.add(16), group.add(80));
            let scales = eight_scales(group);
            (scales, _mm512_loadu_si512(a.cast()), _mm512_loadu_si512(b.cast()))
        };
        let nibble = _mm512_set1_epi8(15);
        let u = [
            _mm512_and_si512(a, nibble),
            _mm512_and_si512(_mm512_srli_epi16(a, 4), nibble),
            _mm512_and_si512(b, nibble),
            _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble),
        ];
        Weights { u, signs: [0; 4], scales, d, mins, d_min }
    }
}

pub(super) struct Q5K;

impl Whole for Q5K {
    const TYPE: TensorType = TensorType::Q5_K;
    const ORDER: Order = Order::Pairs;
    const SCALES: Scales = Scales::Words;
    const HAS_MINS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 176 bytes.
        let ((scales, mins, d, d_min), high, a, b) = unsafe {
            let (a, b) = (group.add(48), group.add(112));
            let scales = eight_scales(group);
            let high = _mm256_loadu_si256(group.add(16).cast());
            (scales, high, _mm512_loadu_si512(a.cast()), _mm512_loadu_si512(b.cast()))
        };
        // Of each second 64 weights, the high bits are two further up.
        let high = _mm512_inserti64x4(_mm512_castsi256_si512(high), _mm256_srli_epi16(high, 2), 1);
        let (nibble, sixteen) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        let u = [
            join(a, nibble, _mm512_slli_epi16(high, 4), sixteen),
            join(_mm512_srli_epi16(a, 4), nibble, _mm512_slli_epi16(high, 3), sixteen),
            join(b, nibble, high, sixteen),
            join(_mm512_srli_epi16(b, 4), nibble, _mm512_srli_epi16(high, 1), sixteen),
        ];
        Weights { u, signs: [0; 4], scales, d, mins, d_min }
    }
}

pub(super) struct Q6K;

impl Whole for Q6K {
    const TYPE: TensorType = TensorType::Q6_K;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::SignedBytes;
    const HAS_MINS: bool = true;
    const OFFSET: u8 = 32;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> Weights {
        // SAFETY: the group's 210 bytes.
        let (a, b, high, scales, d) = unsafe {
            (
                _mm512_loadu_si512(group.cast()),
                _mm512_loadu_si512(group.add(64).cast()),
                [_mm256_loadu_si256(group.add(128).cast()), _mm256_loadu_si256(group.add(160).cast())],
                _mm_loadu_si128(group.add(192).cast()),
                f16(group.add(208)),
            )
        };
        // Of each second 32 weights, the high bits are two further up.
        let [high_a, high_b] =
            high.map(|half| _mm512_inserti64x4(_mm512_castsi256_si512(half), _mm256_srli_epi16(half, 2), 1));
        let (nibble, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        Weights {
            u: [
                join(a, nibble, _mm512_slli_epi16(high_a, 4), two),
                join(_mm512_srli_epi16(a, 4), nibble, high_a, two),
                join(b, nibble, _mm512_slli_epi16(high_b, 4), two),
                join(_mm512_srli_epi16(b, 4), nibble, high_b, two),
            ],
            signs: [0; 4],
            scales,
            d,
            mins: _mm256_cvtepi8_epi16(scales),
            d_min: -f32::from(Self::OFFSET) * d,
        }
    }
}
