//! The engine: requests in, events out, several at once.

mod support;

use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{
    CacheType, Engine, Event, Failure, FinishReason, Finished, Generation, OpenError, Options, Piece, Refused, Request,
    Scored,
};
use cachalot::gguf::{Split, Writer};
use std::path::Path;
use support::parity::{Fixture, Reference, fixture};

fn exact() -> Options {
    Options { n_ctx: Some(1024), n_threads: Some(1), exact: true, ..Options::default() }
}

fn open(fixture: &Fixture, options: &Options) -> Engine {
    Engine::open(&fixture.path, options).unwrap()
}

fn greedy() -> SamplerParams {
    SamplerParams { temperature: 0.0, ..SamplerParams::default() }
}

fn request(prompt: &[u32], max_tokens: usize) -> Request {
    Request { prompt: prompt.to_vec(), sampling: greedy(), max_tokens: Some(max_tokens), ..Request::default() }
}

/// All pieces of an answer as one text, and its end.
fn text_of(generation: &Generation) -> (String, Result<Finished, Failure>) {
    let mut text = String::new();
    loop {
        match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) => {}
            Event::Piece(Piece::Text(part) | Piece::Control(part)) => text.push_str(&part),
            Event::Finished(finished) => return (text, Ok(finished)),
            Event::Failed(failure) => return (text, Err(failure)),
        }
    }
}

fn answer(engine: &Engine, request: Request) -> (String, Finished) {
    let (text, end) = text_of(&engine.generate(request).unwrap());
    (text, end.unwrap())
}

fn prompts() -> Vec<Vec<u32>> {
    let reference = Reference::of("parity/v3.reference");
    (0..3).map(|n| reference.ids(&format!("prompt{n}.tokens"))).collect()
}

#[test]
fn a_greedy_answer_is_the_references() {
    for name in ["v3", "v2lite", "v25"] {
        let (fixture, reference) =
            (fixture(&format!("parity/{name}.gguf")), Reference::of(&format!("parity/{name}.reference")));
        let (prompt, all) = (reference.ids("prompt0.tokens"), reference.ids("prompt0.greedy"));
        let engine = open(&fixture, &exact());
        let continuation = &all[prompt.len()..];
        let shown = continuation.split(|id| engine.tokenizer().ends_answer(*id)).next().unwrap();
        let (text, finished) = answer(&engine, request(&prompt, continuation.len()));
        let control = cachalot::tokenizer::ControlTokens::Shown;
        assert_eq!(text, engine.tokenizer().decode(shown, control).unwrap(), "{name}");
        assert_eq!(finished.usage.prompt_tokens, prompt.len());
        assert!(finished.usage.generated_tokens >= shown.len());
    }
}

#[test]
fn a_common_beginning_is_computed_once_and_changes_nothing() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let engine = open(&fixture, &exact());
    let longer = [&prompts[0][..], &prompts[1][..]].concat();
    let (first, finished) = answer(&engine, request(&prompts[0], 8));
    assert_eq!(finished.usage.cached_tokens, 0);
    let (second, finished) = answer(&engine, request(&longer, 8));
    assert_eq!(finished.usage.cached_tokens, prompts[0].len());
    let (again, finished) = answer(&engine, request(&prompts[0], 8));
    assert_eq!((&again, finished.usage.cached_tokens), (&first, prompts[0].len() - 1));
    assert_eq!(answer(&open(&fixture, &exact()), request(&longer, 8)).0, second);
}

#[test]
fn requests_at_the_same_time_do_not_change_each_other() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let options = Options { n_parallel: Some(3), n_batch: Some(16), ..exact() };
    let alone: Vec<String> =
        prompts.iter().map(|prompt| answer(&open(&fixture, &options), request(prompt, 24)).0).collect();
    let engine = open(&fixture, &options);
    // Five for three places: two wait.
    let order = [0, 1, 2, 1, 0];
    let generations = order.map(|n| engine.generate(request(&prompts[n], 24)).unwrap());
    for (n, generation) in order.iter().zip(&generations) {
        let (text, end) = text_of(generation);
        assert_eq!(text, alone[*n], "prompt {n}");
        assert_eq!(end.unwrap().usage.prompt_tokens, prompts[*n].len());
    }
}

