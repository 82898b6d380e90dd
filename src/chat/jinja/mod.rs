//! Prompts from the Jinja template that a model file brings along, for those who ask for it.
//!
//! A template is a program from outside that sees what people wrote and prints control tokens; here
//! it may do the second only without the first. It is rendered with markers in place of everything
//! that came with the conversation (see [`marker`]), so that whatever stands between the markers is
//! the template's own text: special tokens in that are control tokens, and what the markers stand
//! for never is.
//!
//! # What a template may do with content
//!
//! Print it, join it, trim it, write it as JSON, test whether it is empty or missing, and drop
//! reasoning up to `</think>` from an answer. Anything else cannot be carried by a marker: cutting
//! it elsewhere, changing its case, comparing it, counting it. This is not guessed: the template is
//! rendered a second time with the real content, and unless the marked prompt says exactly the same
//! text, it is refused. The second rendering is compared and thrown away.
//!
//! Work is limited by fuel, recursion depth and the size of the output. The memory of strings that a
//! template builds and does not print is not limited.

mod environment;
mod marker;

use super::family::{Family, Thinking};
use super::message::{Conversation, Message, MessageError};
use super::parse::Expects;
use super::prompt::{Prompt, THINK, THINK_END};
use super::template::{Ending, Options, TemplateError};
use crate::text::{Clipped, Escaped};
use environment::render;
use marker::{Cut, Markers, Piece};
use minijinja::Environment;
use serde_json::{Value, json};
use std::fmt;

/// A template that came with a model.
pub struct FileTemplate {
    /// Runs the template on markers.
    marked: Environment<'static>,
    /// Runs it on the conversation itself, to see what it should say.
    plain: Environment<'static>,
    bos: String,
    eos: String,
    /// Longest first.
    special_tokens: Vec<String>,
}

/// What the vocabulary says about special tokens.
#[derive(Debug, Clone, Copy)]
pub struct SpecialTokens<'a> {
    pub bos: &'a str,
    pub eos: &'a str,
    /// Control tokens, and the user-defined ones that templates write, such as `<think>`.
    pub all: &'a [&'a str],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JinjaError {
    #[error("the file's chat template has {0} bytes; at most {max} are allowed: choose a built-in family", max = environment::MAX_SOURCE)]
    TooLong(usize),
    #[error("the file's chat template cannot be read: {}; choose a built-in family", Escaped(.0))]
    Syntax(String),
    #[error("the file's chat template failed: {}; choose a built-in family", Escaped(.0))]
    Failed(String),
    #[error("the file's chat template refuses the conversation: {}", Escaped(.0))]
    Refused(String),
    #[error("the file's chat template does not come to an end: choose a built-in family")]
    OutOfFuel,
    #[error("the file's chat template writes more than {0} bytes: choose a built-in family")]
    TooMuch(usize),
    #[error(
        "the file's chat template decides by what the messages say, or changes it, so text and control tokens cannot be told apart: choose a built-in family"
    )]
    Inspects,
    #[error("the file's chat template drops the message that is to be continued: choose a built-in family")]
    Dropped,
    #[error("reasoning cannot be continued with the file's chat template: choose a built-in family")]
    Reasoning,
    #[error(transparent)]
    Conversation(#[from] TemplateError),
}

impl From<MessageError> for JinjaError {
    fn from(error: MessageError) -> JinjaError {
        JinjaError::Conversation(error.into())
    }
}

/// Whether a file's template and a family write the same prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    Same,
    /// The prompts of both, from where they part.
    Different {
        template: String,
        family: String,
    },
    /// The template has no prompt for a plain conversation.
    Failed(JinjaError),
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Agreement::Same => f.write_str("the file's chat template writes the same prompts"),
            Agreement::Different { template, family } => write!(
                f,
                "the file's chat template differs: it writes '{}' where this family writes '{}'",
                Clipped(template),
                Clipped(family)
            ),
            Agreement::Failed(error) => error.fmt(f),
        }
    }
}

impl FileTemplate {
    pub fn new(source: &str, tokens: SpecialTokens) -> Result<FileTemplate, JinjaError> {
        // A token with white space in it could be met in the white space around content.
        let usable = tokens.all.iter().filter(|token| !token.is_empty() && !token.contains(char::is_whitespace));
        let mut special_tokens: Vec<String> = usable.map(|token| (*token).to_owned()).collect();
        special_tokens.sort_unstable_by_key(|token| std::cmp::Reverse(token.len()));
        Ok(FileTemplate {
            marked: environment::new(source, true)?,
            plain: environment::new(source, false)?,
            bos: tokens.bos.to_owned(),
            eos: tokens.eos.to_owned(),
            special_tokens,
        })
    }

