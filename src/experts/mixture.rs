//! A layer's routed experts, as one piece of work: what goes in is quantised once; then all rows of all chosen
//! experts' gates and ups, of whose hidden values whoever computes the last of a group quantises it; then all rows of the result, each the sum over a
//! token's experts. The threads meet twice.
#![allow(unsafe_code)]

use super::activation::{Group, Row, quantize};
use super::block::GROUP;
use super::gemm::{Engine, PACK_TOKENS, Unpack};
use super::kernel::Way;
use super::matmul::{AT_ONCE, quantize_rows};
use super::scratch::{Chosen, Scratch};
use super::trace::Lane;
use crate::ggml::{Operand, Share, Shared, Work};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows that a thread computes before it takes others: as many hidden values share a scale.
const ROWS: usize = 32;

/// Operands: `x` [n_embd, n_tokens], ids I32 [n_used, n_tokens], weights [1, n_used, n_tokens], then gate and up
/// [n_embd, n_ff, n_expert], or both as one [n_embd, 2 · n_ff, n_expert], and down [n_ff, n_embd, n_expert];
/// the result is [n_embd, n_tokens].
pub(super) struct Experts {
    pub(super) gate: Way,
    pub(super) up: Way,
    pub(super) down: Way,
    /// For many tokens at once.
    pub(super) many: Option<Many>,
    pub(super) scratch: Arc<Scratch>,
}

/// How many tokens at once are multiplied.
#[derive(Clone, Copy)]
pub(super) struct Many {
    pub(super) engine: Engine,
    pub(super) gate_up: [Unpack; 2],
    pub(super) down: Unpack,
}

/// The matrices of all experts.
pub(super) struct Matrices<'a> {
    pub(super) way: Way,
    bytes: &'a [u8],
    row: usize,
    expert: usize,
}

impl<'a> Matrices<'a> {
    fn new(way: Way, operand: &Operand<'a>) -> Matrices<'a> {
        Matrices { way, bytes: operand.bytes, row: operand.nb[1], expert: operand.nb[2] }
    }

    pub(super) fn row(&self, expert: usize, row: usize) -> &'a [u8] {
        &self.bytes[expert * self.expert + row * self.row..][..self.row]
    }

    /// All that lies from a row on, and the bytes of a row.
    pub(super) fn rows(&self, expert: usize, row: usize) -> (&'a [u8], usize) {
        (&self.bytes[expert * self.expert + row * self.row..], self.row)
    }
}

/// One layer's work, as a thread sees it.
pub(super) struct Layer<'a> {
    pub(super) share: Share,
    pub(super) scratch: &'a Scratch,
    pub(super) gate: Matrices<'a>,
    pub(super) up: Matrices<'a>,
    pub(super) down: Matrices<'a>,
    ids: Operand<'a>,
    weights: Operand<'a>,
    pub(super) n_embd: usize,
    pub(super) n_ff: usize,
    n_used: usize,
    pub(super) n_tokens: usize,
}

impl Work for Experts {
    fn run(&self, share: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let work = || self.compute(share, operands, out);
        if share.thread == 0 { self.scratch.trace.note("experts", Lane::Graph, work) } else { work() }
    }
}

impl Experts {
    /// A thread's share.
    pub(super) fn compute(&self, share: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let (x, ids, weights, gate, up, down) = match operands {
            [x, ids, weights, gate, up, down] => (x, ids, weights, *gate, *up, down),
            [x, ids, weights, both, down] => {
                let mut up = *both;
                up.bytes = up.bytes.get(both.ne[1] as usize / 2 * both.nb[1]..).unwrap_or(&[]);
                (x, ids, weights, *both, up, down)
            }
            _ => return,
        };
        let layer = Layer {
            share,
            scratch: &self.scratch,
            gate: Matrices::new(self.gate, &gate),
            up: Matrices::new(self.up, &up),
            down: Matrices::new(self.down, down),
            ids: *ids,
            weights: *weights,
            n_embd: x.ne[0] as usize,
            n_ff: down.ne[0] as usize,
            n_used: ids.ne[0] as usize,
            n_tokens: ids.ne[1] as usize,
        };
        if share.thread == 0 {
            layer.choose();
            self.scratch.team.begin();
        }
        if let Some(many) = &self.many {
            return layer.many(many, x, out);
        }
        quantize_rows(share, x, self.gate.order, layer.n_tokens, layer.x(0));
        if self.up.order != self.gate.order {
            quantize_rows(share, x, self.up.order, layer.n_tokens, layer.x(1));
        }
        self.scratch.team.meet(share.n_threads);
        layer.hidden();
        self.scratch.team.meet(share.n_threads);
        layer.result(out);
    }
}

