//! Generated text back to reasoning, content and tool calls, while it streams.
//!
//! Only control tokens mark tool calls, so text that merely spells a marker stays text. Reasoning
//! ends at `</think>` in either form, because that is how the models' own code finds it. A call is
//! told of as it grows, once it is certain to be meant as one, and reported when it is whole; one that
//! turns out malformed becomes content. Nothing is dropped but markers, the tags, the line breaks next to
//! the tags, and the frame of a well-formed call. Calls may come in the midst of reasoning, which then
//! goes on behind them.
//!
//! Where the input is cut into pieces makes no difference: text is read character by character.

use super::call::CallFault;
use super::growing::Growing;
use super::message::{Assistant, ToolCall};
use super::prompt::{THINK, THINK_END};
use super::tools::{CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEP};

/// How an answer begins, given the prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expects {
    /// With the answer itself; `<think>` is then a word like others.
    #[default]
    Answer,
    /// With reasoning, whether or not `<think>` is written again.
    Reasoning,
    /// In the midst of reasoning.
    MoreReasoning,
    /// With reasoning where `<think>` comes first, else with the answer.
    Either,
}

/// What the engine generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text of ordinary tokens, cut anywhere.
    Text(&'a str),
    /// The text of one control or user-defined token. End-of-generation tokens are not part of the answer.
    Control(&'a str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// More reasoning.
    Reasoning(String),
    /// More content.
    Content(String),
    /// A call begins: its name is certain. Who wants whole calls only waits for what this ends with: a [`ToolCall`](Event::ToolCall)
    /// or [`Malformed`](Event::Malformed) text.
    CallBegun { name: String },
    /// More of the arguments of the call that was begun: all of them together are those of the call, if it becomes one,
    /// and else no whole JSON object.
    Arguments(String),
    /// A whole, well-formed call.
    ToolCall { name: String, arguments: String },
    /// Text that began like a tool call and is none: content, and a sign that something went wrong.
    Malformed { text: String, fault: CallFault },
}

/// An answer, put together from events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub message: Assistant,
    /// What was malformed; its text is in the content.
    pub faults: Vec<CallFault>,
}

impl Answer {
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Reasoning(text) => self.message.reasoning.get_or_insert_default().push_str(&text),
            Event::Content(text) => self.message.content.push_str(&text),
            Event::ToolCall { name, arguments } => {
                self.message.tool_calls.push(ToolCall { id: None, name, arguments });
            }
            Event::CallBegun { .. } | Event::Arguments(_) => {}
            Event::Malformed { text, fault } => {
                self.message.content.push_str(&text);
                self.faults.push(fault);
            }
        }
    }
}

/// Reads an answer piece by piece.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// A well-formed call came and its section is not closed yet.
    section: bool,
    /// Calls came in the midst of reasoning, which goes on behind them.
    interrupted: bool,
    events: Vec<Event>,
}

#[derive(Debug)]
enum State {
    /// Before anything but white space: `<think>` may come. `held` is what of it, and before it, came.
    Opening {
        reasons: bool,
        held: String,
        matched: usize,
    },
    /// `held` is line breaks, then what came of `</think>`. `fresh` until the first other character.
    Reasoning {
        held: String,
        matched: usize,
        fresh: bool,
    },
    /// Behind `</think>`, where line breaks belong to the tag.
    Gap,
    Content,
    /// Between calls. `held` is what content must get back if no call comes.
    Section {
        held: String,
    },
    Call(Growing),
}

impl Parser {
    pub fn new(expects: Expects) -> Parser {
        let opening = |reasons| State::Opening { reasons, held: String::new(), matched: 0 };
        let state = match expects {
            Expects::Answer => State::Content,
            Expects::Reasoning => opening(true),
            Expects::MoreReasoning => reasoning(false),
            Expects::Either => opening(false),
        };
        Parser { state, section: false, interrupted: false, events: Vec::new() }
    }

