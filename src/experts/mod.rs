//! The routed experts on the CPU, and the matrices beside them: kernels that read the file's own layout.
//!
//! A node of a ggml graph is done by all of ggml's threads at once ([`crate::ggml::Work`]). What goes into it is
//! quantised once, to eight bits with a scale for 32 values; weights are unpacked in registers.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the kernels of the experts are for x86-64 only");

mod activation;
mod apart;
mod avx2;
mod avx512;
mod block;
mod crew;
mod dots;
mod gemm;
mod kernel;
mod many;
mod matmul;
mod mixture;
mod scalar;
mod scratch;
mod shares;
mod team;
#[cfg(test)]
mod testing;
mod trace;

pub use apart::Sent;
pub use kernel::{Activations, Isa, IsaError, Kernel, TYPES};
pub use shares::{Costs, LOADS, Shares};
pub use trace::{Lane, Span, Trace};

use crate::ggml::{Builder, OpError, OpResult, OutOfMemory, Tensor};
use crate::gguf::TensorType;
use apart::{Apart, Begin, End, Kept, Slots};
use block::GROUP;
use gemm::{PACK_TOKENS, PANEL_ROWS, TILE_K};
use kernel::{ByPanels, MANY_FROM, Many};
use matmul::{ManyMatMul, MatMul};
use mixture::Experts;
use scratch::{Scratch, Sizes, Tally};
use std::sync::Arc;

/// Our kernels for the nodes of one graph.
pub struct Kernels {
    isa: Isa,
    scratch: Arc<Scratch>,
    apart: Option<Arc<Apart>>,
}

/// The weights of all experts of a layer.
#[derive(Debug, Clone, Copy)]
pub enum GateUp<'b> {
    /// Two of [n_embd, n_ff, n_expert].
    Two { gate: Tensor<'b>, up: Tensor<'b> },
    /// [n_embd, 2 · n_ff, n_expert]: the gates' rows, then the ups'.
    One(Tensor<'b>),
}

/// Experts that threads of our own compute while the graph goes on.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'b> {
    node: Tensor<'b>,
    /// What the threads read.
    x: Tensor<'b>,
    weights: Tensor<'b>,
    /// What is sent, if anything is.
    pub others: Option<Others<'b>>,
}

/// Experts that are sent, as [`Builder::mul_mat_id`] chooses them.
#[derive(Debug, Clone, Copy)]
pub struct Others<'b> {
    /// I32 [n_used, n_tokens]: where each is.
    pub slots: Tensor<'b>,
    /// [1, n_used, n_tokens]: 0 for what is not there.
    pub weights: Tensor<'b>,
}

/// The longest rows and most tokens of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub n_threads: usize,
    pub n_tokens: usize,
    /// Values of the longest row that a matrix is multiplied by, and of those that experts are.
    pub n_row: usize,
    pub n_embd: usize,
    /// Experts of a token, and their hidden values.
    pub n_used: usize,
    pub n_ff: usize,
    pub n_expert: usize,
}

/// Memory that graphs use one after the other.
#[derive(Default)]
pub struct Room {
    scratch: Option<Arc<Scratch>>,
    apart: Option<Arc<Apart>>,
    tally: Arc<Tally>,
    trace: Arc<Trace>,
}

#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    #[error("threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl Room {
    pub fn n_bytes(&self) -> usize {
        let apart = self.apart.as_ref().map_or(0, |apart| apart.n_bytes());
        self.scratch.as_ref().map_or(0, |scratch| scratch.sizes().n_bytes()) + apart
    }

    /// Waits until nothing is computed beside a graph that ended before its time.
    pub fn settle(&self) {
        if let Some(apart) = &self.apart {
            apart.wait();
        }
    }

    /// Has experts computed by threads of our own ([`Kernels::begin_experts`]), those of as many tokens as `shape` has.
    pub fn set_apart(&mut self, isa: Isa, shape: Shape) -> Result<(), ApartError> {
        let scratch = Scratch::new(sizes(isa, shape), self.tally.clone(), self.trace.clone())?;
        self.apart = Some(Arc::new(Apart::new(shape, scratch)?));
        Ok(())
    }

    /// When routed experts are computed.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Layers of routed experts that were computed with it so far, and the experts that these needed, whose weights were
    /// read.
    pub fn chosen(&self) -> (u64, u64) {
        self.tally.get()
    }
}

