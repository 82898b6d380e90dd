//! Quantised files: which tensor is stored in which type.

mod mix;

pub use mix::{Mix, UnknownMix};
