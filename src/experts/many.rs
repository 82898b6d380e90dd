//! The same work for many tokens: weights become panels once for all tokens of an expert, or of a batch.
#![allow(unsafe_code)]

use super::block::GROUP;
use super::gemm::{
    Engine, PACK_TOKENS, PANEL_ROWS, Sums, TILE_BYTES, TILE_K, Unpack, add_tile, hidden_tile, pack_rows, store_tile,
};
use super::kernel::Way;
use super::mixture::{Layer, Matrices};
use super::scratch::{Chosen, Scratch};
use crate::ggml::{Operand, Share, Shared};
use std::slice;

type Tile = [u32; TILE_BYTES / 4];

/// Tiles of a pack that a thread makes before it takes others.
const TILES_AT_ONCE: usize = 32;

const NO_SUMS: [[Sums; 2]; 2] = [[Sums::ZERO; 2]; 2];

/// A thread's two panels.
struct Panels<'a> {
    engine: Engine,
    tiles: Shared<'a, Tile>,
}

impl<'a> Panels<'a> {
    fn new(engine: Engine, scratch: &'a Scratch, share: Share) -> Panels<'a> {
        // SAFETY: an engine is one that this CPU has.
        unsafe { engine.begin() };
        Panels { engine, tiles: scratch.panels(share.thread) }
    }

    /// Panel `n` of rows of `n_tiles` tiles, where both are as long.
    fn at(&self, n: usize, n_tiles: usize) -> *mut u16 {
        assert!((n + 1) * n_tiles <= self.tiles.len());
        // SAFETY: within the tiles.
        unsafe { self.tiles.as_ptr().add(n * n_tiles).cast() }
    }

    /// Makes panel `n` of 16 rows.
    fn make<'r>(&self, n: usize, unpack: Option<Unpack>, k: usize, rows: impl Iterator<Item = &'r [u8]>) {
        let Some(unpack) = unpack else { return };
        let to = self.at(n, k / TILE_K);
        for (n, row) in rows.enumerate().take(PANEL_ROWS) {
            // SAFETY: a row of `k` weights, which are whole groups, and a panel for as many; the panels are this thread's.
            unsafe { unpack(row.as_ptr(), k / GROUP, n, to) };
        }
    }

    /// Both panels times one or two packs.
    fn multiply(&self, packs: &[&[Tile]], sums: &mut [[Sums; 2]; 2]) {
        let n_tiles = packs[0].len();
        assert!(packs.len() <= 2 && packs.iter().all(|pack| pack.len() == n_tiles));
        let panels = [0, 1].map(|n| self.at(n, n_tiles).cast_const());
        let mut all = [packs[0].as_ptr().cast(); 2];
        all.iter_mut().zip(packs).for_each(|(ptr, pack)| *ptr = pack.as_ptr().cast());
        // SAFETY: panels and packs have as many tiles; the engine has begun on this thread.
        unsafe { self.engine.multiply(panels, &all[..packs.len()], n_tiles, sums) };
    }
}

impl Drop for Panels<'_> {
    fn drop(&mut self) {
        // SAFETY: it has begun on this thread.
        unsafe { self.engine.end() }
    }
}

