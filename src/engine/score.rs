//! How likely a token was, by the logits that it was picked from.

use super::request::Scored;

/// Scores the token `id`, and the `n_top` likeliest beside it. Logits are finite here.
pub(super) fn score(logits: &[f32], id: u32, n_top: usize) -> Scored {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - peak).exp()).sum();
    let norm = f64::from(peak) + sum.ln();
    let logprob = |logit: f32| (f64::from(logit) - norm) as f32;
    let mut ids: Vec<u32> = (0..u32::try_from(logits.len()).unwrap_or(u32::MAX)).collect();
    let logit_of = |id: u32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let likelier = |a: &u32, b: &u32| logit_of(*b).total_cmp(&logit_of(*a)).then(a.cmp(b));
    if n_top < ids.len() {
        ids.select_nth_unstable_by(n_top, likelier);
        ids.truncate(n_top);
    }
    ids.sort_unstable_by(likelier);
    let top = ids.into_iter().map(|id| (id, logprob(logit_of(id)))).collect();
    Scored { id, logprob: logprob(logit_of(id)), top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_equals_by_their_number() {
        let logits = [0.0, 2f32.ln(), 0.0, 4f32.ln()];
        let scored = score(&logits, 2, 3);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert_eq!(scored.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 1, 0]);
        assert!(near(scored.logprob, 0.125f32.ln()) && near(scored.top[0].1, 0.5f32.ln()), "{scored:?}");
        assert!(score(&logits, 0, 0).top.is_empty());
        assert_eq!(score(&logits, 0, 9).top.len(), 4);
    }
}
