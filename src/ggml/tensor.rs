//! Contexts and the tensors in them.
//!
//! A context holds descriptions of tensors, never their data. Tensors are handles that cannot outlive
//! their context; what may be asked of one is asked of the description, which nothing changes any more.

use super::memory::Memory;
use crate::gguf::TensorType;
use ggml_sys::{ggml_context, ggml_tensor};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Dimensions in ggml order; those not used are 1.
pub type Ne = [i64; 4];

/// Memory for the descriptions of tensors and graphs.
pub(super) struct Context {
    ptr: NonNull<ggml_context>,
    /// What the context lies in.
    _memory: Memory,
}

// SAFETY: a context is memory with descriptions; no thread is tied to it.
unsafe impl Send for Context {}
// SAFETY: shared, it is only read: everything that allocates in it takes the one builder that owns it, or
// the store that owns it by `&mut`.
unsafe impl Sync for Context {}

impl Context {
    /// A context with room for `n_tensors` descriptions, exactly, and `more` bytes, which are taken first.
    pub(super) fn new(n_tensors: usize, more: usize) -> Result<Context, OutOfMemory> {
        let none = OutOfMemory { bytes: usize::MAX };
        let bytes = n_tensors.checked_mul(overhead()).and_then(|bytes| bytes.checked_add(more)).ok_or(none)?;
        let memory = Memory::zeroed(bytes)?;
        // ggml takes a size of 0 for one that is not given.
        let params = ggml_sys::ggml_init_params { mem_size: bytes.max(1), mem_buffer: memory.as_ptr(), no_alloc: true };
        // SAFETY: the memory is as large as is said, aligned, and kept with the context.
        let ptr = unsafe { ggml_sys::ggml_init(params) };
        Ok(Context { ptr: NonNull::new(ptr).ok_or(OutOfMemory { bytes })?, _memory: memory })
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_context {
        self.ptr.as_ptr()
    }

    /// Whether the descriptions of `n` more tensors fit; ggml ends the process where they do not.
    pub(super) fn has_room(&self, n: usize) -> bool {
        // SAFETY: the context is alive.
        let (used, size) =
            unsafe { (ggml_sys::ggml_used_mem(self.as_ptr()), ggml_sys::ggml_get_mem_size(self.as_ptr())) };
        n.checked_mul(overhead()).and_then(|bytes| bytes.checked_add(used)).is_some_and(|end| end <= size)
    }
}

/// Bytes of a tensor's description.
fn overhead() -> usize {
    // SAFETY: the function only returns a number.
    unsafe { ggml_sys::ggml_tensor_overhead() }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and tensors borrow it or are kept with it.
        unsafe { ggml_sys::ggml_free(self.as_ptr()) }
    }
}

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("not enough memory: {:.2} GiB more cannot be had", *bytes as f64 / f64::from(1 << 30))]
pub struct OutOfMemory {
    pub bytes: usize,
}

/// A tensor of a context that lives for `'c`. The lifetime is invariant: a tensor of one graph cannot
/// become part of another.
#[derive(Clone, Copy)]
pub struct Tensor<'c> {
    ptr: NonNull<ggml_tensor>,
    context: PhantomData<Cell<&'c Context>>,
}

