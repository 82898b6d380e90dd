//! The demo model: a small DeepSeek-V3 that the program carries, so that it answers before anything is
//! downloaded. `tools/demo` says how it was made.

use crate::gguf::Source;

pub(super) const NAME: &str = "demo";

/// Bytes at an address that suits the tensors in them: GGUF aligns them within the file, to 32.
#[cfg(feature = "demo")]
#[repr(C, align(64))]
struct Aligned<Bytes: ?Sized>(Bytes);

#[cfg(feature = "demo")]
static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../../assets/demo.gguf"));

#[cfg(feature = "demo")]
pub(super) fn source() -> Option<Source> {
    Some(Source::Embedded { name: NAME, bytes: &MODEL.0 })
}

#[cfg(not(feature = "demo"))]
pub(super) fn source() -> Option<Source> {
    None
}
