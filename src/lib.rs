//! Cachalot runs DeepSeek-V3 and its relatives from GGUF files on one workstation.
//!
//! # The rooms
//!
//! - `cli`: flags to commands, one file a command; output discipline.
//! - `catalog`: the models of `models.toml`, and their files: from the hub to the disk.
//! - `engine`: a loaded model that answers: the token loop, sampler, stop rules.
//! - `asking`: what is the same of every question to an open model: the frame of its conversations, how its tokens are
//!   picked, what its answer must look like.
//! - `chat`: conversations to prompts and generated text to answers; one file a template family.
//! - `experts`: the CPU's kernels: the routed experts and the matrices beside them, in the file's own layout.
//! - `graph`: the deepseek2 forward pass as ggml graphs: attention, experts, router, cache.
//! - `placement`: what of a model lies where, and how fast that is; numbers only.
//! - `machine`: this machine as it measures itself, and those that a file describes.
//! - `plan`: a model on a machine, before anything is loaded.
//! - `quality`: how well a text is predicted: perplexity, divergence, saved predictions; numbers only.
//! - `model`: what a GGUF file means: configuration and weights, tensor classes, the report of `inspect`.
//! - `quantize`: which tensor of a quantised file is stored in which type, and how much its columns matter.
//! - `server`: a model that answers over HTTP, in the protocols that other programs speak.
//! - `session`: chats that are kept, as trees of turns, and what is cached of them; numbers and files only.
//! - `synth`: files of random weights with real layer shapes, to measure speed on.
//! - `tokenizer`: text to tokens and back, by the vocabulary in the file.
//! - `gguf`: parse, map, split, and the writer.
//! - `ggml`: the only safe door to `ggml-sys`.
//! - `terminal`: what a terminal shows, as text: Markdown while it is written, widths, changing lines.
//! - `exit`: the exit codes, and which error means which; `last_words`: what is done before the process aborts;
//!   `text`: file text made fit for a terminal; `files`: files that are replaced whole or not at all, and locks.
//!
//! Dependencies only fall: `cli` → `plan`, `server`, `session`, `asking`; `server` → `asking` → `engine`, `chat`, `catalog`; `plan` → `machine`, `synth`,
//! `catalog`; `machine` → `engine`, `placement`; `engine` → `graph`, `tokenizer`; `session` → `chat` → `tokenizer` →
//! `gguf`; `catalog` → `gguf`; `graph`, `synth` → `quantize`, `model` → `gguf`, `ggml` → `ggml-sys`; `engine`, `machine`,
//! `graph` → `experts` → `ggml`; `engine`, `graph` → `placement`, which needs nothing. `cli` names no type of `gguf` or `ggml`. `unsafe` is allowed
//! in `ggml`, `experts` and the mapping of files, nowhere else.

pub mod asking;
pub mod catalog;
pub mod chat;
pub mod cli;
pub mod engine;
pub mod exit;
pub mod experts;
mod files;
pub mod ggml;
pub mod gguf;
pub mod graph;
pub mod last_words;
pub mod machine;
pub mod model;
pub mod placement;
pub mod plan;
pub mod quality;
pub mod quantize;
pub mod server;
pub mod session;
pub mod synth;
pub mod terminal;
pub mod text;
pub mod tokenizer;
