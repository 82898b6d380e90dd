//! Which experts a token chooses, and how evenly many tokens use them.
//!
//! The rule is DeepSeek's, on plain floats, one token at a time: an estimate needs no speed. What the
//! router computed is given; where the tokens come from is not known here.

/// How a model's router chooses experts for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) experts: u32,
    /// Experts that a token uses.
    pub(super) used: u32,
    pub(super) scores: Scores,
    pub(super) groups: Option<Groups>,
}

/// What is made of the router's logits before the best are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scores {
    Softmax,
    /// And a bias is added, for the choice alone.
    Sigmoid,
}

/// Experts come in groups of one size, and only those of the best groups can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) count: u32,
    pub(super) used: u32,
    pub(super) score: GroupScore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupScore {
    Best,
    BestTwo,
}

impl Rule {
    /// The experts for a token with these logits; `bias` is empty or has one value an expert.
    pub(super) fn choose(&self, logits: &[f32], bias: &[f32]) -> Vec<usize> {
        let mut scores = self.scores.of(logits);
        scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        if let Some(groups) = self.groups {
            groups.leave_the_best(&mut scores);
        }
        best(&scores, self.used as usize)
    }
}

impl Scores {
    fn of(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Scores::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Scores::Softmax => {
                let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f32> = logits.iter().map(|x| (x - max).exp()).collect();
                let sum: f32 = powers.iter().sum();
                powers.into_iter().map(|power| power / sum).collect()
            }
        }
    }
}

impl Groups {
    /// Puts the experts of all other groups out of reach.
    fn leave_the_best(&self, scores: &mut [f32]) {
        let size = (scores.len() / self.count as usize).max(1);
        let group_score = |group: &[f32]| {
            let counted = match self.score {
                GroupScore::Best => 1,
                GroupScore::BestTwo => 2,
            };
            best(group, counted).into_iter().map(|expert| group[expert]).sum::<f32>()
        };
        let group_scores: Vec<f32> = scores.chunks(size).map(group_score).collect();
        let chosen = best(&group_scores, self.used as usize);
        let others = scores.chunks_mut(size).enumerate().filter(|(group, _)| !chosen.contains(group));
        others.for_each(|(_, scores)| scores.fill(f32::NEG_INFINITY));
    }
}

/// Where the `n` largest values are, the largest first.
fn best(values: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let larger_first = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]);
    if n < order.len() {
        order.select_nth_unstable_by(n, larger_first);
        order.truncate(n);
    }
    order.sort_unstable_by(larger_first);
    order
}

/// How often each expert of a layer was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uses(Vec<u64>);

impl Uses {
    pub(super) fn of(experts: u32, chosen: impl Iterator<Item = usize>) -> Uses {
        let mut uses = vec![0; experts as usize];
        chosen.for_each(|expert| uses[expert] += 1);
        Uses(uses)
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / self.0.len() as f64
    }

    /// Standard deviation over mean: 0 where all experts are used alike.
    pub(super) fn variation(&self) -> f64 {
        let mean = self.mean();
        let square = |n: &u64| (*n as f64 - mean) * (*n as f64 - mean);
        (self.0.iter().map(square).sum::<f64>() / self.0.len() as f64).sqrt() / mean
    }

    /// The share of all uses that the busiest tenth of the experts has.
    pub(super) fn busiest_tenth(&self) -> f64 {
        let mut uses = self.0.clone();
        uses.sort_unstable_by(|a, b| b.cmp(a));
        let tenth = self.0.len() as f64 / 10.0;
        // Of 256 experts, 25 and six tenths of the next.
        let part = |(place, n): (usize, &u64)| *n as f64 * (tenth - place as f64).clamp(0.0, 1.0);
        uses.iter().enumerate().map(part).sum::<f64>() / uses.iter().sum::<u64>() as f64
    }

    /// The uses of the expert that is used least, over the mean.
    pub(super) fn least(&self) -> f64 {
        self.0.iter().min().map_or(0.0, |n| *n as f64) / self.mean()
    }

    /// The uses of the expert that is used most, over the mean.
    pub(super) fn most(&self) -> f64 {
        self.0.iter().max().map_or(0.0, |n| *n as f64) / self.mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3_IN_SMALL: Rule = Rule {
        experts: 8,
        used: 2,
        scores: Scores::Sigmoid,
        groups: Some(Groups { count: 4, used: 2, score: GroupScore::BestTwo }),
    };

    #[test]
    fn the_best_of_the_best_groups_are_chosen() {
        // The best expert alone does not make its group one of the two best by their two best …
        let logits = [3.0, -3.0, 2.0, 1.0, 1.5, 1.2, -1.0, -1.0];
        assert_eq!(V3_IN_SMALL.choose(&logits, &[]), [2, 4]);
        // … but does by the best alone.
        let groups = Some(Groups { score: GroupScore::Best, ..V3_IN_SMALL.groups.unwrap() });
        assert_eq!(Rule { groups, ..V3_IN_SMALL }.choose(&logits, &[]), [0, 2]);
        let plain = Rule { groups: None, scores: Scores::Softmax, used: 3, ..V3_IN_SMALL };
        assert_eq!(plain.choose(&logits, &[]), [0, 2, 4]);
    }

    #[test]
    fn the_bias_is_added_to_the_sigmoids() {
        let logits = [0.0; 8];
        let mut bias = [0.0; 8];
        (bias[3], bias[6]) = (0.1, 0.2);
        assert_eq!(V3_IN_SMALL.choose(&logits, &bias), [6, 3]);
        // A logit of 2 beats one of 0 by 0.38, and no bias below that turns it.
        let logits = [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(V3_IN_SMALL.choose(&logits, &bias)[0], 0);
        bias[6] = 0.4;
        assert_eq!(V3_IN_SMALL.choose(&logits, &bias)[0], 6);
    }

    #[test]
    fn scores_are_probabilities() {
        assert_eq!(Scores::Softmax.of(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(Scores::Sigmoid.of(&[0.0, f32::INFINITY, f32::NEG_INFINITY]), [0.5, 1.0, 0.0]);
    }

    #[test]
    fn uses_are_summed_up() {
        let even = Uses::of(20, (0..20).chain(0..20));
        assert_eq!((even.variation(), even.least(), even.most()), (0.0, 1.0, 1.0));
        assert!((even.busiest_tenth() - 0.1).abs() < 1e-12);
        // One expert of twenty has half of all: 19 of 38.
        let skewed = Uses::of(20, (0..19).chain([19; 19]));
        assert!((skewed.busiest_tenth() - 20.0 / 38.0).abs() < 1e-12);
        assert_eq!((skewed.least(), skewed.most()), (1.0 / 1.9, 10.0));
        assert!((skewed.variation() - (18.0 * 18.0 * 0.05f64 * 0.95).sqrt() / 1.9).abs() < 1e-12);
        // A tenth of 15 is one expert and a half.
        let some = Uses::of(15, [0, 0, 1, 1, 2, 3].into_iter());
        assert!((some.busiest_tenth() - 0.5).abs() < 1e-12);
    }
}
