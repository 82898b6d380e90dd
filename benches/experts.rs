//! The kernels of the experts beside ggml's, on the same data: dot products of one thread in cache, and a whole
//! layer of DeepSeek-V3's routed experts by all threads, for one token (weights from memory) and for many.
//!
//! usage: cargo bench --bench experts [-- [--threads N] [--experts N] [TYPE...]]

#![allow(unsafe_code)] // ggml's dot products are reached by its own tables

use cachalot::engine::physical_cores;
use cachalot::experts::{Activations, GateUp, Isa, Kernels, Room, Shape, TYPES};
use cachalot::ggml::{Builder, Cpu, Graph, Input, OpError, OutOfMemory, Output, Store, StoreId, Tensor};
use cachalot::gguf::TensorType;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// DeepSeek-V3's.
const N_EMBD: usize = 7168;
const N_FF: usize = 2048;
const N_USED: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)?.parse().ok());
    let n_threads = option("--threads").unwrap_or_else(physical_cores);
    let n_expert: usize = option("--experts").unwrap_or(32);
    let named: Vec<TensorType> = TYPES.into_iter().filter(|ty| args.iter().any(|arg| arg == ty.name())).collect();
    let types = if named.is_empty() { TYPES.to_vec() } else { named };
    let isa = Isa::chosen().unwrap();

    println!("read bandwidth: {:.1} GB/s with {n_threads} threads, {:.1} with one", bandwidth(n_threads), bandwidth(1));
    println!("\none thread, in cache, rows of {N_EMBD}: GB/s of weights, {isa} and ggml\n");
    println!("{:>8} {:>8} {:>8} {:>7}", "type", "ours", "ggml", "ratio");
    for ty in &types {
        let (ours, ggml) = dots(*ty, isa);
        println!("{:>8} {ours:>8.2} {ggml:>8.2} {:>7.2}", ty.name(), ours / ggml);
    }
    println!("\na layer of {n_expert} experts, {n_threads} threads: GB/s of weights for one token, then");
    println!("GOP/s for so many tokens an expert, of 8 experts; {isa}, ggml\n");
    let tokens = [1, 2, 4, 8, 16, 64, 512];
    print!("{:>8} {:>14} {:>6}", "type", "one token", "ratio");
    tokens.iter().for_each(|n| print!(" {n:>13}"));
    println!();
    for ty in &types {
        let store = weights(*ty, n_expert);
        let [ours, ggml] = [isa, Isa::Ggml].map(|isa| Layer::new(&store, isa, 1, n_threads).decode(n_expert));
        let n_bytes = (3 * N_USED * N_FF * row_bytes(*ty, N_EMBD)) as f64 / 1e9;
        let [ours, ggml] = [ours, ggml].map(|time| n_bytes / time.as_secs_f64());
        print!("{:>8} {ours:>7.2} {ggml:>6.2} {:>6.2}", ty.name(), ours / ggml);
        let store = weights(*ty, N_USED);
        for n in tokens {
            let rates = [isa, Isa::Ggml].map(|isa| {
                let time = Layer::new(&store, isa, n, n_threads).prefill(n);
                (2 * 3 * N_USED * N_FF * N_EMBD * n) as f64 / 1e9 / time.as_secs_f64()
            });
            print!(" {:>6.0} {:>6.0}", rates[0], rates[1]);
        }
        println!();
    }
}

fn row_bytes(ty: TensorType, n: usize) -> usize {
    n / ty.block_len() as usize * ty.block_bytes() as usize
}

