//! Markers: stand-ins for content while a template runs.
//!
//! A marker is a private-use character, a number that is drawn anew for each rendering, an index,
//! and another private-use character. The number keeps a template from carrying a marker in its own
//! text; content cannot forge one, because content is not there when markers are read. White space
//! around content stays outside, so that templates can trim it; empty content stays empty.

use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

const START: char = '\u{f0000}';
const END: char = '\u{f0001}';
/// Before [`END`], once for each time that the marker was written into a JSON string.
const IN_JSON: char = 'j';

pub(super) struct Markers {
    /// What each marker of this rendering begins with.
    start: String,
    contents: Vec<String>,
}

impl Markers {
    pub(super) fn new() -> Markers {
        let random = || RandomState::new().hash_one(0u8);
        Markers { start: format!("{START}{:016x}{:016X}.", random(), random()), contents: Vec::new() }
    }

    /// A stand-in for `text`.
    pub(super) fn mark(&mut self, text: &str) -> String {
        let content = text.trim();
        if content.is_empty() {
            return text.to_owned();
        }
        let marker = format!("{}{}{END}", self.start, self.contents.len());
        self.contents.push(content.to_owned());
        let before = text.len() - text.trim_start().len();
        let after = text.trim_end().len();
        let space = |range: Option<&str>| range.unwrap_or_default().to_owned();
        space(text.get(..before)) + &marker + &space(text.get(after..))
    }

    /// Takes rendered text apart; `None` where a marker was damaged.
    pub(super) fn cut(&self, rendered: &str) -> Option<Cut> {
        let mut pieces = Vec::new();
        let mut rest = rendered;
        while let Some((literal, behind)) = rest.split_once(&self.start) {
            push_literal(&mut pieces, literal)?;
            let (inner, after) = behind.split_once(END)?;
            let index = inner.trim_end_matches(IN_JSON);
            let mut content = self.contents.get(index.parse::<usize>().ok()?)?.clone();
            for _ in index.len()..inner.len() {
                content = json_inner(&content)?;
            }
            pieces.push(Piece::Content(content));
            rest = after;
        }
        push_literal(&mut pieces, rest)?;
        Some(Cut { pieces })
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) -> Option<()> {
    if text.contains([START, END]) {
        return None;
    }
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.to_owned()));
    }
    Some(())
}

/// `text` as it stands inside a JSON string.
fn json_inner(text: &str) -> Option<String> {
    let json = serde_json::to_string(text).ok()?;
    Some(json.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Tells the markers in a JSON text that they are in one.
pub(super) fn note_json(json: &str) -> String {
    match json.contains(END) {
        true => json.replace(END, &format!("{IN_JSON}{END}")),
        false => json.to_owned(),
    }
}

/// A copy of a tool definition with its strings and its field names marked.
///
/// Left are the words of tool definitions and of JSON schema, because templates look for them.
pub(super) fn mark_values(value: &Value, mark: &mut dyn FnMut(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(mark(text)),
        Value::Array(items) => Value::Array(items.iter().map(|item| mark_values(item, mark)).collect()),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                ("type", Value::String(kind)) if TYPES.contains(&kind.as_str()) => (name.clone(), value.clone()),
                (known, value) if FIELDS.contains(&known) => (name.clone(), mark_values(value, mark)),
                (other, value) => (mark(other), mark_values(value, mark)),
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

const TYPES: [&str; 8] = ["function", "string", "number", "integer", "boolean", "array", "object", "null"];
#[rustfmt::skip]
const FIELDS: [&str; 22] = [
    "type", "function", "name", "description", "parameters", "strict", "return", "properties", "required", "items",
    "enum", "const", "default", "anyOf", "oneOf", "allOf", "additionalProperties", "minimum", "maximum", "format",
    "title", "nullable",
];

/// Rendered text, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The template's own.
    Literal(String),
    /// From the conversation.
    Content(String),
}

impl Cut {
    pub(super) fn text(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) | Piece::Content(text) => text.as_str(),
            })
            .collect()
    }

    /// Drops what the template wrote behind the last content, which must be that of `message`.
    pub(super) fn end_after_last_content(&mut self, message: &str) -> Result<(), super::JinjaError> {
        let behind = match self.pieces.last() {
            Some(Piece::Literal(_)) => self.pieces.pop(),
            _ => None,
        };
        match self.pieces.last() {
            // Reasoning may have been dropped from the front.
            Some(Piece::Content(text)) if message.trim_end().ends_with(text) => {}
            _ => return Err(super::JinjaError::Dropped),
        }
        let space = message.get(message.trim_end().len()..).unwrap_or_default();
        if let Some(Piece::Literal(text)) = behind
            && !space.is_empty()
            && text.starts_with(space)
        {
            self.pieces.push(Piece::Literal(space.to_owned()));
        }
        Ok(())
    }
}