impl<'a> Layer<'a> {
    /// Sorts the tokens' choices by expert; those below 0 are none.
    fn choose(&self) {
        let n_slots = self.n_tokens * self.n_used;
        // SAFETY: only the first thread is here, and the others wait for it before they read.
        let (slots, chosen) = unsafe {
            (self.scratch.slots.shared().write(0..n_slots), self.scratch.chosen.shared().write(0..n_slots + 1))
        };
        let expert = |slot: &(u32, u32)| self.ids.row::<i32>(slot.0 as usize)[slot.1 as usize];
        for (n, slot) in slots.iter_mut().enumerate() {
            *slot = ((n / self.n_used) as u32, (n % self.n_used) as u32);
        }
        slots.sort_by_key(expert);
        let n_none = slots.partition_point(|slot| expert(slot) < 0);
        let slots = &slots[n_none..];
        let (last, chosen) = chosen.split_last_mut().unwrap_or_else(|| unreachable!("there is one more"));
        let (mut first, mut first_pack, mut n) = (n_none, 0, 0);
        for same in slots.chunk_by(|a, b| expert(a) == expert(b)) {
            chosen[n] = Chosen { expert: expert(&same[0]) as usize, first, n: same.len(), first_pack };
            (first, first_pack, n) = (first + same.len(), first_pack + same.len().div_ceil(PACK_TOKENS), n + 1);
        }
        *last = Chosen { n, first_pack, ..Chosen::default() };
        self.scratch.tally.add(n);
        self.scratch.done[..n * self.n_ff / GROUP].iter().for_each(|done| done.store(0, Ordering::Relaxed));
    }

    /// The chosen experts, and all slots.
    pub(super) fn chosen(&self) -> (&'a [Chosen], &'a [(u32, u32)]) {
        let n_slots = self.n_tokens * self.n_used;
        // SAFETY: written before the first meeting.
        let (chosen, slots) = unsafe {
            (self.scratch.chosen.shared().read(0..n_slots + 1), self.scratch.slots.shared().read(0..n_slots))
        };
        (&chosen[..chosen[n_slots].n], slots)
    }

    /// Packs of all experts.
    pub(super) fn n_packs(&self) -> usize {
        let n_slots = self.n_tokens * self.n_used;
        // SAFETY: as above.
        unsafe { self.scratch.chosen.shared().read(n_slots..n_slots + 1)[0].first_pack }
    }

