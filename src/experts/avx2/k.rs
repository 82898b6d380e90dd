//! The K types. Their layouts are told in `block/k.rs`.

use super::tables::Tables;
use super::{Head, Mins, Whole, by_halves, f16};
use crate::experts::block::{eight_scales_and_mins, q3_k_scales};
use crate::gguf::TensorType;
use std::arch::x86_64::*;
use std::slice;

/// Vector `n` of those at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(at: *const u8, n: usize) -> __m256i {
    // SAFETY: the caller's pointer has as many.
    unsafe { _mm256_loadu_si256(at.add(32 * n).cast()) }
}

/// The bits of each byte from bit `from` on to bit `to` on, and of them those in `mask`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bits(bytes: __m256i, from: usize, to: usize, mask: i8) -> __m256i {
    let shifted = if from > to {
        _mm256_srl_epi16(bytes, _mm_cvtsi64_si128((from - to) as i64))
    } else {
        _mm256_sll_epi16(bytes, _mm_cvtsi64_si128((to - from) as i64))
    };
    _mm256_and_si256(shifted, _mm256_set1_epi8(mask))
}

/// Where the two bits of a layer are left: the first three where they are, so that their weights count as 1, 4 and
/// 16, the last, whose products would not fit, one layer further down, as the third.
const fn layer(i: usize) -> usize {
    if i % 4 < 3 { 2 * (i % 4) } else { 4 }
}

/// Scales for weights that are left there, 16 times what they are.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn by_layers(scales: __m256i) -> __m256i {
    _mm256_mullo_epi16(scales, _mm256_set1_epi64x(0x0001_0001_0004_0010))
}

pub(super) struct Q2K;

impl Whole for Q2K {
    const TYPE: TensorType = TensorType::Q2_K;
    const UNIT: f32 = 1.0 / 16.0;
    const MINS: Mins = Mins::Own;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 84 bytes.
        let (both, d, d_min) = unsafe { (_mm_loadu_si128(group.cast()), f16(group.add(80)), f16(group.add(82))) };
        // 16 times what it is, as the scales are.
        let mins = _mm256_cvtepu8_epi16(_mm_and_si128(both, _mm_set1_epi8(-16)));
        Head {
            eights: [mins; 2],
            scales: by_layers(_mm256_cvtepu8_epi16(by_halves(_mm_and_si128(both, _mm_set1_epi8(15))))),
            d,
            mins,
            d_min,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, _: &Tables) -> __m256i {
        // SAFETY: 64 bytes.
        let q = unsafe { load(group.add(16), I / 4) };
        bits(q, 2 * (I % 4), layer(I), 3 << layer(I))
    }
}

pub(super) struct Q3K;

impl Whole for Q3K {
    const TYPE: TensorType = TensorType::Q3_K;
    const UNIT: f32 = 1.0 / 16.0;
    const MINS: Mins = Mins::Scaled;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 110 bytes.
        let (scales, d) = unsafe { (q3_k_scales(slice::from_raw_parts(group.add(96), 12)), f16(group.add(108))) };
        let scales = _mm_set_epi64x((scales >> 64) as i64, scales as i64);
        let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
        let mins = _mm256_mullo_epi16(_mm256_cvtepi8_epi16(scales), _mm256_set1_epi16(-4 * 16));
        Head { eights: [mins; 2], scales: by_layers(_mm256_cvtepi8_epi16(by_halves(scales))), d, mins, d_min: d }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, _: &Tables) -> __m256i {
        // SAFETY: 32 bytes of high bits and 64 of the others.
        let (high, low) = unsafe { (load(group, 0), load(group.add(32), I / 4)) };
        let to = layer(I);
        _mm256_or_si256(bits(low, 2 * (I % 4), to, 3 << to), bits(high, I, to + 2, 4 << to))
    }
}

/// Scales of 32 weights each in both halves, mins for two runs each, and what they are multiplied by.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight_scales(group: *const u8) -> Head {
    // SAFETY: the caller's group has 16 bytes.
    let (d, d_min, (scales, mins)) =
        unsafe { (f16(group), f16(group.add(2)), eight_scales_and_mins(slice::from_raw_parts(group.add(4), 12))) };
    let mins = _mm_cvtsi64_si128(mins as i64);
    let mins = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins));
    let scales = _mm256_cvtepu8_epi16(_mm_set1_epi64x(scales as i64));
    Head { eights: [mins; 2], scales, d, mins, d_min }
}

pub(super) struct Q4K;

impl Whole for Q4K {
    const TYPE: TensorType = TensorType::Q4_K;
    const MINS: Mins = Mins::Own;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 144 bytes.
        unsafe { eight_scales(group) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, _: &Tables) -> __m256i {
        // SAFETY: 128 bytes.
        bits(unsafe { load(group.add(16), I / 2) }, 4 * (I % 2), 0, 15)
    }
}

pub(super) struct Q5K;

impl Whole for Q5K {
    const TYPE: TensorType = TensorType::Q5_K;
    const MINS: Mins = Mins::Own;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 176 bytes.
        unsafe { eight_scales(group) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, _: &Tables) -> __m256i {
        // SAFETY: 32 bytes of high bits and 128 of the others.
        let (high, low) = unsafe { (load(group.add(16), 0), load(group.add(48), I / 2)) };
        _mm256_or_si256(bits(low, 4 * (I % 2), 0, 15), bits(high, I, 4, 16))
    }
}

pub(super) struct Q6K;

impl Whole for Q6K {
    const TYPE: TensorType = TensorType::Q6_K;
    const MINS: Mins = Mins::Scaled;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 210 bytes.
        let (scales, d) = unsafe { (_mm_loadu_si128(group.add(192).cast()), f16(group.add(208))) };
        let mins = _mm256_mullo_epi16(_mm256_cvtepi8_epi16(scales), _mm256_set1_epi16(-32));
        Head { eights: [mins; 2], scales: _mm256_cvtepi8_epi16(by_halves(scales)), d, mins, d_min: d }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, _: &Tables) -> __m256i {
        // SAFETY: 128 bytes of low bits and 64 of high ones; of each 128 weights, 64 are in low nibbles, 64 in high ones.
        let (low, high) = unsafe { (load(group, 2 * (I / 4) + I % 2), load(group.add(128), I / 4)) };
        _mm256_or_si256(bits(low, 4 * (I % 4 / 2), 0, 15), bits(high, 2 * (I % 4), 4, 0x30))
    }
}
