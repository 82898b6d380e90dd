//! What is in a GGUF file, as plain data: for people to read and for programs to parse.

use super::class::{Class, Role};
use super::hparams::{Hparams, MAX_PER_LAYER};
use super::soundness::{self, Unsound};
use crate::gguf::{self, Gguf, Metadata, Source, TensorInfo, TensorType, Value};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

/// Longer chat templates are not looked at; the published ones have a few KiB.
const MAX_TEMPLATE: usize = 1 << 20;

/// An open model, to be reported on.
pub struct ModelFile {
    gguf: Gguf,
}

/// A report on one model. Metadata stay in the file; they are read as they are written out.
#[derive(Debug, Serialize)]
pub struct Inspection<'a> {
    pub name: Option<String>,
    pub architecture: Option<String>,
    #[serde(serialize_with = "as_map")]
    pub in_words: Vec<(&'static str, String)>,
    #[serde(serialize_with = "metadata_as_map")]
    pub hyperparameters: Vec<MetadataRow<'a>>,
    pub parameters: u64,
    /// Parameters that one token uses: all but the routed experts that it does not choose.
    pub parameters_active: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes of tensor data.
    pub tensor_bytes: u64,
    pub bits_per_weight: f64,
    pub files: Vec<FileRow>,
    pub types: Vec<TypeRow>,
    pub classes: Vec<ClassRow>,
    pub routed_layers: Vec<LayerRow>,
    pub tokenizer: Option<TokenizerFacts>,
    pub problems: Vec<String>,
    /// Whether every value of every tensor was looked at.
    pub data_checked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<TensorRow>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_metadata_as_map")]
    pub metadata: Option<Vec<MetadataRow<'a>>>,
}

#[derive(Debug, Serialize)]
pub struct FileRow {
    pub path: String,
    pub bytes: u64,
    pub version: u32,
    pub alignment: u32,
    pub tensors: usize,
}

/// Tensors of one type.
#[derive(Debug, Serialize)]
pub struct TypeRow {
    #[serde(rename = "type")]
    pub ty: &'static str,
    pub tensors: usize,
    pub parameters: u64,
    pub bytes: u64,
}

/// Tensors of one class.
#[derive(Debug, Serialize)]
pub struct ClassRow {
    pub class: Class,
    pub tensors: usize,
    pub parameters: u64,
    pub bytes: u64,
    pub bits_per_weight: f64,
    /// Type → number of tensors.
    pub types: BTreeMap<&'static str, usize>,
}

/// The routed experts of one layer: type and bytes of each class that the layer has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    pub layer: u32,
    pub experts: BTreeMap<Class, Experts>,
    pub bytes: u64,
}

/// All of a layer's routed experts of one class: the type of their weights, and bytes with biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Experts {
    #[serde(rename = "type")]
    pub ty: &'static str,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct TokenizerFacts {
    pub model: String,
    pub pre: Option<String>,
    pub tokens: usize,
    pub merges: Option<usize>,
    /// Kind of token → how many there are.
    #[serde(serialize_with = "as_map")]
    pub kinds: Vec<(&'static str, usize)>,
    /// Role (`bos`, `eos`, …) → the token.
    pub special: BTreeMap<String, RoleToken>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub chat_template_bytes: Option<usize>,
    /// For whoever runs it; too long for a report. `None` also where no program would run it.
    #[serde(skip)]
    pub chat_template: Option<String>,
    /// The texts of control and user-defined tokens.
    #[serde(skip)]
    pub special_tokens: Vec<String>,
}

/// A token that has a role; no text where the vocabulary has no such id.
#[derive(Debug, Serialize)]
pub struct RoleToken {
    pub id: u64,
    pub text: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct TensorRow {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// ggml order: the first dimension is the contiguous one.
    pub shape: Vec<u64>,
    pub bytes: u64,
    /// Which of the files, from 0.
    pub file: usize,
    /// Bytes from the start of that file.
    pub offset: u64,
}

/// A metadata key; its value is still in the file.
#[derive(Debug, Clone, Copy)]
pub struct MetadataRow<'a> {
    pub key: &'a str,
    value: Value<'a>,
}

impl MetadataRow<'_> {
    /// The value's type: `u32`, `6 × string`.
    pub fn ty(&self) -> String {
        match self.value {
            Value::Array(array) => format!("{} × {}", array.len(), array.element()),
            value => value.ty().to_string(),
        }
    }

    /// The beginning of the value, at most some 200 bytes of it.
    pub fn text(&self) -> String {
        const ITEMS: usize = 6;
        match self.value {
            Value::Array(array) => {
                let mut items: Vec<String> = array.iter().take(ITEMS).map(short_text).collect();
                if array.len() > ITEMS {
                    items.push("…".to_owned());
                }
                format!("[{}]", items.join(", "))
            }
            value => short_text(value),
        }
    }
}

