//! The types of 32 weights with one F16 scale; a group is eight blocks.

use super::tables::Tables;
use super::{FloatWeights, Floats, twice};
use crate::gguf::TensorType;
use std::arch::x86_64::*;

/// The scales of eight blocks of `BYTES`, which they begin with, each twice.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn scales<const BYTES: usize>(group: *const u8) -> __m512 {
    // SAFETY: the caller's group has eight blocks.
    let d = |n: usize| unsafe { group.add(n * BYTES).cast::<i16>().read_unaligned() };
    twice(_mm256_cvtph_ps(_mm_setr_epi16(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7))))
}

/// The low and the high nibbles of two times 16 bytes, the high ones in bits 4 to 7 still.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn nibbles(a: *const u8, b: *const u8) -> __m512i {
    // SAFETY: the caller's pointers have 16 bytes each.
    let (a, b) = unsafe { (_mm_loadu_si128(a.cast()), _mm_loadu_si128(b.cast())) };
    let both =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_broadcastsi128_si256(a)), _mm256_broadcastsi128_si256(b), 1);
    // The second of two lanes moves down.
    let shift = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    _mm512_and_si512(_mm512_srlv_epi64(both, shift), _mm512_set1_epi8(15))
}

pub(super) struct Q4_0;

impl Floats for Q4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    const OFFSET: f32 = 8.0;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> FloatWeights {
        // SAFETY: eight blocks of 18 bytes.
        unsafe {
            let scale = scales::<18>(group);
            let u = std::array::from_fn(|i| nibbles(group.add(36 * i + 2), group.add(36 * i + 20)));
            FloatWeights { u, scale }
        }
    }
}

pub(super) struct Iq4Nl;

impl Floats for Iq4Nl {
    const TYPE: TensorType = TensorType::IQ4_NL;
    const OFFSET: f32 = 128.0;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> FloatWeights {
        // SAFETY: eight blocks of 18 bytes; the table has 64.
        unsafe {
            let (scale, values) = (scales::<18>(group), _mm512_loadu_si512(tables.iq4.as_ptr().cast()));
            let u = std::array::from_fn(|i| {
                _mm512_shuffle_epi8(values, nibbles(group.add(36 * i + 2), group.add(36 * i + 20)))
            });
            FloatWeights { u, scale }
        }
    }
}

pub(super) struct Q5_0;

impl Floats for Q5_0 {
    const TYPE: TensorType = TensorType::Q5_0;
    const OFFSET: f32 = 16.0;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> FloatWeights {
        // SAFETY: eight blocks of 22 bytes.
        unsafe {
            let scale = scales::<22>(group);
            let high = |n: usize| u64::from(group.add(22 * n + 2).cast::<u32>().read_unaligned());
            let u = std::array::from_fn(|i| {
                let low = nibbles(group.add(44 * i + 6), group.add(44 * i + 28));
                let high = high(2 * i) | high(2 * i + 1) << 32;
                _mm512_mask_add_epi8(low, high, low, _mm512_set1_epi8(16))
            });
            FloatWeights { u, scale }
        }
    }
}

pub(super) struct Q8_0;

impl Floats for Q8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    const OFFSET: f32 = 128.0;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, _: &Tables) -> FloatWeights {
        // SAFETY: eight blocks of 34 bytes.
        unsafe {
            let scale = scales::<34>(group);
            let block = |n: usize| _mm256_loadu_si256(group.add(34 * n + 2).cast());
            let u = std::array::from_fn(|i| {
                let both = _mm512_inserti64x4(_mm512_castsi256_si512(block(2 * i)), block(2 * i + 1), 1);
                _mm512_xor_si512(both, _mm512_set1_epi8(-128))
            });
            FloatWeights { u, scale }
        }
    }
}
