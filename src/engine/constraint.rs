//! What an answer must look like: a JSON schema, a regular expression or a grammar, kept token by token.
//!
//! Owns what a constraint may cost, and which tokens there are for it: ordinary ones, and those that end an
//! answer. Control tokens are never part of one. The work is `llguidance`'s, whose errors and limits become
//! ours here; what the sampler makes of the tokens allowed is not this file's.

use super::request::Failure;
use super::sampler::{SampleError, Sampler, TokenSet};
use crate::tokenizer::{Kind, Tokenizer};
use llguidance::api::StopReason;
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// What the text of an answer must match as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Grammar {
    /// JSON that the schema allows.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// In the syntax of the crate `regex`.
    Regex(String),
    /// In llguidance's dialect of Lark.
    Lark(String),
    /// One of these texts, and behind it JSON that its schema allows.
    Headed(Vec<(String, Value)>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    pub grammar: Grammar,
    /// It begins behind this token, for a model that reasons first.
    pub after: Option<u32>,
}

/// A constraint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    #[error("{what} has {bytes} bytes; {max} are allowed")]
    TooLong { what: &'static str, bytes: usize, max: usize },
    #[error("{what} cannot be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error("the vocabulary has no token that ends an answer, which a constraint needs")]
    NoEnd,
    #[error("the vocabulary cannot be made ready for constraints: {0}")]
    Vocabulary(String),
}

impl Grammar {
    /// What a schema may have. How deep it nests is limited where JSON is read.
    pub const MAX_SCHEMA_BYTES: usize = 512 << 10;
    /// What an expression or a grammar may have. The stack that they are read on holds what nests so deep.
    pub const MAX_BYTES: usize = 32 << 10;

    /// For messages.
    pub fn what(&self) -> &'static str {
        match self {
            Grammar::JsonSchema(_) | Grammar::JsonObject => "the JSON schema",
            Grammar::Regex(_) => "the regular expression",
            Grammar::Lark(_) => "the grammar",
            Grammar::Headed(_) => "a schema of the parameters",
        }
    }

    fn check_length(&self) -> Result<(), ConstraintError> {
        let (bytes, max) = match self {
            Grammar::JsonSchema(schema) => (schema.to_string().len(), Grammar::MAX_SCHEMA_BYTES),
            Grammar::Headed(choices) => {
                let bytes = choices.iter().map(|(head, schema)| head.len() + schema.to_string().len()).sum();
                (bytes, Grammar::MAX_SCHEMA_BYTES)
            }
            Grammar::JsonObject => (0, Grammar::MAX_SCHEMA_BYTES),
            Grammar::Regex(text) | Grammar::Lark(text) => (text.len(), Grammar::MAX_BYTES),
        };
        match bytes > max {
            true => Err(ConstraintError::TooLong { what: self.what(), bytes, max }),
            false => Ok(()),
        }
    }

    fn top_level(&self) -> TopLevelGrammar {
        match self {
            Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(bounded(schema.clone())),
            Grammar::JsonObject => TopLevelGrammar::from_json_schema(bounded(json!({ "type": "object" }))),
            Grammar::Regex(text) => TopLevelGrammar::from_regex(text),
            Grammar::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            Grammar::Headed(choices) => TopLevelGrammar::from_lark(headed(choices)),
        }
    }
}

/// Its strings and its schemas are JSON, which keeps them from being anything else.
fn headed(choices: &[(String, Value)]) -> String {
    let rules = choices.iter().enumerate();
    let rules =
        rules.map(|(n, (head, schema))| format!("choice{n}: {} %json {}\n", json!(head), bounded(schema.clone())));
    let names: Vec<String> = (0..choices.len()).map(|n| format!("choice{n}")).collect();
    format!("start: {}\n{}", names.join(" | "), rules.collect::<String>())
}

