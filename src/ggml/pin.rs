//! Memory that GPUs read by themselves: pages that the driver knows, and that stay where they are.
//!
//! Copies from other memory go through a buffer of the driver's, at about an eighth of the speed.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;

/// A range of addresses while the driver knows it.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(super) struct Pinned(NonNull<c_void>);

// SAFETY: the driver may be told from any thread.
unsafe impl Send for Pinned {}
// SAFETY: nothing is done with it but to drop it.
unsafe impl Sync for Pinned {}

const PAGE: usize = 4096;

/// Whole pages that hold the ranges. What shares a page, or lies side by side, becomes one: a page is made known once,
/// and a copy must not go from one range into another.
pub(super) fn pages(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut pages: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        let (start, end) = (range.start / PAGE * PAGE, range.end.next_multiple_of(PAGE));
        match pages.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => pages.push(start..end),
        }
    }
    pages
}

/// Makes pages known to the driver; `None` if it refuses.
///
/// # Safety
/// The pages are mapped, and stay so for longer than what is returned.
#[cfg(feature = "cuda")]
pub(super) unsafe fn pin(pages: &Range<usize>) -> Option<Pinned> {
    const PORTABLE: u32 = 1;
    const READ_ONLY: u32 = 8;
    let start = NonNull::new(pages.start as *mut c_void)?;
    // Memory of a file that is mapped to be read can only be had as such, which not every driver offers.
    // SAFETY: the caller's word.
    let is_pinned = |flags| unsafe { ggml_sys::cudaHostRegister(start.as_ptr(), pages.len(), flags) } == 0;
    let pinned = is_pinned(PORTABLE | READ_ONLY) || is_pinned(PORTABLE);
    if !pinned {
        // SAFETY: only forgets the error, which ggml would take for one of its own.
        unsafe { ggml_sys::cudaGetLastError() };
    }
    pinned.then_some(Pinned(start))
}

/// Without CUDA there is nobody to make them known to.
#[cfg(not(feature = "cuda"))]
pub(super) unsafe fn pin(_: &Range<usize>) -> Option<Pinned> {
    None
}

impl Drop for Pinned {
    fn drop(&mut self) {
        #[cfg(feature = "cuda")]
        // SAFETY: known to the driver since this was made.
        unsafe {
            ggml_sys::cudaHostUnregister(self.0.as_ptr());
            ggml_sys::cudaGetLastError();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole_and_apart() {
        let found = pages(vec![9000..9001, 0..10, 4095..4097, 20_480..24_576, 24_576..24_577, 40_000..50_000]);
        assert_eq!(found, [0..12_288, 20_480..28_672, 36_864..53_248]);
        assert!(pages(Vec::new()).is_empty());
    }
}
