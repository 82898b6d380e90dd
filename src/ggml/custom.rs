//! Work of ours as a node of a graph, done by all of ggml's threads at once.

use super::graph::{Builder, is_possible};
use super::ops::{OpError, OpResult};
use super::tensor::{Ne, Tensor};
use crate::gguf::TensorType;
use ggml_sys::ggml_tensor;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// What a node computes. It is asked from all threads at the same time, each for its share, and must not
/// panic: that would end the process.
pub trait Work: Send + Sync {
    /// `out` is the node's result, of contiguous F32.
    fn run(&self, share: Share, operands: &[Operand<'_>], out: Shared<'_, f32>);

    /// Whether it is asked from one thread only.
    fn is_alone(&self) -> bool {
        false
    }

    /// Whether it has other threads work while the graph goes on. Of such a graph ggml computes nodes with one thread:
    /// more would wait for nodes on the cores that the others need.
    fn has_threads(&self) -> bool {
        false
    }
}

/// Which of how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub thread: usize,
    pub n_threads: usize,
}

/// A tensor that work reads.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// Dimensions in ggml order.
    pub ne: Ne,
    /// Strides in bytes.
    pub nb: [usize; 4],
    /// From the first to behind the last element.
    pub bytes: &'a [u8],
}

impl Operand<'_> {
    /// Row `n` of values that are four bytes each; empty if there is none.
    pub fn row<T: Word>(&self, n: usize) -> &[T] {
        let len = usize::try_from(self.ne[0]).unwrap_or(0);
        let from = n.saturating_mul(self.nb[1]);
        let bytes = self.bytes.get(from..).and_then(|bytes| bytes.get(..4 * len)).unwrap_or(&[]);
        // SAFETY: any four bytes are a `T`, and what is not aligned is left out.
        let (before, row, _) = unsafe { bytes.align_to::<T>() };
        if before.is_empty() { row } else { &[] }
    }
}

/// A type of four bytes that any bits are values of.
pub trait Word: Copy + sealed::Sealed {}
impl Word for f32 {}
impl Word for i32 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i32 {}
}

/// Values that several threads write at the same time, each other ones.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    ptr: NonNull<T>,
    len: usize,
    of: PhantomData<&'a [T]>,
}

// SAFETY: to read or write, a thread has to promise that no other does.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(values: &'a mut [T]) -> Shared<'a, T> {
        Shared { ptr: NonNull::from(&mut *values).cast(), len: values.len(), of: PhantomData }
    }

    /// # Safety
    /// As with [`Shared::write`] and [`Shared::read`], for everybody who reaches the cells.
    pub unsafe fn from_cells(cells: &'a [UnsafeCell<T>]) -> Shared<'a, T> {
        Shared { ptr: NonNull::from(cells).cast(), len: cells.len(), of: PhantomData }
    }

    pub fn as_ptr(self) -> *mut T {
        self.ptr.as_ptr()
    }

    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// # Safety
    /// The values are alive, and used by nobody else, for as long as this is used.
    pub unsafe fn lasting(self) -> Shared<'static, T> {
        Shared { ptr: self.ptr, len: self.len, of: PhantomData }
    }

    /// A part of it; a range that is not there is a panic.
    pub fn part(self, range: Range<usize>) -> Shared<'a, T> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: within the values.
        Shared { ptr: unsafe { self.ptr.add(range.start) }, len: range.len(), of: PhantomData }
    }

    /// Some of the values, to write; a range that is not there is a panic.
    ///
    /// # Safety
    /// While they are borrowed, no other thread uses them.
    pub unsafe fn write(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: within the values, which are ours for 'a; that nobody else uses them is the caller's word.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr().add(range.start), range.len()) }
    }

    /// Some of the values, to read; a range that is not there is a panic.
    ///
    /// # Safety
    /// While they are borrowed, no thread writes to them.
    pub unsafe fn read(self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: as above.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr().add(range.start), range.len()) }
    }
}

/// Work, as nodes refer to it.
pub(super) type Worker = Box<Arc<dyn Work>>;

