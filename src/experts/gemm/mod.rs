//! Many tokens at once: weights become panels, 16 rows at a time, and are multiplied by packed activations, 16 tokens at a
//! time, with sums in F32.
//!
//! Memory comes in tiles of 1024 bytes. In BF16 a panel is tiles of [16 rows][32 weights], a pack is tiles of [16 pairs]
//! [16 tokens][2]: what AMX multiplies as they are, and vectors too. It keeps eight bits of each number, of weights and
//! of activations: less is lost than by eight bits for 256 values, which is what whole numbers ([`bytes`]) are
//! multiplied with, at twice the speed of vectors of BF16.
#![allow(unsafe_code)]

mod amx;
mod bytes;
mod pack;
mod vectors;

use super::block::GROUP;
pub(super) use bytes::{Kind, Panel as BytePanel};
pub(super) use pack::{Pack, add_tile, hidden_rows, hidden_tile, store_tile};

/// Rows of weights in a panel.
pub(super) const PANEL_ROWS: usize = 16;
/// Tokens in a pack.
pub(super) const PACK_TOKENS: usize = 16;
/// Weights of a row in a tile.
pub(super) const TILE_K: usize = 32;
/// Bytes of a tile, all of which packs and panels are made of.
pub(super) const TILE_BYTES: usize = 1024;
/// Tiles of a group of a panel's rows, in BF16.
pub(super) const GROUP_TILES: usize = GROUP / TILE_K;

pub(super) type Tile = [u32; TILE_BYTES / 4];

/// Sums of a panel's rows and a pack's tokens: [16 rows][16 tokens].
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; PACK_TOKENS]; PANEL_ROWS]);

impl Sums {
    pub(super) const ZERO: Sums = Sums([[0.0; PACK_TOKENS]; PANEL_ROWS]);
}

/// What multiplies panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// AVX512-VNNI.
    Bytes,
    /// AVX512-BF16.
    Vectors,
    /// AMX-BF16.
    Amx,
}

/// A group of weights of each of 16 rows that are `stride` bytes apart, to a panel, of which there are at most
/// [`GROUP_TILES`] tiles. What is `soon` read is asked for: as much, of rows as far apart; it may lie anywhere.
pub(super) type Unpack = unsafe fn(from: *const u8, stride: usize, soon: *const u8, to: *mut u16);

pub(super) fn has_vectors() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether the CPU has tiles and the system lets this process use them, for which it is asked once.
pub(super) fn has_amx() -> bool {
    has_vectors() && amx::is_permitted()
}

impl Engine {
    /// Tiles of a group of a pack.
    pub(super) fn pack_tiles(self) -> usize {
        match self {
            Engine::Bytes => bytes::PACK_TILES,
            Engine::Vectors | Engine::Amx => GROUP_TILES,
        }
    }

    /// Groups from `first` on of the pack of some rows of activations, at most 16: as many as `to` has tiles for. What is
    /// beyond the rows is 0.
    pub(super) fn pack(self, rows: &[&[f32]], first: usize, to: &mut [Tile]) {
        let n_groups = to.len() / self.pack_tiles();
        assert!(rows.len() <= PACK_TOKENS && rows.iter().all(|row| row.len() >= (first + n_groups) * GROUP));
        match self {
            Engine::Bytes => {
                for (n, to) in to.chunks_exact_mut(bytes::PACK_TILES).enumerate() {
                    // SAFETY: there are so many tiles, and packs are made where the CPU has what they are for only.
                    unsafe { bytes::pack(rows, first + n, to.as_mut_ptr().cast()) }
                }
            }
            Engine::Vectors | Engine::Amx => pack::pack_rows(rows, first * GROUP_TILES, to),
        }
    }

    /// Adds a group of two panels times one of one or two packs, which hold `n_tokens` tokens, to sums [panel][pack].
    ///
    /// # Safety
    /// Panels have a group, and so have as many packs as there are tokens for; the CPU has what the engine needs; for AMX, this thread has [begun](Engine::begin).
    pub(super) unsafe fn multiply(
        self,
        panels: [*const u16; 2],
        packs: [*const u32; 2],
        n_tokens: usize,
        sums: &mut [[Sums; 2]; 2],
    ) {
        // SAFETY: the caller's word.
        unsafe {
            match self {
                Engine::Amx if n_tokens <= PACK_TOKENS => amx::two_by_one(panels, packs[0], GROUP_TILES, sums),
                Engine::Amx => amx::two_by_two(panels, packs, GROUP_TILES, sums),
                Engine::Bytes | Engine::Vectors => {
                    for (panel, sums) in panels.iter().zip(sums.iter_mut()) {
                        for (nth, (pack, sums)) in
                            packs.iter().zip(sums).take(n_tokens.div_ceil(PACK_TOKENS)).enumerate()
                        {
                            match self {
                                Engine::Bytes => bytes::multiply(*panel, *pack, n_tokens - PACK_TOKENS * nth, sums),
                                _ => vectors::multiply(*panel, *pack, GROUP_TILES, sums),
                            }
                        }
                    }
                }
            }
        }
    }

    /// Before a thread multiplies.
    ///
    /// # Safety
    /// The CPU has what the engine needs.
    pub(super) unsafe fn begin(self) {
        if self == Engine::Amx {
            // SAFETY: the caller's word.
            unsafe { amx::configure() }
        }
    }

    /// After it: the tiles' state is not left to whoever runs next on this core.
    ///
    /// # Safety
    /// As with [`begin`](Engine::begin).
    pub(super) unsafe fn end(self) {
        if self == Engine::Amx {
            // SAFETY: the caller's word.
            unsafe { amx::release() }
        }
    }
}
