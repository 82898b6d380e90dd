//! The routed experts on the CPU, and the matrices beside them: kernels that read the file's own layout.

mod activation;
mod avx512;
mod block;
mod scalar;
#[cfg(test)]
mod testing;
