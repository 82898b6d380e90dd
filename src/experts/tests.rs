//! Whole nodes against f64 on what ggml decodes.

use super::block::group_bytes;
use super::testing::{noise, random_rows};
use super::*;
use crate::ggml::{Cpu, Graph, OutOfMemory, Store, StoreId, dequantize};
use crate::gguf::{Shape as Dims, TensorType};

const N_EMBD: usize = 512;
const N_FF: usize = 256;
const N_EXPERT: usize = 5;
const N_USED: usize = 3;

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Error {
    Op(#[from] OpError),
    OutOfMemory(#[from] OutOfMemory),
}

/// A tensor of random weights, and what they are worth.
struct Weights {
    store: Arc<Store>,
    id: StoreId,
    values: Vec<f32>,
}

/// Scales of 2⁻⁸ or so, so that sums are of the order of 1.
fn weights(ty: TensorType, dims: [usize; 3], seed: u64) -> Weights {
    let n = dims.iter().product::<usize>();
    let bytes = match ty {
        TensorType::F32 => noise(seed, n).iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => random_rows(ty, n / GROUP, seed),
    };
    assert_eq!(bytes.len(), n / GROUP * group_bytes(ty));
    let mut values = vec![0.0; n];
    dequantize(ty, &bytes, &mut values).unwrap();
    let mut store = Store::new(1, None).unwrap();
    let id = store.add("a", ty, &Dims::new(&dims.map(|n| n as u64)).unwrap()).unwrap();
    store.write(id, 0, &bytes).unwrap();
    Weights { store: Arc::new(store), id, values }
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

/// √Σ(a − b)² / √Σb²
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - b)).sum();
    (error / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// What eight bits for 256 values lose, and what is behind it.
const TOLERANCE: f64 = 0.012;

fn kernels(isa: Isa, n_tokens: usize, n_threads: usize) -> Kernels {
    let (n_row, n_embd, n_used, n_ff, n_expert) = (N_EMBD, N_EMBD, N_USED, N_FF, N_EXPERT);
    let shape = Shape { n_threads, n_tokens, n_row, n_embd, n_used, n_ff, n_expert };
    Kernels::new(isa, shape, &mut Room::default()).unwrap()
}

/// What a node computes of noise, and that in f64.
fn product(
    a: &Weights,
    n_tokens: usize,
    node: impl for<'b> Fn(&Builder<'b>, Tensor<'b>, Tensor<'b>) -> OpResult<'b>,
) -> (Vec<f32>, Vec<f64>) {
    let build = |b: &Builder<'_>| -> Result<_, Error> {
        let (input, x) = b.input("x", TensorType::F32, [N_EMBD as i64, n_tokens as i64, 1, 1])?;
        Ok((input, b.output(node(b, b.stored(0, a.id), x)?)?))
    };
    let (graph, (input, output)) = Graph::build(10, vec![a.store.clone()], build).unwrap();
    let mut cpu = Cpu::new(2, false).unwrap();
    cpu.load(graph).unwrap();
    let x = noise(n_tokens as u64, N_EMBD * n_tokens);
    cpu.write(input, &x).unwrap();
    cpu.run().unwrap();
    let mut found = Vec::<f32>::new();
    cpu.read(output, &mut found).unwrap();
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let expected = x.chunks(N_EMBD).flat_map(|x| a.values.chunks(N_EMBD).map(move |row| dot(row, x))).collect();
    (found, expected)
}

#[test]
fn matrices_of_every_type_for_all_numbers_of_tokens() {
    for isa in Isa::available() {
        for (n, ty) in TYPES.into_iter().chain([TensorType::BF16]).enumerate() {
            // Of 96 rows panels are made, of 80 not.
            for n_rows in [96, 80] {
                let a = weights(ty, [N_EMBD, n_rows, 1], n as u64);
                // All numbers for one type, and more than have their sums at a time; some for the others.
                let tokens: Vec<usize> = match ty {
                    TensorType::Q2_K => (1..=70).chain([515]).collect(),
                    _ => vec![1, 3, 7, 8, 15, 16, 33],
                };
                for n_tokens in tokens {
                    let kernels = kernels(isa, n_tokens, 2);
                    let (found, expected) = product(&a, n_tokens, |b, a, x| kernels.mul_mat(b, a, x));
                    let distance = distance(&found, &expected);
                    assert!(distance < TOLERANCE, "{isa} {ty}, {n_rows} rows, {n_tokens} tokens: {distance}");
                }
            }
        }
    }
}

/// BF16 keeps eight bits of a number, and ggml all of F32.
#[test]
fn floats_are_rounded_where_that_is_asked_for() {
    let a = weights(TensorType::F32, [N_EMBD, 96, 1], 5);
    for isa in Isa::available() {
        for n_tokens in [1, 16, 40] {
            let kernels = kernels(isa, n_tokens, 2);
            let (found, expected) = product(&a, n_tokens, |b, a, x| kernels.mul_mat_rounded(b, a, x));
            let is_rounded = isa.many_floats().is_some() && n_tokens >= MANY_FROM;
            let (distance, bound) = (distance(&found, &expected), if is_rounded { 4e-3 } else { 1e-5 });
            assert!(distance < bound, "{isa}, {n_tokens} tokens: {distance}");
            assert_eq!(is_rounded, distance > 1e-4, "{isa}, {n_tokens} tokens: {distance}");
        }
    }
}