/// What to put into a report beside the summary.
#[derive(Debug, Clone, Copy, Default)]
pub struct Detail {
    pub tensors: bool,
    pub metadata: bool,
}

impl ModelFile {
    pub fn open(source: impl Into<Source>) -> Result<ModelFile, gguf::Error> {
        Ok(ModelFile { gguf: Gguf::open(source)? })
    }

    /// Reports on the model, reading headers only.
    pub fn inspect(&self, detail: Detail) -> Inspection<'_> {
        let gguf = &self.gguf;
        let metadata = gguf.metadata();
        let hparams = Hparams::read(metadata);
        let tensors: Vec<(&TensorInfo, Role)> = gguf.tensors().map(|t| (t.info, Role::of(&t.info.name))).collect();
        let total = Sum::of(tensors.iter().map(|(info, _)| *info));
        let routed = Sum::of(tensors.iter().filter(|(_, role)| role.class.is_routed()).map(|(info, _)| *info));
        let rows = || metadata.iter().map(|(key, value)| MetadataRow { key, value });
        Inspection {
            name: match metadata.value("general.name") {
                Some(Value::String(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            },
            architecture: hparams.architecture.clone(),
            in_words: hparams.in_words(),
            hyperparameters: hyperparameters(rows(), &hparams),
            parameters: total.parameters,
            parameters_active: total.parameters - routed.parameters + active(routed.parameters, &hparams),
            bytes: gguf.n_bytes(),
            tensor_bytes: total.bytes,
            bits_per_weight: total.bits_per_weight(),
            files: files(gguf),
            types: types(&tensors),
            classes: classes(&tensors),
            routed_layers: routed_layers(&tensors),
            tokenizer: tokenizer(metadata),
            problems: soundness::problems(gguf, &hparams),
            data_checked: false,
            tensors: detail.tensors.then(|| tensor_rows(gguf)),
            metadata: detail.metadata.then(|| rows().collect()),
        }
    }

    /// As [`inspect`](Self::inspect), and reads all tensor data; `progress` is called with the bytes
    /// to read in all and those just read.
    pub fn inspect_and_check(&self, detail: Detail, progress: &(dyn Fn(u64, u64) + Sync)) -> Inspection<'_> {
        let mut report = self.inspect(detail);
        let total = report.tensor_bytes;
        report.problems.extend(soundness::data_problems(&self.gguf, &|bytes| progress(total, bytes)));
        report.data_checked = true;
        report
    }

    /// Writes one metadata value: a string as it is, anything else as JSON. `None`: no such key.
    pub fn write_value(&self, key: &str, out: &mut dyn Write) -> Option<std::io::Result<()>> {
        Some(match self.gguf.metadata().value(key)? {
            Value::String(bytes) => out.write_all(bytes),
            value => serde_json::to_writer(out, &Json(value)).map_err(std::io::Error::from),
        })
    }
}

impl Inspection<'_> {
    /// An error if anything is wrong with the model.
    pub fn sound(&self, path: &Path) -> Result<(), Unsound> {
        match self.problems.first() {
            None => Ok(()),
            Some(first) => {
                Err(Unsound { path: path.display().to_string(), count: self.problems.len(), first: first.clone() })
            }
        }
    }
}

/// The keys under the architecture's name, without it.
fn hyperparameters<'a>(rows: impl Iterator<Item = MetadataRow<'a>>, hparams: &Hparams) -> Vec<MetadataRow<'a>> {
    let prefix = hparams.architecture.as_ref().map(|arch| format!("{arch}."));
    let is_short = |value: &Value<'_>| !matches!(value, Value::Array(array) if array.len() > MAX_PER_LAYER);
    rows.filter(|row| is_short(&row.value))
        .filter_map(|row| Some(MetadataRow { key: row.key.strip_prefix(prefix.as_deref()?)?, ..row }))
        .collect()
}

/// Of the routed experts' parameters, those that one token uses.
fn active(routed: u64, hparams: &Hparams) -> u64 {
    match (hparams.count("expert_used_count"), hparams.count("expert_count")) {
        (Some(used), Some(experts)) if used <= experts && experts > 0 => {
            (u128::from(routed) * u128::from(used) / u128::from(experts)) as u64
        }
        _ => routed,
    }
}

