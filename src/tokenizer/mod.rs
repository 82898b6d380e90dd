//! Text to tokens and back.

mod segment;

pub use segment::Segment;
