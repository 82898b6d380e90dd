//! Graphs: what is to be computed, and the tensors by which data comes in and goes out.

use super::ops::OpError;
use super::store::{Store, StoreId};
use super::tensor::{Context, Ne, OutOfMemory, Tensor};
use crate::gguf::TensorType;
use ggml_sys::{ggml_cgraph, ggml_context, ggml_tensor};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;

/// A graph and everything that its nodes refer to.
pub struct Graph {
    cgraph: NonNull<ggml_cgraph>,
    inputs: Vec<NonNull<ggml_tensor>>,
    outputs: Vec<NonNull<ggml_tensor>>,
    /// Holds the graph and its nodes.
    _context: Context,
    /// Hold the tensors that the nodes read.
    _stores: Vec<Arc<Store>>,
}

// SAFETY: the graph is memory of its own, and no thread is tied to it.
unsafe impl Send for Graph {}

/// A tensor that gets its data before each computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input(usize);

/// A tensor whose data is kept for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output(usize);

/// A graph while it is made. Its tensors live for `'b`.
pub struct Builder<'b> {
    context: &'b Context,
    cgraph: NonNull<ggml_cgraph>,
    stores: &'b [Arc<Store>],
    inputs: RefCell<Vec<NonNull<ggml_tensor>>>,
    outputs: RefCell<Vec<NonNull<ggml_tensor>>>,
}

impl Graph {
    /// Builds a graph of at most `max_nodes` nodes over the tensors of `stores`.
    pub fn build<T, E>(
        max_nodes: usize,
        stores: Vec<Arc<Store>>,
        build: impl for<'b> FnOnce(&Builder<'b>) -> Result<T, E>,
    ) -> Result<(Graph, T), E>
    where
        E: From<OutOfMemory>,
    {
        // Stored tensors take places in the graph too.
        let size = max_nodes + stores.iter().map(|store| store.len()).sum::<usize>();
        // SAFETY: the function only returns a number.
        let overhead = unsafe { ggml_sys::ggml_graph_overhead_custom(size, false) };
        let context = Context::new(max_nodes, overhead)?;
        // SAFETY: the context has room for the graph.
        let cgraph = unsafe { ggml_sys::ggml_new_graph_custom(context.as_ptr(), size, false) };
        let cgraph = NonNull::new(cgraph).ok_or(OutOfMemory { bytes: overhead })?;
        let builder = Builder {
            context: &context,
            cgraph,
            stores: &stores,
            inputs: RefCell::default(),
            outputs: RefCell::default(),
        };
        let result = build(&builder)?;
        let (inputs, outputs) = (builder.inputs.take(), builder.outputs.take());
        Ok((Graph { cgraph, inputs, outputs, _context: context, _stores: stores }, result))
    }

    pub fn n_nodes(&self) -> usize {
        // SAFETY: the graph is alive.
        usize::try_from(unsafe { ggml_sys::ggml_graph_n_nodes(self.cgraph.as_ptr()) }).unwrap_or(0)
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_cgraph {
        self.cgraph.as_ptr()
    }

    pub(super) fn input(&self, input: Input) -> Tensor<'_> {
        // SAFETY: the tensor is in our context.
        unsafe { Tensor::from_ptr(self.inputs[input.0]) }
    }

    pub(super) fn output(&self, output: Output) -> Tensor<'_> {
        // SAFETY: the tensor is in our context.
        unsafe { Tensor::from_ptr(self.outputs[output.0]) }
    }
}

impl<'b> Builder<'b> {
    /// A tensor of one of the graph's stores, which are counted as they were given.
    pub fn stored(&self, store: usize, id: StoreId) -> Tensor<'b> {
        self.stores[store].get(id)
    }

    /// A tensor to be written before each computation.
    pub fn input(&self, name: &str, ty: TensorType, ne: Ne) -> Result<(Input, Tensor<'b>), OpError> {
        let error = |problem: &str| OpError { op: "input", problem: format!("{name}: {problem}") };
        if ty.block_len() != 1 || ne.iter().any(|n| *n < 1) {
            return Err(error("an empty or quantised tensor"));
        }
        if !self.has_room() {
            return Err(error("the graph is full"));
        }
        // SAFETY: the context has room, and any dimensions make a tensor of single values.
        let ptr = unsafe { ggml_sys::ggml_new_tensor(self.ctx(), ty.id(), 4, ne.as_ptr()) };
        let ptr = NonNull::new(ptr).ok_or_else(|| error("no memory"))?;
        // SAFETY: made in our context, which lives for 'b.
        let tensor = unsafe {
            ggml_sys::ggml_set_input(ptr.as_ptr());
            Tensor::from_ptr(ptr)
        };
        let mut inputs = self.inputs.borrow_mut();
        inputs.push(ptr);
        Ok((Input(inputs.len() - 1), tensor.named(name)))
    }

    /// Has `tensor` computed, and keeps its data for reading.
    pub fn output(&self, tensor: Tensor<'b>) -> Result<Output, OpError> {
        if !tensor.is_contiguous() {
            return Err(OpError { op: "output", problem: format!("{tensor:?} is not contiguous") });
        }
        // SAFETY: alive for 'b.
        unsafe { ggml_sys::ggml_set_output(tensor.as_ptr()) };
        self.expand(tensor)?;
        let mut outputs = self.outputs.borrow_mut();
        outputs.push(tensor.as_non_null());
        Ok(Output(outputs.len() - 1))
    }

    /// Has `tensor`, and all that it needs, computed after what was asked for before.
    pub fn expand(&self, tensor: Tensor<'b>) -> Result<(), OpError> {
        // Every node is in our context, which has room for as many as the graph.
        // SAFETY: the tensor and the graph live in the same context.
        unsafe { ggml_sys::ggml_build_forward_expand(self.cgraph.as_ptr(), tensor.as_ptr()) };
        Ok(())
    }

    pub(super) fn ctx(&self) -> *mut ggml_context {
        self.context.as_ptr()
    }

    pub(super) fn has_room(&self) -> bool {
        self.context.has_room()
    }
}
