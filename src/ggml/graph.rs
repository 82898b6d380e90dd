//! Graphs: what is to be computed, and the tensors by which data comes in and goes out.

use super::custom::Worker;
use super::ops::OpError;
use super::store::{Store, StoreId, Use};
use super::tensor::{Context, Ne, OutOfMemory, Tensor};
use crate::gguf::TensorType;
use ggml_sys::{ggml_cgraph, ggml_context, ggml_tensor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;

/// A graph and everything that its nodes refer to.
pub struct Graph {
    cgraph: NonNull<ggml_cgraph>,
    inputs: Vec<Port>,
    outputs: Vec<NonNull<ggml_tensor>>,
    /// What nodes refer to.
    workers: Vec<Worker>,
    /// Holds the graph and its nodes.
    _context: Context,
    /// Hold the tensors that the nodes read and write; each store once, in the order of their addresses.
    stores: Vec<(Arc<Store>, Use)>,
}

// SAFETY: the graph is memory of its own, and no thread is tied to it.
unsafe impl Send for Graph {}

/// A tensor that gets its data before each computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input(usize);

/// A tensor whose data is kept for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output(usize);

/// An input as the graph knows it.
#[derive(Clone, Copy)]
struct Port {
    ptr: NonNull<ggml_tensor>,
    /// Its numbers choose from so many rows.
    n_rows: Option<i64>,
}

/// A graph while it is made. Its tensors live for `'b`. What is asked for is computed, in the order in which
/// it was asked for.
pub struct Builder<'b> {
    context: &'b Context,
    cgraph: NonNull<ggml_cgraph>,
    stores: &'b [Arc<Store>],
    inputs: RefCell<Vec<Port>>,
    outputs: RefCell<Vec<NonNull<ggml_tensor>>>,
    /// Tensors whose numbers are below a bound by the way they are computed.
    bounded: RefCell<HashMap<NonNull<ggml_tensor>, i64>>,
    /// By the number of the store.
    uses: RefCell<Vec<Use>>,
    workers: RefCell<Vec<Worker>>,
}

/// More elements than any machine has memory for, and few enough that ggml counts their bytes.
const MAX_ELEMENTS: i64 = 1 << 44;

impl Graph {
    /// Builds a graph of at most `max_tensors` inputs and results over the tensors of `stores`.
    pub fn build<T, E>(
        max_tensors: usize,
        stores: Vec<Arc<Store>>,
        build: impl for<'b> FnOnce(&Builder<'b>) -> Result<T, E>,
    ) -> Result<(Graph, T), E>
    where
        E: From<OutOfMemory>,
    {
        // Stored tensors take places in the graph too.
        let size = stores.iter().map(|store| store.len()).try_fold(max_tensors, usize::checked_add);
        let too_large = OutOfMemory { bytes: usize::MAX };
        let size = size.filter(|size| i32::try_from(*size).is_ok()).ok_or(too_large)?;
        // SAFETY: the function only returns a number.
        let overhead = unsafe { ggml_sys::ggml_graph_overhead_custom(size, false) };
        let context = Context::new(max_tensors, overhead)?;
        // SAFETY: the context has room for the graph.
        let cgraph = unsafe { ggml_sys::ggml_new_graph_custom(context.as_ptr(), size, false) };
        let cgraph = NonNull::new(cgraph).ok_or(OutOfMemory { bytes: overhead })?;
        let builder = Builder {
            context: &context,
            cgraph,
            stores: &stores,
            inputs: RefCell::default(),
            outputs: RefCell::default(),
            bounded: RefCell::default(),
            uses: RefCell::new(vec![Use::Read; stores.len()]),
            workers: RefCell::default(),
        };
        let result = build(&builder)?;
        let (inputs, outputs, uses) = (builder.inputs.take(), builder.outputs.take(), builder.uses.take());
        let workers = builder.workers.take();
        let stores = each_once(stores.into_iter().zip(uses).collect());
        Ok((Graph { cgraph, inputs, outputs, workers, _context: context, stores }, result))
    }

    pub fn n_nodes(&self) -> usize {
        // SAFETY: the graph is alive.
        usize::try_from(unsafe { ggml_sys::ggml_graph_n_nodes(self.cgraph.as_ptr()) }).unwrap_or(0)
    }

    /// At least as many as there are: inputs, and tensors of stores.
    pub(super) fn n_leaves(&self) -> usize {
        self.inputs.len() + self.stores.iter().map(|(store, _)| store.len()).sum::<usize>()
    }

    /// Whether nodes of it have threads of their own.
    pub(super) fn has_threads(&self) -> bool {
        self.workers.iter().any(|worker| worker.has_threads())
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_cgraph {
        self.cgraph.as_ptr()
    }

    pub(super) fn stores(&self) -> &[(Arc<Store>, Use)] {
        &self.stores
    }

    pub(super) fn n_inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The tensor of an input, and what its numbers must be below.
    pub(super) fn input(&self, Input(index): Input) -> (Tensor<'_>, Option<i64>) {
        let Port { ptr, n_rows } = self.inputs[index];
        // SAFETY: the tensor is in our context.
        (unsafe { Tensor::from_ptr(ptr) }, n_rows)
    }

    pub(super) fn output(&self, Output(index): Output) -> Tensor<'_> {
        // SAFETY: the tensor is in our context.
        unsafe { Tensor::from_ptr(self.outputs[index]) }
    }
}