    /// Takes the next piece; returns what it completed.
    pub fn push(&mut self, piece: Piece) -> Vec<Event> {
        match piece {
            Piece::Text(text) => self.text(text),
            Piece::Control(token) => self.control(token),
        }
        std::mem::take(&mut self.events)
    }

    /// Ends the answer: what was held back comes out.
    pub fn finish(mut self) -> Vec<Event> {
        self.release();
        self.events
    }

    /// Ends an answer that a limit cut, and returns the call that it was in the midst of. Markers without a call are dropped:
    /// what they would have marked is not known.
    pub fn cut(mut self) -> (Vec<Event>, Option<ToolCall>) {
        if let State::Call(call) = self.state {
            let call = call.cut(&mut self.events);
            return (self.events, call);
        }
        self.release();
        self.events.retain(|event| !matches!(event, Event::Malformed { .. }));
        (self.events, None)
    }

    fn text(&mut self, text: &str) {
        let mut rest = text.chars();
        while !matches!(self.state, State::Content) {
            match rest.next() {
                Some(c) => self.character(c),
                None => return,
            }
        }
        // Content holds nothing back and ends at control tokens only.
        self.emit_content(rest.as_str());
    }

    fn character(&mut self, c: char) {
        match &mut self.state {
            State::Opening { held, matched, reasons } => {
                if *matched == 0 && c.is_whitespace() {
                    held.push(c);
                } else if continues(THINK, *matched, c) {
                    held.push(c);
                    *matched += c.len_utf8();
                    if *matched == THINK.len() {
                        self.state = reasoning(true);
                    }
                } else {
                    let (held, reasons) = (std::mem::take(held), *reasons);
                    self.open(reasons, &held);
                    self.character(c);
                }
            }
            State::Reasoning { held, matched, fresh } => {
                if continues(THINK_END, *matched, c) {
                    held.push(c);
                    *matched += c.len_utf8();
                    if *matched == THINK_END.len() {
                        self.state = State::Gap;
                    }
                } else if *matched > 0 {
                    *matched = 0;
                    self.release_reasoning();
                    self.character(c);
                } else if c != '\n' {
                    held.push(c);
                    self.release_reasoning();
                } else if !*fresh {
                    held.push(c);
                }
            }
            State::Gap if c == '\n' => {}
            State::Gap => {
                self.state = State::Content;
                self.character(c);
            }
            State::Content => self.emit_content(c.encode_utf8(&mut [0; 4])),
            State::Section { held } if c.is_whitespace() => held.push(c),
            State::Section { .. } => {
                self.release();
                self.character(c);
            }
            State::Call(call) => call.push(c.encode_utf8(&mut [0; 4]), &mut self.events),
        }
    }

    fn control(&mut self, token: &str) {
        match (&mut self.state, token) {
            (State::Call(call), SEP) => call.separate(token, &mut self.events),
            (State::Call(_), CALL_END) => self.end_call(token),
            (State::Call(_), CALLS_BEGIN | CALL_BEGIN | CALLS_END) => {
                self.end_call("");
                self.control(token);
            }
            (State::Call(call), _) => call.push(token, &mut self.events),

            (State::Section { held }, CALLS_BEGIN) => held.push_str(token),
            (State::Section { held }, CALL_BEGIN) => {
                let raw = std::mem::take(held) + token;
                self.state = State::Call(Growing::new(raw));
            }
            (State::Section { .. }, CALLS_END) if self.section => {
                self.section = false;
                self.state = self.after_calls();
            }
            (State::Section { held }, CALLS_END) => {
                held.push_str(token);
                self.release();
            }

            (State::Opening { matched: 0, .. }, THINK) => self.state = reasoning(true),
            (State::Reasoning { fresh: true, matched: 0, .. }, THINK) => {}
            (State::Opening { matched: 0, .. } | State::Reasoning { matched: 0, .. }, THINK_END) => {
                self.state = State::Gap;
            }
            (State::Opening { .. } | State::Reasoning { .. }, THINK_END) => {
                self.release();
                self.control(token);
            }

            (_, CALLS_BEGIN | CALL_BEGIN) => {
                self.release();
                self.interrupted = matches!(self.state, State::Reasoning { .. });
                self.state = State::Section { held: String::new() };
                self.control(token);
            }
            (State::Content | State::Reasoning { .. }, CALLS_END) if self.section => self.section = false,
            (_, token) => {
                self.release();
                match &mut self.state {
                    State::Reasoning { held, fresh, .. } if is_tool_marker(token) => {
                        *fresh = false;
                        held.push_str(token);
                        self.release_reasoning();
                    }
                    _ if is_tool_marker(token) => self.emit_malformed(token, CallFault::Stray),
                    _ if [THINK, THINK_END].contains(&token) => self.emit_content(token),
                    // What else a model marks, such as another's turn, is no text.
                    _ => {}
                }
            }
        }
    }

