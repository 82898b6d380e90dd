//! The only safe door to ggml.
//!
//! ggml reports a misuse by ending the process, so what is offered here checks first and returns an
//! error, or cannot be misused. Everything else of ggml stays behind this door.

#![allow(unsafe_code)]

mod abort;
mod checks;
mod courier;
mod cpu;
mod cpu_backend;
mod custom;
mod dequant;
mod gpu;
mod graph;
mod memory;
mod ops;
mod pin;
mod quantize;
mod scheduler;
mod staging;
mod store;
mod tensor;
#[cfg(test)]
mod tests;
mod upload;

#[cfg(test)]
pub(crate) use abort::fail_an_assertion;
pub use abort::install as install_abort_handler;
pub use checks::computes;
pub use courier::{Courier, Load};
pub use cpu::{MissingFeatures, check as check_cpu, unused as unused_features};
pub use cpu_backend::{ComputeError, Cpu, Element};
pub use custom::{Operand, Share, Shared, Word, Work};
pub use dequant::{DequantizeError, dequantize};
pub use gpu::{Gpu, GpuFacts, NoGpus};
pub use graph::{Builder, Graph, Input, Output};
pub(crate) use memory::Memory;
pub use ops::{OpError, OpResult, Rope};
pub use quantize::{QuantizeError, Quantizer};
pub use staging::Staging;
pub use store::{Store, StoreError, StoreId};
pub use tensor::{Ne, OutOfMemory, Tensor};

/// ggml's version, for instance `0.26.0`.
pub fn version() -> &'static str {
    ggml_sys::VERSION
}

/// The backends in this binary, whether or not this machine has a device for them.
pub fn backends() -> Vec<String> {
    let features = match ggml_sys::CPU_FEATURES {
        "" => "no extensions".to_owned(),
        list => list.replace(',', " "),
    };
    let mut backends = vec![format!("CPU ({}: {features})", ggml_sys::CPU_ARCH)];
    if ggml_sys::WITH_CUDA {
        backends.push(format!("CUDA {} ({})", ggml_sys::CUDA_VERSION, ggml_sys::CUDA_ARCHS.replace(';', " ")));
    }
    backends
}
