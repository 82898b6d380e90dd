//! The truncations that go by probability: typical, top-p, min-p.
//!
//! Each keeps at least `min_keep` candidates while there are so many, and what it keeps shares the whole
//! probability. Top-k is part of gathering the candidates; XTC has a file of its own.

use super::candidates::{Candidate, Candidates, min_p_floor};
use std::cmp::Ordering;

impl Candidates {
    /// Locally typical sampling (Meister et al., arXiv 2202.00666): the tokens whose surprise, `-ln p`, is
    /// nearest to the entropy, until they have the probability `mass`. 1 is off.
    pub(super) fn typical(&mut self, mass: f32, min_keep: usize) {
        if mass >= 1.0 {
            return;
        }
        let (peak, ln_total) = (self.peak, self.total.ln());
        let surprise = move |candidate: &Candidate| ln_total - f64::from(candidate.logit) + f64::from(peak);
        let entropy: f64 = self.list.iter().map(|c| f64::from(c.weight) / self.total * surprise(c)).sum();
        let oddness = move |candidate: &Candidate| (surprise(candidate) - entropy).abs();
        let order = |a: &Candidate, b: &Candidate| {
            oddness(a).partial_cmp(&oddness(b)).unwrap_or(Ordering::Equal).then_with(|| Candidate::order(a, b))
        };
        self.keep_mass(mass, min_keep, order);
    }

    /// Nucleus sampling (Holtzman et al., arXiv 1904.09751): the likeliest tokens, until they have the
    /// probability `mass`. 1 is off.
    pub(super) fn top_p(&mut self, mass: f32, min_keep: usize) {
        if mass < 1.0 {
            self.keep_mass(mass, min_keep, Candidate::order);
        }
    }

    /// Min-p sampling (Nguyen et al., arXiv 2407.01082): the tokens that are at least `min_p` times as
    /// likely as the likeliest. 0 is off.
    pub(super) fn min_p(&mut self, min_p: f32, min_keep: usize) {
        if min_p <= 0.0 {
            return;
        }
        let floor = min_p_floor(self.best(), min_p);
        let passing = self.list.iter().filter(|candidate| candidate.logit >= floor).count();
        match passing < min_keep {
            true => self.keep_first(min_keep, Candidate::order),
            false => self.list.retain(|candidate| candidate.logit >= floor),
        }
        self.sum();
    }

    /// Keeps the first candidates in an order, until they have the probability `mass`. It sorts no more of
    /// them than it must.
    fn keep_mass(&mut self, mass: f32, min_keep: usize, order: impl Fn(&Candidate, &Candidate) -> Ordering) {
        let wanted = f64::from(mass) * self.total;
        let (mut kept, mut sum, mut step) = (0, 0.0, 64);
        'all: while kept < self.list.len() {
            let rest = &mut self.list[kept..];
            step = rest.len().min(step);
            rest.select_nth_unstable_by(step - 1, &order);
            rest[..step].sort_unstable_by(&order);
            for candidate in &rest[..step] {
                kept += 1;
                sum += f64::from(candidate.weight);
                if sum >= wanted && kept >= min_keep {
                    break 'all;
                }
            }
            step *= 4;
        }
        self.list.truncate(kept);
        self.sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{assert_probabilities, of, tokens};

    #[test]
    fn top_p_keeps_the_likeliest_until_they_have_the_mass() {
        let top_p = |p, min_keep| {
            let mut candidates = of(&[0.15, 0.5, 0.05, 0.3]);
            candidates.top_p(p, min_keep);
            candidates
        };
        assert_eq!(tokens(&top_p(0.0, 1)), [1]);
        assert_eq!(tokens(&top_p(0.49, 1)), [1]);
        assert_eq!(tokens(&top_p(0.51, 1)), [1, 3]);
        assert_eq!(tokens(&top_p(0.79, 1)), [1, 3]);
        assert_eq!(tokens(&top_p(0.81, 1)), [1, 3, 0]);
        assert_eq!(tokens(&top_p(0.96, 1)), [1, 3, 0, 2]);
        assert_eq!(tokens(&top_p(0.0, 3)), [1, 3, 0]);
        assert_eq!(tokens(&top_p(0.0, 9)), [1, 3, 0, 2]);
        assert_probabilities(&top_p(0.6, 1), &[(1, 0.625), (3, 0.375)]);
        assert_eq!(tokens(&top_p(1.0, 1)), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_sorts_in_steps() {
        let mut candidates = of(&vec![0.001; 1000]);
        candidates.top_p(0.5005, 1);
        assert_eq!(tokens(&candidates), (0..501).collect::<Vec<u32>>());
    }

    #[test]
    fn min_p_goes_by_the_likeliest() {
        let min_p = |p, min_keep| {
            let mut candidates = of(&[0.15, 0.5, 0.05, 0.3]);
            candidates.min_p(p, min_keep);
            candidates
        };
        assert_eq!(tokens(&min_p(0.0, 1)), [0, 1, 2, 3]);
        assert_eq!(tokens(&min_p(0.09, 1)), [0, 1, 2, 3]);
        assert_eq!(tokens(&min_p(0.11, 1)), [0, 1, 3]);
        assert_eq!(tokens(&min_p(0.59, 1)), [1, 3]);
        assert_eq!(tokens(&min_p(0.61, 1)), [1]);
        assert_eq!(tokens(&min_p(1.0, 1)), [1]);
        assert_eq!(tokens(&min_p(1.0, 3)), [1, 3, 0]);
        assert_probabilities(&min_p(0.5, 1), &[(1, 0.625), (3, 0.375)]);
    }

    /// The entropy of this is 1.168 nats; the surprises are 0.693, 1.204, 1.897 and 2.996. Nearest to it
    /// is the second token, then the likeliest, then the third.
    #[test]
    fn typical_goes_by_the_entropy() {
        let typical = |p, min_keep| {
            let mut candidates = of(&[0.5, 0.3, 0.15, 0.05]);
            candidates.typical(p, min_keep);
            candidates
        };
        assert_eq!(tokens(&typical(0.0, 1)), [1]);
        assert_eq!(tokens(&typical(0.29, 1)), [1]);
        assert_eq!(tokens(&typical(0.31, 1)), [1, 0]);
        assert_eq!(tokens(&typical(0.81, 1)), [1, 0, 2]);
        assert_eq!(tokens(&typical(0.96, 1)), [1, 0, 2, 3]);
        assert_eq!(tokens(&typical(0.1, 2)), [1, 0]);
        assert_eq!(tokens(&typical(1.0, 1)), [0, 1, 2, 3]);
        assert_probabilities(&typical(0.5, 1), &[(0, 0.625), (1, 0.375)]);
    }

    /// Min-p after typical goes by the likeliest that is left.
    #[test]
    fn typical_can_drop_the_likeliest() {
        let mut candidates = of(&[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]);
        candidates.typical(0.5, 1);
        assert_eq!(tokens(&candidates), [1, 2, 3, 4, 5]);
        candidates.min_p(0.9, 1);
        assert_eq!(tokens(&candidates), [1, 2, 3, 4, 5]);
    }
}
