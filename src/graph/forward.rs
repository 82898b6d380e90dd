//! The forward pass behind one door: tokens of sequences in, logits out.

use super::cache::{Cache, CacheType};
use super::cells::Seq;
use super::devices::Devices;
use super::observe::Seen;
use super::router::Routing;
use super::sending::{Sending, Sharing};
use super::step::{self, BuildError, Keep, Ports, StepShape};
use crate::experts::{ApartError, Isa, Room, Trace};
use crate::ggml::{ComputeError, Cpu, OutOfMemory, Store, StoreError};
use crate::gguf::Gguf;
use crate::model::{Config, ConfigError, Places, Weights, WeightsError};
use half::f16;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a model is loaded and computed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens that the cache holds, of all sequences together.
    pub n_ctx: usize,
    /// Tokens that are computed at once.
    pub n_batch: usize,
    pub n_threads: usize,
    pub cache_type: CacheType,
    pub flash_attention: bool,
    pub absorb: Absorb,
    /// Memory for keys and values that are made of the latent ones, for some heads at a time where it is too little for all.
    pub expanded_bytes: usize,
    pub routing: Routing,
    /// Whose kernels matrices are multiplied by.
    pub isa: Isa,
    /// Take ggml's reference paths instead of its fast ones.
    pub reference: bool,
    /// What lies on GPUs.
    pub devices: Devices,
    /// Experts that lie in RAM are computed by threads of our own while the graph goes on; some of them are sent to the
    /// GPU of their layer meanwhile, and computed there.
    pub sharing: Option<Sharing>,
}

impl Options {
    pub fn new(n_ctx: usize, n_threads: usize) -> Options {
        Options {
            n_ctx,
            n_batch: 512,
            n_threads,
            cache_type: CacheType::default(),
            flash_attention: true,
            absorb: Absorb::default(),
            expanded_bytes: MAX_EXPANDED_BYTES,
            routing: Routing::default(),
            isa: Isa::best(),
            reference: false,
            devices: Devices::default(),
            sharing: None,
        }
    }

    /// The most exact way, on the CPU: F32 cache, attention with its scores in memory, ggml's reference paths.
    pub fn exact(self) -> Options {
        Options {
            cache_type: CacheType::F32,
            flash_attention: false,
            absorb: Absorb::Always,
            isa: Isa::Ggml,
            reference: true,
            devices: Devices::default(),
            sharing: None,
            ..self
        }
    }
}

/// Whether attention takes queries to the latent space, or makes keys and values of all heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absorb {
    /// As is faster for the step.
    #[default]
    Auto,
    Always,
    /// Needs flash attention.
    Never,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("a cache of {n_ctx} tokens: {error}")]
    Cache { n_ctx: usize, error: StoreError },
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error("the cache cannot be {}: {} values of a token are no whole number of its blocks", .0.name(), .1)]
    CacheType(CacheType, usize),
    #[error("what a step needs cannot be prepared: {0}")]
    Step(StepError),
    #[error("a context of {n_ctx} tokens and batches of {n_batch}: both must be at least 1, and less than 2^31")]
    Sizes { n_ctx: usize, n_batch: usize },
    #[error(transparent)]
    Apart(#[from] ApartError),
    #[error("memory for experts that are sent: {0}")]
    Sending(StoreError),
}

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum StepError {
    #[error("a step needs a token")]
    Empty,
    #[error("{n} tokens in one step; at most {n_batch} are computed at once")]
    TooMany { n: usize, n_batch: usize },
    #[error("the token id {id} is not in the vocabulary of {n_vocab}")]
    Token { id: u32, n_vocab: usize },
    #[error("position {0} is not one")]
    Position(i32),
    #[error("position {position} of sequence {seq} comes twice")]
    Taken { seq: usize, position: i32 },
    #[error("the context is full: {n} tokens more, but only {free} of {n_ctx} are free")]
    Full { n: usize, free: usize, n_ctx: usize },
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Compute(ComputeError),
    #[error("the graph could not be built: {0}")]
    Build(String),
}