/// Lets white space between values have an end, a space or a line break with its indentation: models that are
/// unsure go on with it for ever. What a schema says itself under `x-guidance` counts.
fn bounded(schema: Value) -> Value {
    const SPACE: &str = r"\x20|\x0D?\x0A[\x20\x09]{0,40}";
    let schema = match schema {
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    let Value::Object(mut fields) = schema else { return schema };
    let options = fields.entry("x-guidance").or_insert_with(|| json!({}));
    if let Value::Object(options) = options {
        let is_said = ["whitespace_pattern", "whitespace_flexible"].iter().any(|key| options.contains_key(*key));
        if !is_said {
            options.insert("whitespace_pattern".to_owned(), SPACE.into());
        }
    }
    Value::Object(fields)
}

/// The vocabulary, as constraints need it.
pub(super) struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// The stack that grammars are read on; only what is used of it is ever taken.
    const STACK: usize = 256 << 20;

    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Grammars, ConstraintError> {
        let roles = tokenizer.roles();
        let ends: Vec<u32> = [roles.eos, roles.eot].into_iter().flatten().collect();
        let Some(eos) = ends.first() else { return Err(ConstraintError::NoEnd) };
        let ids = 0..u32::try_from(tokenizer.n_tokens()).unwrap_or(u32::MAX);
        let words: Vec<Vec<u8>> = ids.map(|id| word(tokenizer, id, &ends)).collect();
        let make = || {
            let info = TokRxInfo::new(words.len() as u32, *eos);
            let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
            let vocabulary: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices)
        };
        let mut factory =
            catch_unwind(AssertUnwindSafe(make)).map_err(|error| ConstraintError::Vocabulary(first_line(&error)))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // Some 2 kB each.
        limits.max_lexer_states = 100_000;
        Ok(Grammars { factory })
    }

    pub(super) fn gate(&self, constraint: &Constraint) -> Result<Gate, ConstraintError> {
        let (grammar, what) = (&constraint.grammar, constraint.grammar.what());
        grammar.check_length()?;
        let unusable = |why: String| ConstraintError::Unusable { what, why };
        let compile = || catch_unwind(AssertUnwindSafe(|| self.factory.create_parser(grammar.top_level())));
        let compiled = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("grammar".to_owned()).stack_size(Grammars::STACK);
            let thread = builder.spawn_scoped(scope, compile).map_err(|error| unusable(error.to_string()))?;
            thread.join().map_err(|_| unusable("it could not be read".to_owned()))
        });
        let parser = compiled?.map_err(|error| unusable(first_line(&error)))?;
        let mut matcher = Matcher::new(Ok(parser));
        if let Some(why) = matcher.get_error() {
            return Err(unusable(why));
        }
        // That is only found out when a token is wanted.
        let is_empty = matcher.compute_mask_or_eos().map_or(true, |allowed| allowed.is_zero());
        match is_empty {
            true => Err(unusable(NOTHING.to_owned())),
            false => Ok(Gate { matcher, what, waits_for: constraint.after, has_ended: false }),
        }
    }
}

/// Of a constraint that nothing meets.
const NOTHING: &str = "nothing can be written that it allows (a $ref that only leads back to itself is one such case)";

/// The bytes of a token as constraints may use it; none for one that no answer may contain. A byte that no
/// UTF-8 has marks the special tokens of `llguidance`, of which there are those that end an answer.
fn word(tokenizer: &Tokenizer, id: u32, ends: &[u32]) -> Vec<u8> {
    if ends.contains(&id) {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], format!("<end-{id}>").as_bytes()].concat();
    }
    match tokenizer.token(id) {
        Ok(token) if token.kind == Kind::Normal && !token.bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) => {
            token.bytes.to_vec()
        }
        _ => Vec::new(),
    }
}

/// Behind it there are backtraces and the like.
fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}

/// Lets the tokens of one answer pass that its constraint allows.
pub(super) struct Gate {
    matcher: Matcher,
    what: &'static str,
    /// The token behind which it begins.
    waits_for: Option<u32>,
    has_ended: bool,
}

