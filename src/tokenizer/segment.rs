//! The pieces of a prompt: what may be a control token, and what never is.

use std::borrow::Cow;

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// One special token by its text, such as `<｜User｜>`: becomes that token's id, or is an error
    /// where the vocabulary lacks it.
    Control(Cow<'static, str>),
    /// Text: becomes ordinary tokens whatever it says. Neighbours are joined before they are cut.
    Content(String),
}
