//! How fast this machine's CPU computes with each type of weights, and in attention: measured with the kernels that
//! run a model, ours or ggml's, all threads, on matrices that no cache holds.

use super::Rates;
use crate::engine::available_bytes;
use crate::experts::{self, Isa};
use crate::ggml::{Builder, ComputeError, Cpu, Graph, OpError, OutOfMemory, Store, StoreError, StoreId};
use crate::gguf::{Shape, TensorType};
use crate::model::scales;
use half::f16;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Types that are measured: those of published quants.
pub const TYPES: [TensorType; 16] = {
    use TensorType::*;
    [F32, F16, Q8_0, Q6_K, Q5_K, Q4_K, Q4_0, Q3_K, Q2_K, IQ4_XS, IQ3_S, IQ3_XXS, IQ2_S, IQ2_XXS, IQ1_M, IQ1_S]
};

/// The measured type that computes most like this one.
pub fn like(ty: TensorType) -> TensorType {
    use TensorType::*;
    match ty {
        ty if TYPES.contains(&ty) => ty,
        BF16 => F16,
        Q4_1 | IQ4_NL | MXFP4 | NVFP4 => Q4_0,
        Q5_0 | Q5_1 | Q8_1 | Q8_K => Q8_0,
        IQ2_XS => IQ2_S,
        TQ1_0 | TQ2_0 | Q1_0 | Q2_0 => Q2_K,
        _ => F32,
    }
}

/// Whose kernel computes with a measured type, by its name, where those of `isa` run.
pub fn whose(isa: Isa, ty: &str) -> Isa {
    let is_ours = TYPES.iter().any(|known| known.name() == ty && isa.computes(*known, ROW as usize));
    if is_ours { isa } else { Isa::Ggml }
}

/// Values in a row, as wide as DeepSeek-V3.
const ROW: u64 = 7168;
/// Rows of models' matrices are multiples of this, which some kernels want.
const ROWS: u64 = 64;
/// Tokens that are multiplied together to see what prompts cost: between the 16 that an expert of DeepSeek-V3 gets of
/// a batch of 512, and the 512 that share all the rest.
const TOGETHER: i64 = 64;
/// Cached tokens that attention looks at, and V3's heads and ranks.
const CACHED: i64 = 4096;
const HEADS: i64 = 128;
const KEY: i64 = 576;
const VALUE: i64 = 512;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// Measures all, with the kernels of `isa` where it has any for a type; `progress` is told which type is next.
pub fn measure(isa: Isa, n_threads: usize, progress: &dyn Fn(&str)) -> Result<Rates, KernelError> {
    let mut rates = Rates::default();
    let wanted = matrix_bytes();
    for ty in TYPES {
        progress(ty.name());
        let (row_bytes, n_rows) = rows(ty, wanted);
        let (store, matrix) = random_matrix(ty, n_rows)?;
        let store = Arc::new(store);
        let seconds = |n: i64| multiply(&store, matrix, n, isa, n_threads);
        rates.decode.insert(ty.name().to_owned(), (row_bytes * n_rows) as f64 / seconds(1)?);
        let operations = 2.0 * (ROW * n_rows) as f64 * TOGETHER as f64;
        rates.prefill.insert(ty.name().to_owned(), operations / seconds(TOGETHER)?);
    }
    progress("attention");
    rates.attention = 2.0 * (HEADS * CACHED * (KEY + VALUE)) as f64 / attend(n_threads)?;
    Ok(rates)
}

/// Bytes of a row, and how many make a matrix.
fn rows(ty: TensorType, matrix_bytes: u64) -> (u64, u64) {
    let row_bytes = ROW / ty.block_len() * ty.block_bytes();
    (row_bytes, (matrix_bytes / row_bytes).max(1).next_multiple_of(ROWS))
}

/// More than caches hold, as far as there is memory for it.
fn matrix_bytes() -> u64 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").unwrap_or_default();
    let cache = text.trim().strip_suffix('K').and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib << 10);
    let free = available_bytes().map_or(u64::MAX, |bytes| bytes / 8);
    (2 * cache).clamp(128 << 20, 1 << 30).min(free)
}

/// A matrix of numbers that are all of a usual size: some kernels are slow with others.
fn random_matrix(ty: TensorType, n_rows: u64) -> Result<(Store, StoreId), KernelError> {
    let shape = Shape::new(&[ROW, n_rows]).ok_or(OutOfMemory { bytes: 1 << 20 })?;
    let mut store = Store::new(1, None)?;
    let id = store.add("matrix", ty, &shape)?;
    let bytes = shape.n_bytes(ty).unwrap_or(0) as usize;
    let unit = ty.block_bytes() as usize * 4096;
    let pattern = blocks(ty, unit);
    for start in (0..bytes).step_by(unit) {
        let n = unit.min(bytes - start);
        store.write(id, start, pattern.get(..n).unwrap_or(&pattern))?;
    }
    Ok((store, id))
}

