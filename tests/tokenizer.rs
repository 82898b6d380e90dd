//! The tokenizer against the reference implementation, and what must hold for any text.
//!
//! tests/data/tokenizer is made by tools/tokenizer-data.py, save `cases.jsonl.xz`, which came with the
//! vocabulary. `CACHALOT_TOKENIZER_DATA` names a folder with more of it, `PROPTEST_CASES` sets how many
//! cases the properties are tried on.

use cachalot::tokenizer::{ControlTokens, Kind, Parts, Segment, Tokenizer};
use lzma_rust2::XzReader;
use proptest::prelude::*;
use serde::Deserialize;
use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

#[derive(Deserialize)]
struct VocabularyFile {
    tokens: Vec<String>,
    token_types: Vec<i32>,
    merges: Vec<String>,
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer")
}

/// The lines of a packed file.
fn lines(path: &Path) -> impl Iterator<Item = String> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BufReader::new(XzReader::new(file, false)).lines().map(Result::unwrap)
}

/// The vocabulary in `folder`, with user-defined tokens added.
fn tokenizer(folder: &Path, pre: &str, user_defined: &[&str]) -> Tokenizer {
    let text = lines(&folder.join("vocabulary.json.xz")).next().unwrap();
    let VocabularyFile { mut tokens, mut token_types, merges } = serde_json::from_str(&text).unwrap();
    tokens.extend(user_defined.iter().map(|&text| text.to_owned()));
    token_types.resize(tokens.len(), 4);
    let parts = Parts {
        pre,
        tokens: tokens.iter().map(String::as_str).collect(),
        token_types,
        merges: merges.iter().map(String::as_str).collect(),
        ..Parts::default()
    };
    Tokenizer::from_parts(&parts).unwrap()
}

/// A text, its ids with special tokens parsed, and without.
fn row(line: &str) -> (String, Vec<u32>, Option<Vec<u32>>) {
    match serde_json::from_str(line) {
        Ok((text, trusted, content)) => (text, trusted, Some(content)),
        Err(_) => {
            let (text, trusted) = serde_json::from_str(line).unwrap();
            (text, trusted, None)
        }
    }
}

#[track_caller]
fn assert_like_reference(folder: &Path, pre: &str, file: &str) {
    let tokenizer = tokenizer(folder, pre, &[]);
    let path = folder.join(file);
    let mut n = 0;
    for (text, trusted, content) in lines(&path).map(|line| row(&line)) {
        assert_eq!(tokenizer.encode_trusted(&text), trusted, "{text:?}");
        let parsed = trusted.iter().any(|&id| tokenizer.token(id).unwrap().kind == Kind::Control);
        let expected = if parsed { content.as_ref() } else { Some(&trusted) };
        if let Some(expected) = expected {
            assert_eq!(tokenizer.encode_content(&text), *expected, "{text:?}");
        }
        assert_eq!(tokenizer.decode(&trusted, ControlTokens::Shown).unwrap(), text);
        n += 1;
    }
    println!("{}: {n} lines", path.display());
    assert!(n > 0);
}

#[test]
fn fixture_cases_are_like_the_reference() {
    assert_like_reference(&sample(), "deepseek-v3", "cases.jsonl.xz");
}

#[test]
fn random_lines_are_like_the_reference() {
    let folder = env::var_os("CACHALOT_TOKENIZER_DATA").map_or_else(sample, PathBuf::from);
    for pre in ["deepseek-v3", "deepseek-llm", "deepseek-coder"] {
        assert_like_reference(&folder, pre, &format!("{pre}.jsonl.xz"));
    }
}

/// Long runs are what a search by backtracking fails on, silently: nothing may be lost of them. How
/// long they take is measured below.
#[test]
fn long_runs_come_back_whole() {
    for pre in ["deepseek-v3", "deepseek-llm", "deepseek-coder"] {
        let tokenizer = tokenizer(&sample(), pre, &[]);
        for unit in ["a", " ", "1", "\n", " \t", "!", "🐋", "深", "\u{301}", "\u{3000}", "\0"] {
            for tail in ["", "x", " x"] {
                let text = unit.repeat(1 << 16) + tail;
                let ids = tokenizer.encode_content(&text);
                assert_eq!(tokenizer.decode(&ids, ControlTokens::Hidden).unwrap(), text);
            }
        }
    }
}

/// Prints what 16 and 32 MiB of one thing take, to be read by a person:
/// `cargo test --release --test tokenizer -- --ignored --nocapture mebibytes`
#[test]
#[ignore = "takes a minute and gigabytes"]
fn mebibytes_of_one_thing() {
    for pre in ["deepseek-v3", "deepseek-llm", "deepseek-coder"] {
        let tokenizer = tokenizer(&sample(), pre, &[]);
        for unit in ["a", "x", " ", "7", "🐋", "深", "\n", "!"] {
            let seconds = [16, 32].map(|mebibytes| {
                let text = unit.repeat((mebibytes << 20) / unit.len());
                let start = Instant::now();
                std::hint::black_box(tokenizer.encode_content(&text));
                start.elapsed().as_secs_f64()
            });
            let factor = seconds[1] / seconds[0];
            println!("{pre:<15} {unit:<3?} 16 MiB {:5.2} s, 32 MiB {:5.2} s, × {factor:.2}", seconds[0], seconds[1]);
        }
    }
}

