//! The experts of a token as two nodes, between which a GPU computes others: the first has threads of our own begin,
//! and sends the GPU what it is to compute with; the second waits for them.
#![allow(unsafe_code)]

use super::crew::Crew;
use super::mixture::Experts;
use super::scratch::{Buffer, Scratch};
use super::trace::Lane;
use super::{ApartError, Shape};
use crate::ggml::{Operand, Share, Shared, Staging, StoreId, Word, Work};
use std::sync::Arc;

/// Threads, and what they need of a graph that goes on.
pub(super) struct Apart {
    crew: Crew,
    /// [n_embd], [n_used] twice
    x: Buffer<f32>,
    ids: Buffer<i32>,
    weights: Buffer<f32>,
    /// [n_embd]
    result: Buffer<f32>,
    /// Not that of the graph's other nodes.
    pub(super) scratch: Arc<Scratch>,
}

impl Apart {
    pub(super) fn new(shape: Shape, scratch: Scratch) -> Result<Apart, ApartError> {
        let Shape { n_embd, n_used, .. } = shape;
        Ok(Apart {
            crew: Crew::new(shape.n_threads)?,
            x: Buffer::new(0.0, n_embd)?,
            ids: Buffer::new(0, n_used)?,
            weights: Buffer::new(0.0, n_used)?,
            result: Buffer::new(0.0, n_embd)?,
            scratch: Arc::new(scratch),
        })
    }
}

/// Where the last of a token's experts go.
pub struct Sent {
    pub staging: Arc<Staging>,
    /// The matrices that are sent, one behind the other of each expert, in the order of [`Begin`]'s operands.
    pub matrices: Vec<StoreId>,
    /// How many experts.
    pub n: usize,
}

impl Sent {
    fn send(&self, experts: &[i32], matrices: &[Operand<'_>]) {
        for (slot, expert) in experts.iter().enumerate() {
            for (id, matrix) in self.matrices.iter().zip(matrices) {
                let (from, bytes) = (*expert as usize * matrix.nb[2], matrix.nb[2]);
                if let Some(data) = matrix.bytes.get(from..from + bytes) {
                    self.staging.send(*id, slot * bytes, data);
                }
            }
        }
    }
}

/// Operands as [`Experts`] has them, of one token; the result is nothing, but what the other node is computed from.
pub(super) struct Begin {
    pub(super) experts: Arc<Experts>,
    pub(super) apart: Arc<Apart>,
    pub(super) sent: Option<Sent>,
}

/// The sum over the experts that were not sent: [n_embd].
pub(super) struct End {
    pub(super) apart: Arc<Apart>,
}

impl Work for Begin {
    fn run(&self, _: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [x, ids, weights, matrices @ ..] = operands else { return };
        let apart = &self.apart;
        apart.crew.wait();
        let n_sent = self.sent.as_ref().map_or(0, |sent| sent.n);
        let n_used = ids.ne[0] as usize;
        let chosen = ids.row::<i32>(0);
        keep(&apart.x, x.row::<f32>(0));
        keep(&apart.ids, chosen);
        // [1, n_used]: they may lie apart.
        let weights: Vec<f32> = (0..n_used).filter_map(|n| weights.row::<f32>(n).first().copied()).collect();
        keep(&apart.weights, &weights);
        let (n_embd, n_here) = (x.ne[0], (n_used - n_sent) as i64);
        let vector = |ne: [i64; 4], bytes| {
            let nb = [4, 4 * ne[0] as usize, 4 * (ne[0] * ne[1]) as usize, 4 * (ne[0] * ne[1]) as usize];
            Operand { ne, nb, bytes }
        };
        let mut all = vec![
            vector([n_embd, 1, 1, 1], lasting(&apart.x)),
            vector([n_here, 1, 1, 1], lasting(&apart.ids)),
            vector([1, n_here, 1, 1], lasting(&apart.weights)),
        ];
        all.extend(matrices.iter().map(|matrix| {
            // SAFETY: weights stay where they are as long as the graph, which keeps this node, which waits before it
            // goes.
            Operand {
                bytes: unsafe { std::slice::from_raw_parts(matrix.bytes.as_ptr(), matrix.bytes.len()) },
                ..*matrix
            }
        }));
        let (experts, result) = (self.experts.clone(), apart.clone());
        apart.crew.begin(Box::new(move |share| {
            let trace = &result.scratch.trace;
            let work = || experts.compute(share, &all, result.result.shared());
            trace.note("experts", Lane::Beside(share.thread), work);
        }));
        if let Some(sent) = &self.sent {
            apart.scratch.trace.note("send experts", Lane::Graph, || sent.send(&chosen[n_used - n_sent..], matrices));
        }
        // SAFETY: nobody else has the result, and nobody reads it.
        unsafe { out.write(0..out.len()) }.fill(0.0);
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn has_threads(&self) -> bool {
        true
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        // Where the graph was stopped between the two.
        self.apart.crew.wait();
    }
}

impl Work for End {
    fn run(&self, _: Share, _: &[Operand<'_>], out: Shared<'_, f32>) {
        self.apart.scratch.trace.note("wait for experts", Lane::Graph, || self.apart.crew.wait());
        // SAFETY: nobody else has the result, and the threads that wrote to the other are done.
        unsafe { out.write(0..out.len()).copy_from_slice(self.apart.result.shared().read(0..out.len())) };
    }

    fn is_alone(&self) -> bool {
        true
    }
}

fn keep<T: Copy>(buffer: &Buffer<T>, values: &[T]) {
    let n = values.len().min(buffer.shared().len());
    // SAFETY: the threads that read it are done.
    unsafe { buffer.shared().write(0..n) }.copy_from_slice(&values[..n]);
}

/// For threads whose end is waited for before the buffer is written to again, or goes.
fn lasting<T: Word>(buffer: &Buffer<T>) -> &'static [u8] {
    let shared = buffer.shared();
    // SAFETY: as many bytes of numbers.
    unsafe { std::slice::from_raw_parts(shared.as_ptr().cast(), 4 * shared.len()) }
}
