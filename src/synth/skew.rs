//! A skewed use of experts: how the router must be made so that some are chosen more often.
//!
//! Over tokens, the router's logits of an expert are normally distributed. An expert is chosen, about,
//! when its score passes a threshold that lies where all experts together are chosen as often as they
//! must be. So the share of tokens that an expert is to have says how far its scores have to move: by a
//! bias, where the model has one, or by longer rows of the router, whose logits then go further out.
//! Groups are not thought of: they blur the result a little.

use super::random::Stream;
use super::routing::{Rule, Scores};

/// No expert is chosen by more tokens than this share: beyond half of them no row is long enough.
const MAX_SHARE: f64 = 0.4;

/// For each expert of a layer, what makes its use follow Zipf's law: the n-th most popular is used in
/// proportion to `n^-exponent`, as far as [`MAX_SHARE`] allows. Which is how popular differs by layer.
pub(super) struct Skew {
    shares: Vec<f64>,
    rule: Rule,
}

impl Skew {
    /// `ranks` says, by chance, which expert is the most popular.
    pub(super) fn new(rule: Rule, exponent: f64, ranks: Stream) -> Skew {
        let mut order: Vec<usize> = (0..rule.experts as usize).collect();
        order.sort_by_key(|expert| ranks.word(*expert as u64));
        let weights: Vec<f64> = (1..=order.len()).map(|rank| (rank as f64).powf(-exponent)).collect();
        let mut shares = vec![0.0; order.len()];
        for (expert, share) in order.into_iter().zip(capped(&weights, rule.used.into())) {
            shares[expert] = share;
        }
        Skew { shares, rule }
    }

    /// What to add to each expert's score; nothing in models without such a bias.
    pub(super) fn biases(&self) -> Vec<f32> {
        let score = |share: f64| 1.0 / (1.0 + (-quantile(1.0 - share)).exp());
        let threshold = score(self.even_share());
        self.shares.iter().map(|share| (threshold - score(*share)) as f32).collect()
    }

    /// How long each expert's row of the router must be where there is no bias.
    pub(super) fn row_lengths(&self) -> Vec<f32> {
        match self.rule.scores {
            Scores::Sigmoid => vec![1.0; self.shares.len()],
            Scores::Softmax => {
                let threshold = quantile(1.0 - self.even_share());
                self.shares.iter().map(|share| (threshold / quantile(1.0 - share)) as f32).collect()
            }
        }
    }

    /// The share of tokens that each expert has if all are alike.
    fn even_share(&self) -> f64 {
        f64::from(self.rule.used) / f64::from(self.rule.experts)
    }
}

/// Shares in proportion to `weights`, largest first, that sum up to `total`, none above [`MAX_SHARE`].
fn capped(weights: &[f64], total: f64) -> Vec<f64> {
    let mut shares = Vec::with_capacity(weights.len());
    let (mut total, mut weight) = (total, weights.iter().sum::<f64>());
    for w in weights {
        let share = (total * w / weight).min(MAX_SHARE);
        shares.push(share);
        total -= share;
        weight -= w;
    }
    shares
}

/// The normal distribution's quantile, by Tukey's lambda: right to 2 % between 0.001 and 0.999.
fn quantile(p: f64) -> f64 {
    4.91 * (p.powf(0.14) - (1.0 - p).powf(0.14))
}

#[cfg(test)]
mod tests {
    use super::super::random::unit;
    use super::super::routing::Uses;
    use super::*;

    #[test]
    fn quantiles() {
        for (p, x) in [(0.5, 0.0), (0.6, 0.2533), (0.96875, 1.8627), (0.999, 3.0902), (0.01, -2.3263)] {
            assert!((quantile(p) - x).abs() < 0.001 + 0.02 * f64::abs(x), "{p}: {}", quantile(p));
        }
    }

    #[test]
    fn shares_are_capped_and_complete() {
        let weights: Vec<f64> = (1..=64).map(|rank| 1.0 / f64::from(rank)).collect();
        let shares = capped(&weights, 6.0);
        assert!((shares.iter().sum::<f64>() - 6.0).abs() < 1e-9);
        assert!(shares.is_sorted_by(|a, b| a >= b) && shares[0] == MAX_SHARE, "{shares:?}");
        assert_eq!(capped(&[1.0; 8], 2.0), [0.25; 8]);
    }

    /// The use that a thousand tokens with normal logits make of 64 experts.
    fn use_of(scores: Scores, exponent: f64) -> (Uses, Vec<f64>) {
        let rule = Rule { experts: 64, used: 4, scores, groups: None };
        let skew = Skew::new(rule, exponent, Stream::new(1, "ranks"));
        let bias = if scores == Scores::Sigmoid { skew.biases() } else { Vec::new() };
        let lengths = skew.row_lengths();
        let stream = Stream::new(2, "logits");
        let chosen = (0..1000u64).flat_map(|token| {
            let normal = |expert: u64| {
                (0..12).map(|i| unit(stream.word((token * 64 + expert) * 12 + i) as u32)).sum::<f32>() / 12f32.sqrt()
            };
            let logits: Vec<f32> = lengths.iter().zip(0..).map(|(length, expert)| length * normal(expert)).collect();
            rule.choose(&logits, &bias)
        });
        (Uses::of(64, chosen), skew.shares)
    }

    #[test]
    fn use_follows_the_exponent() {
        for scores in [Scores::Sigmoid, Scores::Softmax] {
            let (even, _) = use_of(scores, 0.0);
            assert!(even.busiest_tenth() < 0.14, "{scores:?}: {even:?}");
            let (skewed, shares) = use_of(scores, 1.0);
            let expected = {
                let mut shares = shares;
                shares.sort_by(|a, b| b.total_cmp(a));
                (shares[..6].iter().sum::<f64>() + 0.4 * shares[6]) / 4.0
            };
            assert!(
                (skewed.busiest_tenth() - expected).abs() < 0.06,
                "{scores:?}: {} {expected}",
                skewed.busiest_tenth()
            );
        }
    }
}
