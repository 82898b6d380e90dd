//! What is cached, written down and read again: the answer is the same, and what is of no use is refused.

mod support;

use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{
    CacheType, Engine, Event, Exported, Finished, Imported, Options, Piece, Request, Routing, SnapshotError,
};
use cachalot::session::{Limit, Model, Room, Snapshots, Store, Transcript};
use std::io::Cursor;
use support::parity::{Fixture, Reference, fixture};

fn options(cache_type: CacheType) -> Options {
    Options { n_ctx: Some(512), n_threads: Some(1), cache_type, ..Options::default() }
}

fn open(fixture: &Fixture, options: &Options) -> Engine {
    Engine::open(&fixture.path, options).unwrap()
}

fn request(prompt: &[u32], max_tokens: usize) -> Request {
    let sampling = SamplerParams { temperature: 0.0, ..SamplerParams::default() };
    Request { prompt: prompt.to_vec(), sampling, max_tokens: Some(max_tokens), ..Request::default() }
}

fn end_of(generation: &cachalot::engine::Generation) -> (String, Finished) {
    let mut text = String::new();
    loop {
        match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) => {}
            Event::Piece(Piece::Text(part) | Piece::Control(part)) => text.push_str(&part),
            Event::Finished(finished) => return (text, finished),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
}

/// An answer of 16 tokens, and how many tokens of the prompt were cached.
fn answer(engine: &Engine, prompt: &[u32]) -> (String, usize) {
    let (text, finished) = end_of(&engine.generate(request(prompt, 16)).unwrap());
    (text, finished.usage.cached_tokens)
}

fn prompts(model: &str) -> [Vec<u32>; 3] {
    let reference = Reference::of(&format!("parity/{model}.reference"));
    [0, 1, 2].map(|n| reference.ids(&format!("prompt{n}.tokens")))
}

fn export(engine: &Engine, beginning: &[u32]) -> (Vec<u8>, Exported) {
    engine.export_cache(beginning, Vec::new()).unwrap()
}

fn import(engine: &Engine, bytes: &[u8], wanted: Option<&[u32]>) -> Result<usize, SnapshotError> {
    engine.import_cache(Cursor::new(bytes.to_vec()), wanted).map(|Imported { n_tokens }| n_tokens)
}

#[test]
fn an_answer_behind_a_snapshot_is_the_answer_without() {
    for model in ["v3", "v25", "v2lite"] {
        let (fixture, [first, second, _]) = (fixture(&format!("parity/{model}.gguf")), prompts(model));
        for cache_type in CacheType::ALL {
            let name = format!("{model} {}", cache_type.name());
            let engine = open(&fixture, &options(cache_type));
            answer(&engine, &first);
            let n_tokens = engine.cached(&first).unwrap().unwrap();
            let (bytes, exported) = export(&engine, &first);
            assert!(n_tokens > first.len(), "{name}: the answer is cached too");
            assert_eq!(exported, Exported { n_tokens, n_bytes: bytes.len() as u64 }, "{name}");
            assert_eq!(engine.snapshot_bytes(n_tokens), exported.n_bytes, "{name}");
            let longer = [&first[..], &second].concat();
            let resumed = open(&fixture, &options(cache_type));
            assert_eq!(import(&resumed, &bytes, None).unwrap(), n_tokens, "{name}");
            assert_eq!(export(&resumed, &first).0, bytes, "{name}: all of it came back");
            let n_shared = first.len();
            let without = answer(&open(&fixture, &options(cache_type)), &longer).0;
            assert_eq!(answer(&resumed, &longer), (without, n_shared), "{name}");
        }
    }
}

