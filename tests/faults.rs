//! Numbers that are none: where they begin is named, and no other sequence is touched by them.

mod support;

use cachalot::graph::{Fault, Forward, Options, Seq, StepError, Token};
use support::draft::Draft;
use support::parity::{Fixture, Reference, distance, fixture};

/// A token whose embedding is bad.
const BAD: u32 = 700;

/// The reference model with one value that is none.
fn spoiled(tensor: &str, at: usize, value: f32) -> Fixture {
    let mut draft = Draft::of(&fixture("parity/v3.gguf").gguf);
    draft.part(tensor).data[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
    draft.open()
}

fn bad_embedding() -> Fixture {
    spoiled("token_embd.weight", 128 * BAD as usize + 5, f32::NAN)
}

/// Both ways of attention, fast and exact.
fn all_options() -> [Options; 3] {
    let fast = Options::new(1024, 1);
    [fast.clone().exact(), Options { flash_attention: false, ..fast.clone() }, fast]
}

fn seq(n: usize) -> Seq {
    Seq::new(n).unwrap()
}

fn prompt(n: usize) -> Vec<u32> {
    Reference::of("parity/v3.reference").ids(&format!("prompt{n}.tokens"))
}

fn tokens(ids: &[u32], seq: Seq, from: usize, wants_logits: bool) -> Vec<Token> {
    (from as i32..).zip(ids).map(|(position, &id)| Token { id, seq, position, wants_logits }).collect()
}

/// A step as the engine does it: computed, then looked at.
fn step(forward: &mut Forward, tokens: &[Token]) -> Result<(Vec<f32>, Vec<Fault>), StepError> {
    let mut logits = Vec::new();
    forward.step(tokens, &mut logits)?;
    let faults = forward.faults(tokens, &logits)?;
    Ok((logits, faults))
}

#[test]
fn the_layer_is_named() {
    for (tensor, at, value, layer) in [
        ("blk.0.attn_norm.weight", 0, f32::NAN, Some(0)),
        ("blk.0.ffn_norm.weight", 3, f32::INFINITY, Some(0)),
        ("blk.1.attn_norm.weight", 7, f32::NAN, Some(1)),
        ("blk.1.attn_v_b.weight", 100, f32::NAN, Some(1)),
        ("blk.1.ffn_norm.weight", 127, f32::NEG_INFINITY, Some(1)),
        ("blk.2.ffn_down_shexp.weight", 1, f32::NAN, Some(2)),
        ("output_norm.weight", 2, f32::NAN, None),
        ("output.weight", 1000, f32::NAN, None),
    ] {
        let fixture = spoiled(tensor, at, value);
        for options in all_options() {
            let mut forward = Forward::load(&fixture.gguf, options).unwrap();
            let (_, faults) = step(&mut forward, &tokens(&prompt(0), seq(0), 0, true)).unwrap();
            let expected: Vec<Fault> = (0..prompt(0).len()).map(|row| Fault { row, layer }).collect();
            assert_eq!(faults, expected, "{tensor}");
        }
    }
}

#[test]
fn a_fault_says_where() {
    let says = |layer| Fault { row: 0, layer }.to_string();
    assert_eq!(says(Some(3)), "the model computed numbers that are not finite, first in layer 3");
    assert_eq!(says(None), "the model computed numbers that are not finite, in the output");
}

#[test]
fn without_a_fault_there_is_none() {
    for options in all_options() {
        let mut forward = Forward::load(&fixture("parity/v3.gguf").gguf, options).unwrap();
        assert_eq!(step(&mut forward, &tokens(&prompt(0), seq(0), 0, true)).unwrap().1, []);
    }
}

/// The tokens before a bad one are as without it.
#[test]
fn a_bad_embedding_counts_for_the_first_layer() {
    let fixture = bad_embedding();
    let mut ids = prompt(0);
    ids[4] = BAD;
    for options in all_options() {
        let mut forward = Forward::load(&fixture.gguf, options).unwrap();
        for id in &ids[..4] {
            let at = forward.n_cached(seq(0));
            assert_eq!(step(&mut forward, &tokens(&[*id], seq(0), at, true)).unwrap().1, []);
        }
        for row in 4..7 {
            let (_, faults) = step(&mut forward, &tokens(&ids[row..=row], seq(0), row, true)).unwrap();
            assert_eq!(faults, [Fault { row: 0, layer: Some(0) }], "token {row}");
        }
    }
}

/// One sequence goes on after another has failed, in the same step or in one before, whether its bad token
/// was looked at when it was computed or not.
#[test]
fn other_sequences_go_on_as_if_nothing_had_been() {
    let fixture = bad_embedding();
    let (good, mut bad) = (prompt(2), prompt(1));
    let half = good.len() / 2;
    bad[2] = BAD;
    for options in all_options() {
        for chunks in [&[35][..], &[10, 25], &[10, 10, 15]] {
            let mut forward = Forward::load(&fixture.gguf, options.clone()).unwrap();
            step(&mut forward, &tokens(&good[..half], seq(0), 0, false)).unwrap();
            // Fewer than the bad ones: these are not all written over.
            let rest = tokens(&good[half..half + 5], seq(0), half, true);
            let (expected, _) = step(&mut forward, &rest).unwrap();
            forward.clear();

            step(&mut forward, &tokens(&good[..half], seq(0), 0, false)).unwrap();
            let mut at = 0;
            let mut faults = Vec::new();
            for (n, chunk) in chunks.iter().enumerate() {
                let is_last = n + 1 == chunks.len();
                let mut chunk = tokens(&bad[at..at + chunk], seq(1), at, false);
                at += chunk.len();
                chunk.last_mut().unwrap().wants_logits = is_last;
                faults = step(&mut forward, &chunk).unwrap().1;
            }
            assert_eq!(faults, [Fault { row: 0, layer: Some(0) }], "{chunks:?}");
            forward.remove(seq(1), 0..i32::MAX);
            let (found, faults) = step(&mut forward, &rest).unwrap();
            assert_eq!(faults, [], "{chunks:?}, {options:?}");
            assert!(distance(&found, &expected) < 1e-6, "{chunks:?}: {:.2e}", distance(&found, &expected));
            // And what takes the bad one's place does.
            let found = step(&mut forward, &tokens(&good, seq(2), 0, true)).unwrap().1;
            assert_eq!(found, [], "{chunks:?}");
        }
    }
}

/// A bad token of a prompt that is not finished, in one step with another's: that one may fail, but whose
/// token it is must fail too, once it is asked, and not go on with something else in its place.
#[test]
fn a_bad_token_is_not_forgotten() {
    let fixture = bad_embedding();
    let (good, mut bad) = (prompt(2), prompt(1));
    bad[12] = BAD;
    for options in all_options() {
        let mut forward = Forward::load(&fixture.gguf, options).unwrap();
        step(&mut forward, &tokens(&good[..30], seq(0), 0, false)).unwrap();
        step(&mut forward, &tokens(&bad[..10], seq(1), 0, false)).unwrap();
        let mut both = tokens(&bad[10..20], seq(1), 10, false);
        both.extend(tokens(&good[30..31], seq(0), 30, true));
        let (_, faults) = step(&mut forward, &both).unwrap();
        let good_failed = !faults.is_empty();
        // What shares the bad token shares its fate; what shares an earlier step does not.
        forward.copy(seq(1), seq(2), 0..13);
        forward.copy(seq(1), seq(3), 0..10);
        for (n, at) in [(1, 20), (2, 13)] {
            let (_, faults) = step(&mut forward, &tokens(&bad[at..], seq(n), at, true)).unwrap();
            let expected: Vec<Fault> = (0..bad.len() - at).map(|row| Fault { row, layer: Some(0) }).collect();
            assert_eq!(faults, expected, "sequence {n}");
            forward.remove(seq(n), 0..i32::MAX);
        }
        if !good_failed {
            assert_eq!(step(&mut forward, &tokens(&good[31..], seq(0), 31, true)).unwrap().1, []);
        }
        assert_eq!(step(&mut forward, &tokens(&good[2..9], seq(3), 10, true)).unwrap().1, []);
    }
}
