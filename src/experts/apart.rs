//! The experts of a step as nodes between which a GPU computes: the first has threads of our own begin with some of
//! them, and sends the GPU the others; the last waits for the threads.
#![allow(unsafe_code)]

use super::crew::Crew;
use super::mixture::Experts;
use super::scratch::{Buffer, Scratch};
use super::shares::{Shares, Split};
use super::trace::Lane;
use super::{ApartError, Shape};
use crate::ggml::{Courier, Operand, Share, Shared, Staging, StoreId, Word, Work};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Threads, and what they need of a graph that goes on.
pub(super) struct Apart {
    crew: Crew,
    split: Mutex<Split>,
    /// I32 [n_used, n_tokens]: experts that the threads compute, and −1 in the place of others.
    ids: Buffer<i32>,
    /// Not that of the graph's other nodes.
    pub(super) scratch: Arc<Scratch>,
}

impl Apart {
    /// For so many threads and tokens.
    pub(super) fn new(shape: Shape, scratch: Scratch) -> Result<Apart, ApartError> {
        let Shape { n_tokens, n_used, n_expert, .. } = shape;
        Ok(Apart {
            crew: Crew::new(shape.n_threads)?,
            split: Mutex::new(Split::new(n_expert)?),
            ids: Buffer::new(0, n_used * n_tokens)?,
            scratch: Arc::new(scratch),
        })
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.scratch.sizes().n_bytes() + 4 * self.ids.shared().len()
    }

    /// Whether there is room for the experts of so many tokens.
    pub(super) fn holds(&self, n_used: usize, n_tokens: usize) -> bool {
        self.ids.shared().len() >= n_used * n_tokens
    }

    /// Waits for what was begun.
    pub(super) fn wait(&self) {
        self.crew.wait();
    }

    fn split(&self) -> MutexGuard<'_, Split> {
        self.split.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where experts go, and which.
pub struct Sent {
    pub staging: Arc<Staging>,
    /// The matrices that are sent, in the order of [`Begin`]'s operands: [.., n_slots + n_used], the last n_used of which
    /// are zeros.
    pub matrices: Vec<StoreId>,
    pub n_slots: usize,
    pub shares: Shares,
    /// Who may have sent some before, and as which load.
    pub ahead: Option<(Arc<Courier>, usize)>,
}

impl Sent {
    /// How many experts, the first, were sent before, if some were; nobody sends any more then.
    fn there(&self) -> Option<usize> {
        self.ahead.as_ref().and_then(|(courier, load)| courier.take(*load))
    }

    /// Sends those that are not there, and has the next layer's follow.
    fn complete(&self, split: &Split) {
        let Some((courier, load)) = &self.ahead else { return };
        split.runs().for_each(|(_, expert, n)| courier.send(*load, expert..expert + n));
        courier.done(*load);
    }

