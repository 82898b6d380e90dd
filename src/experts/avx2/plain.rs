//! The types of 32 weights with one F16 scale; a group is eight blocks.

use super::tables::Tables;
use super::{BIT_OF_EIGHT, Floats};
use crate::gguf::TensorType;
use std::arch::x86_64::*;

/// The low nibbles of 16 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller's pointer has 16 bytes.
    let both = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(at.cast()) });
    _mm256_and_si256(_mm256_srlv_epi64(both, _mm256_setr_epi64x(0, 0, 4, 4)), _mm256_set1_epi8(15))
}

pub(super) struct Q4_0;

impl Floats for Q4_0 {
    const TYPE: TensorType = TensorType::Q4_0;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(block: *const u8, _: &Tables) -> __m256i {
        // SAFETY: the block's 18 bytes.
        _mm256_sub_epi8(unsafe { nibbles(block.add(2)) }, _mm256_set1_epi8(8))
    }
}

pub(super) struct Q5_0;

impl Floats for Q5_0 {
    const TYPE: TensorType = TensorType::Q5_0;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(block: *const u8, _: &Tables) -> __m256i {
        const EIGHT: i64 = 0x0101_0101_0101_0101;
        let bytes = _mm256_setr_epi64x(0, EIGHT, 2 * EIGHT, 3 * EIGHT);
        let bit = _mm256_set1_epi64x(BIT_OF_EIGHT);
        // SAFETY: the block's 22 bytes.
        let (high, low) =
            unsafe { (_mm256_set1_epi32(block.add(2).cast::<i32>().read_unaligned()), nibbles(block.add(6))) };
        let high = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(high, bytes), bit), bit);
        // Where the bit is not set, 16 less.
        _mm256_or_si256(low, _mm256_andnot_si256(high, _mm256_set1_epi8(-16)))
    }
}

pub(super) struct Q8_0;

impl Floats for Q8_0 {
    const TYPE: TensorType = TensorType::Q8_0;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(block: *const u8, _: &Tables) -> __m256i {
        // SAFETY: the block's 34 bytes.
        unsafe { _mm256_loadu_si256(block.add(2).cast()) }
    }
}

pub(super) struct Iq4Nl;

impl Floats for Iq4Nl {
    const TYPE: TensorType = TensorType::IQ4_NL;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(block: *const u8, tables: &Tables) -> __m256i {
        // SAFETY: the block's 18 bytes; the table has 16.
        unsafe {
            let values = _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.iq4.as_ptr().cast()));
            _mm256_shuffle_epi8(values, nibbles(block.add(2)))
        }
    }
}
