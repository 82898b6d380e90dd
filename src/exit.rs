//! The exit codes of every command, and which error means which.

use crate::gguf;
use crate::model;
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
    /// A file is damaged, or of a kind that is not supported.
    Damaged = 65,
    /// A file, shard or model was not found, or cannot be read.
    NotFound = 66,
    /// Output exists already, or cannot be written.
    CannotWrite = 73,
    /// Not enough memory.
    NoMemory = 75,
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
    if let Some(error) = cause.downcast_ref::<BadInput>() {
        return Some(match error {
            BadInput::Argument(_) => Exit::Usage,
            BadInput::Faulty { .. } => Exit::Damaged,
            BadInput::Unreadable { .. } => Exit::NotFound,
        });
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
