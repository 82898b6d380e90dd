//! Cachalot runs DeepSeek-V3 and its relatives from GGUF files.

pub mod gguf;
pub mod text;
