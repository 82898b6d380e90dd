//! The IQ types of 256 weights. Their layouts are told in `block/iq.rs`.
//!
//! Small codebooks are looked up in registers: two bits (IQ2) or four (IQ3_S) are enough for an amount, so that an
//! entry is two bytes, and each byte of 64 entries is a permutation. Large ones (IQ1, IQ2_S) are read from memory.

use super::tables::Tables;
use super::{Format, Weights, f16, twice};
use crate::experts::block::iq1_m_d;
use crate::gguf::TensorType;
use std::arch::x86_64::*;

/// Eight entries a vector, by 32 indices.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn look_up(book: &[[u8; 8]], indices: __m512i) -> [__m512i; 4] {
    #[repr(align(64))]
    struct Indices([u16; 32]);
    let mut index = Indices([0; 32]);
    // SAFETY: 64 bytes.
    unsafe { _mm512_store_si512(index.0.as_mut_ptr().cast(), indices) };
    std::array::from_fn(|i| {
        // SAFETY: the callers' indices have as many bits as the book has entries for.
        let entry = |j: usize| unsafe {
            book.as_ptr().add(usize::from(*index.0.get_unchecked(8 * i + j))).cast::<i64>().read_unaligned()
        };
        _mm512_setr_epi64(entry(0), entry(1), entry(2), entry(3), entry(4), entry(5), entry(6), entry(7))
    })
}

/// 32 bytes as words.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn words(at: *const u8) -> __m512i {
    // SAFETY: the caller's pointer has 32 bytes.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(at.cast()) })
}

pub(super) struct Iq1S;

impl Format for Iq1S {
    const TYPE: TensorType = TensorType::IQ1_S;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 50 bytes.
        let (d, low, high) = unsafe { (f16(group), words(group.add(2)), _mm_loadu_si128(group.add(34).cast())) };
        // Of each word four times three bits, to bits 8 to 10.
        let shifts = _mm512_set1_epi64(0x0900_0600_0300_0000);
        let fields = _mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu16_epi64(high));
        let indices = _mm512_or_si512(low, _mm512_and_si512(fields, _mm512_set1_epi16(0x700)));
        let high = _mm256_cvtepu16_epi32(high);
        let scale = _mm256_and_si256(_mm256_srli_epi32(high, 12), _mm256_set1_epi32(7));
        let scale = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(scale, scale), _mm256_set1_epi32(1)));
        let scale = _mm256_mul_ps(scale, _mm256_set1_ps(d));
        // The entry is one too large, and the shift is an eighth up or down.
        let is_down = _mm256_movepi32_mask(_mm256_slli_epi32(high, 16));
        let shift = _mm256_mask_blend_ps(is_down, _mm256_set1_ps(-0.875), _mm256_set1_ps(-1.125));
        Weights {
            // SAFETY: indices of 11 bits.
            u: unsafe { look_up(&tables.iq1, indices) },
            scale: twice(scale),
            min: twice(_mm256_mul_ps(scale, shift)),
        }
    }
}

pub(super) struct Iq1M;

impl Format for Iq1M {
    const TYPE: TensorType = TensorType::IQ1_M;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 56 bytes.
        let (low, high, scales) = unsafe {
            let scales = group.add(48).cast::<u64>().read_unaligned();
            (words(group), _mm_loadu_si128(group.add(32).cast()), scales)
        };
        let word = |n: u32| (scales >> (16 * n)) as u16;
        let d = iq1_m_d([word(0), word(1), word(2), word(3)]);
        // Of each byte two nibbles: three bits of index, to bits 8 to 10 of two words, and the shift.
        let both = _mm512_cvtepu8_epi32(high);
        let both = _mm512_or_si512(_mm512_slli_epi32(both, 8), _mm512_slli_epi32(both, 20));
        let indices = _mm512_or_si512(low, _mm512_and_si512(both, _mm512_set1_epi16(0x700)));
        let is_down = _mm512_test_epi16_mask(both, _mm512_set1_epi16(0x800));
        // Sixteen times three bits: three twelfths of a word each, the words' last four bits are d's.
        let fields = _mm512_multishift_epi64_epi8(
            _mm512_setr_epi64(0, 3, 6, 9, 16, 19, 22, 25),
            _mm512_set1_epi64(scales as i64),
        );
        let more = _mm512_multishift_epi64_epi8(
            _mm512_setr_epi64(32, 35, 38, 41, 48, 51, 54, 57),
            _mm512_set1_epi64(scales as i64),
        );
        let fields = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm512_cvtepi64_epi32(fields)),
            _mm512_cvtepi64_epi32(more),
            1,
        );
        let fields = _mm512_and_si512(fields, _mm512_set1_epi32(7));
        let scale = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_add_epi32(fields, fields), _mm512_set1_epi32(1)));
        let scale = _mm512_mul_ps(scale, _mm512_set1_ps(d / 8.0));
        // SAFETY: indices of 11 bits.
        let entries = unsafe { look_up(&tables.iq1, indices) };
        // Eight times the entry, which is one too large, and two more where the shift is up: nine too large.
        let up = _mm512_set1_epi8(2);
        let u = std::array::from_fn(|i| {
            let eight_times = _mm512_slli_epi16(entries[i], 3);
            let is_up = !(is_down >> (8 * i)) as u8;
            _mm512_add_epi8(eight_times, _mm512_maskz_mov_epi64(is_up, up))
        });
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-9.0)) }
    }
}