impl<'b> Builder<'b> {
    /// A result of F32 that `work` computes from `operands`, of which there are at most nine. `chosen` are those
    /// of them, I32, that are numbers of rows, with how many rows there are.
    pub fn work(
        &self,
        op: &'static str,
        work: Arc<dyn Work>,
        operands: &[Tensor<'b>],
        chosen: &[(Tensor<'b>, i64)],
        ne: Ne,
    ) -> OpResult<'b> {
        self.work_of(op, work, operands, chosen, TensorType::F32, ne)
    }

    /// As [`Builder::work`], of I32 from 0 to `bound` - 1: `work` writes their bits.
    pub fn work_ids(
        &self,
        op: &'static str,
        work: Arc<dyn Work>,
        operands: &[Tensor<'b>],
        bound: i64,
        ne: Ne,
    ) -> OpResult<'b> {
        let ids = self.work_of(op, work, operands, &[], TensorType::I32, ne)?;
        self.set_bound(ids, bound);
        Ok(ids)
    }

    /// The values of `on`, F32 and contiguous, as they are when `work` is done, which has them as its result and reads
    /// `operands`, of which there are at most nine.
    pub fn work_on(
        &self,
        op: &'static str,
        work: Arc<dyn Work>,
        on: Tensor<'b>,
        operands: &[Tensor<'b>],
    ) -> OpResult<'b> {
        if !on.is(TensorType::F32) || !on.is_contiguous() || !on.is_computed() || !self.writes(on) {
            return Err(OpError { op, problem: format!("{on:?} cannot be written to") });
        }
        self.make(op, work, operands, |fun, n_tasks, data, operands| {
            // SAFETY: the context has room, the operands are alive, and ggml copies their list.
            unsafe {
                let (all, n) = (operands.as_mut_ptr(), operands.len() as c_int);
                ggml_sys::ggml_custom_inplace(self.ctx(), on.as_ptr(), all, n, fun, n_tasks, data)
            }
        })
    }

    fn work_of(
        &self,
        op: &'static str,
        work: Arc<dyn Work>,
        operands: &[Tensor<'b>],
        chosen: &[(Tensor<'b>, i64)],
        ty: TensorType,
        ne: Ne,
    ) -> OpResult<'b> {
        let error = |problem: String| Err(OpError { op, problem });
        if !is_possible(ne) {
            return error(format!("the result would be {ne:?}"));
        }
        for (ids, n_rows) in chosen {
            if !ids.is(TensorType::I32) || !self.choose_from(*ids, *n_rows) {
                return error(format!("{ids:?} may be other numbers than those of {n_rows} rows"));
            }
        }
        self.make(op, work, operands, |fun, n_tasks, data, operands| {
            // SAFETY: as above.
            unsafe {
                let (all, n) = (operands.as_mut_ptr(), operands.len() as c_int);
                ggml_sys::ggml_custom_4d(self.ctx(), ty.id(), ne[0], ne[1], ne[2], ne[3], all, n, fun, n_tasks, data)
            }
        })
    }

    /// A node that `node` makes of a function, how many threads call it, what it is told, and its operands.
    fn make(
        &self,
        op: &'static str,
        work: Arc<dyn Work>,
        operands: &[Tensor<'b>],
        node: impl FnOnce(ggml_sys::ggml_custom_op_t, c_int, *mut c_void, &mut [*mut ggml_tensor]) -> *mut ggml_tensor,
    ) -> OpResult<'b> {
        if operands.len() >= ggml_sys::GGML_MAX_SRC as usize {
            return Err(OpError { op, problem: format!("{} operands", operands.len()) });
        }
        let n_tasks = if work.is_alone() { 1 } else { ggml_sys::GGML_N_TASKS_MAX };
        let worker: Worker = Box::new(work);
        let data = (&raw const *worker).cast_mut().cast::<c_void>();
        let mut operands: Vec<*mut ggml_tensor> = operands.iter().map(|operand| operand.as_ptr()).collect();
        // The graph keeps the worker as long as the node.
        let node = self.node(op, || node(Some(run), n_tasks, data, &mut operands))?;
        self.keep(worker);
        Ok(node)
    }
}

unsafe extern "C" fn run(node: *mut ggml_tensor, thread: c_int, n_threads: c_int, worker: *mut c_void) {
    // SAFETY: the node was made above: its result is F32, or I32, and contiguous, its operands have data, and the worker
    // is kept by the graph. Nobody else writes to the result while it is computed.
    unsafe {
        // What it is computed on is its result.
        let sources = (*node).src.iter().take_while(|source| !source.is_null());
        let sources = sources.filter(|source| (*node).view_src != **source);
        let operands = sources.map(|source| {
            let (source, n) = (&**source, ggml_sys::ggml_nbytes(*source));
            Operand { ne: source.ne, nb: source.nb, bytes: slice::from_raw_parts(source.data.cast(), n) }
        });
        let mut all = [const { Operand { ne: [0; 4], nb: [0; 4], bytes: &[] } }; ggml_sys::GGML_MAX_SRC as usize];
        let n = all.iter_mut().zip(operands).map(|(place, operand)| *place = operand).count();
        let Some(ptr) = NonNull::new((*node).data.cast::<f32>()) else { return };
        let out = Shared { ptr, len: (*node).ne.iter().product::<i64>() as usize, of: PhantomData };
        let share = Share { thread: thread as usize, n_threads: n_threads as usize };
        let work = &*worker.cast::<Arc<dyn Work>>();
        // Where other nodes need more threads, all of them come here.
        if thread == 0 || !work.is_alone() {
            work.run(share, &all[..n], out);
        }
    }
}
