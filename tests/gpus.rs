//! The same logits, wherever a model's tensors lie: on the CPU, on a GPU, or experts here and the rest there. Needs a
//! GPU that the program computes on, and says so where there is none.

mod support;

use cachalot::experts::{Costs, Shares};
use cachalot::ggml::{Gpu, Quantizer};
use cachalot::gguf::{Gguf, Split, TensorType};
use cachalot::graph::{CacheType, Devices, Forward, Options, Seq, Sharing, Streams, Token};
use cachalot::placement::{Device, LayerPlace, Placement};
use std::path::Path;
use std::sync::Arc;
use support::models::{Dims, tensors, writer};
use support::parity::{distance, row};

/// DeepSeek's sizes of heads, for which GPUs have flash attention, experts of a type that has kernels of ours, and little
/// else.
const HEADS: Dims = Dims {
    name: "heads",
    layers: 3,
    dense_layers: 1,
    width: 256,
    heads: 16,
    q_rank: 128,
    kv_rank: 512,
    nope: 128,
    rope: 64,
    value: 128,
    dense_ff: 512,
    expert_ff: 256,
    experts: 8,
    experts_used: 2,
    tokens: 320,
    merges: 2,
    ty: |name| if name.contains("_exps") { TensorType::Q4_K } else { TensorType::F16 },
};

/// From −1 to 1, the same at each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn write(path: &Path) {
    let mut out = writer(&HEADS).create(path, Split::None).unwrap();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for (name, ty, dims) in tensors(&HEADS) {
        // Sums over a row stay of the size of what is summed.
        let scale = if name == "token_embd.weight" { 1.0 } else { (3.0 / dims[0] as f32).sqrt() };
        let mut value = || match name.contains("norm") {
            true => 1.0 + 0.1 * noise.next(),
            false => scale * noise.next(),
        };
        let n = dims.iter().product::<u64>();
        let values: Vec<f32> = (0..n).map(|_| value()).collect();
        let mut data = vec![0; (n / ty.block_len() * ty.block_bytes()) as usize];
        Quantizer::new(ty).unwrap().rows(&values, dims[0] as usize, None, &mut data).unwrap();
        out.write(&name, &data).unwrap();
    }
    out.finish().unwrap();
}

fn logits(gguf: &Arc<Gguf>, options: Options, ids: &[u32]) -> Vec<f32> {
    let mut forward = Forward::load(gguf, options).unwrap();
    let mut logits = Vec::new();
    let at =
        |position: usize| Token { id: ids[position], seq: Seq::FIRST, position: position as i32, wants_logits: true };
    // A prompt in two steps, and tokens one by one behind it.
    let all: Vec<Token> = (0..ids.len()).map(at).collect();
    let (prompt, single) = all.split_at(300);
    for step in [&prompt[..256], &prompt[256..]].into_iter().chain(single.chunks(1)) {
        forward.step(step, &mut logits).unwrap();
    }
    logits
}

#[test]
fn logits_are_the_same_wherever_tensors_lie() {
    let gpus = match Gpu::all() {
        Ok(gpus) => gpus,
        Err(why) => return eprintln!("not tried: {why}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heads.gguf");
    write(&path);
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    let mut noise = Noise(7);
    let ids: Vec<u32> = (0..316).map(|_| ((noise.next() + 1.0) * 159.0) as u32).collect();
    for cache_type in [CacheType::F16, CacheType::Q8_0] {
        let options = |devices| Options { n_batch: 256, cache_type, devices, ..Options::new(512, 2) };
        let expected = logits(&gguf, options(Devices::default()), &ids);
        let costs = Costs::new(2.0, 1.0, 0.05, 0.0);
        let balanced =
            Sharing { shares: vec![Some(Shares::Balanced(costs))], n_slots: 5, ahead: false, measured: false };
        let ahead = Sharing { n_slots: 8, ahead: true, ..balanced.clone() };
        let sharing = [None, Some(Sharing::fixed(1)), Some(balanced), Some(ahead)];
        let in_ram = sharing.iter().map(|sharing| (0, Some(32), sharing.clone()));
        let cases = [(8, None, None), (0, None, None)].into_iter().chain(in_ram);
        // All layers on one, and one after the other on the next.
        let spread = (1..=gpus.len().min(2)).flat_map(|n| cases.clone().map(move |case| (n, case)));
        for (n_gpus, (experts, from, sharing)) in spread {
            let layer = |number: usize| {
                let mut of_gpus = vec![0; gpus.len()];
                of_gpus[number % n_gpus] = experts;
                LayerPlace { fixed: Device::Gpu(number % n_gpus), experts: of_gpus }
            };
            let layers = (0..HEADS.layers as usize).map(layer).collect();
            let placement = Placement { head: Device::Gpu(0), layers };
            let streams = Streams { pinned: from, pageable: from };
            let devices = Devices::new(gpus.clone(), placement, streams, true);
            let what = format!("{n_gpus} GPUs, {cache_type:?}, {experts} experts, sent {from:?}, {sharing:?}");
            let found = logits(&gguf, Options { sharing, ..options(devices) }, &ids);
            let n_vocab = HEADS.tokens;
            let apart = |n| distance(row(&found, n_vocab, n), row(&expected, n_vocab, n));
            let mut apart: Vec<f64> = (0..ids.len()).map(apart).collect();
            apart.sort_by(f64::total_cmp);
            let at = |part: usize| apart[(apart.len() - 1) * part / 100];
            eprintln!(
                "{what}: {:.5} apart in the middle, {:.5} at most but for 5 %, {:.5} at most",
                at(50),
                at(95),
                at(100)
            );
            // GPUs sum F16 products in F16, both round activations, and a choice among experts that is close tips with the
            // last digits: that of one token in five, in a model of random numbers.
            assert!(at(50) < 0.1, "{what}");
        }
    }
}
