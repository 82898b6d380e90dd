//! Activations as the kernels read them: whole numbers of eight bits with a scale for each 32.
//!
//! ggml's own paths take one scale for 256 values where the weights are of a K or IQ type; a scale for each 32
//! costs the kernels nothing, since they have to apply the weights' scales there anyway, and is nearer to the
//! numbers.

use super::block::{GROUP, SUB};
use crate::ggml::Shared;

/// Values that share a scale.
const SHARED: usize = 32;

/// 256 values of a row: value `i` is `d[i / 16] · q[i]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Group {
    /// From -127 to 127.
    pub(super) q: [i8; GROUP],
    /// One for 16 values, so that it lies as the weights' scales do; neighbours are equal.
    pub(super) d: [f32; GROUP / SUB],
    /// The sum of 16 values, as quantised.
    pub(super) sum: [f32; GROUP / SUB],
}

impl Group {
    pub(super) const ZERO: Group = Group { q: [0; GROUP], d: [0.0; GROUP / SUB], sum: [0.0; GROUP / SUB] };

    /// 32 of the values, times `weight`. What is not finite makes scale and sum NaN, so that it is not lost.
    pub(super) fn set(&mut self, part: usize, values: &[f32; SHARED], weight: f32) {
        let Group { q, d, sum } = self;
        let (q, _) = q.as_chunks_mut();
        let ((d, _), (sum, _)) = (d.as_chunks_mut(), sum.as_chunks_mut());
        set(&mut q[part], &mut d[part], &mut sum[part], values, weight);
    }

    /// [`Group::set`] for group `n`, of which only that part is borrowed.
    ///
    /// # Safety
    /// Nobody else uses that part of the group meanwhile.
    #[allow(unsafe_code)]
    pub(super) unsafe fn set_shared(
        groups: Shared<'_, Group>,
        n: usize,
        part: usize,
        values: &[f32; SHARED],
        weight: f32,
    ) {
        assert!(n < groups.len() && part < GROUP / SHARED);
        // SAFETY: within the group, and nobody else's.
        unsafe {
            let group = groups.as_ptr().add(n);
            set(
                &mut *(&raw mut (*group).q).cast::<[i8; SHARED]>().add(part),
                &mut *(&raw mut (*group).d).cast::<[f32; 2]>().add(part),
                &mut *(&raw mut (*group).sum).cast::<[f32; 2]>().add(part),
                values,
                weight,
            );
        }
    }
}

fn set(q: &mut [i8; SHARED], d: &mut [f32; 2], sum: &mut [f32; 2], values: &[f32; SHARED], weight: f32) {
    let largest = values.iter().fold(0f32, |max, x| max.max(x.abs()));
    let is_finite = values.iter().fold(0f32, |all, x| all + x * 0.0) == 0.0;
    let scale = if is_finite { largest / 127.0 } else { f32::NAN };
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (q, x) in q.iter_mut().zip(values) {
        // To the nearest, by adding what leaves no place for a fraction.
        const ROUND: f32 = 12_582_912.0;
        *q = ((x * inverse + ROUND) - ROUND) as i8;
    }
    for ((d, sum), q) in d.iter_mut().zip(sum).zip(q.chunks_exact(SUB)) {
        let total: i32 = q.iter().map(|q| i32::from(*q)).sum();
        *d = scale * weight;
        *sum = scale * weight * total as f32;
    }
}

/// Quantises a row; `groups` has room for it.
pub(super) fn quantize(values: &[f32], groups: &mut [Group]) {
    let (parts, _) = values.as_chunks::<SHARED>();
    for (group, parts) in groups.iter_mut().zip(parts.chunks(GROUP / SHARED)) {
        parts.iter().enumerate().for_each(|(n, values)| group.set(n, values, 1.0));
    }
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
    fn values_are_kept_to_half_a_step() {
        let values: Vec<f32> = noise(3, 2 * GROUP).iter().zip(0..).map(|(x, n)| x * (1 + n / 32) as f32).collect();
        let mut groups = [Group::ZERO; 2];
        quantize(&values, &mut groups);
        for (n, value) in values.iter().enumerate() {
            let group = &groups[n / GROUP];
            let d = group.d[n % GROUP / SUB];
            let found = d * f32::from(group.q[n % GROUP]);
            assert!((found - value).abs() <= 0.5001 * d, "{n}: {found}, not {value}");
            assert!(d <= (1 + n / 32) as f32 / 127.0);
        }
        for group in &groups {
            for (n, q) in group.q.chunks(SUB).enumerate() {
                let sum: f32 = q.iter().map(|q| f32::from(*q) * group.d[n]).sum();
                assert!((sum - group.sum[n]).abs() <= 1e-4 * sum.abs().max(1.0));
            }
        }
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut group = Group { q: [7; GROUP], d: [1.0; GROUP / SUB], sum: [1.0; GROUP / SUB] };
        group.set(0, &[0.0; SHARED], 1.0);
        assert_eq!((group.q[..SHARED].to_vec(), group.d[0], group.sum[1]), (vec![0; SHARED], 0.0, 0.0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; SHARED];
            values[5] = bad;
            group.set(1, &values, 1.0);
            assert!(group.d[2].is_nan() && group.sum[3].is_nan(), "{bad}");
        }
        assert_eq!(group.d[4], 1.0);
    }

    #[test]
    fn a_weight_is_part_of_the_scale() {
        let mut group = Group::ZERO;
        group.set(7, &[2.0; SHARED], -3.0);
        assert_eq!(group.q[255], 127);
        assert!((group.d[15] * 127.0 + 6.0).abs() < 1e-6 && (group.sum[15] + 96.0).abs() < 1e-4);
    }
}