/// `a` [k, n] times `x` [k, n_tokens]; n is a multiple of 16.
pub(super) fn mul_mat(
    share: Share,
    engine: Engine,
    way: Way,
    scratch: &Scratch,
    [a, x]: [&Operand<'_>; 2],
    out: Shared<'_, f32>,
) {
    let ([k, n, ..], n_tokens) = (a.ne.map(|n| n as usize), x.ne[1] as usize);
    let (n_tiles, n_packs) = (k / TILE_K, n_tokens.div_ceil(PACK_TOKENS));
    if share.thread == 0 {
        scratch.team.begin();
    }
    scratch.team.meet(share.n_threads);
    let chunks = n_tiles.div_ceil(TILES_AT_ONCE);
    while let Some(piece) = scratch.team.take(0, n_packs * chunks) {
        let (pack, chunk) = (piece / chunks, piece % chunks);
        let tokens = PACK_TOKENS * pack..(PACK_TOKENS * (pack + 1)).min(n_tokens);
        let mut rows = [&[][..]; PACK_TOKENS];
        rows.iter_mut().zip(tokens.clone()).for_each(|(row, token)| *row = x.row::<f32>(token));
        let tiles = TILES_AT_ONCE * chunk..(TILES_AT_ONCE * (chunk + 1)).min(n_tiles);
        let to = pack * n_tiles + tiles.start..pack * n_tiles + tiles.end;
        // SAFETY: these tiles are this piece's.
        pack_rows(&rows[..tokens.len()], tiles.start, unsafe { scratch.x_pack.shared().write(to) });
    }
    scratch.team.meet(share.n_threads);
    // SAFETY: written before the meeting.
    let packs = unsafe { scratch.x_pack.shared().read(0..n_packs * n_tiles) };
    let panels = Panels::new(engine, scratch, share);
    let mut sums = NO_SUMS;
    while let Some(piece) = scratch.team.take(1, n.div_ceil(2 * PANEL_ROWS)) {
        let first = 2 * PANEL_ROWS * piece;
        let n_panels = if first + PANEL_ROWS < n { 2 } else { 1 };
        for panel in 0..n_panels {
            let from = first + PANEL_ROWS * panel;
            panels.make(
                panel,
                way.unpack,
                k,
                (from..from + PANEL_ROWS).map(|row| &a.bytes[row * a.nb[1]..][..a.nb[1]]),
            );
        }
        for first_pack in (0..n_packs).step_by(2) {
            let some: Vec<&[Tile]> = packs[first_pack * n_tiles..].chunks(n_tiles).take(2).collect();
            panels.multiply(&some, &mut sums);
            for (panel, sums) in sums.iter().enumerate().take(n_panels) {
                for (pack, sums) in sums.iter().enumerate().take(some.len()) {
                    let token = PACK_TOKENS * (first_pack + pack);
                    let tokens = token..(token + PACK_TOKENS).min(n_tokens);
                    store_tile(sums, &mut places(out, tokens, n, first + PANEL_ROWS * panel));
                }
            }
        }
    }
}

/// Sixteen rows of the result from `row` on, of each of some tokens.
fn places<'o>(out: Shared<'o, f32>, tokens: impl Iterator<Item = usize>, n: usize, row: usize) -> Vec<&'o mut [f32]> {
    // SAFETY: the rows are those of a piece of work that one thread does, and the tokens are different ones.
    tokens.map(|token| unsafe { out.write(token * n + row..token * n + row + PANEL_ROWS) }).collect()
}

