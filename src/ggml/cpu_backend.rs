//! The CPU: its threads, the memory of intermediate results, and the graph that it computes, alone or with GPUs.

use super::courier::{Courier, Load};
use super::gpu::Gpu;
use super::graph::{Graph, Input, Output};
use super::memory::Memory;
use super::scheduler::Scheduler;
use super::staging::Staging;
use super::store::{Access, Store, StoreError, StoreId};
use super::tensor::{OutOfMemory, Tensor};
use super::upload::Device;
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
    #[error("{found} values, but the tensor holds {expected}")]
    Type { expected: TensorType, found: TensorType },
    #[error("row {row} of {n_rows}")]
    Row { row: i64, n_rows: i64 },
    #[error("no graph is loaded")]
    NoGraph,
    /// Inputs are written before each computation: their memory is used for other results too.
    #[error("an input of the graph has not been written")]
    NotWritten,
    #[error("the graph has not been computed")]
    NotComputed,
}

/// What could not be had where little was asked for.
const FEW_BYTES: OutOfMemory = OutOfMemory { bytes: 1 << 20 };

/// The CPU backend, with at most one graph at a time.
pub struct Cpu {
    /// Its tensors have memory in `results`, or on the devices of `scheduler`.
    loaded: Option<Loaded>,
    results: Results,
    /// Where GPUs compute too. It refers to the backend.
    scheduler: Option<Scheduler>,
    backend: Backend,
    /// Outlive the backend, which refers to one of them.
    threads: Threads,
    /// For graphs whose nodes have threads of their own.
    thread: Threads,
    stop: Arc<AtomicBool>,
}

struct Loaded {
    graph: Graph,
    /// By the number of the input; those that no node needs count as written.
    written: Vec<bool>,
    computed: bool,
}

// SAFETY: backend, allocator and thread pool may be used from any thread, one at a time.
unsafe impl Send for Cpu {}

/// What the numbers of an input are.
pub trait Element: Copy {
    const TYPE: TensorType;

    /// The value as the number of a row, if it can be one.
    fn as_row(self) -> Option<i64> {
        None
    }
}

impl Element for f32 {
    const TYPE: TensorType = TensorType::F32;
}

impl Element for half::f16 {
    const TYPE: TensorType = TensorType::F16;
}

impl Element for i32 {
    const TYPE: TensorType = TensorType::I32;

    fn as_row(self) -> Option<i64> {
        Some(self.into())
    }
}

impl Element for i64 {
    const TYPE: TensorType = TensorType::I64;

    fn as_row(self) -> Option<i64> {
        Some(self)
    }
}

impl Cpu {
    /// A backend with `n_threads` threads that sleep when there is nothing to do. With `reference`, ggml's
    /// plain paths are taken instead of the fast ones.
    pub fn new(n_threads: usize, reference: bool) -> Result<Cpu, OutOfMemory> {
        let n = i32::try_from(n_threads.clamp(1, ggml_sys::GGML_MAX_N_THREADS as usize)).unwrap_or(1);
        let (results, backend) = (Results::new()?, Backend::new()?);
        let (threads, thread) = (Threads::new(n)?, Threads::new(1)?);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::as_ptr(&stop).cast_mut().cast::<c_void>();
        // SAFETY: both are alive, and the flag, which the callback reads, is kept until the backend is gone.
        unsafe {
            ggml_sys::ggml_backend_cpu_set_use_ref(backend.0.as_ptr(), reference);
            ggml_sys::ggml_backend_cpu_set_abort_callback(backend.0.as_ptr(), Some(is_stopped), flag);
        }
        let cpu = Cpu { loaded: None, results, scheduler: None, backend, threads, thread, stop };
        cpu.compute_with(&cpu.threads);
        Ok(cpu)
    }

    /// Those that it computed with before sleep until they are asked for again.
    fn compute_with(&self, threads: &Threads) {
        // SAFETY: both are alive, and the threads are kept until the backend is gone.
        unsafe {
            ggml_sys::ggml_backend_cpu_set_n_threads(self.backend.0.as_ptr(), threads.n);
            ggml_sys::ggml_backend_cpu_set_threadpool(self.backend.0.as_ptr(), threads.ptr.as_ptr());
        }
    }

    /// The same with GPUs, which compute what has its weights there.
    pub fn with_gpus(n_threads: usize, reference: bool, gpus: &[Gpu]) -> Result<Cpu, OutOfMemory> {
        let mut cpu = Cpu::new(n_threads, reference)?;
        if !gpus.is_empty() {
            // SAFETY: the scheduler is dropped before the backend, being declared before it.
            cpu.scheduler = Some(unsafe { Scheduler::new(gpus, cpu.backend.0)? });
        }
        Ok(cpu)
    }

    /// As where GPUs compute too, without any.
    #[cfg(test)]
    pub(super) fn scheduled(n_threads: usize) -> Cpu {
        let mut cpu = Cpu::new(n_threads, false).unwrap();
        // SAFETY: as above.
        cpu.scheduler = Some(unsafe { Scheduler::new(&[], cpu.backend.0).unwrap() });
        cpu
    }