/// A token to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub id: u32,
    pub seq: Seq,
    /// From 0; each position of a sequence once.
    pub position: i32,
    /// Whether its logits are wanted.
    pub wants_logits: bool,
}

/// Numbers that are none: what was computed for a token is NaN or infinite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model computed numbers that are not finite, {}", match layer {
    Some(layer) => format!("first in layer {layer}"),
    None => "in the output".to_owned(),
})]
pub struct Fault {
    /// Which of the wanted rows.
    pub row: usize,
    /// The first layer whose result is not finite; `None` if that of all layers is.
    pub layer: Option<usize>,
}

/// From so many tokens a step on, making keys and values of all heads pays.
const MIN_UNABSORBED_TOKENS: usize = 256;

/// Those of so many heads at a time as take no more memory than this.
pub(super) const MAX_EXPANDED_BYTES: usize = 3 << 30;

/// A loaded model with its cache.
pub struct Forward {
    pub(super) config: Config,
    pub(super) weights: Weights,
    pub(super) store: Arc<Store>,
    pub(super) cache: Cache,
    pub(super) cpu: Cpu,
    stop: Arc<AtomicBool>,
    pub(super) options: Options,
    /// What our kernels keep between graphs.
    pub(super) room: Room,
    /// Experts in RAM that GPUs compute.
    pub(super) sending: Option<Sending>,
    /// The shape of the graph that is loaded.
    pub(super) loaded: Option<(StepShape, Ports)>,
}

impl Forward {
    /// Loads a model: its weights stay where the file is mapped, but for those that go to GPUs.
    pub fn load(gguf: &Arc<Gguf>, options: Options) -> Result<Forward, LoadError> {
        Forward::load_watched(gguf, options, &|_| ())
    }

    /// The same; `progress` is told of bytes on their way to GPUs.
    pub fn load_watched(gguf: &Arc<Gguf>, options: Options, progress: &dyn Fn(u64)) -> Result<Forward, LoadError> {
        let (n_ctx, n_batch) = (options.n_ctx, options.n_batch);
        if [n_ctx, n_batch].iter().any(|n| *n == 0 || i32::try_from(n.saturating_add(256)).is_err()) {
            return Err(LoadError::Sizes { n_ctx, n_batch });
        }
        let config = Config::read(gguf.metadata())?;
        if !options.cache_type.fits(&config) {
            return Err(LoadError::CacheType(options.cache_type, config.n_cached()));
        }
        let n_expert = config.experts.as_ref().map_or(0, |experts| experts.n_expert);
        let devices = &options.devices;
        let gpu_of = |name: &str| devices.of_tensor(name, n_expert);
        let places = Places { gpu_of: &gpu_of, pin: devices.pins(), head: devices.of_head(), progress };
        let (weights, store) = Weights::load(gguf, &config, &places)?;
        let cache = Cache::new(&config, n_ctx, options.cache_type, devices)
            .map_err(|error| LoadError::Cache { n_ctx, error })?;
        let cpu = Cpu::with_gpus(options.n_threads, options.reference, &devices.used())?;
        let stop = cpu.stop_flag();
        let mut forward = Forward {
            config,
            weights,
            store,
            cache,
            cpu,
            stop,
            options,
            room: Room::default(),
            sending: None,
            loaded: None,
        };
        forward.set_apart()?;
        forward.reserve()?;
        if forward.options.sharing.as_ref().is_some_and(|sharing| sharing.measured) {
            forward.measure_costs().map_err(LoadError::Step)?;
        }
        Ok(forward)
    }