/// Amounts with 128 added, negative where a bit is set: 0 less is 128 less, too.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn signed(amounts: [__m512i; 4], signs: __m256i) -> [__m512i; 4] {
    let mut masks = [0u64; 4];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(masks.as_mut_ptr().cast(), signs) };
    std::array::from_fn(|i| _mm512_mask_sub_epi8(amounts[i], masks[i], _mm512_setzero_si512(), amounts[i]))
}

/// Bytes of seven signs, with the eighth, which makes their number even.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn even(signs: __m256i) -> __m256i {
    const ODD: i8 = -128;
    let odd = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, ODD, ODD, 0, ODD, 0, 0, ODD, ODD, 0, 0, ODD, 0, ODD, ODD, 0));
    let nibble = _mm256_set1_epi8(15);
    let signs = _mm256_and_si256(signs, _mm256_set1_epi8(0x7f));
    let low = _mm256_shuffle_epi8(odd, _mm256_and_si256(signs, nibble));
    let high = _mm256_shuffle_epi8(odd, _mm256_and_si256(_mm256_srli_epi16(signs, 4), nibble));
    _mm256_or_si256(signs, _mm256_xor_si256(low, high))
}

/// Bytes of a table by the low bytes of words; what the high bytes become is of no use.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn bytes_of_256(table: &[u8; 256], indices: __m512i, is_upper: u32) -> __m512i {
    // SAFETY: four times 64 bytes.
    let part = |n: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * n).cast()) };
    let first = _mm512_permutex2var_epi8(part(0), indices, part(1));
    let second = _mm512_permutex2var_epi8(part(2), indices, part(3));
    _mm512_mask_blend_epi16(is_upper, first, second)
}

/// Eight amounts for each word of eight times two bits.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn amounts(low: __m512i, high: __m512i, tables: &Tables) -> [__m512i; 4] {
    let low_byte = _mm512_set1_epi16(0xff);
    let codes = _mm512_or_si512(_mm512_and_si512(low, low_byte), _mm512_slli_epi16(high, 8));
    // SAFETY: 64 bytes.
    let values = unsafe { _mm512_loadu_si512(tables.iq2_amounts.as_ptr().cast()) };
    let two_bits = _mm512_set1_epi64(0x0e0c_0a08_0604_0200);
    let each = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    std::array::from_fn(|i| {
        // Word 8·i + q in all four words of quarter q.
        let place = _mm512_add_epi64(each, _mm512_set1_epi64(8 * i as i64));
        let place = _mm512_mullo_epi64(place, _mm512_set1_epi64(0x0001_0001_0001_0001));
        let word = _mm512_permutexvar_epi16(place, codes);
        _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(two_bits, word), values)
    })
}

pub(super) struct Iq2Xxs;

impl Format for Iq2Xxs {
    const TYPE: TensorType = TensorType::IQ2_XXS;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 66 bytes.
        let (d, all) = unsafe { (f16(group), _mm512_loadu_si512(group.add(2).cast())) };
        // Of each eight bytes: four indices, four times seven signs, four bits of scale.
        let indices = _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(all));
        let is_upper = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(0x80));
        let signs = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x352e_2720), all);
        let signs = even(_mm512_cvtepi64_epi32(signs));
        let scale = _mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(_mm512_srli_epi64(all, 60)));
        let scale = twice(_mm256_mul_ps(_mm256_add_ps(scale, _mm256_set1_ps(0.5)), _mm256_set1_ps(d * 0.25)));
        // SAFETY: what these ask for is what this function does.
        let u = unsafe {
            let low = bytes_of_256(&tables.iq2_xxs[0], indices, is_upper);
            let high = bytes_of_256(&tables.iq2_xxs[1], indices, is_upper);
            signed(amounts(low, high, tables), signs)
        };
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}

