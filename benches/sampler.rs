//! What picking a token costs, for the vocabulary of V3: it happens once for each token of an answer.

use cachalot::engine::sampler::{Sampler, SamplerParams, Spell, TokenSet};
use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;

const N_VOCAB: usize = 129_280;

/// Bell-shaped, as a model's are, with a few that stand out.
fn logits() -> Vec<f32> {
    let noise = |n: u32| (n.wrapping_mul(2_654_435_769) ^ (n >> 3).wrapping_mul(40_503)) as f32 / u32::MAX as f32;
    let bell = |token: u32| (0..12).map(|n| noise(12 * token + n)).sum::<f32>() - 6.0;
    let standing_out = |token: u32| if token % 9973 == 5 { 6.0 + (token / 9973) as f32 } else { 0.0 };
    (0..N_VOCAB as u32).map(|token| 3.0 * bell(token) + standing_out(token)).collect()
}

fn sample(c: &mut Criterion) {
    let logits = logits();
    let spell: Spell = Arc::new(|token, text| {
        text.extend_from_slice(&token.to_le_bytes());
        true
    });
    let neutral = SamplerParams { seed: Some(1), ..SamplerParams::default() };
    let v3 = SamplerParams { temperature: 0.3, min_p: 0.01, ..neutral.clone() };
    let r1 = SamplerParams { temperature: 0.6, top_p: 0.95, min_p: 0.01, ..neutral.clone() };
    let everything = SamplerParams {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.05,
        typical_p: 0.95,
        repetition_penalty: 1.1,
        presence_penalty: 0.1,
        frequency_penalty: 0.1,
        penalty_last_n: -1,
        dry_multiplier: 0.8,
        xtc_probability: 0.5,
        logit_bias: vec![(7, 1.0), (8, f32::NEG_INFINITY)],
        ..neutral.clone()
    };
    let prompt: Vec<u32> = (0..4096).map(|n| n * n % 1000).collect();

    let mut group = c.benchmark_group("sampler");
    for (name, params) in [
        ("greedy", SamplerParams { temperature: 0.0, ..neutral.clone() }),
        ("defaults of V3-0324", v3.clone()),
        ("defaults of R1", r1),
        ("top-k 40", SamplerParams { top_k: 40, ..neutral.clone() }),
        ("nothing but temperature", neutral.clone()),
        ("typical alone", SamplerParams { typical_p: 0.9, ..neutral }),
        ("everything, behind 4,096 tokens", everything),
    ] {
        let mut sampler = Sampler::new(&params, N_VOCAB, spell.clone()).unwrap();
        sampler.accept_prompt(&prompt);
        group.bench_function(name, |b| b.iter(|| sampler.sample(&logits).unwrap()));
    }
    let mut sampler = Sampler::new(&v3, N_VOCAB, spell).unwrap();
    let words = vec![0x5555_5555; N_VOCAB / 32];
    group.bench_function("defaults of V3-0324, half of the tokens allowed", |b| {
        b.iter(|| sampler.sample_among(&logits, Some(TokenSet(&words))).unwrap())
    });
}

criterion_group!(benches, sample);
criterion_main!(benches);