/// The layer in f64.
fn layer(gate: &[f32], up: &[f32], down: &[f32], x: &[f64], chosen: &[(usize, f32)]) -> Vec<f64> {
    let mut sum = vec![0.0; N_EMBD];
    for (expert, weight) in chosen {
        let rows = |all: &'_ [f32]| -> Vec<f64> {
            all[expert * N_EMBD * N_FF..][..N_EMBD * N_FF].chunks(N_EMBD).map(|row| dot(row, x)).collect()
        };
        let hidden: Vec<f64> = rows(gate).iter().zip(rows(up)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        let down = down[expert * N_EMBD * N_FF..][..N_EMBD * N_FF].chunks(N_FF);
        sum.iter_mut().zip(down).for_each(|(sum, row)| *sum += f64::from(*weight) * dot(row, &hidden));
    }
    sum
}

#[test]
fn layers_of_mixed_types_for_few_and_many_tokens() {
    let types = [
        [TensorType::IQ1_S, TensorType::IQ1_S, TensorType::IQ2_XXS],
        [TensorType::Q2_K, TensorType::Q2_K, TensorType::Q3_K],
        [TensorType::Q4_K, TensorType::IQ4_XS, TensorType::Q6_K],
        [TensorType::IQ3_S, TensorType::Q8_0, TensorType::Q5_K],
    ];
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Ggml) {
        for [gate_ty, up_ty, down_ty] in types {
            let gate = weights(gate_ty, [N_EMBD, N_FF, N_EXPERT], 1);
            let up = weights(up_ty, [N_EMBD, N_FF, N_EXPERT], 2);
            let down = weights(down_ty, [N_FF, N_EMBD, N_EXPERT], 3);
            for n_tokens in [1, 2, 5, 8, 16, 17, 30, 70] {
                let kernels = kernels(isa, n_tokens, 2);
                let build = |b: &Builder<'_>| -> Result<_, Error> {
                    let n = n_tokens as i64;
                    let (x_in, x) = b.input("x", TensorType::F32, [N_EMBD as i64, n, 1, 1])?;
                    let (ids_in, ids) = b.input("ids", TensorType::I32, [N_USED as i64, n, 1, 1])?;
                    let (weights_in, weights) = b.input("weights", TensorType::F32, [1, N_USED as i64, n, 1])?;
                    let gate_up = GateUp::Two { gate: b.stored(0, gate.id), up: b.stored(1, up.id) };
                    let sum = kernels.experts(b, gate_up, b.stored(2, down.id), x, ids, weights)?;
                    Ok((x_in, ids_in, weights_in, sum.map(|sum| b.output(sum)).transpose()?))
                };
                let stores = vec![gate.store.clone(), up.store.clone(), down.store.clone()];
                let (graph, (x_in, ids_in, weights_in, sum)) = Graph::build(10, stores, build).unwrap();
                let Some(sum) = sum else { continue };
                let mut cpu = Cpu::new(2, false).unwrap();
                cpu.load(graph).unwrap();
                let x = noise(n_tokens as u64, N_EMBD * n_tokens);
                // Not all experts are chosen, and not all as often.
                let ids: Vec<i32> = (0..n_tokens).flat_map(|t| [t % 2, 2 + t % 3 % 2, 4]).map(|id| id as i32).collect();
                let scales = noise(9, N_USED * n_tokens);
                cpu.write(x_in, &x).unwrap();
                cpu.write(ids_in, &ids).unwrap();
                cpu.write(weights_in, &scales).unwrap();
                for _ in 0..2 {
                    cpu.write(x_in, &x).unwrap();
                    cpu.write(ids_in, &ids).unwrap();
                    cpu.write(weights_in, &scales).unwrap();
                    cpu.run().unwrap();
                }
                let mut found = Vec::<f32>::new();
                cpu.read(sum, &mut found).unwrap();
                let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                let expected: Vec<f64> = (0..n_tokens)
                    .flat_map(|t| {
                        let chosen: Vec<(usize, f32)> =
                            (t * N_USED..(t + 1) * N_USED).map(|n| (ids[n] as usize, scales[n])).collect();
                        layer(&gate.values, &up.values, &down.values, &x[t * N_EMBD..][..N_EMBD], &chosen)
                    })
                    .collect();
                let distance = distance(&found, &expected);
                // Three matrices, and a product of two of them.
                assert!(distance < 3.0 * TOLERANCE, "{isa} {gate_ty} {down_ty}, {n_tokens} tokens: {distance}");
            }
        }
    }
}
