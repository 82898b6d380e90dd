//! The tokens that may still be drawn, with their weights.
//!
//! Owns gathering them from the scores (top-k with it), temperature, and the draw. What is never wanted is
//! never gathered: most samplers keep a few hundred of 129,280 tokens, so most steps see only these.

use super::{SamplerParams, scores};
use std::cmp::Ordering;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
    /// In proportion to the probability.
    pub(super) weight: f32,
}

impl Candidate {
    /// The better logit first, of equals the lower id. Logits are finite here, so this is a total order.
    pub(super) fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
    }
}

/// A list whose order is fixed by what was asked for: by id where everything was gathered, else the
/// order of the last step that selected.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidates {
    pub(super) list: Vec<Candidate>,
    /// The logit of weight 1.
    pub(super) peak: f32,
    /// The weight of all tokens that the next step chooses among, gathered or not.
    pub(super) total: f64,
}

impl Candidates {
    /// Starts from the scores, whose maximum is `peak`: top-k, and what its successors cannot want is left
    /// out at once.
    pub(super) fn gather(&mut self, scores: &[f32], peak: f32, params: &SamplerParams) {
        self.list.clear();
        self.peak = peak;
        let keep = match params.top_k {
            0 => scores.len(),
            k => (k as usize).max(params.min_keep()),
        };
        if keep < scores.len() {
            self.gather_best(scores, keep);
            self.weigh(1.0);
            return;
        }
        // Where nothing but top-p comes between, min-p's floor is known already.
        let early = params.typical_p >= 1.0 && params.min_keep() == 1;
        let floor = if early { min_p_floor(peak, params.min_p) } else { f32::MIN };
        scores::each_above(scores, floor, |token, logit| {
            self.list.push(Candidate { token, logit, weight: 0.0 });
            floor
        });
        self.weigh(1.0);
        if early && params.top_p < 1.0 {
            self.total = scores.iter().map(|&score| f64::from((score - peak).exp())).sum();
        }
    }

    /// The best `keep`, the best first, in one pass: what is not better than the worst of `keep` seen so
    /// far is passed over.
    fn gather_best(&mut self, scores: &[f32], keep: usize) {
        let list = &mut self.list;
        let mut bar = f32::MIN;
        scores::each_above(scores, bar, |token, logit| {
            list.push(Candidate { token, logit, weight: 0.0 });
            if list.len() == 2 * keep {
                list.select_nth_unstable_by(keep - 1, Candidate::order);
                list.truncate(keep);
                bar = list[keep - 1].logit;
            }
            bar
        });
        list.sort_unstable_by(Candidate::order);
        list.truncate(keep);
    }

    /// Weights at a temperature, in proportion to `exp(logit / temperature)`.
    fn weigh(&mut self, temperature: f32) {
        for candidate in &mut self.list {
            candidate.weight = ((candidate.logit - self.peak) / temperature).exp();
        }
        self.sum();
    }

    pub(super) fn sum(&mut self) {
        self.total = self.list.iter().map(|candidate| f64::from(candidate.weight)).sum();
    }

    /// Keeps the first `keep` in an order.
    pub(super) fn keep_first(&mut self, keep: usize, order: impl Fn(&Candidate, &Candidate) -> Ordering) {
        if keep < self.list.len() && keep > 0 {
            self.list.select_nth_unstable_by(keep - 1, &order);
            self.list.truncate(keep);
        }
        self.list.sort_unstable_by(order);
        self.sum();
    }

    /// The best logit that is left.
    pub(super) fn best(&self) -> f32 {
        self.list.iter().map(|candidate| candidate.logit).fold(f32::MIN, f32::max)
    }

    /// Temperature: the weights from which is drawn.
    pub(super) fn heat(&mut self, temperature: f32) {
        // What is left may all be far below the peak: without this its weights could all be zero.
        self.peak = self.best();
        self.weigh(temperature);
    }

    /// The token at `at`, from 0 to 1, when the candidates lie side by side, as wide as they are likely.
    /// None where there is none.
    pub(super) fn at(&self, at: f64) -> Option<u32> {
        let (at, mut end) = (at * self.total, 0.0);
        let drawn = self.list.iter().find(|candidate| {
            end += f64::from(candidate.weight);
            at < end
        });
        // Only rounding can miss them all.
        drawn.or_else(|| self.list.iter().rfind(|candidate| candidate.weight > 0.0)).map(|candidate| candidate.token)
    }

    /// Tokens and probabilities, the likeliest first.
    pub(super) fn probabilities(&self) -> Vec<(u32, f32)> {
        let mut list = self.list.clone();
        list.sort_unstable_by(Candidate::order);
        list.iter().map(|c| (c.token, (f64::from(c.weight) / self.total) as f32)).collect()
    }
}

