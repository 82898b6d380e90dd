//! What several measurements of the same thing say.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    /// Standard deviation of the sample; 0 for a single one.
    pub sd: f64,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` where nothing was measured.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
        let sd = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        Some(Spread { mean, sd, median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_deviation_median_and_ends() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 5.0]).unwrap();
        assert_eq!(spread, Spread { mean: 3.0, sd: (10.0f64 / 3.0).sqrt(), median: 3.0, min: 1.0, max: 5.0 });
        assert_eq!(Spread::of(&[1.0, 9.0, 2.0]).unwrap().median, 2.0);
    }

    #[test]
    fn one_sample_does_not_deviate_and_none_is_none() {
        assert_eq!(Spread::of(&[7.0]), Some(Spread { mean: 7.0, sd: 0.0, median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
