//! A loaded model that answers.
//!
//! The model lives on a thread of its own, behind a channel: a request is submitted, events come back, and
//! it can be cancelled. Several requests are computed together. What is in the cache from earlier requests
//! is used again where a prompt begins in the same way.
//!
//! - `worker`: the token loop; `slots`: which sequence a request gets, `share`: how much of a step; `answer`: tokens to
//!   text, `score`: how likely they were; `figures`: what was done so far.
//! - `memory`: whether there is room, of what is `available`; `loading`: how weights come into memory.
//! - `planner`: who decides what goes to GPUs. `snapshot`: what is cached, out of the program and back.
//! - `attach`: a model that another process has open.
//! - [`sampler`]: logits to the next token. [`stop`]: when an answer ends because of what it says.
//! - `constraint`: what an answer must look like, by a schema or a grammar.
//! - [`bench`]: how fast all that is.
//!
//! This room knows no HTTP and no terminal.

mod answer;
mod attach;
mod available;
pub mod bench;
mod constraint;
mod figures;
mod loading;
mod memory;
mod planner;
mod request;
pub mod sampler;
mod score;
mod share;
mod slots;
mod snapshot;
pub mod stop;
mod threads;
mod worker;

pub use crate::gguf::Source;
pub use crate::gguf::read_through;
pub use crate::graph::{CacheType, Fault, Forward, LoadError, Routing, Seen, Seq, Sharing, StepError, Streams, Token};
pub use crate::model::{Fingerprint, Traffic};
pub use attach::{Hosting, NotHosted};
pub use available::{MemoryLimit, available_bytes, cgroup_file, memory_limit};
pub use constraint::{Constraint, ConstraintError, Grammar};
pub use figures::{Figures, Histogram, Number};
use loading::Reading;
pub use loading::{Loading, NotLocked, ReadSoFar, ReadingState, Watch};
pub use memory::{Memory, NoRoom, NoRoomForWeights};
pub use planner::{NoPlan, Planned, Planner, Wanted};
pub use request::{Event, Failure, FinishReason, Finished, Piece, Progress, Refused, Request, Scored, Usage};
pub use snapshot::{Exported, Imported, SnapshotError};
pub use threads::{logical_cores, physical_cores};

use crate::experts::{Isa, IsaError};
use crate::gguf::{self, Gguf, TensorInfo};
use crate::graph;
use crate::model::{Config, ConfigError};
use crate::tokenizer::{self, Tokenizer};
use answer::AnswerText;
use attach::Remote;
use constraint::{Gate, Grammars};
use sampler::{Sampler, TokenSet};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stop::StopStrings;
use worker::{Command, Submission, Worker};

/// How a model is opened. What is not said is found out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Tokens of context, of all requests together; by default what the model was made for, and at most
    /// [`Options::DEFAULT_CONTEXT`]. 0 is what it was made for, however much that is.
    pub n_ctx: Option<usize>,
    /// Tokens that are computed at once.
    pub n_batch: Option<usize>,
    /// By default one a physical core, and never more than the process may run at once.
    pub n_threads: Option<usize>,
    /// Requests that are computed at the same time.
    pub n_parallel: Option<usize>,
    pub cache_type: CacheType,
    pub routing: Routing,
    /// Attention with its scores in memory.
    pub no_flash_attention: bool,
    /// F32 cache, no flash attention, ggml's reference paths.
    pub exact: bool,
    pub loading: Loading,
    /// Decides what goes to GPUs.
    pub planner: Planner,
}

impl Options {
    /// Memory for a longer context is only taken when it is used, but it is promised from the start.
    pub const DEFAULT_CONTEXT: usize = 32_768;
}