impl Layer<'_> {
    /// The whole layer, after the choice of experts.
    pub(super) fn many(&self, engine: Engine, x: &Operand<'_>, out: Shared<'_, f32>) {
        self.scratch.team.meet(self.share.n_threads);
        self.pack(x);
        self.scratch.team.meet(self.share.n_threads);
        let panels = Panels::new(engine, self.scratch, self.share);
        self.many_hidden(&panels);
        self.scratch.team.meet(self.share.n_threads);
        self.many_results(&panels, out);
    }

    /// Each expert's tokens.
    fn pack(&self, x: &Operand<'_>) {
        let (chosen, slots) = self.chosen();
        let n_tiles = self.n_embd / TILE_K;
        let chunks = n_tiles.div_ceil(TILES_AT_ONCE);
        while let Some(piece) = self.scratch.team.take(2, self.n_packs() * chunks) {
            let (pack, chunk) = (piece / chunks, piece % chunks);
            let chosen = &chosen[chosen.partition_point(|chosen| chosen.first_pack <= pack) - 1];
            let slots = &slots[of_pack(chosen, pack - chosen.first_pack)];
            let mut rows = [&[][..]; PACK_TOKENS];
            rows.iter_mut().zip(slots).for_each(|(row, (token, _))| *row = x.row::<f32>(*token as usize));
            let tiles = TILES_AT_ONCE * chunk..(TILES_AT_ONCE * (chunk + 1)).min(n_tiles);
            let to = pack * n_tiles + tiles.start..pack * n_tiles + tiles.end;
            // SAFETY: these tiles are this piece's.
            pack_rows(&rows[..slots.len()], tiles.start, unsafe { self.scratch.x_pack.shared().write(to) });
        }
    }

    /// 16 rows of gates and ups at a time, for all tokens of an expert.
    fn many_hidden(&self, panels: &Panels<'_>) {
        let (chosen, slots) = self.chosen();
        let (n_tiles, blocks) = (self.n_embd / TILE_K, self.n_ff / PANEL_ROWS);
        // SAFETY: written before the meeting.
        let packs = unsafe { self.scratch.x_pack.shared().read(0..self.n_packs() * n_tiles) };
        let mut sums = NO_SUMS;
        while let Some(piece) = self.scratch.team.take(0, chosen.len() * blocks) {
            let (chosen, block) = (&chosen[piece / blocks], piece % blocks);
            self.make(panels, 0, &self.gate, self.n_embd, chosen.expert, PANEL_ROWS * block);
            self.make(panels, 1, &self.up, self.n_embd, chosen.expert, PANEL_ROWS * block);
            for first in (0..chosen.n.div_ceil(PACK_TOKENS)).step_by(2) {
                let some = two_packs(packs, n_tiles, chosen, first);
                panels.multiply(&some, &mut sums);
                for pack in 0..some.len() {
                    let mut weights = [0.0; PACK_TOKENS];
                    for (weight, (token, nth)) in weights.iter_mut().zip(&slots[of_pack(chosen, first + pack)]) {
                        *weight = self.weight(*token, *nth);
                    }
                    let tile = (chosen.first_pack + first + pack) * (self.n_ff / TILE_K) + PANEL_ROWS * block / TILE_K;
                    // SAFETY: this half of the tile is this piece's.
                    let to = unsafe { half_tile(self.scratch.hidden_pack.shared(), tile, block % 2) };
                    hidden_tile(&sums[0][pack], &sums[1][pack], &weights, to);
                }
            }
        }
    }

    /// 32 rows of the result at a time, for all experts.
    fn many_results(&self, panels: &Panels<'_>, out: Shared<'_, f32>) {
        let (chosen, slots) = self.chosen();
        let n_tiles = self.n_ff / TILE_K;
        // SAFETY: written before the meeting.
        let packs = unsafe { self.scratch.hidden_pack.shared().read(0..self.n_packs() * n_tiles) };
        let mut sums = NO_SUMS;
        while let Some(piece) = self.scratch.team.take(1, self.n_embd / (2 * PANEL_ROWS)) {
            let row = 2 * PANEL_ROWS * piece;
            for panel in 0..2 {
                places(out, 0..self.n_tokens, self.n_embd, row + PANEL_ROWS * panel)
                    .iter_mut()
                    .for_each(|to| to.fill(0.0));
            }
            for chosen in chosen {
                for panel in 0..2 {
                    self.make(panels, panel, &self.down, self.n_ff, chosen.expert, row + PANEL_ROWS * panel);
                }
                for first in (0..chosen.n.div_ceil(PACK_TOKENS)).step_by(2) {
                    let some = two_packs(packs, n_tiles, chosen, first);
                    panels.multiply(&some, &mut sums);
                    for pack in 0..some.len() {
                        let slots = &slots[of_pack(chosen, first + pack)];
                        for (panel, sums) in sums.iter().enumerate() {
                            let tokens = slots.iter().map(|(token, _)| *token as usize);
                            let mut to = places(out, tokens, self.n_embd, row + PANEL_ROWS * panel);
                            add_tile(&sums[pack], &mut to);
                        }
                    }
                }
            }
        }
    }

    /// Panel `n` of an expert's matrix, from a row on.
    fn make(&self, panels: &Panels<'_>, n: usize, of: &Matrices<'_>, k: usize, expert: usize, first: usize) {
        panels.make(n, of.way.unpack, k, (first..first + PANEL_ROWS).map(|row| of.row(expert, row)));
    }
}

/// Half a tile.
///
/// # Safety
/// Nobody else uses it meanwhile, nor borrows the tile whole.
unsafe fn half_tile<'t>(tiles: Shared<'t, Tile>, tile: usize, half: usize) -> &'t mut [u32] {
    const HALF: usize = TILE_BYTES / 8;
    assert!(tile < tiles.len() && half < 2);
    // SAFETY: within the tile; the rest is the caller's word.
    unsafe { slice::from_raw_parts_mut(tiles.as_ptr().add(tile).cast::<u32>().add(half * HALF), HALF) }
}

/// One or two packs of an expert, from its pack `first` on.
fn two_packs<'p>(packs: &'p [Tile], n_tiles: usize, chosen: &Chosen, first: usize) -> Vec<&'p [Tile]> {
    let n = (chosen.n.div_ceil(PACK_TOKENS) - first).min(2);
    packs[(chosen.first_pack + first) * n_tiles..].chunks(n_tiles).take(n).collect()
}

/// The slots of an expert's pack.
fn of_pack(chosen: &Chosen, pack: usize) -> std::ops::Range<usize> {
    let first = chosen.first + PACK_TOKENS * pack;
    first..(first + PACK_TOKENS).min(chosen.first + chosen.n)
}
