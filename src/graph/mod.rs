//! The deepseek2 forward pass as ggml graphs.
//!
//! `step` lays the layers, `attention` and `feed_forward` are what is in one, `router` chooses experts, `observe`
//! measures what goes into matrices. `cells` and `cache` keep what was computed for earlier tokens, `rows` takes
//! it out and puts it back. `devices` says what lies on which GPU. `scratch` says beforehand how much memory a step takes. `forward` is all of it behind one
//! door: tokens in, logits out.

mod attention;
mod cache;
mod cells;
mod costs;
mod devices;
mod feed_forward;
mod forward;
mod observe;
mod router;
mod rows;
mod scratch;
mod sending;
mod step;

pub use cache::CacheType;
pub use cells::Seq;
pub use devices::{Devices, Streams};
pub use forward::{Absorb, Fault, Forward, LoadError, Options, StepError, Token};
pub use observe::Seen;
pub use router::Routing;
pub use rows::RowsError;
pub use scratch::{expert_scratch_bytes, kernel_scratch_bytes, scratch_bytes};
pub use sending::Sharing;