/// Bits that look random.
fn bits(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut next = bits(seed);
    (0..n).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Random weights: no byte is above 0x2f, so that no scale is large.
fn random_rows(ty: TensorType, n: usize, k: usize) -> Vec<u8> {
    let mut next = bits(7);
    let once: Vec<u8> = (0..row_bytes(ty, k) * n.min(509)).map(|_| (next() >> 32) as u8 % 0x30).collect();
    once.iter().copied().cycle().take(row_bytes(ty, k) * n).collect()
}

/// The least of several times, in seconds, of something that takes some milliseconds.
fn best(mut run: impl FnMut()) -> Duration {
    run();
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    std::iter::repeat_with(once).take(7).min().unwrap()
}

fn bandwidth(n_threads: usize) -> f64 {
    let data: Vec<u64> = vec![1; 1 << 27];
    let sum =
        |part: &[u64]| part.chunks_exact(8).fold([0u64; 8], |a, b| std::array::from_fn(|i| a[i].wrapping_add(b[i])));
    let time = best(|| {
        std::thread::scope(|scope| {
            for part in data.chunks(data.len() / n_threads) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
    });
    (data.len() * 8) as f64 / 1e9 / time.as_secs_f64()
}

/// GB/s of dot products, ours and ggml's.
fn dots(ty: TensorType, isa: Isa) -> (f64, f64) {
    let n_rows = (1 << 18) / row_bytes(ty, N_EMBD);
    let rows = random_rows(ty, n_rows, N_EMBD);
    let values = noise(3, N_EMBD);
    let rate = |time: Duration| (20 * rows.len()) as f64 / 1e9 / time.as_secs_f64();
    let ours = isa.kernel(ty).map_or(f64::NAN, |kernel| {
        let x = Activations::new(&values, &kernel);
        rate(best(|| {
            for row in (0..20).flat_map(|_| rows.chunks_exact(row_bytes(ty, N_EMBD))) {
                let mut out = [0.0];
                kernel.dot(row, &[&x], &mut out);
                black_box(out);
            }
        }))
    });
    (ours, rate(ggml_dots(ty, &rows, &values)))
}

fn ggml_dots(ty: TensorType, rows: &[u8], values: &[f32]) -> Duration {
    // SAFETY: the tables are static; the row of activations is as long as its type says, and the weights are rows.
    unsafe {
        let traits = &*ggml_sys::ggml_get_type_traits_cpu(ty.id());
        let of_x = &*ggml_sys::ggml_get_type_traits_cpu(traits.vec_dot_type);
        let bytes = ggml_sys::ggml_row_size(traits.vec_dot_type, values.len() as i64);
        let mut x = vec![0u64; bytes.div_ceil(8)];
        of_x.from_float.unwrap()(values.as_ptr(), x.as_mut_ptr().cast(), values.len() as i64);
        let dot = traits.vec_dot.unwrap();
        best(|| {
            for row in (0..20).flat_map(|_| rows.chunks_exact(row_bytes(ty, N_EMBD))) {
                let mut out = 0f32;
                dot(N_EMBD as i32, &raw mut out, 0, row.as_ptr().cast(), 0, x.as_ptr().cast(), 0, 1);
                black_box(out);
            }
        })
    }
}

/// gate, up and down of a layer.
type Experts = (Arc<Store>, [StoreId; 3]);

fn weights(ty: TensorType, n_expert: usize) -> Experts {
    let mut store = Store::new(3, None).unwrap();
    let mut add = |name, k: usize, n: usize| {
        let shape = cachalot::gguf::Shape::new(&[k as u64, n as u64, n_expert as u64]).unwrap();
        let id = store.add(name, ty, &shape).unwrap();
        store.write(id, 0, &random_rows(ty, n * n_expert, k)).unwrap();
        id
    };
    let ids = [add("gate", N_EMBD, N_FF), add("up", N_EMBD, N_FF), add("down", N_FF, N_EMBD)];
    (Arc::new(store), ids)
}

struct Layer {
    cpu: Cpu,
    x: Input,
    ids: Input,
    weights: Input,
    sum: Output,
    n_tokens: usize,
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Error {
    Op(#[from] OpError),
    OutOfMemory(#[from] OutOfMemory),
}

impl Layer {
    fn new((store, weights): &Experts, isa: Isa, n_tokens: usize, n_threads: usize) -> Layer {
        let n_expert = store.get(weights[0]).ne()[2] as usize;
        let (n_row, n_embd, n_used, n_ff) = (N_EMBD, N_EMBD, N_USED, N_FF);
        let shape = Shape { n_threads, n_tokens, n_row, n_embd, n_used, n_ff, n_expert };
        let kernels = Kernels::new(isa, shape, &mut Room::default()).unwrap();
        let build = |b: &Builder<'_>| -> Result<_, Error> {
            let n = n_tokens as i64;
            let (x_in, x) = b.input("x", TensorType::F32, [N_EMBD as i64, n, 1, 1])?;
            let (ids_in, ids) = b.input("ids", TensorType::I32, [N_USED as i64, n, 1, 1])?;
            let (weights_in, scales) = b.input("weights", TensorType::F32, [1, N_USED as i64, n, 1])?;
            let [gate, up, down] = weights.map(|id| b.stored(0, id));
            let sum = match kernels.experts(b, GateUp::Two { gate, up }, down, x, ids, scales)? {
                Some(sum) => sum,
                None => by_ggml(b, [gate, up, down], x, ids, scales)?,
            };
            Ok((x_in, ids_in, weights_in, b.output(sum)?))
        };
        let (graph, (x, ids, weights, sum)) = Graph::build(100, vec![store.clone()], build).unwrap();
        let mut cpu = Cpu::new(n_threads, false).unwrap();
        cpu.load(graph).unwrap();
        Layer { cpu, x, ids, weights, sum, n_tokens }
    }

    fn run(&mut self, ids: &[i32]) -> Duration {
        self.cpu.write(self.x, &noise(5, N_EMBD * self.n_tokens)).unwrap();
        self.cpu.write(self.ids, ids).unwrap();
        self.cpu.write(self.weights, &vec![0.1; N_USED * self.n_tokens]).unwrap();
        let start = Instant::now();
        self.cpu.run().unwrap();
        let time = start.elapsed();
        let mut sum = Vec::<f32>::new();
        self.cpu.read(self.sum, &mut sum).unwrap();
        black_box(sum);
        time
    }

    /// One token after the other, each with other experts: the median.
    fn decode(&mut self, n_expert: usize) -> Duration {
        let run = |step: usize| {
            let ids: Vec<i32> = (0..N_USED).map(|n| ((step * N_USED + n) % n_expert) as i32).collect();
            self.run(&ids)
        };
        let mut times: Vec<Duration> = (0..3 * n_expert / N_USED + 9).map(run).collect();
        times.sort();
        times[times.len() / 2]
    }

    /// `n` tokens with the same experts.
    fn prefill(&mut self, n: usize) -> Duration {
        let ids: Vec<i32> = (0..n).flat_map(|_| 0..N_USED as i32).collect();
        (0..3).map(|_| self.run(&ids)).min().unwrap()
    }
}

/// The nodes that ggml needs for it.
fn by_ggml<'b>(
    b: &Builder<'b>,
    [gate, up, down]: [Tensor<'b>; 3],
    x: Tensor<'b>,
    ids: Tensor<'b>,
    weights: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    let [n_embd, n_tokens, ..] = x.ne();
    let x = b.reshape(x, [n_embd, 1, n_tokens, 1])?;
    let up = b.mul_mat_id(up, x, ids)?;
    let hidden = b.swiglu(b.mul_mat_id(gate, x, ids)?, up)?;
    let each = b.mul(b.mul_mat_id(down, hidden, ids)?, weights)?;
    let [_, one, token, all] = each.nb();
    let nth = |n: usize| b.view(each, [n_embd, n_tokens, 1, 1], [token, all, all], n * one);
    (1..N_USED).try_fold(nth(0)?, |sum, n| b.add(sum, nth(n)?))
}
