//! Data on its way to a GPU: through memory that the GPU reads by itself, in pieces, of which one is filled while
//! another is copied.

use super::gpu::Gpu;
use super::tensor::{OutOfMemory, Tensor};
use ggml_sys::{ggml_backend, ggml_backend_buffer, ggml_backend_event};
use rayon::prelude::*;
use std::ptr::NonNull;

/// Bytes that are copied at once: enough that a copy is not held up by its beginning.
const PIECE: usize = 32 << 20;

/// Bytes that one thread fills before it takes others.
const SHARE: usize = 1 << 20;

/// The way to one GPU.
pub(super) struct Upload {
    pieces: Vec<Piece>,
    next: usize,
    backend: Device,
}

struct Piece {
    /// Says when the copy is done.
    event: Event,
    base: NonNull<u8>,
    _buffer: Buffer,
}

// SAFETY: memory, events and streams of no thread.
unsafe impl Send for Upload {}

impl Upload {
    pub(super) fn new(gpu: &Gpu) -> Result<Upload, OutOfMemory> {
        let backend = Device::new(gpu)?;
        let pieces = (0..2).map(|_| Piece::new(gpu)).collect::<Result<_, _>>()?;
        Ok(Upload { pieces, next: 0, backend })
    }

    /// Copies `data`, all of the tensor's, which has its memory on this GPU. `progress` is told of bytes on their way.
    pub(super) fn copy(&mut self, tensor: Tensor<'_>, data: &[u8], progress: &dyn Fn(u64)) {
        debug_assert_eq!(tensor.n_bytes(), data.len());
        for (n, bytes) in data.chunks(PIECE).enumerate() {
            let piece = &self.pieces[self.next];
            piece.event.wait();
            // SAFETY: the buffer has as many bytes, and nothing reads them any more.
            let staged = unsafe { std::slice::from_raw_parts_mut(piece.base.as_ptr(), bytes.len()) };
            staged.par_chunks_mut(SHARE).zip(bytes.par_chunks(SHARE)).for_each(|(to, from)| to.copy_from_slice(from));
            // SAFETY: within the tensor; the bytes stay until the event has come.
            unsafe {
                let (offset, len) = (n * PIECE, bytes.len());
                ggml_sys::ggml_backend_tensor_set_async(
                    self.backend.0.as_ptr(),
                    tensor.as_ptr(),
                    staged.as_ptr().cast(),
                    offset,
                    len,
                );
            }
            piece.event.record(&self.backend);
            self.next = (self.next + 1) % self.pieces.len();
            progress(bytes.len() as u64);
        }
        // Others compute with it on other streams.
        self.backend.wait();
    }
}

impl Piece {
    fn new(gpu: &Gpu) -> Result<Piece, OutOfMemory> {
        let buffer = Buffer::new(gpu.pinned_type(), PIECE)?;
        let base = buffer.base().cast::<u8>();
        Ok(Piece { event: Event::new(gpu)?, base, _buffer: buffer })
    }
}

/// Memory of any kind.
pub(super) struct Buffer(NonNull<ggml_backend_buffer>);

impl Buffer {
    /// # Errors
    /// If there is no type of buffer, or no memory.
    pub(super) fn new(ty: *mut ggml_sys::ggml_backend_buffer_type, bytes: usize) -> Result<Buffer, OutOfMemory> {
        let refused = OutOfMemory { bytes };
        if ty.is_null() {
            return Err(refused);
        }
        // SAFETY: the type is one of a device, which are static.
        let buffer = unsafe { ggml_sys::ggml_backend_buft_alloc_buffer(ty, bytes) };
        NonNull::new(buffer).map(Buffer).ok_or(refused)
    }

    /// # Safety
    /// The buffer is nobody else's.
    pub(super) unsafe fn from_ptr(ptr: NonNull<ggml_backend_buffer>) -> Buffer {
        Buffer(ptr)
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_backend_buffer {
        self.0.as_ptr()
    }

    pub(super) fn base(&self) -> NonNull<std::ffi::c_void> {
        // SAFETY: the buffer is alive; one without bytes has no base, and none is made.
        let base = unsafe { ggml_sys::ggml_backend_buffer_get_base(self.0.as_ptr()) };
        NonNull::new(base).unwrap_or(NonNull::dangling())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the buffer is ours; tensors in it are kept with it.
        unsafe { ggml_sys::ggml_backend_buffer_free(self.0.as_ptr()) }
    }
}

/// A GPU's streams.
pub(super) struct Device(NonNull<ggml_backend>);

// SAFETY: streams of no thread. Who shares a device sees to it that it is used by one thread at a time.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn new(gpu: &Gpu) -> Result<Device, OutOfMemory> {
        // SAFETY: the device is static.
        let backend = unsafe { ggml_sys::ggml_backend_dev_init(gpu.as_ptr(), std::ptr::null()) };
        NonNull::new(backend).map(Device).ok_or(OutOfMemory { bytes: 1 << 20 })
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_backend {
        self.0.as_ptr()
    }

    /// Waits until everything that was asked of it is done.
    pub(super) fn wait(&self) {
        // SAFETY: alive.
        unsafe { ggml_sys::ggml_backend_synchronize(self.0.as_ptr()) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { ggml_sys::ggml_backend_free(self.0.as_ptr()) }
    }
}

/// A moment on the way of a device.
pub(super) struct Event(NonNull<ggml_backend_event>);

// SAFETY: of no thread.
unsafe impl Send for Event {}
// SAFETY: the driver allows for several threads.
unsafe impl Sync for Event {}

impl Event {
    pub(super) fn new(gpu: &Gpu) -> Result<Event, OutOfMemory> {
        // SAFETY: the device is static.
        let event = unsafe { ggml_sys::ggml_backend_event_new(gpu.as_ptr()) };
        NonNull::new(event).map(Event).ok_or(OutOfMemory { bytes: 1 << 10 })
    }

    /// What was asked of the device until now.
    pub(super) fn record(&self, device: &Device) {
        // SAFETY: both are alive, and of the same GPU.
        unsafe { ggml_sys::ggml_backend_event_record(self.0.as_ptr(), device.as_ptr()) }
    }

    /// Has what is asked of the device from now on come after the moment.
    pub(super) fn wait_on(&self, device: &Device) {
        // SAFETY: as above.
        unsafe { ggml_sys::ggml_backend_event_wait(device.as_ptr(), self.0.as_ptr()) }
    }

    /// Returns at once where nothing was recorded.
    pub(super) fn wait(&self) {
        // SAFETY: alive.
        unsafe { ggml_sys::ggml_backend_event_synchronize(self.0.as_ptr()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing waits for it.
        unsafe { ggml_sys::ggml_backend_event_free(self.0.as_ptr()) }
    }
}