    /// Takes what the largest step needs on GPUs, where memory that is short later would end the program.
    fn reserve(&mut self) -> Result<(), LoadError> {
        if self.options.devices.used().is_empty() {
            return Ok(());
        }
        let n_kv = self.cache.n_kv(self.options.n_ctx);
        let n_tokens = self.options.n_batch.min(self.options.n_ctx);
        let (absorb, heads_at_once) = (self.absorbs(n_tokens), self.heads_at_once(n_kv));
        let shape = StepShape { n_tokens, n_kv, n_outputs: 1, absorb, heads_at_once, keep: Keep::Nothing };
        self.prepare(shape).map_err(|error| match error {
            StepError::Compute(ComputeError::OutOfMemory(error)) => LoadError::OutOfMemory(error),
            other => LoadError::Step(other),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn n_vocab(&self) -> usize {
        self.weights.n_vocab
    }

    /// Tensors of the file that are not used.
    pub fn unused_tensors(&self) -> &[String] {
        &self.weights.unused
    }

    /// Set, it ends the step that is being computed, and all to come, with [`StepError::Stopped`].
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Bytes of memory beyond the mapped file: converted weights, cache, intermediate results.
    pub fn n_bytes(&self) -> usize {
        self.store.n_owned_bytes() + self.cache.n_bytes() + self.cpu.n_bytes() + self.room.n_bytes()
    }

    /// Whether GPUs read the experts in RAM by themselves, and from how many tokens of a step on these are sent there.
    pub fn streaming(&self) -> Option<(bool, usize)> {
        let is_pinned = self.weights.is_pinned;
        let from = self.options.devices.streams_from(is_pinned);
        (from < usize::MAX).then_some((is_pinned, from))
    }

    /// Pieces of the largest step, between which results go from one device to another.
    pub fn n_pieces(&self) -> usize {
        self.cpu.n_pieces()
    }

    /// Bytes of weights, of slots for them, and of cache on GPUs.
    pub fn n_gpu_bytes(&self) -> usize {
        let of_slots = self.sending.as_ref().map_or(0, |sending| sending.store.n_gpu_bytes());
        self.store.n_gpu_bytes() + self.cache.store.n_gpu_bytes() + of_slots
    }

    /// Bytes of cache that a token takes.
    pub fn cached_bytes_per_token(&self) -> usize {
        self.cache.token_bytes()
    }

    /// Whether the CPU and GPUs share experts in RAM.
    pub fn shares(&self) -> bool {
        self.sending.is_some()
    }

    /// Layers of routed experts that our kernels computed so far, and the experts that these needed.
    pub fn experts_chosen(&self) -> (u64, u64) {
        self.room.chosen()
    }

    /// When routed experts are computed.
    pub fn trace(&self) -> &Trace {
        self.room.trace()
    }

    /// Tokens for which there is room.
    pub fn n_free(&self) -> usize {
        self.cache.cells.n_free()
    }

    /// Cached tokens of a sequence.
    pub fn n_cached(&self, seq: Seq) -> usize {
        self.cache.n_tokens(seq)
    }

    /// Forgets positions of a sequence.
    pub fn remove(&mut self, seq: Seq, positions: Range<i32>) {
        self.cache.cells.remove(seq, positions);
    }

    /// Has the sequence `to` share the positions of `from`.
    pub fn copy(&mut self, from: Seq, to: Seq, positions: Range<i32>) {
        self.cache.cells.copy(from, to, positions);
    }

    /// Forgets all sequences.
    pub fn clear(&mut self) {
        let all: Vec<usize> = (0..self.cache.cells.end()).collect();
        self.cache.cells.free(&all);
    }

    /// Computes tokens and appends the logits of those that want them, n_vocab a token, in their order.
    /// If it fails, no token of the step is in the cache.
    pub fn step(&mut self, tokens: &[Token], logits: &mut Vec<f32>) -> Result<(), StepError> {
        let cells = self.place(tokens)?;
        let n_before = logits.len();
        let computed = self.compute(tokens, &cells, Keep::Nothing, logits).map(drop);
        if computed.is_err() {
            logits.truncate(n_before);
            self.cache.cells.free(&cells);
        }
        computed
    }

    /// As [`Forward::step`]; returns too what goes into each layer, comes out of the last, and comes out of
    /// the final norm: n_embd values a token.
    pub fn step_hidden(&mut self, tokens: &[Token], logits: &mut Vec<f32>) -> Result<Vec<Vec<f32>>, StepError> {
        let cells = self.place(tokens)?;
        let computed = self.compute(tokens, &cells, Keep::Hidden, logits);
        if computed.is_err() {
            self.cache.cells.free(&cells);
        }
        computed
    }

    /// Computes tokens without their logits, and shows what went into each matrix. It takes memory for the sums
    /// of all of them: some 600 MB for DeepSeek-V3.
    pub fn step_observed(&mut self, tokens: &[Token], mut see: impl FnMut(&Seen<'_>)) -> Result<(), StepError> {
        let cells = self.place(tokens)?;
        let computed = self.compute(tokens, &cells, Keep::Inputs, &mut Vec::new());
        let shown = computed.and_then(|_| {
            let ports = self.loaded.as_ref().map_or(&[][..], |(_, ports)| &ports.inputs);
            ports.iter().try_for_each(|port| port.show(&self.cpu, &mut see)).map_err(StepError::from)
        });
        if shown.is_err() {
            self.cache.cells.free(&cells);
        }
        shown
    }

    /// What is wrong with the logits of a step, row by row; the step is computed again to find out where
    /// it begins. The rows are those of [`Forward::step`] on the same tokens, which it has just computed.
    ///
    /// What was bad is taken out of the cache, so that other sequences go on unharmed. Those that it belongs
    /// to stay faulty in whatever sees it, until it is removed.
    pub fn faults(&mut self, tokens: &[Token], logits: &[f32]) -> Result<Vec<Fault>, StepError> {
        let is_faulty = |row: &[f32]| !row.iter().all(|x| x.is_finite());
        let faulty: Vec<usize> =
            (0..).zip(logits.chunks(self.n_vocab())).filter(|(_, row)| is_faulty(row)).map(|(row, _)| row).collect();
        if faulty.is_empty() {
            return Ok(Vec::new());
        }
        let cells: Option<Vec<usize>> = tokens.iter().map(|token| self.cell_of(token)).collect();
        let hidden = match &cells {
            Some(cells) => self.compute(tokens, cells, Keep::Hidden, &mut Vec::new())?,
            None => Vec::new(),
        };
        let wanted: Vec<usize> =
            (0..).zip(tokens).filter(|(_, token)| token.wants_logits).map(|(index, _)| index).collect();
        let n_embd = self.config.n_embd;
        let first_bad = |row: usize| {
            let before_last = hidden.len().saturating_sub(2);
            let is_bad = |(stage, values): (usize, &Vec<f32>)| {
                let token = if stage < before_last { wanted.get(row).copied().unwrap_or(row) } else { row };
                values.get(token * n_embd..(token + 1) * n_embd).is_some_and(is_faulty)
            };
            // What goes into layer n came out of layer n − 1; a bad embedding counts for layer 0.
            hidden.iter().enumerate().position(is_bad).filter(|stage| *stage <= before_last)
        };
        let seen = |row: usize| {
            let token = wanted.get(row).and_then(|index| tokens.get(*index))?;
            self.cache.cells.sees_bad(token.seq, token.position)
        };
        let layer = |row| seen(row).or_else(|| first_bad(row).map(|stage| stage.saturating_sub(1)));
        let faults = faulty.into_iter().map(|row| Fault { row, layer: layer(row) }).collect();
        self.cache.clean(&mut self.cpu).map_err(build_error)?;
        Ok(faults)
    }

    fn cell_of(&self, token: &Token) -> Option<usize> {
        let mut cells = self.cache.cells.of(token.seq);
        cells.find(|(_, position)| *position == token.position).map(|(cell, _)| cell)
    }

    /// Finds a cell for each token of a step that can be computed.
    fn place(&mut self, tokens: &[Token]) -> Result<Vec<usize>, StepError> {
        let (n, n_batch) = (tokens.len(), self.options.n_batch);
        if n == 0 {
            return Err(StepError::Empty);
        }
        if n > n_batch {
            return Err(StepError::TooMany { n, n_batch });
        }
        for token in tokens {
            let n_vocab = self.n_vocab();
            if token.id as usize >= n_vocab {
                return Err(StepError::Token { id: token.id, n_vocab });
            }
            if token.position < 0 {
                return Err(StepError::Position(token.position));
            }
        }
        self.check_positions(tokens)?;
        let free = self.n_free();
        let full = StepError::Full { n, free, n_ctx: self.options.n_ctx };
        let cells = self.cache.cells.find_free(n).ok_or(full)?;
        for (token, &cell) in tokens.iter().zip(&cells) {
            self.cache.cells.place(cell, token.seq, token.position);
        }
        Ok(cells)
    }

    fn check_positions(&self, tokens: &[Token]) -> Result<(), StepError> {
        let mut new: Vec<(Seq, i32)> = tokens.iter().map(|token| (token.seq, token.position)).collect();
        new.sort_unstable();
        let taken = |(seq, position): (Seq, i32)| StepError::Taken { seq: seq.number(), position };
        if let Some(twice) = new.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(taken(twice[0]));
        }
        for group in new.chunk_by(|a, b| a.0 == b.0) {
            let cached = self.cache.cells.of(group[0].0).map(|(_, position)| (group[0].0, position));
            if let Some(old) = cached.into_iter().find(|old| group.binary_search(old).is_ok()) {
                return Err(taken(old));
            }
        }
        Ok(())
    }

    fn compute(
        &mut self,
        tokens: &[Token],
        cells: &[usize],
        keep: Keep,
        logits: &mut Vec<f32>,
    ) -> Result<Vec<Vec<f32>>, StepError> {
        let n_kv = self.cache.n_kv(self.cache.cells.end());
        self.cache.touch(&mut self.cpu, n_kv).map_err(build_error)?;
        let n_outputs = match keep {
            Keep::Inputs => 0,
            _ => tokens.iter().filter(|token| token.wants_logits).count(),
        };
        // Otherwise there are no inputs of attn_k_b and attn_v_b.
        let absorb = keep == Keep::Inputs || self.absorbs(tokens.len());
        let heads_at_once = self.heads_at_once(n_kv);
        self.prepare(StepShape { n_tokens: tokens.len(), n_kv, n_outputs, absorb, heads_at_once, keep })?;
        let Some((_, ports)) = &self.loaded else { return Err(StepError::Compute(ComputeError::NoGraph)) };

        let ids: Vec<i32> = tokens.iter().map(|token| token.id as i32).collect();
        let positions: Vec<i32> = tokens.iter().map(|token| token.position).collect();
        let rows: Vec<i32> = (0..).zip(tokens).filter(|(_, token)| token.wants_logits).map(|(row, _)| row).collect();
        let cells: Vec<i64> = cells.iter().map(|cell| *cell as i64).collect();
        self.cpu.write(ports.tokens, &ids)?;
        self.cpu.write(ports.positions, &positions)?;
        self.cpu.write(ports.cells, &cells)?;
        self.cpu.write(ports.mask, &mask(&self.cache, tokens, n_kv))?;
        if n_outputs > 0 {
            self.cpu.write(ports.rows, &rows)?;
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(StepError::Stopped);
        }
        // Where inputs are kept, no experts are shared.
        if let Some(sending) = self.sending.as_ref().filter(|_| keep != Keep::Inputs) {
            sending.begin(tokens.len(), n_outputs);
        }
        self.cpu.run().inspect_err(|_| {
            self.room.settle();
            self.sending.iter().for_each(Sending::cancel);
        })?;
        if let Some(output) = ports.logits {
            let start = logits.len();
            self.cpu.read(output, logits)?;
            // In the place of numbers that were none there are zeros by now, of which nothing must come.
            let wanted = tokens.iter().filter(|token| token.wants_logits);
            for (token, row) in wanted.zip(logits[start..].chunks_mut(self.weights.n_vocab)) {
                if self.cache.cells.sees_bad(token.seq, token.position).is_some() {
                    row.fill(f32::NAN);
                }
            }
        }
        let mut read = |output: &crate::ggml::Output| {
            let mut values = Vec::new();
            self.cpu.read(*output, &mut values).map(|()| values)
        };
        Ok(ports.hidden.iter().map(&mut read).collect::<Result<_, _>>()?)
    }

    /// Which form of attention a step takes.
    fn absorbs(&self, n_tokens: usize) -> bool {
        // GPUs have no flash attention for keys and values of all heads.
        if !self.options.flash_attention || self.cache.is_on_gpus() {
            return true;
        }
        match self.options.absorb {
            Absorb::Always => true,
            Absorb::Never => false,
            Absorb::Auto => n_tokens < MIN_UNABSORBED_TOKENS,
        }
    }

    /// Heads whose keys and values are made together: a part of all, that takes no more memory than is meant for it.
    fn heads_at_once(&self, n_kv: usize) -> usize {
        let config = &self.config;
        // Keys without the turned part, that part for all heads, both together; values. Where attn_kv_b is one,
        // the latent vectors for all heads besides.
        let a_head = 2 * config.n_key + config.n_value + config.kv_lora_rank;
        let room = self.options.expanded_bytes / (a_head * n_kv * size_of::<f32>()).max(1);
        let parts = (1..=config.n_head).rev().filter(|n| config.n_head.is_multiple_of(*n));
        parts.into_iter().find(|n| *n <= room).unwrap_or(1)
    }

    /// Loads the graph for a step of this shape, unless it is loaded.
    fn prepare(&mut self, shape: StepShape) -> Result<(), StepError> {
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == shape) {
            return Ok(());
        }
        self.loaded = None;
        let Options { flash_attention: flash, routing, isa, n_threads, .. } = self.options;
        let streams_from = self.options.devices.streams_from(self.weights.is_pinned);
        let sending = self.sending.as_ref();
        let method = step::Method { flash, routing, isa, n_threads, streams_from, sending };
        let (graph, ports) =
            step::build(&self.config, &self.weights, &self.store, &self.cache, method, &mut self.room, shape)?;
        self.cpu.load(graph)?;
        self.loaded = Some((shape, ports));
        Ok(())
    }
}

/// F16 [n_kv, n_tokens]: 0 where a token sees a cell, else −∞.
fn mask(cache: &Cache, tokens: &[Token], n_kv: usize) -> Vec<f16> {
    let mut mask = vec![f16::NEG_INFINITY; n_kv * tokens.len()];
    for (token, row) in tokens.iter().zip(mask.chunks_exact_mut(n_kv)) {
        cache.cells.for_visible(token.seq, token.position, n_kv, |cell| row[cell] = f16::ZERO);
    }
    mask
}

fn build_error(error: StoreError) -> StepError {
    StepError::Build(error.to_string())
}

impl From<BuildError> for StepError {
    fn from(error: BuildError) -> StepError {
        match error {
            BuildError::Op(error) => StepError::Build(error.to_string()),
            BuildError::OutOfMemory(error) => StepError::Compute(error.into()),
        }
    }
}

impl From<ComputeError> for StepError {
    fn from(error: ComputeError) -> StepError {
        match error {
            ComputeError::Stopped => StepError::Stopped,
            other => StepError::Compute(other),
        }
    }
}
