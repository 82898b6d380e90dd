//! Which experts a token is given to, and how much each counts.
//!
//! DeepSeek-V2 and V3 choose from the best groups of experts only (arXiv:2405.04434, 2.2.2;
//! arXiv:2412.19437, 2.1.2). The bias takes part in the choice, never in the weights.

use crate::ggml::{Builder, OpError, Tensor};
use crate::model::{ExpertConfig, Gating, GroupScore};

/// Whose rule the experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// DeepSeek's own.
    #[default]
    DeepSeek,
    /// llama.cpp's: groups only where the file has the keys, scored by their two best experts in every
    /// model. For comparison.
    Plain,
}

/// What the normaliser of the weights cannot be less than in llama.cpp: F16's smallest normal number.
const PLAIN_MIN_SUM: f32 = 6.103_515_6e-5;

/// Of each token: its experts, and their weights.
pub(super) struct Routed<'b> {
    /// I32 [n_used, n_tokens]
    pub(super) ids: Tensor<'b>,
    /// [1, n_used, n_tokens]
    pub(super) weights: Tensor<'b>,
}

/// `logits` [n_expert, n_tokens]; `bias` [n_expert].
pub(super) fn route<'b>(
    b: &Builder<'b>,
    experts: &ExpertConfig,
    routing: Routing,
    logits: Tensor<'b>,
    bias: Option<Tensor<'b>>,
) -> Result<Routed<'b>, OpError> {
    let (n_expert, n_used, n_tokens) = (experts.n_expert as i64, experts.n_used as i64, logits.ne()[1]);
    let probs = match experts.gating {
        Gating::Sigmoid => b.sigmoid(logits)?,
        Gating::Softmax => b.soft_max(logits)?,
    }; // [n_expert, n_tokens]
    let mut scores = match bias {
        Some(bias) => b.add(probs, bias)?,
        None => probs,
    };
    if let Some((n_group, n_group_used, score)) = groups(experts, routing) {
        scores = keep_best_groups(b, scores, n_group, n_group_used, score)?;
    }
    let ids = b.argsort_top_k(scores, n_used)?; // [n_used, n_tokens]
    let rows = b.reshape(probs, [1, n_expert, n_tokens, 1])?;
    let mut weights = b.get_rows(rows, ids)?; // [1, n_used, n_tokens]
    if experts.norm_weights {
        let flat = b.reshape(weights, [n_used, n_tokens, 1, 1])?;
        let sum = b.sum_rows(flat)?; // [1, n_tokens]
        // Against a division by zero: the reference adds 1e-20.
        let sum = match routing {
            Routing::DeepSeek => b.scale_bias(sum, 1.0, 1e-20)?,
            Routing::Plain => b.at_least(sum, PLAIN_MIN_SUM)?,
        };
        weights = b.reshape(b.div(flat, sum)?, [1, n_used, n_tokens, 1])?;
    }
    if experts.weights_scale != 1.0 {
        weights = b.scale_bias(weights, experts.weights_scale, 0.0)?;
    }
    Ok(Routed { ids, weights })
}

/// Groups, groups used, and what a group is scored by.
fn groups(experts: &ExpertConfig, routing: Routing) -> Option<(i64, i64, GroupScore)> {
    let groups = experts.groups?;
    let score = match routing {
        Routing::DeepSeek => groups.score,
        Routing::Plain if experts.groups_in_file => GroupScore::BestTwo,
        Routing::Plain => return None,
    };
    Some((groups.n_group as i64, groups.n_used as i64, score))
}

/// `scores` [n_expert, n_tokens], with −∞ for the experts of all but the best groups.
fn keep_best_groups<'b>(
    b: &Builder<'b>,
    scores: Tensor<'b>,
    n_group: i64,
    n_group_used: i64,
    score: GroupScore,
) -> Result<Tensor<'b>, OpError> {
    let [n_expert, n_tokens, ..] = scores.ne();
    let per_group = n_expert / n_group;
    let grouped = b.reshape(scores, [per_group, n_group, n_tokens, 1])?;
    let n_best = match score {
        GroupScore::Best => 1,
        GroupScore::BestTwo => per_group.min(2),
    };
    let best = b.argsort_top_k(grouped, n_best)?; // [n_best, n_group, n_tokens]
    let values = b.reshape(scores, [1, per_group, n_group, n_tokens])?;
    let best = b.get_rows(values, best)?; // [1, n_best, n_group, n_tokens]
    let best = b.reshape(best, [n_best, n_group, n_tokens, 1])?;
    let group_scores = b.reshape(b.sum_rows(best)?, [n_group, n_tokens, 1, 1])?;
    let kept = b.argsort_top_k(group_scores, n_group_used)?; // [n_group_used, n_tokens]
    let kept_scores = b.get_rows(grouped, kept)?; // [per_group, n_group_used, n_tokens]
    let masked = b.set_rows(b.fill(grouped, f32::NEG_INFINITY)?, kept_scores, kept)?;
    b.reshape(masked, [n_expert, n_tokens, 1, 1])
}