/// Blocks of random numbers with sane scales.
fn blocks(ty: TensorType, n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    match ty {
        TensorType::F32 => (0..n_bytes / 4).flat_map(|_| (next() as u8 as f32 / 256.0 - 0.5).to_le_bytes()).collect(),
        TensorType::F16 => {
            (0..n_bytes / 2).flat_map(|_| f16::from_f32(next() as u8 as f32 / 256.0 - 0.5).to_le_bytes()).collect()
        }
        _ => {
            let mut bytes: Vec<u8> = (0..n_bytes).map(|_| next() as u8).collect();
            for block in bytes.chunks_exact_mut(ty.block_bytes() as usize) {
                for scale in scales(ty) {
                    scale.set_f16_bits(block, f16::from_f32(0.01).to_bits());
                }
            }
            bytes
        }
    }
}

/// Seconds to multiply the store's matrix by `n` vectors.
fn multiply(store: &Arc<Store>, matrix: StoreId, n: i64, isa: Isa, n_threads: usize) -> Result<f64, KernelError> {
    let shape = experts::Shape {
        n_threads,
        n_tokens: n as usize,
        n_row: ROW as usize,
        n_embd: 0,
        n_used: 0,
        n_ff: 0,
        n_expert: 0,
    };
    let kernels = experts::Kernels::new(isa, shape, &mut experts::Room::default())?;
    let (graph, x) = Graph::build(4, vec![store.clone()], |b: &Builder<'_>| {
        let (input, x) = b.input("x", TensorType::F32, [ROW as i64, n, 1, 1])?;
        b.output(kernels.mul_mat(b, b.stored(0, matrix), x)?)?;
        Ok::<_, KernelError>(input)
    })?;
    let mut cpu = Cpu::new(n_threads, false)?;
    cpu.load(graph)?;
    let values: Vec<f32> = (0..ROW as i64 * n).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    best(|cpu| cpu.write(x, &values), &mut cpu)
}

/// Seconds for one token's attention to what is cached.
fn attend(n_threads: usize) -> Result<f64, KernelError> {
    let mut store = Store::new(1, None)?;
    let shape = Shape::new(&[KEY as u64, CACHED as u64]).ok_or(OutOfMemory { bytes: 1 << 20 })?;
    let id = store.add("cache", TensorType::F16, &shape)?;
    store.write(id, 0, &blocks(TensorType::F16, (KEY * CACHED * 2) as usize))?;
    let (graph, (q, mask)) = Graph::build(16, vec![Arc::new(store)], |b: &Builder<'_>| {
        let keys = b.stored(0, id);
        let values = b.view(keys, [VALUE, CACHED, 1, 1], [keys.nb()[1]; 3], 0)?;
        let (q_input, q) = b.input("q", TensorType::F32, [KEY, 1, HEADS, 1])?;
        let (mask_input, mask) = b.input("mask", TensorType::F16, [CACHED, 1, 1, 1])?;
        b.output(b.flash_attn(q, keys, values, mask, 0.1)?)?;
        Ok::<_, KernelError>((q_input, mask_input))
    })?;
    let mut cpu = Cpu::new(n_threads, false)?;
    cpu.load(graph)?;
    let queries: Vec<f32> = (0..KEY * HEADS).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
    let visible = vec![f16::ZERO; CACHED as usize];
    best(|cpu| cpu.write(q, &queries).and_then(|()| cpu.write(mask, &visible)), &mut cpu)
}

/// The shortest of some runs, after one that does not count.
fn best(mut write: impl FnMut(&mut Cpu) -> Result<(), ComputeError>, cpu: &mut Cpu) -> Result<f64, KernelError> {
    const AT_LEAST: usize = 2;
    const ENOUGH: Duration = Duration::from_millis(100);
    let (mut best, mut spent, mut runs) = (Duration::MAX, Duration::ZERO, 0);
    while runs <= AT_LEAST || spent < ENOUGH {
        write(cpu)?;
        let start = Instant::now();
        cpu.run()?;
        let time = start.elapsed();
        if runs > 0 {
            (best, spent) = (best.min(time), spent + time);
        }
        runs += 1;
    }
    Ok(best.as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_like_one_that_is_measured() {
        for ty in TensorType::ALL {
            assert!(TYPES.contains(&like(*ty)), "{ty}");
        }
    }

    #[test]
    fn kernels_are_ours_where_there_are_any() {
        assert_eq!(whose(Isa::Scalar, "Q4_K"), Isa::Scalar);
        assert_eq!(whose(Isa::Ggml, "Q4_K"), Isa::Ggml);
        for other in ["F32", "attention"] {
            assert_eq!(whose(Isa::Scalar, other), Isa::Ggml, "{other}");
        }
    }

    #[test]
    fn rows_are_whole_blocks_and_scales_are_numbers() {
        for ty in TYPES {
            assert!(ROW.is_multiple_of(ty.block_len()) && rows(ty, 0).1 > 0, "{ty}");
            let bytes = blocks(ty, ty.block_bytes() as usize * 8);
            let mut values = vec![0.0; ty.block_len() as usize * 8];
            crate::ggml::dequantize(ty, &bytes, &mut values).unwrap();
            assert!(values.iter().all(|x| x.is_finite() && x.abs() < 1e3), "{ty}: {values:?}");
        }
    }
}
