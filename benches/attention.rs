//! The two forms of attention at V3's shape: one dense layer, steps of many tokens and of one, behind contexts
//! of several lengths. Where the forms cross is what `graph` takes for its rule.
//!
//! usage: cargo bench --bench attention [-- THREADS]

use cachalot::engine::physical_cores;
use cachalot::gguf::Gguf;
use cachalot::graph::{Absorb, Forward, Options, Seq, Token};
use cachalot::quantize::Mix;
use cachalot::synth::{Model, Recipe};
use std::sync::Arc;
use std::time::{Duration, Instant};

const REPETITIONS: usize = 3;

fn main() {
    let n_threads = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or_else(physical_cores);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.gguf");
    let like: &'static Model = "deepseek-v3".parse().unwrap();
    let mix: Mix = "Q2_K_XL".parse().unwrap();
    let recipe = Recipe { like, layers: Some(1), dense: Some(1), mix, tokens: Some(1024), seed: 0, skew: 0.0 };
    recipe.make().unwrap().write(&path, &|_| Ok(())).unwrap();
    let gguf = Arc::new(Gguf::open(&path).unwrap());

    println!("one dense layer of DeepSeek-V3, {n_threads} threads; best of {REPETITIONS}, milliseconds a step");
    println!("{:>8} {:>8} {:>10} {:>10} {:>7}", "before", "tokens", "absorbed", "not", "ratio");
    for before in [0, 2048, 6144] {
        for n in [16, 64, 128, 256, 512, 1024] {
            let [absorbed, not] = [Absorb::Always, Absorb::Never].map(|absorb| {
                let options = Options { absorb, n_batch: 1024, ..Options::new(before + n, n_threads) };
                best(&mut Forward::load(&gguf, options).unwrap(), before, n).as_secs_f64() * 1e3
            });
            println!("{before:>8} {n:>8} {absorbed:>10.1} {not:>10.1} {:>7.2}", absorbed / not);
        }
    }
}

/// The least time of a step of `n` tokens behind `before` others.
fn best(forward: &mut Forward, before: usize, n: usize) -> Duration {
    let token = |at: usize| Token {
        id: (at * 7 % 1024) as u32,
        seq: Seq::FIRST,
        position: at as i32,
        wants_logits: at == before + n - 1,
    };
    let tokens: Vec<Token> = (0..before + n).map(token).collect();
    for chunk in tokens[..before].chunks(1024) {
        forward.step(chunk, &mut Vec::new()).unwrap();
    }
    let mut best = Duration::MAX;
    for _ in 0..=REPETITIONS {
        let start = Instant::now();
        forward.step(&tokens[before..], &mut Vec::new()).unwrap();
        best = best.min(start.elapsed());
        forward.remove(Seq::FIRST, before as i32..i32::MAX);
    }
    best
}