    /// Pieces of the loaded graph between which results go from one device to another.
    pub fn n_pieces(&self) -> usize {
        self.scheduler.as_ref().filter(|_| self.loaded.is_some()).map_or(1, Scheduler::n_splits)
    }

    /// Memory on a GPU, or in RAM, that nodes of graphs write to and read from.
    pub fn staging(&self, store: Arc<Store>, gpu: Option<&Gpu>) -> Staging {
        Staging::new(store, self.device(gpu))
    }

    /// What sends weights ahead to the same memory.
    pub fn courier(
        &self,
        weights: Arc<Store>,
        memory: Arc<Store>,
        loads: Vec<Load>,
        gpu: Option<&Gpu>,
    ) -> Result<Courier, OutOfMemory> {
        Courier::new(weights, memory, loads, gpu.zip(self.device(gpu)))
    }

    fn device(&self, gpu: Option<&Gpu>) -> Option<Arc<Device>> {
        self.scheduler.as_ref().zip(gpu).and_then(|(scheduler, gpu)| scheduler.device(gpu)).cloned()
    }

    /// Once this flag is set, a computation ends with [`ComputeError::Stopped`] after the node it is at.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Gives the graph memory and makes it the one that is computed.
    pub fn load(&mut self, graph: Graph) -> Result<(), ComputeError> {
        self.loaded = None;
        match &mut self.scheduler {
            Some(scheduler) => scheduler.give(&graph)?,
            None => self.results.give(&graph)?,
        }
        let threads = if graph.has_threads() { &self.thread } else { &self.threads };
        self.compute_with(threads);
        // SAFETY: graph and threads are alive; the plan is only made.
        let plan = unsafe { ggml_sys::ggml_graph_plan(graph.as_ptr(), threads.n, threads.ptr.as_ptr()) };
        // What nodes need beside their results ggml takes when it computes, and ends the process if it
        // cannot: so it is tried first.
        drop(Memory::zeroed(plan.work_size)?);
        let written = (0..graph.n_inputs()).map(|n| !has_memory(graph.input(Input::nth(n)).0)).collect();
        self.loaded = Some(Loaded { graph, written, computed: false });
        Ok(())
    }

    /// Forgets the graph.
    pub fn unload(&mut self) {
        self.loaded = None;
    }

    /// Bytes of intermediate results.
    pub fn n_bytes(&self) -> usize {
        self.results.n_bytes() + self.scheduler.as_ref().map_or(0, Scheduler::n_bytes)
    }

    /// Writes all of an input of the loaded graph, for the next computation.
    pub fn write<T: Element>(&mut self, input: Input, data: &[T]) -> Result<(), ComputeError> {
        let Loaded { graph, written, computed } = self.loaded.as_mut().ok_or(ComputeError::NoGraph)?;
        let (tensor, n_rows) = graph.input(input);
        if let Some(expected) = tensor.ty().filter(|ty| *ty != T::TYPE) {
            return Err(ComputeError::Type { expected, found: T::TYPE });
        }
        let (expected, got) = (tensor.n_bytes(), size_of_val(data));
        if expected != got {
            return Err(ComputeError::Length { what: "input", expected, got });
        }
        if let Some(n_rows) = n_rows
            && let Some(row) = data.iter().filter_map(|x| x.as_row()).find(|row| !(0..n_rows).contains(row))
        {
            return Err(ComputeError::Row { row, n_rows });
        }
        // An input that no node needs gets no memory.
        if has_memory(tensor) {
            // SAFETY: type and length are the tensor's.
            unsafe { ggml_sys::ggml_backend_tensor_set(tensor.as_ptr(), data.as_ptr().cast(), 0, got) };
        }
        written[input.index()] = true;
        *computed = false;
        Ok(())
    }

    /// Computes the loaded graph. All inputs have been written since it was computed before.
    pub fn run(&mut self) -> Result<(), ComputeError> {
        let Loaded { graph, written, computed } = self.loaded.as_mut().ok_or(ComputeError::NoGraph)?;
        if written.contains(&false) {
            return Err(ComputeError::NotWritten);
        }
        *computed = false;
        // Those without memory keep counting as written.
        (0..graph.n_inputs()).zip(&mut *written).for_each(|(n, is)| *is = !has_memory(graph.input(Input::nth(n)).0));
        // In the same order for all graphs, so that none waits for another that waits for it.
        let access: Vec<Access<'_>> = graph.stores().iter().map(|(store, usage)| store.access(*usage)).collect();
        // SAFETY: backend and graph are alive, the graph's tensors have memory by the scheduler if there is one,
        // and what it does to stores is its own for as long as it takes.
        let status = unsafe {
            match &mut self.scheduler {
                Some(scheduler) => scheduler.compute(graph),
                None => ggml_sys::ggml_backend_graph_compute(self.backend.0.as_ptr(), graph.as_ptr()),
            }
        };
        drop(access);
        match status {
            ggml_sys::GGML_STATUS_SUCCESS => {
                *computed = true;
                Ok(())
            }
            ggml_sys::GGML_STATUS_ABORTED => Err(ComputeError::Stopped),
            ggml_sys::GGML_STATUS_ALLOC_FAILED => Err(OutOfMemory { bytes: self.n_bytes() }.into()),
            other => Err(ComputeError::Failed(other)),
        }
    }