    /// Writes the conversation as the template does.
    pub fn prompt(&self, conversation: &Conversation, options: Options) -> Result<Prompt, JinjaError> {
        conversation.check()?;
        let Some(last) = conversation.messages.last().filter(|_| options.ending == Ending::Continue) else {
            let cut = self.cut(conversation, options)?;
            return Ok(self.write(&cut, options));
        };
        let Message::Assistant(last) = last else {
            return Err(TemplateError::NotAssistant(last.role()).into());
        };
        if !last.tool_calls.is_empty() {
            return Err(TemplateError::CompleteCalls.into());
        }
        if last.reasoning.is_some() || last.content.starts_with(THINK) {
            return Err(JinjaError::Reasoning);
        }
        if last.content.trim().is_empty() {
            // Nothing marks where such a message ends; an answer that begins with it is the same.
            let mut shorter = conversation.clone();
            shorter.messages.pop();
            let answer = Options { ending: Ending::Answer, ..options };
            let mut prompt = self.prompt(&shorter, answer)?;
            prompt.text(&last.content);
            return Ok(prompt);
        }
        let mut cut = self.cut(conversation, options)?;
        cut.end_after_last_content(&last.content)?;
        Ok(self.write(&cut, options))
    }

    /// Renders until marked and real text agree.
    fn cut(&self, conversation: &Conversation, options: Options) -> Result<Cut, JinjaError> {
        let bytes = serde_json::to_string(&context(conversation, &mut str::to_owned)).map_or(0, |text| text.len());
        let limit = environment::MAX_OUTPUT.saturating_add(bytes.saturating_mul(4));
        let real = render(&self.plain, self.frame(context(conversation, &mut str::to_owned), options), limit)?;
        for drop in [Reasoning::Kept, Reasoning::DroppedToLast, Reasoning::DroppedToFirst] {
            let Some(conversation) = drop.apply(conversation) else {
                continue;
            };
            let mut markers = Markers::new();
            let marked = context(&conversation, &mut |text| markers.mark(text));
            let cut = markers.cut(&render(&self.marked, self.frame(marked, options), limit)?);
            if let Some(cut) = cut.filter(|cut| cut.text() == real) {
                return Ok(cut);
            }
        }
        Err(JinjaError::Inspects)
    }

    /// Adds what every template may ask for.
    fn frame(&self, mut context: Value, options: Options) -> Value {
        if let Some(fields) = context.as_object_mut() {
            fields.insert("bos_token".to_owned(), json!(self.bos));
            fields.insert("eos_token".to_owned(), json!(self.eos));
            fields.insert("add_generation_prompt".to_owned(), json!(options.ending == Ending::Answer));
            if let Some(thinking) = options.thinking {
                fields.insert("thinking".to_owned(), json!(thinking));
                fields.insert("enable_thinking".to_owned(), json!(thinking));
            }
        }
        context
    }

    /// A prompt begins with one bos, whether or not the template writes it, and with nothing before it.
    fn without_bos<'t>(&self, text: &'t str) -> &'t str {
        let rest = text.trim_start().strip_prefix(&self.bos);
        rest.filter(|_| !self.bos.is_empty()).unwrap_or(text)
    }

    /// Segments: the template's own special tokens, and text.
    fn write(&self, cut: &Cut, options: Options) -> Prompt {
        let mut prompt = Prompt::default();
        prompt.control(self.bos.clone());
        let mut last_token = "";
        for (number, piece) in cut.pieces.iter().enumerate() {
            match piece {
                Piece::Content(text) => {
                    prompt.text(text);
                    last_token = "";
                }
                Piece::Literal(text) => {
                    let text = if number == 0 { self.without_bos(text) } else { text };
                    for (before, token) in self.tokens_in(text) {
                        prompt.text(before);
                        if let Some(token) = token {
                            prompt.control(token.to_owned());
                        }
                        if token.is_some() || !before.trim().is_empty() {
                            last_token = token.unwrap_or("");
                        }
                    }
                }
            }
        }
        let reasons = self.special_tokens.iter().any(|token| token == THINK);
        prompt.expect(match last_token {
            THINK => Expects::Reasoning,
            THINK_END => Expects::Answer,
            _ if reasons && options.ending == Ending::Answer => Expects::Either,
            _ => Expects::Answer,
        });
        prompt
    }

    /// The template's text, cut behind each special token in it.
    fn tokens_in<'a>(&'a self, text: &'a str) -> Vec<(&'a str, Option<&'a str>)> {
        let mut parts = Vec::new();
        let (mut rest, mut at) = (text, 0);
        while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
            let token = self.special_tokens.iter().find(|token| tail.starts_with(token.as_str()));
            match token {
                Some(token) => {
                    let (before, behind) = rest.split_at(at);
                    parts.push((before, Some(token.as_str())));
                    (rest, at) = (behind.get(token.len()..).unwrap_or_default(), 0);
                }
                None => at += tail.chars().next().map_or(1, char::len_utf8),
            }
        }
        parts.push((rest, None));
        parts
    }

    /// Compares the prompts of plain conversations: one question; a system message, an answer, and
    /// a second question. Models that reason on request are asked to and not to.
    pub fn agrees_with(&self, family: Family) -> Agreement {
        let requests: &[Option<bool>] = match family.thinking() {
            Thinking::OnRequest => &[None, Some(true)],
            Thinking::Never | Thinking::Always => &[None],
        };
        let agreements = requests
            .iter()
            .map(|thinking| self.agrees_on(family, Options { thinking: *thinking, ..Options::default() }));
        agreements.into_iter().find(|agreement| *agreement != Agreement::Same).unwrap_or(Agreement::Same)
    }

    fn agrees_on(&self, family: Family, options: Options) -> Agreement {
        let (system, user) = (|| Message::System("S".to_owned()), |text: &str| Message::User(text.to_owned()));
        for messages in
            [vec![user("Q")], vec![system(), user("Q")], vec![system(), user("Q"), Message::assistant("A"), user("R")]]
        {
            let conversation = Conversation::new(messages);
            let template = match self.prompt(&conversation, options) {
                Ok(prompt) => prompt,
                Err(error) => return Agreement::Failed(error),
            };
            match family.prompt(&conversation, options) {
                // What a family cannot say it cannot say differently.
                Err(_) => continue,
                Ok(prompt) if prompt.segments() == template.segments() => {}
                Ok(prompt) => return difference(&template, &prompt),
            }
        }
        Agreement::Same
    }
}

