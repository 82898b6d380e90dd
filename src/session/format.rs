//! How a chat stands in a file: one JSON object with a version and a checksum around the chat itself.
//!
//! Keys that are not known are kept, and written again. What an older program would misread raises the version,
//! and what is of a later version is refused. Knows no file system.

use super::id::SessionId;
use super::transcript::{Answer, Attachment, Body, Finish, Model, Question, Transcript, Turn, TurnId};
use crate::chat::{ToolCall, ToolResult};
use crate::text::Escaped;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const FORMAT: &str = "cachalot-session";
const VERSION: u32 = 1;

/// Why a text is not a chat.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("damaged: not the JSON of a session: {0}")]
    Json(serde_json::Error),
    #[error("not a session: its format is '{}'", Escaped(.0))]
    Format(String),
    #[error("version {0} of the format is newer than this program, which knows {VERSION}: update cachalot")]
    Newer(u32),
    #[error("damaged: its checksum is another")]
    Checksum,
    #[error("damaged: turn {turn} {fault}")]
    Turn { turn: usize, fault: &'static str },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    format: String,
    version: u32,
    #[serde(default)]
    checksum: String,
    #[serde(borrow)]
    session: &'a RawValue,
}

#[derive(Serialize)]
struct NewEnvelope<'a> {
    format: &'a str,
    version: u32,
    /// BLAKE3 of the text of `session`.
    checksum: String,
    session: &'a RawValue,
}

