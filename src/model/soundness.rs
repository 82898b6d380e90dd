//! Whether a file that is well-formed also makes sense: tensors, hyperparameters and vocabulary held
//! against each other, and, on request, every value looked at.
//!
//! Says only what is certainly wrong for the architectures it speaks of: a file of an architecture
//! that this program cannot run must still pass if its own program would take it.

use super::class::{Class, Role};
use super::finite::first_bad_block;
use super::hparams::{Hparams, MAX_PER_LAYER};
use crate::gguf::{Array, FromValue, Gguf, Metadata, MetadataError, Tensor, Value, ValueType};
use crate::text::{Clipped, Escaped};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// A well-formed file with contents that no program could use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {count} {}: {first}", if *count == 1 { "problem" } else { "problems, the first of which" })]
pub struct Unsound {
    pub path: String,
    pub count: usize,
    pub first: String,
}

/// Bytes that one task checks; a multiple of every block size is cut from it.
const CHUNK: usize = 16 << 20;

/// What is wrong between metadata and tensors.
pub(super) fn problems(gguf: &Gguf, hparams: &Hparams) -> Vec<String> {
    let mut problems = Vec::new();
    types(gguf.metadata(), hparams, &mut problems);
    not_finite(gguf.metadata(), &mut problems);
    experts(hparams, &mut problems);
    shapes(gguf, hparams, &mut problems);
    vocabulary(gguf, hparams, &mut problems);
    problems
}

/// Keys that every program reads the same way.
fn types(metadata: Metadata<'_>, hparams: &Hparams, problems: &mut Vec<String>) {
    // A name is only shown; whatever bytes it has will do.
    if metadata.value("general.name").is_some_and(|name| name.ty() != ValueType::String) {
        problems.push("general.name must be a string".to_owned());
    }
    let text = ["general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"];
    text.into_iter().for_each(|key| must_be::<&str>(metadata, key, problems));
    must_be::<&str>(metadata, "tokenizer.chat_template", problems);
    for (key, element) in [("tokenizer.ggml.tokens", ValueType::String), ("tokenizer.ggml.merges", ValueType::String)] {
        match metadata.value(key) {
            None => {}
            Some(Value::Array(array)) if array.element() == element || array.is_empty() => {}
            Some(_) => problems.push(format!("{key} must be an array of strings")),
        }
    }
    must_be::<bool>(metadata, "tokenizer.ggml.add_bos_token", problems);
    must_be::<bool>(metadata, "tokenizer.ggml.add_eos_token", problems);
    let Some(arch) = &hparams.architecture else { return };
    let integers = [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "rope.dimension_count",
        "expert_count",
        "expert_used_count",
    ];
    integers.into_iter().for_each(|name| one_or_per_layer::<u32>(metadata, &format!("{arch}.{name}"), problems));
    for name in ["rope.freq_base", "attention.layer_norm_rms_epsilon", "expert_weights_scale"] {
        one_or_per_layer::<f32>(metadata, &format!("{arch}.{name}"), problems);
    }
}

/// A value for the model, or an array of one a layer, which some architectures have for any key.
fn one_or_per_layer<'a, T: FromValue<'a>>(metadata: Metadata<'a>, key: &str, problems: &mut Vec<String>)
where
    Vec<T>: FromValue<'a>,
{
    match metadata.value(key) {
        Some(Value::Array(_)) => must_be::<Vec<T>>(metadata, key, problems),
        _ => must_be::<T>(metadata, key, problems),
    }
}

fn must_be<'a, T: FromValue<'a>>(metadata: Metadata<'a>, key: &str, problems: &mut Vec<String>) {
    if let Err(MetadataError::Type { expected, found, .. }) = metadata.get::<T>(key) {
        problems.push(format!("{} must be {expected}, but is {found}", Clipped(key)));
    }
}

fn not_finite(metadata: Metadata<'_>, problems: &mut Vec<String>) {
    let is_special = |value: Value<'_>| match value {
        Value::F32(x) => !x.is_finite(),
        Value::F64(x) => !x.is_finite(),
        _ => false,
    };
    // Scores of tokens may be -inf; hyperparameters may not.
    for (key, value) in metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer.")) {
        let bad = match value {
            Value::Array(array) => array.len() <= MAX_PER_LAYER && array.iter().any(is_special),
            value => is_special(value),
        };
        if bad {
            problems.push(format!("{} is not a finite number", Clipped(key)));
        }
    }
}

fn experts(hparams: &Hparams, problems: &mut Vec<String>) {
    let mut problem = |text: String| problems.push(text);
    if let (Some(experts), Some(used)) = (hparams.count("expert_count"), hparams.count("expert_used_count"))
        && used > experts
    {
        problem(format!("expert_used_count is {used}, but expert_count {experts}"));
    }
    if let (Some(groups), Some(used)) = (hparams.count("expert_group_count"), hparams.count("expert_group_used_count"))
    {
        let experts = hparams.count("expert_count").unwrap_or(0);
        if groups > 0 && !experts.is_multiple_of(groups) {
            problem(format!("{experts} experts do not divide into {groups} groups"));
        }
        if used > groups {
            problem(format!("expert_group_used_count is {used}, but expert_group_count {groups}"));
        }
    }
    if hparams.count("block_count") == Some(0) {
        problem("block_count is 0".to_owned());
    }
    if let (Some(dense), Some(layers)) = (hparams.count("leading_dense_block_count"), hparams.count("block_count"))
        && dense > layers
    {
        problem(format!("leading_dense_block_count is {dense}, but block_count {layers}"));
    }
    if hparams.has_mla()
        && let Some(rope) = hparams.count("rope.dimension_count")
    {
        let key = hparams.count("attention.key_length_mla").or_else(|| hparams.count("attention.key_length"));
        if !rope.is_multiple_of(2) {
            problem(format!("rope.dimension_count is odd ({rope})"));
        }
        if key.is_some_and(|key| rope > key) {
            problem(format!("rope.dimension_count is {rope}, but a key has {} values", key.unwrap_or(0)));
        }
    }
}

