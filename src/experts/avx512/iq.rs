//! The IQ types of 256 weights. Their layouts are told in `block/iq.rs`.
//!
//! Small codebooks are looked up in registers: two bits (IQ2) or four (IQ3_S) are enough for an amount, so that an
//! entry is two bytes, and each byte of 64 entries is a permutation. Large ones (IQ1, IQ2_S) are read from memory.

use super::tables::Tables;
use super::{FloatWeights, Floats, Scales, Weights, Whole, f16, twice};
use crate::experts::activation::Order;
use crate::experts::block::iq1_m_d;
use crate::gguf::TensorType;
use std::arch::x86_64::*;

/// Eight entries a vector, by 32 indices, with an instruction for eight.
///
/// # Safety
/// The book has entries for all indices.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn gathered(book: &[u64], indices: __m512i) -> [__m512i; 4] {
    let parts = [
        _mm512_castsi512_si128(indices),
        _mm512_extracti32x4_epi32(indices, 1),
        _mm512_extracti32x4_epi32(indices, 2),
        _mm512_extracti32x4_epi32(indices, 3),
    ];
    // SAFETY: the caller's word.
    parts.map(|eight| unsafe { _mm512_i64gather_epi64(_mm512_cvtepu16_epi64(eight), book.as_ptr().cast(), 8) })
}

/// The same with a load for each, as unsafe as that. Indices come four in a word, from registers: by way of memory or
/// vectors they would come late. The loads are volatile so that the compiler makes no gathers of them. It is a macro
/// because no function of this size would be inlined.
macro_rules! loaded {
    ($book:expr, |$n:ident| $four:expr) => {{
        let book = $book.as_ptr();
        macro_rules! entry {
            ($word:ident, $place:literal) => {
                book.add(usize::from(($word >> (16 * $place)) as u16)).read_volatile() as i64
            };
        }
        macro_rules! eight {
            ($i:literal) => {{
                let $n = 2 * $i;
                let a: u64 = $four;
                let $n = 2 * $i + 1;
                let b: u64 = $four;
                _mm512_setr_epi64(
                    entry!(a, 0),
                    entry!(a, 1),
                    entry!(a, 2),
                    entry!(a, 3),
                    entry!(b, 0),
                    entry!(b, 1),
                    entry!(b, 2),
                    entry!(b, 3),
                )
            }};
        }
        [eight!(0), eight!(1), eight!(2), eight!(3)]
    }};
}

/// Each byte of four in the lower half of a word.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn four_bytes(at: *const u8) -> u64 {
    // SAFETY: the caller's pointer has four bytes.
    _pdep_u64(u64::from(unsafe { at.cast::<u32>().read_unaligned() }), 0x00ff_00ff_00ff_00ff)
}

/// 32 bytes as words.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn words(at: *const u8) -> __m512i {
    // SAFETY: the caller's pointer has 32 bytes.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(at.cast()) })
}

/// Bits as masks.
///
/// # Safety
/// The pointer has 32 bytes.
#[inline]
unsafe fn four_masks(at: *const u64) -> [u64; 4] {
    // SAFETY: the caller's word.
    std::array::from_fn(|i| unsafe { at.add(i).read_unaligned() })
}

/// Bits as masks: of eight bytes of each lane, at `places`.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn masks(signs: __m512i, places: &'static [[u8; 64]; 4]) -> [u64; 4] {
    let each = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
    std::array::from_fn(|i| {
        // SAFETY: 64 bytes.
        let places = unsafe { _mm512_loadu_si512(places[i].as_ptr().cast()) };
        _mm512_test_epi8_mask(_mm512_permutexvar_epi8(places, signs), each)
    })
}

/// For each lane its bytes at some places, each eight times.
const fn eightfold(places: [u8; 8]) -> [[u8; 64]; 4] {
    let (mut all, mut at) = ([[0; 64]; 4], 0);
    while at < 256 {
        all[at / 64][at % 64] = 16 * (at / 64) as u8 + places[at % 64 / 8];
        at += 1;
    }
    all
}

