//! From a loaded model to text: what the token loop is made of.
//!
//! - [`sampler`]: logits to the next token.
//! - [`stop`]: when an answer ends because of what it says.
//!
//! This room knows no HTTP and no terminal.

pub mod sampler;
pub mod stop;
