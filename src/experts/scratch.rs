//! Memory that the nodes of a graph use one after the other.

use super::activation::Group;
use super::block::GROUP;
use super::team::Team;
use crate::ggml::Shared;
use std::cell::UnsafeCell;
use std::sync::atomic::AtomicU32;

/// Values for the threads of one node at a time.
pub(super) struct Buffer<T>(Box<[UnsafeCell<T>]>);

// SAFETY: what is in it is reached through `Shared` only, which asks for the same promises.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Buffer<T> {}

impl<T: Clone> Buffer<T> {
    fn new(value: T, n: usize) -> Buffer<T> {
        Buffer(std::iter::repeat_with(|| UnsafeCell::new(value.clone())).take(n).collect())
    }

    #[allow(unsafe_code)]
    pub(super) fn shared(&self) -> Shared<'_, T> {
        // SAFETY: cells of `T` lie as `T`s do, and whoever reads or writes through it promises not to collide.
        unsafe { Shared::from_cells(&self.0) }
    }
}

/// The slots of an expert: tokens that chose it, in order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chosen {
    pub(super) expert: usize,
    /// The first slot.
    pub(super) first: usize,
    pub(super) n: usize,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Groups of activations that matrices are multiplied by.
    pub(super) n_x: usize,
    /// Groups between two matrices of an expert.
    pub(super) n_hidden: usize,
    /// Choices of experts, of all tokens.
    pub(super) n_slots: usize,
}

/// What all nodes of a graph share. ggml computes one node after the other, so that one node has it at a time.
pub(super) struct Scratch {
    pub(super) team: Team,
    pub(super) x: Buffer<Group>,
    /// Between two matrices of an expert, n_ff values a slot.
    pub(super) hidden: Buffer<f32>,
    pub(super) hidden_groups: Buffer<Group>,
    /// Of each group of each chosen expert, how many parts are computed.
    pub(super) done: Vec<AtomicU32>,
    pub(super) chosen: Buffer<Chosen>,
    /// Of each slot, its token and which of its experts.
    pub(super) slots: Buffer<(u32, u32)>,
    sizes: Sizes,
}

impl Scratch {
    pub(super) fn new(sizes: Sizes) -> Scratch {
        Scratch {
            team: Team::default(),
            x: Buffer::new(Group::ZERO, sizes.n_x),
            hidden: Buffer::new(0.0, sizes.n_hidden * GROUP),
            hidden_groups: Buffer::new(Group::ZERO, sizes.n_hidden),
            done: std::iter::repeat_with(AtomicU32::default).take(sizes.n_hidden).collect(),
            // One more tells how many there are.
            chosen: Buffer::new(Chosen::default(), sizes.n_slots + 1),
            slots: Buffer::new((0, 0), sizes.n_slots),
            sizes,
        }
    }

    /// Whether there is room for so many groups of activations, of hidden values, and slots.
    pub(super) fn fits(&self, n_x: usize, n_hidden: usize, n_slots: usize) -> bool {
        n_x <= self.sizes.n_x && n_hidden <= self.sizes.n_hidden && n_slots <= self.sizes.n_slots
    }
}
