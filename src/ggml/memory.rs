//! Memory that may be refused: ggml ends the process where the system has none left for it, so it is asked
//! for here.

use super::tensor::OutOfMemory;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr::NonNull;

/// What ggml's vector code likes of an address; its own buffers have it too.
const ALIGNMENT: usize = 64;
/// What the C library gives of its own accord. Zeros come for free only if no more is asked for.
const NATURAL: usize = 16;

/// Zeroed memory. Pages are not touched before they are used.
pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: memory of no thread.
unsafe impl Send for Memory {}
// SAFETY: shared, only its address can be asked for.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn zeroed(bytes: usize) -> Result<Memory, OutOfMemory> {
        let refused = || OutOfMemory { bytes };
        let size = bytes.checked_add(ALIGNMENT).ok_or_else(refused)?;
        let layout = Layout::from_size_align(size, NATURAL).map_err(|_| refused())?;
        // SAFETY: the size is not 0. The compiler must not do without the allocation, whose success counts
        // even where nothing is put into it.
        let base = std::hint::black_box(unsafe { alloc_zeroed(layout) });
        let base = NonNull::new(base).ok_or_else(refused)?;
        Ok(Memory { base, layout })
    }

    /// The first aligned address, from which on there are as many bytes as were asked for.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        let padding = self.base.as_ptr().align_offset(ALIGNMENT);
        // SAFETY: there are ALIGNMENT bytes more than were asked for.
        unsafe { self.base.as_ptr().add(padding.min(ALIGNMENT)) }.cast()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; whoever used it kept it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_and_aligned() {
        for bytes in [0, 1, 63, 4096, 1 << 20] {
            let memory = Memory::zeroed(bytes).unwrap();
            assert!(memory.as_ptr().cast::<[u8; 64]>().addr().is_multiple_of(ALIGNMENT));
            // SAFETY: as many bytes as were asked for.
            let content = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), bytes) };
            assert!(content.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn too_much_is_refused() {
        for bytes in [1 << 56, isize::MAX as usize, usize::MAX] {
            assert_eq!(Memory::zeroed(bytes).err(), Some(OutOfMemory { bytes }));
        }
    }
}
