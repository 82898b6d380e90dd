//! Mutated files, in the process: the parser never panics, and what it accepts keeps its promises.

mod support;

use cachalot::gguf::{Header, Split, Value};
use cachalot::model::{Detail, ModelFile};
use proptest::prelude::*;
use std::fs;
use std::sync::OnceLock;
use support::models::write_tiny;
use support::raw::Raw;

/// Files to mutate: a sound model, and one with every type of value.
fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let tiny = fs::read(&write_tiny(&dir.path().join("tiny.gguf"), Split::None)[0]).unwrap();
        let values = Raw::new()
            .key("u8", 0, &[1])
            .u16("u16", 2)
            .f32("f32", 1.0)
            .key("bool", 7, &[1])
            .key("u64", 10, &[9; 8])
            .key("f64", 12, &[9; 8])
            .array("bools", 7, 3, &[0, 1, 0])
            .strings("strings", &["a", "", "｜"])
            .tensor("w", &[8, 2], 0, 0)
            .tensor("q", &[256], 12, 64)
            .data(64 + 144);
        vec![tiny, values.bytes()]
    })
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    /// Overwrites eight bytes: lengths, counts and offsets are that long.
    Set64(prop::sample::Index, u64),
    Remove(prop::sample::Index, u8),
    Repeat(prop::sample::Index, u8),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let interesting = prop_oneof![
        any::<u64>(),
        0..300u64,
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 30),
        Just(1 << 32),
        (0..64u32).prop_map(|bit| 1 << bit),
    ];
    prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (any::<prop::sample::Index>(), interesting).prop_map(|(at, word)| Mutation::Set64(at, word)),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, n)| Mutation::Remove(at, n)),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, n)| Mutation::Repeat(at, n)),
        1 => any::<prop::sample::Index>().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let end = |at: usize, n: u8, len: usize| (at + usize::from(n)).min(len);
    match mutation {
        Mutation::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Mutation::Set64(at, word) => {
            let at = at.index(bytes.len());
            let to = end(at, 8, bytes.len());
            bytes[at..to].copy_from_slice(&word.to_le_bytes()[..to - at]);
        }
        Mutation::Remove(at, n) => {
            let at = at.index(bytes.len());
            bytes.drain(at..end(at, *n, bytes.len()));
        }
        Mutation::Repeat(at, n) => {
            let at = at.index(bytes.len());
            let part = bytes[at..end(at, *n, bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// What a header promises to those who use it.
fn assert_promises(bytes: &[u8], header: &Header) {
    let mut ranges: Vec<_> = header.tensors().iter().map(|t| t.range.clone()).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "tensors overlap");
    for tensor in header.tensors() {
        assert!(tensor.range.end <= bytes.len() as u64);
        assert!((tensor.range.start - header.data_start()).is_multiple_of(header.alignment().into()));
        assert_eq!(tensor.shape.n_bytes(tensor.ty), Some(tensor.range.end - tensor.range.start));
    }
    for (key, value) in header.metadata(bytes).iter() {
        assert!(!key.is_empty());
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len(), "{key}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_headers(seed in 0..2usize, mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut bytes = seeds()[seed].clone();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        if let Ok(header) = Header::parse(&bytes, bytes.len() as u64) {
            assert_promises(&bytes, &header);
        }
    }

    #[test]
    fn a_header_cut_short_asks_for_more(seed in 0..2usize, at in any::<prop::sample::Index>()) {
        let bytes = &seeds()[seed];
        let whole = Header::parse(bytes, bytes.len() as u64).unwrap();
        let cut = at.index(whole.data_start() as usize);
        // The bytes at hand end, the file does not: as when a header is fetched piece by piece.
        match Header::parse(&bytes[..cut], bytes.len() as u64) {
            Ok(header) => prop_assert_eq!(header.tensors(), whole.tensors()),
            Err(damage) => {
                let truncated = matches!(damage.fault, cachalot::gguf::Fault::Truncated { .. });
                prop_assert!(truncated, "{}", damage);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The whole way from a path to a report: whatever opens can be shown, in words and as JSON.
    #[test]
    fn mutated_files(seed in 0..2usize, mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut bytes = seeds()[seed].clone();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, &bytes).unwrap();
        if let Ok(model) = ModelFile::open(&path) {
            let report = model.inspect_and_check(Detail { tensors: true, metadata: true }, &|_, _| {});
            let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
            let listed: u64 = json["tensors"].as_array().unwrap().iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
            prop_assert_eq!(Some(listed), json["tensor_bytes"].as_u64());
            prop_assert!(listed <= bytes.len() as u64);
        }
    }
}