impl Kernels {
    /// For a graph; `room` is taken if it is large enough, and made larger if not.
    pub fn new(isa: Isa, shape: Shape, room: &mut Room) -> Result<Kernels, OutOfMemory> {
        let sizes = sizes(isa, shape);
        let scratch = match room.scratch.take().filter(|scratch| scratch.sizes().holds(sizes)) {
            Some(scratch) => scratch,
            None => Arc::new(Scratch::new(sizes, room.tally.clone(), room.trace.clone())?),
        };
        room.scratch = Some(scratch.clone());
        Ok(Kernels { isa, scratch, apart: room.apart.clone() })
    }

    /// aᵀ·x: `a` [k, n] and `x` [k, n_tokens] F32 → [n, n_tokens], by ggml where we have no kernel.
    pub fn mul_mat<'b>(&self, b: &Builder<'b>, a: Tensor<'b>, x: Tensor<'b>) -> OpResult<'b> {
        let Some(ty) = a.ty().filter(|_| is_flat(a, x)) else { return b.mul_mat(a, x) };
        if self.is_many(a, x) {
            match self.isa.many(ty) {
                Many::Panels(by) => return self.by_panels(b, by, a, x),
                Many::Ggml => return b.mul_mat(a, x),
                Many::Rows => {}
            }
        }
        let n_x = x.ne()[1] as usize * x.ne()[0] as usize / GROUP;
        match self.isa.way(ty).filter(|_| self.scratch.sizes().holds(Sizes { n_x, ..Sizes::default() })) {
            Some(way) => {
                let work = MatMul { way, scratch: self.scratch.clone() };
                b.work("mul_mat", Arc::new(work), &[a, x], &[], [a.ne()[1], x.ne()[1], 1, 1])
            }
            None => b.mul_mat(a, x),
        }
    }

    /// The same of `a` in F32, which may be rounded to BF16 as all weights of many tokens are.
    pub fn mul_mat_rounded<'b>(&self, b: &Builder<'b>, a: Tensor<'b>, x: Tensor<'b>) -> OpResult<'b> {
        match self.isa.many_floats().filter(|_| a.is(TensorType::F32) && is_flat(a, x) && self.is_many(a, x)) {
            Some(by) => self.by_panels(b, by, a, x),
            None => b.mul_mat(a, x),
        }
    }

    /// Whether panels pay, and can be made.
    fn is_many(&self, a: Tensor<'_>, x: Tensor<'_>) -> bool {
        x.ne()[1] as usize >= MANY_FROM && (a.ne()[1] as usize).is_multiple_of(2 * PANEL_ROWS)
    }

    fn by_panels<'b>(&self, b: &Builder<'b>, by: ByPanels, a: Tensor<'b>, x: Tensor<'b>) -> OpResult<'b> {
        let ([k, n, ..], n_tokens) = (a.ne(), x.ne()[1]);
        let x_tiles = (n_tokens as usize).div_ceil(PACK_TOKENS) * (k as usize / TILE_K);
        if !self.scratch.sizes().holds(Sizes { x_tiles, ..Sizes::default() }) {
            return b.mul_mat(a, x);
        }
        let work = ManyMatMul { by, scratch: self.scratch.clone() };
        b.work("mul_mat", Arc::new(work), &[a, x], &[], [n, n_tokens, 1, 1])
    }

    /// The weighted sum of each token's experts: `x` [n_embd, n_tokens], `ids` I32 [n_used, n_tokens], `weights`
    /// [1, n_used, n_tokens], `down` [n_ff, n_embd, n_expert] → [n_embd, n_tokens]. `None` where a type has no kernel
    /// of ours.
    pub fn experts<'b>(
        &self,
        b: &Builder<'b>,
        gate_up: GateUp<'b>,
        down: Tensor<'b>,
        x: Tensor<'b>,
        ids: Tensor<'b>,
        weights: Tensor<'b>,
    ) -> Result<Option<Tensor<'b>>, OpError> {
        let Some((work, operands)) = self.mixture(&self.scratch, gate_up, down, [x, ids, weights]) else {
            return Ok(None);
        };
        let chosen = [(ids, down.ne()[2])];
        b.work("experts", Arc::new(work), &operands, &chosen, [x.ne()[0], x.ne()[1], 1, 1]).map(Some)
    }

    /// Has threads of our own begin with experts, operands as those of [`Kernels::experts`] are, and sends away what
    /// `sent` says, instead of computing with it. `None` where there are no such threads, or a type has no kernel. What
    /// is computed behind it is computed at the same time.
    pub fn begin_experts<'b>(
        &self,
        b: &Builder<'b>,
        gate_up: GateUp<'b>,
        down: Tensor<'b>,
        [x, ids, weights]: [Tensor<'b>; 3],
        sent: Option<Sent>,
    ) -> Result<Option<Begun<'b>>, OpError> {
        let ([n_embd, n_tokens, ..], [n_used, ..]) = (x.ne(), ids.ne());
        let has_room = |apart: &&Arc<Apart>| apart.holds(n_used as usize, n_tokens as usize);
        let Some(apart) = self.apart.as_ref().filter(has_room) else { return Ok(None) };
        let work = self.mixture(&apart.scratch, gate_up, down, [x, ids, weights]);
        let Some((experts, operands)) = work else { return Ok(None) };
        let n_matrices = operands.len() - 3;
        if sent.as_ref().is_some_and(|sent| sent.matrices.len() != n_matrices) {
            return Err(OpError { op: "begin_experts", problem: "other matrices are sent than there are".to_owned() });
        }
        let n_slots = sent.as_ref().map(|sent| sent.n_slots);
        let work = Begin { experts: Arc::new(experts), apart: apart.clone(), sent };
        let node =
            b.work("begin_experts", Arc::new(work), &operands, &[(ids, down.ne()[2])], [n_embd, n_tokens, 1, 1])?;
        let others = |n_slots: usize| -> Result<Others<'b>, OpError> {
            let slots = Slots { apart: apart.clone(), n_slots };
            let bound = n_slots as i64 + n_used;
            let slots = b.work_ids("slots", Arc::new(slots), &[ids], bound, [n_used, n_tokens, 1, 1])?;
            let kept = Kept { apart: apart.clone() };
            let ne = [1, n_used, n_tokens, 1];
            Ok(Others { slots, weights: b.work("weights", Arc::new(kept), &[ids, weights], &[], ne)? })
        };
        let others = n_slots.map(others).transpose()?;
        Ok(Some(Begun { node, x, weights, others }))
    }

    /// Waits for what was begun, and gives the sum [n_embd, n_tokens] of the experts that were not sent.
    pub fn end_experts<'b>(&self, b: &Builder<'b>, begun: Begun<'b>) -> OpResult<'b> {
        let Some(apart) = &self.apart else {
            return Err(OpError { op: "end_experts", problem: "nothing was begun".to_owned() });
        };
        let work = End { apart: apart.clone() };
        let Begun { node, x, weights, .. } = begun;
        b.work_on("end_experts", Arc::new(work), node, &[x, weights])
    }

    /// The work of a mixture, and its operands.
    fn mixture<'b>(
        &self,
        scratch: &Arc<Scratch>,
        gate_up: GateUp<'b>,
        down: Tensor<'b>,
        [x, ids, weights]: [Tensor<'b>; 3],
    ) -> Option<(Experts, Vec<Tensor<'b>>)> {
        let [n_embd, n_tokens, ..] = x.ne();
        let [n_ff, n_out, n_expert, _] = down.ne();
        let (first, second, n_hidden) = match gate_up {
            GateUp::Two { gate, up } => (gate, up, [n_ff; 2]),
            GateUp::One(both) => (both, both, [2 * n_ff; 2]),
        };
        let n_used = ids.ne()[0];
        let fits = n_out == n_embd
            && ids.ne() == [n_used, n_tokens, 1, 1]
            && weights.ne() == [1, n_used, n_tokens, 1]
            && x.ne() == [n_embd, n_tokens, 1, 1]
            && [first.ne(), second.ne()] == n_hidden.map(|rows| [n_embd, rows, n_expert, 1])
            && [first, second, down].iter().all(|a| a.is_in_ram() && a.has_whole_rows())
            && x.has_float_rows()
            && weights.has_float_rows()
            && (n_embd as usize).is_multiple_of(GROUP)
            && (n_ff as usize).is_multiple_of(GROUP);
        let way = |a: Tensor<'b>| a.ty().filter(|_| fits).and_then(|ty| self.isa.way(ty));
        let (Some(gate), Some(up), Some(down_way)) = (way(first), way(second), way(down)) else { return None };
        let shape = Shape {
            n_tokens: n_tokens as usize,
            n_row: n_embd as usize,
            n_embd: n_embd as usize,
            n_used: n_used as usize,
            n_ff: n_ff as usize,
            n_expert: n_expert as usize,
            n_threads: 0,
        };
        if !scratch.sizes().holds(sizes(self.isa, shape)) {
            return None;
        }
        let is_many = shape.n_tokens >= MANY_FROM && n_used * n_tokens >= MANY_FROM as i64 * n_expert;
        let all = [first, second, down].map(|a| a.ty().map_or(Many::Ggml, |ty| self.isa.many(ty)));
        let many = match all {
            _ if !is_many => None,
            [Many::Panels(gate), Many::Panels(up), Many::Panels(down)]
                if gate.engine == up.engine && up.engine == down.engine =>
            {
                Some(mixture::Many { engine: gate.engine, gate_up: [gate.unpack, up.unpack], down: down.unpack })
            }
            [Many::Rows, Many::Rows, Many::Rows] => None,
            _ => return None,
        };
        let work = Experts { gate, up, down: down_way, many, scratch: scratch.clone() };
        let mut operands = vec![x, ids, weights, first];
        if let GateUp::Two { up, .. } = gate_up {
            operands.push(up);
        }
        operands.push(down);
        Some((work, operands))
    }
}