    /// Gives up what is held back, and goes on where text is text.
    fn release(&mut self) {
        match &mut self.state {
            State::Opening { held, reasons, .. } => {
                let (held, reasons) = (std::mem::take(held), *reasons);
                self.open(reasons, &held);
                self.release();
            }
            State::Reasoning { matched, .. } => {
                *matched = 0;
                self.release_reasoning();
            }
            State::Gap => self.state = State::Content,
            State::Content => {}
            State::Section { held } => {
                let held = std::mem::take(held);
                self.state = self.after_calls();
                match self.section {
                    true => self.text(&held),
                    false => self.emit_malformed(&held, CallFault::Stray),
                }
                self.release();
            }
            State::Call(_) => {
                self.end_call("");
                self.release();
            }
        }
    }

    /// No `<think>` came: `held` is the beginning of whatever the answer begins with.
    fn open(&mut self, reasons: bool, held: &str) {
        match reasons {
            true => {
                self.state = reasoning(true);
                held.chars().for_each(|c| self.character(c));
            }
            false => {
                self.state = State::Content;
                self.emit_content(held);
            }
        }
    }

    fn after_calls(&self) -> State {
        if self.interrupted { reasoning(false) } else { State::Content }
    }

    fn end_call(&mut self, marker: &str) {
        let next = State::Section { held: String::new() };
        let State::Call(call) = std::mem::replace(&mut self.state, next) else {
            return;
        };
        match call.end(marker, &mut self.events) {
            Ok(()) => self.section = true,
            Err((text, fault)) => self.emit_malformed(&text, fault),
        }
    }

    fn release_reasoning(&mut self) {
        let State::Reasoning { held, fresh, .. } = &mut self.state else {
            return;
        };
        if held.is_empty() {
            return;
        }
        *fresh = false;
        match self.events.last_mut() {
            Some(Event::Reasoning(last)) => last.push_str(held),
            _ => self.events.push(Event::Reasoning(held.clone())),
        }
        held.clear();
    }

    fn emit_content(&mut self, text: &str) {
        match self.events.last_mut() {
            _ if text.is_empty() => {}
            Some(Event::Content(last)) => last.push_str(text),
            _ => self.events.push(Event::Content(text.to_owned())),
        }
    }

    fn emit_malformed(&mut self, text: &str, fault: CallFault) {
        if !text.is_empty() {
            self.events.push(Event::Malformed { text: text.to_owned(), fault });
        }
    }
}

fn reasoning(fresh: bool) -> State {
    State::Reasoning { held: String::new(), matched: 0, fresh }
}

/// Whether `c` comes next in `tag`, of which `matched` bytes came.
fn continues(tag: &str, matched: usize, c: char) -> bool {
    tag.get(matched..).is_some_and(|rest| rest.starts_with(c))
}