const USER_DEFINED: [&str; 3] = ["<think>", "</think>", "öö"];

static V3: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(&sample(), "deepseek-v3", &USER_DEFINED));
static LLM: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(&sample(), "deepseek-llm", &USER_DEFINED));
static CODER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(&sample(), "deepseek-coder", &USER_DEFINED));

static SPECIAL: LazyLock<Vec<String>> = LazyLock::new(|| {
    let ids = 0..u32::try_from(V3.n_tokens()).unwrap();
    let special = ids.map(|id| V3.token(id).unwrap()).filter(|token| token.kind.is_special());
    special.map(|token| String::from_utf8(token.bytes.to_vec()).unwrap()).collect()
});

/// 10,000 cases, or as many as `PROPTEST_CASES` says.
fn cases() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let set = env::var_os("PROPTEST_CASES").is_some();
    if set { config } else { ProptestConfig { cases: 10_000, ..config } }
}

fn any_tokenizer() -> impl Strategy<Value = &'static Tokenizer> {
    (0..3usize).prop_map(|which| [&*V3, &*LLM, &*CODER][which])
}

fn special() -> impl Strategy<Value = &'static str> {
    any::<prop::sample::Index>().prop_map(|index| index.get(&SPECIAL).as_str())
}

/// Text with special tokens, pieces of them, white space, words and any characters.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        special().prop_map(str::to_owned),
        special().prop_flat_map(|text| {
            let n = text.chars().count();
            (0..n, 0..n).prop_map(move |(skip, take)| text.chars().skip(skip).take(take).collect())
        }),
        prop::collection::vec(prop::sample::select(vec![' ', '\n', '\r', '\t', '\u{a0}', '\u{3000}']), 1..5)
            .prop_map(|spaces| spaces.into_iter().collect()),
        "[a-zA-Z0-9<>|｜▁_.-]{1,8}",
        any::<char>().prop_map(String::from),
        any::<String>(),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn decoding_undoes_encoding(tokenizer in any_tokenizer(), text in text()) {
        let content = tokenizer.encode_content(&text);
        prop_assert_eq!(&tokenizer.decode(&content, ControlTokens::Hidden).unwrap(), &text);
        prop_assert_eq!(&tokenizer.decode(&content, ControlTokens::Shown).unwrap(), &text);
        let trusted = tokenizer.encode_trusted(&text);
        prop_assert_eq!(&tokenizer.decode(&trusted, ControlTokens::Shown).unwrap(), &text);
    }

    #[test]
    fn content_never_becomes_special(
        tokenizer in any_tokenizer(), before in text(), token in special(), after in text(),
    ) {
        let ids = tokenizer.encode_content(&[&before, token, &after].concat());
        prop_assert!(ids.iter().all(|&id| tokenizer.token(id).unwrap().kind == Kind::Normal));

        // In pieces it is the same text, and between control tokens still none.
        let end = Segment::Control("<｜end▁of▁sentence｜>".into());
        let (left, right) = token.split_at(token.chars().next().map_or(0, char::len_utf8));
        let pieces = [before.clone() + left, right.to_owned() + &after].map(Segment::Content);
        let [first, second] = pieces;
        let segments = [end.clone(), first, second, end];
        let framed = tokenizer.encode_segments(&segments).unwrap();
        prop_assert_eq!(&framed[1..framed.len() - 1], ids);
        prop_assert_eq!((framed.first(), framed.last()), (Some(&1), Some(&1)));
    }

    #[test]
    fn a_stream_of_tokens_decodes_like_the_whole(
        tokenizer in any_tokenizer(), ids in prop::collection::vec(0..768u32, 0..24), shown: bool,
    ) {
        let control = if shown { ControlTokens::Shown } else { ControlTokens::Hidden };
        let mut decoder = tokenizer.decoder(control);
        let mut text = String::new();
        let mut bytes = Vec::new();
        for &id in &ids {
            let token = tokenizer.token(id).unwrap();
            if shown || token.kind.is_text() {
                bytes.extend_from_slice(token.bytes);
            }
            decoder.push(id, &mut text).unwrap();
            prop_assert!(String::from_utf8_lossy(&bytes).starts_with(&text));
        }
        decoder.finish(&mut text);
        prop_assert_eq!(&text, &String::from_utf8_lossy(&bytes));
        prop_assert_eq!(&tokenizer.decode(&ids, control).unwrap(), &text);
    }
}
