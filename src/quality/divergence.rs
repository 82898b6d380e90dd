//! Two models' predictions of the same tokens, compared.

use super::saved::Row;
use super::{Estimate, Sample, Score, quantile};

/// A model's prediction of one token, next to the saved one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub nll: f64,
    pub saved_nll: f64,
    /// KL(saved‖model): how much the model's distribution misses of the saved one.
    pub kl: f64,
    /// By how much the model gives the token that came a higher probability.
    pub delta_p: f64,
    /// Whether both think the same token the likeliest.
    pub is_same_top: bool,
}

impl Comparison {
    /// Of a saved row and as many finite logits, and the token that came.
    pub fn of(saved: &Row, logits: &[f32], target: u32) -> Comparison {
        let score = Score::of(logits, target);
        // With w = e^(what is saved): Σ w/Σw · (ln w − ln Σw − ln p), so that what is saved need not add up
        // to 1 by itself.
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (log_weight, logit) in saved.log_weights().zip(logits) {
            let weight = log_weight.exp();
            sum += weight;
            weighted += weight * (log_weight - (f64::from(*logit) - score.log_sum));
        }
        Comparison {
            nll: score.nll,
            saved_nll: saved.nll,
            // It cannot be negative, but for rounding.
            kl: (weighted / sum - sum.ln()).max(0.0),
            delta_p: (-score.nll).exp() - (-saved.nll).exp(),
            is_same_top: score.top == saved.top,
        }
    }
}

/// What many comparisons say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub perplexity: Estimate,
    pub saved_perplexity: Estimate,
    /// The model's perplexity by the saved one's.
    pub ratio: Estimate,
    pub kl: Estimate,
    /// At 50, 90, 95, 99 and 99.9 %.
    pub kl_quantiles: [f64; 5],
    pub kl_max: f64,
    pub same_top: Estimate,
    pub delta_p: Estimate,
    pub delta_p_rms: Estimate,
    pub delta_p_min: f64,
    pub delta_p_max: f64,
}

impl Summary {
    pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