#[test]
fn an_answer_ends_by_length_stop_string_or_a_full_context() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let engine = open(&fixture, &exact());
    let (text, finished) = answer(&engine, request(&prompts[0], 12));
    assert_eq!((finished.reason, finished.usage.generated_tokens), (FinishReason::Length, 12));
    // A stop string cut out of the text that comes, where it lies outside of control tokens.
    let stretches = text.split(['<', '>', '｜', char::REPLACEMENT_CHARACTER]).filter(|part| !part.contains('▁'));
    let longest = stretches.max_by_key(|part| part.chars().count()).unwrap();
    let middle: String = longest.chars().skip(1).collect();
    assert!(middle.len() > 3, "{text}");
    let stop = vec!["not there".to_owned(), middle.clone()];
    let (cut, finished) = answer(&engine, Request { stop, ..request(&prompts[0], 12) });
    assert_eq!(finished.reason, FinishReason::StopString(1));
    assert_eq!(cut, text[..text.find(&middle).unwrap()]);
    let (empty, finished) = answer(&engine, request(&prompts[0], 0));
    assert_eq!((empty.as_str(), finished.reason), ("", FinishReason::Length));

    let n_ctx = prompts[0].len() + 5;
    let engine = open(&fixture, &Options { n_ctx: Some(n_ctx), ..exact() });
    let (short, finished) = answer(&engine, request(&prompts[0], 100));
    assert_eq!(finished.reason, FinishReason::ContextFull);
    // The last token needs no room: nothing comes after it.
    assert_eq!(finished.usage.generated_tokens, 6);
    assert!(text.starts_with(&short));
    let (_, finished) = answer(&engine, request(&prompts[0], 2));
    assert_eq!(finished.reason, FinishReason::Length, "an earlier answer makes room");
}

#[test]
fn what_cannot_be_computed_is_refused_at_once() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let engine = open(&fixture, &Options { n_ctx: Some(40), ..exact() });
    let refused = |request: Request| engine.generate(request).err().unwrap();
    assert!(matches!(refused(request(&[], 1)), Refused::EmptyPrompt));
    assert!(matches!(refused(request(&[768], 1)), Refused::Token { id: 768, n_vocab: 768 }));
    let error = refused(request(&prompts[2], 1));
    let expected = "the prompt has 89 tokens, but the context only 40: shorten it, or set a larger context with -c";
    assert_eq!(error.to_string(), expected);
    let sampling = SamplerParams { top_p: f32::NAN, ..greedy() };
    assert!(matches!(refused(Request { sampling, ..request(&[1], 1) }), Refused::Sampling(_)));
    assert!(matches!(refused(Request { stop: vec![String::new()], ..request(&[1], 1) }), Refused::Stop(_)));
    assert!(matches!(
        Engine::open(&fixture.path, &Options { n_batch: Some(0), ..exact() }),
        Err(OpenError::Load { .. })
    ));
    let own = open(&fixture, &Options { n_ctx: Some(0), ..exact() });
    assert_eq!(own.info().n_ctx, own.info().n_ctx_train);
}

#[test]
fn a_cancelled_request_ends_and_the_others_go_on() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let options = Options { n_parallel: Some(2), ..exact() };
    let expected = answer(&open(&fixture, &options), request(&prompts[1], 60)).0;
    let engine = open(&fixture, &options);
    let (gone, stays) =
        (engine.generate(request(&prompts[0], 900)).unwrap(), engine.generate(request(&prompts[1], 60)).unwrap());
    // Once it is under way.
    while !matches!(gone.next_event(), Event::Piece(_)) {}
    gone.canceller().cancel();
    let (_, end) = text_of(&gone);
    let finished = end.unwrap();
    assert_eq!(finished.reason, FinishReason::Cancelled);
    assert!(finished.usage.generated_tokens < 900);
    assert_eq!(text_of(&stays).0, expected);
    // Whoever waits in the line too, and whoever nobody listens to.
    let (a, b) =
        (engine.generate(request(&prompts[0], 900)).unwrap(), engine.generate(request(&prompts[0], 900)).unwrap());
    let waits = engine.generate(request(&prompts[0], 900)).unwrap();
    waits.canceller().cancel();
    assert_eq!(text_of(&waits).1.unwrap().usage.generated_tokens, 0);
    drop((a, b));
    assert_eq!(answer(&engine, request(&prompts[1], 60)).0, expected);
}

