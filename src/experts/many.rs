//! The same work for many tokens: weights become panels once for all tokens of an expert, or of a batch.
#![allow(unsafe_code)]

use super::block::GROUP;
use super::gemm::{
    Engine, GROUP_TILES, PACK_TOKENS, PANEL_ROWS, Sums, TILE_BYTES, TILE_K, Tile, Unpack, add_tile, hidden_rows,
    hidden_tile, store_tile,
};
use super::kernel::ByPanels;
use super::mixture::{Layer, Many, Matrices};
use super::scratch::{Chosen, Scratch};
use crate::ggml::{Operand, Share, Shared};
use std::ops::Range;
use std::slice;

/// Groups of a pack that a thread makes before it takes others.
const GROUPS_AT_ONCE: usize = 4;

/// Pairs of panels, and of packs, whose sums a thread has at a time.
const MAX_PAIRS: usize = 4;
const MAX_SQUARES: usize = 16;

/// Up to so many pairs of packs, which stay in a near cache, fewer pairs of panels at a time are faster.
const FEW_SQUARES: usize = 2;

/// Pairs of panels that a thread takes at a time, of gates and ups, and of the result. Larger pieces, for which packs are
/// read less often, were slower: threads end too far apart.
const HIDDEN_AT_ONCE: usize = 4;
const RESULTS_AT_ONCE: usize = 2;

/// What is read so many groups later is asked for.
const GROUPS_AHEAD: usize = 2;

/// Tiles that a thread needs to itself: a group of two panels, and sums.
pub(super) const TILES_OF_THREAD: usize = 2 * GROUP_TILES + 4 * MAX_PAIRS * MAX_SQUARES;

/// Sixteen rows of a matrix, of whole groups.
#[derive(Clone, Copy)]
struct PanelRows<'a> {
    unpack: Unpack,
    /// Bytes of a group.
    group: usize,
    rows: &'a [u8],
    /// From one row to the next.
    stride: usize,
}

impl<'a> PanelRows<'a> {
    /// From the bytes of rows, each of so many groups and bytes.
    fn new(unpack: Unpack, rows: &'a [u8], stride: usize, n_groups: usize) -> PanelRows<'a> {
        PanelRows { unpack, group: stride / n_groups, rows: &rows[..PANEL_ROWS * stride], stride }
    }
}

/// Packs of some tokens, the last of which may not be full.
#[derive(Clone, Copy)]
struct Packs<'a> {
    tiles: &'a [Tile],
    /// Tiles of one.
    n_tiles: usize,
    n_tokens: usize,
}

impl<'a> Packs<'a> {
    /// So many at a time.
    fn chunks(self, n: usize) -> impl Iterator<Item = Packs<'a>> {
        let Packs { n_tiles, n_tokens, .. } = self;
        let of = move |(nth, tiles): (usize, &'a [Tile])| Packs {
            tiles,
            n_tiles,
            n_tokens: (n_tokens - n * PACK_TOKENS * nth).min(n * PACK_TOKENS),
        };
        self.tiles.chunks(n * n_tiles).enumerate().map(of)
    }

    fn len(self) -> usize {
        self.tiles.len() / self.n_tiles
    }
}

/// A thread's two panels, and its sums.
struct Panels<'a> {
    engine: Engine,
    tiles: Shared<'a, Tile>,
}