/// Sixteen scales of four bits in eight bytes.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn nibble_scales(at: *const u8, d: f32) -> __m512 {
    // SAFETY: the caller's pointer has 8 bytes.
    let both = unsafe { _mm_loadl_epi64(at.cast()) };
    let nibbles = _mm_and_si128(_mm_unpacklo_epi8(both, _mm_srli_epi16(both, 4)), _mm_set1_epi8(15));
    let scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(nibbles));
    _mm512_mul_ps(_mm512_add_ps(scale, _mm512_set1_ps(0.5)), _mm512_set1_ps(d * 0.25))
}

pub(super) struct Iq2Xs;

impl Format for Iq2Xs {
    const TYPE: TensorType = TensorType::IQ2_XS;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 74 bytes.
        let (d, all) = unsafe { (f16(group), _mm512_loadu_si512(group.add(2).cast())) };
        let bit_7 = _mm512_test_epi16_mask(all, _mm512_set1_epi16(0x80));
        let bit_8 = _mm512_test_epi16_mask(all, _mm512_set1_epi16(0x100));
        let bytes = |table: &[u8; 512]| {
            let (halves, _) = table.as_chunks::<256>();
            // SAFETY: what it asks for is what this function does.
            let half = |n: usize| unsafe { bytes_of_256(&halves[n], all, bit_7) };
            _mm512_mask_blend_epi16(bit_8, half(0), half(1))
        };
        let signs = even(_mm512_cvtepi16_epi8(_mm512_srli_epi16(all, 9)));
        // SAFETY: as above.
        let (u, scale) = unsafe {
            let amounts = amounts(bytes(&tables.iq2_xs[0]), bytes(&tables.iq2_xs[1]), tables);
            (signed(amounts, signs), nibble_scales(group.add(66), d))
        };
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}

pub(super) struct Iq2S;

impl Format for Iq2S {
    const TYPE: TensorType = TensorType::IQ2_S;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 82 bytes.
        let (d, low, signs, high) = unsafe {
            let signs = _mm256_loadu_si256(group.add(34).cast());
            (f16(group), words(group.add(2)), signs, _mm_loadl_epi64(group.add(66).cast()))
        };
        // Of each byte four times two bits, to bits 8 and 9.
        let shifts = _mm512_set1_epi64(0x0600_0400_0200_0000);
        let fields = _mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu8_epi64(high));
        let indices = _mm512_or_si512(low, _mm512_and_si512(fields, _mm512_set1_epi16(0x300)));
        // SAFETY: indices of ten bits, and the group's scales.
        let (u, scale) =
            unsafe { (signed(look_up(&tables.iq2_s, indices), signs), nibble_scales(group.add(74), d)) };
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}

/// Dwords of a vector so that bytes and then words, interleaved within lanes, come out in order.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn across_lanes(indices: __m512i) -> __m512i {
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, indices)
}

/// Four bytes for each index, from their planes.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn interleaved([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low_ab, low_cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let (high_ab, high_cd) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low_ab, low_cd),
        _mm512_unpackhi_epi16(low_ab, low_cd),
        _mm512_unpacklo_epi16(high_ab, high_cd),
        _mm512_unpackhi_epi16(high_ab, high_cd),
    ]
}

/// Bytes of a table by bytes.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn plane_of_256(table: &[u8; 256], indices: __m512i, is_upper: u64) -> __m512i {
    // SAFETY: four times 64 bytes.
    let part = |n: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * n).cast()) };
    let first = _mm512_permutex2var_epi8(part(0), indices, part(1));
    let second = _mm512_permutex2var_epi8(part(2), indices, part(3));
    _mm512_mask_blend_epi8(is_upper, first, second)
}

pub(super) struct Iq3Xxs;

