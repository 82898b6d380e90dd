//! Activations as the kernels read them: groups of 256 whole numbers of eight bits with one scale, as ggml's Q8_K,
//! in the order in which a type of weights comes out of its bits.

use super::block::{GROUP, SUB};

/// Runs of 16 in a group.
pub(super) const SUBS: usize = GROUP / SUB;

/// Where the runs of 16 values lie. Weights that are unpacked with few steps come out of order, and it costs nothing
/// to have the activations in the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Natural,
    /// Two runs of the first 128 values, two of the second, and so on: Q2_K, Q3_K.
    Halves,
    /// Two runs of the first 64 of 128, two of the second 64, then the same for the others of both: Q4_K, Q5_K.
    Pairs,
    /// The even ones of eight runs, then the odd ones: IQ4_XS.
    Lanes,
}

impl Order {
    /// The run that lies at each place.
    pub(super) const fn runs(self) -> [usize; SUBS] {
        match self {
            Order::Natural => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            Order::Halves => [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15],
            Order::Pairs => [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15],
            Order::Lanes => [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15],
        }
    }
}

/// 256 values of a row: `d · q`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Group {
    /// From -127 to 127.
    pub(super) q: [i8; GROUP],
    /// The sum of each run of `q`, in order.
    pub(super) sums: [i16; SUBS],
    pub(super) float_sums: [f32; SUBS],
    pub(super) d: f32,
}

impl Group {
    pub(super) const ZERO: Group = Group { q: [0; GROUP], sums: [0; SUBS], float_sums: [0.0; SUBS], d: 0.0 };

    /// Quantises values. What is not finite makes the scale NaN, so that it is not lost.
    pub(super) fn set(&mut self, values: &[f32; GROUP], order: Order) {
        let largest = values.iter().fold(0f32, |max, x| max.max(x.abs()));
        let is_finite = values.iter().fold(0f32, |all, x| all + x * 0.0) == 0.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let (runs, _) = values.as_chunks::<SUB>();
        for (place, run) in order.runs().into_iter().enumerate() {
            let q = &mut self.q[SUB * place..][..SUB];
            for (q, x) in q.iter_mut().zip(&runs[run]) {
                // To the nearest, by adding what leaves no place for a fraction.
                const ROUND: f32 = 12_582_912.0;
                *q = ((x * inverse + ROUND) - ROUND) as i8;
            }
            let sum: i16 = q.iter().map(|q| i16::from(*q)).sum();
            (self.sums[run], self.float_sums[run]) = (sum, f32::from(sum));
        }
        self.d = if is_finite { largest / 127.0 } else { f32::NAN };
    }
}

/// Quantises a row; `groups` has room for it.
pub(super) fn quantize(values: &[f32], order: Order, groups: &mut [Group]) {
    let (values, _) = values.as_chunks::<GROUP>();
    groups.iter_mut().zip(values).for_each(|(group, values)| group.set(values, order));
}

/// A row that weights are multiplied by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) groups: &'a [Group],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::testing::noise;

    #[test]
    fn values_are_kept_to_half_a_step_in_every_order() {
        for order in [Order::Natural, Order::Halves, Order::Pairs, Order::Lanes] {
            let mut seen = order.runs();
            seen.sort_unstable();
            assert_eq!(seen, Order::Natural.runs());
            let values = noise(3, 2 * GROUP);
            let mut groups = [Group::ZERO; 2];
            quantize(&values, order, &mut groups);
            for (n, group) in groups.iter().enumerate() {
                assert!(group.d > 0.0 && group.d <= 1.0 / 127.0);
                for (place, run) in order.runs().into_iter().enumerate() {
                    let q = &group.q[SUB * place..][..SUB];
                    for (q, value) in q.iter().zip(&values[n * GROUP + SUB * run..]) {
                        assert!((group.d * f32::from(*q) - value).abs() <= 0.5001 * group.d);
                    }
                    assert_eq!(q.iter().map(|q| i16::from(*q)).sum::<i16>(), group.sums[run]);
                    assert_eq!(f32::from(group.sums[run]), group.float_sums[run]);
                }
            }
        }
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut group = Group { q: [7; GROUP], sums: [1; SUBS], float_sums: [1.0; SUBS], d: 1.0 };
        group.set(&[0.0; GROUP], Order::Natural);
        assert_eq!((group.q, group.sums, group.d), ([0; GROUP], [0; SUBS], 0.0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; GROUP];
            values[5] = bad;
            group.set(&values, Order::Natural);
            assert!(group.d.is_nan(), "{bad}");
        }
    }
}
