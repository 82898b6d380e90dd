//! The text of one tool call, as a model generated it, to a name and arguments.
//!
//! Owns what is forgiven: the type `function` may be missing, so may the fence and the line breaks
//! around it. Everything else that is not part of the call makes it malformed, because accepting it
//! would lose text. Knows nothing of streams but where the arguments of a call begin.

use serde::de::IgnoredAny;

/// Why generated text is no tool call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFault {
    #[error("the tool call has no name, or one with spaces or a brace in it")]
    Name,
    #[error("the tool call has an unknown type")]
    Type,
    #[error("the tool call has no arguments")]
    NoArguments,
    #[error("the tool call's arguments are not a JSON object: {0}")]
    Json(String),
    #[error("text follows the tool call's arguments")]
    Trailing,
    #[error("a tool marker stands where it marks nothing")]
    Stray,
}

/// Name and arguments of a call whose text is `head`, and `tail` after the separator if there was one.
pub(super) fn parse<'a>(head: &'a str, tail: Option<&'a str>) -> Result<(&'a str, &'a str), CallFault> {
    let (name, rest) = split(head, tail)?;
    Ok((name, arguments(rest)?))
}

/// As [`parse`], once the first brace has come: the name, and what came of the arguments. None where what came can be no
/// call, whatever follows; so what is found here is what is found when the call is whole, if it is one.
pub(super) fn begun<'a>(head: &'a str, tail: Option<&'a str>) -> Option<(&'a str, &'a str)> {
    let (name, rest) = split(head, tail).ok()?;
    let (text, _) = unfenced(rest);
    text.starts_with('{').then_some((name, text))
}

pub(super) const FENCE: &str = "```";

fn split<'a>(head: &'a str, tail: Option<&'a str>) -> Result<(&'a str, &'a str), CallFault> {
    let (name, rest) = match tail.map(str::trim_start) {
        // `name⟨sep⟩arguments`
        Some(tail) if tail.starts_with('{') || tail.starts_with(FENCE) => (head.trim(), tail),
        // `function⟨sep⟩name`, arguments on the next line
        Some(tail) if matches!(head.trim(), "function" | "") => split_name(tail),
        Some(_) => return Err(CallFault::Type),
        None => split_name(head.trim_start()),
    };
    // Where there is a brace, the arguments have begun: a separator behind it separates nothing.
    match name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '{') {
        true => Err(CallFault::Name),
        false => Ok((name, rest)),
    }
}

fn split_name(text: &str) -> (&str, &str) {
    let ends = [text.find(char::is_whitespace), text.find('{'), text.find(FENCE)];
    let end = ends.into_iter().flatten().min().unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (name, rest.trim_start())
}

/// The JSON object at the start of `text`, which nothing but the end of a fence may follow.
fn arguments(text: &str) -> Result<&str, CallFault> {
    let (text, fenced) = unfenced(text);
    if text.is_empty() || (fenced && text.starts_with(FENCE)) {
        return Err(CallFault::NoArguments);
    }
    if !text.starts_with('{') {
        return Err(CallFault::Json("it does not begin with '{'".to_owned()));
    }
    // Reads one value and stops behind it: braces and fences inside strings are the value's own.
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(IgnoredAny)) => {}
        Some(Err(error)) => return Err(CallFault::Json(error.to_string())),
        None => return Err(CallFault::NoArguments),
    }
    let (json, rest) = text.split_at_checked(values.byte_offset()).ok_or(CallFault::Trailing)?;
    match rest.trim() {
        "" | FENCE => Ok(json),
        _ => Err(CallFault::Trailing),
    }
}

/// The text behind the beginning of a fence, and whether there is one.
fn unfenced(text: &str) -> (&str, bool) {
    match text.strip_prefix(FENCE) {
        Some(inner) => (inner.strip_prefix("json").unwrap_or(inner).trim_start(), true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgives_what_models_forget() {
        let calls = [
            ("function", Some("f\n```json\n{\"a\": 1}\n```")),
            ("function", Some("f\n```json\n{\"a\": 1}```")),
            (" function\n", Some("\nf\n{\"a\": 1}\n")),
            ("", Some("f ```\n{\"a\": 1}")),
            ("f", Some("{\"a\": 1}")),
            ("f\n", Some("```json\n{\"a\": 1}\n```")),
            ("f\n```json\n{\"a\": 1}\n```", None),
            ("f{\"a\": 1}", None),
        ];
        for (head, tail) in calls {
            assert_eq!(parse(head, tail), Ok(("f", "{\"a\": 1}")), "{head:?} {tail:?}");
        }
    }

    #[test]
    fn braces_fences_and_quotes_inside_strings_are_arguments() {
        let json = r#"{"code": "```json\n{\"}\"", "b": {"c": ["}", "\\"]}}"#;
        let fenced = format!("f\n```json\n{json}\n```");
        assert_eq!(parse("function", Some(&fenced)), Ok(("f", json)));
    }

    #[test]
    fn refuses_what_it_would_have_to_drop() {
        for (head, tail, expected) in [
            ("", Some("{}"), "no name"),
            ("two words", Some("{}"), "no name"),
            ("f{\"a\":", Some("{}"), "no name"),
            ("other", Some("f\n{}"), "unknown type"),
            ("function", Some("f"), "no arguments"),
            ("function", Some("f\n```json\n```"), "no arguments"),
            ("f", Some("{\"a\": 1"), "not a JSON object: EOF"),
            ("function", Some("f\n[1]"), "does not begin"),
            ("f", Some("{} and more"), "text follows"),
            ("function", Some("f\n```python\n{}\n```"), "does not begin"),
        ] {
            let error = parse(head, tail).unwrap_err().to_string();
            assert!(error.contains(expected), "{head:?} {tail:?}: {error}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = "{\"a\":".repeat(100_000);
        assert!(matches!(parse("f", Some(&deep)), Err(CallFault::Json(_))));
    }
}
