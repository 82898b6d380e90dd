//! Which experts a token is given to, and how much each counts.
//!
//! DeepSeek-V2 and V3 choose from the best groups of experts only (arXiv:2405.04434, 2.2.2;
//! arXiv:2412.19437, 2.1.2). The bias takes part in the choice, never in the weights.

use crate::ggml::{Builder, OpError, Tensor};
use crate::model::{ExpertConfig, Gating, GroupScore};

/// Whose rule the experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml::{Cpu, Graph, OutOfMemory};
    use crate::gguf::TensorType;
    use crate::model::Groups;

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    enum Error {
        Op(#[from] OpError),
        OutOfMemory(#[from] OutOfMemory),
    }

    /// Experts and weights of each token, by the graph.
    fn routed(
        experts: &ExpertConfig,
        routing: Routing,
        logits: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<Vec<(usize, f32)>> {
        let n_expert = experts.n_expert as i64;
        let n_tokens = (logits.len() / experts.n_expert) as i64;
        let (graph, (logits_in, bias_in, ids, weights)) = Graph::build(100, vec![], |b| {
            let (logits_in, logits) = b.input("logits", TensorType::F32, [n_expert, n_tokens, 1, 1])?;
            let (bias_in, bias) = match bias {
                Some(_) => b.input("bias", TensorType::F32, [n_expert, 1, 1, 1]).map(|(a, b)| (Some(a), Some(b)))?,
                None => (None, None),
            };
            let routed = route(b, experts, routing, logits, bias)?;
            let [one, n_used, n, _] = routed.weights.ne();
            assert_eq!(([one, n_used, n], routed.ids.ne()), ([1, experts.n_used as i64, n_tokens], [n_used, n, 1, 1]));
            Ok::<_, Error>((logits_in, bias_in, b.output(b.cont(routed.ids)?)?, b.output(b.cont(routed.weights)?)?))
        })
        .unwrap();
        let mut cpu = Cpu::new(1, true).unwrap();
        cpu.load(graph).unwrap();
        cpu.write(logits_in, logits).unwrap();
        if let (Some(input), Some(bias)) = (bias_in, bias) {
            cpu.write(input, bias).unwrap();
        }
        cpu.run().unwrap();
        let (mut all_ids, mut all_weights) = (Vec::<i32>::new(), Vec::<f32>::new());
        cpu.read(ids, &mut all_ids).unwrap();
        cpu.read(weights, &mut all_weights).unwrap();
        let pairs: Vec<(usize, f32)> = all_ids.iter().map(|id| *id as usize).zip(all_weights).collect();
        pairs.chunks(experts.n_used).map(<[_]>::to_vec).collect()
    }

    /// The same for one token, in the papers' words; `None` where two scores are too close to be told apart.
    fn expected(
        experts: &ExpertConfig,
        routing: Routing,
        logits: &[f32],
        bias: Option<&[f32]>,
    ) -> Option<Vec<(usize, f64)>> {
        let logits: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let probs: Vec<f64> = match experts.gating {
            Gating::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Gating::Softmax => {
                let sum: f64 = logits.iter().map(|x| x.exp()).sum();
                logits.iter().map(|x| x.exp() / sum).collect()
            }
        };
        let score = |n: usize| probs[n] + bias.map_or(0.0, |bias| f64::from(bias[n]));
        let mut candidates: Vec<usize> = (0..experts.n_expert).collect();
        let rule = match (routing, experts.groups) {
            (Routing::Plain, Some(groups)) if experts.groups_in_file => Some((groups, GroupScore::BestTwo)),
            (Routing::DeepSeek, Some(groups)) => Some((groups, groups.score)),
            _ => None,
        };
        if let Some((groups, rule)) = rule {
            let per_group = experts.n_expert / groups.n_group;
            let group_score = |group: usize| {
                let mut scores: Vec<f64> = (0..per_group).map(|n| score(group * per_group + n)).collect();
                scores.sort_by(|a, b| b.total_cmp(a));
                scores[..if rule == GroupScore::Best { 1 } else { per_group.min(2) }].iter().sum()
            };
            let best = best((0..groups.n_group).collect(), groups.n_used, group_score)?;
            candidates.retain(|n| best.contains(&(n / per_group)));
        }
        let chosen = best(candidates, experts.n_used, score)?;
        let sum: f64 = chosen.iter().map(|n| probs[*n]).sum();
        let sum = match routing {
            Routing::DeepSeek => sum + 1e-20,
            Routing::Plain => sum.max(f64::from(PLAIN_MIN_SUM)),
        };
        let norm = if experts.norm_weights { sum } else { 1.0 };
        Some(chosen.into_iter().map(|n| (n, probs[n] / norm * f64::from(experts.weights_scale))).collect())
    }

    /// The `k` with the best scores, the best first, unless it is a close decision.
    fn best(mut all: Vec<usize>, k: usize, score: impl Fn(usize) -> f64) -> Option<Vec<usize>> {
        all.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let is_close = all.windows(2).take(k).any(|pair| score(pair[0]) - score(pair[1]) < 1e-6);
        all.truncate(k);
        (!is_close).then_some(all)
    }

    /// Numbers from −1 to 1 that look random.
    fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn config(gating: Gating, groups: Option<(usize, usize)>) -> ExpertConfig {
        let score = match gating {
            Gating::Sigmoid => GroupScore::BestTwo,
            Gating::Softmax => GroupScore::Best,
        };
        ExpertConfig {
            n_expert: 32,
            n_used: 4,
            n_shared: 0,
            n_ff: 1,
            gating,
            groups: groups.map(|(n_group, n_used)| Groups { n_group, n_used, score }),
            groups_in_file: true,
            norm_weights: false,
            weights_scale: 1.0,
        }
    }

    /// Two hundred tokens, five at a time.
    fn holds(experts: &ExpertConfig, routing: Routing, with_bias: bool, scale: f32) {
        let n = experts.n_expert;
        let (mut compared, mut differ_from_plain) = (0, 0);
        for seed in 0..40 {
            let logits: Vec<f32> = noise(seed, 5 * n).iter().map(|x| x * scale).collect();
            let bias = with_bias.then(|| noise(1000 + seed, n));
            let found = routed(experts, routing, &logits, bias.as_deref());
            for (found, logits) in found.iter().zip(logits.chunks(n)) {
                let Some(expected) = expected(experts, routing, logits, bias.as_deref()) else { continue };
                let ids = |pairs: &[(usize, f64)]| pairs.iter().map(|(id, _)| *id).collect::<Vec<_>>();
                let found: Vec<(usize, f64)> = found.iter().map(|(id, weight)| (*id, f64::from(*weight))).collect();
                assert_eq!(ids(&found), ids(&expected), "{experts:?}, {routing:?}");
                for ((_, found), (_, expected)) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() <= 1e-5 * expected.abs(),
                        "{found} is not {expected}: {experts:?}"
                    );
                }
                compared += 1;
                let plain = ExpertConfig { groups: None, ..experts.clone() };
                let plain = self::expected(&plain, routing, logits, bias.as_deref());
                differ_from_plain += usize::from(plain.is_some_and(|plain| ids(&plain) != ids(&expected)));
            }
        }
        assert!(compared > 190, "{compared} of 200");
        // Groups must matter, or nothing is shown.
        let has_groups =
            routing == Routing::DeepSeek && experts.groups.is_some_and(|groups| groups.n_used < groups.n_group);
        assert_eq!(differ_from_plain > 20, has_groups, "{differ_from_plain}");
    }

    #[test]
    fn experts_and_weights_are_the_papers() {
        for gating in [Gating::Sigmoid, Gating::Softmax] {
            for groups in [None, Some((8, 3)), Some((4, 1)), Some((4, 4))] {
                for (norm_weights, weights_scale) in [(false, 1.0), (true, 1.0), (false, 16.0), (true, 2.5)] {
                    let experts = ExpertConfig { norm_weights, weights_scale, ..config(gating, groups) };
                    holds(&experts, Routing::DeepSeek, gating == Gating::Sigmoid, 3.0);
                }
            }
        }
    }

    #[test]
    fn a_group_may_be_one_expert() {
        let experts = ExpertConfig { n_used: 3, ..config(Gating::Sigmoid, Some((32, 3))) };
        let logits = noise(1, 32);
        let found = routed(&experts, Routing::DeepSeek, &logits, None);
        let expected = expected(&experts, Routing::DeepSeek, &logits, None).unwrap();
        assert_eq!(found[0].iter().map(|x| x.0).collect::<Vec<_>>(), expected.iter().map(|x| x.0).collect::<Vec<_>>());
    }

    /// Groups of a model whose file leaves them out do not count, those of a file by their two best experts.
    #[test]
    fn plain_routing_is_llama_cpps() {
        for groups_in_file in [false, true] {
            for gating in [Gating::Sigmoid, Gating::Softmax] {
                let experts = ExpertConfig { groups_in_file, norm_weights: true, ..config(gating, Some((8, 3))) };
                let logits: Vec<f32> = noise(7, 200 * 32).iter().map(|x| 3.0 * x).collect();
                let found = routed(&experts, Routing::Plain, &logits, None);
                let mut n_other = 0;
                for (found, logits) in found.iter().zip(logits.chunks(32)) {
                    let Some(expected) = expected(&experts, Routing::Plain, logits, None) else { continue };
                    assert!(found.iter().zip(&expected).all(|(a, b)| a.0 == b.0), "{found:?}, {expected:?}");
                    let own = self::expected(&experts, Routing::DeepSeek, logits, None);
                    n_other += usize::from(own.is_some_and(|own| own.iter().zip(&expected).any(|(a, b)| a.0 != b.0)));
                }
                // Only V3's own rule with groups in the file is the same.
                assert_eq!(n_other > 20, !groups_in_file || gating == Gating::Softmax, "{n_other}");
            }
        }
    }

    /// Weights that vanish are not divided by: with logits of −100 a sigmoid is 0.
    #[test]
    fn weights_of_nothing_stay_numbers() {
        let experts = ExpertConfig { norm_weights: true, ..config(Gating::Sigmoid, None) };
        for routing in [Routing::DeepSeek, Routing::Plain] {
            let found = routed(&experts, routing, &[-100.0; 32], None);
            assert!(found[0].iter().all(|(_, weight)| weight.is_finite()), "{found:?}");
        }
    }

    /// What is no number takes nothing with it but itself: experts stay experts, other tokens their own.
    #[test]
    fn a_token_that_is_no_number_stays_alone() {
        for groups in [None, Some((8, 3))] {
            let experts = ExpertConfig { norm_weights: true, ..config(Gating::Sigmoid, groups) };
            let mut logits: Vec<f32> = noise(3, 3 * 32);
            let clean = routed(&experts, Routing::DeepSeek, &logits, None);
            for (n, bad) in [(32, f32::NAN), (40, f32::NAN), (41, f32::INFINITY), (63, f32::NEG_INFINITY)] {
                logits[n] = bad;
            }
            let found = routed(&experts, Routing::DeepSeek, &logits, None);
            assert_eq!((&found[0], &found[2]), (&clean[0], &clean[2]));
            assert!(found[1].iter().all(|(id, _)| *id < 32));
            assert!(found[1].iter().any(|(_, weight)| weight.is_nan()), "{:?}", found[1]);
        }
    }
}
