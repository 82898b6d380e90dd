//! How well a model predicts a text: its perplexity, and how far its predictions are from another model's.
//!
//! - [`cut`]: a text in windows, and which of their tokens are scored.
//! - [`sample`]: means with their errors, and quantiles. [`divergence`]: two models' predictions compared.
//! - [`saved`]: the file that keeps one model's predictions for the comparison.
//!
//! Numbers in, numbers out: this room knows no model and no terminal.

pub mod cut;
pub mod divergence;
pub mod sample;
pub mod saved;

pub use cut::Cut;
pub use divergence::{Comparison, Summary};
pub use sample::{Estimate, Sample, quantile};

/// What a row of logits says of the token that came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// −ln of the probability that the token was given.
    pub nll: f64,
    /// The token that was given the highest; of several, the first.
    pub top: u32,
    /// ln of the sum of all exponentials: a logit minus this is the logarithm of its probability.
    pub log_sum: f64,
}

impl Score {
    /// Of a row of finite logits, and the token that came.
    pub fn of(logits: &[f32], target: u32) -> Score {
        let (top, max) = top(logits);
        let max = f64::from(max);
        let sum: f64 = logits.iter().map(|x| (f64::from(*x) - max).exp()).sum();
        let log_sum = max + sum.ln();
        let logit = logits.get(target as usize).copied().unwrap_or(f32::NEG_INFINITY);
        Score { nll: log_sum - f64::from(logit), top, log_sum }
    }
}

fn top(logits: &[f32]) -> (u32, f32) {
    let higher = |best: (u32, f32), (id, &x): (u32, &f32)| if x > best.1 { (id, x) } else { best };
    (0..).zip(logits).fold((0, f32::NEG_INFINITY), higher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_a_plain_softmax() {
        // Probabilities 1/8, 4/8, 1/8, 2/8.
        let logits = [0.0, 4f32.ln(), 0.0, 2f32.ln()];
        for (target, p) in [(0, 0.125), (1, 0.5), (2, 0.125), (3, 0.25f64)] {
            let score = Score::of(&logits, target);
            assert!((score.nll + p.ln()).abs() < 1e-7, "{score:?}");
            assert_eq!(score.top, 1);
            assert!((score.log_sum - 8f64.ln()).abs() < 1e-7);
        }
    }

    #[test]
    fn neither_size_nor_ties_matter() {
        let far = Score::of(&[-3e38, 1000.0, 1000.0, 3e4 - 3e4], 2);
        assert_eq!(far.top, 1);
        assert!((far.nll - 2f64.ln()).abs() < 1e-12);
        assert_eq!(Score::of(&[2.0; 4], 3).top, 0);
    }
}
