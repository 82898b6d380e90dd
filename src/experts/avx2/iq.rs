//! The IQ types of 256 weights. Their layouts are told in `block/iq.rs`.
//!
//! Entries of codebooks are loaded one by one. Where an index has more than eight bits, four are put together in a
//! word of 64: the more bits by a multiplication by powers of two, which moves each field to its place. Fields that meet
//! there do so between the places, and the sum of two reaches none.

use super::tables::Tables;
use super::{Head, Mins, Signs, Whole, by_halves, f16, halves};
use crate::experts::block::iq1_m_d;
use crate::gguf::TensorType;
use std::arch::x86_64::*;

/// Four entries of eight bytes.
///
/// # Safety
/// The book has entries for all indices.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn entries(book: &[u64], indices: [usize; 4]) -> __m256i {
    // SAFETY: the caller's word.
    let [a, b, c, d] = indices.map(|index| unsafe { book.as_ptr().add(index).cast::<f64>() });
    // SAFETY: as above.
    let two = |a, b| unsafe { _mm_loadh_pd(_mm_load_sd(a), b) };
    _mm256_castpd_si256(_mm256_set_m128d(two(c, d), two(a, b)))
}

/// Eight entries of four bytes; as unsafe as [`entries`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn short_entries(book: &[u32], indices: [usize; 8]) -> __m256i {
    // SAFETY: the caller's word.
    let [a, b, c, d, e, f, g, h] = indices.map(|index| unsafe { *book.get_unchecked(index) } as i32);
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

/// The four of 16 bits each.
fn four(indices: u64) -> [usize; 4] {
    [indices, indices >> 16, indices >> 32, indices >> 48].map(|index| usize::from(index as u16))
}

/// Four bytes at 16 bits each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn four_bytes(at: *const u8) -> u64 {
    // SAFETY: the caller's pointer has four bytes.
    _mm_cvtsi128_si64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() }))) as u64
}

/// Fields of `BITS`, the lowest of a number and those that follow it, from bit 8 on of 16 each.
fn fields<const BITS: u32>(number: u64) -> u64 {
    let places = const { 1 << 8 | 1 << (24 - BITS) | 1 << (40 - 2 * BITS) | 1 << (56 - 3 * BITS) };
    let mask = const { ((1 << BITS) - 1) * 0x0100_0100_0100_0100 };
    (number * places) & mask
}

/// Bytes of seven signs, with the eighth, which makes their number even.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn even(seven: __m256i) -> __m256i {
    const ODD: i8 = -128;
    let odd =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, ODD, ODD, 0, ODD, 0, 0, ODD, ODD, 0, 0, ODD, 0, ODD, ODD, 0));
    // The parity of a nibble is that of both nibbles' difference.
    let both = _mm256_xor_si256(seven, _mm256_srli_epi16(seven, 4));
    _mm256_or_si256(seven, _mm256_shuffle_epi8(odd, _mm256_and_si256(both, _mm256_set1_epi8(15))))
}

/// What types without mins have: what stands in their place is not read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn without_mins(eights: [__m256i; 2], scales: __m256i, d: __m256) -> Head {
    Head { eights, scales, d, mins: scales, d_min: d }
}

/// Of eight times 28 signs and 4 bits of scale: the signs with those that are not stored, and twice the scales.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signs_and_scales(all: __m256i) -> ([__m256i; 2], __m256i) {
    let seven = |bytes: __m256i, n: u32| _mm256_and_si256(bytes, _mm256_set1_epi32(0x7f << (8 * n)));
    let signs = _mm256_or_si256(
        _mm256_or_si256(seven(all, 0), seven(_mm256_slli_epi32(all, 1), 1)),
        _mm256_or_si256(seven(_mm256_slli_epi32(all, 2), 2), seven(_mm256_slli_epi32(all, 3), 3)),
    );
    let scales = _mm256_and_si256(_mm256_srli_epi32(all, 27), _mm256_set1_epi32(30));
    let [low, high] = halves(_mm256_or_si256(scales, _mm256_set1_epi32(1)));
    (halves(even(signs)), _mm256_packs_epi32(low, high))
}

pub(super) struct Iq1S;

impl Whole for Iq1S {
    const TYPE: TensorType = TensorType::IQ1_S;
    const UNIT: f32 = 0.125;
    const MINS: Mins = Mins::Scaled;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 50 bytes.
        let (d, high) = unsafe { (f16(group), _mm_loadu_si128(group.add(34).cast())) };
        let one = _mm_set1_epi16(1);
        let scale = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(high, 11), _mm_set1_epi16(14)), one);
        let eighths = _mm_slli_epi16(scale, 3);
        // The entry is one too large, and the shift is an eighth up or down: in eighths, -8 and 1 or -1.
        let min = _mm_sub_epi16(_mm_sign_epi16(scale, _mm_or_si128(high, one)), eighths);
        // Each min for two runs.
        let mins = _mm256_set_m128i(_mm_unpackhi_epi16(min, min), _mm_unpacklo_epi16(min, min));
        Head { eights: [mins; 2], scales: _mm256_broadcastsi128_si256(eighths), d, mins, d_min: d }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 50 bytes; indices of 11 bits.
        unsafe {
            let more = group.add(34 + 2 * I).cast::<u16>().read_unaligned() & 0xfff;
            entries(&tables.iq1_s, four(four_bytes(group.add(2 + 4 * I)) | fields::<3>(more.into())))
        }
    }
}