fn shapes(gguf: &Gguf, hparams: &Hparams, problems: &mut Vec<String>) {
    let width = hparams.count("embedding_length");
    let experts = hparams.count("expert_count");
    let layers = hparams.count("block_count");
    let mut seen = BTreeSet::new();
    for tensor in gguf.tensors() {
        let info = tensor.info;
        let role = Role::of(&info.name);
        seen.extend(role.layer);
        // Biases and scales of experts have shapes of their own.
        if !info.name.ends_with(".weight") {
            continue;
        }
        let [ne0, ne1, ne2, _] = info.shape.ne();
        let mut expect = |what: &str, found: u64, expected: Option<u64>| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                let name = Clipped(&info.name);
                problems
                    .push(format!("{name} has the shape {}: {what} is {found}, but must be {expected}", info.shape));
            }
        };
        match role.class {
            Class::Embedding if info.name == "token_embd.weight" => expect("the width", ne0, width),
            Class::RoutedGate | Class::RoutedUp | Class::RoutedGateUp => {
                expect("the width", ne0, width);
                expect("the number of experts", ne2, experts);
            }
            Class::RoutedDown => {
                expect("the width", ne1, width);
                expect("the number of experts", ne2, experts);
            }
            Class::Router if info.name.ends_with(".ffn_gate_inp.weight") => {
                expect("the number of experts", ne1, experts);
            }
            _ => {}
        }
    }
    // Other architectures have layers without tensors, or count only some of them.
    let Some(layers) = layers.filter(|_| !seen.is_empty() && hparams.is_deepseek()) else {
        return;
    };
    if let Some(beyond) = seen.iter().find(|layer| u64::from(**layer) >= layers) {
        problems.push(format!("there are tensors of layer {beyond}, but block_count is {layers}"));
    }
    let missing = (0..u32::try_from(layers).unwrap_or(u32::MAX)).find(|layer| !seen.contains(layer));
    if let Some(layer) = missing {
        problems.push(format!("block_count is {layers}, but layer {layer} has no tensors"));
    }
}

fn vocabulary(gguf: &Gguf, hparams: &Hparams, problems: &mut Vec<String>) {
    let metadata = gguf.metadata();
    let Some(Value::Array(tokens)) = metadata.value("tokenizer.ggml.tokens") else {
        return;
    };
    let count = tokens.len() as u64;
    if let Some(size) = hparams.count("vocab_size").filter(|size| *size != count && hparams.is_deepseek()) {
        problems.push(format!("vocab_size is {size}, but there are {count} tokens"));
    }
    for name in ["token_embd.weight", "output.weight"] {
        if let Some(rows) = gguf.tensor(name).map(|tensor| tensor.info.shape.ne()[1]).filter(|rows| *rows != count) {
            problems.push(format!("{name} has {rows} rows, but there are {count} tokens"));
        }
    }
    for key in ["tokenizer.ggml.token_type", "tokenizer.ggml.scores"] {
        if let Some(Value::Array(list)) = metadata.value(key)
            && list.len() != tokens.len()
        {
            problems.push(format!("{key} has {} elements, but there are {count} tokens", list.len()));
        }
    }
    for (key, value) in metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.ggml.") && key.ends_with("_id")) {
        if let Some(id) = value.as_integer().filter(|id| *id < 0 || *id >= i128::from(count)) {
            // -1, as a u32 or an i32, says that there is no such token.
            if id != -1 && id != i128::from(u32::MAX) {
                problems.push(format!("{} is {id}, but there are {count} tokens", Clipped(key)));
            }
        }
    }
    duplicate_tokens(tokens, problems);
}

fn duplicate_tokens(tokens: Array<'_>, problems: &mut Vec<String>) {
    let mut first = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        // Some vocabularies fill their gaps with empty tokens.
        if let Value::String(text @ [_, ..]) = token
            && let Some(other) = first.insert(text, id)
        {
            let text = String::from_utf8_lossy(text);
            problems.push(format!("the tokens {other} and {id} have the same text '{}'", Clipped(&text)));
            return;
        }
    }
}

/// Reads every value of every tensor; names those that hold NaNs or infinities. `progress` is told
/// of every so many bytes read.
pub(super) fn data_problems(gguf: &Gguf, progress: &(dyn Fn(u64) + Sync)) -> Vec<String> {
    let check = |tensor: Tensor<'_>| {
        let ty = tensor.info.ty;
        gguf.read_ahead(&tensor);
        let block = ty.block_bytes() as usize;
        let chunk = (CHUNK / block).max(1) * block;
        let at = tensor.data.par_chunks(chunk).enumerate().find_map_first(|(index, data)| {
            progress(data.len() as u64);
            first_bad_block(ty, data).map(|bad| index * chunk + bad * block)
        })?;
        let value = (at / block) as u64 * ty.block_len();
        let file = gguf.shards().get(tensor.shard)?.path().display().to_string();
        Some(format!(
            "{} holds a NaN or an infinity, first in value {value}, at byte {} of {}: the file is damaged",
            Clipped(&tensor.info.name),
            tensor.info.range.start + at as u64,
            Escaped(&file)
        ))
    };
    gguf.tensors().filter_map(check).collect()
}
