//! The CPU: its threads, the memory of intermediate results, and the graph that it computes.

use super::graph::{Graph, Input, Output};
use super::store::{Store, StoreError, StoreId};
use super::tensor::{OutOfMemory, Tensor};
use crate::gguf::TensorType;
use ggml_sys::{ggml_backend, ggml_gallocr, ggml_threadpool};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ComputeError {
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The stop flag was set.
    #[error("stopped")]
    Stopped,
    #[error("ggml could not compute the graph (status {0})")]
    Failed(i32),
    #[error("{what}: {expected} bytes, not {got}")]
    Length { what: &'static str, expected: usize, got: usize },
    #[error("no graph is loaded")]
    NoGraph,
}

/// The CPU backend, with at most one graph at a time.
pub struct Cpu {
    /// Loaded: its tensors have memory in `memory`.
    graph: Option<Graph>,
    memory: NonNull<ggml_gallocr>,
    backend: NonNull<ggml_backend>,
    threads: NonNull<ggml_threadpool>,
    stop: Arc<AtomicBool>,
}

// SAFETY: backend, allocator and thread pool may be used from any thread, one at a time.
unsafe impl Send for Cpu {}

/// What the numbers of an input are.
pub trait Element: Copy {
    const TYPE: TensorType;
}

impl Element for f32 {
    const TYPE: TensorType = TensorType::F32;
}

impl Element for i32 {
    const TYPE: TensorType = TensorType::I32;
}

impl Element for i64 {
    const TYPE: TensorType = TensorType::I64;
}

impl Element for half::f16 {
    const TYPE: TensorType = TensorType::F16;
}

impl Cpu {
    /// A backend with `n_threads` threads that sleep when there is nothing to do. With `reference`, ggml's
    /// plain paths are taken instead of the fast ones.
    pub fn new(n_threads: usize, reference: bool) -> Result<Cpu, OutOfMemory> {
        let none = OutOfMemory { bytes: 1 << 20 };
        let n = i32::try_from(n_threads.clamp(1, ggml_sys::GGML_MAX_N_THREADS as usize)).unwrap_or(1);
        let stop = Arc::new(AtomicBool::new(false));
        // SAFETY: each object is made once, checked, and freed in `drop`; the flag that the callback reads
        // is kept as long as the backend.
        unsafe {
            let memory = ggml_sys::ggml_gallocr_new(ggml_sys::ggml_backend_cpu_buffer_type());
            let memory = NonNull::new(memory).ok_or(OutOfMemory { bytes: none.bytes })?;
            let backend = NonNull::new(ggml_sys::ggml_backend_cpu_init()).ok_or(OutOfMemory { bytes: none.bytes })?;
            let mut params = ggml_sys::ggml_threadpool_params_default(n);
            let threads = NonNull::new(ggml_sys::ggml_threadpool_new(&raw mut params)).ok_or(none)?;
            ggml_sys::ggml_backend_cpu_set_n_threads(backend.as_ptr(), n);
            ggml_sys::ggml_backend_cpu_set_threadpool(backend.as_ptr(), threads.as_ptr());
            ggml_sys::ggml_backend_cpu_set_use_ref(backend.as_ptr(), reference);
            let flag = Arc::as_ptr(&stop).cast_mut().cast::<c_void>();
            ggml_sys::ggml_backend_cpu_set_abort_callback(backend.as_ptr(), Some(is_stopped), flag);
            Ok(Cpu { graph: None, memory, backend, threads, stop })
        }
    }

    /// Once this flag is set, a computation ends with [`ComputeError::Stopped`] after the node it is at.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Gives the graph memory and makes it the one that is computed.
    pub fn load(&mut self, graph: Graph) -> Result<(), ComputeError> {
        self.graph = None;
        // Planned anew: left to itself, the allocator keeps the plan of a graph with as many nodes, whatever
        // they are.
        // SAFETY: the graph is alive; memory of the graph before it is no longer used.
        let is_allocated = unsafe {
            ggml_sys::ggml_gallocr_reserve(self.memory.as_ptr(), graph.as_ptr())
                && ggml_sys::ggml_gallocr_alloc_graph(self.memory.as_ptr(), graph.as_ptr())
        };
        if !is_allocated {
            return Err(OutOfMemory { bytes: self.n_bytes() }.into());
        }
        self.graph = Some(graph);
        Ok(())
    }

    /// Forgets the graph.
    pub fn unload(&mut self) {
        self.graph = None;
    }

    /// Bytes of intermediate results.
    pub fn n_bytes(&self) -> usize {
        // SAFETY: the allocator is alive.
        unsafe { ggml_sys::ggml_gallocr_get_buffer_size(self.memory.as_ptr(), 0) }
    }

    /// Writes all of an input of the loaded graph.
    pub fn write<T: Element>(&mut self, input: Input, data: &[T]) -> Result<(), ComputeError> {
        let tensor = self.graph.as_ref().ok_or(ComputeError::NoGraph)?.input(input);
        let (expected, got) = (tensor.n_bytes(), size_of_val(data));
        if expected != got || !tensor.is(T::TYPE) {
            return Err(ComputeError::Length { what: "input", expected, got });
        }
        // An input that no node needs gets no memory.
        if has_memory(tensor) {
            // SAFETY: type and length are the tensor's.
            unsafe { ggml_sys::ggml_backend_tensor_set(tensor.as_ptr(), data.as_ptr().cast(), 0, got) };
        }
        Ok(())
    }

    /// Computes the loaded graph.
    pub fn run(&mut self) -> Result<(), ComputeError> {
        let graph = self.graph.as_ref().ok_or(ComputeError::NoGraph)?;
        // SAFETY: backend and graph are alive, and the graph's tensors have memory.
        let status = unsafe { ggml_sys::ggml_backend_graph_compute(self.backend.as_ptr(), graph.as_ptr()) };
        match status {
            ggml_sys::GGML_STATUS_SUCCESS => Ok(()),
            ggml_sys::GGML_STATUS_ABORTED => Err(ComputeError::Stopped),
            ggml_sys::GGML_STATUS_ALLOC_FAILED => Err(OutOfMemory { bytes: self.n_bytes() }.into()),
            other => Err(ComputeError::Failed(other)),
        }
    }

    /// Appends the values of an F32 output of the loaded graph.
    pub fn read(&self, output: Output, values: &mut Vec<f32>) -> Result<(), ComputeError> {
        let tensor = self.graph.as_ref().ok_or(ComputeError::NoGraph)?.output(output);
        let n = tensor.n_bytes() / size_of::<f32>();
        if !tensor.is(TensorType::F32) || !has_memory(tensor) {
            return Err(ComputeError::Length { what: "output", expected: n, got: 0 });
        }
        values.reserve(n);
        // SAFETY: `n` values are reserved behind the last, and the tensor has as many.
        unsafe {
            let end = values.as_mut_ptr().add(values.len());
            ggml_sys::ggml_backend_tensor_get(tensor.as_ptr(), end.cast(), 0, n * size_of::<f32>());
            values.set_len(values.len() + n);
        }
        Ok(())
    }

    /// Sets bytes of a stored tensor to zero, between computations.
    pub fn zero(&mut self, store: &Store, id: StoreId, range: Range<usize>) -> Result<(), StoreError> {
        store.zero(id, range)
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        // SAFETY: all are ours; the threads go last, the backend refers to them.
        unsafe {
            ggml_sys::ggml_gallocr_free(self.memory.as_ptr());
            ggml_sys::ggml_backend_free(self.backend.as_ptr());
            ggml_sys::ggml_threadpool_free(self.threads.as_ptr());
        }
    }
}

fn has_memory(tensor: Tensor<'_>) -> bool {
    // SAFETY: alive by construction.
    unsafe { !(*tensor.as_ptr()).data.is_null() }
}

unsafe extern "C" fn is_stopped(flag: *mut c_void) -> bool {
    // SAFETY: the flag that `Cpu::new` gave, which the backend's owner keeps.
    unsafe { (*flag.cast::<AtomicBool>()).load(Ordering::Relaxed) }
}
