//! The codebooks in the shapes that vectors look them up in.

use crate::experts::block::codebooks;
use std::sync::OnceLock;

/// Entries of eight bytes in memory, and bytes of those of four as they fit into registers.
pub(super) struct Tables {
    /// Eight values, each with 1 added.
    pub(super) iq1_s: Vec<u64>,
    /// Eight times as much.
    pub(super) iq1_m: Vec<u64>,
    /// Eight amounts of two bits, of four in each of two bytes.
    pub(super) iq2_xxs: [[u8; 256]; 2],
    pub(super) iq2_xs: [[u8; 512]; 2],
    /// What the two bits stand for; the other bits of an index do not matter.
    pub(super) iq2_amounts: [u8; 64],
    /// Eight amounts.
    pub(super) iq2_s: Vec<u64>,
    /// Four amounts.
    pub(super) iq3_xxs: [[u8; 256]; 4],
    /// Four amounts of four bits, of two in each of two bytes.
    pub(super) iq3_s: [[u8; 512]; 2],
    /// Values with 128 added, four times the sixteen.
    pub(super) iq4: [u8; 64],
}

pub(super) fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(Tables::new)
}

/// The sign bit of a byte turned over: 128 more.
fn offset(value: i8) -> u8 {
    value as u8 ^ 0x80
}

impl Tables {
    fn new() -> Tables {
        let books = codebooks();
        let amounts = distinct(&books.iq2_xxs);
        let code = |value: &i8| amounts.iter().position(|amount| amount == value).unwrap_or(0) as u8;
        let codes = |values: &[i8]| (0..).zip(values).fold(0, |all, (n, value)| all | code(value) << (2 * n));
        let nibbles = |values: &[i8]| values[0] as u8 | (values[1] as u8) << 4;
        let all = |book: &[[i8; 8]], change: fn(i8) -> u8| -> Vec<u64> {
            book.iter().map(|entry| u64::from_le_bytes(entry.map(change))).collect()
        };
        Tables {
            iq1_s: all(&books.iq1, |value| (value + 1) as u8),
            iq1_m: all(&books.iq1, |value| 8 * (value + 1) as u8),
            iq2_xxs: std::array::from_fn(|half| {
                std::array::from_fn(|index| codes(&books.iq2_xxs[index][4 * half..4 * half + 4]))
            }),
            iq2_xs: std::array::from_fn(|half| {
                std::array::from_fn(|index| codes(&books.iq2_xs[index][4 * half..4 * half + 4]))
            }),
            iq2_amounts: std::array::from_fn(|bits| amounts.get(bits & 3).map_or(0, |amount| *amount as u8)),
            iq2_s: all(&books.iq2_s, |amount| amount as u8),
            iq3_xxs: std::array::from_fn(|n| std::array::from_fn(|index| books.iq3_xxs[index][n] as u8)),
            iq3_s: std::array::from_fn(|half| {
                std::array::from_fn(|index| nibbles(&books.iq3_s[index][2 * half..2 * half + 2]))
            }),
            iq4: std::array::from_fn(|n| offset(books.iq4[n % 16])),
        }
    }
}

/// The amounts that occur, of which there are at most four.
fn distinct(book: &[[i8; 8]]) -> Vec<i8> {
    let mut all: Vec<i8> = book.iter().flatten().copied().collect();
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
        assert_eq!(distinct(&books.iq2_xxs), distinct(&books.iq2_xs));
        assert!(distinct(&books.iq2_xxs).len() <= 4);
        assert!(codebooks().iq3_s.iter().flatten().all(|value| (0..16).contains(value)));
    }
}