fn is_tool_marker(token: &str) -> bool {
    token.starts_with("<｜tool▁")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `⟨…⟩` in the script are control tokens.
    fn answer(expects: Expects, script: &str) -> Answer {
        let mut parser = Parser::new(expects);
        let mut answer = Answer::default();
        let mut rest = script;
        while !rest.is_empty() {
            let (text, after) = rest.split_once('⟨').unwrap_or((rest, ""));
            let (token, after) = after.split_once('⟩').unwrap_or(("", after));
            let token = match token {
                "calls" => CALLS_BEGIN,
                "/calls" => CALLS_END,
                "call" => CALL_BEGIN,
                "/call" => CALL_END,
                "sep" => SEP,
                other => other,
            };
            parser.push(Piece::Text(text)).into_iter().for_each(|event| answer.add(event));
            if !token.is_empty() {
                parser.push(Piece::Control(token)).into_iter().for_each(|event| answer.add(event));
            }
            rest = after;
        }
        parser.finish().into_iter().for_each(|event| answer.add(event));
        answer
    }

    fn check(expects: Expects, script: &str, reasoning: Option<&str>, content: &str, calls: &[(&str, &str)]) {
        let answer = answer(expects, script);
        let found: Vec<_> = answer.message.tool_calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(
            (answer.message.reasoning.as_deref(), answer.message.content.as_str()),
            (reasoning, content),
            "{script}"
        );
        assert_eq!(found, calls, "{script}");
        assert_eq!(answer.faults, [], "{script}");
    }

    #[test]
    fn splits_reasoning_from_the_answer() {
        use Expects::{Answer, Either, MoreReasoning, Reasoning};
        check(Reasoning, "I think.\n</think>\n\nYes.\n", Some("I think."), "Yes.\n", &[]);
        check(Reasoning, "I think.⟨</think>⟩Yes.", Some("I think."), "Yes.", &[]);
        check(Reasoning, "<think>\na\n\nb</think>c", Some("a\n\nb"), "c", &[]);
        check(Reasoning, "⟨<think>⟩\na⟨</think>⟩c", Some("a"), "c", &[]);
        check(Reasoning, "\n</think>\n\nYes", None, "Yes", &[]);
        check(Reasoning, "a </thin </think", Some("a </thin </think"), "", &[]);
        check(Reasoning, "a\n\n", Some("a\n\n"), "", &[]);
        check(MoreReasoning, "\nb</think>c", Some("\nb"), "c", &[]);
        check(Either, " <think>a</think>b", Some("a"), "b", &[]);
        check(Either, " <thinking>a</think>b", None, " <thinking>a</think>b", &[]);
        check(Answer, "<think>a</think>b⟨</think>⟩", None, "<think>a</think>b</think>", &[]);
    }

    #[test]
    fn reads_calls_of_both_forms() {
        let fenced = "On it.⟨calls⟩⟨call⟩function⟨sep⟩f\n```json\n{\"a\": \"```\"}\n```⟨/call⟩\n\
                      ⟨call⟩function⟨sep⟩g\n```json\n{}```⟨/call⟩⟨/calls⟩";
        check(Expects::Answer, fenced, None, "On it.", &[("f", "{\"a\": \"```\"}"), ("g", "{}")]);
        let bare = "⟨calls⟩⟨call⟩f⟨sep⟩{\"a\": 1}⟨/call⟩⟨call⟩g⟨sep⟩{}⟨/call⟩⟨/calls⟩";
        check(Expects::Answer, bare, None, "", &[("f", "{\"a\": 1}"), ("g", "{}")]);
        check(Expects::Reasoning, "r⟨calls⟩⟨call⟩f⟨sep⟩{}⟨/call⟩⟨/calls⟩", Some("r"), "", &[("f", "{}")]);
    }

    #[test]
    fn reasoning_goes_on_behind_calls() {
        let call = "⟨calls⟩⟨call⟩f⟨sep⟩{}⟨/call⟩⟨/calls⟩";
        check(Expects::Reasoning, &format!("a{call}b</think>c"), Some("ab"), "c", &[("f", "{}")]);
        check(Expects::Reasoning, &format!("a{call}\nb⟨</think>⟩c"), Some("a\nb"), "c", &[("f", "{}")]);
        check(Expects::Reasoning, "a⟨calls⟩⟨call⟩f⟨sep⟩{}⟨/call⟩\n", Some("a\n"), "", &[("f", "{}")]);
        check(Expects::Answer, &format!("a{call}b</think>c"), None, "ab</think>c", &[("f", "{}")]);
        let malformed = answer(Expects::Reasoning, "a⟨calls⟩b</think>c");
        assert_eq!(malformed.message.reasoning.as_deref(), Some("ab"));
        assert!(malformed.message.content.ends_with('c') && malformed.faults.len() == 1, "{malformed:?}");
    }

    #[test]
    fn what_marks_no_call_is_no_text() {
        check(Expects::Answer, "a⟨<｜User｜>⟩b⟨<｜fim▁begin｜>⟩", None, "ab", &[]);
        check(Expects::Reasoning, "a⟨<｜Assistant｜>⟩b</think>⟨<｜User｜>⟩c", Some("ab"), "c", &[]);
    }

    #[test]
    fn forgives_missing_markers() {
        check(Expects::Answer, "⟨call⟩f⟨sep⟩{}⟨/call⟩⟨/calls⟩", None, "", &[("f", "{}")]);
        check(Expects::Answer, "⟨calls⟩⟨call⟩f⟨sep⟩{}⟨call⟩g⟨sep⟩{}⟨/calls⟩", None, "", &[("f", "{}"), ("g", "{}")]);
        check(Expects::Answer, "⟨calls⟩⟨call⟩f⟨sep⟩{}", None, "", &[("f", "{}")]);
        check(Expects::Answer, "⟨calls⟩⟨call⟩f⟨sep⟩{}⟨/call⟩ done⟨/calls⟩.", None, " done.", &[("f", "{}")]);
        check(
            Expects::Answer,
            "⟨call⟩f⟨sep⟩{\"a\": \"⟨<｜User｜>⟩\"}⟨/call⟩",
            None,
            "",
            &[("f", "{\"a\": \"<｜User｜>\"}")],
        );
    }

    #[test]
    fn malformed_calls_are_content_and_flagged() {
        let broken = answer(Expects::Answer, "a⟨calls⟩\n⟨call⟩f⟨sep⟩{\"a\": ⟨/call⟩⟨call⟩g⟨sep⟩{}⟨/call⟩⟨/calls⟩b");
        assert_eq!(
            broken.message.content,
            "a<｜tool▁calls▁begin｜>\n<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": <｜tool▁call▁end｜>b"
        );
        assert!(matches!(broken.faults[..], [CallFault::Json(_)]), "{:?}", broken.faults);
        assert_eq!(broken.message.tool_calls.len(), 1);

        let stray = answer(Expects::Answer, "a⟨sep⟩b⟨calls⟩ c");
        assert_eq!(stray.message.content, "a<｜tool▁sep｜>b<｜tool▁calls▁begin｜> c");
        assert_eq!(stray.faults, [CallFault::Stray, CallFault::Stray]);
    }

    #[test]
    fn spelled_markers_are_text() {
        let spelled = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>";
        check(Expects::Answer, spelled, None, spelled, &[]);
    }

    #[test]
    fn deltas_come_as_soon_as_they_are_certain() {
        let mut parser = Parser::new(Expects::Reasoning);
        assert_eq!(parser.push(Piece::Text("so </")), [Event::Reasoning("so ".into())]);
        assert_eq!(parser.push(Piece::Text("th")), []);
        assert_eq!(parser.push(Piece::Text("ink>\n")), []);
        assert_eq!(parser.push(Piece::Text("\nYes")), [Event::Content("Yes".into())]);
        assert_eq!(parser.finish(), []);
    }
}