impl Format for Iq3Xxs {
    const TYPE: TensorType = TensorType::IQ3_XXS;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 98 bytes.
        let (d, indices, more) = unsafe {
            let more = _mm256_loadu_si256(group.add(66).cast());
            (f16(group), _mm512_loadu_si512(group.add(2).cast()), more)
        };
        let indices = across_lanes(indices);
        let is_upper = _mm512_movepi8_mask(indices);
        let signs = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x150e_0700), _mm512_cvtepu32_epi64(more));
        let signs = even(_mm512_cvtepi64_epi32(signs));
        let scale = _mm256_cvtepi32_ps(_mm256_srli_epi32(more, 28));
        let scale = twice(_mm256_mul_ps(_mm256_add_ps(scale, _mm256_set1_ps(0.5)), _mm256_set1_ps(d * 0.5)));
        // SAFETY: what these ask for is what this function does.
        let u = unsafe {
            let planes = std::array::from_fn(|n| plane_of_256(&tables.iq3_xxs[n], indices, is_upper));
            signed(interleaved(planes), signs)
        };
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}

pub(super) struct Iq3S;

impl Format for Iq3S {
    const TYPE: TensorType = TensorType::IQ3_S;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 110 bytes.
        let (d, indices, high, signs, scales) = unsafe {
            (
                f16(group),
                _mm512_loadu_si512(group.add(2).cast()),
                group.add(66).cast::<u64>().read_unaligned(),
                _mm256_loadu_si256(group.add(74).cast()),
                group.add(106).cast::<u32>().read_unaligned(),
            )
        };
        let indices = across_lanes(indices);
        let bit_7 = _mm512_movepi8_mask(indices);
        let bit_8 = _mm512_movepi8_mask(across_lanes(_mm512_movm_epi8(high)));
        let plane = |table: &[u8; 512]| {
            let (halves, _) = table.as_chunks::<256>();
            // SAFETY: what it asks for is what this function does.
            let half = |n: usize| unsafe { plane_of_256(&halves[n], indices, bit_7) };
            _mm512_mask_blend_epi8(bit_8, half(0), half(1))
        };
        let (ab, cd) = (plane(&tables.iq3_s[0]), plane(&tables.iq3_s[1]));
        let (nibble, offset) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-128));
        // (both & 15) | 128
        let amount = |both: __m512i| _mm512_ternarylogic_epi64(both, nibble, offset, 0b1110_1010);
        let planes =
            [amount(ab), amount(_mm512_srli_epi16(ab, 4)), amount(cd), amount(_mm512_srli_epi16(cd, 4))];
        let scales = _mm_cvtsi32_si128(scales as i32);
        let scales = _mm_and_si128(_mm_unpacklo_epi8(scales, _mm_srli_epi16(scales, 4)), _mm_set1_epi8(15));
        let scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(scales));
        let scale = _mm256_fmadd_ps(scale, _mm256_set1_ps(2.0), _mm256_set1_ps(1.0));
        let scale = twice(_mm256_mul_ps(scale, _mm256_set1_ps(d)));
        // SAFETY: as above.
        let u = unsafe { signed(interleaved(planes), signs) };
        Weights { u, scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}

pub(super) struct Iq4Xs;

impl Format for Iq4Xs {
    const TYPE: TensorType = TensorType::IQ4_XS;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 136 bytes; the table has 64.
        let (d, high, low, a, b, values) = unsafe {
            (
                f16(group),
                group.add(2).cast::<i16>().read_unaligned(),
                group.add(4).cast::<i32>().read_unaligned(),
                _mm512_loadu_si512(group.add(8).cast()),
                _mm512_loadu_si512(group.add(72).cast()),
                _mm512_loadu_si512(tables.iq4.as_ptr().cast()),
            )
        };
        let low = _mm256_srlv_epi32(_mm256_set1_epi32(low), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_srlv_epi32(
            _mm256_set1_epi32(i32::from(high as u16)),
            _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14),
        );
        let high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
        let scale = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)), high);
        let scale = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)));
        let scale = twice(_mm256_mul_ps(scale, _mm256_set1_ps(d)));
        let nibble = _mm512_set1_epi8(15);
        let first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        let second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        let both = |q: __m512i| {
            let low = _mm512_shuffle_epi8(values, _mm512_and_si512(q, nibble));
            let high = _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble));
            [_mm512_permutex2var_epi64(low, first, high), _mm512_permutex2var_epi64(low, second, high)]
        };
        let ([u0, u1], [u2, u3]) = (both(a), both(b));
        Weights { u: [u0, u1, u2, u3], scale, min: _mm512_mul_ps(scale, _mm512_set1_ps(-128.0)) }
    }
}
