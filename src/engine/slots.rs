//! The sequences of the cache, as requests use them: what each holds, who is using it, and which one suits
//! a new prompt best. Numbers only: carrying it out is the worker's.

use crate::graph::Seq;

/// A sequence, and the tokens that are in the cache for it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) seq: Seq,
    /// In the order of their positions, from 0 on.
    pub(super) tokens: Vec<u32>,
    pub(super) busy: bool,
    /// When it was last used; larger is later.
    used: u64,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

/// Where a new prompt goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The slot that takes it.
    pub(super) slot: usize,
    /// Another slot, whose beginning it shares.
    pub(super) copy_from: Option<usize>,
    /// Tokens of the prompt that are cached, in that slot or in this one.
    pub(super) n_cached: usize,
}

impl Slots {
    /// At most as many as a cache tells apart.
    pub(super) fn new(n: usize) -> Slots {
        let slot = |number| Some(Slot { seq: Seq::new(number)?, tokens: Vec::new(), busy: false, used: 0 });
        Slots { slots: (0..n.max(1)).map_while(slot).collect(), clock: 0 }
    }

    pub(super) fn get(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// The place for a prompt: a slot whose whole content it goes on with, or else the one least lately
    /// used, with what can be shared from elsewhere. `None` while all are busy.
    ///
    /// The last token of a prompt is never taken from the cache: its logits are needed.
    pub(super) fn choose(&self, prompt: &[u32]) -> Option<Choice> {
        let shared = |slot: &Slot| {
            let common = slot.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            common.min(prompt.len().saturating_sub(1))
        };
        let numbered = || self.slots.iter().enumerate();
        let (best, n_cached) =
            numbered().map(|(n, slot)| (n, shared(slot))).max_by_key(|(n, len)| (*len, usize::MAX - n))?;
        let goes_on = |slot: &Slot| n_cached > 0 && slot.tokens.len() <= n_cached + 1 && shared(slot) == n_cached;
        let idle = || numbered().filter(|(_, slot)| !slot.busy);
        if let Some((slot, _)) = idle().find(|(_, slot)| goes_on(slot)) {
            return Some(Choice { slot, copy_from: None, n_cached });
        }
        let (slot, _) = idle().min_by_key(|(_, slot)| (!slot.tokens.is_empty(), slot.used))?;
        let copy_from = (best != slot && n_cached > 0).then_some(best);
        Some(Choice { slot, copy_from, n_cached })
    }

    /// The slot that holds this beginning; of several the one that was used last. An empty one holds nothing.
    pub(super) fn holding(&self, beginning: &[u32]) -> Option<usize> {
        let holds = |slot: &Slot| !slot.tokens.is_empty() && slot.tokens.starts_with(beginning);
        let holding = self.slots.iter().enumerate().filter(|(_, slot)| holds(slot));
        holding.max_by_key(|(_, slot)| slot.used).map(|(number, _)| number)
    }

    pub(super) fn take(&mut self, slot: usize) {
        self.clock += 1;
        self.slots[slot].busy = true;
        self.slots[slot].used = self.clock;
    }

    pub(super) fn release(&mut self, slot: usize) {
        self.clock += 1;
        self.slots[slot].busy = false;
        self.slots[slot].used = self.clock;
    }

    /// The idle slot with tokens that was used least lately: what to forget when room is needed.
    pub(super) fn oldest_idle(&self) -> Option<usize> {
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy && !slot.tokens.is_empty());
        idle.min_by_key(|(_, slot)| slot.used).map(|(number, _)| number)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(contents: &[(&[u32], bool)]) -> Slots {
        let mut slots = Slots::new(contents.len());
        for (n, (tokens, busy)) in contents.iter().enumerate() {
            slots.take(n);
            if !busy {
                slots.release(n);
            }
            slots.get_mut(n).tokens = tokens.to_vec();
        }
        slots
    }

    fn choice(contents: &[(&[u32], bool)], prompt: &[u32]) -> Option<(usize, Option<usize>, usize)> {
        slots(contents).choose(prompt).map(|choice| (choice.slot, choice.copy_from, choice.n_cached))
    }

    #[test]
    fn a_conversation_goes_on_where_it_was() {
        let contents: &[(&[u32], bool)] = &[(&[1, 2, 3], false), (&[1, 9], false)];
        assert_eq!(choice(contents, &[1, 2, 3, 4]), Some((0, None, 3)));
        assert_eq!(choice(contents, &[1, 9, 9]), Some((1, None, 2)));
    }

    #[test]
    fn the_last_token_is_computed_again() {
        assert_eq!(choice(&[(&[1, 2, 3], false)], &[1, 2, 3]), Some((0, None, 2)));
        assert_eq!(choice(&[(&[1], false)], &[1]), Some((0, None, 0)));
    }

    #[test]
    fn a_common_beginning_is_shared_with_an_empty_slot() {
        let contents: &[(&[u32], bool)] = &[(&[1, 2, 3, 4], false), (&[], false)];
        assert_eq!(choice(contents, &[1, 2, 8]), Some((1, Some(0), 2)));
        // Also from one that is busy.
        let contents: &[(&[u32], bool)] = &[(&[1, 2, 3, 4], true), (&[7], false)];
        assert_eq!(choice(contents, &[1, 2, 8]), Some((1, Some(0), 2)));
    }

    #[test]
    fn without_another_slot_the_beginning_is_kept_in_place() {
        assert_eq!(choice(&[(&[1, 2, 3, 4], false)], &[1, 2, 8]), Some((0, None, 2)));
    }

    #[test]
    fn the_least_lately_used_makes_room() {
        assert_eq!(choice(&[(&[5], false), (&[6], false)], &[1]), Some((0, None, 0)));
        assert_eq!(choice(&[(&[5], true), (&[6], true)], &[1]), None);
        assert_eq!(slots(&[(&[5], true), (&[], false), (&[6], false)]).oldest_idle(), Some(2));
    }

    #[test]
    fn the_last_used_of_those_that_hold_a_beginning() {
        let slots = slots(&[(&[1, 2, 3], false), (&[1, 2], false), (&[7], true)]);
        assert_eq!(
            [&[1, 2, 3][..], &[1, 2], &[7], &[1, 3]].map(|tokens| slots.holding(tokens)),
            [Some(0), Some(1), Some(2), None]
        );
    }
}