pub(super) struct Iq1M;

impl Whole for Iq1M {
    const TYPE: TensorType = TensorType::IQ1_M;
    const UNIT: f32 = 0.125;
    const MINS: Mins = Mins::Scaled;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 56 bytes.
        let (high, scales) =
            unsafe { (_mm_loadu_si128(group.add(32).cast()), group.add(48).cast::<u64>().read_unaligned()) };
        let word = |n: u32| (scales >> (16 * n)) as u16;
        let d = iq1_m_d([word(0), word(1), word(2), word(3)]);
        let d = _mm256_cvtph_ps(_mm_set1_epi16(d as i16));
        // 2 for each eight whose shift is down, and whose entry, in eighths, is less by as much than it says.
        let two = _mm_set1_epi8(2);
        let first = _mm_and_si128(_mm_srli_epi16(high, 2), two);
        let second = _mm_and_si128(_mm_srli_epi16(high, 6), two);
        let down = [_mm_unpacklo_epi8(first, second), _mm_unpackhi_epi8(first, second)];
        let down = down.map(|half| _mm256_broadcastsi128_si256(half));
        let all = _mm256_set1_epi64x(scales as i64);
        // Odd scales of the fields at 0, 3, 6 or 9 of words, by a multiplication that moves them to the top.
        let odd_scales = |places: __m256i, factors: __m256i| {
            let top = _mm256_mullo_epi16(_mm256_shuffle_epi8(all, places), factors);
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(top, 12), _mm256_set1_epi16(14)), _mm256_set1_epi16(1))
        };
        let twice = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7));
        let (even, odd) = (_mm_set1_epi32(0x0080_2000), _mm_set1_epi32(0x0010_0400));
        let scales = odd_scales(twice, _mm256_set_m128i(odd, even));
        let word = |n: i64| n * 0x0202_0202_0202_0202 + 0x0100_0100_0100_0100;
        let four_times = _mm256_setr_epi64x(word(0), word(1), word(2), word(3));
        let in_order = odd_scales(four_times, _mm256_set1_epi64x(0x0010_0080_0400_2000));
        // Entries are in eighths and nine too large.
        Head { eights: down, scales, d, mins: _mm256_mullo_epi16(in_order, _mm256_set1_epi16(-9)), d_min: d }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, head: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 56 bytes; indices of 11 bits.
        let entries = unsafe {
            let more = group.add(32 + 2 * I).cast::<u16>().read_unaligned() & 0x7777;
            entries(&tables.iq1_m, four(four_bytes(group.add(4 * I)) | fields::<4>(more.into())))
        };
        // SAFETY: 32 bytes.
        let places = unsafe { _mm256_loadu_si256(tables.eights[I % 4].as_ptr().cast()) };
        _mm256_sub_epi8(entries, _mm256_shuffle_epi8(head.eights[I / 4], places))
    }
}

pub(super) struct Iq2Xxs;

impl Whole for Iq2Xxs {
    const TYPE: TensorType = TensorType::IQ2_XXS;
    const UNIT: f32 = 0.125;
    const SIGNS: Signs = Signs::Bits;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 66 bytes.
        let (d, a, b) =
            unsafe { (f16(group), _mm256_loadu_ps(group.add(2).cast()), _mm256_loadu_ps(group.add(34).cast())) };
        // The second four of each eight bytes, in order.
        let more = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0b1101_1101));
        let (signs, scales) = signs_and_scales(_mm256_permute4x64_epi64(more, 0b1101_1000));
        without_mins(signs, scales, d)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 66 bytes; indices of eight bits.
        unsafe {
            let bytes = group.add(2 + 8 * I).cast::<u32>().read_unaligned().to_le_bytes();
            entries(&tables.iq2_xxs, bytes.map(usize::from))
        }
    }
}

/// Sixteen scales of four bits in eight bytes: twice their worth.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibble_scales(at: *const u8) -> __m256i {
    // SAFETY: the caller's pointer has 8 bytes.
    let both = unsafe { _mm_loadl_epi64(at.cast()) };
    let twice = _mm_unpacklo_epi8(_mm_slli_epi16(both, 1), _mm_srli_epi16(both, 3));
    let odd = _mm_or_si128(_mm_and_si128(twice, _mm_set1_epi8(30)), _mm_set1_epi8(1));
    _mm256_cvtepu8_epi16(by_halves(odd))
}

pub(super) struct Iq2Xs;

