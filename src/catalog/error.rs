//! What can go wrong between a model's name and its files, and what its user can do about it.

use crate::exit::Exit;
use crate::text::{Clipped, Escaped};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {fault}", path.display())]
    Catalogue { path: PathBuf, fault: String },
    #[error(
        "there is no file or folder '{0}' here, and no model of that name; `cachalot list --all` shows those that \
         are known"
    )]
    UnknownModel(String),
    #[error("'{text}' is no {wanted}")]
    Form { text: String, wanted: &'static str },
    #[error(
        "the catalogue knows no GGUF files of {0}; name a repository that has them, as in \
         `cachalot pull hf:OWNER/REPO:QUANT`"
    )]
    NoFiles(String),
    #[error("{name} is not here; `cachalot pull {name}` fetches it{hint}")]
    NotPulled { name: String, hint: String },
    #[error(
        "{name} is not complete: {missing} of its {files} files are missing; `cachalot pull {name}` goes on with it"
    )]
    Unfinished { name: String, missing: usize, files: usize },
    #[error("{name} has several quants here: name one of {}", list(.quants))]
    SeveralHere { name: String, quants: Vec<String> },
    #[error(
        "{repo} has several quants: name one behind a colon, as in '{name}:{}'. It has {}",
        .quants.first().map_or("QUANT", |(quant, _)| quant),
        list(&.quants.iter().map(|(quant, bytes)| format!("{quant} ({})", gigabytes(*bytes))).collect::<Vec<_>>())
    )]
    NeedsQuant { name: String, repo: String, quants: Vec<(String, u64)> },
    #[error("{repo} has no quant '{quant}'; it has {}", list(.there))]
    NoQuant { repo: String, quant: String, there: Vec<String> },
    #[error("{repo} has no GGUF files")]
    NoGguf { repo: String },
    #[error("{repo} has several sets of files for '{quant}': {}", list(.sets))]
    Ambiguous { repo: String, quant: String, sets: Vec<String> },
    #[error(
        "{repo} lacks {missing} of the {count} shards of {quant}, '{first}' to begin with: the upload is not complete"
    )]
    Incomplete { repo: String, quant: String, missing: u64, count: u64, first: String },
    #[error("the hub has no repository '{repo}', or none that may be read without its owner's leave")]
    NoRepository { repo: String },
    #[error("{repo} has no revision '{revision}'")]
    NoRevision { repo: String, revision: String },
    #[error("{what} is not there any more (HTTP 404): it was removed from the hub")]
    Gone { what: String },
    #[error("{repo} may not be read (HTTP {status}): {}", denied(repo, endpoint, *has_token))]
    Denied { repo: String, status: u16, endpoint: String, has_token: bool },
    #[error(
        "{host} is not reachable: {reason}; another hub (a mirror) is named by HF_ENDPOINT, a proxy by HTTPS_PROXY"
    )]
    Unreachable { host: String, reason: String },
    #[error("{host} fails: {reason}; what has come so far is kept: `cachalot pull` goes on with it")]
    Failing { host: String, reason: String },
    #[error("{what}: the hub's answer cannot be used: {fault}")]
    Answer { what: String, fault: String },
    #[error("the hub names a file '{}', which is no name that a file may get here", Clipped(.0))]
    FileName(String),
    #[error("{file}: changed on the hub while it was fetched ({what}); `cachalot pull` again takes what is there now")]
    Changed { file: String, what: String },
    #[error(
        "{file}: what came is not what the hub says it is: its SHA-256 is {found}, not {expected}; it was not kept"
    )]
    Hash { file: String, expected: String, found: String },
    #[error(
        "{}: {needed} more are needed, {free} are free; make room, or keep models elsewhere with --dir or \
         CACHALOT_MODELS",
        folder.display()
    )]
    NoSpace { folder: PathBuf, needed: String, free: String },
    #[error("{}: another cachalot is at work on this model", .0.display())]
    Locked(PathBuf),
    #[error("there is no home folder: name a folder for models with --dir or CACHALOT_MODELS")]
    NoHome,
    #[error("{}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{}: cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: {fault}; `cachalot pull` makes it anew", path.display())]
    Manifest { path: PathBuf, fault: String },
    #[error(
        "{}: no hashes are kept of this file; `--against hf:OWNER/REPO:QUANT` takes those of the hub",
        .0.display()
    )]
    NoHashes(PathBuf),
    #[error(
        "{n_wrong} of {n_files} files of {name} are damaged or missing; `cachalot verify --repair` fetches what is \
         needed"
    )]
    Damaged { name: String, n_wrong: usize, n_files: usize },
    #[error("stopped, since another file could not be fetched")]
    Stopped,
}

impl Error {
    /// How the program ends where it ends by this.
    pub fn exit(&self) -> Exit {
        match self {
            Error::UnknownModel(_) | Error::NotPulled { .. } | Error::Unfinished { .. } | Error::NoFiles(_) => {
                Exit::NotFound
            }
            Error::NoQuant { .. } | Error::NoGguf { .. } | Error::NoRepository { .. } => Exit::NotFound,
            Error::NoRevision { .. } | Error::Gone { .. } => Exit::NotFound,
            Error::NoHome | Error::Read { .. } | Error::NoHashes(_) => Exit::NotFound,
            Error::Form { .. } | Error::SeveralHere { .. } | Error::NeedsQuant { .. } | Error::Ambiguous { .. } => {
                Exit::Usage
            }
            Error::Catalogue { .. } | Error::Incomplete { .. } | Error::FileName(_) | Error::Manifest { .. } => {
                Exit::Damaged
            }
            Error::Hash { .. } | Error::Answer { .. } | Error::Changed { .. } | Error::Damaged { .. } => Exit::Damaged,
            Error::Denied { .. } => Exit::NotPermitted,
            Error::Unreachable { .. } | Error::Failing { .. } => Exit::Unreachable,
            Error::NoSpace { .. } | Error::Write { .. } => Exit::CannotWrite,
            Error::Locked(_) | Error::Stopped => Exit::Failed,
        }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Write { path: path.to_owned(), error }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Read { path: path.to_owned(), error }
    }
}

fn denied(repo: &str, endpoint: &str, has_token: bool) -> String {
    let repo = Escaped(repo);
    match has_token {
        true => format!(
            "the token that is set gives no access to it; if it is gated, accept its conditions at {endpoint}/{repo}, \
             and see that the token may read it"
        ),
        false => format!(
            "it is gated or private, or there is none of that name; accept its conditions at {endpoint}/{repo}, and \
             set HF_TOKEN to a token of yours"
        ),
    }
}

/// `250 GB`, as the cards of repositories count.
fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        gb @ 10.0.. => format!("{gb:.0} GB"),
        gb @ 0.1.. => format!("{gb:.1} GB"),
        gb => format!("{:.1} MB", gb * 1e3),
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 24;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| Clipped(name).to_string()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