/// Bytes of seven signs, whose eighth bit does not matter, with the eighth sign, which makes their number even.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn even(signs: __m512i) -> __m512i {
    const EVEN: [[u8; 64]; 2] = {
        let (mut all, mut n) = ([[0; 64]; 2], 0);
        while n < 128 {
            all[n / 64][n % 64] = n as u8 | ((n.count_ones() % 2) as u8) << 7;
            n += 1;
        }
        all
    };
    // SAFETY: 64 bytes each.
    let [low, high] = EVEN.each_ref().map(|half| unsafe { _mm512_loadu_si512(half.as_ptr().cast()) });
    _mm512_permutex2var_epi8(low, signs, high)
}

pub(super) struct Iq1S<const GATHER: bool>;

impl<const GATHER: bool> Whole for Iq1S<GATHER> {
    const TYPE: TensorType = TensorType::IQ1_S;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Words;
    const HAS_MINS: bool = true;
    const LEVELS: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        let entries = if GATHER {
            // SAFETY: the group's 50 bytes.
            let (low, high) = unsafe { (words(group.add(2)), _mm_loadu_si128(group.add(34).cast())) };
            // Of each word four times three bits, to bits 8 to 10.
            let shifts = _mm512_set1_epi64(0x0900_0600_0300_0000);
            let fields = _mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu16_epi64(high));
            let indices = _mm512_or_si512(low, _mm512_and_si512(fields, _mm512_set1_epi16(0x700)));
            // SAFETY: indices of 11 bits.
            unsafe { gathered(&tables.iq1_s, indices) }
        } else {
            // SAFETY: the group's 50 bytes; indices of 11 bits.
            unsafe {
                loaded!(tables.iq1_s, |n| {
                    let four = four_bytes(group.add(2 + 4 * n));
                    let more = u64::from(group.add(34 + 2 * n).cast::<u16>().read_unaligned());
                    four | _pdep_u64(more, 0x0700_0700_0700_0700)
                })
            }
        };
        // SAFETY: the group's 50 bytes.
        let (d, high) = unsafe { (f16(group), _mm_loadu_si128(group.add(34).cast())) };
        let one = _mm_set1_epi16(1);
        let scale = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(high, 11), _mm_set1_epi16(14)), one);
        // The entry is one too large, and the shift is an eighth up or down: in eighths, -8 and 1 or -1.
        let shift = _mm_sign_epi16(scale, _mm_or_si128(high, one));
        let min = _mm_sub_epi16(shift, _mm_slli_epi16(scale, 3));
        // Each min for two runs.
        let mins = _mm256_set_m128i(_mm_unpackhi_epi16(min, min), _mm_unpacklo_epi16(min, min));
        Weights { u: entries, signs: [0; 4], scales: scale, d, mins, d_min: d * 0.125 }
    }
}

pub(super) struct Iq1M<const GATHER: bool>;

impl<const GATHER: bool> Whole for Iq1M<GATHER> {
    const TYPE: TensorType = TensorType::IQ1_M;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Bytes;
    const HAS_MINS: bool = true;
    const OFFSET: u8 = 9;
    const LEVELS: usize = 8;