impl Whole for Iq2Xs {
    const TYPE: TensorType = TensorType::IQ2_XS;
    const UNIT: f32 = 0.125;
    const SIGNS: Signs = Signs::Bits;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 74 bytes.
        let (d, words, scales) = unsafe {
            let words = [2, 34].map(|at| _mm256_loadu_si256(group.add(at).cast()));
            (f16(group), words, nibble_scales(group.add(66)))
        };
        let [a, b] = words.map(|words| _mm256_srli_epi16(words, 9));
        let signs = even(_mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0b1101_1000));
        without_mins(halves(signs), scales, d)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 74 bytes; indices of nine bits.
        unsafe {
            let words = group.add(2 + 8 * I).cast::<u64>().read_unaligned();
            entries(&tables.iq2_xs, four(words & 0x01ff_01ff_01ff_01ff))
        }
    }
}

/// 32 bytes of signs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn stored_signs(at: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's pointer has 32 bytes.
    [0, 16].map(|n| _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(at.add(n).cast()) }))
}

pub(super) struct Iq2S;

impl Whole for Iq2S {
    const TYPE: TensorType = TensorType::IQ2_S;
    const UNIT: f32 = 0.125;
    const SIGNS: Signs = Signs::Bits;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 82 bytes.
        unsafe { without_mins(stored_signs(group.add(34)), nibble_scales(group.add(74)), f16(group)) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 82 bytes; indices of ten bits.
        unsafe {
            let more = *group.add(66 + I);
            entries(&tables.iq2_s, four(four_bytes(group.add(2 + 4 * I)) | fields::<2>(more.into())))
        }
    }
}

pub(super) struct Iq3Xxs;

impl Whole for Iq3Xxs {
    const TYPE: TensorType = TensorType::IQ3_XXS;
    const UNIT: f32 = 0.25;
    const SIGNS: Signs = Signs::Bits;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 98 bytes.
        unsafe {
            let (signs, scales) = signs_and_scales(_mm256_loadu_si256(group.add(66).cast()));
            without_mins(signs, scales, f16(group))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 98 bytes; indices of eight bits.
        unsafe {
            let bytes = group.add(2 + 8 * I).cast::<u64>().read_unaligned().to_le_bytes();
            short_entries(&tables.iq3_xxs, bytes.map(usize::from))
        }
    }
}

pub(super) struct Iq3S;

impl Whole for Iq3S {
    const TYPE: TensorType = TensorType::IQ3_S;
    const SIGNS: Signs = Signs::Bits;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 110 bytes.
        unsafe {
            // Eight nibbles to eight words, twice and one more.
            let both = _mm_cvtsi32_si128(group.add(106).cast::<i32>().read_unaligned());
            let twice = _mm_unpacklo_epi8(_mm_slli_epi16(both, 1), _mm_srli_epi16(both, 3));
            let odd = _mm_or_si128(_mm_and_si128(twice, _mm_set1_epi8(30)), _mm_set1_epi8(1));
            let scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(odd));
            without_mins(stored_signs(group.add(74)), scales, f16(group))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 110 bytes; indices of nine bits.
        unsafe {
            let (at, more) = (group.add(2 + 8 * I), u64::from(*group.add(66 + I)));
            let [a, b, c, d] = four(four_bytes(at) | fields::<1>(more & 15));
            let [e, f, g, h] = four(four_bytes(at.add(4)) | fields::<1>(more >> 4));
            short_entries(&tables.iq3_s, [a, b, c, d, e, f, g, h])
        }
    }
}

pub(super) struct Iq4Xs;

impl Whole for Iq4Xs {
    const TYPE: TensorType = TensorType::IQ4_XS;
    const SIGNS: Signs = Signs::Bytes;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head<const N: usize>(group: *const u8) -> Head {
        // SAFETY: the group's 136 bytes.
        unsafe {
            // Four bits and two more to eight words: each to the top by multiplication.
            let low = _mm_set1_epi32(group.add(4).cast::<i32>().read_unaligned());
            let low = _mm_shuffle_epi8(low, _mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3));
            let low = _mm_mullo_epi16(low, _mm_set1_epi64x(0x0001_0010_0100_1000));
            let high = _mm_set1_epi16(group.add(2).cast::<i16>().read_unaligned());
            let steps = _mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
            let high = _mm_mullo_epi16(high, steps);
            let high = _mm_and_si128(_mm_srli_epi16(high, 10), _mm_set1_epi16(0x30));
            let scale = _mm_sub_epi16(_mm_or_si128(_mm_srli_epi16(low, 12), high), _mm_set1_epi16(32));
            let scales = _mm256_broadcastsi128_si256(scale);
            without_mins([scales; 2], scales, f16(group))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn vector<const N: usize, const I: usize>(group: *const u8, _: &Head, tables: &Tables) -> __m256i {
        // SAFETY: the group's 136 bytes; the table has 16.
        unsafe {
            let values = _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.iq4.as_ptr().cast()));
            let both = _mm256_broadcastsi128_si256(_mm_loadu_si128(group.add(8 + 16 * I).cast()));
            let q = _mm256_srlv_epi64(both, _mm256_setr_epi64x(0, 0, 4, 4));
            _mm256_shuffle_epi8(values, _mm256_and_si256(q, _mm256_set1_epi8(15)))
        }
    }
}
