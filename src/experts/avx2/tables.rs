//! The codebooks as entries in memory, and what the compiler had better not know.

use crate::experts::block::codebooks;
use std::sync::OnceLock;

pub(super) struct Tables {
    /// Eight values, each with 1 added.
    pub(super) iq1_s: Vec<u64>,
    /// Eight times as much, and two more.
    pub(super) iq1_m: Vec<u64>,
    /// Eight amounts.
    pub(super) iq2_xxs: Vec<u64>,
    pub(super) iq2_xs: Vec<u64>,
    pub(super) iq2_s: Vec<u64>,
    /// Four amounts.
    pub(super) iq3_xxs: Vec<u32>,
    pub(super) iq3_s: Vec<u32>,
    pub(super) iq4: [i8; 16],
    /// For word `n` of each half in all its places: were they constants, the compiler would make each shuffle two
    /// instructions.
    pub(super) words: [[u16; 16]; 8],
    /// For bytes `4n` to `4n + 3`, each in eight places; likewise.
    pub(super) eights: [[u8; 32]; 4],
}

pub(super) fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(Tables::new)
}

impl Tables {
    fn new() -> Tables {
        let books = codebooks();
        let eights = |book: &[[i8; 8]], change: fn(i8) -> u8| -> Vec<u64> {
            book.iter().map(|entry| u64::from_le_bytes(entry.map(change))).collect()
        };
        let amounts = |book: &[[i8; 8]]| eights(book, |amount| amount as u8);
        let fours = |book: &[[i8; 4]]| -> Vec<u32> {
            book.iter().map(|entry| u32::from_le_bytes(entry.map(|amount| amount as u8))).collect()
        };
        Tables {
            iq1_s: eights(&books.iq1, |value| (value + 1) as u8),
            iq1_m: eights(&books.iq1, |value| (8 * (value + 1) + 2) as u8),
            iq2_xxs: amounts(&books.iq2_xxs),
            iq2_xs: amounts(&books.iq2_xs),
            iq2_s: amounts(&books.iq2_s),
            iq3_xxs: fours(&books.iq3_xxs),
            iq3_s: fours(&books.iq3_s),
            iq4: books.iq4,
            words: std::array::from_fn(|n| [0x0100 + 0x0202 * n as u16; 16]),
            eights: std::array::from_fn(|n| std::array::from_fn(|i| (4 * n + i / 8) as u8)),
        }
    }
}
