//! The codebooks in the shapes that vectors look them up in.

use crate::experts::block::codebooks;
use std::sync::OnceLock;

/// Entries of eight bytes in memory, and bytes of those of four as they fit into registers.
pub(super) struct Tables {
    /// Eight values, each with 1 added.
    pub(super) iq1_s: Vec<u64>,
    /// Eight times as much, and how much more it is where the shift is up.
    pub(super) iq1_m: Vec<u64>,
    pub(super) iq1_m_up: i8,
    /// Eight amounts of two bits, of four in each of two bytes.
    pub(super) iq2_xxs: [[u8; 256]; 2],
    pub(super) iq2_xs: [[u8; 512]; 2],
    /// What the two bits stand for; the other bits of an index do not matter.
    pub(super) iq2_amounts: [u8; 64],
    /// Eight amounts.
    pub(super) iq2_xxs_entries: Vec<u64>,
    pub(super) iq2_s: Vec<u64>,
    /// Four amounts.
    pub(super) iq3_xxs: [[u8; 256]; 4],
    /// Four amounts of four bits, of two in each of two bytes.
    pub(super) iq3_s: [[u8; 512]; 2],
    /// Values with 128 added, four times the sixteen.
    pub(super) iq4: [u8; 64],
    /// What codes stand for, each as often as there are sixteen: IQ1_M's, those of all of IQ2, and IQ3_XXS's.
    pub(super) iq1_m_levels: [f32; 16],
    pub(super) iq2_levels: [f32; 16],
    pub(super) iq3_xxs_levels: [f32; 16],
}

/// With the amounts themselves.
pub(super) fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| Tables::new(false))
}

/// With numbers in place of the amounts that occur: of levels, as [`Whole::levels`](super::Whole::levels) has them.
pub(super) fn codes() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| Tables::new(true))
}

/// The sign bit of a byte turned over: 128 more.
fn offset(value: i8) -> u8 {
    value as u8 ^ 0x80
}

impl Tables {
    fn new(coded: bool) -> Tables {
        let books = codebooks();
        let (iq2, iq3_xxs) = (distinct(books.iq2_xxs.as_flattened()), distinct(books.iq3_xxs.as_flattened()));
        let code_of = |amounts: &[i8], value: i8| amounts.iter().position(|amount| *amount == value).unwrap_or(0) as u8;
        let codes = |values: &[i8]| (0..).zip(values).fold(0, |all, (n, value)| all | code_of(&iq2, *value) << (2 * n));
        let nibbles = |values: &[i8]| values[0] as u8 | (values[1] as u8) << 4;
        let all = |book: &[[i8; 8]], change: &dyn Fn(i8) -> u8| -> Vec<u64> {
            book.iter().map(|entry| u64::from_le_bytes(entry.map(change))).collect()
        };
        let one_more = |value: i8| (value + 1) as u8;
        let amounts = |book: &[[i8; 8]]| all(book, &|value| if coded { code_of(&iq2, value) } else { value as u8 });
        let level = |amounts: &[i8], n: usize| amounts.get(n).map_or(0, |amount| *amount as u8);
        Tables {
            iq1_s: all(&books.iq1, &one_more),
            iq1_m: all(&books.iq1, &|value| if coded { one_more(value) } else { 8 * one_more(value) }),
            iq1_m_up: if coded { 4 } else { 2 },
            iq2_xxs: std::array::from_fn(|half| {
                std::array::from_fn(|index| codes(&books.iq2_xxs[index][4 * half..4 * half + 4]))
            }),
            iq2_xs: std::array::from_fn(|half| {
                std::array::from_fn(|index| codes(&books.iq2_xs[index][4 * half..4 * half + 4]))
            }),
            iq2_amounts: std::array::from_fn(|n| if coded { (n & 3) as u8 } else { level(&iq2, n & 3) }),
            iq2_xxs_entries: amounts(&books.iq2_xxs),
            iq2_s: amounts(&books.iq2_s),
            iq3_xxs: std::array::from_fn(|n| {
                std::array::from_fn(|index| {
                    let value = books.iq3_xxs[index][n];
                    if coded { code_of(&iq3_xxs, value) } else { value as u8 }
                })
            }),
            iq3_s: std::array::from_fn(|half| {
                std::array::from_fn(|index| nibbles(&books.iq3_s[index][2 * half..2 * half + 2]))
            }),
            iq4: std::array::from_fn(|n| offset(books.iq4[n % 16])),
            iq1_m_levels: std::array::from_fn(|n| (8 * (n >> 1 & 3) + 2 * (n >> 3)) as f32),
            iq2_levels: std::array::from_fn(|n| f32::from(level(&iq2, n >> 2))),
            iq3_xxs_levels: std::array::from_fn(|n| f32::from(level(&iq3_xxs, n >> 1))),
        }
    }
}

/// The amounts that occur.
fn distinct(book: &[i8]) -> Vec<i8> {
    let mut all = book.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_take_few_bits() {
        let books = codebooks();
        let amounts = distinct(books.iq2_xxs.as_flattened());
        assert!(amounts.len() <= 4);
        for book in [&books.iq2_xs, &books.iq2_s] {
            assert_eq!(distinct(book.as_flattened()), amounts);
        }
        assert!(distinct(books.iq3_xxs.as_flattened()).len() <= 8);
        assert!(codebooks().iq3_s.iter().flatten().all(|value| (0..16).contains(value)));
    }
}
