//! The template engine, set up as model templates expect it and held to its limits.

use super::JinjaError;
use super::marker::note_json;
use crate::chat::message::json_text;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde::Serialize;
use std::io;

/// Bytes of a template. The longest published ones have some 20,000.
pub(super) const MAX_SOURCE: usize = 1 << 20;
/// Bytes that a template may add to what the conversation has.
pub(super) const MAX_OUTPUT: usize = 16 << 20;
/// Instructions; a message costs some hundred.
const FUEL: u64 = 10_000_000;
const RECURSION: usize = 100;
const NAME: &str = "chat_template";

/// `marked` where markers stand for content.
pub(super) fn new(source: &str, marked: bool) -> Result<Environment<'static>, JinjaError> {
    if source.len() > MAX_SOURCE {
        return Err(JinjaError::TooLong(source.len()));
    }
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let mut environment = Environment::new();
    environment.set_syntax(syntax.map_err(|error| JinjaError::Syntax(error.to_string()))?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    match marked {
        true => environment.add_filter("tojson", |value, options| to_json(value, options).map(|json| note_json(&json))),
        false => environment.add_filter("tojson", to_json),
    }
    environment.add_function("raise_exception", raise_exception);
    environment.add_template_owned(NAME, source.to_owned()).map_err(|error| JinjaError::Syntax(error.to_string()))?;
    Ok(environment)
}

pub(super) fn render(
    environment: &Environment,
    context: serde_json::Value,
    limit: usize,
) -> Result<String, JinjaError> {
    let mut output = Limited { bytes: Vec::new(), limit, full: false };
    let template = environment.get_template(NAME).map_err(|error| failure(&error))?;
    let result = template.render_captured_to(Value::from(Serde(&context)), &mut output).map(drop);
    if output.full {
        return Err(JinjaError::TooMuch(limit));
    }
    result.map_err(|error| failure(&error))?;
    String::from_utf8(output.bytes).map_err(|error| JinjaError::Failed(error.to_string()))
}

fn failure(error: &Error) -> JinjaError {
    match (error.kind(), error.detail().and_then(|detail| detail.strip_prefix(RAISED))) {
        (ErrorKind::OutOfFuel, _) => JinjaError::OutOfFuel,
        (_, Some(message)) => JinjaError::Refused(message.to_owned()),
        _ => JinjaError::Failed(error.to_string()),
    }
}

struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.limit {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Marks errors that the template itself raised.
const RAISED: &str = "raised: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// JSON as Python writes it, which is what templates were written for: spaced, and not made safe
/// for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let bad = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let value = serde_json::to_value(&value).map_err(bad)?;
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let Some(width) = indent else {
        return Ok(json_text(&value));
    };
    let indent = " ".repeat(width.min(16));
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(bad)?;
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}
