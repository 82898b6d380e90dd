//! Whether a model can be run in the memory that there is, before anything of it is taken.
//!
//! Weights lie in the page cache, which gives way: if they are more than there is room for, they are read from the
//! disk again and again, but everything works. Cache and intermediate results do not give way.

use super::Options;
use super::available_bytes;
use crate::gguf::Gguf;
use crate::graph::{self, CacheType, kernel_scratch_bytes, scratch_bytes};
use crate::model::Config;
use serde::{Deserialize, Serialize};

/// Bytes that a model takes, and bytes that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In files; the page cache holds what it has room for.
    pub weights: u64,
    /// What of them is copied to GPUs.
    pub on_gpus: u64,
    /// Keys and values, for the whole context.
    pub cache: u64,
    /// Intermediate results, at most.
    pub scratch: u64,
    /// Without swapping, and with the page cache given up; `None` where the system does not say.
    pub available: Option<u64>,
}

/// A context for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a context of {n_ctx} tokens needs {} MB of memory besides the weights, but {} MB can be had; {}",
    needed / 1_000_000,
    available / 1_000_000,
    match largest {
        Some(largest) => format!("the longest that fits is {largest} tokens (-c {largest})"),
        None => "no context is short enough".to_owned(),
    }
)]
pub struct NoRoom {
    pub n_ctx: usize,
    pub needed: u64,
    pub available: u64,
    pub largest: Option<usize>,
}

/// Weights for which there is no room, where they are to be in memory as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MB of weights do not fit into memory: {} MB are missing; mapped (without --no-mmap and --mlock) they are read \
     from the disk again and again, and `cachalot plan` says what would fit",
    weights / 1_000_000,
    missing.div_ceil(1_000_000),
)]
pub struct NoRoomForWeights {
    pub weights: u64,
    pub missing: u64,
}

impl Memory {
    pub(super) fn of(gguf: &Gguf, config: &Config, options: &graph::Options) -> Memory {
        Memory::sized(gguf, config, options, options.n_ctx, available_bytes())
    }

    fn sized(gguf: &Gguf, config: &Config, options: &graph::Options, n_ctx: usize, available: Option<u64>) -> Memory {
        let n_vocab = gguf.tensor("token_embd.weight").map_or(0, |tensor| tensor.info.shape.ne()[1]);
        let [n_ctx, n_batch] = [n_ctx, options.n_batch].map(|n| n as u64);
        Memory {
            weights: gguf.n_bytes(),
            on_gpus: on_gpus(gguf, config, options),
            cache: cache_in_ram(config, options, n_ctx),
            scratch: scratch_bytes(config, n_vocab, n_batch, n_ctx, options.flash_attention)
                + kernel_scratch_bytes(config, n_batch.min(n_ctx), options.n_threads),
            available,
        }
    }

    /// Bytes that do not give way.
    pub fn firm(&self) -> u64 {
        self.cache.saturating_add(self.scratch)
    }

    /// Bytes of weights for which there is no room beside the rest.
    pub fn weights_without_room(&self) -> u64 {
        let free = self.available.map_or(u64::MAX, |available| available.saturating_sub(self.firm()));
        self.weights.saturating_sub(self.on_gpus).saturating_sub(free)
    }
}

/// Bytes of tensors that lie on GPUs.
fn on_gpus(gguf: &Gguf, config: &Config, options: &graph::Options) -> u64 {
    let n_expert = config.experts.as_ref().map_or(0, |experts| experts.n_expert);
    let is_on_gpu = |name: &str| options.devices.of_tensor(name, n_expert).is_some();
    gguf.tensors().filter(|tensor| is_on_gpu(&tensor.info.name)).map(|tensor| tensor.data.len() as u64).sum()
}

/// Bytes of the caches of layers whose caches are not on GPUs.
fn cache_in_ram(config: &Config, options: &graph::Options, n_ctx: u64) -> u64 {
    let all = cache_bytes(config, options.cache_type, n_ctx);
    let in_ram = (0..config.n_layer).filter(|layer| options.devices.of_cache(*layer).is_none()).count();
    all / (config.n_layer as u64).max(1) * in_ram as u64
}

fn cache_bytes(config: &Config, ty: CacheType, n_ctx: u64) -> u64 {
    let a_token = ty.row_bytes(config).saturating_mul(config.n_layer as u64);
    n_ctx.checked_next_multiple_of(256).map_or(u64::MAX, |cells| cells.saturating_mul(a_token))
}

/// The context to open a model with: the one that is asked for, if there is room for it; else what it was made for,
/// at most [`Options::DEFAULT_CONTEXT`], and at most what there is room for.
pub(super) fn context(gguf: &Gguf, config: &Config, options: &graph::Options, asked: bool) -> Result<usize, NoRoom> {
    let Some(available) = available_bytes() else { return Ok(options.n_ctx) };
    let needs = |n_ctx: usize| Memory::sized(gguf, config, options, n_ctx, None).firm();
    let needed = needs(options.n_ctx);
    if needed <= available {
        return Ok(options.n_ctx);
    }
    match largest(options.n_ctx, |n_ctx| needs(n_ctx) <= available) {
        Some(largest) if !asked => Ok(largest),
        largest => Err(NoRoom { n_ctx: options.n_ctx, needed, available, largest }),
    }
}

/// The largest multiple of 256 below `n` that fits.
fn largest(n: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, n.div_ceil(256));
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle * 256) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low > 0).then_some(low * 256)
}

impl Options {
    /// Whether a context was asked for.
    pub(super) fn asks_for_context(&self) -> bool {
        self.n_ctx.is_some()
    }

    /// Tokens of context with a model that was made for so many.
    pub(super) fn context(&self, n_ctx_train: usize) -> usize {
        match self.n_ctx {
            None => n_ctx_train.min(Self::DEFAULT_CONTEXT),
            Some(0) => n_ctx_train,
            Some(n_ctx) => n_ctx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits() {
        assert_eq!(largest(10_000, |n| n <= 5000), Some(4864));
        assert_eq!(largest(10_000, |_| false), None);
        assert_eq!(largest(200, |_| true), None);
        assert_eq!(largest(usize::MAX, |n| n <= 1 << 30), Some(1 << 30));
    }

    #[test]
    fn contexts_that_are_asked_for() {
        let of = |n_ctx: Option<usize>| {
            let options = Options { n_ctx, ..Options::default() };
            [options.context(163_840), options.context(4096)]
        };
        assert_eq!([of(None), of(Some(0)), of(Some(7))], [[32_768, 4096], [163_840, 4096], [7, 7]]);
    }

    #[test]
    fn weights_give_way_and_the_rest_does_not() {
        let memory = Memory { weights: 100, on_gpus: 0, cache: 20, scratch: 5, available: Some(60) };
        assert_eq!((memory.firm(), memory.weights_without_room()), (25, 65));
        assert_eq!(Memory { on_gpus: 50, ..memory }.weights_without_room(), 15);
        assert_eq!(Memory { available: None, ..memory }.weights_without_room(), 0);
    }
}