    /// Appends the values of an output of the computed graph.
    pub fn read<T: Element>(&self, output: Output, values: &mut Vec<T>) -> Result<(), ComputeError> {
        let Loaded { graph, computed, .. } = self.loaded.as_ref().ok_or(ComputeError::NoGraph)?;
        let tensor = graph.output(output);
        if let Some(expected) = tensor.ty().filter(|ty| *ty != T::TYPE) {
            return Err(ComputeError::Type { expected, found: T::TYPE });
        }
        if !computed {
            return Err(ComputeError::NotComputed);
        }
        let n = tensor.n_bytes() / size_of::<T>();
        values.reserve(n);
        // SAFETY: `n` values are reserved behind the last, and the tensor has as many, of this type.
        unsafe {
            let end = values.as_mut_ptr().add(values.len());
            ggml_sys::ggml_backend_tensor_get(tensor.as_ptr(), end.cast(), 0, n * size_of::<T>());
            values.set_len(values.len() + n);
        }
        Ok(())
    }

    /// Sets bytes of a stored tensor to zero, between computations.
    pub fn zero(&mut self, store: &Store, id: StoreId, range: Range<usize>) -> Result<(), StoreError> {
        store.zero(id, range)
    }

    /// Writes bytes of a stored tensor, between computations.
    pub fn put(&mut self, store: &Store, id: StoreId, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        store.put(id, offset, bytes)
    }
}

/// Memory for the results of a graph's nodes, which share it as their lives allow.
struct Results(NonNull<ggml_gallocr>);

impl Results {
    fn new() -> Result<Results, OutOfMemory> {
        // SAFETY: the buffer type is static.
        let ptr = unsafe { ggml_sys::ggml_gallocr_new(ggml_sys::ggml_backend_cpu_buffer_type()) };
        NonNull::new(ptr).map(Results).ok_or(FEW_BYTES)
    }

    /// Gives a place to each tensor of the graph that has none.
    fn give(&mut self, graph: &Graph) -> Result<(), OutOfMemory> {
        // The plan that was made for the graph before is taken for this one too if both have as many nodes,
        // whatever these need of each other: so a new one is asked for.
        // SAFETY: graph and allocator are alive; the memory of the graph before is no longer used.
        let has_memory = unsafe {
            ggml_sys::ggml_gallocr_reserve(self.0.as_ptr(), graph.as_ptr())
                && ggml_sys::ggml_gallocr_alloc_graph(self.0.as_ptr(), graph.as_ptr())
        };
        if !has_memory {
            // It is left without memory, but thinks that it has some.
            *self = Results::new()?;
            return Err(OutOfMemory { bytes: self.needs(graph) });
        }
        Ok(())
    }

    /// Bytes for the results of a graph, when there is no memory yet.
    fn needs(&self, graph: &Graph) -> usize {
        let mut bytes = 0;
        // SAFETY: graph and allocator are alive, and there is one kind of memory, for all nodes.
        unsafe {
            let (all, none) = (self.0.as_ptr(), std::ptr::null());
            ggml_sys::ggml_gallocr_reserve_n_size(all, graph.as_ptr(), none, none, &raw mut bytes);
        }
        bytes
    }

    fn n_bytes(&self) -> usize {
        // SAFETY: the allocator is alive.
        unsafe { ggml_sys::ggml_gallocr_get_buffer_size(self.0.as_ptr(), 0) }
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { ggml_sys::ggml_gallocr_free(self.0.as_ptr()) }
    }
}

struct Backend(NonNull<ggml_backend>);

impl Backend {
    fn new() -> Result<Backend, OutOfMemory> {
        // SAFETY: no conditions.
        NonNull::new(unsafe { ggml_sys::ggml_backend_cpu_init() }).map(Backend).ok_or(FEW_BYTES)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: ours; it leaves the threads alone.
        unsafe { ggml_sys::ggml_backend_free(self.0.as_ptr()) }
    }
}

struct Threads {
    ptr: NonNull<ggml_threadpool>,
    n: i32,
}

impl Threads {
    fn new(n: i32) -> Result<Threads, OutOfMemory> {
        // SAFETY: the parameters are only read.
        let pool = unsafe {
            let mut params = ggml_sys::ggml_threadpool_params_default(n);
            ggml_sys::ggml_threadpool_new(&raw mut params)
        };
        NonNull::new(pool).map(|ptr| Threads { ptr, n }).ok_or(FEW_BYTES)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: ours, and the backend that referred to them is gone.
        unsafe { ggml_sys::ggml_threadpool_free(self.ptr.as_ptr()) }
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
