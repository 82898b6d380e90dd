//! The feed-forward of a layer: one network, or a mixture of experts (arXiv:2401.06066).

use super::router::{Routed, route};
use super::sending::Staged;
use super::step::Step;
use crate::experts::{self, Begun, Others};
use crate::ggml::{OpError, Tensor};
use crate::model::{FeedForward, GateUp, Mixture, Mlp};

/// `x` [n_embd, n_tokens], normed → [n_embd, n_tokens].
pub(super) fn feed_forward<'b>(
    s: &Step<'_, 'b>,
    layer: usize,
    feed_forward: &FeedForward,
    x: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    match feed_forward {
        FeedForward::Dense(dense) => mlp(s, dense, x),
        FeedForward::Mixture(mixture) => {
            let routed = routed(s, layer, mixture, x)?;
            // While what was begun is computed.
            let shared = mixture.shared.as_ref().map(|shared| mlp(s, shared, x)).transpose()?;
            let routed = routed.end(s)?;
            match shared {
                Some(shared) => s.b.add(routed, shared),
                None => Ok(routed),
            }
        }
    }
}

fn mlp<'b>(s: &Step<'_, 'b>, mlp: &Mlp, x: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
    s.observe(&[mlp.gate, mlp.up], x)?;
    let gate = s.mul_mat(mlp.gate, x)?;
    let up = s.mul_mat(mlp.up, x)?;
    let hidden = s.b.swiglu(gate, up)?;
    s.observe(&[mlp.down], hidden)?;
    s.mul_mat(mlp.down, hidden)
}

/// The weighted sum of a token's routed experts.
enum Sum<'b> {
    Whole(Tensor<'b>),
    /// Some are computed while the graph goes on; and the sum over the others.
    Begun(Begun<'b>, Option<Tensor<'b>>),
}

impl<'b> Sum<'b> {
    fn end(self, s: &Step<'_, 'b>) -> Result<Tensor<'b>, OpError> {
        match self {
            Sum::Whole(sum) => Ok(sum),
            Sum::Begun(begun, None) => s.kernels.end_experts(s.b, begun),
            Sum::Begun(begun, Some(others)) => s.b.add(others, s.kernels.end_experts(s.b, begun)?),
        }
    }
}

fn routed<'b>(s: &Step<'_, 'b>, layer: usize, mixture: &Mixture, x: Tensor<'b>) -> Result<Sum<'b>, OpError> {
    let b = s.b;
    let Some(experts) = &s.config.experts else {
        return Err(OpError { op: "mixture", problem: "the model has no experts".to_owned() });
    };
    let (n_embd, n_tokens) = (s.config.n_embd as i64, s.n_tokens as i64);
    s.observe(&[mixture.router], x)?;
    let logits = b.mul_mat(s.w(mixture.router), x)?; // [n_expert, n_tokens]
    let routed = route(b, experts, s.routing, logits, mixture.bias.map(|bias| s.w(bias)))?;
    if let Some(sum) = by_kernels(s, layer, mixture, x, &routed)? {
        return Ok(sum);
    }

    let x = b.reshape(x, [n_embd, 1, n_tokens, 1])?;
    let hidden = match &mixture.gate_up {
        GateUp::Two { gate, up } => {
            s.observe_chosen(&[*gate, *up], x, &routed)?;
            let up = b.mul_mat_id(s.w(*up), x, routed.ids)?;
            let gate = b.mul_mat_id(s.w(*gate), x, routed.ids)?;
            b.swiglu(gate, up)?
        }
        GateUp::One { gate_up } => {
            s.observe_chosen(&[*gate_up], x, &routed)?;
            b.swiglu_fused(b.mul_mat_id(s.w(*gate_up), x, routed.ids)?)?
        }
    }; // [n_ff, n_used, n_tokens]
    s.observe_chosen(&[mixture.down], hidden, &routed)?;
    let each = b.mul_mat_id(s.w(mixture.down), hidden, routed.ids)?; // [n_embd, n_used, n_tokens]
    let each = b.mul(each, routed.weights)?;

    sum_of_each(s, each).map(Sum::Whole)
}

/// `each` [n_embd, n, n_tokens] → [n_embd, n_tokens].
fn sum_of_each<'b>(s: &Step<'_, 'b>, each: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
    let ([n_embd, n, n_tokens, _], [_, one, token, all]) = (each.ne(), each.nb());
    let nth = |n: i64| s.b.view(each, [n_embd, n_tokens, 1, 1], [token, all, all], n as usize * one);
    let first = nth(0)?;
    if n == 1 {
        // A view alone is not contiguous in memory, which some that read it need.
        return s.b.cont(first);
    }
    (1..n).try_fold(first, |sum, n| s.b.add(sum, nth(n)?))
}

/// The same as one piece of work, where all types have kernels of ours. What is between the matrices cannot be
/// observed then.
fn by_kernels<'b>(
    s: &Step<'_, 'b>,
    layer: usize,
    mixture: &Mixture,
    x: Tensor<'b>,
    routed: &Routed<'b>,
) -> Result<Option<Sum<'b>>, OpError> {
    // Those of ggml, of many tokens, are computed on a GPU, wherever the experts are.
    let staged = s.sending.and_then(|sending| sending.of_layer(layer));
    if s.observer.is_some() || staged.is_none() && s.n_tokens >= s.streams_from {
        return Ok(None);
    }
    let gate_up = match &mixture.gate_up {
        GateUp::Two { gate, up } => experts::GateUp::Two { gate: s.w(*gate), up: s.w(*up) },
        GateUp::One { gate_up } => experts::GateUp::One(s.w(*gate_up)),
    };
    let down = s.w(mixture.down);
    let operands = [x, routed.ids, routed.weights];
    if let Some(begun) = s.kernels.begin_experts(s.b, gate_up, down, operands, staged.map(Staged::sent))? {
        let others = staged.zip(begun.others).map(|(staged, others)| by_gpu(s, staged, x, others)).transpose()?;
        return Ok(Some(Sum::Begun(begun, others)));
    }
    Ok(s.kernels.experts(s.b, gate_up, down, x, routed.ids, routed.weights)?.map(Sum::Whole))
}

/// The weighted sum [n_embd, n_tokens] over the experts that are sent to where this is computed.
fn by_gpu<'b>(s: &Step<'_, 'b>, staged: &Staged, x: Tensor<'b>, others: Others<'b>) -> Result<Tensor<'b>, OpError> {
    let (b, [n_embd, n_tokens, ..]) = (s.b, x.ne());
    let x = b.reshape(x, [n_embd, 1, n_tokens, 1])?;
    let product = |id, x| b.mul_mat_id(s.sent(id), x, others.slots);
    let hidden = match staged.gate_up {
        GateUp::Two { gate, up } => b.swiglu(product(gate, x)?, product(up, x)?)?,
        GateUp::One { gate_up } => b.swiglu_fused(product(gate_up, x)?)?,
    }; // [n_ff, n_used, n_tokens]
    let each = product(staged.down, hidden)?; // [n_embd, n_used, n_tokens]
    sum_of_each(s, b.mul(each, others.weights)?)
}