/// What is known of an open model.
#[derive(Debug, Clone)]
pub struct Info {
    /// Whose kernels compute on the CPU.
    pub isa: Isa,
    /// Tells models apart.
    pub fingerprint: Fingerprint,
    /// Where it is; of an embedded model its name.
    pub path: PathBuf,
    /// The first of the model's files; none of an embedded one.
    pub first_file: Option<PathBuf>,
    /// `general.name`
    pub name: Option<String>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
    pub n_ctx: usize,
    pub n_ctx_train: usize,
    pub n_vocab: usize,
    pub n_layer: usize,
    pub n_batch: usize,
    pub n_threads: usize,
    pub cache_type: CacheType,
    pub routing: Routing,
    pub flash_attention: bool,
    /// Bytes of the model's files.
    pub n_bytes: u64,
    pub n_parameters: u64,
    /// The type that most of its parameters have.
    pub main_type: Option<&'static str>,
    pub memory: Memory,
    pub loading: Loading,
    /// The names of those that compute.
    pub gpus: Vec<String>,
    pub uploaded: Option<Uploaded>,
    /// Whether GPUs read experts in RAM by themselves, and from how many tokens of a step on these are sent there.
    pub streaming: Option<(bool, usize)>,
    /// Whether GPUs compute with some of the experts in RAM while the CPU does with the others.
    pub shares: bool,
    /// Pieces of the largest step, between which results go from one device to another.
    pub n_pieces: usize,
    /// Bytes of weights that one token reads.
    pub traffic: Traffic,
    /// Bytes of cache that one token takes.
    pub cached_bytes_per_token: u64,
    /// Tensors that the forward pass does not use.
    pub unused_tensors: Vec<String>,
}

impl Info {
    /// What the file says alone; the rest is for who opens it to fill in.
    fn of_file(gguf: &Gguf, source: &Source, fingerprint: Fingerprint) -> Info {
        let mut per_type: BTreeMap<&'static str, u64> = BTreeMap::new();
        for tensor in gguf.tensors() {
            *per_type.entry(tensor.info.ty.name()).or_default() += tensor.info.shape.n_elements().unwrap_or(0);
        }
        let text = |key: &str| gguf.metadata().get::<&str>(key).ok().flatten().map(str::to_owned);
        Info {
            isa: Isa::Ggml,
            fingerprint,
            path: source.path().to_owned(),
            first_file: match source {
                Source::Path(_) => gguf.shards().first().map(|shard| shard.path().to_owned()),
                Source::Embedded { .. } => None,
            },
            name: text("general.name"),
            chat_template: text("tokenizer.chat_template"),
            n_ctx: 0,
            n_ctx_train: 0,
            n_vocab: 0,
            n_layer: 0,
            n_batch: 0,
            n_threads: 0,
            cache_type: CacheType::default(),
            routing: Routing::default(),
            flash_attention: true,
            n_bytes: gguf.n_bytes(),
            n_parameters: per_type.values().sum(),
            main_type: per_type.iter().max_by_key(|(_, n)| **n).map(|(name, _)| *name),
            memory: Memory { weights: 0, on_gpus: 0, cache: 0, scratch: 0, available: None },
            loading: Loading::default(),
            gpus: Vec::new(),
            uploaded: None,
            streaming: None,
            shares: false,
            n_pieces: 0,
            traffic: Traffic::default(),
            cached_bytes_per_token: 0,
            unused_tensors: Vec::new(),
        }
    }
}