#[test]
fn scattered_cells_come_back_at_their_positions() {
    let (fixture, [first, second, third]) = (fixture("parity/v3.gguf"), prompts("v3"));
    let options = Options { n_parallel: Some(3), n_batch: Some(7), ..options(CacheType::F32) };
    let engine = open(&fixture, &options);
    // At the same time, so that their tokens take turns in the cache.
    let both = [&first, &second].map(|prompt| engine.generate(request(prompt, 24)).unwrap());
    both.iter().for_each(|generation| drop(end_of(generation)));
    let snapshots = [&first, &second].map(|prompt| export(&engine, prompt).0);
    let longer = [&first, &second].map(|prompt| [&prompt[..], &third].concat());
    let expected = [&longer[0], &longer[1]].map(|prompt| answer(&engine, prompt));
    // Into a cache that is in use.
    let resumed = open(&fixture, &options);
    let own = answer(&resumed, &third).0;
    for snapshot in &snapshots {
        import(&resumed, snapshot, None).unwrap();
    }
    assert_eq!([&longer[0], &longer[1]].map(|prompt| answer(&resumed, prompt)), expected);
    assert_eq!(answer(&resumed, &third).0, own);
}

#[test]
fn only_what_is_wanted_is_taken() {
    let (fixture, [first, second, _]) = (fixture("parity/v3.gguf"), prompts("v3"));
    let engine = open(&fixture, &options(CacheType::F16));
    answer(&engine, &first);
    let (bytes, _) = export(&engine, &first);
    let half = &first[..first.len() / 2];
    let other = [half, &second].concat();
    let resumed = open(&fixture, &options(CacheType::F16));
    assert_eq!(import(&resumed, &bytes, Some(&other)).unwrap(), half.len());
    assert_eq!(resumed.cached(half).unwrap(), Some(half.len()));
    assert_eq!(answer(&resumed, &other), (answer(&open(&fixture, &options(CacheType::F16)), &other).0, half.len()));
    // What is there already is not read again, and stays.
    answer(&resumed, &first);
    let n_tokens = resumed.cached(&first).unwrap();
    assert_eq!(import(&resumed, &bytes, Some(&first)).unwrap(), first.len());
    assert_eq!(resumed.cached(&first).unwrap(), n_tokens);
}

/// A snapshot with its checksums made right again.
fn mended(mut bytes: Vec<u8>, n_tokens: usize) -> Vec<u8> {
    let (header, end) = (72 + 4 * n_tokens, bytes.len() - 32);
    let checksum = *blake3::hash(&bytes[..header]).as_bytes();
    bytes[header..header + 32].copy_from_slice(&checksum);
    let checksum = *blake3::hash(&bytes[..end]).as_bytes();
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn what_is_damaged_is_refused_and_harms_nothing() {
    let (fixture, [first, second, third]) = (fixture("parity/v3.gguf"), prompts("v3"));
    let engine = open(&fixture, &options(CacheType::F16));
    answer(&engine, &first);
    let (good, Exported { n_tokens, .. }) = export(&engine, &first);
    assert_eq!(mended(good.clone(), n_tokens), good);
    let resumed = open(&fixture, &options(CacheType::F16));
    let alone = answer(&resumed, &third).0;
    let refused = |bytes: &[u8]| import(&resumed, bytes, None).unwrap_err().to_string();
    let step = (good.len() / 150).max(1);
    for len in (0..good.len()).step_by(step).chain([good.len() - 1]) {
        let text = refused(&good[..len]);
        assert!(text.contains("too short") || len < 8 && text.contains("no snapshot"), "{len}: {text}");
    }
    for at in (0..200.min(good.len())).chain((200..good.len()).step_by(step)).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad);
    }
    assert!(refused(&[&good[..], &[0]].concat()).contains("too long"));
    let with = |at: usize, new: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + new.len()].copy_from_slice(new);
        mended(bad, n_tokens)
    };
    assert!(refused(&with(8, &2u32.to_le_bytes())).contains("version 2"));
    assert!(refused(&with(72, &768u32.to_le_bytes())).contains("tokens that the model has not"));
    // Numbers that are none would spoil other sequences too.
    let rows = 72 + 4 * n_tokens + 32;
    assert!(refused(&with(rows + 400, &[0x00, 0x7c])).contains("layer 0 holds numbers that are not finite"));
    assert!(refused(&with(good.len() - 34, &[0xff, 0xff])).contains("not finite"));
    // A number of tokens that is not there must not take memory.
    assert!(refused(&with(68, &u32::MAX.to_le_bytes())).contains("too short"));
    assert_eq!(answer(&resumed, &[&first[..], &second].concat()).1, 0);
    assert_eq!(answer(&resumed, &third).0, alone);
    assert_eq!(import(&resumed, &good, None).unwrap(), n_tokens);
}

