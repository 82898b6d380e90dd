//! What can be wrong with a vocabulary, and what a vocabulary can lack.

use super::byte_level;
use super::split::PreTokenizer;
use crate::gguf::{self, MetadataError};
use crate::text::Escaped;
use std::path::PathBuf;

/// A vocabulary that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the tokenizer model '{}' is not supported; only 'gpt2', byte-level BPE, is", Escaped(.0))]
    Model(String),
    #[error("the pre-tokenizer '{}' (tokenizer.ggml.pre) is not supported; these are: {}", Escaped(.0), supported())]
    PreTokenizer(String),
    #[error("{0} tokens; at most {max} can have an id", max = u32::MAX)]
    TooManyTokens(usize),
    #[error("{types} token types for {tokens} tokens: the arrays of tokenizer.ggml must be of one length")]
    TypeCount { tokens: usize, types: usize },
    #[error("token {id} has type {ty}; a byte-level vocabulary knows the types 1 to 5")]
    TokenType { id: u32, ty: i32 },
    #[error("token {0} is empty")]
    EmptyToken(u32),
    #[error("tokens {first} and {second} are both '{}'", Escaped(text))]
    DuplicateToken { text: String, first: u32, second: u32 },
    #[error("no token for the byte {byte:#04x} ('{}'): some text could not be spelled", byte_level::char_of(*.byte))]
    MissingByte { byte: u8 },
    #[error("merge {rank}, '{}', is not two tokens with a space between", Escaped(text))]
    MergeForm { rank: u32, text: String },
    #[error("merge {rank}, '{}', needs '{}', which is no ordinary token", Escaped(text), Escaped(token))]
    MergeToken { rank: u32, text: String, token: String },
    #[error("{key} is {id}, but the vocabulary ends before {n_tokens}")]
    IdRange { key: &'static str, id: u32, n_tokens: usize },
    #[error("the special tokens cannot be searched for: {0}")]
    Specials(#[from] aho_corasick::BuildError),
    #[error("the merges cannot be used: {0}")]
    Merges(tokenizers::Error),
}

/// A model whose tokenizer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error("{}: {error}", Escaped(&path.to_string_lossy()))]
    Vocabulary { path: PathBuf, error: Error },
}

/// A token that the vocabulary lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownToken {
    #[error("the vocabulary has no special token '{}'", Escaped(.0))]
    Special(String),
    #[error("there is no token {id}: the vocabulary ends before {n_tokens}")]
    Id { id: u32, n_tokens: usize },
}

fn supported() -> String {
    PreTokenizer::ALL.map(|(name, _)| name).join(", ")
}
