//! One model in every layout that files come in: the same logits from all, to the bit where the same numbers
//! are computed. And the cache in every type.

mod support;

use cachalot::gguf::TensorType;
use cachalot::graph::{CacheType, Forward, LoadError, Options, Seen, Seq, Token};
use half::{bf16, f16};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use support::draft::{Draft, Key, Part};
use support::parity::{Fixture, Reference, distance, fixture, row};

const NOPE: usize = 32;
const RANK: usize = 64;
const VALUE: usize = 32;
const HEADS: usize = 4;

fn v3() -> (Fixture, Draft) {
    let fixture = fixture("parity/v3.gguf");
    let draft = Draft::of(&fixture.gguf);
    (fixture, draft)
}

fn exact() -> Options {
    Options { n_batch: 1024, ..Options::new(1024, 1).exact() }
}

fn tokens(ids: &[u32]) -> Vec<Token> {
    (0..).zip(ids).map(|(position, &id)| Token { id, seq: Seq::FIRST, position, wants_logits: true }).collect()
}

fn load(fixture: &Fixture) -> Forward {
    Forward::load(&fixture.gguf, exact()).unwrap_or_else(|error| panic!("{error}"))
}

fn logits(forward: &mut Forward, ids: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    forward.step(&tokens(ids), &mut logits).unwrap();
    forward.clear();
    logits
}

/// The logits of prompt 2.
fn logits_of(fixture: &Fixture) -> Vec<f32> {
    let ids = Reference::of("parity/v3.reference").ids("prompt2.tokens");
    logits(&mut load(fixture), &ids)
}

/// All prompts against the reference.
fn assert_reference(fixture: &Fixture) {
    let reference = Reference::of("parity/v3.reference");
    let mut forward = load(fixture);
    for (prompt, bound) in [(0, 1e-5), (1, 1e-5), (2, 1e-5), (3, 5e-5)] {
        let mut found = logits(&mut forward, &reference.ids(&format!("prompt{prompt}.tokens")));
        if prompt == 3 {
            let (positions, n_vocab) = (reference.ids("prompt3.positions"), forward.n_vocab());
            found = positions.iter().flat_map(|at| row(&found, n_vocab, *at as usize).to_vec()).collect();
        }
        let distance = distance(&found, &reference.f32(&format!("prompt{prompt}.logits")));
        assert!(distance < bound, "prompt {prompt}: {distance:.2e}");
    }
}

fn assert_same_bits(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let differ = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(differ, 0, "of {}; distance {:.2e}", a.len(), distance(a, b));
}

fn layers(draft: &Draft) -> usize {
    (0..).take_while(|layer| draft.has(&format!("blk.{layer}.attn_norm.weight"))).count()
}

/// Keys and values of each head in one matrix.
fn kv_b(draft: &mut Draft, layer: usize) -> Part {
    let k_b = draft.part(&format!("blk.{layer}.attn_k_b.weight")).values();
    let v_b = draft.part(&format!("blk.{layer}.attn_v_b.weight")).values();
    let mut values = Vec::new();
    for head in 0..HEADS {
        let key = |n: usize| (0..RANK).map(move |c| n + NOPE * (c + RANK * head));
        values.extend((0..NOPE).flat_map(key).map(|i| k_b[i]));
        values.extend(&v_b[head * VALUE * RANK..(head + 1) * VALUE * RANK]);
    }
    let dims = [RANK as u64, ((NOPE + VALUE) * HEADS) as u64];
    Part::f32(&format!("blk.{layer}.attn_kv_b.weight"), &dims, &values)
}

/// The keys that say how attention is stored, as files had them before the latent layout.
fn with_older_keys(draft: &mut Draft) {
    draft.remove("attention.key_length_mla");
    draft.remove("attention.value_length_mla");
    draft.set("attention.head_count_kv", Key::U32(4));
    draft.set("attention.key_length", Key::U32(64));
    draft.set("attention.value_length", Key::U32(32));
}

/// The older layout.
fn legacy(mut draft: Draft) -> Draft {
    with_older_keys(&mut draft);
    for layer in 0..layers(&draft) {
        let kv_b = kv_b(&mut draft, layer);
        *draft.part(&format!("blk.{layer}.attn_k_b.weight")) = kv_b;
        draft.take(&format!("blk.{layer}.attn_v_b.weight"));
    }
    draft
}