/// The lowest logit that is `min_p` times as likely as `peak`.
pub(super) fn min_p_floor(peak: f32, min_p: f32) -> f32 {
    (peak + min_p.ln()).max(f32::MIN)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Candidates of given probabilities, tokens 0, 1, 2, …
    pub(crate) fn of(probabilities: &[f32]) -> Candidates {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        gathered(&logits, &SamplerParams::default())
    }

    pub(crate) fn gathered(scores: &[f32], params: &SamplerParams) -> Candidates {
        let mut candidates = Candidates::default();
        let peak = scores.iter().copied().fold(f32::MIN, f32::max);
        candidates.gather(scores, peak, params);
        candidates
    }

    pub(crate) fn tokens(candidates: &Candidates) -> Vec<u32> {
        candidates.list.iter().map(|candidate| candidate.token).collect()
    }

    #[track_caller]
    pub(crate) fn assert_probabilities(candidates: &Candidates, expected: &[(u32, f32)]) {
        let found = candidates.probabilities();
        let near = |(a, b): (&(u32, f32), &(u32, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?}, not {expected:?}");
    }

    #[test]
    fn without_any_limit_all_that_is_allowed_is_gathered() {
        let candidates = gathered(&[0.0, f32::NEG_INFINITY, 3f32.ln(), f32::MIN], &SamplerParams::default());
        assert_eq!(tokens(&candidates), [0, 2, 3]);
        assert_probabilities(&candidates, &[(2, 0.75), (0, 0.25), (3, 0.0)]);
    }

    #[test]
    fn top_k_keeps_the_best_and_of_equals_the_first() {
        let scores = [1.0, 2.0, 0.0, 2.0, 1.0, f32::NEG_INFINITY];
        let top_k = |k| tokens(&gathered(&scores, &SamplerParams { top_k: k, ..Default::default() }));
        assert_eq!(top_k(1), [1]);
        assert_eq!(top_k(2), [1, 3]);
        assert_eq!(top_k(3), [1, 3, 0]);
        assert_eq!(top_k(5), [1, 3, 0, 4, 2]);
        assert_eq!(top_k(6), [0, 1, 2, 3, 4]);
        let params = SamplerParams { top_k: 1, min_keep: 2, ..Default::default() };
        assert_eq!(tokens(&gathered(&scores, &params)), [1, 3]);
    }

    #[test]
    fn top_k_shares_the_probability_among_those_kept() {
        let logits = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln);
        let candidates = gathered(&logits, &SamplerParams { top_k: 2, ..Default::default() });
        assert_probabilities(&candidates, &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
    }

    /// Only what no later step can want is left out, and top-p still counts it.
    #[test]
    fn min_p_limits_what_is_gathered() {
        let logits = [0.4f32, 0.02, 0.3, 0.28].map(f32::ln);
        let params = SamplerParams { min_p: 0.1, top_p: 0.9, ..Default::default() };
        let candidates = gathered(&logits, &params);
        assert_eq!(tokens(&candidates), [0, 2, 3]);
        assert!((candidates.total - 2.5).abs() < 1e-6);
    }

    #[test]
    fn temperature_is_an_exponent_of_the_probability() {
        let mut candidates = of(&[0.6, 0.3, 0.1]);
        candidates.heat(0.5);
        assert_probabilities(&candidates, &[(0, 36.0 / 46.0), (1, 9.0 / 46.0), (2, 1.0 / 46.0)]);
        let mut candidates = of(&[0.64, 0.36]);
        candidates.heat(2.0);
        assert_probabilities(&candidates, &[(0, 8.0 / 14.0), (1, 6.0 / 14.0)]);
        candidates.heat(f32::MIN_POSITIVE);
        assert_probabilities(&candidates, &[(0, 1.0), (1, 0.0)]);
        candidates.heat(f32::MAX);
        assert_probabilities(&candidates, &[(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn the_draw_lays_candidates_side_by_side() {
        let mut candidates = of(&[0.25, 0.5, 0.25]);
        candidates.heat(1.0);
        let drawn = [0.0, 0.2499, 0.2501, 0.7499, 0.7501, 0.9999, 1.0].map(|at| candidates.at(at).unwrap());
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2, 2]);
        let zero = gathered(&[f32::MIN, 0.0, f32::MIN], &SamplerParams::default());
        assert_eq!([zero.at(0.0), zero.at(0.5), zero.at(1.0)], [Some(1); 3]);
        assert_eq!(Candidates::default().at(0.5), None);
    }
}
