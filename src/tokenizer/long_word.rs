//! The merges of long words: a run of spaces or of letters can be one word of megabytes.
//!
//! The crate's heap of all pairs takes more than 10 s and 3 GB for 16 MiB of spaces. Here the pairs of
//! one rank wait together, so most are met in the order of memory. The result is the same: of all pairs
//! that merge, always the one of the lowest rank, of these the leftmost. Knows ids, no text.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// What becomes of two tokens that stand side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    pub(super) rank: u32,
    pub(super) made: u32,
}

/// By the two tokens. None of the three ids is `u32::MAX`.
pub(super) type Merges = HashMap<(u32, u32), Merge>;

/// No place, and the id of what was merged into the token before it.
const NONE: u32 = u32::MAX;

/// A word while it is merged: a list of tokens, linked both ways.
pub(super) struct LongWord<'m> {
    merges: &'m Merges,
    ids: Vec<u32>,
    next: Vec<u32>,
    before: Vec<u32>,
    /// By rank, where a pair that merges has come up. It may be gone by the time that it is its turn.
    pairs: BTreeMap<u32, Places>,
}

impl<'m> LongWord<'m> {
    /// `ids`: one for each byte; fewer than `u32::MAX`.
    pub(super) fn new(ids: Vec<u32>, merges: &'m Merges) -> LongWord<'m> {
        let places = 0..ids.len() as u32;
        let mut next: Vec<u32> = places.clone().map(|place| place + 1).collect();
        if let Some(last) = next.last_mut() {
            *last = NONE;
        }
        let before = places.clone().map(|place| place.wrapping_sub(1)).collect();
        let mut word = LongWord { merges, ids, next, before, pairs: BTreeMap::new() };
        places.for_each(|place| word.note(place));
        word
    }

    /// The tokens that are left when nothing merges any more.
    pub(super) fn merge(mut self) -> Vec<u32> {
        while let Some(mut lowest) = self.pairs.first_entry() {
            let rank = *lowest.key();
            match lowest.get_mut().pop() {
                Some(place) => self.merge_at(place, rank),
                None => _ = lowest.remove(),
            }
        }
        self.ids.retain(|&id| id != NONE);
        self.ids
    }

    /// What the token at `place` and the next would make.
    fn pair_at(&self, place: u32) -> Option<Merge> {
        let id = self.ids[place as usize];
        let next = *self.ids.get(self.next[place as usize] as usize)?;
        self.merges.get(&(id, next)).copied()
    }

    fn note(&mut self, place: u32) {
        if let Some(merge) = self.pair_at(place) {
            self.pairs.entry(merge.rank).or_default().push(place);
        }
    }

    /// Merges the pair at `place`, if it is still that of `rank`.
    fn merge_at(&mut self, place: u32, rank: u32) {
        let Some(merge) = self.pair_at(place).filter(|merge| merge.rank == rank) else { return };
        let gone = self.next[place as usize];
        let next = self.next[gone as usize];
        self.ids[place as usize] = merge.made;
        self.ids[gone as usize] = NONE;
        self.next[place as usize] = next;
        if let Some(before) = self.before.get_mut(next as usize) {
            *before = place;
        }
        let before = self.before[place as usize];
        if before != NONE {
            self.note(before);
        }
        self.note(place);
    }
}

/// Where the pairs of one rank begin, to be taken from the left.
#[derive(Default)]
struct Places {
    /// From the right once the first was taken.
    places: Vec<u32>,
    taken: bool,
    /// Those that came after that.
    late: BinaryHeap<Reverse<u32>>,
}

impl Places {
    fn push(&mut self, place: u32) {
        if self.taken {
            self.late.push(Reverse(place));
        } else {
            self.places.push(place);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        if !self.taken {
            // They came in a few ascending runs, which this sort makes use of.
            self.places.sort_by_key(|&place| Reverse(place));
            self.taken = true;
        }
        match (self.places.last(), self.late.peek()) {
            (Some(place), Some(Reverse(late))) if place < late => self.places.pop(),
            (_, Some(_)) => self.late.pop().map(|Reverse(late)| late),
            (_, None) => self.places.pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(ids: &[u32], merges: &[(u32, u32, u32)]) -> Vec<u32> {
        let merges = (0..).zip(merges).map(|(rank, &(left, right, made))| ((left, right), Merge { rank, made }));
        LongWord::new(ids.to_vec(), &merges.collect()).merge()
    }

    #[test]
    fn the_lowest_rank_goes_first_and_the_leftmost_of_equals() {
        assert!(merge(&[], &[]).is_empty());
        assert_eq!(merge(&[1], &[(1, 1, 2)]), [1]);
        assert_eq!(merge(&[1, 1, 1], &[(1, 1, 2)]), [2, 1]);
        assert_eq!(merge(&[1, 2, 3], &[(2, 3, 4), (1, 2, 5)]), [1, 4]);
        assert_eq!(merge(&[1, 2, 3], &[(2, 3, 4), (1, 4, 5)]), [5]);
    }

    #[test]
    fn a_lower_rank_that_comes_up_goes_before_the_rest() {
        // Of four 1s, the first two make a 2, whose pair with the third is of a lower rank.
        assert_eq!(merge(&[1, 1, 1, 1], &[(2, 1, 3), (1, 1, 2)]), [3, 1]);
        // A pair of the rank under way comes up to the left of those that wait.
        let merges = [(3, 1, 4), (2, 4, 5), (1, 2, 3), (4, 9, 1), (5, 9, 1)];
        assert_eq!(merge(&[1, 2, 1, 2, 1], &merges), [4, 2, 1]);
    }
}
