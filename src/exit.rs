//! The exit codes of every command, and which error means which.

use crate::catalog;
use crate::engine;
use crate::experts::{self, IsaError};
use crate::ggml;
use crate::gguf;
use crate::graph;
use crate::machine::kernels::KernelError;
use crate::model;
use crate::placement::CannotPlace;
use crate::plan::SubjectError;
use crate::quantize;
use crate::server::ServeError;
use crate::session::StoreError;
use crate::tokenizer;

/// How the program ends. The numbers are documented in the README and are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Failed at run time.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The context is too small: for the prompt, of which nothing is computed then, or for the whole of the answer.
    ContextFull = 3,
    /// The answer is not what its schema or grammar asks for: it ended before it was whole.
    Unsatisfied = 4,
    /// A file is damaged, or of a kind that is not supported.
    Damaged = 65,
    /// A file, shard, model or session was not found, or cannot be read.
    NotFound = 66,
    /// A hub or server cannot be reached.
    Unreachable = 69,
    /// A fault of the program itself.
    Internal = 70,
    /// Output exists already, or cannot be written.
    CannotWrite = 73,
    /// Not enough memory.
    NoMemory = 75,
    /// Not permitted: a gated model, a wrong key.
    NotPermitted = 77,
    /// Ended by Ctrl-C or SIGTERM.
    Interrupted = 130,
    /// The reader of stdout went away; what a shell reports for SIGPIPE.
    ClosedPipe = 141,
}

impl Exit {
    /// The code for an error, by the most telling of its causes.
    pub fn of(error: &anyhow::Error) -> Exit {
        error.chain().find_map(classify).unwrap_or(Exit::Failed)
    }
}

