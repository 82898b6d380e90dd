//! What is offered here, held against plain Rust, and what is refused.

mod misuse;
mod running;
mod values;

use super::*;
use crate::gguf::{Shape, TensorType};
use std::ffi::CStr;
use std::sync::Arc;

#[test]
fn the_version_is_that_of_the_compiled_sources() {
    // SAFETY: `ggml_version` returns a static NUL-terminated string.
    let compiled = unsafe { CStr::from_ptr(ggml_sys::ggml_version()) };
    assert_eq!(compiled.to_str(), Ok(version()));
}

#[test]
fn the_backends_are_those_that_ggml_registers() {
    let registered: Vec<String> = (0..unsafe { ggml_sys::ggml_backend_reg_count() })
        .map(|i| {
            // SAFETY: `i` is below the count; names are static NUL-terminated strings.
            let name = unsafe { CStr::from_ptr(ggml_sys::ggml_backend_reg_name(ggml_sys::ggml_backend_reg_get(i))) };
            name.to_str().unwrap().to_owned()
        })
        .collect();
    let listed = backends();
    assert_eq!(registered.len(), listed.len(), "{registered:?} {listed:?}");
    assert!(registered.iter().all(|name| listed.iter().any(|b| b.starts_with(name.as_str()))), "{registered:?}");
}

/// What building a graph may come to.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Error {
    Op(#[from] OpError),
    OutOfMemory(#[from] OutOfMemory),
}

fn graph<T>(
    stores: Vec<Arc<Store>>,
    build: impl for<'b> FnOnce(&Builder<'b>) -> Result<T, OpError>,
) -> Result<(Graph, T), Error> {
    Graph::build(200, stores, |b| build(b).map_err(Error::from))
}

/// Dimensions, the rest of them 1.
fn ne<const N: usize>(dims: [i64; N]) -> Ne {
    std::array::from_fn(|i| dims.get(i).copied().unwrap_or(1))
}

/// A store of one tensor with this data.
fn store_of(ty: TensorType, dims: &[u64], data: &[u8]) -> (Arc<Store>, StoreId) {
    let mut store = Store::new(1, None).unwrap();
    let id = store.add("a", ty, &Shape::new(dims).unwrap()).unwrap();
    store.write(id, 0, data).unwrap();
    (Arc::new(store), id)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Numbers from −1 to 1 that look random.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Computes one result over F32 inputs.
fn compute(
    inputs: &[(Ne, &[f32])],
    build: impl for<'b> FnOnce(&Builder<'b>, &[Tensor<'b>]) -> OpResult<'b>,
) -> (Ne, Vec<f32>) {
    let (graph, (ports, output, dims)) = graph(vec![], |b| {
        let mut tensors = Vec::new();
        let mut ports = Vec::new();
        for (dims, _) in inputs {
            let (port, tensor) = b.input("x", TensorType::F32, *dims)?;
            ports.push(port);
            tensors.push(tensor);
        }
        let result = b.cont(build(b, &tensors)?)?;
        Ok((ports, b.output(result)?, result.ne()))
    })
    .unwrap();
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    for (port, (_, data)) in ports.iter().zip(inputs) {
        cpu.write(*port, data).unwrap();
    }
    cpu.run().unwrap();
    let mut values = Vec::new();
    cpu.read(output, &mut values).unwrap();
    (dims, values)
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (n, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0) || a == b, "{n}: {a} is not {b}");
    }
}
