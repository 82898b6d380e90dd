//! A tool call while it is generated: when it is certain, and what of its arguments can be told.
//!
//! A call is certain once its name and the brace that begins its arguments have come. From then on they are told as they
//! come, as long as they are the beginning of a JSON object. The brace that ends it is told last, when the call is over and
//! well-formed: so what was told of a call that turned out malformed is never a whole object, and nobody takes it for
//! what a tool is to be called with.

use super::call::{self, CallFault, FENCE};
use super::message::ToolCall;
use super::parse::Event;
use super::partial::Partial;

/// A call that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Growing {
    /// All its text, markers too.
    raw: String,
    head: String,
    tail: Option<String>,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    /// No brace came.
    #[default]
    Open,
    /// A name came, and arguments have begun.
    Certain { name: String, arguments: Partial },
    /// What came is no call, whatever follows.
    Refuted,
}

impl Growing {
    /// `opening` is its text so far.
    pub(super) fn new(opening: String) -> Growing {
        Growing { raw: opening, ..Growing::default() }
    }

    /// Takes the token between name and arguments.
    pub(super) fn separate(&mut self, token: &str, events: &mut Vec<Event>) {
        if self.tail.is_some() {
            return self.push(token, events);
        }
        self.raw.push_str(token);
        self.tail = Some(String::new());
        if !matches!(self.stage, Stage::Open) {
            self.stage = Stage::Refuted;
        }
    }

    /// Takes more text; what it makes certain is added to `events`.
    pub(super) fn push(&mut self, text: &str, events: &mut Vec<Event>) {
        self.raw.push_str(text);
        let part = self.tail.as_mut().unwrap_or(&mut self.head);
        let n_before = part.len();
        part.push_str(text);
        match &mut self.stage {
            Stage::Open if text.contains('{') => self.decide(events),
            Stage::Certain { arguments, .. } => grow(arguments, part, n_before, events),
            Stage::Open | Stage::Refuted => {}
        }
    }

    fn decide(&mut self, events: &mut Vec<Event>) {
        let Some((name, begun)) = call::begun(&self.head, self.tail.as_deref()) else {
            self.stage = Stage::Refuted;
            return;
        };
        events.push(Event::CallBegun { name: name.to_owned() });
        let mut arguments = Partial::new();
        grow(&mut arguments, begun, 0, events);
        self.stage = Stage::Certain { name: name.to_owned(), arguments };
    }

    /// Ends the call: the rest of what is to be told of it, and the call, or what it is instead.
    pub(super) fn end(self, marker: &str, events: &mut Vec<Event>) -> Result<(), (String, CallFault)> {
        let (name, arguments) = match call::parse(&self.head, self.tail.as_deref()) {
            Ok(parsed) => parsed,
            Err(fault) => return Err((self.raw + marker, fault)),
        };
        let n_told = match &self.stage {
            Stage::Certain { arguments, .. } => n_tellable(arguments),
            // Whatever has arguments has a brace, so this is not come to.
            Stage::Open | Stage::Refuted => {
                events.push(Event::CallBegun { name: name.to_owned() });
                0
            }
        };
        tell(arguments.get(n_told..).unwrap_or_default(), events);
        events.push(Event::ToolCall { name: name.to_owned(), arguments: arguments.to_owned() });
        Ok(())
    }

    /// Ends the call where a limit cut it: what of it is known to be a call is returned, unless it lacked its end's marker
    /// alone. Of one that was not certain nothing is left, its markers are nobody's text.
    pub(super) fn cut(self, events: &mut Vec<Event>) -> Option<ToolCall> {
        let parsed = call::begun(&self.head, self.tail.as_deref());
        let fault = match (&self.stage, parsed) {
            (Stage::Open, _) => return None,
            (Stage::Certain { name, arguments: object }, Some((_, text))) if !object.is_broken() => {
                let (arguments, rest) = text.split_at_checked(object.n_read()).unwrap_or((text, ""));
                let call = ToolCall { id: None, name: name.clone(), arguments: arguments.to_owned() };
                if !object.is_whole() {
                    return Some(call);
                }
                // Of the fence's end, too, there may be only a beginning.
                if FENCE.starts_with(rest.trim()) {
                    tell(arguments.get(n_tellable(object)..).unwrap_or_default(), events);
                    events.push(Event::ToolCall { name: call.name, arguments: call.arguments });
                    return None;
                }
                CallFault::Trailing
            }
            _ => call::parse(&self.head, self.tail.as_deref()).err().unwrap_or(CallFault::Stray),
        };
        events.push(Event::Malformed { text: self.raw, fault });
        None
    }
}

/// Reads what of `text` comes behind its first `n_before` bytes, and tells of it.
fn grow(arguments: &mut Partial, text: &str, n_before: usize, events: &mut Vec<Event>) {
    let new = text.get(n_before..).unwrap_or_default();
    let n_told = n_tellable(arguments);
    arguments.read(new);
    tell(new.get(..n_tellable(arguments) - n_told).unwrap_or_default(), events);
}

