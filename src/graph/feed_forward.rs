//! The feed-forward of a layer: one network, or a mixture of experts (arXiv:2401.06066).

use super::router::{Routed, route};
use super::step::Step;
use crate::experts;
use crate::ggml::{OpError, Tensor};
use crate::model::{FeedForward, GateUp, Mixture, Mlp};

/// `x` [n_embd, n_tokens], normed → [n_embd, n_tokens].
pub(super) fn feed_forward<'b>(
    s: &Step<'_, 'b>,
    feed_forward: &FeedForward,
    x: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    match feed_forward {
        FeedForward::Dense(dense) => mlp(s, dense, x),
        FeedForward::Mixture(mixture) => {
            let routed = routed(s, mixture, x)?;
            match &mixture.shared {
                Some(shared) => s.b.add(routed, mlp(s, shared, x)?),
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
fn routed<'b>(s: &Step<'_, 'b>, mixture: &Mixture, x: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
    let b = s.b;
    let Some(experts) = &s.config.experts else {
        return Err(OpError { op: "mixture", problem: "the model has no experts".to_owned() });
    };
    let [n_embd, n_tokens, n_used] = [s.config.n_embd as i64, s.n_tokens as i64, experts.n_used as i64];
    s.observe(&[mixture.router], x)?;
    let logits = b.mul_mat(s.w(mixture.router), x)?; // [n_expert, n_tokens]
    let routed = route(b, experts, s.routing, logits, mixture.bias.map(|bias| s.w(bias)))?;
    if let Some(sum) = by_kernels(s, mixture, x, &routed)? {
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

    let [_, one, token, all] = each.nb();
    let nth = |n: i64| b.view(each, [n_embd, n_tokens, 1, 1], [token, all, all], n as usize * one);
    let first = nth(0)?;
    if n_used == 1 {
        // A view alone is not contiguous in memory, which some that read it need.
        return b.cont(first);
    }
    (1..n_used).try_fold(first, |sum, n| b.add(sum, nth(n)?))
}

/// The same as one piece of work, where all types have kernels of ours. What is between the matrices cannot be
/// observed then.
fn by_kernels<'b>(
    s: &Step<'_, 'b>,
    mixture: &Mixture,
    x: Tensor<'b>,
    routed: &Routed<'b>,
) -> Result<Option<Tensor<'b>>, OpError> {
    // Those of ggml, of many tokens, are computed on a GPU, wherever the experts are.
    if s.observer.is_some() || s.n_tokens >= s.streams_from {
        return Ok(None);
    }
    let gate_up = match &mixture.gate_up {
        GateUp::Two { gate, up } => experts::GateUp::Two { gate: s.w(*gate), up: s.w(*up) },
        GateUp::One { gate_up } => experts::GateUp::One(s.w(*gate_up)),
    };
    s.kernels.experts(s.b, gate_up, s.w(mixture.down), x, routed.ids, routed.weights)
}
