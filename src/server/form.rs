//! What an answer must look like: the fields of OpenAI, vLLM and llama.cpp that say so, of which one at most may be there.

use super::fault::Fault;
use super::fields::{Fields, read};
use crate::engine::Grammar;
use serde_json::Value;

/// A form of an answer, and the field that asks for it.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) grammar: Grammar,
    pub(super) field: String,
}

type Reader = fn(&Fields, &str) -> Result<Option<Grammar>, Fault>;

/// By `format`, of the form of OpenAI's `response_format`, or by fields of other servers.
pub(super) fn form(fields: &Fields, format: &Fields) -> Result<Option<Form>, Fault> {
    let structured = fields.object("structured_outputs")?;
    let others: [(&Fields, &str, Reader); 12] = [
        (fields, "guided_json", schema),
        (fields, "json_schema", schema),
        (fields, "guided_regex", regex),
        (fields, "guided_choice", choice),
        (fields, "guided_grammar", lark),
        (fields, "grammar", gbnf),
        (&structured, "json", schema),
        (&structured, "json_object", any_object),
        (&structured, "regex", regex),
        (&structured, "choice", choice),
        (&structured, "grammar", lark),
        (&structured, "structural_tag", tags),
    ];
    let mut found = response_format(format)?;
    for (fields, name, reader) in others {
        let Some(grammar) = fields.value(name).map_or(Ok(None), |_| reader(fields, name))? else { continue };
        let field = fields.path(name);
        if let Some(first) = found.replace(Form { grammar, field: field.clone() }) {
            let fault = format!("an answer has one form, and '{}' gives it one too", first.field);
            return Err(Fault::field(field, fault));
        }
    }
    Ok(found)
}

/// By an object of the form of `response_format` alone.
pub(super) fn response_format(format: &Fields) -> Result<Option<Form>, Fault> {
    let kind: Option<String> = format.get("type")?;
    let (grammar, field) = match kind.as_deref() {
        None | Some("text") => return Ok(None),
        Some("json_object") => match format.value("schema") {
            Some(schema) => (Grammar::JsonSchema(schema.clone()), format.path("schema")),
            None => (Grammar::JsonObject, format.path("type")),
        },
        Some("json_schema") => {
            // Chat completions have an object around it, others have not.
            let inner = format.object("json_schema")?;
            let holder = if inner.value("schema").is_some() { &inner } else { format };
            let missing = || format.fault("json_schema", "it has no 'schema'");
            let schema = holder.value("schema").cloned().ok_or_else(missing)?;
            (Grammar::JsonSchema(schema), holder.path("schema"))
        }
        Some(_) => return Err(format.fault("type", "it must be text, json_object or json_schema")),
    };
    Ok(Some(Form { grammar, field }))
}

/// A schema, or the text of one.
fn schema(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    let schema = match fields.value(name) {
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Some(schema.clone()),
        _ => None,
    };
    let schema = schema.ok_or_else(|| fields.fault(name, "it must be a JSON schema"))?;
    Ok(Some(Grammar::JsonSchema(schema)))
}

fn any_object(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    Ok(fields.flag(name)?.then_some(Grammar::JsonObject))
}

fn regex(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    Ok(fields.get(name)?.map(Grammar::Regex))
}

fn choice(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    let choices: Vec<String> = read(fields.value(name).unwrap_or(&Value::Null), &fields.path(name))?;
    if choices.is_empty() {
        return Err(fields.fault(name, "there is nothing to choose from"));
    }
    let choices: Vec<String> = choices.iter().map(|choice| ::regex::escape(choice)).collect();
    Ok(Some(Grammar::Regex(choices.join("|"))))
}

fn lark(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    Ok(fields.get(name)?.map(Grammar::Lark))
}

fn gbnf(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    Err(fields.fault(name, "llama.cpp's GBNF is not understood: send Lark in 'guided_grammar'"))
}

fn tags(fields: &Fields, name: &str) -> Result<Option<Grammar>, Fault> {
    Err(fields.fault(name, "it is not supported: send a grammar in Lark as 'grammar'"))
}