    fn levels(tables: &Tables) -> &[f32; 16] {
        &tables.iq1_m_levels
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        let entries = if GATHER {
            // SAFETY: the group's 56 bytes.
            let (low, high) = unsafe { (words(group), _mm_loadu_si128(group.add(32).cast())) };
            // Of each byte two nibbles, three bits of each to bits 8 to 10 of a word.
            let both = _mm512_cvtepu8_epi32(high);
            let both = _mm512_or_si512(_mm512_slli_epi32(both, 8), _mm512_slli_epi32(both, 20));
            let indices = _mm512_or_si512(low, _mm512_and_si512(both, _mm512_set1_epi16(0x700)));
            // SAFETY: indices of 11 bits.
            unsafe { gathered(&tables.iq1_m, indices) }
        } else {
            // SAFETY: the group's 56 bytes; indices of 11 bits.
            unsafe {
                loaded!(tables.iq1_m, |n| {
                    let four = four_bytes(group.add(4 * n));
                    let more = u64::from(group.add(32 + 2 * n).cast::<u16>().read_unaligned());
                    four | _pdep_u64(more, 0x0f00_0f00_0f00_0f00) & 0x0700_0700_0700_0700
                })
            }
        };
        // SAFETY: the group's 56 bytes.
        let (high, scales) = unsafe {
            let high = group.add(32).cast::<u64>();
            ([high.read_unaligned(), high.add(1).read_unaligned()], group.add(48).cast::<u64>().read_unaligned())
        };
        let word = |n: u32| (scales >> (16 * n)) as u16;
        let d = iq1_m_d([word(0), word(1), word(2), word(3)]);
        let d = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(d)))) * 0.125;
        // Sixteen times three bits.
        let fields = _pext_u64(scales, 0x0fff_0fff_0fff_0fff);
        let eight = |fields: u64| _pdep_u64(fields, 0x0e0e_0e0e_0e0e_0e0e) as i64;
        let scales = _mm_set_epi64x(eight(fields >> 24), eight(fields));
        let scales = _mm_or_si128(scales, _mm_set1_epi8(1));
        // Entries are in eighths and eight too large; where the shift is up, two more: nine too large.
        let is_down = high.map(|high| _pext_u64(high, 0x8888_8888_8888_8888) as u16);
        let up = _mm512_set1_epi8(tables.iq1_m_up);
        let u = std::array::from_fn(|i| {
            let is_up = !(is_down[i / 2] >> (8 * (i % 2))) as u8;
            _mm512_mask_add_epi64(entries[i], is_up, entries[i], up)
        });
        Weights { u, signs: [0; 4], scales, d, mins: _mm256_cvtepu8_epi16(scales), d_min: -f32::from(Self::OFFSET) * d }
    }
}

/// What all of IQ2 have: entries with signs, and no mins.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
fn with_signs(u: [__m512i; 4], signs: [u64; 4], scales: __m128i, d: f32) -> Weights {
    Weights { u, signs, scales, d, mins: _mm256_setzero_si256(), d_min: 0.0 }
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
    let four = |word: i64| word * 0x0001_0001_0001_0001;
    let each = _mm512_setr_epi64(four(0), four(1), four(2), four(3), four(4), four(5), four(6), four(7));
    std::array::from_fn(|i| {
        // Word 8·i + q in all four words of eighth q.
        let place = _mm512_add_epi16(each, _mm512_set1_epi16(8 * i as i16));
        let word = _mm512_permutexvar_epi16(place, codes);
        _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(two_bits, word), values)
    })
}

pub(super) struct Iq2Xxs<const LOADS: bool>;

impl<const LOADS: bool> Whole for Iq2Xxs<LOADS> {
    const TYPE: TensorType = TensorType::IQ2_XXS;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Words;
    const HAS_SIGNS: bool = true;
    const LEVELS: usize = 4;

    fn levels(tables: &Tables) -> &[f32; 16] {
        &tables.iq2_levels
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 66 bytes.
        let (d, all) = unsafe { (f16(group), _mm512_loadu_si512(group.add(2).cast())) };
        // Of each eight bytes the upper four: four times seven signs, four bits of scale.
        let signs = even(_mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x352e_2720), all));
        let signs = masks(signs, const { &eightfold([0, 1, 2, 3, 8, 9, 10, 11]) });
        // Twice the scale.
        let scale = _mm512_and_si512(_mm512_srli_epi64(all, 59), _mm512_set1_epi64(30));
        let scale = _mm512_cvtepi64_epi16(_mm512_or_si512(scale, _mm512_set1_epi64(1)));
        let entries = if LOADS {
            // SAFETY: of each eight bytes of the group the lower four; the book has 256 entries.
            let two = |n: usize| unsafe {
                let entry = |n: usize| tables.iq2_xxs_entries.as_ptr().add((*group.add(2 + n / 4 * 8 + n % 4)).into());
                // Loaded as floats are, of which the compiler makes no gathers.
                _mm_castpd_si128(_mm_loadh_pd(_mm_load_sd(entry(n).cast()), entry(n + 1).cast()))
            };
            let four = |n: usize| _mm256_set_m128i(two(n + 2), two(n));
            let eight = |n: usize| _mm512_inserti64x4(_mm512_castsi256_si512(four(n)), four(n + 4), 1);
            [eight(0), eight(8), eight(16), eight(24)]
        } else {
            let indices = _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(all));
            let is_upper = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(0x80));
            // SAFETY: what these ask for is what this function does.
            unsafe {
                let low = bytes_of_256(&tables.iq2_xxs[0], indices, is_upper);
                let high = bytes_of_256(&tables.iq2_xxs[1], indices, is_upper);
                amounts(low, high, tables)
            }
        };
        with_signs(entries, signs, scale, d * 0.125)
    }
}