/// The rest of both prompts, from the first segment that is not the same.
fn difference(template: &Prompt, family: &Prompt) -> Agreement {
    let pairs = template.segments().iter().zip(family.segments());
    let same = pairs.take_while(|(a, b)| a == b).count();
    Agreement::Different { template: template.text_from(same), family: family.text_from(same) }
}

/// What a template may have taken away from the answers of a reasoning model.
#[derive(Clone, Copy)]
enum Reasoning {
    Kept,
    DroppedToLast,
    DroppedToFirst,
}

impl Reasoning {
    /// The conversation without it; `None` where that changes nothing.
    fn apply(self, conversation: &Conversation) -> Option<Conversation> {
        let mut changed = matches!(self, Reasoning::Kept);
        let mut conversation = conversation.clone();
        for message in &mut conversation.messages {
            let Message::Assistant(assistant) = message else {
                continue;
            };
            let split = match self {
                Reasoning::Kept => None,
                Reasoning::DroppedToLast => assistant.content.rsplit_once(THINK_END),
                Reasoning::DroppedToFirst => assistant.content.split_once(THINK_END),
            };
            if let Some((_, answer)) = split {
                assistant.content = answer.to_owned();
                changed = true;
            }
        }
        changed.then_some(conversation)
    }
}

/// The conversation as templates expect it, with `mark` applied to all that came from outside.
fn context(conversation: &Conversation, mark: &mut dyn FnMut(&str) -> String) -> Value {
    let messages: Vec<Value> = conversation.messages.iter().map(|message| message_value(message, mark)).collect();
    let mut context = json!({ "messages": messages });
    if let Some(fields) = context.as_object_mut().filter(|_| !conversation.tools.is_empty()) {
        let tools = conversation.tools.iter().map(|tool| marker::mark_values(&tool.definition, mark)).collect();
        fields.insert("tools".to_owned(), Value::Array(tools));
    }
    context
}

fn message_value(message: &Message, mark: &mut dyn FnMut(&str) -> String) -> Value {
    let role = message.role();
    let assistant = match message {
        Message::System(text) | Message::User(text) => return json!({ "role": role, "content": mark(text) }),
        Message::Tool(result) => {
            let mut value = json!({ "role": role, "content": mark(&result.content) });
            if let (Some(fields), Some(id)) = (value.as_object_mut(), &result.call_id) {
                fields.insert("tool_call_id".to_owned(), json!(mark(id)));
            }
            return value;
        }
        Message::Assistant(assistant) => assistant,
    };
    // Templates ask whether a message that calls tools has content by comparing with none.
    let content = match assistant.content.as_str() {
        "" if !assistant.tool_calls.is_empty() => Value::Null,
        text => json!(mark(text)),
    };
    let mut value = json!({ "role": role, "content": content });
    let Some(fields) = value.as_object_mut() else {
        return value;
    };
    if let Some(reasoning) = &assistant.reasoning {
        fields.insert("reasoning_content".to_owned(), json!(mark(reasoning)));
    }
    if !assistant.tool_calls.is_empty() {
        let mut calls = Vec::new();
        for call in &assistant.tool_calls {
            let function = json!({ "name": mark(&call.name), "arguments": mark(&call.arguments) });
            let mut value = json!({ "type": "function", "function": function });
            if let (Some(fields), Some(id)) = (value.as_object_mut(), &call.id) {
                fields.insert("id".to_owned(), json!(mark(id)));
            }
            calls.push(value);
        }
        fields.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    value
}

#[cfg(test)]
mod tests;