/// A prompt of many steps, and a short one behind it: the short one is answered before the long one is read.
#[test]
fn a_long_prompt_makes_nobody_wait() {
    let fixture = fixture("parity/v3.gguf");
    let engine = open(&fixture, &Options { n_parallel: Some(2), n_batch: Some(16), ..exact() });
    let long: Vec<u32> = (0..900).map(|n| 3 + n % 700).collect();
    let (sender, order) = std::sync::mpsc::channel();
    for (name, prompt) in [("long", long), ("short", vec![5, 6, 7])] {
        let sender = sender.clone();
        let sink = move |event| match event {
            Event::Finished(_) => sender.send((name, true)).is_ok(),
            Event::Prompt(progress) if progress.done == progress.total => sender.send((name, false)).is_ok(),
            _ => true,
        };
        engine.submit(request(&prompt, 4), sink).unwrap();
    }
    let order: Vec<_> = order.iter().take(4).collect();
    assert_eq!(order, [("short", false), ("short", true), ("long", false), ("long", true)]);
}

/// Two that fit alone and not together: both are answered, and as alone.
#[test]
fn where_room_is_short_one_waits_for_the_other() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let options = Options { n_parallel: Some(2), n_ctx: Some(128), ..exact() };
    let wanted = |prompt: &[u32]| request(prompt, 90);
    let ended = |(text, finished): (String, Finished)| (text, finished.reason, finished.usage.generated_tokens);
    let alone: Vec<_> =
        prompts[..2].iter().map(|prompt| ended(answer(&open(&fixture, &options), wanted(prompt)))).collect();
    let engine = open(&fixture, &options);
    let together: Vec<_> = prompts[..2].iter().map(|prompt| engine.generate(wanted(prompt)).unwrap()).collect();
    for (generation, alone) in together.iter().zip(alone) {
        let (text, end) = text_of(generation);
        assert_eq!(ended((text, end.unwrap())), alone);
    }
}

#[test]
fn tokens_come_with_their_probabilities() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let engine = open(&fixture, &exact());
    let generation = engine.generate(Request { n_logprobs: Some(3), ..request(&prompts[0], 8) }).unwrap();
    let mut n = 0;
    loop {
        match generation.next_event() {
            Event::Token(scored) => {
                n += 1;
                assert_eq!(scored.top.len(), 3);
                // Greedy: the first is the one that was taken.
                assert_eq!(scored.top[0], (scored.id, scored.logprob));
                assert!(scored.logprob < 0.0 && scored.top.is_sorted_by(|a, b| a.1 >= b.1), "{scored:?}");
            }
            Event::Finished(_) => break,
            _ => {}
        }
    }
    assert_eq!(n, 8);
}

/// The tokens of an answer with their probabilities, and its end.
fn scores_of(generation: &Generation) -> (Vec<Scored>, Finished) {
    let mut scores = Vec::new();
    loop {
        match generation.next_event() {
            Event::Token(scored) => scores.push(scored),
            Event::Finished(finished) => return (scores, finished),
            Event::Failed(failure) => panic!("{failure}"),
            _ => {}
        }
    }
}

/// How far apart the probabilities of the same tokens are, at most.
fn distance(some: &[Scored], others: &[Scored]) -> f32 {
    assert_eq!(some.len(), others.len());
    let both = some.iter().zip(others).flat_map(|(a, b)| {
        assert_eq!(a.id, b.id);
        let other = |id: u32| b.top.iter().find(|(other, _)| *other == id).map(|(_, logprob)| *logprob);
        a.top.iter().filter_map(move |(id, logprob)| Some((logprob - other(*id)?).abs()))
    });
    both.fold(0.0, f32::max)
}