/// Whether both are matrices, whose rows are whole groups. What lies on a GPU is multiplied there.
fn is_flat(a: Tensor<'_>, x: Tensor<'_>) -> bool {
    let ([k, _, a2, a3], [kx, _, x2, x3]) = (a.ne(), x.ne());
    let is_flat = [a2, a3, x2, x3] == [1; 4] && k == kx && x.has_float_rows() && a.has_whole_rows();
    a.is_in_ram() && is_flat && (k as usize).is_multiple_of(GROUP)
}

/// The memory that nodes of a shape need.
fn sizes(isa: Isa, shape: Shape) -> Sizes {
    let n_slots = shape.n_tokens * shape.n_used;
    let sizes = Sizes {
        // Experts may need it in two orders.
        n_x: 2 * shape.n_tokens * shape.n_row.div_ceil(GROUP),
        n_hidden: n_slots * shape.n_ff.div_ceil(GROUP),
        n_slots,
        ..Sizes::default()
    };
    if isa == Isa::Ggml {
        return Sizes::default();
    }
    let Some(engine) = isa.engine().filter(|_| shape.n_tokens >= MANY_FROM) else { return sizes };
    // Every expert may have a pack that is not full.
    let of_experts = n_slots / PACK_TOKENS + n_slots.min(shape.n_expert);
    // Floats are multiplied by packs of BF16.
    let of_matrices = shape.n_tokens.div_ceil(PACK_TOKENS) * shape.n_row.div_ceil(TILE_K);
    Sizes {
        x_tiles: of_matrices.max(of_experts * shape.n_embd.div_ceil(GROUP) * engine.pack_tiles()),
        hidden_tiles: of_experts * shape.n_ff.div_ceil(GROUP) * engine.pack_tiles(),
        n_threads: shape.n_threads,
        ..sizes
    }
}

/// Bytes that graphs of a shape need besides weights and results, with the kernels that need most.
pub fn scratch_bytes(shape: Shape) -> u64 {
    sizes(Isa::Amx, shape).n_bytes() as u64
}

#[cfg(test)]
mod tests;