fn classify(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<gguf::Error>() {
        return Some(match &error.problem {
            problem if problem.is_out_of_memory() => Exit::NoMemory,
            problem if problem.is_missing() => Exit::NotFound,
            _ => Exit::Damaged,
        });
    }
    if cause.is::<gguf::MetadataError>() || cause.is::<model::Unsound>() {
        return Some(Exit::Damaged);
    }
    if let Some(error) = cause.downcast_ref::<tokenizer::OpenError>() {
        return match error {
            tokenizer::OpenError::Gguf(error) => classify(error),
            tokenizer::OpenError::Vocabulary { .. } => Some(Exit::Damaged),
        };
    }
    if let Some(error) = cause.downcast_ref::<engine::OpenError>() {
        return match error {
            engine::OpenError::Gguf(error) => classify(error),
            engine::OpenError::Load { error, .. } => Some(of_load(error)),
            engine::OpenError::Tokenizer { .. } | engine::OpenError::Vocabulary { .. } => Some(Exit::Damaged),
            engine::OpenError::Kernels(_) => Some(Exit::Usage),
            engine::OpenError::Plan(error) => classify(error.as_ref()),
            engine::OpenError::NoRoom { .. }
            | engine::OpenError::NoRoomForWeights { .. }
            | engine::OpenError::NotLocked { .. }
            | engine::OpenError::Thread(_) => Some(Exit::NoMemory),
        };
    }
    if cause.is::<IsaError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<engine::Refused>() {
        return Some(match error {
            engine::Refused::PromptTooLong { .. } => Exit::ContextFull,
            engine::Refused::Gone => Exit::Internal,
            _ => Exit::Usage,
        });
    }
    if let Some(error) = cause.downcast_ref::<ServeError>() {
        return Some(match error {
            ServeError::Open { .. } | ServeError::Host { .. } | ServeError::Origin(_) => Exit::Usage,
            ServeError::Tls { .. } => Exit::NotFound,
            ServeError::Listen { .. } | ServeError::Runtime(_) => Exit::Failed,
        });
    }
    if cause.is::<engine::Gone>() {
        return Some(Exit::Internal);
    }
    match cause.downcast_ref::<engine::Failure>() {
        Some(engine::Failure::Gone) => return Some(Exit::Internal),
        Some(engine::Failure::ServerGone) => return Some(Exit::Unreachable),
        Some(engine::Failure::Constraint(_)) => return Some(Exit::Unsatisfied),
        _ => {}
    }
    if cause.is::<Unsatisfied>() {
        return Some(Exit::Unsatisfied);
    }
    if cause.is::<Interrupted>() {
        return Some(Exit::Interrupted);
    }
    if let Some(error) = cause.downcast_ref::<engine::StepError>() {
        return match error {
            engine::StepError::Full { .. } => Some(Exit::ContextFull),
            engine::StepError::Compute(ggml::ComputeError::OutOfMemory(_)) => Some(Exit::NoMemory),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<catalog::Error>() {
        return Some(error.exit());
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(of_store(error));
    }
    if cause.is::<ContextFull>() || cause.is::<TooLong>() {
        return Some(Exit::ContextFull);
    }
    if cause.is::<CannotWrite>() {
        return Some(Exit::CannotWrite);
    }
    if cause.is::<CannotRun>() {
        return Some(Exit::NotFound);
    }
    if let Some(error) = cause.downcast_ref::<BadInput>() {
        return Some(match error {
            BadInput::Argument(_) => Exit::Usage,
            BadInput::Faulty { .. } => Exit::Damaged,
            BadInput::Unreadable { .. } => Exit::NotFound,
        });
    }
    if let Some(error) = cause.downcast_ref::<SubjectError>() {
        return match error {
            SubjectError::Gguf(error) => classify(error),
            SubjectError::Catalog(error) => Some(error.exit()),
            SubjectError::Config { .. } | SubjectError::Headers { .. } => Some(Exit::Damaged),
            SubjectError::Offline { .. } | SubjectError::Quant { .. } => Some(Exit::NotFound),
            SubjectError::Recipe(_) | SubjectError::Header(_) => Some(Exit::Internal),
        };
    }
    if let Some(error) = cause.downcast_ref::<KernelError>() {
        return matches!(error, KernelError::OutOfMemory(_)).then_some(Exit::NoMemory);
    }
    if cause.is::<CannotPlace>() {
        return Some(Exit::Usage);
    }
    if cause.is::<DoesNotFit>() {
        return Some(Exit::NoMemory);
    }
    if let Some(error) = cause.downcast_ref::<quantize::Error>() {
        return of_quantize(error);
    }
    if let Some(error) = cause.downcast_ref::<quantize::ImatrixError>() {
        return of_imatrix(error);
    }
    if cause.is::<gguf::WriteError>() {
        return Some(Exit::CannotWrite);
    }
    if let Some(error) = cause.downcast_ref::<Unwritable>() {
        return Some(match error.0.kind() {
            std::io::ErrorKind::BrokenPipe => Exit::ClosedPipe,
            _ => Exit::CannotWrite,
        });
    }
    None
}

/// What cannot be loaded is a fault of the file, unless memory is short or an option asks too much.
fn of_load(error: &graph::LoadError) -> Exit {
    match error {
        graph::LoadError::OutOfMemory(_) | graph::LoadError::Cache { .. } => Exit::NoMemory,
        graph::LoadError::Sizes { .. } | graph::LoadError::CacheType(..) => Exit::Usage,
        graph::LoadError::Weights(model::WeightsError::Store { error: ggml::StoreError::OutOfMemory(_), .. }) => {
            Exit::NoMemory
        }
        graph::LoadError::Sending(ggml::StoreError::OutOfMemory(_))
        | graph::LoadError::Apart(experts::ApartError::OutOfMemory(_)) => Exit::NoMemory,
        graph::LoadError::Step(_) | graph::LoadError::Apart(_) | graph::LoadError::Sending(_) => Exit::Failed,
        graph::LoadError::Config(_) | graph::LoadError::Weights(_) => Exit::Damaged,
    }
}

fn of_quantize(error: &quantize::Error) -> Option<Exit> {
    use quantize::Error;
    match error {
        Error::Open(error) => classify(error),
        Error::Imatrix(error) => of_imatrix(error),
        Error::Decode { .. } | Error::Encode { .. } => Some(Exit::Damaged),
        Error::Write(_) => Some(Exit::CannotWrite),
        Error::NoMatch(_) | Error::NoImportance { .. } | Error::Same(_) => Some(Exit::Usage),
    }
}

fn of_imatrix(error: &quantize::ImatrixError) -> Option<Exit> {
    use quantize::ImatrixError;
    match error {
        ImatrixError::Open(error) => classify(error),
        ImatrixError::Other(_) | ImatrixError::Faulty { .. } | ImatrixError::Foreign { .. } => Some(Exit::Damaged),
        ImatrixError::NotFinite(_) => Some(Exit::Failed),
    }
}

fn of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Unknown(_) | StoreError::Empty | StoreError::NoHome | StoreError::Read { .. } => Exit::NotFound,
        StoreError::Ambiguous { .. } | StoreError::Exists(_) => Exit::Usage,
        StoreError::Locked(_) => Exit::Failed,
        StoreError::Format { .. } => Exit::Damaged,
        StoreError::Write { .. } => Exit::CannotWrite,
    }
}

/// The answer did not fit into the context.
#[derive(Debug, thiserror::Error)]
#[error("the context of {n_ctx} tokens is full: the answer is not complete; a larger context is set with -c")]
pub struct ContextFull {
    pub n_ctx: usize,
}

/// A text alone does not fit into the context.
#[derive(Debug, thiserror::Error)]
#[error("{name}: its {tokens} tokens do not fit into the context of {n_ctx}: shorten it, or set a larger one with -c")]
pub struct TooLong {
    pub name: String,
    pub tokens: usize,
    pub n_ctx: usize,
}

/// The answer ended before it was what it has to be.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not what it has to be: {why}")]
pub struct Unsatisfied {
    pub why: &'static str,
}

/// The user ended it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct CannotWrite {
    pub path: std::path::PathBuf,
    pub error: std::io::Error,
}

/// Another program cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be run: {error}", program.display())]
pub struct CannotRun {
    pub program: std::path::PathBuf,
    pub error: std::io::Error,
}

/// What was planned needs more memory than there is.
#[derive(Debug, thiserror::Error)]
#[error("it does not fit: {0}")]
pub struct DoesNotFit(pub String);

/// Input that a command cannot use.
#[derive(Debug, thiserror::Error)]
pub enum BadInput {
    /// It was typed.
    #[error("{0}")]
    Argument(String),
    /// It stood in a file or came through a pipe.
    #[error("{name}: {fault}")]
    Faulty { name: String, fault: String },
    #[error("{name}: cannot be read: {error}")]
    Unreadable { name: String, error: std::io::Error },
}

/// Standard output took no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct Unwritable(pub std::io::Error);
