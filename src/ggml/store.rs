//! Tensors whose data stays: weights in a mapped file, converted weights, caches; in RAM or on GPUs.

use super::gpu::Gpu;
use super::memory::Memory;
use super::pin::{Pinned, pages, pin};
use super::tensor::{Context, Ne, OutOfMemory, Tensor};
use super::upload::{Buffer, Upload};
use crate::gguf::{Gguf, Shape, TensorType};
use ggml_sys::{ggml_backend_buffer, ggml_tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What ggml's CPU backend wants of an address: `TENSOR_ALIGNMENT`.
const ALIGNMENT: usize = 32;

/// Tensors with their data, which lives as long as the store.
pub struct Store {
    context: Context,
    tensors: Vec<Stored>,
    /// Freed before what they lie in.
    pinned: Vec<Pinned>,
    buffers: Vec<Buffer>,
    memory: Vec<Memory>,
    /// Those that tensors lie on, by their numbers.
    gpus: BTreeMap<usize, OnGpu>,
    gguf: Option<Arc<Gguf>>,
    n_owned_bytes: usize,
    /// Held by whoever reads or writes data while the store is shared.
    data: RwLock<()>,
}

// SAFETY: no thread is tied to what a store holds.
unsafe impl Send for Store {}
// SAFETY: descriptions are only read, by all who hold the store. Data is read and written under the lock
// `data`: by computations, which take it for each store of their graph, and by the methods here.
unsafe impl Sync for Store {}

/// What a graph does with the data of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Read,
    Write,
}