/// The chat, for a file.
pub(super) fn write(transcript: &Transcript) -> Result<Vec<u8>, serde_json::Error> {
    let session = serde_json::value::to_raw_value(&WireSession::of(transcript))?;
    let checksum = checksum(session.get());
    let envelope = NewEnvelope { format: FORMAT, version: VERSION, checksum, session: &session };
    let mut bytes = serde_json::to_vec(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The chat in a file.
pub(super) fn read(bytes: &[u8]) -> Result<Transcript, FormatError> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(FormatError::Json)?;
    if envelope.format != FORMAT {
        return Err(FormatError::Format(envelope.format.chars().take(40).collect()));
    }
    if envelope.version > VERSION {
        return Err(FormatError::Newer(envelope.version));
    }
    if envelope.checksum != checksum(envelope.session.get()) {
        return Err(FormatError::Checksum);
    }
    let session: WireSession = serde_json::from_str(envelope.session.get()).map_err(FormatError::Json)?;
    session.into_transcript()
}

/// The chat's own fields as JSON, without what a file has around them.
pub(super) fn to_value(transcript: &Transcript) -> Value {
    // Keys are strings and numbers are finite, so that every chat has such a value.
    serde_json::to_value(WireSession::of(transcript)).unwrap_or_default()
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[derive(Serialize, Deserialize)]
struct WireSession {
    id: SessionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    created: Timestamp,
    updated: Timestamp,
    model: WireModel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, String>,
    /// Absent before the first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<u32>,
    turns: Vec<WireTurn>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct WireModel {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireTurn {
    id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<u32>,
    created: Timestamp,
    role: Role,
    content: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<WireAttachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    framed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish: Option<Finish>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Serialize, Deserialize)]
struct WireAttachment {
    name: String,
    content: String,
}

#[derive(Serialize, Deserialize)]
struct WireCall {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    arguments: String,
}

impl WireSession {
    fn of(transcript: &Transcript) -> WireSession {
        let Model { path, name, fingerprint } = transcript.model.clone();
        WireSession {
            id: transcript.id.clone(),
            title: transcript.title.clone(),
            created: transcript.created,
            updated: transcript.updated,
            model: WireModel { path, name, fingerprint },
            system: transcript.system.clone(),
            settings: transcript.settings.clone(),
            current: transcript.current.map(TurnId::number),
            turns: transcript.turns.iter().map(WireTurn::of).collect(),
            unknown: transcript.unknown.clone(),
        }
    }

    fn into_transcript(self) -> Result<Transcript, FormatError> {
        let n_turns = self.turns.len();
        let mut turns = Vec::with_capacity(n_turns);
        for (place, turn) in self.turns.into_iter().enumerate() {
            let number = place + 1;
            let fault = |fault| FormatError::Turn { turn: number, fault };
            if turn.id as usize != number {
                return Err(fault("has another number than its place"));
            }
            // So that no turn is above itself.
            if turn.parent.is_some_and(|parent| parent == 0 || parent >= turn.id) {
                return Err(fault("does not follow an earlier one"));
            }
            turns.push(turn.into_turn());
        }
        if let Some(current) = self.current.filter(|current| *current == 0 || *current as usize > n_turns) {
            return Err(FormatError::Turn { turn: current as usize, fault: "is the current one, but is not there" });
        }
        let WireModel { path, name, fingerprint } = self.model;
        Ok(Transcript {
            id: self.id,
            model: Model { path, name, fingerprint },
            system: self.system,
            settings: self.settings,
            created: self.created,
            updated: self.updated,
            title: self.title,
            turns,
            current: self.current.map(TurnId),
            unknown: self.unknown,
        })
    }
}

impl WireTurn {
    fn of(turn: &Turn) -> WireTurn {
        let empty = WireTurn {
            id: turn.id.number(),
            parent: turn.parent.map(TurnId::number),
            created: turn.created,
            role: Role::System,
            content: String::new(),
            attachments: Vec::new(),
            framed: None,
            reasoning: None,
            tool_calls: Vec::new(),
            finish: None,
            call_id: None,
            unknown: turn.unknown.clone(),
        };
        match turn.body.clone() {
            Body::System(content) => WireTurn { content, ..empty },
            Body::User(Question { text, attachments, framed }) => {
                let attachment = |Attachment { name, content }| WireAttachment { name, content };
                let attachments = attachments.into_iter().map(attachment).collect();
                WireTurn { role: Role::User, content: text, attachments, framed, ..empty }
            }
            Body::Assistant(Answer { content, reasoning, tool_calls, finish }) => {
                let call = |ToolCall { id, name, arguments }| WireCall { id, name, arguments };
                let tool_calls = tool_calls.into_iter().map(call).collect();
                WireTurn { role: Role::Assistant, content, reasoning, tool_calls, finish: Some(finish), ..empty }
            }
            Body::Tool(ToolResult { call_id, content }) => WireTurn { role: Role::Tool, content, call_id, ..empty },
        }
    }

    fn into_turn(self) -> Turn {
        let content = self.content;
        let body = match self.role {
            Role::System => Body::System(content),
            Role::User => {
                let attachment = |WireAttachment { name, content }| Attachment { name, content };
                let attachments = self.attachments.into_iter().map(attachment).collect();
                Body::User(Question { text: content, attachments, framed: self.framed })
            }
            Role::Assistant => {
                let call = |WireCall { id, name, arguments }| ToolCall { id, name, arguments };
                let tool_calls = self.tool_calls.into_iter().map(call).collect();
                let finish = self.finish.unwrap_or_default();
                Body::Assistant(Answer { content, reasoning: self.reasoning, tool_calls, finish })
            }
            Role::Tool => Body::Tool(ToolResult { call_id: self.call_id, content }),
        };
        let parent = self.parent.map(TurnId);
        Turn { id: TurnId(self.id), parent, created: self.created, body, unknown: self.unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::tests::branched;
    use super::*;

    fn text(transcript: &Transcript) -> String {
        String::from_utf8(write(transcript).unwrap()).unwrap()
    }

    /// The file with something replaced, and its checksum made right again.
    fn changed(transcript: &Transcript, from: &str, to: &str) -> String {
        let text = text(transcript);
        let old: Envelope = serde_json::from_str(&text).unwrap();
        assert!(old.session.get().contains(from), "{from}");
        let session = old.session.get().replacen(from, to, 1);
        let new = RawValue::from_string(session).unwrap();
        let envelope = NewEnvelope { format: FORMAT, version: VERSION, checksum: checksum(new.get()), session: &new };
        serde_json::to_string(&envelope).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let transcript = branched();
        assert_eq!(read(&write(&transcript).unwrap()).unwrap(), transcript);
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let transcript = branched();
        let bytes = write(&transcript).unwrap();
        for len in 0..bytes.len() - 1 {
            assert!(read(&bytes[..len]).is_err(), "cut to {len}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                // A key may be spelt in another case, or white space become other white space: then the chat is whole.
                assert!(
                    read(&bad).is_ok_and(|read| read == transcript) || read(&bad).is_err(),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }

    #[test]
    fn unknown_keys_are_kept() {
        let later = changed(&branched(), "\"turns\":", "\"mood\":{\"x\":[1]},\"turns\":");
        let later = read(later.as_bytes()).unwrap();
        let later = changed(&later, "\"role\":\"user\"", "\"role\":\"user\",\"stars\":5");
        let kept = read(later.as_bytes()).unwrap();
        assert!(text(&kept).contains("\"mood\":{\"x\":[1]}") && text(&kept).contains("\"stars\":5"));
        assert_eq!(kept.turns.len(), branched().turns.len());
    }

    #[test]
    fn what_is_no_chat_is_refused_with_the_reason() {
        let transcript = branched();
        let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        let newer = text(&transcript).replacen("\"version\":1", "\"version\":2", 1);
        assert!(refused(&newer).contains("version 2 of the format is newer"), "{}", refused(&newer));
        let other = text(&transcript).replacen(FORMAT, "else", 1);
        assert_eq!(refused(&other), "not a session: its format is 'else'");
        assert!(refused("[]").contains("not the JSON of a session"));
        assert_eq!(refused(&text(&transcript).replacen("Why", "Who", 1)), "damaged: its checksum is another");
        for (from, to, says) in [
            ("\"parent\":1", "\"parent\":2", "turn 2 does not follow an earlier one"),
            ("\"parent\":1", "\"parent\":0", "turn 2 does not follow an earlier one"),
            ("\"id\":2", "\"id\":7", "turn 2 has another number than its place"),
            ("\"current\":5", "\"current\":99", "turn 99 is the current one, but is not there"),
            ("\"current\":5", "\"current\":0", "turn 0 is the current one, but is not there"),
            ("\"role\":\"user\"", "\"role\":\"ghost\"", "unknown variant `ghost`"),
        ] {
            let text = refused(&changed(&transcript, from, to));
            assert!(text.contains(says), "{text}");
        }
    }
}