#[derive(Default)]
struct Sum {
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

impl Sum {
    fn of<'a>(tensors: impl Iterator<Item = &'a TensorInfo>) -> Sum {
        tensors.fold(Sum::default(), |sum, info| Sum {
            tensors: sum.tensors + 1,
            parameters: sum.parameters.saturating_add(info.shape.n_elements().unwrap_or(0)),
            bytes: sum.bytes.saturating_add(info.range.end - info.range.start),
        })
    }

    fn bits_per_weight(&self) -> f64 {
        if self.parameters == 0 { 0.0 } else { 8.0 * self.bytes as f64 / self.parameters as f64 }
    }
}

fn files(gguf: &Gguf) -> Vec<FileRow> {
    let row = |shard: &gguf::Shard| FileRow {
        path: shard.path().display().to_string(),
        bytes: shard.len(),
        version: shard.header().version(),
        alignment: shard.header().alignment(),
        tensors: shard.header().tensors().len(),
    };
    gguf.shards().iter().map(row).collect()
}

fn types(tensors: &[(&TensorInfo, Role)]) -> Vec<TypeRow> {
    let row = |ty: &TensorType| {
        let sum = Sum::of(tensors.iter().map(|(info, _)| *info).filter(|info| info.ty == *ty));
        TypeRow { ty: ty.name(), tensors: sum.tensors, parameters: sum.parameters, bytes: sum.bytes }
    };
    let mut rows: Vec<TypeRow> = TensorType::ALL.iter().map(row).filter(|row| row.tensors > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    rows
}

fn classes(tensors: &[(&TensorInfo, Role)]) -> Vec<ClassRow> {
    let row = |class: Class| {
        let members = || tensors.iter().filter(move |(_, role)| role.class == class).map(|(info, _)| *info);
        let sum = Sum::of(members());
        let mut types = BTreeMap::new();
        members().for_each(|info| *types.entry(info.ty.name()).or_default() += 1);
        let bits_per_weight = sum.bits_per_weight();
        ClassRow { class, tensors: sum.tensors, parameters: sum.parameters, bytes: sum.bytes, bits_per_weight, types }
    };
    Class::ALL.into_iter().map(row).filter(|row| row.tensors > 0).collect()
}

fn routed_layers(tensors: &[(&TensorInfo, Role)]) -> Vec<LayerRow> {
    let mut layers: BTreeMap<u32, LayerRow> = BTreeMap::new();
    for (info, role) in tensors.iter().filter(|(_, role)| role.class.is_routed()) {
        let Some(layer) = role.layer else { continue };
        let row = layers.entry(layer).or_insert_with(|| LayerRow { layer, experts: BTreeMap::new(), bytes: 0 });
        let bytes = info.range.end - info.range.start;
        let experts = row.experts.entry(role.class).or_insert(Experts { ty: info.ty.name(), bytes: 0 });
        experts.bytes = experts.bytes.saturating_add(bytes);
        if info.name.ends_with(".weight") {
            experts.ty = info.ty.name();
        }
        row.bytes = row.bytes.saturating_add(bytes);
    }
    layers.into_values().collect()
}

fn tokenizer(metadata: Metadata<'_>) -> Option<TokenizerFacts> {
    let text = |key: &str| metadata.get::<&str>(key).ok().flatten().map(str::to_owned);
    let array = |key: &str| match metadata.value(key) {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    let tokens = array("tokenizer.ggml.tokens");
    let model = text("tokenizer.ggml.model").or_else(|| tokens.map(|_| "(none)".to_owned()))?;
    let roles: Vec<(&str, u64)> = metadata
        .iter()
        .filter_map(|(key, value)| {
            let role = key.strip_prefix("tokenizer.ggml.")?.strip_suffix("_token_id")?;
            // All bits set says that there is no such token.
            let id = u64::try_from(value.as_integer()?).ok().filter(|id| *id != u64::from(u32::MAX))?;
            Some((role, id))
        })
        .collect();
    let texts = tokens.map(|tokens| texts_of(tokens, &roles)).unwrap_or_default();
    let token = |id: &u64| RoleToken { id: *id, text: texts.get(id).cloned() };
    let special = roles.iter().map(|(role, id)| ((*role).to_owned(), token(id)));
    let template = metadata.get::<&str>("tokenizer.chat_template").ok().flatten();
    let types = array("tokenizer.ggml.token_type");
    Some(TokenizerFacts {
        pre: text("tokenizer.ggml.pre"),
        tokens: tokens.map_or(0, |tokens| tokens.len()),
        merges: array("tokenizer.ggml.merges").map(|merges| merges.len()),
        kinds: types.map(kinds).unwrap_or_default(),
        special: special.collect(),
        add_bos: metadata.get("tokenizer.ggml.add_bos_token").ok().flatten(),
        add_eos: metadata.get("tokenizer.ggml.add_eos_token").ok().flatten(),
        chat_template_bytes: template.map(str::len),
        chat_template: template.filter(|template| template.len() <= MAX_TEMPLATE).map(str::to_owned),
        special_tokens: tokens.zip(types).map(|(tokens, types)| special_tokens(tokens, types)).unwrap_or_default(),
        model,
    })
}

/// The texts of the tokens that have a role, in one pass: arrays of strings have no index.
fn texts_of(tokens: gguf::Array<'_>, roles: &[(&str, u64)]) -> HashMap<u64, String> {
    let wanted: HashSet<u64> = roles.iter().map(|(_, id)| *id).collect();
    let text = |(id, token)| match token {
        Value::String(bytes) if wanted.contains(&id) => Some((id, String::from_utf8_lossy(bytes).into_owned())),
        _ => None,
    };
    (0..).zip(tokens.iter()).filter_map(text).collect()
}

fn special_tokens(tokens: gguf::Array<'_>, types: gguf::Array<'_>) -> Vec<String> {
    let is_special = |ty: &Value<'_>| matches!(ty.as_integer(), Some(3 | 4));
    let text = |token| match token {
        Value::String(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => None,
    };
    tokens.iter().zip(types.iter()).filter(|(_, ty)| is_special(ty)).filter_map(|(token, _)| text(token)).collect()
}

fn kinds(types: gguf::Array<'_>) -> Vec<(&'static str, usize)> {
    const NAMES: [(i128, &str); 6] =
        [(1, "normal"), (2, "unknown"), (3, "control"), (4, "user-defined"), (5, "unused"), (6, "byte")];
    let mut counts = [0usize; NAMES.len()];
    for id in types.iter().filter_map(|value| value.as_integer()) {
        if let Some(count) = NAMES.iter().position(|(known, _)| *known == id).and_then(|at| counts.get_mut(at)) {
            *count += 1;
        }
    }
    NAMES.iter().zip(counts).map(|((_, name), count)| (*name, count)).filter(|(_, count)| *count > 0).collect()
}

fn tensor_rows(gguf: &Gguf) -> Vec<TensorRow> {
    let row = |tensor: gguf::Tensor<'_>| TensorRow {
        name: tensor.info.name.clone(),
        ty: tensor.info.ty.name(),
        shape: tensor.info.shape.dims().to_vec(),
        bytes: tensor.data.len() as u64,
        file: tensor.shard,
        offset: tensor.info.range.start,
    };
    gguf.tensors().map(row).collect()
}

/// A scalar in short: strings cut at 200 bytes.
fn short_text(value: Value<'_>) -> String {
    const BYTES: usize = 200;
    match value {
        Value::String(bytes) => match bytes.get(..BYTES) {
            Some(start) => format!("{}… ({} bytes)", String::from_utf8_lossy(start), bytes.len()),
            None => String::from_utf8_lossy(bytes).into_owned(),
        },
        Value::Array(array) => format!("{} × {}", array.len(), array.element()),
        Value::Bool(b) => b.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        integer => integer.as_integer().unwrap_or_default().to_string(),
    }
}

/// A value as JSON, written as it is read. Floats that JSON has no number for become strings, bytes
/// that are not UTF-8 replacement characters.
struct Json<'a>(Value<'a>);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Value::Array(array) => serializer.collect_seq(array.iter().map(Json)),
            Value::Bool(b) => serializer.serialize_bool(b),
            Value::F32(x) if x.is_finite() => serializer.serialize_f32(x),
            Value::F32(x) => serializer.collect_str(&x),
            Value::F64(x) if x.is_finite() => serializer.serialize_f64(x),
            Value::F64(x) => serializer.collect_str(&x),
            Value::U64(n) => serializer.serialize_u64(n),
            integer => serializer.serialize_i64(integer.as_integer().and_then(|n| n.try_into().ok()).unwrap_or(0)),
        }
    }
}

fn as_map<S: Serializer, V: Serialize>(pairs: &[(&'static str, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

fn metadata_as_map<S: Serializer>(rows: &[MetadataRow<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|row| (row.key, Json(row.value))))
}

fn some_metadata_as_map<S: Serializer>(rows: &Option<Vec<MetadataRow<'_>>>, serializer: S) -> Result<S::Ok, S::Error> {
    metadata_as_map(rows.as_deref().unwrap_or_default(), serializer)
}
