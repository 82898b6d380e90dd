//! The only safe door to ggml.
//!
//! ggml reports a misuse by ending the process, so what is offered here checks first and returns an
//! error, or cannot be misused. Everything else of ggml stays behind this door.

#![allow(unsafe_code)]

mod abort;
mod cpu;
mod cpu_backend;
mod dequant;
mod graph;
mod ops;
mod store;
mod tensor;

pub use abort::install as install_abort_handler;
pub use cpu::{MissingFeatures, check as check_cpu};
pub use cpu_backend::{ComputeError, Cpu, Element};
pub use dequant::{DequantizeError, dequantize};
pub use graph::{Builder, Graph, Input, Output};
pub use ops::{OpError, OpResult, Rope, computes};
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
        backends.push("CUDA".to_owned());
    }
    backends
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

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
                let name =
                    unsafe { CStr::from_ptr(ggml_sys::ggml_backend_reg_name(ggml_sys::ggml_backend_reg_get(i))) };
                name.to_str().unwrap().to_owned()
            })
            .collect();
        let listed = backends();
        assert_eq!(registered.len(), listed.len(), "{registered:?} {listed:?}");
        assert!(registered.iter().all(|name| listed.iter().any(|b| b.starts_with(name.as_str()))), "{registered:?}");
    }
}
