//! Whatever a model of random weights says under a schema, it is what the schema allows.

mod support;

use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{Constraint, Engine, Event, Failure, FinishReason, Grammar, Options, Piece, Refused, Request};
use serde_json::{Value, json};
use support::parity::fixture;

fn schemas() -> Vec<Value> {
    // A number without bounds may have more digits than a double holds.
    let coordinate = json!({"type": "number", "minimum": -1, "maximum": 1});
    let point = json!({"type": "object", "properties": {"x": coordinate, "y": coordinate}, "required": ["x", "y"],
        "additionalProperties": false});
    vec![
        json!(true),
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"type": "integer", "minimum": -5, "maximum": 17}),
        json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}),
        json!({"type": "number", "minimum": 0.5, "maximum": 0.75}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000}),
        json!({"type": "string", "maxLength": 12}),
        json!({"type": "string", "minLength": 3, "maxLength": 5}),
        json!({"type": "string", "pattern": "^[a-f]{2}-[0-9]{3}$"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string", "format": "ipv4"}),
        json!({"enum": ["red", "grün", "青", 5, null, [1, 2], {"a": "b"}]}),
        json!({"const": {"deep": [true, "\"quoted\"\n"]}}),
        json!({"type": ["integer", "null"], "maximum": 100000, "minimum": 0}),
        json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "prefixItems": [{"const": "a"}, {"type": "integer", "minimum": 0, "maximum": 9}],
            "items": false, "minItems": 2}),
        json!({"type": "array", "items": {"type": "array", "items": {"enum": [0, 1]}, "maxItems": 3}, "maxItems": 3}),
        point.clone(),
        json!({"type": "array", "items": point, "minItems": 1, "maxItems": 2}),
        json!({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}},
            "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9},
            "maxProperties": 2}),
        json!({"type": "object", "patternProperties": {"^x-[a-c]$": {"type": "boolean"}}, "additionalProperties": false}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 2}]}),
        json!({"oneOf": [{"type": "boolean"}, {"type": "null"}]}),
        json!({"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 8}]}),
        json!({"$defs": {"n": {"type": "integer", "minimum": 1, "maximum": 3}}, "type": "array",
            "items": {"$ref": "#/$defs/n"}, "minItems": 1, "maxItems": 3}),
        json!({"$defs": {"tree": {"type": "object", "properties": {"of": {"type": "array",
            "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "required": ["of"], "additionalProperties": false}},
            "$ref": "#/$defs/tree"}),
        json!({"type": "object", "properties": {"kind": {"const": "é\u{1F433}"}, "tags": {"type": "array",
            "items": {"enum": ["<｜User｜>", "<｜end▁of▁sentence｜>"]}, "minItems": 1, "maxItems": 2}},
            "required": ["kind", "tags"], "additionalProperties": false}),
    ]
}

fn engine() -> (support::parity::Fixture, Engine) {
    let model = fixture("parity/v3.gguf");
    let options = Options { n_ctx: Some(1024), n_threads: Some(1), ..Options::default() };
    let engine = Engine::open(&model.path, &options).unwrap();
    (model, engine)
}

fn request(grammar: Grammar, seed: u64, max_tokens: usize) -> Request {
    Request {
        prompt: vec![1, 2, 3],
        sampling: SamplerParams { seed: Some(seed), ..SamplerParams::default() },
        max_tokens: Some(max_tokens),
        constraint: Some(Constraint { grammar, after: None }),
        ..Request::default()
    }
}

/// The answer, how it ended, and whether it is whole.
fn answer(engine: &Engine, request: Request) -> (String, FinishReason, bool) {
    let generation = engine.generate(request).unwrap();
    let mut text = String::new();
    loop {
        match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) => {}
            Event::Piece(Piece::Text(part)) => text.push_str(&part),
            Event::Piece(Piece::Control(token)) => panic!("{token} in {text}"),
            Event::Finished(finished) => return (text, finished.reason, finished.is_satisfied.unwrap()),
            Event::Failed(failure) => panic!("{failure}: {text}"),
        }
    }
}

#[test]
fn whole_answers_validate() {
    let (_model, engine) = engine();
    for schema in schemas() {
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mut n_whole = 0;
        for seed in 0..6 {
            let (text, reason, is_whole) = answer(&engine, request(Grammar::JsonSchema(schema.clone()), seed, 300));
            if !is_whole {
                assert_eq!(reason, FinishReason::Length, "{schema}: {text}");
                continue;
            }
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{schema}: {error}: {text}"));
            assert!(validator.is_valid(&value), "{schema}: {text}");
            n_whole += 1;
        }
        assert!(n_whole > 0, "no answer to {schema} was ever whole");
    }
}

#[test]
fn expressions_and_grammars_hold_too() {
    let (_model, engine) = engine();
    let expression = regex::Regex::new("^(?:[a-z]{1,3}-)+(?:é|[0-9]{4})$").unwrap();
    let lark = "start: \"(\" start \")\" | \"x\"";
    for seed in 0..8 {
        let grammar = Grammar::Regex("([a-z]{1,3}-){1,4}(é|[0-9]{4})".to_owned());
        let (text, _, is_whole) = answer(&engine, request(grammar, seed, 200));
        assert!(is_whole && expression.is_match(&text), "{text}");
        let (text, _, is_whole) = answer(&engine, request(Grammar::Lark(lark.to_owned()), seed, 200));
        let depth = text.len() / 2;
        assert!(!is_whole || text == "(".repeat(depth) + "x" + &")".repeat(depth), "{text}");
    }
}

#[test]
fn what_is_cut_short_is_not_whole() {
    let (_model, engine) = engine();
    let long = Grammar::JsonSchema(json!({"type": "string", "minLength": 100}));
    let (text, reason, is_whole) = answer(&engine, request(long, 0, 5));
    assert!(reason == FinishReason::Length && !is_whole && text.starts_with('"'), "{text}");
    // One that could go on and need not is.
    let number = Grammar::Regex("[0-9]+".to_owned());
    let (text, reason, is_whole) = answer(&engine, request(number, 0, 1));
    assert!(is_whole && [FinishReason::Length, FinishReason::EndOfAnswer].contains(&reason), "{text}");
}

#[test]
fn a_dead_end_fails_and_the_engine_goes_on() {
    let (_model, engine) = engine();
    let mut stuck = request(Grammar::Regex("[ab]x".to_owned()), 0, 10);
    let forbidden = (0..engine.info().n_vocab as u32)
        .filter(|id| engine.tokenizer().token(*id).unwrap().bytes.iter().any(|byte| b"ab".contains(byte)));
    stuck.sampling.logit_bias = forbidden.map(|id| (id, f32::NEG_INFINITY)).collect();
    let generation = engine.generate(stuck).unwrap();
    let failure = loop {
        match generation.next_event() {
            Event::Failed(failure) => break failure,
            Event::Finished(finished) => panic!("{finished:?}"),
            _ => {}
        }
    };
    assert!(matches!(failure, Failure::Constraint(_)), "{failure}");
    let refused = engine.generate(request(Grammar::Regex("(".to_owned()), 0, 1)).err().unwrap();
    assert!(matches!(refused, Refused::Constraint(_)), "{refused}");
    let (text, _, is_whole) = answer(&engine, request(Grammar::JsonSchema(json!({"const": 5})), 0, 10));
    assert!(is_whole && text == "5", "{text}");
}
