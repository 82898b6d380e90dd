//! What the answer must look like, as it is asked for on the command line.

use crate::chat::Prompt;
use crate::engine::{Constraint, Engine, Grammar};
use crate::exit::BadInput;
use std::fs;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConstraintOptions {
    /// Answer with JSON that a JSON schema allows: a file, or the schema itself
    #[arg(long, value_name = "SCHEMA", conflicts_with = "json_object")]
    json_schema: Option<String>,
    /// Answer with a JSON object
    #[arg(long)]
    json_object: bool,
}

impl ConstraintOptions {
    /// For before a model is opened, so that a mistake costs no time.
    pub(super) fn grammar(&self) -> Result<Option<Grammar>, BadInput> {
        let Some(schema) = &self.json_schema else {
            return Ok(self.json_object.then_some(Grammar::JsonObject));
        };
        let is_inline = schema.trim_start().starts_with('{') || ["true", "false"].contains(&schema.trim());
        let (name, text) = match is_inline {
            true => ("--json-schema", schema.clone()),
            false => {
                let unreadable = |error| BadInput::Unreadable { name: schema.clone(), error };
                (schema.as_str(), fs::read_to_string(schema).map_err(unreadable)?)
            }
        };
        let not_json = |error| BadInput::Argument(format!("{name}: the schema is not JSON: {error}"));
        Ok(Some(Grammar::JsonSchema(serde_json::from_str(&text).map_err(not_json)?)))
    }
}

/// A grammar for the answer to a prompt: where the model reasons first, for what comes after that.
pub(super) fn constraint(grammar: Grammar, engine: &Engine, prompt: &Prompt) -> Constraint {
    let after = prompt.reasoning_ends_with().and_then(|text| engine.tokenizer().special(text).ok());
    Constraint { grammar, after }
}
