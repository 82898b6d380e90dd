//! Which cell of the cache holds which token of which sequences. Numbers only: the cells' contents are
//! `cache`'s.
//!
//! A cell belongs to one position and to any number of sequences, so that sequences with a common beginning
//! share it. A cell of no sequence is free, whatever it holds. A cell whose numbers were none is bad, until
//! it is free: what is computed from it is worth nothing.

use std::ops::Range;

/// A sequence of tokens, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(u8);

impl Seq {
    /// Sequences that a cache can tell apart.
    pub const MAX: usize = u64::BITS as usize;
    pub const FIRST: Seq = Seq(0);

    pub fn new(number: usize) -> Option<Seq> {
        u8::try_from(number).ok().filter(|n| usize::from(*n) < Self::MAX).map(Seq)
    }

    pub fn number(self) -> usize {
        self.0.into()
    }

    fn bit(self) -> u64 {
        1 << self.0
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    position: i32,
    /// The first layer in which it held numbers that were none.
    bad_from: Option<u16>,
    /// A bit for each sequence.
    seqs: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Cells {
    cells: Vec<Cell>,
    /// Behind the last cell that is not free.
    end: usize,
    n_free: usize,
    n_bad: usize,
}

impl Cells {
    pub(super) fn new(n: usize) -> Cells {
        Cells { cells: vec![Cell::default(); n], end: 0, n_free: n, n_bad: 0 }
    }

    pub(super) fn n_free(&self) -> usize {
        self.n_free
    }

    /// Behind the last cell that is not free.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The first `n` free cells; `None` if there are fewer.
    pub(super) fn find_free(&self, n: usize) -> Option<Vec<usize>> {
        if n > self.n_free {
            return None;
        }
        let free = self.cells.iter().enumerate().filter(|(_, cell)| cell.seqs == 0).map(|(index, _)| index);
        Some(free.take(n).collect())
    }

    /// Gives a free cell to a token.
    pub(super) fn place(&mut self, index: usize, seq: Seq, position: i32) {
        self.set(index, Cell { position, bad_from: None, seqs: seq.bit() });
    }

    /// Frees the cells, for all sequences.
    pub(super) fn free(&mut self, indices: &[usize]) {
        indices.iter().for_each(|&index| self.set(index, Cell::default()));
    }

    /// Takes the positions from the sequence.
    pub(super) fn remove(&mut self, seq: Seq, positions: Range<i32>) {
        for index in 0..self.end {
            let cell = self.cells[index];
            let seqs = cell.seqs & !seq.bit();
            if positions.contains(&cell.position) && seqs != cell.seqs {
                self.set(index, if seqs == 0 { Cell::default() } else { Cell { seqs, ..cell } });
            }
        }
    }

    /// Gives the positions of one sequence to another too. What the other has there already is freed.
    pub(super) fn copy(&mut self, from: Seq, to: Seq, positions: Range<i32>) {
        if from == to {
            return;
        }
        self.remove(to, positions.clone());
        for cell in self.cells.iter_mut().take(self.end) {
            if cell.seqs & from.bit() != 0 && positions.contains(&cell.position) {
                cell.seqs |= to.bit();
            }
        }
    }

    /// The cells of a sequence, as (index, position), in no order.
    pub(super) fn of(&self, seq: Seq) -> impl Iterator<Item = (usize, i32)> {
        let cells = self.cells.iter().enumerate().take(self.end);
        cells.filter(move |(_, cell)| cell.seqs & seq.bit() != 0).map(|(index, cell)| (index, cell.position))
    }

    /// Calls `visible` for each cell below `n` that a token of the sequence sees from its position.
    pub(super) fn for_visible(&self, seq: Seq, position: i32, n: usize, mut visible: impl FnMut(usize)) {
        for (index, cell) in self.cells.iter().take(n.min(self.end)).enumerate() {
            if cell.seqs & seq.bit() != 0 && cell.position <= position {
                visible(index);
            }
        }
    }

    /// Notes that a cell held numbers that were none from this layer on, unless it is free.
    pub(super) fn set_bad(&mut self, index: usize, layer: usize) {
        if let Some(&cell) = self.cells.get(index).filter(|cell| cell.seqs != 0) {
            let layer = u16::try_from(layer).unwrap_or(u16::MAX);
            let first = cell.bad_from.map_or(layer, |first| first.min(layer));
            self.set(index, Cell { bad_from: Some(first), ..cell });
        }
    }

    /// From which layer on a token of the sequence sees numbers, from its position, that were none.
    pub(super) fn sees_bad(&self, seq: Seq, position: i32) -> Option<usize> {
        if self.n_bad == 0 {
            return None;
        }
        let mut first = None;
        self.for_visible(seq, position, self.end, |index| {
            let bad_from = self.cells[index].bad_from;
            first = first.into_iter().chain(bad_from).min();
        });
        first.map(usize::from)
    }

    fn set(&mut self, index: usize, cell: Cell) {
        let old = std::mem::replace(&mut self.cells[index], cell);
        let was_free = old.seqs == 0;
        self.n_bad = self.n_bad + usize::from(cell.bad_from.is_some()) - usize::from(old.bad_from.is_some());
        match (was_free, cell.seqs == 0) {
            (true, false) => self.n_free -= 1,
            (false, true) => self.n_free += 1,
            _ => {}
        }
        if cell.seqs != 0 {
            self.end = self.end.max(index + 1);
        } else if index + 1 == self.end {
            self.end = self.cells[..index].iter().rposition(|cell| cell.seqs != 0).map_or(0, |last| last + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn seq(n: usize) -> Seq {
        Seq::new(n).unwrap()
    }

    #[test]
    fn sequences_share_cells_until_the_last_lets_go() {
        let mut cells = Cells::new(4);
        for (index, position) in [(0, 0), (1, 1), (2, 2)] {
            cells.place(index, seq(0), position);
        }
        cells.copy(seq(0), seq(1), 0..2);
        assert_eq!(cells.n_free(), 1);
        cells.remove(seq(0), 1..i32::MAX);
        assert_eq!((cells.n_free(), cells.end()), (2, 2));
        assert_eq!(cells.of(seq(0)).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(cells.of(seq(1)).collect::<Vec<_>>(), [(0, 0), (1, 1)]);
        assert_eq!(cells.find_free(2), Some(vec![2, 3]));
        assert_eq!(cells.find_free(3), None);
    }

    #[test]
    fn bad_cells_are_seen_by_those_that_share_them() {
        let mut cells = Cells::new(4);
        (0..3).for_each(|index| cells.place(index, seq(0), index as i32));
        cells.copy(seq(0), seq(1), 0..2);
        cells.set_bad(1, 7);
        cells.set_bad(1, 9);
        cells.set_bad(3, 0);
        let seen = |cells: &Cells, n, position| cells.sees_bad(seq(n), position);
        assert_eq!(
            (seen(&cells, 0, 0), seen(&cells, 0, 1), seen(&cells, 1, 5), seen(&cells, 2, 5)),
            (None, Some(7), Some(7), None)
        );
        cells.remove(seq(0), 0..9);
        assert_eq!((seen(&cells, 0, 5), seen(&cells, 1, 5)), (None, Some(7)));
        cells.remove(seq(1), 1..2);
        cells.place(1, seq(1), 1);
        assert_eq!((seen(&cells, 1, 5), cells.n_bad), (None, 0));
    }

    #[test]
    fn sixty_four_sequences() {
        assert_eq!(Seq::new(63).map(Seq::number), Some(63));
        assert_eq!(Seq::new(64), None);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Add(usize, u8),
        Remove(usize, i32, i32),
        Copy(usize, usize, i32, i32),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..3usize, 1..6u8).prop_map(|(seq, n)| Act::Add(seq, n)),
            (0..3usize, 0..12i32, 0..12i32).prop_map(|(seq, from, to)| Act::Remove(seq, from, to)),
            (0..3usize, 0..3usize, 0..12i32, 0..12i32).prop_map(|(a, b, from, to)| Act::Copy(a, b, from, to)),
        ]
    }

    proptest! {
        /// Against sets of tokens: each sequence sees its own tokens and no others, and no cell is lost.
        #[test]
        fn as_sets_of_tokens(acts in prop::collection::vec(act(), 0..40)) {
            let mut cells = Cells::new(24);
            let mut tokens: Vec<BTreeMap<i32, u32>> = vec![BTreeMap::new(); 3];
            let mut of_cell = [0; 24];
            let mut next = 0;
            for act in acts {
                match act {
                    Act::Add(n, count) => {
                        let Some(free) = cells.find_free(count.into()) else { continue };
                        for index in free {
                            let position = tokens[n].keys().next_back().map_or(0, |last| last + 1);
                            cells.place(index, seq(n), position);
                            tokens[n].insert(position, next);
                            of_cell[index] = next;
                            next += 1;
                        }
                    }
                    Act::Remove(n, from, to) => {
                        cells.remove(seq(n), from..to);
                        tokens[n].retain(|position, _| !(from..to).contains(position));
                    }
                    Act::Copy(a, b, from, to) if a != b => {
                        cells.copy(seq(a), seq(b), from..to);
                        tokens[b].retain(|position, _| !(from..to).contains(position));
                        let copied = tokens[a].clone();
                        tokens[b].extend(copied.into_iter().filter(|(position, _)| (from..to).contains(position)));
                    }
                    Act::Copy(..) => {}
                }
                for (n, expected) in tokens.iter().enumerate() {
                    let found: BTreeMap<i32, u32> =
                        cells.of(seq(n)).map(|(index, position)| (position, of_cell[index])).collect();
                    prop_assert_eq!(&found, expected);
                    let mut visible = BTreeSet::new();
                    cells.for_visible(seq(n), 5, 24, |index| { visible.insert(of_cell[index]); });
                    let before: BTreeSet<u32> = expected.range(..=5).map(|(_, token)| *token).collect();
                    prop_assert_eq!(visible, before);
                }
                let used: BTreeSet<u32> = tokens.iter().flat_map(|tokens| tokens.values().copied()).collect();
                prop_assert_eq!(cells.n_free(), 24 - used.len());
            }
        }
    }
}
