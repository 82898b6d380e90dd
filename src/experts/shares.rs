//! Who computes which of the experts that a step needs: those that many tokens chose are worth their way to a GPU,
//! those of few the CPU has done meanwhile.

use crate::ggml::OutOfMemory;

/// How the experts of a layer are shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shares {
    /// So many of those that a step needs are sent to the GPU, those with most tokens first.
    Fixed(usize),
    /// As many as take the least time.
    Balanced(Costs),
}

/// What an expert costs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// To send it over the bus.
    pub send: f64,
    /// What the CPU takes for one, by [`LOADS`].
    pub cpu: [f64; LOADS.len()],
    /// To read it from RAM, whoever does.
    pub ram: f64,
}

/// Tokens of an expert for which it is said what the CPU takes.
pub const LOADS: [u32; 4] = [1, 4, 16, 64];

impl Costs {
    /// Where the CPU takes `read` to read an expert, and at least `token` for each of its tokens.
    pub fn new(send: f64, read: f64, token: f64, ram: f64) -> Costs {
        Costs { send, cpu: LOADS.map(|load| read.max(f64::from(load) * token)), ram }
    }

    /// What the CPU takes for an expert of so many tokens: on the line through what is said of fewer and more.
    fn of_cpu(&self, tokens: u32) -> f64 {
        let above = LOADS.iter().position(|load| *load > tokens).unwrap_or(LOADS.len()).clamp(1, LOADS.len() - 1);
        let [from, to] = [above - 1, above].map(|n| (f64::from(LOADS[n]), self.cpu[n]));
        from.1 + (f64::from(tokens) - from.0) * (to.1 - from.1) / (to.0 - from.0)
    }
}

impl Shares {
    /// How many of the experts, most tokens first, are sent.
    fn n_sent(self, tokens: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator) -> usize {
        let n = tokens.len();
        let costs = match self {
            Shares::Fixed(n_sent) => return n_sent.min(n),
            Shares::Balanced(costs) => costs,
        };
        // From the last one on, which the CPU takes first.
        let (mut best, mut least, mut computed) = (n, n as f64 * costs.send, 0.0);
        for (n_sent, tokens) in (0..n).rev().zip(tokens.rev()) {
            computed += costs.of_cpu(tokens);
            // Both read the same memory.
            let all = computed.max(n_sent as f64 * costs.send).max(n as f64 * costs.ram);
            if all <= least {
                (best, least) = (n_sent, all);
            }
        }
        best
    }
}

/// The shares of one step in one layer.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Of each expert the tokens that chose it.
    tokens: Vec<u32>,
    /// Those that are needed, most tokens first.
    needed: Vec<u32>,
    /// Of each expert the slot that it is sent to.
    slots: Vec<Option<u32>>,
    /// Experts that are to be sent, ascending: in the order of their slots.
    sent: Vec<u32>,
    /// Whether the slots are the experts' own numbers.
    is_whole: bool,
}

impl Split {
    pub(super) fn new(n_expert: usize) -> Result<Split, OutOfMemory> {
        let mut split = Split::default();
        let bytes = n_expert.saturating_mul(20);
        let has_room = split.tokens.try_reserve_exact(n_expert).is_ok()
            && split.needed.try_reserve_exact(n_expert).is_ok()
            && split.slots.try_reserve_exact(n_expert).is_ok()
            && split.sent.try_reserve_exact(n_expert).is_ok();
        if !has_room {
            return Err(OutOfMemory { bytes });
        }
        split.tokens.resize(n_expert, 0);
        split.slots.resize(n_expert, None);
        Ok(split)
    }

    /// Shares out the experts that `ids` name. At least one stays, so that there is something to wait for, and no more
    /// are sent than there are slots. With `there` all experts have slots, and so many of them, the first, are sent.
    pub(super) fn share(
        &mut self,
        ids: impl Iterator<Item = i32>,
        shares: Shares,
        n_slots: usize,
        there: Option<usize>,
    ) {
        self.tokens.fill(0);
        self.slots.fill(None);
        for id in ids {
            if let Some(n) = usize::try_from(id).ok().and_then(|id| self.tokens.get_mut(id)) {
                *n += 1;
            }
        }
        let Split { tokens, needed, slots, sent, is_whole } = self;
        *is_whole = there.is_some();
        needed.clear();
        needed.extend((0..).zip(&*tokens).filter(|(_, n)| **n > 0).map(|(id, _)| id));
        let of = |id: &u32| tokens[*id as usize];
        let is_there = |id: &u32| there.is_some_and(|there| (*id as usize) < there);
        needed.sort_by_key(|id| (!is_there(id), std::cmp::Reverse(of(id))));
        let (have, lack) = needed.split_at(needed.partition_point(is_there));
        let n_lacking = shares.n_sent(lack.iter().map(of)).min(n_slots);
        let n_sent = (have.len() + n_lacking).min(needed.len().saturating_sub(1));
        sent.clear();
        sent.extend(&needed[..n_sent]);
        sent.sort_unstable();
        for (slot, id) in (0..).zip(&*sent) {
            slots[*id as usize] = Some(if *is_whole { *id } else { slot });
        }
        sent.retain(|id| !is_there(id));
    }

