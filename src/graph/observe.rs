//! What goes into the matrices of a step: for each column of the input the sum of its squares over the tokens,
//! for each expert over those that are given to it.
//!
//! The sums are made in the graph. The inputs themselves would take gigabytes to keep, and a copy out of it
//! for each. Knows nothing of what they are for.

use super::router::Routed;
use super::step::Step;
use crate::ggml::{ComputeError, Cpu, OpError, Output, StoreId, Tensor};
use std::cell::RefCell;

/// What went into matrices in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen<'a> {
    /// The tensors whose input it was.
    pub tensors: &'a [String],
    /// Sums of squares: [columns, matrices]. The matrices are experts, or, in `attn_k_b` and `attn_v_b`, heads.
    pub sums: &'a [f32],
    /// How many inputs there were: of each expert, or of all matrices alike.
    pub counts: &'a [f32],
}

/// Where the sums of some tensors come out.
#[derive(Debug)]
pub(super) struct Port {
    tensors: Vec<String>,
    sums: Output,
    counts: Counts,
}

#[derive(Debug)]
enum Counts {
    All(usize),
    /// [1, n_expert]
    Each(Output),
}

impl Port {
    pub(super) fn show(&self, cpu: &Cpu, see: &mut impl FnMut(&Seen<'_>)) -> Result<(), ComputeError> {
        let (mut sums, mut counts) = (Vec::new(), Vec::new());
        cpu.read(self.sums, &mut sums)?;
        match self.counts {
            Counts::All(count) => counts.push(count as f32),
            Counts::Each(output) => cpu.read(output, &mut counts)?,
        }
        see(&Seen { tensors: &self.tensors, sums: &sums, counts: &counts });
        Ok(())
    }
}

/// Notes what is observed while a graph is made.
#[derive(Debug, Default)]
pub(super) struct Observer(RefCell<Vec<Port>>);

impl Observer {
    /// What was noted.
    pub(super) fn take(&self) -> Vec<Port> {
        self.0.take()
    }

    fn note(&self, port: Port) {
        self.0.borrow_mut().push(port);
    }
}

impl<'b> Step<'_, 'b> {
    /// Shows the observer, if there is one, the input `x` [columns, tokens, heads] of `matrices`. Where these
    /// hold the rows of all heads in one matrix, it is all heads' input.
    pub(super) fn observe(&self, matrices: &[StoreId], x: Tensor<'b>) -> Result<(), OpError> {
        let (Some(observer), Some(first)) = (self.observer, matrices.first()) else {
            return Ok(());
        };
        let b = self.b;
        let [columns, n_tokens, n_head, _] = x.ne();
        let x = match self.w(*first).ne()[2] {
            1 if n_head > 1 => b.reshape(b.cont(x)?, [columns, n_tokens * n_head, 1, 1])?,
            _ => x,
        };
        let squares = self.squares_by_column(x)?; // [tokens, columns, heads]
        let sums = b.output(b.sum_rows(squares)?)?;
        let count = usize::try_from(squares.ne()[0]).unwrap_or(0);
        observer.note(Port { tensors: self.names(matrices), sums, counts: Counts::All(count) });
        Ok(())
    }

    /// The same for `experts`, whose input is `x` [columns, 1 or n_used, n_tokens].
    pub(super) fn observe_chosen(
        &self,
        experts: &[StoreId],
        x: Tensor<'b>,
        routed: &Routed<'b>,
    ) -> Result<(), OpError> {
        let (Some(observer), Some(first)) = (self.observer, experts.first()) else {
            return Ok(());
        };
        let b = self.b;
        let n_expert = self.w(*first).ne()[2];
        let [columns, n_inputs, n_tokens, _] = x.ne();
        let choice = self.choice(n_expert, n_inputs, routed)?; // [n_expert, inputs]
        let choice = b.cont(b.permute(choice, [1, 0, 2, 3])?)?; // [inputs, n_expert]
        let squares = self.squares_by_column(b.reshape(x, [columns, n_inputs * n_tokens, 1, 1])?)?;
        let sums = b.output(b.mul_mat(squares, choice)?)?; // [columns, n_expert]
        let counts = Counts::Each(b.output(b.sum_rows(choice)?)?);
        observer.note(Port { tensors: self.names(experts), sums, counts });
        Ok(())
    }

    /// [columns, tokens, …] → their squares, [tokens, columns, …].
    fn squares_by_column(&self, x: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
        let x = self.b.cont(self.b.permute(x, [1, 0, 2, 3])?)?;
        self.b.mul(x, x)
    }

    /// 1 where an expert gets an input, else 0: [n_expert, inputs]. A token has one input for all its experts
    /// (`n_inputs` is 1), or one for each.
    fn choice(&self, n_expert: i64, n_inputs: i64, routed: &Routed<'b>) -> Result<Tensor<'b>, OpError> {
        let b = self.b;
        let [n_used, n_tokens, ..] = routed.ids.ne();
        let a_token = n_used / n_inputs;
        let [_, one, token, all] = routed.weights.nb();
        let inputs = b.view(routed.weights, [1, n_inputs, n_tokens, 1], [one, token, all], 0)?;
        let none = b.fill(b.repeat(inputs, [n_expert, n_inputs, n_tokens, 1])?, 0.0)?;
        let none = b.reshape(none, [1, n_expert, n_inputs, n_tokens])?;
        let ones = b.reshape(b.fill(routed.weights, 1.0)?, [1, a_token, n_inputs, n_tokens])?;
        let ids = b.reshape(b.cont(routed.ids)?, [a_token, n_inputs, n_tokens, 1])?;
        b.reshape(b.set_rows(none, ones, ids)?, [n_expert, n_inputs * n_tokens, 1, 1])
    }

    fn names(&self, matrices: &[StoreId]) -> Vec<String> {
        matrices.iter().map(|id| self.w(*id).name()).collect()
    }
}
