//! How the tokens of one step are shared among requests. Numbers only.

/// What each gets of `room` tokens, where each wants so many: who wants little gets it, and the others get equal
/// parts of the rest. So no answer, and no short prompt, waits for a long prompt. Of equals the first goes first.
pub(super) fn shares(wanted: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<(usize, usize)> = wanted.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, wanted)| *wanted);
    let mut shares = vec![0; wanted.len()];
    let (mut room, mut n_left) = (room, order.len());
    for (at, wanted) in order {
        let share = wanted.min((room / n_left).max(1)).min(room);
        shares[at] = share;
        room -= share;
        n_left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_little_gets_it() {
        assert_eq!(shares(&[16_000, 1, 20, 1], 512), [490, 1, 20, 1]);
        assert_eq!(shares(&[5000, 300, 5000], 512), [171, 170, 171]);
        assert_eq!(shares(&[3, 4], 512), [3, 4]);
        assert!(shares(&[], 512).is_empty());
    }

    #[test]
    fn what_is_short_goes_to_the_first() {
        assert_eq!(shares(&[9, 9, 9], 2), [1, 1, 0]);
        assert_eq!(shares(&[9, 1], 0), [0, 0]);
        assert_eq!(shares(&[100, 1], 2), [1, 1]);
    }
}
