//! Where the parts of an answer go: the answer itself to stdout as it comes, its reasoning to stderr; or all of
//! it, at the end, into one JSON object.

use crate::chat::{self, Event};
use crate::cli::output::{FileText, json};
use crate::engine::{Engine, FinishReason, Finished};
use crate::exit::Unwritable;
use crate::text::steers_terminal;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

pub(super) enum Answer {
    Streamed(Printer),
    Collected(chat::Answer),
}

impl Answer {
    pub(super) fn new(as_json: bool, show_reasoning: bool, quiet: bool) -> Answer {
        if as_json {
            return Answer::Collected(chat::Answer::default());
        }
        let reasoning = match (show_reasoning, quiet) {
            (true, _) => Reasoning::Shown,
            (false, true) => Reasoning::Dropped,
            (false, false) => Reasoning::Aside,
        };
        let out = FileText::new();
        Answer::Streamed(Printer {
            out,
            reasoning,
            is_reasoning: false,
            at_line_start: true,
            aside_at_line_start: true,
        })
    }

    pub(super) fn take(&mut self, events: Vec<Event>) -> Result<(), Unwritable> {
        match self {
            Answer::Streamed(printer) => printer.print(events),
            Answer::Collected(answer) => {
                events.into_iter().for_each(|event| answer.add(event));
                Ok(())
            }
        }
    }

    /// Ends what was said of an answer that failed.
    pub(super) fn end(&mut self) -> Result<(), Unwritable> {
        match self {
            Answer::Streamed(printer) => printer.end(),
            Answer::Collected(_) => Ok(()),
        }
    }

    pub(super) fn finish(mut self, report: &Report<'_>) -> Result<(), Unwritable> {
        match &self {
            Answer::Streamed(_) => self.end(),
            Answer::Collected(answer) => json(&report.object(answer)),
        }
    }
}

/// What becomes of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reasoning {
    /// It is part of the answer.
    Shown,
    /// It goes to stderr.
    Aside,
    Dropped,
}

/// An answer on stdout, as it comes.
pub(super) struct Printer {
    out: FileText,
    reasoning: Reasoning,
    is_reasoning: bool,
    at_line_start: bool,
    aside_at_line_start: bool,
}

impl Printer {
    fn print(&mut self, events: Vec<Event>) -> Result<(), Unwritable> {
        for event in events {
            match event {
                Event::Reasoning(text) => self.reason(&text)?,
                Event::Content(text) | Event::Malformed { text, .. } => self.content(&text)?,
                Event::ToolCall { name, arguments } => self.content(&format!("{name}({arguments})\n"))?,
                Event::CallBegun { .. } | Event::Arguments(_) => {}
            }
        }
        self.out.flush().map_err(Unwritable)
    }

    fn reason(&mut self, text: &str) -> Result<(), Unwritable> {
        let begins = !std::mem::replace(&mut self.is_reasoning, true);
        match self.reasoning {
            Reasoning::Shown if begins => self.write(&format!("<think>\n{text}")),
            Reasoning::Shown => self.write(text),
            Reasoning::Aside => {
                self.aside(text);
                Ok(())
            }
            Reasoning::Dropped => Ok(()),
        }
    }

    fn content(&mut self, text: &str) -> Result<(), Unwritable> {
        if self.is_reasoning && !text.is_empty() {
            self.end_reasoning()?;
        }
        self.write(text)
    }

    fn end_reasoning(&mut self) -> Result<(), Unwritable> {
        self.is_reasoning = false;
        match self.reasoning {
            Reasoning::Shown => {
                let gap = if self.at_line_start { "" } else { "\n" };
                self.write(&format!("{gap}</think>\n\n"))
            }
            Reasoning::Aside if !self.aside_at_line_start => {
                self.aside("\n");
                Ok(())
            }
            Reasoning::Aside | Reasoning::Dropped => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Unwritable> {
        self.at_line_start = if text.is_empty() { self.at_line_start } else { text.ends_with('\n') };
        self.out.write_all(text.as_bytes()).map_err(Unwritable)
    }

    /// On stderr, where a failure to write is nobody's concern.
    fn aside(&mut self, text: &str) {
        let is_terminal = io::stderr().is_terminal();
        let shown: String = text.chars().filter(|c| !is_terminal || !steers_terminal(*c)).collect();
        let _ = io::stderr().write_all(shown.as_bytes());
        self.aside_at_line_start = if text.is_empty() { self.aside_at_line_start } else { text.ends_with('\n') };
    }

    /// Ends the last line, of the reasoning too.
    fn end(&mut self) -> Result<(), Unwritable> {
        if self.is_reasoning {
            self.end_reasoning()?;
        }
        if !self.at_line_start {
            self.write("\n")?;
        }
        self.out.flush().map_err(Unwritable)
    }
}

/// What there is to say of an answer.
pub(super) struct Report<'a> {
    pub(super) engine: &'a Engine,
    pub(super) finished: &'a Finished,
    pub(super) load: Duration,
}

/// The object that `--json` prints. Fields may be added to it, and none goes.
#[derive(Serialize)]
struct Object<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    satisfied: Option<bool>,
    tokens: Tokens,
    seconds: Seconds,
    model: Model,
    seed: u64,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Tokens {
    prompt: usize,
    cached: usize,
    generated: usize,
}

#[derive(Serialize)]
struct Seconds {
    load: f64,
    prompt: f64,
    generation: f64,
}

#[derive(Serialize)]
struct Model {
    name: Option<String>,
    path: String,
}

impl Report<'_> {
    fn object<'a>(&self, answer: &'a chat::Answer) -> Object<'a> {
        let (info, usage) = (self.engine.info(), &self.finished.usage);
        let calls = answer.message.tool_calls.iter();
        Object {
            text: &answer.message.content,
            reasoning: answer.message.reasoning.as_deref(),
            tool_calls: calls.map(|call| ToolCall { name: &call.name, arguments: &call.arguments }).collect(),
            finish_reason: reason(self.finished.reason),
            satisfied: self.finished.is_satisfied,
            tokens: Tokens {
                prompt: usage.prompt_tokens,
                cached: usage.cached_tokens,
                generated: usage.generated_tokens,
            },
            seconds: Seconds {
                load: self.load.as_secs_f64(),
                prompt: usage.prompt_time.as_secs_f64(),
                generation: usage.generation_time.as_secs_f64(),
            },
            model: Model { name: info.name.clone(), path: info.path.display().to_string() },
            seed: self.finished.seed,
        }
    }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfAnswer => "end",
        FinishReason::StopString(_) | FinishReason::StopToken(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ContextFull => "context_full",
        FinishReason::Cancelled => "interrupted",
    }
}
