//! A model that another process of this user has open already: its requests go there, over a socket in the user's
//! runtime folder, and their events come back.
//!
//! The vocabulary is read here, so that whatever is refused is refused as it would be without; what is cached stays
//! there. Each request has a connection: the host says hello, the request goes one way and its events the other, and
//! who closes their side cancels.

use super::request::{Event, Failure, FinishReason, Finished, Piece, Progress, Request, Scored};
use super::{Canceller, Engine, Generation, Info, Loading, Memory, OpenError, Options, Refused};
use crate::experts::Isa;
use crate::files::{Lock, beside, make_folder};
use crate::gguf::{Gguf, Source};
use crate::graph::{CacheType, Routing};
use crate::model::{Fingerprint, Traffic};
use crate::tokenizer::Tokenizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Changes with what is sent.
const VERSION: u32 = 2;
/// That a peer takes to say what it has to say at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// That answers which are cut have to end: a step, at most.
const CUT_TIME: Duration = Duration::from_secs(10);
/// Above what the longest prompts and the largest schemas take.
const MAX_FRAME: u32 = 64 << 20;

/// What a host says first: what of the model is not in its file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hello {
    version: u32,
    fingerprint: [u8; Fingerprint::BYTES],
    isa: Isa,
    n_ctx: usize,
    n_ctx_train: usize,
    n_layer: usize,
    n_batch: usize,
    n_threads: usize,
    cache_type: CacheType,
    routing: Routing,
    flash_attention: bool,
    memory: Memory,
    traffic: Traffic,
    cached_bytes_per_token: u64,
    unused_tensors: Vec<String>,
}

impl Hello {
    fn of(info: &Info) -> Hello {
        Hello {
            version: VERSION,
            fingerprint: *info.fingerprint.bytes(),
            isa: info.isa,
            n_ctx: info.n_ctx,
            n_ctx_train: info.n_ctx_train,
            n_layer: info.n_layer,
            n_batch: info.n_batch,
            n_threads: info.n_threads,
            cache_type: info.cache_type,
            routing: info.routing,
            flash_attention: info.flash_attention,
            memory: info.memory,
            traffic: info.traffic,
            cached_bytes_per_token: info.cached_bytes_per_token,
            unused_tensors: info.unused_tensors.clone(),
        }
    }

    /// Whether it computes what is wanted, as it is wanted.
    fn suits(&self, fingerprint: &Fingerprint, options: &Options) -> bool {
        let wanted = options.context(self.n_ctx_train);
        let has_context = if options.n_ctx.is_some() { self.n_ctx == wanted } else { self.n_ctx >= wanted };
        self.version == VERSION
            && self.fingerprint == *fingerprint.bytes()
            && has_context
            && self.cache_type == options.cache_type
            && self.routing == options.routing
            && self.flash_attention != options.no_flash_attention
    }
}

/// An event as it is sent.
#[derive(Serialize, Deserialize)]
enum Sent {
    Prompt(Progress),
    Token(Scored),
    Piece(Piece),
    Finished(Finished),
    /// The constraint could not be kept.
    Unsatisfied(String),
    Failed(String),
}

impl From<Event> for Sent {
    fn from(event: Event) -> Sent {
        match event {
            Event::Prompt(progress) => Sent::Prompt(progress),
            Event::Token(scored) => Sent::Token(scored),
            Event::Piece(piece) => Sent::Piece(piece),
            Event::Finished(finished) => Sent::Finished(finished),
            Event::Failed(Failure::Constraint(why)) => Sent::Unsatisfied(why),
            Event::Failed(failure) => Sent::Failed(failure.to_string()),
        }
    }
}

impl From<Sent> for Event {
    fn from(sent: Sent) -> Event {
        match sent {
            Sent::Prompt(progress) => Event::Prompt(progress),
            Sent::Token(scored) => Event::Token(scored),
            Sent::Piece(piece) => Event::Piece(piece),
            Sent::Finished(finished) => Event::Finished(finished),
            Sent::Unsatisfied(why) => Event::Failed(Failure::Constraint(why)),
            Sent::Failed(why) => Event::Failed(Failure::Elsewhere(why)),
        }
    }
}

fn write_frame(stream: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let bytes = rmp_serde::to_vec_named(value).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    stream.write_all(&[&length.to_le_bytes()[..], &bytes].concat())
}

fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("the message is too long"));
    }
    let mut bytes = Vec::new();
    stream.take(length.into()).read_to_end(&mut bytes)?;
    rmp_serde::from_slice(&bytes).map_err(io::Error::other)
}

/// Where this user's processes meet for a model; `None` where the system has no folder for such things.
fn socket(fingerprint: &Fingerprint) -> Option<PathBuf> {
    let dirs = directories::BaseDirs::new()?;
    let name: String = fingerprint.to_string().chars().take(16).collect();
    Some(dirs.runtime_dir()?.join("cachalot").join(name + ".sock"))
}

/// Lets other processes of this user use an engine, once no other server of theirs does. Dropped, no new request is
/// taken.
pub struct Hosting {
    place: Arc<Place>,
}

