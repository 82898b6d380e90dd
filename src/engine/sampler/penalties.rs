//! The penalties on single tokens that occurred lately.
//!
//! The repetition penalty is CTRL's (Keskar et al., arXiv 1909.05858), with the division of positive logits
//! and the multiplication of negative ones that became customary; presence and frequency penalties are
//! those of OpenAI's interface. All three count over one window, prompt included.

use super::params::last_n;
use super::{SamplerParams, scores};
use std::collections::{HashMap, VecDeque};

#[derive(Debug, Clone)]
pub(super) struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// None is all of the context.
    last_n: Option<usize>,
    /// The tokens of the window, where it ends.
    recent: VecDeque<u32>,
    /// How often each token occurs in the window.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    /// None where they are off.
    pub(super) fn new(params: &SamplerParams) -> Option<Penalties> {
        let penalties = Penalties {
            repetition: params.repetition_penalty,
            presence: params.presence_penalty,
            frequency: params.frequency_penalty,
            last_n: last_n(params.penalty_last_n),
            recent: VecDeque::new(),
            counts: HashMap::new(),
        };
        let neutral = penalties.repetition == 1.0 && penalties.presence == 0.0 && penalties.frequency == 0.0;
        (!neutral && penalties.last_n != Some(0)).then_some(penalties)
    }

    pub(super) fn accept(&mut self, token: u32) {
        *self.counts.entry(token).or_default() += 1;
        let Some(last_n) = self.last_n else { return };
        self.recent.push_back(token);
        if self.recent.len() > last_n
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, token: u32) {
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
    }

    pub(super) fn apply(&self, scores: &mut [f32]) {
        for (&token, &count) in &self.counts {
            scores::change(scores, token, |score| {
                let less = if score > 0.0 { score / self.repetition } else { score * self.repetition };
                less - self.presence - self.frequency * count as f32
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalised(params: SamplerParams, history: &[u32], scores: &[f32]) -> Vec<f32> {
        let mut penalties = Penalties::new(&params).unwrap();
        history.iter().for_each(|&token| penalties.accept(token));
        let mut scores = scores.to_vec();
        penalties.apply(&mut scores);
        scores
    }

    #[test]
    fn repetition_divides_what_is_positive_and_multiplies_what_is_negative() {
        let params = SamplerParams { repetition_penalty: 2.0, ..Default::default() };
        assert_eq!(penalised(params, &[0, 1, 1], &[4.0, -4.0, 4.0, -4.0]), [2.0, -8.0, 4.0, -4.0]);
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time() {
        let params = SamplerParams { presence_penalty: 0.5, ..Default::default() };
        assert_eq!(penalised(params, &[1, 1, 1, 2], &[1.0; 4]), [1.0, 0.5, 0.5, 1.0]);
        let params = SamplerParams { frequency_penalty: 0.5, ..Default::default() };
        assert_eq!(penalised(params, &[1, 1, 1, 2], &[1.0; 4]), [1.0, -0.5, 0.5, 1.0]);
        let params = SamplerParams {
            repetition_penalty: 2.0,
            presence_penalty: 0.25,
            frequency_penalty: -1.0,
            ..Default::default()
        };
        assert_eq!(penalised(params, &[1, 1], &[1.0; 2]), [1.0, 0.5 - 0.25 + 2.0]);
    }

    #[test]
    fn the_window_moves() {
        let last_n = |n| SamplerParams { frequency_penalty: 1.0, penalty_last_n: n, ..Default::default() };
        let history = [1, 1, 2, 1, 3];
        assert_eq!(penalised(last_n(3), &history, &[0.0; 4]), [0.0, -1.0, -1.0, -1.0]);
        assert_eq!(penalised(last_n(4), &history, &[0.0; 4]), [0.0, -2.0, -1.0, -1.0]);
        assert_eq!(penalised(last_n(1), &history, &[0.0; 4]), [0.0, 0.0, 0.0, -1.0]);
        assert_eq!(penalised(last_n(-1), &history, &[0.0; 4]), [0.0, -3.0, -1.0, -1.0]);
    }

    #[test]
    fn neutral_penalties_are_none() {
        assert!(Penalties::new(&SamplerParams::default()).is_none());
        let params = SamplerParams { presence_penalty: 1.0, penalty_last_n: 0, ..Default::default() };
        assert!(Penalties::new(&params).is_none());
    }

    #[test]
    fn tokens_beyond_the_vocabulary_harm_nothing() {
        let params = SamplerParams { presence_penalty: 1.0, ..Default::default() };
        assert_eq!(penalised(params, &[u32::MAX, 0], &[1.0]), [0.0]);
    }
}