    /// The slot of an expert that is sent.
    pub(super) fn slot(&self, id: i32) -> Option<u32> {
        usize::try_from(id).ok().and_then(|id| self.slots.get(id).copied().flatten())
    }

    /// What is to be sent, where it follows each other in memory and in slots: (first slot, first expert, how many).
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut slot = 0;
        self.sent.chunk_by(|a, b| a + 1 == *b).map(move |run| {
            let (first, expert) = (slot, run[0] as usize);
            slot += run.len();
            (if self.is_whole { expert } else { first }, expert, run.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(ids: &[i32], shares: Shares, n_slots: usize) -> Split {
        let mut split = Split::new(16).unwrap();
        // What was there before does not matter.
        split.share([1, 1, 2, 14].into_iter(), Shares::Fixed(3), 16, Some(2));
        split.share(ids.iter().copied(), shares, n_slots, None);
        split
    }

    #[test]
    fn what_is_there_need_not_be_sent() {
        let mut split = Split::new(16).unwrap();
        let ids = [5, 5, 5, 4, 4, 9, 9, 3, 12];
        split.share(ids.into_iter(), Shares::Fixed(1), 16, Some(5));
        assert_eq!(split.runs().collect::<Vec<_>>(), [(5, 5, 1)], "of three that are not there");
        assert_eq!([3, 4, 5, 9, 12].map(|id| split.slot(id)), [Some(3), Some(4), Some(5), None, None]);
        // Of two of one token each the last stays.
        split.share(ids.into_iter(), Shares::Fixed(9), 16, Some(16));
        assert_eq!(split.runs().count(), 0);
        assert_eq!([3, 4, 5, 9, 12].map(|id| split.slot(id)), [Some(3), Some(4), Some(5), Some(9), None]);
    }

    #[test]
    fn those_of_many_tokens_are_sent_in_runs() {
        let ids = [5, 5, 5, 4, 4, 9, 9, 3, 12];
        let split = split(&ids, Shares::Fixed(3), 16);
        assert_eq!(split.sent, [4, 5, 9]);
        assert_eq!(split.runs().collect::<Vec<_>>(), [(0, 4, 2), (2, 9, 1)]);
        assert_eq!([4, 5, 9].map(|id| split.slot(id)), [Some(0), Some(1), Some(2)]);
        assert_eq!([3, 12, 1, -1, 99].map(|id| split.slot(id)), [None; 5]);
    }

    #[test]
    fn one_stays_and_slots_are_enough() {
        let ids = [1, 2, 3, 4];
        assert_eq!(split(&ids, Shares::Fixed(9), 16).sent.len(), 3);
        assert_eq!(split(&ids, Shares::Fixed(9), 2).sent.len(), 2);
        assert_eq!(split(&ids, Shares::Fixed(0), 2).sent.len(), 0);
        assert!(split(&[], Shares::Fixed(9), 16).sent.is_empty());
    }

    #[test]
    fn the_slower_side_is_as_fast_as_can_be() {
        let costs = Costs::new(1.0, 1.0, 0.1, 0.0);
        let n_sent = |costs, tokens: &[u32]| Shares::Balanced(costs).n_sent(tokens.iter().copied());
        assert_eq!(n_sent(costs, &[1; 8]), 4);
        assert_eq!(n_sent(Costs { send: 3.0, ..costs }, &[1; 8]), 2);
        // An expert of 40 tokens takes the CPU 4 s, so that it is worth the way.
        assert_eq!(n_sent(costs, &[40, 40, 1, 1]), 2);
        assert_eq!(n_sent(Costs { send: 100.0, ..costs }, &[40, 40, 1, 1]), 0);
        // Where RAM gives no more to both, the CPU alone does.
        assert_eq!(n_sent(Costs { ram: 1.0, ..costs }, &[1; 8]), 0);
        assert_eq!(n_sent(costs, &[]), 0);
        // As good as any other choice.
        let tokens = [31, 17, 9, 9, 8, 4, 2, 1, 1, 1];
        for send in [0.1, 0.5, 1.0, 2.0, 5.0] {
            let costs = Costs { send, ..costs };
            let time = |n: usize| tokens[n..].iter().map(|t| costs.of_cpu(*t)).sum::<f64>().max(n as f64 * send);
            let best = (0..=tokens.len()).map(time).fold(f64::INFINITY, f64::min);
            assert!((time(n_sent(costs, &tokens)) - best).abs() < 1e-9, "{send}");
        }
    }

    #[test]
    fn between_and_beyond_what_is_said_costs_go_straight() {
        let costs = Costs { send: 0.0, cpu: [1.0, 4.0, 10.0, 58.0], ram: 0.0 };
        let found = [1, 2, 4, 10, 16, 40, 64, 128].map(|tokens| costs.of_cpu(tokens));
        assert_eq!(found, [1.0, 2.0, 4.0, 7.0, 10.0, 34.0, 58.0, 122.0]);
    }
}
