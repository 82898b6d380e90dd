//! Many tokens at once: weights become panels of BF16, 16 rows at a time, and are multiplied by packed activations,
//! 16 tokens at a time, with sums in F32. BF16 keeps eight bits of each number, of weights and of activations: less is
//! lost than by ggml's eight bits for 256 values.
//!
//! Tiles are 1024 bytes. A panel is tiles of [16 rows][32 weights], a pack is tiles of [16 pairs][16 tokens][2]: what
//! AMX multiplies as they are, and vectors too.
#![allow(unsafe_code)]

mod amx;
mod pack;
mod vectors;

use super::block::GROUP;
pub(super) use pack::{Pack, add_tile, hidden_tile, pack_rows, store_tile};

/// Rows of weights in a panel.
pub(super) const PANEL_ROWS: usize = 16;
/// Tokens in a pack.
pub(super) const PACK_TOKENS: usize = 16;
/// Weights of a row in a tile.
pub(super) const TILE_K: usize = 32;
/// Bytes of a tile.
pub(super) const TILE_BYTES: usize = 1024;
/// Tiles of a group of a panel's rows.
pub(super) const GROUP_TILES: usize = GROUP / TILE_K;

/// Sums of a panel's rows and a pack's tokens: [16 rows][16 tokens].
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; PACK_TOKENS]; PANEL_ROWS]);

impl Sums {
    pub(super) const ZERO: Sums = Sums([[0.0; PACK_TOKENS]; PANEL_ROWS]);
}

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// AVX512-BF16.
    Vectors,
    /// AMX-BF16.
    Amx,
}

/// A group of weights of each of 16 rows that are `stride` bytes apart, to the eight tiles of a panel.
pub(super) type Unpack = unsafe fn(from: *const u8, stride: usize, to: *mut u16);

pub(super) fn has_vectors() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether the CPU has tiles and the system lets this process use them, for which it is asked once.
pub(super) fn has_amx() -> bool {
    has_vectors() && amx::is_permitted()
}

impl Engine {
    /// Adds two panels times one or two packs, of `n_k` tiles each, to sums [panel][pack].
    ///
    /// # Safety
    /// Panels and packs have `n_k` tiles; the CPU has what the engine needs; for AMX, this thread has
    /// [begun](Engine::begin).
    pub(super) unsafe fn multiply(
        self,
        panels: [*const u16; 2],
        packs: [*const u32; 2],
        n_packs: usize,
        n_k: usize,
        sums: &mut [[Sums; 2]; 2],
    ) {
        // SAFETY: the caller's word.
        unsafe {
            match self {
                Engine::Amx if n_packs == 1 => amx::two_by_one(panels, packs[0], n_k, sums),
                Engine::Amx => amx::two_by_two(panels, packs, n_k, sums),
                Engine::Vectors => {
                    for (n, pack) in packs.iter().enumerate().take(n_packs) {
                        for (panel, sums) in panels.iter().zip(sums.iter_mut()) {
                            vectors::multiply(*panel, *pack, n_k, &mut sums[n]);
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