/// With weights and a cache in F32 next to nothing is rounded. Then neither what was computed before, nor what is beside
/// it, nor the pieces that it comes in make a difference.
#[test]
fn what_is_cached_and_what_is_computed_at_once_changes_no_probability() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let options = Options { cache_type: CacheType::F32, exact: false, n_parallel: Some(3), ..exact() };
    let scored = |prompt: &[u32]| Request { n_logprobs: Some(20), ..request(prompt, 6) };
    let alone: Vec<Vec<Scored>> =
        prompts.iter().map(|prompt| scores_of(&open(&fixture, &options).generate(scored(prompt)).unwrap()).0).collect();
    let n_before = [1, 2, 5, 17, usize::MAX];
    let mut cached = std::collections::BTreeSet::new();
    for (n_batch, n_threads) in [(512, 1), (7, 2)] {
        let options = Options { n_batch: Some(n_batch), n_threads: Some(n_threads), ..options.clone() };
        let engine = open(&fixture, &options);
        for (n, prompt) in n_before.iter().flat_map(|n| prompts.iter().enumerate().map(move |prompt| (n, prompt))) {
            let (number, prompt) = prompt;
            let shared = &prompt[..*n.min(&(prompt.len() - 1))];
            // Others that begin in the same way, two of them at the same time as this one.
            let others = prompts.iter().map(|other| [shared, &other[1..]].concat());
            let mut others = others.map(|other| engine.generate(scored(&other)).unwrap());
            scores_of(&others.next().unwrap());
            let others: Vec<Generation> = others.collect();
            let (scores, finished) = scores_of(&engine.generate(scored(prompt)).unwrap());
            let distance = distance(&alone[number], &scores);
            assert!(distance < 1e-3, "prompt {number}, {} cached: {distance}", finished.usage.cached_tokens);
            cached.insert(finished.usage.cached_tokens);
            others.iter().for_each(|other| drop(scores_of(other)));
        }
    }
    assert!(cached.len() >= n_before.len(), "{cached:?}");
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    let drawn =
        |seed| Request { sampling: SamplerParams { seed, ..SamplerParams::default() }, ..request(&prompts[0], 32) };
    let fresh = |seed| answer(&open(&fixture, &exact()), drawn(seed));
    let (text, finished) = fresh(None);
    assert_eq!(fresh(Some(finished.seed)).0, text);
    assert_ne!(fresh(Some(finished.seed ^ 1)).0, text);
}

/// A copy of the model in which one value is NaN.
fn with_nan(fixture: &Fixture, tensor: &str, path: &Path) {
    let gguf = &fixture.gguf;
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        writer.set(key, value).unwrap();
    }
    for tensor in gguf.tensors() {
        writer.add_tensor(&tensor.info.name, tensor.info.ty, tensor.info.shape).unwrap();
    }
    let mut output = writer.create(path, Split::None).unwrap();
    for other in gguf.tensors() {
        let mut data = other.data.to_vec();
        if other.info.name == tensor {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        output.write(&other.info.name, &data).unwrap();
    }
    output.finish().unwrap();
}

#[test]
fn numbers_that_are_none_fail_the_request_and_name_the_layer() {
    let (fixture, prompts) = (fixture("parity/v3.gguf"), prompts());
    for (tensor, place) in [
        ("blk.1.attn_norm.weight", "first in layer 1"),
        ("blk.2.ffn_norm.weight", "first in layer 2"),
        ("output_norm.weight", "in the output"),
    ] {
        let path = fixture.folder.path().join(format!("{tensor}.gguf"));
        with_nan(&fixture, tensor, &path);
        for options in [exact(), Options { exact: false, ..exact() }] {
            let engine = Engine::open(&path, &options).unwrap();
            let (text, end) = text_of(&engine.generate(request(&prompts[0], 8)).unwrap());
            let failure = end.unwrap_err().to_string();
            assert!(text.is_empty() && failure.contains(place), "{tensor}: {failure}");
        }
    }
}