impl Gate {
    pub(super) fn sample(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<u32, Failure> {
        if self.waits_for.is_some() {
            return Ok(sampler.sample(logits)?);
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| self.failure(&first_line(&error)))?;
        match sampler.sample_among(logits, Some(TokenSet(allowed.as_slice()))) {
            Err(SampleError::NothingAllowed) => Err(self.failure("no token can go on with it")),
            picked => Ok(picked?),
        }
    }

    /// Takes note of the token that was picked.
    pub(super) fn accept(&mut self, token: u32, is_end: bool) -> Result<(), Failure> {
        if let Some(awaited) = self.waits_for {
            self.waits_for = Some(awaited).filter(|awaited| *awaited != token);
            return Ok(());
        }
        // Tokens that end an answer are let through where it is whole.
        if is_end {
            self.has_ended = true;
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| self.failure(&first_line(&error)))
    }

    /// Whether the answer is whole and nothing can be added to it.
    pub(super) fn is_closed(&self) -> bool {
        self.has_ended || (self.waits_for.is_none() && self.matcher.is_stopped())
    }

    /// Whether the answer is whole as it is.
    pub(super) fn is_satisfied(&mut self) -> bool {
        let is_whole = |matcher: &mut Matcher| match matcher.is_stopped() {
            true => matcher.stop_reason().is_ok(),
            false => matcher.is_accepting().unwrap_or(false),
        };
        self.has_ended || (self.waits_for.is_none() && is_whole(&mut self.matcher))
    }

    fn failure(&self, why: &str) -> Failure {
        let is_stuck = why == format!("{:?}", StopReason::NoExtensionBias);
        let why = if is_stuck { "behind what there is, it allows nothing" } else { why };
        Failure::Constraint(format!("{}: {why}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sampler::{SamplerParams, spell};
    use crate::tokenizer::{Parts, Roles};

    const EOS: u32 = 256;
    const THINK_END: u32 = 257;

    /// Bytes at their own numbers, the end of an answer, `</think>`, a token of several bytes.
    fn tokenizer() -> Arc<Tokenizer> {
        let bytes: Vec<String> = (0..=255u8).map(crate::tokenizer::spelling_of_byte).collect();
        let more = [("<end>", 3), ("</think>", 4), ("\":", 1)];
        let parts = Parts {
            pre: "deepseek-v3",
            tokens: bytes.iter().map(String::as_str).chain(more.map(|(text, _)| text)).collect(),
            token_types: bytes.iter().map(|_| 1).chain(more.map(|(_, ty)| ty)).collect(),
            merges: vec!["\" :"],
            roles: Roles { eos: Some(EOS), ..Roles::default() },
            ..Parts::default()
        };
        Arc::new(Tokenizer::from_parts(&parts).unwrap())
    }

    fn gate(grammar: Grammar, after: Option<u32>) -> Result<Gate, ConstraintError> {
        Grammars::new(&tokenizer())?.gate(&Constraint { grammar, after })
    }

    fn schema(text: &str) -> Grammar {
        Grammar::JsonSchema(serde_json::from_str(text).unwrap())
    }

    /// Whether a text passes to its end, and is then whole.
    fn passes(grammar: Grammar, text: &str) -> bool {
        let mut gate = gate(grammar, None).unwrap();
        let allows = |gate: &mut Gate, token| gate.matcher.compute_mask_or_eos().unwrap().is_allowed(token);
        for byte in text.bytes() {
            if !allows(&mut gate, byte.into()) {
                return false;
            }
            gate.accept(byte.into(), false).unwrap();
        }
        assert_eq!(allows(&mut gate, EOS), gate.is_satisfied());
        gate.is_satisfied()
    }

    #[test]
    fn texts_pass_that_the_constraint_allows() {
        let object = r#"{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
            "additionalProperties": false}"#;
        for (grammar, good, bad) in [
            (schema(object), &[r#"{"a": 5}"#, "{\n\t\"a\":-5\n}"][..], &["{}", "5", r#"{"a": 5"#, r#"{"b": 5}"#][..]),
            (schema(r#"{"enum": ["é", 1, null]}"#), &["\"é\"", "1", "null"], &["2", "true"]),
            (schema("true"), &["1", "[{}]"], &["", "x"]),
            (Grammar::JsonObject, &["{}", r#"{"x": [1, {}]}"#], &["[]", "1"]),
            (Grammar::Regex("a+b?".into()), &["a", "aab"], &["", "b", "abb"]),
            (Grammar::Lark("start: \"(\" start \")\" | \"x\"".into()), &["x", "((x))"], &["(x", "y"]),
            (
                Grammar::Headed(["f\n", "g\"\n"].map(|head| (head.into(), json!({"type": "integer"}))).into()),
                &["f\n5", "g\"\n-1"],
                &["f\n", "h\n5", "f\n{}", "f\n5g"],
            ),
        ] {
            good.iter().for_each(|text| assert!(passes(grammar.clone(), text), "{grammar:?} {text}"));
            bad.iter().for_each(|text| assert!(!passes(grammar.clone(), text), "{grammar:?} {text}"));
        }
        assert!(passes(Grammar::JsonObject, "{\n\t\t\"a\": [\r\n    1, 2 ]\n}"));
        let endless = "{  }";
        assert!(!passes(Grammar::JsonObject, endless));
        let free = schema(r#"{"type": "object", "x-guidance": {"whitespace_flexible": true}}"#);
        assert!(passes(free, endless));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (grammar, why) in [
            (schema(r#"{"type": "objekt"}"#), "objekt"),
            (schema("false"), "JSON schema"),
            (schema(r#"{"minimum": 5, "maximum": 1, "type": "number"}"#), "nsatisfiable"),
            (schema(r#"{"$ref": "https://example.org/schema"}"#), "the JSON schema cannot be used"),
            (schema(r##"{"$ref": "#"}"##), "nothing can be written"),
            (schema("5"), "the JSON schema cannot be used"),
            (Grammar::Regex("(".into()), "the regular expression cannot be used"),
            (Grammar::Lark("start: x".into()), "the grammar cannot be used"),
            (Grammar::Lark(String::new()), "the grammar cannot be used"),
            (Grammar::Lark("x".repeat(Grammar::MAX_BYTES + 1)), "32769 bytes; 32768 are allowed"),
        ] {
            let error = gate(grammar.clone(), None).err().unwrap_or_else(|| panic!("{grammar:?}")).to_string();
            assert!(error.contains(why) && !error.contains('\n') && !error.contains("panic"), "{grammar:?}: {error}");
        }
    }

    #[test]
    fn deep_nesting_overflows_no_stack() {
        let deep = |open: &str, inner: &str, close: &str, n: usize| open.repeat(n) + inner + &close.repeat(n);
        let n = Grammar::MAX_BYTES / 2 - 16;
        let _ = gate(Grammar::Lark("start: ".to_owned() + &deep("(", "\"x\"", ")", n)), None);
        let _ = gate(Grammar::Regex(deep("(", "x", ")", n)), None);
        let _ = gate(Grammar::Lark(format!("start: /{}/", deep("(", "x", ")", n))), None);
    }

    /// Its tokens end the reasoning, and then the constraint holds.
    #[test]
    fn it_can_begin_behind_a_token() {
        let mut gate = gate(Grammar::Regex("ab".into()), Some(THINK_END)).unwrap();
        let tokenizer = tokenizer();
        let greedy = SamplerParams { temperature: 0.0, ..SamplerParams::default() };
        let mut sampler = Sampler::new(&greedy, tokenizer.n_tokens(), spell(tokenizer.clone())).unwrap();
        let mut likely = |token: u32, gate: &mut Gate| {
            let mut logits = vec![0.0; tokenizer.n_tokens()];
            logits[token as usize] = 9.0;
            logits[usize::from(b'a')] = 1.0;
            logits[usize::from(b'b')] = 1.0;
            let picked = gate.sample(&mut sampler, &logits).unwrap();
            gate.accept(picked, picked == EOS).unwrap();
            picked
        };
        assert_eq!(likely(u32::from(b'z'), &mut gate), u32::from(b'z'));
        assert!(!gate.is_satisfied());
        assert_eq!(likely(THINK_END, &mut gate), THINK_END);
        assert_eq!(likely(THINK_END, &mut gate), u32::from(b'a'), "control tokens are no part of an answer");
        assert_eq!(likely(EOS, &mut gate), u32::from(b'b'), "it is not whole yet");
        assert!(gate.is_satisfied() && gate.is_closed());
    }

    #[test]
    fn without_a_token_that_ends_there_is_no_constraint() {
        let bytes: Vec<String> = (0..=255u8).map(crate::tokenizer::spelling_of_byte).collect();
        let tokens: Vec<&str> = bytes.iter().map(String::as_str).collect();
        let parts = Parts { pre: "deepseek-v3", token_types: vec![1; tokens.len()], tokens, ..Parts::default() };
        let tokenizer = Tokenizer::from_parts(&parts).unwrap();
        assert_eq!(Grammars::new(&tokenizer).err(), Some(ConstraintError::NoEnd));
    }
}
