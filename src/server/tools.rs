//! The tools that a request offers, in OpenAI's form, and what holds of their names in every protocol.

use super::fault::Fault;
use super::fields::{Fields, read as value_as};
use crate::chat::Tool;
use crate::text::Clipped;
use serde_json::Value;

/// Of OpenAI's a name has at most 64, of Anthropic's 128.
const MAX_NAME: usize = 128;

pub(super) fn read(fields: &Fields) -> Result<Vec<Tool>, Fault> {
    let values: Vec<Value> = fields.get("tools")?.unwrap_or_default();
    let tool = |(n, value): (usize, &Value)| {
        let path = fields.path(&format!("tools[{n}]"));
        match value.get("type").and_then(Value::as_str) {
            None | Some("function") => value_as(value, &path),
            Some(kind) => Err(not_a_function(format!("{path}.type"), kind)),
        }
    };
    check(fields, values.iter().enumerate().map(tool).collect::<Result<_, _>>()?)
}

/// Of a tool that its provider runs itself.
pub(super) fn not_a_function(path: String, kind: &str) -> Fault {
    let fault = format!("only functions that the client runs can be offered, and this is '{}'", Clipped(kind));
    Fault::field(path, fault)
}

/// Refuses names that cannot be told apart, or that a model could not write.
pub(super) fn check(fields: &Fields, tools: Vec<Tool>) -> Result<Vec<Tool>, Fault> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for (n, tool) in tools.iter().enumerate() {
        let name = tool.name.as_str();
        let fault = |fault: String| Err(fields.fault(&format!("tools[{n}]"), fault));
        if name.len() > MAX_NAME || !name.chars().all(is_known) {
            let name = Clipped(name);
            return fault(format!(
                "a name is of at most {MAX_NAME} letters, digits, '_', '-' and '.'; '{name}' is not"
            ));
        }
        if tools.iter().take(n).any(|other| other.name == name) {
            return fault(format!("another tool is called '{name}' too"));
        }
    }
    Ok(tools)
}

/// Refuses a name that none of them has.
pub(super) fn find(tools: &[Tool], name: &str, path: &str) -> Result<(), Fault> {
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(()),
        false => Err(Fault::field(path, format!("no tool '{}' is offered", Clipped(name)))),
    }
}
