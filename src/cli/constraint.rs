//! What the answer must look like, as it is asked for on the command line.

use super::schema_place::place;
use crate::engine::{Constraint, ConstraintError, Engine, Grammar, Refused, Request};
use crate::exit::BadInput;
use crate::text::Escaped;
use serde_json::Value;
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

/// Says of a refused schema what is wrong with it, and where.
pub(super) fn explain(refused: Refused, engine: &Engine, request: &Request) -> anyhow::Error {
    let (Refused::Constraint(ConstraintError::Unusable { why, .. }), Some(constraint)) =
        (&refused, &request.constraint)
    else {
        return refused.into();
    };
    let Grammar::JsonSchema(schema) = &constraint.grammar else { return refused.into() };
    // What is not refused is cancelled at once.
    let fault = |schema: &Value| {
        let constraint = Constraint { grammar: Grammar::JsonSchema(schema.clone()), after: constraint.after };
        let prompt = request.prompt.iter().take(1).copied().collect();
        match engine.generate(Request { prompt, constraint: Some(constraint), ..Request::default() }) {
            Err(Refused::Constraint(ConstraintError::Unusable { why, .. })) => Some(why),
            _ => None,
        }
    };
    let place = match place(schema, fault) {
        place if place.is_empty() => "its top".to_owned(),
        place => Escaped(&place).to_string(),
    };
    BadInput::Argument(format!("the JSON schema cannot be used, for what is at {place}: {why}")).into()
}