    /// Sends what is next to each other at once.
    fn send(&self, split: &Split, matrices: &[Operand<'_>]) {
        for (slot, expert, n) in split.runs() {
            for (id, matrix) in self.matrices.iter().zip(matrices) {
                let one = matrix.nb[2];
                if let Some(data) = matrix.bytes.get(expert * one..(expert + n) * one) {
                    self.staging.send(*id, slot * one, data);
                }
            }
        }
    }
}

/// Operands as [`Experts`] has them; the result [n_embd, n_tokens] is there when [`End`] is done.
pub(super) struct Begin {
    pub(super) experts: Arc<Experts>,
    pub(super) apart: Arc<Apart>,
    pub(super) sent: Option<Sent>,
}

/// Behind [`Begin`]. Operands: the ids I32 [n_used, n_tokens]; the result, I32 too, are the slots of experts that are sent,
/// and in the place of others slots behind these that hold zeros: no two of a token are the same.
pub(super) struct Slots {
    pub(super) apart: Arc<Apart>,
    pub(super) n_slots: usize,
}

/// Behind [`Begin`]. Operands: the ids, and the weights [1, n_used, n_tokens]; the result are the weights of experts that are
/// sent, and 0 in the place of others.
pub(super) struct Kept {
    pub(super) apart: Arc<Apart>,
}

/// On [`Begin`]'s result: the sum over the experts that were not sent. Operands: what the threads read meanwhile.
pub(super) struct End {
    pub(super) apart: Arc<Apart>,
}

impl Work for Begin {
    fn run(&self, _: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [x, ids, weights, matrices @ ..] = operands else { return };
        let apart = &self.apart;
        apart.wait();
        let mut split = apart.split();
        let (shares, n_slots) = self.sent.as_ref().map_or((Shares::Fixed(0), 0), |sent| (sent.shares, sent.n_slots));
        let there = self.sent.as_ref().and_then(Sent::there);
        split.share(all_of(ids), shares, n_slots, there);
        let here = |id| if split.slot(id).is_some() { -1 } else { id };
        let n = (ids.ne[0] * ids.ne[1]) as usize;
        // SAFETY: the threads that read them are done.
        let kept = unsafe { apart.ids.shared().write(0..n) };
        kept.iter_mut().zip(all_of(ids)).for_each(|(kept, id)| *kept = here(id));
        let row = 4 * ids.ne[0] as usize;
        let ids = Operand { ne: ids.ne, nb: [4, row, row * ids.ne[1] as usize, n], bytes: of_buffer(&apart.ids, n) };
        let read = [x, &ids, weights].into_iter().chain(matrices);
        // SAFETY: the graph's tensors stay as they are until the last node, of which those that others could be put in
        // the place of are operands, and weights longer than the graph. Who leaves the graph before waits first.
        let read: Vec<Operand<'static>> = read.map(|operand| unsafe { lasting(operand) }).collect();
        // SAFETY: nobody reads it before the last node, which is computed on it.
        let out = unsafe { out.lasting() };
        let (experts, trace) = (self.experts.clone(), apart.scratch.trace.clone());
        apart.crew.begin(Box::new(move |share| {
            trace.note("experts", Lane::Beside(share.thread), || experts.compute(share, &read, out));
        }));
        if let Some(sent) = &self.sent {
            apart.scratch.trace.note("send experts", Lane::Graph, || match there {
                Some(_) => sent.complete(&split),
                None => sent.send(&split, matrices),
            });
        }
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
        self.apart.wait();
    }
}

impl Work for Slots {
    fn run(&self, _: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [ids] = operands else { return };
        let split = self.apart.split();
        // SAFETY: nobody else has the result.
        let out = unsafe { out.write(0..out.len()) };
        for (n, (slot, id)) in out.iter_mut().zip(all_of(ids)).enumerate() {
            let nothing = self.n_slots + n % ids.ne[0] as usize;
            *slot = f32::from_bits(split.slot(id).unwrap_or(nothing as u32));
        }
    }

    fn is_alone(&self) -> bool {
        true
    }
}

impl Work for Kept {
    fn run(&self, _: Share, operands: &[Operand<'_>], out: Shared<'_, f32>) {
        let [ids, weights] = operands else { return };
        let split = self.apart.split();
        let n_used = ids.ne[0] as usize;
        // SAFETY: nobody else has the result.
        let out = unsafe { out.write(0..out.len()) };
        for (n, (kept, id)) in out.iter_mut().zip(all_of(ids)).enumerate() {
            let from = n / n_used * weights.nb[2] + n % n_used * weights.nb[1];
            let weight =
                weights.bytes.get(from..).and_then(|bytes| bytes.first_chunk()).map(|b| f32::from_ne_bytes(*b));
            *kept = split.slot(id).and(weight).unwrap_or(0.0);
        }
    }

    fn is_alone(&self) -> bool {
        true
    }
}

impl Work for End {
    fn run(&self, _: Share, _: &[Operand<'_>], _: Shared<'_, f32>) {
        self.apart.scratch.trace.note("wait for experts", Lane::Graph, || self.apart.wait());
    }

    fn is_alone(&self) -> bool {
        true
    }
}

/// I32 [n_used, n_tokens], token by token.
fn all_of<'a>(ids: &'a Operand<'_>) -> impl Iterator<Item = i32> + 'a {
    (0..ids.ne[1] as usize).flat_map(|token| ids.row::<i32>(token)).copied()
}

/// The first `n` numbers of a buffer, which nobody writes to while they are borrowed.
fn of_buffer<T: Word>(buffer: &Buffer<T>, n: usize) -> &[u8] {
    // SAFETY: as many bytes of numbers; those who write wait for those who read.
    unsafe { std::slice::from_raw_parts(buffer.shared().part(0..n).as_ptr().cast(), 4 * n) }
}

/// # Safety
/// What the operand refers to stays as it is while this is used.
unsafe fn lasting(operand: &Operand<'_>) -> Operand<'static> {
    // SAFETY: the caller's word.
    let bytes = unsafe { std::slice::from_raw_parts(operand.bytes.as_ptr(), operand.bytes.len()) };
    Operand { ne: operand.ne, nb: operand.nb, bytes }
}
