//! Chats that are kept: what was said, as a tree; where it lies on the disk; the caches that belong to it.
//!
//! - [`Transcript`]: the turns of a chat and the way through them. `format`: how they stand in a file.
//! - [`Store`]: the folder of sessions; a session is locked by whoever has it open, and saved whole or not at all.
//! - [`Snapshots`]: files beside the transcripts, for what a model has computed of them; their contents are the
//!   engine's.
//! - [`export`]: a chat as Markdown and as JSON.
//!
//! This room knows no terminal, no model and no tensor.

pub mod export;
mod format;
mod id;
mod snapshots;
mod store;
mod transcript;

pub use format::FormatError;
pub use id::SessionId;
pub use snapshots::{Limit, NewSnapshot, Room, Snapshots};
pub use store::{Listing, Loaded, Session, Store, StoreError, Summary};
pub use transcript::{Answer, Attachment, Body, Branch, Finish, Model, NoTurn, Question, Transcript, Turn, TurnId};
