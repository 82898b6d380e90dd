//! Graphs that several devices compute: ggml's scheduler cuts them where results go from one device to another.
//!
//! A node is computed where its weights lie, and others where those beside them are; what a GPU cannot compute, the
//! CPU does. A product of ggml's own with weights in RAM and at least 32 tokens is computed on a GPU all the same: its
//! weights are copied there for the time, of experts those that are chosen.

use super::gpu::Gpu;
use super::graph::{Builder, Graph};
use super::ops::OpError;
use super::tensor::OutOfMemory;
use super::upload::Device;
use crate::gguf::TensorType;
use ggml_sys::{ggml_backend, ggml_backend_sched};
use std::ptr::NonNull;
use std::sync::Arc;

/// GPUs, and the CPU for the rest.
pub(super) struct Scheduler {
    sched: Sched,
    /// Nodes and leaves of the largest graph that it is for.
    n_tensors: usize,
    gpus: Vec<(Gpu, Arc<Device>)>,
    cpu: NonNull<ggml_backend>,
}

struct Sched(NonNull<ggml_backend_sched>);

impl Drop for Sched {
    fn drop(&mut self) {
        // SAFETY: ours, and its backends are alive still.
        unsafe { ggml_sys::ggml_backend_sched_free(self.0.as_ptr()) }
    }
}

impl Scheduler {
    /// # Safety
    /// The CPU's backend outlives this.
    pub(super) unsafe fn new(gpus: &[Gpu], cpu: NonNull<ggml_backend>) -> Result<Scheduler, OutOfMemory> {
        let devices = gpus.iter().map(|gpu| Ok((gpu.clone(), Arc::new(Device::new(gpu)?))));
        let gpus: Vec<(Gpu, Arc<Device>)> = devices.collect::<Result<_, OutOfMemory>>()?;
        let n_tensors = 16;
        let sched = sched(&gpus, cpu, n_tensors)?;
        Ok(Scheduler { sched, n_tensors, gpus, cpu })
    }

    /// Gives the graph's tensors memory on their devices. Nothing of the graph before is used any more.
    pub(super) fn give(&mut self, graph: &Graph) -> Result<(), OutOfMemory> {
        let n_tensors = graph.n_nodes() + graph.n_leaves();
        if n_tensors > self.n_tensors {
            let room = n_tensors.next_multiple_of(1024);
            self.sched = sched(&self.gpus, self.cpu, room)?;
            self.n_tensors = room;
        }
        self.forget()?;
        // SAFETY: scheduler and graph are alive, and it is large enough for all of the graph's tensors.
        let has_memory = unsafe { ggml_sys::ggml_backend_sched_alloc_graph(self.sched.0.as_ptr(), graph.as_ptr()) };
        if !has_memory {
            let bytes = self.n_bytes();
            // It is left without memory, but thinks that it has some.
            self.sched = sched(&self.gpus, self.cpu, self.n_tensors)?;
            return Err(OutOfMemory { bytes });
        }
        Ok(())
    }

    /// Has the next graph get a plan of its own: the plan for the graph before is taken for one of as many nodes,
    /// whatever these need of each other. So another graph is planned for between; memory that is there stays.
    fn forget(&mut self) -> Result<(), OutOfMemory> {
        let nothing = |b: &Builder<'_>| {
            let (_, x) = b.input("nothing", TensorType::F32, [1, 1, 1, 1])?;
            b.scale_bias(x, 1.0, 0.0).map(drop)
        };
        let (graph, ()) =
            Graph::build(4, Vec::new(), |b| nothing(b).map_err(Refused::from)).map_err(|refused| refused.0)?;
        // SAFETY: scheduler and graph are alive. The graph is only looked at, and no longer known afterwards.
        let has_memory = unsafe {
            ggml_sys::ggml_backend_sched_reset(self.sched.0.as_ptr());
            ggml_sys::ggml_backend_sched_reserve(self.sched.0.as_ptr(), graph.as_ptr())
        };
        if has_memory { Ok(()) } else { Err(OutOfMemory { bytes: 1 << 10 }) }
    }

    /// Computes the graph that has memory; returns ggml's status.
    ///
    /// # Safety
    /// The graph is the one that was given memory last. What it does to stores is its own for as long as it takes.
    pub(super) unsafe fn compute(&mut self, graph: &Graph) -> ggml_sys::ggml_status {
        // SAFETY: as above.
        unsafe { ggml_sys::ggml_backend_sched_graph_compute(self.sched.0.as_ptr(), graph.as_ptr()) }
    }

    /// What a GPU's part of a graph is computed on.
    pub(super) fn device(&self, gpu: &Gpu) -> Option<&Arc<Device>> {
        let is_it = |other: &&(Gpu, Arc<Device>)| other.0.facts().number == gpu.facts().number;
        self.gpus.iter().find(is_it).map(|(_, device)| device)
    }

    /// Pieces that the graph is cut into.
    pub(super) fn n_splits(&self) -> usize {
        // SAFETY: alive.
        let n = unsafe { ggml_sys::ggml_backend_sched_get_n_splits(self.sched.0.as_ptr()) };
        usize::try_from(n).unwrap_or(0)
    }

    /// Bytes of intermediate results, on all devices.
    pub(super) fn n_bytes(&self) -> usize {
        let backends = self.gpus.iter().map(|(_, device)| device.as_ptr()).chain([self.cpu.as_ptr()]);
        // SAFETY: scheduler and backends are alive.
        backends.map(|of| unsafe { ggml_sys::ggml_backend_sched_get_buffer_size(self.sched.0.as_ptr(), of) }).sum()
    }
}

fn sched(gpus: &[(Gpu, Arc<Device>)], cpu: NonNull<ggml_backend>, n_tensors: usize) -> Result<Sched, OutOfMemory> {
    let mut backends: Vec<*mut ggml_backend> = gpus.iter().map(|(_, device)| device.as_ptr()).collect();
    let mut types: Vec<_> = gpus.iter().map(|(gpu, _)| gpu.memory_type()).collect();
    backends.push(cpu.as_ptr());
    // What the CPU computes goes to a GPU, and what it needs comes from there.
    // SAFETY: the type is static.
    let in_ram = unsafe { ggml_sys::ggml_backend_cpu_buffer_type() };
    types.push(gpus.first().map(|(gpu, _)| gpu.pinned_type()).filter(|ty| !ty.is_null()).unwrap_or(in_ram));
    let n = i32::try_from(backends.len()).unwrap_or(i32::MAX);
    // SAFETY: the lists are as long as is said, and copied; the last backend is the CPU's.
    let sched = unsafe {
        ggml_sys::ggml_backend_sched_new(backends.as_mut_ptr(), types.as_mut_ptr(), n, n_tensors, false, true)
    };
    NonNull::new(sched).map(Sched).ok_or(OutOfMemory { bytes: 1 << 20 })
}

/// No memory for a graph of one node; nothing else can be wrong with it.
struct Refused(OutOfMemory);

impl From<OutOfMemory> for Refused {
    fn from(error: OutOfMemory) -> Refused {
        Refused(error)
    }
}

impl From<OpError> for Refused {
    fn from(_: OpError) -> Refused {
        Refused(OutOfMemory { bytes: 1 << 10 })
    }
}
