//! How evenly the experts of a synthetic model will be used, without running it.
//!
//! In these models the hidden state stays near the token's own embedding, so the embedding itself, after
//! the layer's norm, is what the router is asked about here. What the layers in between add is left out.

use super::routing::{Rule, Uses};
use super::tensors::{Plan, Tensor};
use rayon::prelude::*;

/// Tokens that are routed.
const MAX_SAMPLE: u32 = 1024;
/// Tokens whose logits are computed together, so that the router is read once for them.
const TOGETHER: usize = 8;

/// How evenly a sample of tokens uses the experts, over all mixture layers.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertUse {
    pub layers: usize,
    pub experts: u32,
    /// Experts that a token uses.
    pub used: u32,
    /// Tokens in the sample.
    pub tokens: u32,
    /// Standard deviation of the experts' uses over their mean, the mean of all layers.
    pub variation: f64,
    /// What [`variation`](Self::variation) would be if experts were drawn by lot.
    pub variation_by_lot: f64,
    /// Share of all uses that the busiest tenth of a layer's experts has, the mean of all layers.
    pub busiest_tenth: f64,
    /// Uses of the expert that is used least, over the mean.
    pub least: f64,
    pub most: f64,
}

/// `None` for a model without mixture layers.
pub(super) fn expert_use(plan: &Plan, tensors: &[Tensor]) -> Option<ExpertUse> {
    let rule = plan.model.rule;
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let embedding = find("token_embd.weight")?;
    let n_sample = plan.tokens.min(MAX_SAMPLE);
    // Spread over the whole vocabulary.
    let ids = (0..n_sample).map(|i| u64::from(i) * u64::from(plan.tokens) / u64::from(n_sample));
    let hidden: Vec<Vec<f32>> = ids.map(|id| normed(embedding.row(id))).collect();
    let layers: Vec<Uses> = (plan.dense..plan.layers)
        .filter_map(|layer| {
            let weights = |part: &str| find(&format!("blk.{layer}.{part}")).map(Tensor::values);
            let norm = weights("ffn_norm.weight")?;
            let mut router = weights("ffn_gate_inp.weight")?;
            // The norm's weights go into the router, once for all tokens.
            router.chunks_mut(norm.len()).for_each(|row| row.iter_mut().zip(&norm).for_each(|(w, n)| *w *= n));
            let bias = weights("exp_probs_b.bias").unwrap_or_default();
            Some(uses(&rule, &hidden, &router, &bias))
        })
        .collect();
    if layers.is_empty() {
        return None;
    }
    let mean = |f: fn(&Uses) -> f64| layers.iter().map(f).sum::<f64>() / layers.len() as f64;
    let share = f64::from(rule.used) / f64::from(rule.experts);
    Some(ExpertUse {
        layers: layers.len(),
        experts: rule.experts,
        used: rule.used,
        tokens: n_sample,
        variation: mean(Uses::variation),
        variation_by_lot: ((1.0 - share) / (f64::from(n_sample) * share)).sqrt(),
        busiest_tenth: mean(Uses::busiest_tenth),
        least: layers.iter().map(Uses::least).fold(f64::INFINITY, f64::min),
        most: layers.iter().map(Uses::most).fold(0.0, f64::max),
    })
}

/// How one layer routes these tokens.
fn uses(rule: &Rule, hidden: &[Vec<f32>], router: &[f32], bias: &[f32]) -> Uses {
    let chosen: Vec<usize> =
        hidden.par_chunks(TOGETHER).flat_map_iter(|tokens| route(rule, tokens, router, bias)).collect();
    Uses::of(rule.experts, chosen.into_iter())
}

fn route(rule: &Rule, tokens: &[Vec<f32>], router: &[f32], bias: &[f32]) -> Vec<usize> {
    let mut logits = vec![Vec::with_capacity(rule.experts as usize); tokens.len()];
    for row in router.chunks(router.len() / rule.experts as usize) {
        for (logits, token) in logits.iter_mut().zip(tokens) {
            logits.push(dot(row, token));
        }
    }
    logits.iter().flat_map(|logits| rule.choose(logits, bias)).collect()
}

/// Scaled to a mean square of 1.
fn normed(mut x: Vec<f32>) -> Vec<f32> {
    let square = x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / square.sqrt() as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    x
}

/// Sixteen sums side by side, which the compiler keeps in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::super::tensors::tensors;
    use super::*;
    use crate::quantize::Mix;

    fn estimate(model: &str, skew: f64) -> ExpertUse {
        let model = model.parse().unwrap();
        let plan = Plan { model, layers: 3, dense: 1, tokens: 1000, mix: Mix::Q2_K_XL, seed: 5, skew };
        expert_use(&plan, &tensors(&plan).unwrap()).unwrap()
    }

    #[test]
    fn use_is_near_uniform_unless_skewed() {
        for model in ["tiny", "deepseek-v2-lite"] {
            let even = estimate(model, 0.0);
            assert_eq!((even.layers, even.tokens), (2, 1000));
            assert!(even.variation < 2.0 * even.variation_by_lot + 0.05, "{even:?}");
            assert!(even.busiest_tenth < 0.15 && even.least > 0.5 && even.most < 1.6, "{even:?}");
            let skewed = estimate(model, 1.0);
            assert!(skewed.busiest_tenth > 0.25 && skewed.most > 2.5, "{skewed:?}");
        }
    }

    #[test]
    fn a_dense_model_has_no_experts_to_use() {
        let model = "tiny".parse().unwrap();
        let plan = Plan { model, layers: 1, dense: 1, tokens: 1000, mix: Mix::F16, seed: 5, skew: 0.0 };
        assert_eq!(expert_use(&plan, &tensors(&plan).unwrap()), None);
    }

    #[test]
    fn dots() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), (0..37).map(|i| (i * i) as f32).sum::<f32>());
        let x = normed(vec![3.0, -3.0]);
        assert_eq!(x, [1.0, -1.0]);
    }
}