    pub fn of(comparisons: &[Comparison]) -> Summary {
        let sample = |value: fn(&Comparison) -> f64| comparisons.iter().map(value).collect::<Sample>();
        let (kl, delta_p) = (sample(|c| c.kl), sample(|c| c.delta_p));
        let (sorted_kl, sorted_delta_p) = (kl.sorted(), delta_p.sorted());
        Summary {
            n: comparisons.len(),
            perplexity: sample(|c| c.nll).perplexity(),
            saved_perplexity: sample(|c| c.saved_nll).perplexity(),
            // Both had the same tokens: what counts is how the differences scatter, token by token.
            ratio: sample(|c| c.nll - c.saved_nll).mean().exp(),
            kl: kl.mean(),
            kl_quantiles: Summary::QUANTILES.map(|fraction| quantile(&sorted_kl, fraction)),
            kl_max: quantile(&sorted_kl, 1.0),
            same_top: Estimate::share(comparisons.iter().filter(|c| c.is_same_top).count(), comparisons.len()),
            delta_p: delta_p.mean(),
            delta_p_rms: sample(|c| c.delta_p * c.delta_p).mean().sqrt(),
            delta_p_min: quantile(&sorted_delta_p, 0.0),
            delta_p_max: quantile(&sorted_delta_p, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between −8 and 8 that look like nothing.
    fn noise(seed: u32, n: u32) -> Vec<f32> {
        let mixed = |n: u32| (n ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b).rotate_left(13);
        (0..n).map(|n| f32::from(mixed(mixed(n)) as i16) / 4096.0).collect()
    }

    fn probabilities(logits: &[f32]) -> Vec<f64> {
        let exponentials: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|x| x / sum).collect()
    }

    #[test]
    fn divergence_is_that_of_a_plain_sum() {
        for seed in 0..20 {
            let (a, b) = (noise(seed, 777), noise(seed + 100, 777));
            let (p, q) = (probabilities(&a), probabilities(&b));
            let expected: f64 = p.iter().zip(&q).map(|(p, q)| p * (p.ln() - q.ln())).sum();
            let comparison = Comparison::of(&Row::of(&a, 5), &b, 5);
            assert!((comparison.kl - expected).abs() < 1e-3 * expected, "{} {expected}", comparison.kl);
            assert!((comparison.nll + q[5].ln()).abs() < 1e-9);
            assert!((comparison.saved_nll + p[5].ln()).abs() < 1e-9);
            assert!((comparison.delta_p - (q[5] - p[5])).abs() < 1e-9);
        }
    }

    #[test]
    fn a_row_does_not_diverge_from_itself() {
        for seed in 0..20 {
            let row = noise(seed, 1000);
            let comparison = Comparison::of(&Row::of(&row, 3), &row, 3);
            assert!(comparison.kl < 1e-7, "{}", comparison.kl);
            assert!(comparison.is_same_top && comparison.delta_p == 0.0 && comparison.nll == comparison.saved_nll);
        }
    }

    #[test]
    fn divergence_by_hand() {
        // p = (3/4, 1/4), q = (1/4, 3/4): KL = ¾ ln 3 − ¼ ln 3.
        let comparison = Comparison::of(&Row::of(&[3f32.ln(), 0.0], 0), &[0.0, 3f32.ln()], 0);
        assert!((comparison.kl - 0.5 * 3f64.ln()).abs() < 1e-4, "{}", comparison.kl);
        assert!((comparison.delta_p + 0.5).abs() < 1e-6 && !comparison.is_same_top);
    }

    #[test]
    fn summaries_by_hand() {
        let comparison =
            |nll, saved_nll, kl, delta_p, is_same_top| Comparison { nll, saved_nll, kl, delta_p, is_same_top };
        let summary = Summary::of(&[
            comparison(2.0, 1.0, 0.1, 0.3, true),
            comparison(3.0, 3.0, 0.2, -0.4, true),
            comparison(4.0, 2.0, 0.3, 0.0, false),
        ]);
        let is_near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(is_near(summary.perplexity.value, 3f64.exp()));
        assert!(is_near(summary.saved_perplexity.value, 2f64.exp()));
        // Differences 1, 0, 2: mean 1, variance 2/3, error √(1/3).
        assert!(is_near(summary.ratio.value, 1f64.exp()));
        assert!(is_near(summary.ratio.error, 1f64.exp() * (1f64 / 3.0).sqrt()));
        assert!(
            is_near(summary.kl.value, 0.2) && is_near(summary.kl_quantiles[0], 0.2) && is_near(summary.kl_max, 0.3)
        );
        assert!(is_near(summary.kl_quantiles[1], 0.28));
        assert!(is_near(summary.same_top.value, 2.0 / 3.0));
        assert!(is_near(summary.delta_p_rms.value, (0.25f64 / 3.0).sqrt()));
        assert!(is_near(summary.delta_p_min, -0.4) && is_near(summary.delta_p_max, 0.3));
    }

    /// The error of a ratio is as often written with the covariance of the two means.
    #[test]
    fn the_error_of_the_ratio_takes_the_covariance_in() {
        let (a, b) = (noise(1, 500), noise(2, 500));
        let both: Vec<(f64, f64)> = a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(a + b / 4.0))).collect();
        let comparisons: Vec<Comparison> = both
            .iter()
            .map(|(nll, saved_nll)| Comparison {
                nll: *nll,
                saved_nll: *saved_nll,
                kl: 0.0,
                delta_p: 0.0,
                is_same_top: true,
            })
            .collect();
        let n = both.len() as f64;
        let mean = |value: &dyn Fn(&(f64, f64)) -> f64| both.iter().map(value).sum::<f64>() / n;
        let (x, y) = (mean(&|v| v.0), mean(&|v| v.1));
        let variance = |value: &dyn Fn(&(f64, f64)) -> f64, mean_product: f64| (mean(value) - mean_product) / (n - 1.0);
        let (xx, yy, xy) =
            (variance(&|v| v.0 * v.0, x * x), variance(&|v| v.1 * v.1, y * y), variance(&|v| v.0 * v.1, x * y));
        let ratio = Summary::of(&comparisons).ratio;
        let expected = (x - y).exp() * (xx + yy - 2.0 * xy).sqrt();
        assert!((ratio.error - expected).abs() < 1e-10, "{} {expected}", ratio.error);
    }
}
