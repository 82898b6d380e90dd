//! One score for each token of the vocabulary: finding the good ones, changing a few.
//!
//! A score is a logit: finite, or minus infinity where the token is forbidden. The two scans of the whole
//! vocabulary are here, in a form that compilers vectorise.

use super::SampleError;

/// Scores compared at once.
const LANES: usize = 16;

/// Scores between two looks at the maximum.
const BLOCK: usize = 64 * LANES;

/// The best token and its score, of equals the one with the lowest id. None where all are forbidden.
///
/// # Errors
///
/// A score is not a number, or plus infinity.
pub(super) fn best(scores: &[f32]) -> Result<Option<(u32, f32)>, SampleError> {
    let mut best = (0, f32::NEG_INFINITY);
    for (block, start) in scores.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        let (max, nan) = maximum(block);
        if nan || max == f32::INFINITY {
            return Err(unsound(block, start));
        }
        if max > best.1 {
            best = (start, max);
        }
    }
    let (start, max) = best;
    let within = scores.iter().skip(start).position(|&score| score == max);
    Ok(within.filter(|_| max.is_finite()).map(|within| ((start + within) as u32, max)))
}

/// The largest score, and whether one is not a number.
fn maximum(scores: &[f32]) -> (f32, bool) {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    let (lanes, rest) = scores.as_chunks::<LANES>();
    for lanes in lanes {
        for ((max, nan), &score) in max.iter_mut().zip(&mut nan).zip(lanes) {
            *max = if score > *max { score } else { *max };
            *nan |= u32::from(score.is_nan());
        }
    }
    let rest_nan = rest.iter().any(|score| score.is_nan());
    (max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max), rest_nan || nan != [0; LANES])
}

fn unsound(block: &[f32], start: usize) -> SampleError {
    let within = block.iter().position(|score| score.is_nan() || *score == f32::INFINITY).unwrap_or(0);
    let token = (start + within) as u32;
    match block[within].is_nan() {
        true => SampleError::NotANumber { token },
        false => SampleError::Infinite { token },
    }
}

/// Gives `take` each token whose score is `bar` or better, in the order of the ids. It answers with the bar
/// for those that follow.
pub(super) fn each_above(scores: &[f32], bar: f32, mut take: impl FnMut(u32, f32) -> f32) {
    let mut bar = bar;
    for (lanes, start) in scores.chunks(LANES).zip((0u32..).step_by(LANES)) {
        if !lanes.iter().fold(false, |any, &score| any | (score >= bar)) {
            continue;
        }
        for (&score, token) in lanes.iter().zip(start..) {
            if score >= bar {
                bar = take(token, score);
            }
        }
    }
}

/// Changes the score of a token. One that is forbidden stays so, and none becomes it: a score too large for
/// its type is the largest there is.
pub(super) fn change(scores: &mut [f32], token: u32, to: impl FnOnce(f32) -> f32) {
    if let Some(score) = scores.get_mut(token as usize)
        && score.is_finite()
    {
        *score = to(*score).clamp(f32::MIN, f32::MAX);
    }
}

pub(super) fn forbid(scores: &mut [f32], token: u32) {
    if let Some(score) = scores.get_mut(token as usize) {
        *score = f32::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn the_best_is_the_first_of_equals() {
        assert_eq!(best(&[1.0, 3.0, 2.0, 3.0]), Ok(Some((1, 3.0))));
        assert_eq!(best(&[-0.0, 0.0]).map(|best| best.map(|best| best.0)), Ok(Some(0)));
        assert_eq!(best(&[NO, -5.0, NO]), Ok(Some((1, -5.0))));
        assert_eq!(best(&[NO, NO]), Ok(None));
        assert_eq!(best(&[]), Ok(None));
        let mut long = vec![0.0; 3 * BLOCK + 7];
        long[2 * BLOCK + 5] = 1.0;
        long[3 * BLOCK + 6] = 1.0;
        assert_eq!(best(&long), Ok(Some((2 * BLOCK as u32 + 5, 1.0))));
    }

    #[test]
    fn what_is_no_logit_is_refused_and_named() {
        let mut scores = vec![0.0; BLOCK + 20];
        scores[BLOCK + 17] = f32::NAN;
        assert_eq!(best(&scores), Err(SampleError::NotANumber { token: BLOCK as u32 + 17 }));
        scores[BLOCK + 3] = f32::INFINITY;
        assert_eq!(best(&scores), Err(SampleError::Infinite { token: BLOCK as u32 + 3 }));
    }

    #[test]
    fn the_bar_can_rise() {
        let mut taken = Vec::new();
        each_above(&[1.0, 5.0, NO, 2.0, 5.0, 7.0], f32::MIN, |token, score| {
            taken.push(token);
            score
        });
        assert_eq!(taken, [0, 1, 4, 5]);
    }

    #[test]
    fn changes_forbid_nothing_and_allow_nothing() {
        let mut scores = [f32::MAX, f32::MIN, NO, 1.0];
        for token in 0..9 {
            change(&mut scores, token, |score| score * 2.0);
        }
        assert_eq!(scores, [f32::MAX, f32::MIN, NO, 2.0]);
        forbid(&mut scores, 3);
        forbid(&mut scores, 4);
        assert_eq!(scores, [f32::MAX, f32::MIN, NO, NO]);
    }

    proptest! {
        #[test]
        fn the_scans_are_the_plain_ones(
            scores in prop::collection::vec(prop_oneof![-3.0f32..3.0, Just(NO), any::<f32>()], 0..70),
            bar in -3.0f32..3.0,
        ) {
            let plain = |bar: f32| (0..).zip(&scores).filter(move |&(_, &score)| score >= bar);
            let mut above = Vec::new();
            each_above(&scores, bar, |token, _| {
                above.push(token);
                bar
            });
            prop_assert_eq!(above, plain(bar).map(|(token, _)| token).collect::<Vec<u32>>());
            match best(&scores) {
                Ok(Some((token, max))) => {
                    prop_assert!(scores.iter().all(|&score| score <= max));
                    prop_assert_eq!(plain(max).next(), Some((token, &scores[token as usize])));
                }
                Ok(None) => prop_assert!(scores.iter().all(|&score| score == NO)),
                Err(_) => prop_assert!(scores.iter().any(|&score| score.is_nan() || score == f32::INFINITY)),
            }
        }
    }
}
