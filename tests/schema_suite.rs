//! What a model of random weights says under the schemas of the official JSON Schema test suite.

mod support;

use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{Constraint, ConstraintError, Engine, Event, Grammar, Options, Piece, Refused, Request};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::parity::{fixture, unpacked};

/// Keywords that no answer could be held to, so that schemas with them are refused.
const UNSUPPORTED: [&str; 13] = [
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Other reasons for which schemas of the suite are refused, and how many.
const REASONS: [(&str, usize); 5] = [
    ("Expected positive integer", 6),
    ("Unsatisfiable schema", 6),
    ("Value for 'multipleOf' has too many digits", 1),
    ("oneOf constraints are not supported", 8),
    ("patternProperty regexes", 3),
];

/// Answers long enough to be whole for most, and short enough for all.
const MAX_TOKENS: usize = 64;

/// The answer if it is whole; an error where the schema is refused.
fn answer(engine: &Engine, schema: &Value, seed: u64) -> Result<Option<String>, Refused> {
    let generation = engine.generate(Request {
        prompt: vec![1, 2, 3],
        sampling: SamplerParams { seed: Some(seed), ..SamplerParams::default() },
        max_tokens: Some(MAX_TOKENS),
        constraint: Some(Constraint { grammar: Grammar::JsonSchema(schema.clone()), after: None }),
        ..Request::default()
    })?;
    let mut text = String::new();
    loop {
        match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) => {}
            Event::Piece(Piece::Text(part) | Piece::Control(part)) => text.push_str(&part),
            Event::Finished(finished) => return Ok((finished.is_satisfied == Some(true)).then_some(text)),
            Event::Failed(failure) => panic!("{schema}: {failure}: {text}"),
        }
    }
}

#[test]
fn whole_answers_are_valid_and_what_cannot_be_kept_is_refused() {
    let model = fixture("parity/v3.gguf");
    let options = Options { n_ctx: Some(256), n_threads: Some(1), ..Options::default() };
    let engine = Engine::open(&model.path, &options).unwrap();
    let (mut keywords, mut reasons): (BTreeSet<String>, BTreeMap<&str, usize>) = Default::default();
    let mut n_whole = 0;
    let schemas = String::from_utf8(unpacked("json-schemas.jsonl")).unwrap();
    for line in schemas.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (of, schema) = (case["of"].as_str().unwrap(), &case["schema"]);
        let validator = jsonschema::draft202012::new(schema).unwrap_or_else(|error| panic!("{of}: {error}"));
        for seed in 0..4 {
            match answer(&engine, schema, seed) {
                Ok(None) => {}
                Ok(Some(text)) => {
                    let value: Value = match serde_json::from_str(&text) {
                        Ok(value) => value,
                        // JSON has numbers that a double has not.
                        Err(error) if error.to_string().starts_with("number out of range") => continue,
                        Err(error) => panic!("{of}: {error}: {text}"),
                    };
                    assert!(validator.is_valid(&value), "{of}: {schema}: {text}");
                    n_whole += 1;
                }
                Err(Refused::Constraint(ConstraintError::Unusable { why, .. })) => {
                    match why.strip_prefix("Unimplemented keys: ") {
                        Some(list) => keywords.extend(serde_json::from_str::<Vec<String>>(list).unwrap()),
                        None => {
                            let known = REASONS.iter().find(|(reason, _)| why.starts_with(reason));
                            let (reason, _) = known.unwrap_or_else(|| panic!("{of}: {why}"));
                            *reasons.entry(reason).or_default() += 1;
                        }
                    }
                    break;
                }
                Err(error) => panic!("{of}: {error}"),
            }
        }
    }
    assert_eq!(keywords, UNSUPPORTED.map(str::to_owned).into());
    assert_eq!(reasons, REASONS.into());
    assert!(n_whole > 300, "{n_whole}");
}