/// Sixteen scales of four bits in eight bytes: twice their worth.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
unsafe fn nibble_scales(at: *const u8) -> __m128i {
    // SAFETY: the caller's pointer has 8 bytes.
    let both = unsafe { _mm_loadl_epi64(at.cast()) };
    let twice = _mm_unpacklo_epi8(_mm_slli_epi16(both, 1), _mm_srli_epi16(both, 3));
    _mm_or_si128(_mm_and_si128(twice, _mm_set1_epi8(30)), _mm_set1_epi8(1))
}

pub(super) struct Iq2Xs;

impl Whole for Iq2Xs {
    const TYPE: TensorType = TensorType::IQ2_XS;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Bytes;
    const HAS_SIGNS: bool = true;
    const LEVELS: usize = 4;

    fn levels(tables: &Tables) -> &[f32; 16] {
        &tables.iq2_levels
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 74 bytes.
        let (d, all, scales) =
            unsafe { (f16(group), _mm512_loadu_si512(group.add(2).cast()), nibble_scales(group.add(66))) };
        let bit_7 = _mm512_test_epi16_mask(all, _mm512_set1_epi16(0x80));
        let bit_8 = _mm512_test_epi16_mask(all, _mm512_set1_epi16(0x100));
        let bytes = |table: &[u8; 512]| {
            let (halves, _) = table.as_chunks::<256>();
            // SAFETY: what it asks for is what this function does.
            let half = |n: usize| unsafe { bytes_of_256(&halves[n], all, bit_7) };
            _mm512_mask_blend_epi16(bit_8, half(0), half(1))
        };
        // SAFETY: as above.
        let entries = unsafe { amounts(bytes(&tables.iq2_xs[0]), bytes(&tables.iq2_xs[1]), tables) };
        let signs = even(_mm512_srli_epi16(all, 9));
        let signs = masks(signs, const { &eightfold([0, 2, 4, 6, 8, 10, 12, 14]) });
        with_signs(entries, signs, scales, d * 0.125)
    }
}

pub(super) struct Iq2S<const GATHER: bool>;

impl<const GATHER: bool> Whole for Iq2S<GATHER> {
    const TYPE: TensorType = TensorType::IQ2_S;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Bytes;
    const HAS_SIGNS: bool = true;
    const LEVELS: usize = 4;

    fn levels(tables: &Tables) -> &[f32; 16] {
        &tables.iq2_levels
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        let entries = if GATHER {
            // SAFETY: the group's 82 bytes.
            let (low, high) = unsafe { (words(group.add(2)), _mm_loadl_epi64(group.add(66).cast())) };
            // Of each byte four times two bits, to bits 8 and 9.
            let shifts = _mm512_set1_epi64(0x0600_0400_0200_0000);
            let fields = _mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu8_epi64(high));
            let indices = _mm512_or_si512(low, _mm512_and_si512(fields, _mm512_set1_epi16(0x300)));
            // SAFETY: indices of ten bits.
            unsafe { gathered(&tables.iq2_s, indices) }
        } else {
            // SAFETY: the group's 82 bytes; indices of ten bits.
            unsafe {
                loaded!(tables.iq2_s, |n| {
                    let four = four_bytes(group.add(2 + 4 * n));
                    let more = u64::from(*group.add(66 + n));
                    four | _pdep_u64(more, 0x0300_0300_0300_0300)
                })
            }
        };
        // SAFETY: the group's 82 bytes.
        let (d, signs, scales) = unsafe { (f16(group), group.add(34).cast(), nibble_scales(group.add(74))) };
        // SAFETY: 32 of these bytes.
        let signs = unsafe { four_masks(signs) };
        with_signs(entries, signs, scales, d * 0.125)
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

impl Whole for Iq3Xxs {
    const TYPE: TensorType = TensorType::IQ3_XXS;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Words;
    const HAS_SIGNS: bool = true;
    const LEVELS: usize = 8;

