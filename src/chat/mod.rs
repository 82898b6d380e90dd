//! Conversations to prompts, and generated text back to answers.
//!
//! A [`Conversation`] becomes a [`Prompt`] through a [`Family`], which is code, or through a
//! [`FileTemplate`], the Jinja text of the model's file. Either way the prompt is a list of
//! [`Segment`](crate::tokenizer::Segment)s, and only what a template itself writes is a control
//! token in it: text that a user, a file, a search or a tool wrote is content, whatever it says. The
//! prompt knows how to read the answer: [`Prompt::parser`] turns the generated pieces into
//! reasoning, content and tool calls while they stream. One exception: `<think>` and `</think>` in the
//! answers of a reasoning model's history are the tokens that the model wrote.
//!
//! [`official`] and [`search`] hold the texts that DeepSeek's own applications send.
//!
//! This room knows no HTTP, no GGUF, and no token ids.
//!
//! # Where the families follow the published templates, and where not
//!
//! Prompts are byte for byte those of the models' templates for every conversation that these can
//! express. Where a template forgets a marker or repeats one wrongly, its family does not:
//!
//! * tool results that no answer follows are closed before the next user message (V3);
//! * a second round of tool calls is framed as the first one was (R1);
//! * a prompt that ends with a system message or an answer still asks for an answer (V3.1);
//! * reasoning in the history is dropped from every answer, also from those that call tools or follow
//!   their results (R1, V3.1).

mod base;
mod call;
mod family;
mod growing;
mod jinja;
mod message;
pub mod official;
mod parse;
mod partial;
mod prompt;
#[cfg(test)]
mod properties;
mod r1;
pub mod search;
mod template;
mod tools;
mod v2;
mod v3;
mod v31;

pub use call::CallFault;
pub use family::{Detected, Facts, Family, Thinking, UnknownFamily};
pub use jinja::{Agreement, FileTemplate, JinjaError, SpecialTokens};
pub use message::{Assistant, Conversation, Message, MessageError, Tool, ToolCall, ToolResult};
pub use parse::{Answer, Event, Expects, Parser, Piece};
pub use partial::whole_members;
pub use prompt::{Prompt, completion, fim};
pub use template::{Ending, Options, TemplateError};
pub use tools::CallRest;