/// How much of an object is told before it is known to be a call's.
fn n_tellable(object: &Partial) -> usize {
    object.n_read() - usize::from(object.is_whole())
}

fn tell(text: &str, events: &mut Vec<Event>) {
    match events.last_mut() {
        _ if text.is_empty() => {}
        Some(Event::Arguments(last)) => last.push_str(text),
        _ => events.push(Event::Arguments(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tools::{CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEP};
    use crate::chat::{Expects, Parser, Piece};

    /// The forms of all families.
    #[test]
    fn calls_are_told_of_as_they_grow() {
        let begun = || Event::CallBegun { name: "f".into() };
        let arguments = |text: &str| Event::Arguments(text.into());
        let whole = |arguments: &str| Event::ToolCall { name: "f".into(), arguments: arguments.into() };
        let json = r#"{"a": "}é"}"#;
        let grows = [vec![begun(), arguments("{")], vec![arguments("\"a\": \"}")], vec![arguments("é\"")]];
        let bare = [("f", &[][..]), (SEP, &[])];
        let fenced = [("function", &[][..]), (SEP, &[]), ("f", &[]), ("\n```", &[]), ("json\n", &[])];
        for (opening, ending) in [(&bare[..], ""), (&fenced, "\n```")] {
            let mut parser = Parser::new(Expects::Answer);
            let mut push =
                |text: &str| parser.push(if text.starts_with('<') { Piece::Control(text) } else { Piece::Text(text) });
            for (text, expected) in [(CALLS_BEGIN, &[][..]), (CALL_BEGIN, &[])].iter().chain(opening) {
                assert_eq!(push(text), *expected, "{text}");
            }
            for (text, expected) in ["{", "\"a\": \"}", "é\""].into_iter().zip(grows.clone()) {
                assert_eq!(push(text), expected, "{text}");
            }
            // The last brace waits: something could follow it.
            assert_eq!(push("}"), []);
            assert_eq!(push(&format!("{ending}\n")), []);
            assert_eq!(push(CALL_END), [arguments("}"), whole(json)]);
            assert_eq!(push(CALLS_END), []);
        }
    }

    #[test]
    fn what_becomes_of_a_call_that_goes_wrong_is_text() {
        for (script, told) in [
            ("f⟨sep⟩{\"a\": ]}", Some("{\"a\": ")),
            ("f⟨sep⟩{} more", Some("{")),
            ("f⟨sep⟩{\"a\"", Some("{\"a\"")),
            ("f{\"a⟨sep⟩\": 1}", Some("{\"a")),
            ("f⟨sep⟩[{}]", None),
            ("two words⟨sep⟩{}", None),
            ("function⟨sep⟩two words\n{}", None),
        ] {
            let mut parser = Parser::new(Expects::Answer);
            let mut events = parser.push(Piece::Control(CALL_BEGIN));
            let (head, tail) = script.split_once("⟨sep⟩").unwrap();
            events.extend(parser.push(Piece::Text(head)));
            events.extend(parser.push(Piece::Control(SEP)));
            events.extend(parser.push(Piece::Text(tail)));
            events.extend(parser.finish());
            let (last, before) = events.split_last().unwrap();
            let raw = format!("{CALL_BEGIN}{head}{SEP}{tail}");
            assert!(matches!(last, Event::Malformed { text, .. } if *text == raw), "{script}: {last:?}");
            let expected = told.map(|told| [Event::CallBegun { name: "f".into() }, Event::Arguments(told.into())]);
            assert_eq!(before, expected.as_ref().map_or(&[][..], |told| told), "{script}");
        }
    }

    #[test]
    fn a_limit_cuts_calls() {
        let cut = |text: &str| {
            let mut parser = Parser::new(Expects::Answer);
            parser.push(Piece::Control(CALL_BEGIN));
            parser.push(Piece::Text("function"));
            parser.push(Piece::Control(SEP));
            parser.push(Piece::Text(text));
            parser.cut()
        };
        for text in ["", "f", "f\n```json\n"] {
            assert_eq!(cut(text), (vec![], None), "{text}");
        }
        for arguments in ["{", "{\"a", "{\"a\": 1", "{\"a\": {}"] {
            let call = ToolCall { id: None, name: "f".into(), arguments: arguments.into() };
            assert_eq!(cut(&format!("f\n```json\n{arguments}")), (vec![], Some(call)));
        }
        // Only its frame was cut.
        for rest in ["", "\n", "\n``", "\n```"] {
            let whole = Event::ToolCall { name: "f".into(), arguments: "{}".into() };
            assert_eq!(cut(&format!("f\n```json\n{{}}{rest}")), (vec![Event::Arguments("}".into()), whole], None));
        }
        for text in ["f\n{\"a\": ]", "f\n{} more", "f g\n{}"] {
            assert!(matches!(&cut(text), (events, None) if matches!(events[..], [Event::Malformed { .. }])), "{text}");
        }
        let mut parser = Parser::new(Expects::Answer);
        parser.push(Piece::Control(CALLS_BEGIN));
        assert_eq!(parser.cut(), (vec![], None));
    }
}
