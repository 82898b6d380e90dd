//! Means with their errors, and quantiles.

/// A number and how far off it may be: one standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// NaN where a single value tells nothing of it.
    pub error: f64,
}

impl Estimate {
    /// e to the power of it.
    pub fn exp(self) -> Estimate {
        let value = self.value.exp();
        Estimate { value, error: value * self.error }
    }

    /// Its square root.
    pub fn sqrt(self) -> Estimate {
        let value = self.value.sqrt();
        Estimate { value, error: if value > 0.0 { 0.5 / value * self.error } else { 0.0 } }
    }

    /// A share of `n` cases, of which `n_hits` were hits.
    pub fn share(n_hits: usize, n: usize) -> Estimate {
        let value = n_hits as f64 / n as f64;
        Estimate { value, error: (value * (1.0 - value) / (n as f64 - 1.0)).sqrt() }
    }
}

/// Values of one kind, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        self.0.extend(values);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mean, and its error √((E\[x²\] − E\[x\]²) / (n − 1)).
    pub fn mean(&self) -> Estimate {
        let n = self.len() as f64;
        let value = self.0.iter().sum::<f64>() / n;
        // As the mean square of the deviations: the difference of the two would lose digits.
        let variance = self.0.iter().map(|x| (x - value) * (x - value)).sum::<f64>() / n;
        Estimate { value, error: (variance / (n - 1.0)).sqrt() }
    }

    /// The perplexity, where the values are negative log-likelihoods.
    pub fn perplexity(&self) -> Estimate {
        self.mean().exp()
    }

    /// The values in ascending order.
    pub fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Sample {
        Sample(values.into_iter().collect())
    }
}

/// The value below which `fraction` of the ascending values lie, between two of them in proportion.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let at = fraction.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (at as usize, at.fract());
    match (sorted.get(below), sorted.get(below + 1)) {
        (Some(low), Some(high)) => low + part * (high - low),
        (Some(last), None) => *last,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn means_and_errors_by_hand() {
        // Mean 2, mean square 5, variance 1; the error of four values is √(1/3).
        let mean = Sample::from_iter([1.0, 1.0, 3.0, 3.0]).mean();
        assert!(is_near(mean.value, 2.0) && is_near(mean.error, (1f64 / 3.0).sqrt()), "{mean:?}");
        let perplexity = mean.exp();
        assert!(is_near(perplexity.value, 2f64.exp()) && is_near(perplexity.error, 2f64.exp() / 3f64.sqrt()));
        let root = Estimate { value: 4.0, error: 1.0 }.sqrt();
        assert!(is_near(root.value, 2.0) && is_near(root.error, 0.25));
        assert_eq!(Estimate { value: 0.0, error: 0.0 }.sqrt(), Estimate { value: 0.0, error: 0.0 });
    }

    #[test]
    fn shares_by_hand() {
        let share = Estimate::share(3, 4);
        assert!(is_near(share.value, 0.75) && is_near(share.error, 0.25), "{share:?}");
        assert_eq!(Estimate::share(5, 5), Estimate { value: 1.0, error: 0.0 });
    }

    #[test]
    fn one_value_has_no_error() {
        let mean = Sample::from_iter([2.5]).mean();
        assert!(is_near(mean.value, 2.5) && mean.error.is_nan());
    }

    #[test]
    fn the_error_is_that_of_the_sums_of_squares() {
        let values: Vec<f64> = (0..1000).map(|n| f64::from(n * 7919 % 1009) / 100.0).collect();
        let n = values.len() as f64;
        let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        let mean = Sample::from_iter(values).mean();
        assert!(is_near(mean.value, sum / n));
        assert!(is_near(mean.error, ((squares / n - (sum / n) * (sum / n)) / (n - 1.0)).sqrt()));
    }

    #[test]
    fn quantiles_lie_between_values() {
        let sorted = Sample::from_iter([4.0, 1.0, 3.0, 2.0]).sorted();
        assert_eq!(sorted, [1.0, 2.0, 3.0, 4.0]);
        for (fraction, expected) in [(0.0, 1.0), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            assert!(is_near(quantile(&sorted, fraction), expected), "{fraction}");
        }
        assert!(is_near(quantile(&[7.0], 0.99), 7.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
