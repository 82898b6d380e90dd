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

/// The architectures that the CUDA backend was compiled for, as CMake spells them, joined by `;`.
pub const CUDA_ARCHS: &str = env!("GGML_SYS_CUDA_ARCHS");

/// The release of CUDA that the backend was compiled with, for instance `13.0`.
pub const CUDA_VERSION: &str = env!("GGML_SYS_CUDA_VERSION");

// Of CUDA's runtime, which is linked statically: what is asked before ggml's backend is touched, which says of a
// machine without a driver only that it failed.
#[cfg(feature = "cuda")]
unsafe extern "C" {
    pub fn cudaGetDeviceCount(count: *mut core::ffi::c_int) -> core::ffi::c_int;
    pub fn cudaDriverGetVersion(version: *mut core::ffi::c_int) -> core::ffi::c_int;
    pub fn cudaGetErrorString(error: core::ffi::c_int) -> *const core::ffi::c_char;
    pub fn cudaDeviceGetAttribute(
        value: *mut core::ffi::c_int,
        attribute: core::ffi::c_int,
        device: core::ffi::c_int,
    ) -> core::ffi::c_int;
    pub fn cudaGetLastError() -> core::ffi::c_int;
    pub fn cudaHostRegister(start: *mut core::ffi::c_void, bytes: usize, flags: core::ffi::c_uint) -> core::ffi::c_int;
    pub fn cudaHostUnregister(start: *mut core::ffi::c_void) -> core::ffi::c_int;

    /// Of `cublas.c`: opens the library; null, or a text that says why it cannot be had.
    pub fn ggml_sys_cublas_open() -> *const core::ffi::c_char;
}
