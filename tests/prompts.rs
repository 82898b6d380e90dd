//! Conversations to token ids: the whole way, against the models' own templates run by Python's jinja2
//! and the reference tokenizer (`tools/prompt-data.py` makes the data).

use cachalot::chat::{Conversation, Family, Options, fim};
use cachalot::tokenizer::{Kind, Parts, Segment, Tokenizer};
use lzma_rust2::XzReader;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::LazyLock;

#[derive(Deserialize)]
struct VocabularyFile {
    tokens: Vec<String>,
    token_types: Vec<i32>,
    merges: Vec<String>,
}

fn rows<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let lines = BufReader::new(XzReader::new(std::fs::File::open(path).unwrap(), false)).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// The test vocabulary with the two tokens that reasoning models add.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let VocabularyFile { mut tokens, mut token_types, merges } =
        rows::<VocabularyFile>("tokenizer/vocabulary.json.xz").remove(0);
    tokens.extend(["<think>", "</think>"].map(str::to_owned));
    token_types.extend([4, 4]);
    let parts = Parts {
        pre: "deepseek-v3",
        tokens: tokens.iter().map(String::as_str).collect(),
        token_types,
        merges: merges.iter().map(String::as_str).collect(),
        ..Parts::default()
    };
    Tokenizer::from_parts(&parts).unwrap()
});

fn conversation(messages: Value) -> Conversation {
    Conversation::new(serde_json::from_value(messages).unwrap())
}

#[test]
fn prompts_are_those_of_the_published_templates_to_the_id() {
    let rows: Vec<(String, bool, Value, String, Vec<u32>)> = rows("prompts.jsonl.xz");
    for (family, thinking, messages, text, ids) in &rows {
        let family: Family = family.parse().unwrap();
        let options = Options { thinking: thinking.then_some(true), ..Options::default() };
        let prompt = family.prompt(&conversation(messages.clone()), options).unwrap();
        assert_eq!(prompt.to_text(), *text, "{family}: {messages}");
        assert_eq!(TOKENIZER.encode_segments(prompt.segments()).unwrap(), *ids, "{family}: {messages}");
    }
    for family in [Family::V2, Family::V3, Family::R1, Family::V31] {
        assert!(rows.iter().filter(|row| row.0 == family.name()).count() >= 50, "{family}");
    }
}

#[test]
fn fill_in_the_middle_to_the_id() {
    let ids = TOKENIZER.encode_segments(fim("a", "b").segments()).unwrap();
    let [begin, hole, end] =
        ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"].map(|text| TOKENIZER.special(text).unwrap());
    let [a, b] = ["a", "b"].map(|text| TOKENIZER.encode_content(text)[0]);
    assert_eq!(ids, [0, begin, a, hole, b, end]);
}

/// Text that would steer the model if any of it became a control token.
fn hostile() -> impl Strategy<Value = String> {
    let control = (0..TOKENIZER.n_tokens() as u32)
        .filter_map(|id| TOKENIZER.token(id).ok())
        .filter(|token| token.kind != Kind::Normal)
        .map(|token| String::from_utf8_lossy(token.bytes).into_owned())
        .collect::<Vec<_>>();
    let part = prop_oneof![3 => prop::sample::select(control), 1 => "[a-z <｜>\n]{0,4}", 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// From the conversation to the ids: as many control ids as the template wrote, none from content.
    #[test]
    fn content_never_becomes_a_control_id(
        family in prop::sample::select(vec![Family::V3, Family::R1, Family::V31]),
        texts in prop::array::uniform6(hostile()),
    ) {
        let [system, user, answer, name, arguments, result] = &texts;
        let conversation = conversation(json!([
            {"role": "system", "content": system},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": format!("f{name}"), "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "1", "content": result},
            {"role": "user", "content": user},
        ]));
        let prompt = family.prompt(&conversation, Options::default()).unwrap();
        let written = prompt.segments().iter().filter(|segment| matches!(segment, Segment::Control(_))).count();
        let ids = TOKENIZER.encode_segments(prompt.segments()).unwrap();
        let special = ids.iter().filter(|id| TOKENIZER.token(**id).unwrap().kind != Kind::Normal).count();
        prop_assert_eq!(special, written);
    }
}