#[test]
fn joint_keys_and_values() {
    let (_, draft) = v3();
    let fixture = legacy(draft).open();
    let sum: String =
        Sha256::digest(std::fs::read(&fixture.path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = include_str!("data/parity/v3-legacy.sha256");
    assert_eq!(expected.split_whitespace().next(), Some(&*sum), "not the file that llama.cpp was held against");
    assert_reference(&fixture);
    // The keys are transposed into memory of their own, and nothing else is.
    let own = load(&fixture).n_bytes() - load(&v3().0).n_bytes();
    assert_eq!(own, 3 * NOPE * RANK * HEADS * 4);
}

/// What goes into each matrix when tokens are computed: sums of squares, and how many there were.
fn inputs(fixture: &Fixture, ids: &[u32]) -> BTreeMap<String, (Vec<f32>, Vec<f32>)> {
    let mut inputs = BTreeMap::new();
    let see = |seen: &Seen<'_>| {
        let names = seen.tensors.iter().cloned();
        inputs.extend(names.map(|name| (name, (seen.sums.to_vec(), seen.counts.to_vec()))));
    };
    load(fixture).step_observed(&tokens(ids), see).unwrap();
    inputs
}

/// x / √(mean x² + 1e-6), times the weights.
fn normed(x: &[f64], weights: &[f32]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weights).map(|(x, w)| x / (mean + 1e-6).sqrt() * f64::from(*w)).collect()
}

/// What `attn_kv_b` gets are the latent vectors, here computed from what goes into a layer.
#[test]
fn inputs_of_joint_keys_and_values() {
    let (_, draft) = v3();
    let mut draft = legacy(draft);
    let fixture = draft.open();
    let ids = Reference::of("parity/v3.reference").ids("prompt0.tokens");
    let inputs = inputs(&fixture, &ids);
    let hidden = load(&fixture).step_hidden(&tokens(&ids), &mut Vec::new()).unwrap();
    for (layer, hidden) in hidden.iter().take(layers(&draft)).enumerate() {
        let mut weights = |name: &str| draft.part(&format!("blk.{layer}.{name}.weight")).values();
        let (norm, kv_a, kv_norm) = (weights("attn_norm"), weights("attn_kv_a_mqa"), weights("attn_kv_a_norm"));
        let mut expected = vec![0f64; RANK];
        for x in hidden.chunks(norm.len()) {
            let x = normed(&x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), &norm);
            let row = |row: &[f32]| row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
            let latent: Vec<f64> = kv_a.chunks(norm.len()).take(RANK).map(row).collect();
            expected.iter_mut().zip(normed(&latent, &kv_norm)).for_each(|(sum, x)| *sum += x * x);
        }
        let (sums, counts) = &inputs[&format!("blk.{layer}.attn_kv_b.weight")];
        let expected: Vec<f32> = expected.iter().map(|x| *x as f32).collect();
        let distance = distance(sums, &expected);
        assert!(distance < 1e-5, "layer {layer}: {distance:.2e}");
        assert_eq!(counts, &[ids.len() as f32]);
        assert!(!inputs.contains_key(&format!("blk.{layer}.attn_k_b.weight")), "it is not in the file");
    }
}

/// What is stored in a type, and what it is then worth.
fn stored(ty: TensorType, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let data: Vec<u8> = match ty {
        TensorType::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        TensorType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        _ => values.as_chunks().0.iter().flat_map(q8_0).collect(),
    };
    let mut worth = vec![0.0; values.len()];
    cachalot::ggml::dequantize(ty, &data, &mut worth).unwrap();
    (data, worth)
}

