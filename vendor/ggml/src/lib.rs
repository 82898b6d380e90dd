//! ggml's C interface, raw. `build.rs` compiles ggml from a pinned registry package;
//! `update-bindings.sh` makes `bindings.rs` from its headers.
//!
//! Nothing here is safe: ggml aborts the process on a wrong shape or type. The crate `cachalot`
//! goes through its module `ggml`, which checks first. The `gguf_*` functions are here for tests
//! that hold our reader and writer against ggml's; the program itself never calls them.

#![no_std]

#[allow(non_camel_case_types, non_upper_case_globals, dead_code, unsafe_op_in_unsafe_fn)]
#[rustfmt::skip]
mod bindings;

pub use bindings::*;

/// ggml's version, for instance `0.26.0`.
pub const VERSION: &str = env!("GGML_SYS_VERSION");

/// What the CPU backend was compiled for: `native`, or what `GGML_CPU_ARCH` said.
pub const CPU_ARCH: &str = env!("GGML_SYS_CPU_ARCH");

/// The instruction-set extensions that the CPU backend was compiled with, comma-separated, by the
/// names of Rust's feature detection. On a CPU that lacks one of them the backend may die of an
/// illegal instruction.
pub const CPU_FEATURES: &str = env!("GGML_SYS_CPU_FEATURES");

/// Whether the CUDA backend is in.
pub const WITH_CUDA: bool = cfg!(feature = "cuda");