impl Input {
    pub(super) fn nth(n: usize) -> Input {
        Input(n)
    }

    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// Each store once, with the stronger use, in an order that is the same for all graphs.
fn each_once(mut stores: Vec<(Arc<Store>, Use)>) -> Vec<(Arc<Store>, Use)> {
    stores.sort_by_key(|(store, _)| Arc::as_ptr(store));
    stores.dedup_by(|(later, later_use), (store, use_)| {
        *use_ = (*use_).max(*later_use);
        Arc::ptr_eq(later, store)
    });
    stores
}

impl<'b> Builder<'b> {
    /// A tensor of one of the graph's stores, which are counted as they were given.
    pub fn stored(&self, store: usize, id: StoreId) -> Tensor<'b> {
        self.stores[store].get(id)
    }

    /// A tensor to be written before each computation.
    pub fn input(&self, name: &str, ty: TensorType, ne: Ne) -> Result<(Input, Tensor<'b>), OpError> {
        let error = |problem: &str| OpError { op: "input", problem: format!("{name}: {problem}") };
        if ty.block_len() != 1 || !is_possible(ne) {
            return Err(error("an empty, quantised or enormous tensor"));
        }
        if !self.has_room(1) {
            return Err(error("the graph is full"));
        }
        // SAFETY: the context has room, and these dimensions make a tensor of single values.
        let ptr = unsafe { ggml_sys::ggml_new_tensor(self.ctx(), ty.id(), 4, ne.as_ptr()) };
        let ptr = NonNull::new(ptr).ok_or_else(|| error("no memory"))?;
        // SAFETY: made in our context, which lives for 'b.
        let tensor = unsafe {
            ggml_sys::ggml_set_input(ptr.as_ptr());
            Tensor::from_ptr(ptr)
        };
        let mut inputs = self.inputs.borrow_mut();
        inputs.push(Port { ptr, n_rows: None });
        Ok((Input(inputs.len() - 1), tensor.named(name)))
    }

    /// Keeps the data of a result for reading.
    pub fn output(&self, tensor: Tensor<'b>) -> Result<Output, OpError> {
        let error = |problem| Err(OpError { op: "output", problem });
        // The memory of what a view shows is given to others when nothing else needs it.
        if !tensor.is_computed() || tensor.is_view() {
            return error(format!("{tensor:?} is no result with data of its own"));
        }
        if !tensor.is_contiguous() {
            return error(format!("{tensor:?} is not contiguous"));
        }
        // SAFETY: a result of this graph, which nothing else refers to yet.
        unsafe { ggml_sys::ggml_set_output(tensor.as_ptr()) };
        let mut outputs = self.outputs.borrow_mut();
        outputs.push(tensor.as_non_null());
        Ok(Output(outputs.len() - 1))
    }

    pub(super) fn ctx(&self) -> *mut ggml_context {
        self.context.as_ptr()
    }

    /// Keeps what a node refers to as long as the graph.
    pub(super) fn keep(&self, worker: Worker) {
        self.workers.borrow_mut().push(worker);
    }

    /// Whether the graph takes `n` more tensors. Its own lists are as long as the context has room.
    pub(super) fn has_room(&self, n: usize) -> bool {
        self.context.has_room(n)
    }

    /// Has a new node computed after those before it.
    pub(super) fn append(&self, node: Tensor<'b>) {
        // Node by node: ggml walks to what a node needs by recursion, which a long graph would overflow.
        // SAFETY: the node is in our context, and the graph has a place for each tensor there.
        unsafe { ggml_sys::ggml_build_forward_expand(self.cgraph.as_ptr(), node.as_ptr()) };
    }

    /// Notes that what is in `tensor` is from 0 to `bound` - 1.
    pub(super) fn set_bound(&self, tensor: Tensor<'b>, bound: i64) {
        self.bounded.borrow_mut().insert(tensor.root().as_non_null(), bound);
    }

    /// Notes that what is in `copy` is what is in `tensor`.
    pub(super) fn copy_bound(&self, tensor: Tensor<'b>, copy: Tensor<'b>) {
        let bound = self.bounded.borrow().get(&tensor.root().as_non_null()).copied();
        if let Some(bound) = bound {
            self.set_bound(copy, bound);
        }
    }

    /// Whether `ids` choose from at least `n_rows` rows only: what was computed is known to, and what comes
    /// from outside is held to it when it is written.
    pub(super) fn choose_from(&self, ids: Tensor<'b>, n_rows: i64) -> bool {
        let root = ids.root().as_non_null();
        if let Some(port) = self.inputs.borrow_mut().iter_mut().find(|port| port.ptr == root) {
            port.n_rows = Some(port.n_rows.map_or(n_rows, |n| n.min(n_rows)));
            return true;
        }
        self.bounded.borrow().get(&root).is_some_and(|bound| *bound <= n_rows)
    }

    /// Whether an operation may write to `tensor`, and notes that one does.
    pub(super) fn writes(&self, tensor: Tensor<'b>) -> bool {
        let root = tensor.root();
        let store = self.stores.iter().enumerate().find_map(|(n, store)| Some((n, store.is_owned(root)?)));
        match store {
            Some((n, true)) => self.uses.borrow_mut()[n] = Use::Write,
            Some((_, false)) => return false,
            None => {}
        }
        // What others choose rows by must stay what it is.
        !self.bounded.borrow().contains_key(&root.as_non_null())
            && !self.inputs.borrow().iter().any(|port| port.ptr == root.as_non_null())
    }
}

/// Whether ggml can count the elements and bytes of a tensor, and its rows as it does, in 32 bits.
pub(super) fn is_possible(ne: Ne) -> bool {
    let product = |ne: &[i64]| ne.iter().try_fold(1i64, |n, &dim| n.checked_mul(dim).filter(|_| dim > 0));
    let is_int = |n: i64| i32::try_from(n).is_ok();
    product(&ne).is_some_and(|n| n <= MAX_ELEMENTS) && is_int(ne[0]) && product(&ne[1..]).is_some_and(is_int)
}