    fn levels(tables: &Tables) -> &[f32; 16] {
        &tables.iq3_xxs_levels
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 98 bytes.
        let (d, indices, more) = unsafe {
            let more = _mm256_loadu_si256(group.add(66).cast());
            (f16(group), _mm512_loadu_si512(group.add(2).cast()), more)
        };
        let indices = across_lanes(indices);
        let is_upper = _mm512_movepi8_mask(indices);
        let signs = even(_mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x150e_0700), _mm512_cvtepu32_epi64(more)));
        let signs = masks(signs, const { &eightfold([0, 1, 2, 3, 8, 9, 10, 11]) });
        // Twice the scale.
        let scale = _mm256_and_si256(_mm256_srli_epi32(more, 27), _mm256_set1_epi32(30));
        let scale = _mm256_cvtepi32_epi16(_mm256_or_si256(scale, _mm256_set1_epi32(1)));
        // SAFETY: what it asks for is what this function does.
        let planes = unsafe { std::array::from_fn(|n| plane_of_256(&tables.iq3_xxs[n], indices, is_upper)) };
        with_signs(interleaved(planes), signs, scale, d * 0.25)
    }
}

pub(super) struct Iq3S;

impl Whole for Iq3S {
    const TYPE: TensorType = TensorType::IQ3_S;
    const ORDER: Order = Order::Natural;
    const SCALES: Scales = Scales::Words;
    const HAS_SIGNS: bool = true;
    const LEVELS: usize = 16;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> Weights {
        // SAFETY: the group's 110 bytes.
        let (d, indices, high, signs, scales) = unsafe {
            (
                f16(group),
                _mm512_loadu_si512(group.add(2).cast()),
                group.add(66).cast::<u64>().read_unaligned(),
                four_masks(group.add(74).cast()),
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
        let nibble = _mm512_set1_epi8(15);
        let planes =
            [ab, _mm512_srli_epi16(ab, 4), cd, _mm512_srli_epi16(cd, 4)].map(|plane| _mm512_and_si512(plane, nibble));
        // Eight nibbles to eight words, twice and one more.
        let scales = _pdep_u64(u64::from(scales), 0x1e1e_1e1e_1e1e_1e1e) | 0x0101_0101_0101_0101;
        let scales = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(scales as i64));
        with_signs(interleaved(planes), signs, scales, d)
    }
}

pub(super) struct Iq4Xs;

impl Floats for Iq4Xs {
    const TYPE: TensorType = TensorType::IQ4_XS;
    const ORDER: Order = Order::Lanes;
    const OFFSET: f32 = 128.0;

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
    unsafe fn unpack<const N: usize>(group: *const u8, tables: &Tables) -> FloatWeights {
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
        let high =
            _mm256_srlv_epi32(_mm256_set1_epi32(i32::from(high as u16)), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
        let scale = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)), high);
        let scale = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)));
        let scale = twice(_mm256_mul_ps(scale, _mm256_set1_ps(d)));
        let nibble = _mm512_set1_epi8(15);
        let u = [
            _mm512_shuffle_epi8(values, _mm512_and_si512(a, nibble)),
            _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(a, 4), nibble)),
            _mm512_shuffle_epi8(values, _mm512_and_si512(b, nibble)),
            _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble)),
        ];
        FloatWeights { u, scale }
    }
}
