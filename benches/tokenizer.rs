//! How fast text is cut into tokens and put together again.
//!
//! By default with the small vocabulary of the tests, on this repository's own sources. The vocabulary in
//! the folder CACHALOT_TOKENIZER_DATA (see tools/tokenizer-data.py) and the text in the file CACHALOT_TEXT
//! are used instead where they are set.

use cachalot::tokenizer::{ControlTokens, Parts, Tokenizer};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lzma_rust2::XzReader;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn tokenizer(pre: &str) -> Tokenizer {
    let sample = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer");
    let folder = env::var_os("CACHALOT_TOKENIZER_DATA").map_or_else(sample, PathBuf::from);
    let packed = XzReader::new(File::open(folder.join("vocabulary.json.xz")).unwrap(), false);
    let json: serde_json::Value = serde_json::from_reader(packed).unwrap();
    let strings = |key: &str| json[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let parts = Parts {
        pre,
        tokens: strings("tokens"),
        token_types: serde_json::from_value(json["token_types"].clone()).unwrap(),
        merges: strings("merges"),
        ..Parts::default()
    };
    Tokenizer::from_parts(&parts).unwrap()
}

fn text() -> String {
    if let Some(file) = env::var_os("CACHALOT_TEXT") {
        return fs::read_to_string(file).unwrap();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["README.md", "Cargo.lock", "src/tokenizer/mod.rs", "src/gguf/parse.rs", "src/gguf/write.rs"];
    sources.map(|file| fs::read_to_string(root.join(file)).unwrap()).concat()
}

fn encode(c: &mut Criterion) {
    let text = text();
    let mut group = c.benchmark_group("tokenizer");
    group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
    for pre in ["deepseek-v3", "deepseek-llm", "deepseek-coder"] {
        let tokenizer = tokenizer(pre);
        group.bench_function(format!("encode, {pre}"), |b| b.iter(|| tokenizer.encode_content(&text)));
    }
    let tokenizer = tokenizer("deepseek-v3");
    group.bench_function("encode trusted", |b| b.iter(|| tokenizer.encode_trusted(&text)));
    let ids = tokenizer.encode_content(&text);
    group.bench_function("decode", |b| b.iter(|| tokenizer.decode(&ids, ControlTokens::Hidden)));

    // What a chat sends: each line a text of its own.
    let lines: Vec<&str> = text.lines().collect();
    group.bench_function("encode line by line", |b| {
        b.iter_batched(
            || lines.clone(),
            |lines| lines.iter().map(|line| tokenizer.encode_content(line).len()).sum::<usize>(),
            BatchSize::LargeInput,
        )
    });
}

criterion_group!(benches, encode);
criterion_main!(benches);