impl<'c> Tensor<'c> {
    /// # Safety
    /// `ptr` points to a tensor in a context that lives for `'c`.
    pub(super) unsafe fn from_ptr(ptr: NonNull<ggml_tensor>) -> Tensor<'c> {
        Tensor { ptr, context: PhantomData }
    }

    pub(super) fn as_ptr(self) -> *mut ggml_tensor {
        self.ptr.as_ptr()
    }

    pub(super) fn as_non_null(self) -> NonNull<ggml_tensor> {
        self.ptr
    }

    /// Dimensions.
    pub fn ne(self) -> Ne {
        // SAFETY: alive by construction, and written only while it was made.
        unsafe { (*self.as_ptr()).ne }
    }

    /// Strides in bytes.
    pub fn nb(self) -> [usize; 4] {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).nb }
    }

    /// The type, in ggml's numbers.
    pub(super) fn type_id(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).type_ }
    }

    /// `None` for a type that no file has.
    pub fn ty(self) -> Option<TensorType> {
        TensorType::from_id(self.type_id())
    }

    pub fn is(self, ty: TensorType) -> bool {
        self.type_id() == ty.id()
    }

    /// The name that it was stored under, of which ggml keeps 63 bytes.
    pub fn name(self) -> String {
        // SAFETY: alive by construction; ggml ends names with a NUL.
        let name = unsafe { CStr::from_ptr(ggml_sys::ggml_get_name(self.as_ptr())) };
        name.to_string_lossy().into_owned()
    }

    pub fn n_elements(self) -> i64 {
        self.ne().iter().product()
    }

    /// Bytes from the first to behind the last element.
    pub fn n_bytes(self) -> usize {
        // SAFETY: alive by construction.
        unsafe { ggml_sys::ggml_nbytes(self.as_ptr()) }
    }

    pub fn is_contiguous(self) -> bool {
        // SAFETY: alive by construction.
        unsafe { ggml_sys::ggml_is_contiguous(self.as_ptr()) }
    }

    /// Whether each row is contiguous, and its elements in order.
    pub(super) fn has_contiguous_rows(self) -> bool {
        // SAFETY: alive by construction.
        unsafe { ggml_sys::ggml_is_contiguous_rows(self.as_ptr()) }
    }

    /// Whether the CPU can reach its data. What a graph computes counts as being where it is needed.
    pub fn is_in_ram(self) -> bool {
        // SAFETY: alive by construction, and so is the buffer of a stored tensor.
        unsafe {
            let buffer = (*self.root().as_ptr()).buffer;
            buffer.is_null() || ggml_sys::ggml_backend_buffer_is_host(buffer)
        }
    }

    /// Whether it is F32 with rows that are contiguous each.
    pub fn has_float_rows(self) -> bool {
        self.is(TensorType::F32) && self.nb()[0] == size_of::<f32>()
    }

    /// Whether its rows are whole, one behind the other.
    pub fn has_whole_rows(self) -> bool {
        self.is_contiguous()
    }

    pub(super) fn is_transposed(self) -> bool {
        self.nb()[0] > self.nb()[1]
    }

    /// Whether it is the result of an operation, views included, and not data from elsewhere.
    pub(super) fn is_computed(self) -> bool {
        // SAFETY: alive by construction.
        unsafe { (*self.as_ptr()).op != ggml_sys::GGML_OP_NONE }
    }

    /// The tensor that this one is a view of, through all views between.
    pub(super) fn root(self) -> Tensor<'c> {
        // SAFETY: alive by construction; ggml keeps the last of all tensors viewed, which live as long.
        NonNull::new(unsafe { (*self.as_ptr()).view_src }).map_or(self, |ptr| Tensor { ptr, context: PhantomData })
    }

    pub(super) fn is_view(self) -> bool {
        self.root().ptr != self.ptr
    }

    /// Where in its root's data a view begins.
    pub(super) fn view_offset(self) -> usize {
        // SAFETY: alive by construction.
        unsafe { (*self.as_ptr()).view_offs }
    }

    /// Gives the tensor a name, which ggml's messages then carry. Whoever calls it has made the tensor:
    /// one that is shared must not be written.
    pub(super) fn named(self, name: &str) -> Self {
        // ggml itself names what has no name, when it is shared already.
        let name = if name.is_empty() { "tensor" } else { name };
        let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
        if let Ok(name) = CString::new(name) {
            // SAFETY: ggml copies at most 63 bytes of a NUL-terminated string.
            unsafe { ggml_sys::ggml_set_name(self.as_ptr(), name.as_ptr()) };
        }
        self
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ty = self.ty().map_or("?", TensorType::name);
        write!(f, "{ty} {}", Dims(self.ne()))
    }
}

/// Dimensions as they are written: without the ones at the end.
pub(super) struct Dims(pub(super) Ne);

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|n| *n != 1).map_or(1, |last| last + 1);
        let dims: Vec<String> = self.0.iter().take(used).map(i64::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}
