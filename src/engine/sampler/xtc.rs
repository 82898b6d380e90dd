//! XTC, "exclude top choices", by Philipp Emanuel Weidmann (p-e-w).
//!
//! Where several tokens are likely, all of them but the least likely go: the answer turns from the most
//! expected word to one that is still a good one. Whether it does is drawn anew for each token, by
//! [`Sampler`](super::Sampler).

use super::candidates::{Candidate, Candidates};

impl Candidates {
    /// Of the tokens with the probability `threshold` or more, keeps only the least likely one. No token goes
    /// where there is only one of them, nor where fewer than `min_keep` would stay.
    pub(super) fn exclude_top_choices(&mut self, threshold: f32, min_keep: usize) {
        let enough = f64::from(threshold) * self.total;
        let is_top = |candidate: &Candidate| f64::from(candidate.weight) >= enough;
        let top = self.list.iter().filter(|candidate| is_top(candidate));
        let (n_top, last) = (top.clone().count(), top.max_by(|a, b| Candidate::order(a, b)).copied());
        if n_top >= 2 && self.list.len() - (n_top - 1) >= min_keep {
            self.list.retain(|candidate| !is_top(candidate) || Some(*candidate) == last);
            self.sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{assert_probabilities, of, tokens};

    fn xtc(probabilities: &[f32], threshold: f32, min_keep: usize) -> Vec<u32> {
        let mut candidates = of(probabilities);
        candidates.exclude_top_choices(threshold, min_keep);
        tokens(&candidates)
    }

    #[test]
    fn the_least_likely_of_the_likely_stays() {
        let probabilities = [0.15, 0.5, 0.05, 0.3];
        assert_eq!(xtc(&probabilities, 0.1, 1), [0, 2]);
        assert_eq!(xtc(&probabilities, 0.2, 1), [0, 2, 3]);
        assert_eq!(xtc(&probabilities, 0.0, 1), [2]);
        let mut candidates = of(&probabilities);
        candidates.exclude_top_choices(0.1, 1);
        assert_probabilities(&candidates, &[(0, 0.75), (2, 0.25)]);
    }

    #[test]
    fn a_single_choice_stays() {
        assert_eq!(xtc(&[0.8, 0.15, 0.05], 0.2, 1), [0, 1, 2]);
        assert_eq!(xtc(&[0.5, 0.3, 0.2], 0.6, 1), [0, 1, 2]);
    }

    #[test]
    fn of_equals_the_last_stays_and_min_keep_holds() {
        assert_eq!(xtc(&[0.25; 4], 0.1, 1), [3]);
        assert_eq!(xtc(&[0.25; 4], 0.1, 2), [0, 1, 2, 3]);
    }
}
