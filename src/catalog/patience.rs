//! How long to try again what fails.

use std::time::Duration;

/// Pauses that grow, until there have been enough of them without success between.
#[derive(Debug)]
pub(super) struct Patience {
    n_failures: u32,
    max_failures: u32,
}

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// What a server asks for is granted up to here.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

impl Patience {
    /// For somebody who waits: about a second.
    pub(super) fn short() -> Patience {
        Patience { n_failures: 0, max_failures: 3 }
    }

    /// For what goes on over night: some five minutes.
    pub(super) fn long() -> Patience {
        Patience { n_failures: 0, max_failures: 16 }
    }

    /// Something went well.
    pub(super) fn renew(&mut self) {
        self.n_failures = 0;
    }

    /// How long to pause before the next attempt; `None`: no more attempts.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.n_failures += 1;
        if self.n_failures > self.max_failures {
            return None;
        }
        let own = FIRST.saturating_mul(1 << (self.n_failures - 1).min(16)).min(LONGEST);
        Some(asked.map_or(own, |asked| asked.clamp(FIRST, LONGEST_ASKED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut patience = Patience::long();
        let pauses: Vec<Duration> = std::iter::from_fn(|| patience.next(None)).collect();
        assert!(pauses.is_sorted() && pauses[0] == FIRST && pauses[15] == LONGEST, "{pauses:?}");
        let minutes = pauses.iter().sum::<Duration>().as_secs() / 60;
        assert!((4..8).contains(&minutes), "{minutes}");
        patience.renew();
        assert_eq!(patience.next(None), Some(FIRST));
        assert_eq!(patience.next(Some(Duration::from_secs(9))), Some(Duration::from_secs(9)));
        assert_eq!(patience.next(Some(Duration::MAX)), Some(LONGEST_ASKED));
        assert_eq!(Patience::short().next(Some(Duration::ZERO)), Some(FIRST));
    }
}