    /// Room for the activations of all tokens: of the gates' order, and of the ups' where it is another.
    fn x(&self, n: usize) -> Shared<'a, Group> {
        let len = self.n_tokens * self.n_embd / GROUP;
        self.scratch.x.shared().part(n * len..(n + 1) * len)
    }

    /// down's input: silu(gate · x) ⊙ up · x, times the expert's weight.
    fn hidden(&self) {
        let (chosen, slots) = self.chosen();
        let blocks = self.n_ff / ROWS;
        let per_row = self.n_embd / GROUP;
        // SAFETY: written before the first meeting.
        let x = unsafe { self.x(0).read(0..self.n_tokens * per_row) };
        let for_up = match self.up.way.order == self.gate.way.order {
            true => x,
            // SAFETY: as above.
            false => unsafe { self.x(1).read(0..self.n_tokens * per_row) },
        };
        let rows = |x: &'a [Group], slots: &[(u32, u32)]| {
            let mut rows = [Row { groups: &[] }; AT_ONCE];
            for (row, (token, _)) in rows.iter_mut().zip(slots) {
                row.groups = &x[*token as usize * per_row..][..per_row];
            }
            rows
        };
        while let Some(piece) = self.scratch.team.take(0, chosen.len() * blocks) {
            let (nth, block) = (piece / blocks, piece % blocks);
            let chosen = &chosen[nth];
            let all = chosen.first..chosen.first + chosen.n;
            for at in all.clone().step_by(AT_ONCE) {
                let slots = &slots[at..(at + AT_ONCE).min(all.end)];
                self.hidden_block(chosen.expert, block, at, &rows(x, slots)[..slots.len()], &rows(for_up, slots));
            }
            let group = block * ROWS / GROUP;
            let done = &self.scratch.done[nth * self.n_ff / GROUP + group];
            if done.fetch_add(1, Ordering::AcqRel) + 1 == (GROUP / ROWS) as u32 {
                self.quantize_hidden(all, group, slots);
            }
        }
    }

    /// 32 hidden values of each slot from `at` on.
    fn hidden_block(&self, expert: usize, block: usize, at: usize, x: &[Row<'_>], for_up: &[Row<'_>]) {
        let (mut values, mut gate, mut up) = ([[0.0; ROWS]; AT_ONCE], [0.0; AT_ONCE], [0.0; AT_ONCE]);
        let n = x.len();
        for row in 0..ROWS {
            (self.gate.way.dot)(self.gate.row(expert, ROWS * block + row), x, &mut gate[..n]);
            (self.up.way.dot)(self.up.row(expert, ROWS * block + row), &for_up[..n], &mut up[..n]);
            for (values, (gate, up)) in values.iter_mut().zip(gate.iter().zip(&up)) {
                values[row] = gate / (1.0 + (-gate).exp()) * up;
            }
        }
        for (n, values) in values.iter().enumerate().take(n) {
            let from = (at + n) * self.n_ff + ROWS * block;
            // SAFETY: these rows of these slots are this piece's.
            unsafe { self.scratch.hidden.shared().write(from..from + ROWS) }.copy_from_slice(values);
        }
    }

    /// A group of the hidden values of an expert's slots, which are all there.
    fn quantize_hidden(&self, all: Range<usize>, group: usize, slots: &[(u32, u32)]) {
        for slot in all {
            let (token, nth) = slots[slot];
            let (from, place) = (slot * self.n_ff + GROUP * group, slot * (self.n_ff / GROUP) + group);
            // SAFETY: the threads that wrote them have said so, and the group is nobody else's.
            let (values, to) = unsafe {
                let to = self.scratch.hidden_groups.shared().write(place..place + 1);
                (self.scratch.hidden.shared().read(from..from + GROUP), to)
            };
            quantize(values, self.down.way.order, to);
            to[0].d *= self.weight(token, nth);
        }
    }

    pub(super) fn weight(&self, token: u32, nth: u32) -> f32 {
        let from = token as usize * self.weights.nb[2] + nth as usize * self.weights.nb[1];
        let bytes = self.weights.bytes.get(from..from + 4).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(f32::NAN, |bytes| f32::from_ne_bytes(*bytes))
    }

    /// down, summed over the experts of a token.
    fn result(&self, out: Shared<'_, f32>) {
        let (chosen, slots) = self.chosen();
        let per_slot = self.n_ff / GROUP;
        // SAFETY: written before the second meeting.
        let hidden = unsafe { self.scratch.hidden_groups.shared().read(0..slots.len() * per_slot) };
        while let Some(block) = self.scratch.team.take(1, self.n_embd / ROWS) {
            let place = |token: usize| token * self.n_embd + ROWS * block;
            for token in 0..self.n_tokens {
                // SAFETY: these rows of the result are this piece's.
                unsafe { out.write(place(token)..place(token) + ROWS) }.fill(0.0);
            }
            for chosen in chosen {
                for at in (chosen.first..chosen.first + chosen.n).step_by(AT_ONCE) {
                    let slots = &slots[at..(at + AT_ONCE).min(chosen.first + chosen.n)];
                    let (mut rows, mut sums) = ([Row { groups: &[] }; AT_ONCE], [0.0; AT_ONCE]);
                    for (n, row) in rows.iter_mut().enumerate().take(slots.len()) {
                        row.groups = &hidden[(at + n) * per_slot..][..per_slot];
                    }
                    for row in 0..ROWS {
                        let weights = self.down.row(chosen.expert, ROWS * block + row);
                        (self.down.way.dot)(weights, &rows[..slots.len()], &mut sums[..slots.len()]);
                        for (sum, (token, _)) in sums.iter().zip(slots) {
                            let at = place(*token as usize) + row;
                            // SAFETY: as above.
                            unsafe { out.write(at..at + 1)[0] += sum };
                        }
                    }
                }
            }
        }
    }
}