/// What was copied to GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    pub bytes: u64,
    /// Until all was ready for the first token.
    pub time: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error("{}: {error}", path.display())]
    Load { path: PathBuf, error: LoadError },
    #[error("{}: {error}", path.display())]
    Tokenizer { path: PathBuf, error: tokenizer::Error },
    #[error("{}: the vocabulary has {n_tokens} tokens, but the model computes {n_vocab}", path.display())]
    Vocabulary { path: PathBuf, n_tokens: usize, n_vocab: usize },
    #[error("the model has no place: {0}")]
    Plan(NoPlan),
    #[error(transparent)]
    Kernels(#[from] IsaError),
    #[error("{}: {error}", path.display())]
    NoRoom { path: PathBuf, error: NoRoom },
    #[error("{}: {error}", path.display())]
    NoRoomForWeights { path: PathBuf, error: NoRoomForWeights },
    #[error("{}: {error}", path.display())]
    NotLocked { path: PathBuf, error: NotLocked },
    #[error("the engine's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A model that answers requests. Dropped, it finishes what was submitted.
pub struct Engine {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    tokenizer: Arc<Tokenizer>,
    info: Info,
    stop: Arc<AtomicBool>,
    figures: Arc<Figures>,
    /// Made when the first constraint comes: with a large vocabulary it takes a moment.
    grammars: OnceLock<Result<Grammars, ConstraintError>>,
    reading: Option<Reading>,
    /// Another process has the model, and computes.
    remote: Option<Remote>,
}

impl Engine {
    pub fn open(source: impl Into<Source>, options: &Options) -> Result<Engine, OpenError> {
        Engine::open_watched(source, options, &|_| ())
    }

    /// Opens a model; `watch` is told how far that is where its weights are read before it is open.
    pub fn open_watched(source: impl Into<Source>, options: &Options, watch: Watch<'_>) -> Result<Engine, OpenError> {
        let source = source.into();
        let path = source.path();
        let mut gguf = Gguf::open(&source)?;
        let in_file = |error| OpenError::Load { path: path.to_owned(), error };
        let isa = Isa::chosen()?;
        let mut graph_options = settle(&gguf, options, isa).map_err(|error| match error {
            SettleError::Load(error) => in_file(error),
            SettleError::NoRoom(error) => OpenError::NoRoom { path: path.to_owned(), error },
        })?;
        let config = Config::read(gguf.metadata()).map_err(|error| in_file(error.into()))?;
        if !options.exact {
            options.planner.settle(&gguf, path, options.n_batch.is_none(), &mut graph_options)?;
        }
        let memory = Memory::of(&gguf, &config, &graph_options);
        options.loading.begin(&mut gguf, path, &memory, watch)?;
        let gguf = Arc::new(gguf);
        let reading = options.loading.read_ahead(&gguf, &memory);
        let (uploaded, total, start) = (Cell::new(0), memory.on_gpus, Instant::now());
        let upload = |n: u64| {
            uploaded.set(uploaded.get() + n);
            watch(ReadSoFar { done: uploaded.get().min(total), total, time: start.elapsed() });
        };
        let forward = Forward::load_watched(&gguf, graph_options, &upload).map_err(in_file)?;
        let uploaded = (uploaded.get() > 0).then(|| Uploaded { bytes: uploaded.get(), time: start.elapsed() });
        let of_tokenizer = |error| OpenError::Tokenizer { path: path.to_owned(), error };
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).map_err(of_tokenizer)?);
        let (n_tokens, n_vocab) = (tokenizer.n_tokens(), forward.n_vocab());
        if n_tokens != n_vocab {
            return Err(OpenError::Vocabulary { path: path.to_owned(), n_tokens, n_vocab });
        }
        let info = Info {
            n_ctx: forward.options().n_ctx,
            n_ctx_train: forward.config().n_ctx_train,
            n_vocab,
            n_layer: forward.config().n_layer,
            n_batch: forward.options().n_batch,
            isa: forward.options().isa,
            n_threads: forward.options().n_threads,
            cache_type: forward.options().cache_type,
            routing: forward.options().routing,
            flash_attention: forward.options().flash_attention,
            memory,
            loading: options.loading,
            gpus: forward.options().devices.used().iter().map(|gpu| gpu.facts().name.clone()).collect(),
            uploaded,
            streaming: forward.streaming(),
            shares: forward.shares(),
            n_pieces: forward.n_pieces(),
            traffic: traffic(&gguf, &forward),
            cached_bytes_per_token: forward.cached_bytes_per_token() as u64,
            unused_tensors: forward.unused_tensors().to_vec(),
            ..Info::of_file(&gguf, &source, Fingerprint::of(&gguf))
        };
        let (commands, receiver) = mpsc::channel();
        let stop = forward.stop_flag();
        let figures = Arc::new(Figures::default());
        let n_slots = options.n_parallel.unwrap_or(1);
        let worker = Worker::new(forward, tokenizer.clone(), n_slots, figures.clone());
        let builder = std::thread::Builder::new().name("engine".to_owned());
        let thread = builder.spawn(move || worker.run(&receiver)).map_err(OpenError::Thread)?;
        let commands = Some(commands);
        let (thread, grammars, remote) = (Some(thread), OnceLock::new(), None);
        Ok(Engine { commands, thread, tokenizer, info, stop, figures, grammars, reading, remote })
    }

    fn of_remote(remote: Remote, tokenizer: Arc<Tokenizer>, info: Info) -> Engine {
        let (stop, figures, grammars, remote) = (Arc::default(), Arc::default(), OnceLock::new(), Some(remote));
        Engine { commands: None, thread: None, tokenizer, info, stop, figures, grammars, reading: None, remote }
    }

    /// Whether another process has the model; what is cached is out of reach then.
    pub fn is_attached(&self) -> bool {
        self.remote.is_some()
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What was done so far; nothing where another process has the model.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// How far the files are that are read ahead; `None` where nothing is.
    pub fn reading(&self) -> Option<ReadingState> {
        Some(self.reading.as_ref()?.state())
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Submits a request. Its events go to `sink`, on the engine's thread, until that answers false.
    pub fn submit(
        &self,
        request: Request,
        sink: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Result<Canceller, Refused> {
        self.check(&request)?;
        let sampler = Sampler::new(&request.sampling, self.info.n_vocab, sampler::spell(self.tokenizer.clone()))?;
        let text = AnswerText::new(StopStrings::new(&request.stop)?);
        let gate = request.constraint.as_ref().map(|constraint| self.gate(constraint)).transpose()?;
        if let Some(remote) = &self.remote {
            return remote.submit(&request, sink);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let sink = Box::new(sink);
        let going_on = match request.min_tokens {
            0 => Vec::new(),
            _ => TokenSet::all_but(self.info.n_vocab, self.ends().chain(request.stop_tokens.iter().copied())),
        };
        let (cancel, submitted) = (cancelled.clone(), Instant::now());
        let submission = Submission { request, sampler, text, gate, going_on, sink, cancelled: cancel, submitted };
        // Before it is taken, which lessens the number.
        self.figures.waiting.add(1);
        self.send(Command::Submit(Box::new(submission))).map_err(|Gone| Refused::Gone)?;
        Ok(Canceller { cancelled, stop: self.stop.clone(), remote: None })
    }

    /// Submits a request, for one that waits for its events. Dropped, it is cancelled.
    pub fn generate(&self, request: Request) -> Result<Generation, Refused> {
        let (sender, events) = mpsc::channel();
        let canceller = self.submit(request, move |event| sender.send(event).is_ok())?;
        Ok(Generation { events, canceller, has_ended: Cell::new(false) })
    }

    /// Stops the step that a job computes, which then fails with [`StepError::Stopped`].
    pub fn step_canceller(&self) -> Canceller {
        Canceller { cancelled: Arc::new(AtomicBool::new(false)), stop: self.stop.clone(), remote: None }
    }

    /// The tokens that end an answer.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        let roles = self.tokenizer.roles();
        [roles.eos, roles.eot].into_iter().flatten()
    }

    fn gate(&self, constraint: &Constraint) -> Result<Gate, ConstraintError> {
        let grammars = self.grammars.get_or_init(|| Grammars::new(&self.tokenizer));
        grammars.as_ref().map_err(Clone::clone)?.gate(constraint)
    }

    /// Does something with the model itself, on its thread, while no request is computed. The cache is
    /// empty before and after.
    pub fn with_forward<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Forward) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (sender, result) = mpsc::channel();
        self.send(Command::Job(Box::new(move |forward| drop(sender.send(job(forward))))))?;
        result.recv().map_err(|_| Gone)
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let (prompt, n_ctx, n_vocab) = (request.prompt.len(), self.info.n_ctx, self.info.n_vocab);
        if prompt == 0 {
            return Err(Refused::EmptyPrompt);
        }
        if prompt > n_ctx {
            return Err(Refused::PromptTooLong { prompt, n_ctx });
        }
        match request.prompt.iter().chain(&request.stop_tokens).find(|id| **id as usize >= n_vocab) {
            Some(&id) => Err(Refused::Token { id, n_vocab }),
            None => Ok(()),
        }
    }

    fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.as_ref().ok_or(Gone)?.send(command).map_err(|_| Gone)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How much of a model is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidentPages {
    /// The model's files; none of an embedded one.
    pub files: Vec<PathBuf>,
    pub bytes: u64,
    pub resident: u64,
}

/// How much of a model is in memory now. Nothing of its data is read for that.
pub fn resident(source: impl Into<Source>) -> Result<ResidentPages, gguf::Error> {
    let source = source.into();
    let gguf = Gguf::open(&source)?;
    let files = match source {
        Source::Path(_) => gguf.shards().iter().map(|shard| shard.path().to_owned()).collect(),
        Source::Embedded { .. } => Vec::new(),
    };
    Ok(ResidentPages { files, bytes: gguf.n_bytes(), resident: gguf.n_resident_bytes() })
}

/// The context that a model was made for, from its header alone.
pub fn trained_context(source: impl Into<Source>) -> Result<usize, OpenError> {
    let source = source.into();
    let in_file = |error: ConfigError| OpenError::Load { path: source.path().to_owned(), error: error.into() };
    Ok(Config::read(Gguf::open(&source)?.metadata()).map_err(in_file)?.n_ctx_train)
}

fn traffic(gguf: &Gguf, forward: &Forward) -> Traffic {
    let is_used = |info: &&TensorInfo| !forward.unused_tensors().contains(&info.name);
    let tensors: Vec<&TensorInfo> = gguf.tensors().map(|tensor| tensor.info).filter(is_used).collect();
    Traffic::of(&tensors, forward.config())
}

enum SettleError {
    Load(LoadError),
    NoRoom(NoRoom),
}

/// What is not said is found out; a context for which there is no memory is refused.
fn settle(gguf: &Gguf, options: &Options, isa: Isa) -> Result<graph::Options, SettleError> {
    let config = Config::read(gguf.metadata()).map_err(|error| SettleError::Load(error.into()))?;
    let n_ctx = options.context(config.n_ctx_train);
    // More threads than the machine runs at once wait for each other at every step.
    let n_threads = options.n_threads.unwrap_or_else(physical_cores).clamp(1, logical_cores());
    let mut graph = graph::Options {
        isa,
        cache_type: options.cache_type,
        routing: options.routing,
        flash_attention: !options.no_flash_attention,
        ..graph::Options::new(n_ctx, n_threads)
    };
    graph.n_batch = options.n_batch.unwrap_or(graph.n_batch);
    let mut graph = if options.exact { graph.exact() } else { graph };
    graph.n_ctx = memory::context(gguf, &config, &graph, options.asks_for_context()).map_err(SettleError::NoRoom)?;
    Ok(graph)
}

/// The engine ended before its time: an internal error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine ended: an internal error")]
pub struct Gone;

/// Cancels a request; it then ends within one step.
#[derive(Debug, Clone)]
pub struct Canceller {
    cancelled: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// The connection over which it is computed elsewhere.
    remote: Option<Arc<UnixStream>>,
}

impl Canceller {
    fn of_remote(stream: UnixStream) -> Canceller {
        Canceller { cancelled: Arc::default(), stop: Arc::default(), remote: Some(Arc::new(stream)) }
    }

    pub fn cancel(&self) {
        self.cancel_after_step();
        // Ends the step under way; requests that are not cancelled have it computed again.
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Cancels it behind the step under way, which others may be part of.
    pub fn cancel_after_step(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(stream) = &self.remote {
            // One that is closed already is cancelled, or done.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// The events of a request.
pub struct Generation {
    events: Receiver<Event>,
    canceller: Canceller,
    has_ended: Cell<bool>,
}

impl Generation {
    /// The next event. The last is [`Event::Finished`] or [`Event::Failed`].
    pub fn next_event(&self) -> Event {
        let event = self.events.recv().unwrap_or(Event::Failed(Failure::Gone));
        self.has_ended.set(matches!(event, Event::Finished(_) | Event::Failed(_)));
        event
    }

    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.has_ended.get() {
            self.canceller.cancel();
        }
    }
}