/// Where a host is found.
struct Place {
    socket: PathBuf,
    stage: Mutex<Stage>,
    answers: Mutex<Answers>,
    /// An answer.
    has_ended: Condvar,
}

/// Those that are under way.
#[derive(Default)]
struct Answers {
    /// By number, from when they are asked for; with what ends them once they are begun.
    under_way: BTreeMap<u64, Option<Canceller>>,
    n_begun: u64,
    /// No more are given.
    is_cut: bool,
}

enum Stage {
    /// Another server has the place.
    Waiting,
    Open(Lock),
    Over {
        since: Instant,
    },
}

/// Why no other process can use an engine.
#[derive(Debug, thiserror::Error)]
pub enum NotHosted {
    #[error("the system has no folder for sockets of this user (XDG_RUNTIME_DIR)")]
    NoFolder,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hosting {
    /// `log` is told how each request ended.
    pub fn start(engine: &Arc<Engine>, log: Option<fn(&str)>) -> Result<Hosting, NotHosted> {
        let socket = socket(&engine.info().fingerprint).ok_or(NotHosted::NoFolder)?;
        if let Some(folder) = socket.parent() {
            make_folder(folder)?;
        }
        let lock_path = beside(&socket, ".lock");
        let (stage, answers, has_ended) = (Mutex::new(Stage::Waiting), Mutex::default(), Condvar::new());
        let place = Arc::new(Place { socket, stage, answers, has_ended });
        let listener = Lock::take(&lock_path)?.map(|lock| place.open(lock)).transpose()?.flatten();
        let (of_thread, engine) = (place.clone(), Arc::downgrade(engine));
        let host = move || {
            let wait = || {
                let listener = Lock::wait(&lock_path).and_then(|lock| of_thread.open(lock)).ok().flatten()?;
                log.inspect(|log| log("`run`, `fim` and `chat` have their answers here from now on"));
                Some(listener)
            };
            if let Some(listener) = listener.or_else(wait) {
                of_thread.accept(&listener, &engine, log);
            }
        };
        std::thread::Builder::new().name("attach".to_owned()).spawn(host)?;
        Ok(Hosting { place })
    }

    /// Whether another server has the place, which this one takes when that ends.
    pub fn is_waiting(&self) -> bool {
        matches!(*self.place.stage(), Stage::Waiting)
    }

    /// Takes no new request any more.
    pub fn close(&self) {
        self.place.close();
    }

    /// Waits for what was begun: until `grace` has passed since the end of taking requests, and then for it to be cut.
    pub fn finish(&self, grace: Duration) {
        let deadline = self.place.close() + grace;
        let wait = |answers, patience| {
            let is_under_way = |answers: &mut Answers| !answers.under_way.is_empty();
            let waited = self.place.has_ended.wait_timeout_while(answers, patience, is_under_way);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        let mut answers = wait(self.place.answers(), deadline.saturating_duration_since(Instant::now()));
        answers.is_cut = true;
        answers.under_way.values().flatten().for_each(Canceller::cancel);
        drop(wait(answers, CUT_TIME));
    }
}

impl Place {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it is over already.
    fn open(&self, lock: Lock) -> io::Result<Option<UnixListener>> {
        let mut stage = self.stage();
        if matches!(*stage, Stage::Over { .. }) {
            return Ok(None);
        }
        // What a process has left that was killed.
        crate::files::remove(&self.socket)?;
        let listener = UnixListener::bind(&self.socket)?;
        *stage = Stage::Open(lock);
        Ok(Some(listener))
    }

    fn accept(self: &Arc<Place>, listener: &UnixListener, engine: &Weak<Engine>, log: Option<fn(&str)>) {
        for stream in listener.incoming() {
            let (Some(engine), true) = (engine.upgrade(), matches!(*self.stage(), Stage::Open(_))) else { return };
            let Ok(stream) = stream else { continue };
            let (number, place) = (self.begin(), self.clone());
            let answer = move || {
                // What becomes of it is the peer's affair.
                drop(answer(&place, number, &engine, stream, log));
                // Who waits for the end may end the engine then, on a thread that waits for its own.
                drop(engine);
                place.end(number);
            };
            if std::thread::Builder::new().name("attached".to_owned()).spawn(answer).is_err() {
                self.end(number);
            }
        }
    }

    /// Takes no new request any more; since when none is taken.
    fn close(&self) -> Instant {
        let mut stage = self.stage();
        if let Stage::Over { since } = *stage {
            return since;
        }
        let since = Instant::now();
        let before = std::mem::replace(&mut *stage, Stage::Over { since });
        drop(stage);
        if let Stage::Open(lock) = before {
            // Wakes the thread that accepts.
            let _ = UnixStream::connect(&self.socket);
            let _ = crate::files::remove(&self.socket);
            // Only now another server may take the place.
            drop(lock);
        }
        since
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> u64 {
        let mut answers = self.answers();
        answers.n_begun += 1;
        let number = answers.n_begun;
        answers.under_way.insert(number, None);
        number
    }

    /// Has an answer end when all are cut.
    fn cut_by(&self, number: u64, canceller: Canceller) {
        let mut answers = self.answers();
        if answers.is_cut {
            canceller.cancel();
        }
        answers.under_way.insert(number, Some(canceller));
    }

    fn end(&self, number: u64) {
        self.answers().under_way.remove(&number);
        self.has_ended.notify_all();
    }
}

impl Drop for Hosting {
    fn drop(&mut self) {
        self.place.close();
    }
}

/// Takes one request and sends its events.
fn answer(
    place: &Place,
    number: u64,
    engine: &Engine,
    mut stream: UnixStream,
    log: Option<fn(&str)>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_frame(&mut stream, &Hello::of(engine.info()))?;
    let request: Request = read_frame(&mut stream)?;
    let generation = match engine.generate(request) {
        Ok(generation) => generation,
        // The peer has checked what it sends.
        Err(refused) => return write_frame(&mut stream, &Sent::Failed(refused.to_string())),
    };
    place.cut_by(number, generation.canceller());
    watch(&stream, &generation)?;
    loop {
        let event = generation.next_event();
        if let (Some(log), Event::Finished(finished)) = (log, &event) {
            log(&format!("attached: {finished}"));
        }
        let is_last = matches!(event, Event::Finished(_) | Event::Failed(_));
        let is_cancelled = matches!(&event, Event::Finished(finished) if finished.reason == FinishReason::Cancelled);
        if is_cancelled && place.answers().is_cut {
            // Not by the peer: that nothing more comes tells it.
            return stream.shutdown(Shutdown::Both);
        }
        write_frame(&mut stream, &Sent::from(event))?;
        if is_last {
            return stream.shutdown(Shutdown::Both);
        }
    }
}

/// Cancels what is generated when the peer closes its side.
fn watch(stream: &UnixStream, generation: &Generation) -> io::Result<()> {
    let (mut stream, canceller) = (stream.try_clone()?, generation.canceller());
    stream.set_read_timeout(None)?;
    let wait = move || {
        // It sends nothing more; what ends the wait is the end.
        let _ = stream.read(&mut [0]);
        canceller.cancel_after_step();
    };
    std::thread::Builder::new().name("attached".to_owned()).spawn(wait)?;
    Ok(())
}

/// A host.
pub(super) struct Remote {
    path: PathBuf,
}

impl Remote {
    fn connect(path: &Path) -> io::Result<(UnixStream, Hello)> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let hello = read_frame(&mut stream)?;
        Ok((stream, hello))
    }

    pub(super) fn submit(
        &self,
        request: &Request,
        mut sink: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Result<Canceller, Refused> {
        let begin = || {
            let (mut stream, _) = Remote::connect(&self.path)?;
            write_frame(&mut stream, request)?;
            stream.set_read_timeout(None)?;
            Ok::<_, io::Error>((stream.try_clone()?, stream))
        };
        let (mut events, stream) = begin().map_err(|_| Refused::Gone)?;
        let read = move || {
            loop {
                let event = read_frame::<Sent>(&mut events).map_or(Event::Failed(Failure::ServerGone), Event::from);
                let is_last = matches!(event, Event::Finished(_) | Event::Failed(_));
                if !sink(event) || is_last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("attached".to_owned()).spawn(read).map_err(|_| Refused::Gone)?;
        Ok(Canceller::of_remote(stream))
    }
}

impl Engine {
    /// The model as another process of this user has it open; `None` where none has, or not as it is wanted.
    pub fn attach(source: impl Into<Source>, options: &Options) -> Result<Option<Engine>, OpenError> {
        let source = source.into();
        let path = source.path();
        if options.exact || options.loading.copy || options.loading.lock {
            return Ok(None);
        }
        let gguf = Gguf::open(&source)?;
        let fingerprint = Fingerprint::of(&gguf);
        let Some(socket) = socket(&fingerprint) else { return Ok(None) };
        let Ok((_, hello)) = Remote::connect(&socket) else { return Ok(None) };
        if !hello.suits(&fingerprint, options) {
            return Ok(None);
        }
        let of_tokenizer = |error| OpenError::Tokenizer { path: path.to_owned(), error };
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).map_err(of_tokenizer)?);
        let info = Info {
            n_vocab: tokenizer.n_tokens(),
            isa: hello.isa,
            n_ctx: hello.n_ctx,
            n_ctx_train: hello.n_ctx_train,
            n_layer: hello.n_layer,
            n_batch: hello.n_batch,
            n_threads: hello.n_threads,
            cache_type: hello.cache_type,
            routing: hello.routing,
            flash_attention: hello.flash_attention,
            memory: hello.memory,
            traffic: hello.traffic,
            cached_bytes_per_token: hello.cached_bytes_per_token,
            unused_tensors: hello.unused_tensors,
            loading: Loading::default(),
            ..Info::of_file(&gguf, &source, fingerprint)
        };
        Ok(Some(Engine::of_remote(Remote { path: socket }, tokenizer, info)))
    }
}
