//! A matrix times the rows of a batch.
#![allow(unsafe_code)]

use super::activation::{Group, Order, Row, quantize};
use super::block::GROUP;
use super::kernel::{ByPanels, Way};
use super::many;
use super::scratch::Scratch;
use crate::ggml::{Operand, Share, Shared, Work};
use std::ops::Range;
use std::sync::Arc;

/// Rows of activations that a row of weights is unpacked for once.
pub(super) const AT_ONCE: usize = 4;

/// `a` [k, n] and `x` [k, n_tokens] F32 → [n, n_tokens].
pub(super) struct MatMul {
    pub(super) way: Way,
    pub(super) scratch: Arc<Scratch>,
}

/// The same for many tokens at once.
pub(super) struct ManyMatMul {
    pub(super) by: ByPanels,
    pub(super) scratch: Arc<Scratch>,
}

impl Work for ManyMatMul {
    fn run(&self, share: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [a, x] = operands else { return };
        many::mul_mat(share, self.by, &self.scratch, [a, x], out);
    }
}

impl Work for MatMul {
    fn run(&self, share: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [a, x] = operands else { return };
        let ([k, n, ..], n_tokens) = (a.ne.map(|n| n as usize), x.ne[1] as usize);
        let per_row = k / GROUP;
        quantize_rows(share, x, self.way.order, n_tokens, self.scratch.x.shared());
        if share.thread == 0 {
            self.scratch.team.begin();
        }
        self.scratch.team.meet(share.n_threads);
        // SAFETY: the activations were written before the meeting, and are not again.
        let groups = unsafe { self.scratch.x.shared().read(0..n_tokens * per_row) };
        let at_once = (n / (8 * share.n_threads)).clamp(4, 64);
        while let Some(piece) = self.scratch.team.take(0, n.div_ceil(at_once)) {
            let rows = piece * at_once..((piece + 1) * at_once).min(n);
            for first in (0..n_tokens).step_by(AT_ONCE) {
                let tokens = first..(first + AT_ONCE).min(n_tokens);
                let mut x = [Row { groups: &[] }; AT_ONCE];
                let n_x = tokens.len();
                x.iter_mut().zip(tokens.clone()).for_each(|(row, t)| row.groups = &groups[t * per_row..][..per_row]);
                let mut sums = [0.0; AT_ONCE];
                for row in rows.clone() {
                    (self.way.dot)(&a.bytes[row * a.nb[1]..][..a.nb[1]], &x[..n_x], &mut sums[..n_x]);
                    for (sum, token) in sums.iter().zip(tokens.clone()) {
                        let at = token * n + row;
                        // SAFETY: these rows of the result are this piece's.
                        unsafe { out.write(at..at + 1)[0] = *sum };
                    }
                }
            }
        }
    }
}

/// A thread's share of the rows of `x` [k, n_tokens], quantised.
pub(super) fn quantize_rows(share: Share, x: &Operand<'_>, order: Order, n_tokens: usize, to: Shared<'_, Group>) {
    let per_row = x.ne[0] as usize / GROUP;
    let all = part(n_tokens * per_row, share);
    let mut at = all.start;
    while at < all.end {
        let (token, group) = (at / per_row, at % per_row);
        let n = (per_row - group).min(all.end - at);
        let values = x.row::<f32>(token);
        // SAFETY: each thread has its own groups.
        quantize(&values[group * GROUP..][..n * GROUP], order, unsafe { to.write(at..at + n) });
        at += n;
    }
}

/// A thread's share of `n`.
fn part(n: usize, share: Share) -> Range<usize> {
    let at = |thread: usize| n * thread / share.n_threads;
    at(share.thread)..at(share.thread + 1)
}