/// The data of a store, for as long as this lives: shared with other readers, or for one alone.
pub(super) enum Access<'a> {
    Read { _guard: RwLockReadGuard<'a, ()> },
    Write { _guard: RwLockWriteGuard<'a, ()> },
}

#[derive(Clone, Copy)]
struct Stored {
    ptr: NonNull<ggml_tensor>,
    /// Its memory is ours, not the file's.
    owned: bool,
}

/// A tensor's place in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(usize);

#[cfg(test)]
impl StoreId {
    pub(super) fn nth(n: usize) -> StoreId {
        StoreId(n)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error("there is no tensor '{0}'")]
    NoTensor(String),
    #[error("{ty} data cannot have the shape {shape:?}")]
    Shape { ty: TensorType, shape: Ne },
    #[error("the store was made for fewer tensors")]
    Full,
    #[error("the tensor is the file's and is not written")]
    ReadOnly,
    #[error("{bytes} bytes at {offset} are not within a tensor of {len}")]
    Range { offset: usize, bytes: usize, len: usize },
}

/// Memory on a GPU from which tensors get theirs: one by one they would take whole pages of the driver's.
#[derive(Default)]
struct OnGpu {
    free: Option<Free>,
    upload: Option<Upload>,
    n_bytes: usize,
}

/// What is left of a buffer.
#[derive(Clone, Copy)]
struct Free {
    /// One of the store's.
    buffer: *mut ggml_backend_buffer,
    from: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: an address on a GPU, of no thread.
unsafe impl Send for Free {}

impl Store {
    /// A store for at most `capacity` tensors, of which those added by [`Store::map`] are `gguf`'s.
    pub fn new(capacity: usize, gguf: Option<Arc<Gguf>>) -> Result<Store, StoreError> {
        let context = Context::new(capacity, 0)?;
        let (tensors, buffers, memory) = (Vec::new(), Vec::new(), Vec::new());
        let (gpus, pinned, data) = (BTreeMap::new(), Vec::new(), RwLock::default());
        Ok(Store { context, tensors, pinned, buffers, memory, gpus, gguf, n_owned_bytes: 0, data })
    }

    /// Takes memory on a GPU for tensors to come, of so many bytes. Those that find no room there take more.
    pub fn reserve(&mut self, gpu: &Gpu, bytes: usize) -> Result<(), StoreError> {
        if bytes == 0 {
            return Ok(());
        }
        let buffer = Buffer::new(gpu.memory_type(), bytes)?;
        // SAFETY: the buffer is alive.
        unsafe {
            ggml_sys::ggml_backend_buffer_set_usage(buffer.as_ptr(), ggml_sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS)
        };
        let on_gpu = self.gpus.entry(gpu.facts().number).or_default();
        on_gpu.free = Some(Free { buffer: buffer.as_ptr(), from: buffer.base(), bytes });
        on_gpu.n_bytes += bytes;
        self.buffers.push(buffer);
        Ok(())
    }

    /// Adds a tensor of the file, copied to a GPU. `progress` is told of bytes on their way.
    pub fn upload(&mut self, name: &str, gpu: &Gpu, progress: &dyn Fn(u64)) -> Result<StoreId, StoreError> {
        let missing = || StoreError::NoTensor(name.to_owned());
        let gguf = self.gguf.clone().ok_or_else(missing)?;
        let tensor = gguf.tensor(name).ok_or_else(missing)?;
        let ptr = self.describe(tensor.info.ty, &tensor.info.shape)?;
        self.allocate_on(gpu, ptr)?;
        let on_gpu = self.gpus.entry(gpu.facts().number).or_default();
        let upload = match &mut on_gpu.upload {
            Some(upload) => upload,
            none => none.insert(Upload::new(gpu)?),
        };
        // SAFETY: in our context, and with memory by now.
        upload.copy(unsafe { Tensor::from_ptr(ptr) }, tensor.data, progress);
        Ok(self.push(Stored { ptr, owned: false }, name))
    }

    /// As [`Store::add`], on a GPU.
    pub fn add_on(&mut self, gpu: &Gpu, name: &str, ty: TensorType, shape: &Shape) -> Result<StoreId, StoreError> {
        let ptr = self.describe(ty, shape)?;
        self.allocate_on(gpu, ptr)?;
        // SAFETY: in our context, with memory, which is ours.
        unsafe {
            let bytes = ggml_sys::ggml_nbytes(ptr.as_ptr());
            ggml_sys::ggml_backend_tensor_memset(ptr.as_ptr(), 0, 0, bytes);
        }
        Ok(self.push(Stored { ptr, owned: true }, name))
    }

    /// Has GPUs read tensors that lie in RAM by themselves: it makes copies of them several times as fast. Brings all of
    /// them into memory. `false`, and nothing is changed, where the driver refuses.
    pub fn pin(&mut self, ids: &[StoreId]) -> bool {
        let addresses = |tensor: Tensor<'_>| {
            // SAFETY: alive, and with data, being stored.
            let start = unsafe { (*tensor.as_ptr()).data }.addr();
            start..start + tensor.n_bytes()
        };
        let in_ram = ids.iter().map(|id| self.get(*id)).filter(|tensor| tensor.is_in_ram());
        let ranges = in_ram.map(addresses).collect();
        // SAFETY: the pages hold data of the file's map or of ours, which is dropped later than this.
        let pinned: Option<Vec<Pinned>> = pages(ranges).par_iter().map(|pages| unsafe { pin(pages) }).collect();
        let Some(pinned) = pinned else { return false };
        self.pinned.extend(pinned);
        true
    }

    /// Gives back what was needed on the way to GPUs.
    pub fn end_uploads(&mut self) {
        self.gpus.values_mut().for_each(|gpu| gpu.upload = None);
    }

    /// Adds a tensor of the file, in the file's layout. Its data stays where it is mapped, unless its
    /// address is one that ggml cannot work with; then it is copied.
    pub fn map(&mut self, name: &str) -> Result<StoreId, StoreError> {
        let missing = || StoreError::NoTensor(name.to_owned());
        let gguf = self.gguf.clone().ok_or_else(missing)?;
        let tensor = gguf.tensor(name).ok_or_else(missing)?;
        let ptr = self.describe(tensor.info.ty, &tensor.info.shape)?;
        let owned = tensor.data.as_ptr().align_offset(ALIGNMENT) != 0;
        if owned {
            self.allocate(ptr)?;
            write_to(ptr, 0, tensor.data)?;
        } else {
            let data = tensor.data.as_ptr().cast_mut().cast::<c_void>();
            // SAFETY: the data is `gguf`'s, which this store keeps; what is not owned is not written.
            unsafe { self.place(ptr, data, tensor.data.len())? };
        }
        Ok(self.push(Stored { ptr, owned }, name))
    }

    /// Adds a tensor with memory of its own, which holds zeros.
    pub fn add(&mut self, name: &str, ty: TensorType, shape: &Shape) -> Result<StoreId, StoreError> {
        let ptr = self.describe(ty, shape)?;
        self.allocate(ptr)?;
        Ok(self.push(Stored { ptr, owned: true }, name))
    }

    /// Writes `bytes` at `offset` of a tensor that was made by [`Store::add`].
    pub fn write(&mut self, id: StoreId, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        match self.tensors[id.0] {
            Stored { ptr, owned: true } => write_to(ptr, offset, bytes),
            Stored { owned: false, .. } => Err(StoreError::ReadOnly),
        }
    }

    /// Copies out `out.len()` bytes from `offset` of a tensor.
    pub fn read(&self, id: StoreId, offset: usize, out: &mut [u8]) -> Result<(), StoreError> {
        let tensor = self.get(id);
        within(tensor, offset, out.len())?;
        let _access = self.access(Use::Read);
        // SAFETY: the range is within the tensor, whose buffer is alive.
        unsafe { ggml_sys::ggml_backend_tensor_get(tensor.as_ptr(), out.as_mut_ptr().cast(), offset, out.len()) };
        Ok(())
    }

    /// Sets bytes of a tensor that was made by [`Store::add`] to zero, once no computation uses the store.
    pub(super) fn zero(&self, id: StoreId, range: Range<usize>) -> Result<(), StoreError> {
        let tensor = self.get(id);
        if !self.tensors[id.0].owned {
            return Err(StoreError::ReadOnly);
        }
        within(tensor, range.start, range.len())?;
        let _access = self.access(Use::Write);
        // SAFETY: the range is within the tensor, whose buffer is alive and ours.
        unsafe { ggml_sys::ggml_backend_tensor_memset(tensor.as_ptr(), 0, range.start, range.len()) };
        Ok(())
    }

    /// Writes bytes of a tensor that was made by [`Store::add`], once no computation uses the store.
    pub(super) fn put(&self, id: StoreId, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let Stored { ptr, owned: true } = self.tensors[id.0] else { return Err(StoreError::ReadOnly) };
        let _access = self.access(Use::Write);
        write_to(ptr, offset, bytes)
    }

    /// Waits until the data can be had.
    pub(super) fn access(&self, usage: Use) -> Access<'_> {
        match usage {
            Use::Read => Access::Read { _guard: self.data.read().unwrap_or_else(PoisonError::into_inner) },
            Use::Write => Access::Write { _guard: self.data.write().unwrap_or_else(PoisonError::into_inner) },
        }
    }

    /// Whether the tensor's memory is ours to write; `None` if the tensor is not in this store.
    pub(super) fn is_owned(&self, tensor: Tensor<'_>) -> Option<bool> {
        self.tensors.iter().find(|stored| stored.ptr == tensor.as_non_null()).map(|stored| stored.owned)
    }

    pub fn get(&self, id: StoreId) -> Tensor<'_> {
        // SAFETY: the tensor is in our context.
        unsafe { Tensor::from_ptr(self.tensors[id.0].ptr) }
    }

    /// Tensors in the store.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Bytes of RAM that are not the file's.
    pub fn n_owned_bytes(&self) -> usize {
        self.n_owned_bytes
    }

    /// Bytes of memory on GPUs.
    pub fn n_gpu_bytes(&self) -> usize {
        self.gpus.values().map(|gpu| gpu.n_bytes).sum()
    }

    fn describe(&mut self, ty: TensorType, shape: &Shape) -> Result<NonNull<ggml_tensor>, StoreError> {
        let ne = shape.ne().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let error = StoreError::Shape { ty, shape: ne };
        if shape.n_bytes(ty).is_none_or(|bytes| bytes == 0) {
            return Err(error);
        }
        if !self.context.has_room(1) {
            return Err(StoreError::Full);
        }
        // SAFETY: the shape fits the type, and the context has room.
        let ptr = unsafe { ggml_sys::ggml_new_tensor(self.context.as_ptr(), ty.id(), 4, ne.as_ptr()) };
        NonNull::new(ptr).ok_or(StoreError::Full)
    }

    fn allocate(&mut self, ptr: NonNull<ggml_tensor>) -> Result<(), StoreError> {
        // SAFETY: the tensor is ours.
        let bytes = unsafe { ggml_sys::ggml_nbytes(ptr.as_ptr()) };
        let memory = Memory::zeroed(bytes)?;
        // SAFETY: this store keeps the memory, which has the tensor's size.
        unsafe { self.place(ptr, memory.as_ptr(), bytes)? };
        self.memory.push(memory);
        self.n_owned_bytes += bytes;
        Ok(())
    }

    /// Gives the tensor memory on a GPU: of what was reserved, or more.
    fn allocate_on(&mut self, gpu: &Gpu, ptr: NonNull<ggml_tensor>) -> Result<(), StoreError> {
        let ty = gpu.memory_type();
        // SAFETY: the type is static, the tensor ours.
        let (bytes, alignment) = unsafe {
            let bytes = ggml_sys::ggml_backend_buft_get_alloc_size(ty, ptr.as_ptr());
            (bytes, ggml_sys::ggml_backend_buft_get_alignment(ty).max(1))
        };
        let bytes = bytes.next_multiple_of(alignment);
        let number = gpu.facts().number;
        let fits = |on_gpu: &OnGpu| on_gpu.free.is_some_and(|free| free.bytes >= bytes);
        if !self.gpus.get(&number).is_some_and(fits) {
            self.reserve(gpu, bytes)?;
        }
        let free = self.gpus.get_mut(&number).and_then(|on_gpu| on_gpu.free.as_mut());
        let free = free.ok_or(OutOfMemory { bytes })?;
        // SAFETY: from there on there are at least as many bytes in the buffer, and the tensor has no data yet.
        unsafe { ggml_sys::ggml_backend_tensor_alloc(free.buffer, ptr.as_ptr(), free.from.as_ptr()) };
        free.bytes -= bytes;
        // SAFETY: within the buffer, or right behind it.
        free.from = unsafe { free.from.byte_add(bytes) };
        Ok(())
    }

    /// Has the tensor's data lie at `data`.
    ///
    /// # Safety
    /// The store keeps the `bytes` bytes there, which are as many as the tensor has.
    unsafe fn place(&mut self, ptr: NonNull<ggml_tensor>, data: *mut c_void, bytes: usize) -> Result<(), StoreError> {
        // SAFETY: `data` is aligned: the file's was looked at, and memory of our own is.
        let buffer = unsafe { ggml_sys::ggml_backend_cpu_buffer_from_ptr(data, bytes) };
        // SAFETY: just made.
        let buffer = unsafe { Buffer::from_ptr(NonNull::new(buffer).ok_or(OutOfMemory { bytes })?) };
        // SAFETY: the buffer is as large as the tensor, which has no data yet.
        unsafe {
            ggml_sys::ggml_backend_buffer_set_usage(buffer.as_ptr(), ggml_sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            ggml_sys::ggml_backend_tensor_alloc(buffer.as_ptr(), ptr.as_ptr(), data);
        }
        self.buffers.push(buffer);
        Ok(())
    }

    fn push(&mut self, stored: Stored, name: &str) -> StoreId {
        // SAFETY: the tensor is in our context.
        unsafe { Tensor::from_ptr(stored.ptr) }.named(name);
        self.tensors.push(stored);
        StoreId(self.tensors.len() - 1)
    }
}

/// Writes to a tensor whose memory is ours.
fn write_to(ptr: NonNull<ggml_tensor>, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
    // SAFETY: the caller has the tensor from a store that it holds.
    within(unsafe { Tensor::from_ptr(ptr) }, offset, bytes.len())?;
    // SAFETY: the range is within the tensor.
    unsafe { ggml_sys::ggml_backend_tensor_set(ptr.as_ptr(), bytes.as_ptr().cast(), offset, bytes.len()) };
    Ok(())
}

fn within(tensor: Tensor<'_>, offset: usize, bytes: usize) -> Result<(), StoreError> {
    let len = tensor.n_bytes();
    match offset.checked_add(bytes) {
        Some(end) if end <= len => Ok(()),
        _ => Err(StoreError::Range { offset, bytes, len }),
    }
}
