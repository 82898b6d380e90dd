//! Memory that the nodes of a graph use one after the other.

use super::activation::Group;
use super::block::GROUP;
use super::gemm::{Pack, TILE_BYTES};
use super::many::TILES_OF_THREAD;
use super::team::Team;
use super::trace::Trace;
use crate::ggml::{OutOfMemory, Shared};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Values for the threads of one node at a time.
pub(super) struct Buffer<T>(Box<[UnsafeCell<T>]>);

// SAFETY: what is in it is reached through `Shared` only, which asks for the same promises.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Buffer<T> {}

impl<T: Clone> Buffer<T> {
    pub(super) fn new(value: T, n: usize) -> Result<Buffer<T>, OutOfMemory> {
        let mut cells = reserved(n)?;
        cells.extend(std::iter::repeat_with(|| UnsafeCell::new(value.clone())).take(n));
        Ok(Buffer(cells.into()))
    }

    #[allow(unsafe_code)]
    pub(super) fn shared(&self) -> Shared<'_, T> {
        // SAFETY: cells of `T` lie as `T`s do, and whoever reads or writes through it promises not to collide.
        unsafe { Shared::from_cells(&self.0) }
    }
}

/// An empty list with room for `n`.
fn reserved<T>(n: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(n).map_err(|_| OutOfMemory { bytes: n.saturating_mul(size_of::<T>()) })?;
    Ok(list)
}

/// The slots of an expert: tokens that chose it, in order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chosen {
    pub(super) expert: usize,
    /// The first slot.
    pub(super) first: usize,
    pub(super) n: usize,
    /// The first of its packs.
    pub(super) first_pack: usize,
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
    /// Tiles of packed activations, and of packed hidden values; if there are any, each thread has tiles too.
    pub(super) x_tiles: usize,
    pub(super) hidden_tiles: usize,
    pub(super) n_threads: usize,
}

impl Sizes {
    pub(super) fn n_bytes(self) -> usize {
        let groups = (self.n_x + self.n_hidden) * size_of::<Group>();
        let hidden = self.n_hidden * (GROUP * size_of::<f32>() + size_of::<AtomicU32>());
        let choices = (self.n_slots + 1) * size_of::<Chosen>() + self.n_slots * size_of::<(u32, u32)>();
        let tiles = self.x_tiles + self.hidden_tiles + self.tiles_of_threads();
        groups + hidden + choices + tiles * TILE_BYTES
    }

    fn tiles_of_threads(self) -> usize {
        if self.x_tiles > 0 { self.n_threads * TILES_OF_THREAD } else { 0 }
    }

    /// Whether there is as much of everything, but for threads.
    pub(super) fn holds(self, other: Sizes) -> bool {
        let pairs = [
            (self.n_x, other.n_x),
            (self.n_hidden, other.n_hidden),
            (self.n_slots, other.n_slots),
            (self.x_tiles, other.x_tiles),
            (self.hidden_tiles, other.hidden_tiles),
            (self.n_threads, other.n_threads),
        ];
        pairs.into_iter().all(|(has, needs)| has >= needs)
    }
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
    pub(super) x_pack: Pack,
    pub(super) hidden_pack: Pack,
    pub(super) tally: Arc<Tally>,
    pub(super) trace: Arc<Trace>,
    of_threads: Pack,
    sizes: Sizes,
}

/// How many experts layers needed.
#[derive(Default)]
pub(super) struct Tally {
    layers: AtomicU64,
    experts: AtomicU64,
}

impl Tally {
    pub(super) fn add(&self, n_experts: usize) {
        self.layers.fetch_add(1, Ordering::Relaxed);
        self.experts.fetch_add(n_experts as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> (u64, u64) {
        (self.layers.load(Ordering::Relaxed), self.experts.load(Ordering::Relaxed))
    }
}

impl Scratch {
    pub(super) fn new(sizes: Sizes, tally: Arc<Tally>, trace: Arc<Trace>) -> Result<Scratch, OutOfMemory> {
        let mut done = reserved(sizes.n_hidden)?;
        done.extend(std::iter::repeat_with(AtomicU32::default).take(sizes.n_hidden));
        Ok(Scratch {
            team: Team::default(),
            x: Buffer::new(Group::ZERO, sizes.n_x)?,
            hidden: Buffer::new(0.0, sizes.n_hidden * GROUP)?,
            hidden_groups: Buffer::new(Group::ZERO, sizes.n_hidden)?,
            done,
            // One more tells how many there are.
            chosen: Buffer::new(Chosen::default(), sizes.n_slots + 1)?,
            slots: Buffer::new((0, 0), sizes.n_slots)?,
            x_pack: Pack::new(sizes.x_tiles)?,
            hidden_pack: Pack::new(sizes.hidden_tiles)?,
            of_threads: Pack::new(sizes.tiles_of_threads())?,
            tally,
            trace,
            sizes,
        })
    }

    /// What a thread has to itself.
    pub(super) fn of_thread(&self, thread: usize) -> Shared<'_, [u32; TILE_BYTES / 4]> {
        self.of_threads.shared().part(thread * TILES_OF_THREAD..(thread + 1) * TILES_OF_THREAD)
    }

    /// What there is room for.
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }
}