impl<'a> Panels<'a> {
    fn new(engine: Engine, scratch: &'a Scratch, share: Share) -> Panels<'a> {
        // SAFETY: an engine is one that this CPU has.
        unsafe { engine.begin() };
        Panels { engine, tiles: scratch.of_thread(share.thread) }
    }

    /// Pairs of panels times packs; `done` gets a pair's number, that of the first of one or two packs, and their sums.
    /// `then` tells the pairs that this thread will probably be given next.
    fn multiply<'p>(
        &mut self,
        n_pairs: usize,
        pair: impl Fn(usize) -> [PanelRows<'p>; 2],
        then: impl Fn(usize) -> Option<[PanelRows<'p>; 2]>,
        packs: Packs<'_>,
        mut done: impl FnMut(usize, usize, &[[Sums; 2]; 2]),
    ) {
        let at_once = if packs.len() <= 2 * FEW_SQUARES { MAX_PAIRS / 2 } else { MAX_PAIRS };
        for first in (0..n_pairs).step_by(at_once) {
            let pairs: [_; MAX_PAIRS] = std::array::from_fn(|n| pair((first + n).min(n_pairs - 1)));
            let pairs = &pairs[..at_once.min(n_pairs - first)];
            let next: [_; MAX_PAIRS] = std::array::from_fn(|n| match first + pairs.len() + n {
                nth if nth < n_pairs => Some(pair(nth)),
                nth => then(nth - n_pairs),
            });
            for (nth, packs) in packs.chunks(2 * MAX_SQUARES).enumerate() {
                let all = self.sums(pairs, &next, packs);
                let n_squares = all.len() / pairs.len();
                for (n, sums) in all.iter().enumerate() {
                    done(first + n / n_squares, 2 * (MAX_SQUARES * nth + n % n_squares), sums);
                }
            }
        }
    }

    /// The sums of each pair and each two packs. A group of two panels is made, and multiplied by all packs while it is in
    /// the nearest cache; then the next. What is read after some groups, of these or the `next` pairs, is asked for: rows
    /// are too many for the CPU to see where they go on.
    fn sums(
        &mut self,
        pairs: &[[PanelRows<'_>; 2]],
        next: &[Option<[PanelRows<'_>; 2]>; MAX_PAIRS],
        packs: Packs<'_>,
    ) -> &[[[Sums; 2]; 2]] {
        let n_squares = packs.len().div_ceil(2);
        assert!(pairs.len() <= MAX_PAIRS && n_squares <= MAX_SQUARES && self.tiles.len() >= TILES_OF_THREAD);
        let tiles = self.tiles.as_ptr();
        // SAFETY: a thread's tiles are its own: first two panels, then the sums, which are as large as tiles. All rows have
        // so many groups, and the engine has begun on this thread.
        unsafe {
            let panels = [tiles.cast::<u16>(), tiles.add(GROUP_TILES).cast()];
            let first = tiles.add(2 * GROUP_TILES).cast::<[[Sums; 2]; 2]>();
            let sums = slice::from_raw_parts_mut(first, pairs.len() * n_squares);
            sums.fill([[Sums::ZERO; 2]; 2]);
            let pack_tiles = self.engine.pack_tiles();
            let n_groups = packs.n_tiles / pack_tiles;
            for group in 0..n_groups {
                for ((pair, next), sums) in pairs.iter().zip(next).zip(sums.chunks_mut(n_squares)) {
                    for (nth, (rows, panel)) in pair.iter().zip(panels).enumerate() {
                        let soon = match (group + GROUPS_AHEAD).checked_sub(n_groups) {
                            None => rows.rows.as_ptr().add((group + GROUPS_AHEAD) * rows.group),
                            Some(group) => next.map_or(std::ptr::null(), |next| {
                                next[nth].rows.as_ptr().wrapping_add(group * next[nth].group)
                            }),
                        };
                        (rows.unpack)(rows.rows.as_ptr().add(group * rows.group), rows.stride, soon, panel);
                    }
                    for (packs, sums) in packs.chunks(2).zip(sums) {
                        let at = |n: usize| packs.tiles[n * packs.n_tiles + group * pack_tiles].as_ptr();
                        let both = [at(0), at(packs.len() - 1)];
                        self.engine.multiply(panels.map(<*mut u16>::cast_const), both, packs.n_tokens, sums);
                    }
                }
            }
            sums
        }
    }
}

impl Drop for Panels<'_> {
    fn drop(&mut self) {
        // SAFETY: it has begun on this thread.
        unsafe { self.engine.end() }
    }
}

/// `a` [k, n] times `x` [k, n_tokens]; n is a multiple of 32.
pub(super) fn mul_mat(share: Share, by: ByPanels, scratch: &Scratch, [a, x]: [&Operand<'_>; 2], out: Shared<'_, f32>) {
    let ([k, n, ..], n_tokens) = (a.ne.map(|n| n as usize), x.ne[1] as usize);
    let (n_groups, n_packs) = (k / GROUP, n_tokens.div_ceil(PACK_TOKENS));
    let n_tiles = n_groups * by.engine.pack_tiles();
    if share.thread == 0 {
        scratch.team.begin();
    }
    scratch.team.meet(share.n_threads);
    let chunks = n_groups.div_ceil(GROUPS_AT_ONCE);
    while let Some(piece) = scratch.team.take(0, n_packs * chunks) {
        let (pack, groups) = (piece / chunks, chunk(piece % chunks, n_groups));
        let tokens = PACK_TOKENS * pack..(PACK_TOKENS * (pack + 1)).min(n_tokens);
        let mut rows = [&[][..]; PACK_TOKENS];
        rows.iter_mut().zip(tokens.clone()).for_each(|(row, token)| *row = x.row::<f32>(token));
        let to = tiles(by.engine, pack * n_groups, &groups);
        // SAFETY: these tiles are this piece's.
        by.engine.pack(&rows[..tokens.len()], groups.start, unsafe { scratch.x_pack.shared().write(to) });
    }
    scratch.team.meet(share.n_threads);
    // SAFETY: written before the meeting.
    let tiles = unsafe { scratch.x_pack.shared().read(0..n_packs * n_tiles) };
    let packs = Packs { tiles, n_tiles, n_tokens };
    let mut panels = Panels::new(by.engine, scratch, share);
    let n_pairs = n / (2 * PANEL_ROWS);
    let at_once = (n_pairs / (4 * share.n_threads)).clamp(1, MAX_PAIRS);
    while let Some(piece) = scratch.team.take(1, n_pairs.div_ceil(at_once)) {
        let some = at_once * piece..(at_once * (piece + 1)).min(n_pairs);
        let rows =
            |panel: usize| PanelRows::new(by.unpack, &a.bytes[PANEL_ROWS * panel * a.nb[1]..], a.nb[1], n_groups);
        let both = |pair: usize| [0, 1].map(|panel| rows(2 * pair + panel));
        let now = |nth: usize| both(some.start + nth);
        let then =
            |nth: usize| Some(some.start + at_once * share.n_threads + nth).filter(|pair| *pair < n_pairs).map(both);
        panels.multiply(some.len(), now, then, packs, |pair, first_pack, sums| {
            for (panel, sums) in sums.iter().enumerate() {
                let row = PANEL_ROWS * (2 * (some.start + pair) + panel);
                for (pack, sums) in (first_pack..n_packs).zip(sums) {
                    let tokens = PACK_TOKENS * pack..(PACK_TOKENS * (pack + 1)).min(n_tokens);
                    // SAFETY: these rows are this piece's, and the tokens are different ones.
                    store_tile(sums, tokens.len(), |nth| unsafe { sixteen(out, (tokens.start + nth) * n + row) });
                }
            }
        });
    }
}

/// A chunk of groups.
fn chunk(nth: usize, n_groups: usize) -> Range<usize> {
    GROUPS_AT_ONCE * nth..(GROUPS_AT_ONCE * (nth + 1)).min(n_groups)
}

/// The tiles of some groups of a pack that lies behind so many groups.
fn tiles(engine: Engine, before: usize, groups: &Range<usize>) -> Range<usize> {
    (before + groups.start) * engine.pack_tiles()..(before + groups.end) * engine.pack_tiles()
}

/// Sixteen values of the result.
///
/// # Safety
/// Nobody else uses them meanwhile.
unsafe fn sixteen(out: Shared<'_, f32>, first: usize) -> &mut [f32] {
    // SAFETY: the caller's word.
    unsafe { out.write(first..first + PANEL_ROWS) }
}

impl Layer<'_> {
    /// The whole layer, after the choice of experts.
    pub(super) fn many(&self, by: &Many, x: &Operand<'_>, out: Shared<'_, f32>) {
        self.scratch.team.meet(self.share.n_threads);
        self.pack(by.engine, x);
        self.scratch.team.meet(self.share.n_threads);
        let mut panels = Panels::new(by.engine, self.scratch, self.share);
        self.many_hidden(&mut panels, by.gate_up);
        self.scratch.team.meet(self.share.n_threads);
        self.many_results(&mut panels, by.down, out);
    }

    /// Each expert's tokens.
    fn pack(&self, engine: Engine, x: &Operand<'_>) {
        let (chosen, slots) = self.chosen();
        let n_groups = self.n_embd / GROUP;
        let chunks = n_groups.div_ceil(GROUPS_AT_ONCE);
        while let Some(piece) = self.scratch.team.take(2, self.n_packs() * chunks) {
            let (pack, groups) = (piece / chunks, chunk(piece % chunks, n_groups));
            let chosen = &chosen[chosen.partition_point(|chosen| chosen.first_pack <= pack) - 1];
            let slots = &slots[of_pack(chosen, pack - chosen.first_pack)];
            let mut rows = [&[][..]; PACK_TOKENS];
            rows.iter_mut().zip(slots).for_each(|(row, (token, _))| *row = x.row::<f32>(*token as usize));
            let to = tiles(engine, pack * n_groups, &groups);
            // SAFETY: these tiles are this piece's.
            engine.pack(&rows[..slots.len()], groups.start, unsafe { self.scratch.x_pack.shared().write(to) });
        }
    }

    /// Some rows of an expert's gates and ups at a time, for all its tokens.
    fn many_hidden(&self, panels: &mut Panels<'_>, [gate, up]: [Unpack; 2]) {
        let (chosen, slots) = self.chosen();
        let engine = panels.engine;
        let (n_groups, n_blocks) = (self.n_embd / GROUP, self.n_ff / PANEL_ROWS);
        let n_tiles = n_groups * engine.pack_tiles();
        // Whole numbers are made of a group of hidden values.
        let at_once = if engine == Engine::Bytes { GROUP / PANEL_ROWS } else { HIDDEN_AT_ONCE };
        let pieces = n_blocks.div_ceil(at_once);
        // SAFETY: written before the meeting.
        let packs = unsafe { self.scratch.x_pack.shared().read(0..self.n_packs() * n_tiles) };
        while let Some(piece) = self.scratch.team.take(0, chosen.len() * pieces) {
            let pair = |expert: usize, block: usize| {
                let row = PANEL_ROWS * block;
                [self.gate.panel(gate, expert, row, n_groups), self.up.panel(up, expert, row, n_groups)]
            };
            let later = piece + self.share.n_threads;
            let then = |nth: usize| {
                let block = Some(later % pieces * at_once + nth).filter(|block| *block < n_blocks)?;
                Some(pair(chosen.get(later / pieces)?.expert, block))
            };
            let (chosen, first) = (&chosen[piece / pieces], piece % pieces * at_once);
            let now = |nth: usize| pair(chosen.expert, first + nth);
            let (n_pairs, packs) = (at_once.min(n_blocks - first), packs_of(packs, n_tiles, chosen));
            panels.multiply(n_pairs, now, then, packs, |nth, first_pack, [gate, up]| {
                let block = first + nth;
                for (pack, (gate, up)) in (first_pack..chosen.n.div_ceil(PACK_TOKENS)).zip(gate.iter().zip(up)) {
                    let mut weights = [0.0; PACK_TOKENS];
                    for (weight, (token, nth)) in weights.iter_mut().zip(&slots[of_pack(chosen, pack)]) {
                        *weight = self.weight(*token, *nth);
                    }
                    if engine == Engine::Bytes {
                        let slots = of_pack(chosen, pack);
                        let at = |n: usize| (slots.start + n) * self.n_ff + PANEL_ROWS * block;
                        // SAFETY: these values of these slots are this piece's.
                        let to = |n: usize| unsafe { sixteen(self.scratch.hidden.shared(), at(n)) };
                        hidden_rows([gate, up], &weights, slots.len(), to);
                        continue;
                    }
                    let tile = (chosen.first_pack + pack) * (self.n_ff / TILE_K) + PANEL_ROWS * block / TILE_K;
                    // SAFETY: this half of the tile is this piece's.
                    let to = unsafe { half_tile(self.scratch.hidden_pack.shared(), tile, block % 2) };
                    hidden_tile(gate, up, &weights, to);
                }
            });
            if engine == Engine::Bytes {
                self.pack_hidden(chosen, PANEL_ROWS * first / GROUP);
            }
        }
    }

    /// A group of the hidden values of an expert, which are all there.
    fn pack_hidden(&self, chosen: &Chosen, group: usize) {
        for pack in 0..chosen.n.div_ceil(PACK_TOKENS) {
            let slots = of_pack(chosen, pack);
            let mut rows = [&[][..]; PACK_TOKENS];
            for (row, slot) in rows.iter_mut().zip(slots.clone()) {
                let first = slot * self.n_ff + GROUP * group;
                // SAFETY: they were written by this thread.
                *row = unsafe { self.scratch.hidden.shared().read(first..first + GROUP) };
            }
            let before = (chosen.first_pack + pack) * (self.n_ff / GROUP);
            let to = tiles(Engine::Bytes, before, &(group..group + 1));
            // SAFETY: these tiles are this piece's.
            Engine::Bytes.pack(&rows[..slots.len()], 0, unsafe { self.scratch.hidden_pack.shared().write(to) });
        }
    }

    /// Some rows of the result at a time, for all experts.
    fn many_results(&self, panels: &mut Panels<'_>, unpack: Unpack, out: Shared<'_, f32>) {
        let (chosen, slots) = self.chosen();
        let (n_groups, n_pairs) = (self.n_ff / GROUP, self.n_embd / (2 * PANEL_ROWS));
        let n_tiles = n_groups * panels.engine.pack_tiles();
        // SAFETY: written before the meeting.
        let packs = unsafe { self.scratch.hidden_pack.shared().read(0..self.n_packs() * n_tiles) };
        while let Some(piece) = self.scratch.team.take(1, n_pairs.div_ceil(RESULTS_AT_ONCE)) {
            let pairs = RESULTS_AT_ONCE * piece..(RESULTS_AT_ONCE * (piece + 1)).min(n_pairs);
            for token in 0..self.n_tokens {
                let first = token * self.n_embd + 2 * PANEL_ROWS * pairs.start;
                // SAFETY: these rows of the result are this piece's, here and below.
                unsafe { out.write(first..first + 2 * PANEL_ROWS * pairs.len()) }.fill(0.0);
            }
            let row = |nth: usize, panel: usize| PANEL_ROWS * (2 * (pairs.start + nth) + panel);
            let pair = |expert: usize, nth: usize| {
                [0, 1].map(|panel| self.down.panel(unpack, expert, row(nth, panel), n_groups))
            };
            for (nth, now) in chosen.iter().enumerate() {
                let then = |n: usize| {
                    let next = chosen.get(nth + 1).filter(|_| n < pairs.len())?;
                    Some(pair(next.expert, n))
                };
                let chosen = now;
                let now = |nth: usize| pair(chosen.expert, nth);
                let packs = packs_of(packs, n_tiles, chosen);
                panels.multiply(pairs.len(), now, then, packs, |nth, first_pack, sums| {
                    for (panel, sums) in sums.iter().enumerate() {
                        for (pack, sums) in (first_pack..chosen.n.div_ceil(PACK_TOKENS)).zip(sums) {
                            let slots = &slots[of_pack(chosen, pack)];
                            let at = |n: usize| slots[n].0 as usize * self.n_embd + row(nth, panel);
                            // SAFETY: as above, and an expert's tokens are different ones.
                            add_tile(sums, slots.len(), |n| unsafe { sixteen(out, at(n)) });
                        }
                    }
                });
            }
        }
    }
}

impl Matrices<'_> {
    /// Sixteen rows of an expert's matrix, from `row` on.
    fn panel(&self, unpack: Unpack, expert: usize, row: usize, n_groups: usize) -> PanelRows<'_> {
        let (rows, stride) = self.rows(expert, row);
        PanelRows::new(unpack, rows, stride, n_groups)
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

/// The packs of an expert.
fn packs_of<'p>(tiles: &'p [Tile], n_tiles: usize, chosen: &Chosen) -> Packs<'p> {
    let tiles = &tiles[chosen.first_pack * n_tiles..][..chosen.n.div_ceil(PACK_TOKENS) * n_tiles];
    Packs { tiles, n_tiles, n_tokens: chosen.n }
}

/// The slots of an expert's pack.
fn of_pack(chosen: &Chosen, pack: usize) -> Range<usize> {
    let first = chosen.first + PACK_TOKENS * pack;
    first..(first + PACK_TOKENS).min(chosen.first + chosen.n)
}
