//! Which model it is: a number that differs where two models would compute different things.
//!
//! Made without reading the weights, which may be hundreds of gigabytes.

use crate::gguf::Gguf;
use std::fmt;

/// A model's fingerprint: a hash of the headers of its files, their sizes, and a sample of its weights, since two
/// trainings of one architecture may have the same header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Fingerprint::BYTES]);

/// Of these tensors the first bytes are looked at: few, in all layers, and read by the first token anyway.
const SAMPLED: [&str; 2] = ["output_norm.weight", "attn_kv_a_mqa.weight"];
const SAMPLE_BYTES: usize = 4096;

impl Fingerprint {
    pub const BYTES: usize = 32;

    pub fn of(gguf: &Gguf) -> Fingerprint {
        let mut hash = blake3::Hasher::new();
        for shard in gguf.shards() {
            let header = shard.header_bytes();
            hash.update(&(header.len() as u64).to_le_bytes());
            hash.update(header);
            hash.update(&shard.len().to_le_bytes());
        }
        for tensor in gguf.tensors().filter(|tensor| SAMPLED.iter().any(|name| tensor.info.name.ends_with(name))) {
            hash.update(tensor.data.get(..SAMPLE_BYTES).unwrap_or(tensor.data));
        }
        Fingerprint(hash.finalize().into())
    }

    pub fn from_bytes(bytes: [u8; Fingerprint::BYTES]) -> Fingerprint {
        Fingerprint(bytes)
    }

    pub fn bytes(&self) -> &[u8; Fingerprint::BYTES] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