/// A scale, then as many of it as each value is nearest to.
fn q8_0(values: &[f32; 32]) -> Vec<u8> {
    let scale = values.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
    let quants = values.iter().map(|x| (x / scale).round() as i8 as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}

/// Against a file with keys and values of their own that are worth the same: the keys in F16, which holds
/// what they are, the values in the same type.
#[test]
fn joint_keys_and_values_of_other_types() {
    let (_, draft) = v3();
    let ids = Reference::of("parity/v3.reference").ids("prompt2.tokens");
    let in_f32 = first_layer(&mut load(&draft.open()), &ids);
    for (ty, bound) in [(TensorType::F16, 1e-3), (TensorType::BF16, 1e-2), (TensorType::Q8_0, 2e-2)] {
        let mut joint = legacy(draft.clone());
        let mut own = draft.clone();
        for layer in 0..layers(&draft) {
            let part = joint.part(&format!("blk.{layer}.attn_kv_b.weight"));
            let (data, worth) = stored(ty, &part.values());
            let row_bytes = data.len() / ((NOPE + VALUE) * HEADS);
            let (mut keys, mut values) = (vec![0.0; NOPE * RANK * HEADS], Vec::new());
            for head in 0..HEADS {
                let first = head * (NOPE + VALUE);
                for (n, c) in (0..NOPE).flat_map(|n| (0..RANK).map(move |c| (n, c))) {
                    keys[n + NOPE * (c + RANK * head)] = worth[(first + n) * RANK + c];
                }
                values.extend(&data[(first + NOPE) * row_bytes..(first + NOPE + VALUE) * row_bytes]);
            }
            (part.ty, part.data) = (ty, data);
            let k_b = own.part(&format!("blk.{layer}.attn_k_b.weight"));
            (k_b.ty, k_b.data) = (TensorType::F16, stored(TensorType::F16, &keys).0);
            let v_b = own.part(&format!("blk.{layer}.attn_v_b.weight"));
            (v_b.ty, v_b.data) = (ty, values);
        }
        let joint = joint.open();
        assert_same_bits(&logits_of(&joint), &logits_of(&own.open()));
        let distance = distance(&first_layer(&mut load(&joint), &ids), &in_f32);
        eprintln!("{ty}: {distance:.2e} from F32");
        assert!(distance < bound, "{ty}: {distance:.2e} from F32");
    }
}

/// One fork's files: both layouts at once, keys and values flat, no keys of the latent layout.
#[test]
fn flat_keys_and_values_beside_joint_ones() {
    let (fixture, mut draft) = v3();
    with_older_keys(&mut draft);
    for layer in 0..layers(&draft) {
        let mut kv_b = kv_b(&mut draft, layer);
        // Nobody is to look at it.
        kv_b.data.fill(0xff);
        let [nope, rank, value, heads] = [NOPE, RANK, VALUE, HEADS].map(|n| n as u64);
        draft.part(&format!("blk.{layer}.attn_k_b.weight")).dims = vec![nope, rank * heads];
        draft.part(&format!("blk.{layer}.attn_v_b.weight")).dims = vec![rank, value * heads];
        draft.tensors.push(kv_b);
    }
    let flat = draft.open();
    assert_same_bits(&logits_of(&flat), &logits_of(&fixture));
    assert_eq!(load(&flat).unused_tensors(), [""; 0]);
    // A flat matrix has the inputs of all heads.
    let ids = [5, 17, 100];
    let (by_head, together) = (inputs(&fixture, &ids), inputs(&flat, &ids));
    for (name, row) in [("blk.1.attn_k_b.weight", NOPE), ("blk.1.attn_v_b.weight", RANK)] {
        let ((heads, _), (sums, counts)) = (&by_head[name], &together[name]);
        let sum = |column: usize| heads.iter().skip(column).step_by(row).sum();
        assert_eq!((heads.len(), counts), (row * HEADS, &vec![(ids.len() * HEADS) as f32]));
        assert!(distance(sums, &(0..row).map(sum).collect::<Vec<f32>>()) < 1e-6, "{name}");
    }
}

#[test]
fn gate_and_up_in_one_tensor() {
    let (fixture, mut draft) = v3();
    for layer in 1..layers(&draft) {
        let gate = draft.take(&format!("blk.{layer}.ffn_gate_exps.weight"));
        let up = draft.take(&format!("blk.{layer}.ffn_up_exps.weight"));
        let [n_embd, n_ff, n_expert] = *gate.dims else { panic!() };
        let expert = (n_embd * n_ff * 4) as usize;
        let data = gate.data.chunks(expert).zip(up.data.chunks(expert)).flat_map(|(gate, up)| [gate, up].concat());
        let (name, dims) = (format!("blk.{layer}.ffn_gate_up_exps.weight"), vec![n_embd, 2 * n_ff, n_expert]);
        draft.tensors.push(Part { name, ty: TensorType::F32, dims, data: data.collect() });
    }
    let fused = draft.open();
    assert_same_bits(&logits_of(&fused), &logits_of(&fixture));
    assert_eq!(load(&fused).unused_tensors(), [""; 0]);
    let ids = [5, 17, 100];
    let (two, one) = (inputs(&fixture, &ids), inputs(&fused, &ids));
    assert_eq!(one["blk.1.ffn_gate_up_exps.weight"], two["blk.1.ffn_up_exps.weight"]);
}

#[test]
fn embeddings_are_the_head_where_there_is_none() {
    let (_, mut draft) = v3();
    draft.part("output.weight").data = draft.part("token_embd.weight").data.clone();
    let twice = logits_of(&draft.open());
    draft.take("output.weight");
    assert_same_bits(&logits_of(&draft.open()), &twice);
}

#[test]
fn a_layer_that_predicts_further_is_left_out() {
    let (fixture, mut draft) = v3();
    draft.set("block_count", Key::U32(4));
    draft.set("nextn_predict_layers", Key::U32(1));
    for (name, dims) in [
        ("blk.3.nextn.eh_proj.weight", &[256, 128][..]),
        ("blk.3.nextn.enorm.weight", &[128]),
        ("blk.3.attn_norm.weight", &[128]),
    ] {
        let mut part = Part::f32(name, &[1], &[f32::NAN]);
        part.resize(dims);
        draft.tensors.push(part);
    }
    let more = draft.open();
    assert_same_bits(&logits_of(&more), &logits_of(&fixture));
    let mut unused = load(&more).unused_tensors().to_vec();
    unused.sort();
    assert_eq!(unused, ["blk.3.attn_norm.weight", "blk.3.nextn.eh_proj.weight", "blk.3.nextn.enorm.weight"]);
}

#[test]
fn a_value_for_each_layer() {
    let (fixture, mut draft) = v3();
    draft.set("attention.head_count", Key::U32s(vec![4; 3]));
    draft.set("feed_forward_length", Key::U32s(vec![256, 32, 32]));
    draft.set("expert_weights_scale", Key::F32s(vec![2.5; 3]));
    let arrays = draft.open();
    assert_eq!(load(&arrays).config(), load(&fixture).config());
    assert_same_bits(&logits_of(&arrays), &logits_of(&fixture));
}

/// Data where ggml cannot work with it is copied.
#[test]
fn odd_addresses() {
    let (fixture, mut draft) = v3();
    let expected = logits_of(&fixture);
    let n_bytes = load(&fixture).n_bytes();
    for alignment in [8, 16] {
        draft.alignment = alignment;
        // A tensor of one or two steps before the others moves them off every larger alignment.
        let moved = [1, 2].map(|steps| {
            let n = steps * u64::from(alignment) / 4;
            draft.tensors.insert(0, Part::f32("odd", &[n], &vec![0.0; n as usize]));
            let moved = draft.open();
            draft.tensors.remove(0);
            moved
        });
        let n_odd = |fixture: &Fixture| {
            fixture.gguf.tensors().filter(|tensor| !tensor.data.as_ptr().addr().is_multiple_of(32)).count()
        };
        let moved = moved.iter().max_by_key(|fixture| n_odd(fixture)).unwrap();
        assert!(n_odd(moved) > 10, "alignment {alignment}: all is where it can stay");
        assert!(load(moved).n_bytes() > n_bytes);
        assert_same_bits(&logits_of(moved), &expected);
        assert_eq!(load(moved).unused_tensors(), ["odd"]);
    }
}

/// What comes out of layer 0 over a prompt, where no expert is chosen yet.
fn first_layer(forward: &mut Forward, ids: &[u32]) -> Vec<f32> {
    let hidden = forward.step_hidden(&tokens(ids), &mut Vec::new()).unwrap();
    forward.clear();
    hidden[1].clone()
}

/// Each type is as far from F32 as its rounding makes it, and none would pass for the next finer one.
#[test]
fn every_cache_type_both_ways() {
    let (fixture, _) = v3();
    let ids = Reference::of("parity/v3.reference").ids("prompt2.tokens");
    let expected = first_layer(&mut load(&fixture), &ids);
    for flash_attention in [false, true] {
        let mut finer = 0.0;
        for (cache_type, bound) in [
            (CacheType::F32, 1e-6),
            (CacheType::F16, 1e-3),
            (CacheType::Bf16, 6e-3),
            (CacheType::Q8_0, 2e-2),
            (CacheType::Q4_0, 2e-1),
        ] {
            let options = Options { cache_type, flash_attention, ..exact() };
            let mut forward = Forward::load(&fixture.gguf, options).unwrap();
            let distance = distance(&first_layer(&mut forward, &ids), &expected);
            eprintln!("{} flash {flash_attention}: {distance:.2e}", cache_type.name());
            assert!(distance < bound, "{} flash {flash_attention}: {distance:.2e}", cache_type.name());
            assert!(distance >= finer, "{} flash {flash_attention}: {distance:.2e}", cache_type.name());
            finer = bound;
        }
    }
}

#[test]
fn rows_that_are_no_whole_blocks() {
    let tiny = Draft::tiny().open();
    for cache_type in CacheType::ALL {
        let loaded = Forward::load(&tiny.gguf, Options { cache_type, ..exact() }).map(drop);
        match cache_type {
            CacheType::Q8_0 | CacheType::Q4_0 => {
                let error = loaded.unwrap_err();
                assert!(matches!(error, LoadError::CacheType(..)));
                let message = format!(
                    "the cache cannot be {}: 6 values of a token are no whole number of its blocks",
                    cache_type.name()
                );
                assert_eq!(error.to_string(), message);
            }
            _ => loaded.unwrap(),
        }
    }
}

/// Two more of the parity models, older keys and all: where there is no rank of the queries.
#[test]
fn joint_keys_and_values_without_a_query_rank() {
    for name in ["v2lite", "v25"] {
        let fixture = fixture(&format!("parity/{name}.gguf"));
        let reference = Reference::of(&format!("parity/{name}.reference"));
        let ids = reference.ids("prompt2.tokens");
        let joint = legacy(Draft::of(&fixture.gguf)).open();
        let distance = distance(&logits(&mut load(&joint), &ids), &reference.f32("prompt2.logits"));
        assert!(distance < 1e-5, "{name}: {distance:.2e}");
    }
}