#[test]
fn what_is_foreign_or_stale_is_refused_with_the_reason() {
    let (fixture, [first, second, _]) = (fixture("parity/v3.gguf"), prompts("v3"));
    let engine = open(&fixture, &options(CacheType::F16));
    assert!(matches!(engine.export_cache(&first, Vec::new()), Err(SnapshotError::NotCached)));
    assert!(matches!(engine.export_cache(&[], Vec::new()), Err(SnapshotError::NotCached)));
    answer(&engine, &first);
    let (bytes, _) = export(&engine, &first);
    let refused = |engine: &Engine, wanted: Option<&[u32]>| import(engine, &bytes, wanted).unwrap_err().to_string();
    let q8_0 = open(&fixture, &options(CacheType::Q8_0));
    assert_eq!(refused(&q8_0, None), "the snapshot is of a cache in f16, but this one is in q8_0");
    let plain = open(&fixture, &Options { routing: Routing::Plain, ..options(CacheType::F16) });
    assert_eq!(refused(&plain, None), "the snapshot was computed with deepseek routing, not plain");
    let other = support::parity::fixture("parity/v25.gguf");
    assert_eq!(refused(&open(&other, &options(CacheType::F16)), None), "the snapshot is of another model");
    let small = open(&fixture, &Options { n_ctx: Some(20), ..options(CacheType::F16) });
    assert!(refused(&small, None).contains("no room in the context"));
    let unlike = [&[first[0] ^ 1][..], &second].concat();
    assert_eq!(
        refused(&open(&fixture, &options(CacheType::F16)), Some(&unlike)),
        "the snapshot is of another conversation"
    );
}

#[test]
fn trainings_of_one_architecture_are_told_apart() {
    let fixture = fixture("parity/v3.gguf");
    let engine = open(&fixture, &options(CacheType::F16));
    let fingerprint = engine.info().fingerprint;
    assert_eq!(fingerprint, open(&fixture, &options(CacheType::Q8_0)).info().fingerprint);
    assert_eq!(fingerprint.to_string().len(), 64);
    let norm = fixture.gguf.tensor("output_norm.weight").unwrap();
    let start = usize::try_from(norm.info.range.start).unwrap();
    let mut bytes = std::fs::read(&fixture.path).unwrap();
    bytes[start] ^= 1;
    let path = fixture.folder.path().join("other.gguf");
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(Engine::open(&path, &options(CacheType::F16)).unwrap().info().fingerprint, fingerprint);
}

#[test]
fn a_session_goes_on_without_computing_it_again() {
    let (fixture, [first, second, _]) = (fixture("parity/v3.gguf"), prompts("v3"));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let snapshots = Snapshots::new(&store, Limit::Default);
    let mut session = store.create(Transcript::new(Model::default())).unwrap();
    session.save().unwrap();
    let long = [&first[..], &second].concat();
    {
        let engine = open(&fixture, &options(CacheType::Q8_0));
        answer(&engine, &long);
        let n_tokens = engine.cached(&long).unwrap().unwrap();
        let room = snapshots.create(&session, n_tokens, engine.snapshot_bytes(n_tokens)).unwrap();
        let Room::Granted(file) = room else { panic!("{room:?}") };
        let (file, _) = engine.export_cache(&long, file).unwrap();
        file.finish().unwrap();
    }
    let id = session.id().clone();
    drop(session);
    let (session, _) = store.resume(id.as_str()).unwrap();
    let engine = open(&fixture, &options(CacheType::Q8_0));
    let file = snapshots.open(&session).unwrap().unwrap();
    engine.import_cache(file, Some(&long)).unwrap();
    assert_eq!(answer(&engine, &[&long[..], &first].concat()).1, long.len());
    drop(session);
    assert!(store.list().unwrap().sessions[0].snapshot_bytes > 0);
    store.remove(&id).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
