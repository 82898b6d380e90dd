//! The tensors of a model, found by name, held against the configuration, and put in one store.
//!
//! On the CPU they stay where the file is mapped; to GPUs they are copied. Three layouts of attention are known: keys and values
//! in tensors of their own, in ggml's three dimensions or flattened into two; and both in `attn_kv_b`,
//! whose keys are transposed into memory of their own when the model is opened.

use super::config::{Config, ExpertConfig};
use crate::ggml::{self, DequantizeError, Gpu, Store, StoreError, StoreId};
use crate::gguf::{Gguf, Shape, TensorType};
use crate::text::Clipped;
use half::f16;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

#[derive(Debug)]
pub struct Weights {
    /// [n_embd, n_vocab]
    pub token_embd: StoreId,
    /// [n_embd]
    pub output_norm: StoreId,
    /// [n_embd, n_vocab]; the embeddings themselves where the file has no head.
    pub output: StoreId,
    pub layers: Vec<Layer>,
    pub n_vocab: usize,
    /// Whether GPUs read the experts in RAM by themselves.
    pub is_pinned: bool,
    /// Tensors of the file that the forward pass does not use.
    pub unused: Vec<String>,
}

#[derive(Debug)]
pub struct Layer {
    /// [n_embd]
    pub attn_norm: StoreId,
    pub attention: Attention,
    /// [n_embd]
    pub ffn_norm: StoreId,
    pub feed_forward: FeedForward,
}

#[derive(Debug)]
pub struct Attention {
    pub query: Query,
    /// [n_embd, kv_lora_rank + n_rot]
    pub kv_a_mqa: StoreId,
    /// [kv_lora_rank]
    pub kv_a_norm: StoreId,
    /// From a query's part without position to the latent space: [n_nope, kv_lora_rank, n_head], or its
    /// last two dimensions as one.
    pub k_b: StoreId,
    pub values: Values,
    /// [n_value · n_head, n_embd]
    pub output: StoreId,
}

#[derive(Debug)]
pub enum Query {
    /// [n_embd, n_key · n_head]
    Full { q: StoreId },
    /// [n_embd, q_lora_rank], [q_lora_rank], [q_lora_rank, n_key · n_head]
    LowRank { q_a: StoreId, q_a_norm: StoreId, q_b: StoreId },
}

/// From the latent space to values.
#[derive(Debug)]
pub enum Values {
    /// [kv_lora_rank, n_value, n_head], or its last two dimensions as one.
    Own { v_b: StoreId },
    /// The last n_value of n_nope + n_value rows of each head: [kv_lora_rank, (n_nope + n_value) · n_head].
    Joint { kv_b: StoreId },
}

#[derive(Debug)]
pub enum FeedForward {
    Dense(Mlp),
    Mixture(Mixture),
}

/// down · (silu(gate · x) ⊙ up · x)
#[derive(Debug)]
pub struct Mlp {
    /// [n_embd, n_ff]
    pub gate: StoreId,
    /// [n_embd, n_ff]
    pub up: StoreId,
    /// [n_ff, n_embd]
    pub down: StoreId,
}

#[derive(Debug)]
pub struct Mixture {
    /// `ffn_gate_inp` [n_embd, n_expert]
    pub router: StoreId,
    /// `exp_probs_b` [n_expert]: added to the scores that experts are chosen by, not to their weights.
    pub bias: Option<StoreId>,
    pub gate_up: GateUp,
    /// [n_ff, n_embd, n_expert]
    pub down: StoreId,
    pub shared: Option<Mlp>,
}

/// Of all experts.
#[derive(Debug, Clone, Copy)]
pub enum GateUp {
    /// [n_embd, n_ff, n_expert] each
    Two { gate: StoreId, up: StoreId },
    /// [n_embd, 2 · n_ff, n_expert], gate first
    One { gate_up: StoreId },
}

/// Where tensors go.
pub struct Places<'a> {
    /// By name: to a GPU, or nowhere.
    pub gpu_of: &'a dyn Fn(&str) -> Option<&'a Gpu>,
    /// Whether experts that stay in RAM become memory that GPUs read by themselves.
    pub pin: bool,
    /// Where the head is computed, which the embeddings are where the file has no other.
    pub head: Option<&'a Gpu>,
    /// Is told of bytes on their way to GPUs.
    pub progress: &'a dyn Fn(u64),
}

impl Places<'_> {
    /// Everything stays in RAM.
    pub const RAM: Places<'static> = Places { gpu_of: &|_| None, pin: false, head: None, progress: &|_| () };
}

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("the tensor {name} is missing; the model needs it with the shape {expected}")]
    Missing { name: String, expected: Shape },
    #[error("{name} has the shape {found}, but must have {expected}")]
    Shape { name: String, found: Shape, expected: String },
    #[error("{name} is {found}, {must}")]
    Type { name: String, found: TensorType, must: &'static str },
    #[error("{name}: {error}")]
    Store { name: String, error: StoreError },
    #[error("{name}: {error}")]
    Dequantize { name: String, error: DequantizeError },
}

/// What a tensor is for decides which types it may have.
#[derive(Clone, Copy)]
enum Use {
    /// Multiplied by, or looked up in.
    Matrix,
    /// Multiplied or added element by element.
    Vector,
}

impl Weights {
    /// Finds all tensors; their data is not read, but for `attn_kv_b` and what goes to GPUs.
    pub fn load(gguf: &Arc<Gguf>, config: &Config, places: &Places<'_>) -> Result<(Weights, Arc<Store>), WeightsError> {
        // For each attn_kv_b one more than the file has.
        let capacity = 2 * gguf.tensors().count();
        let mut store = Store::new(capacity, Some(gguf.clone())).map_err(|error| in_store("weights", error))?;
        reserve(&mut store, gguf, places)?;
        let mut loader = Loader { gguf, config, places, store, seen: HashSet::new() };
        let n_embd = config.n_embd;
        let rows = gguf.tensor("token_embd.weight").map_or(1, |tensor| tensor.info.shape.ne()[1]);
        let n_vocab = usize::try_from(rows).unwrap_or(usize::MAX);
        let token_embd = loader.matrix("token_embd.weight", &[n_embd, n_vocab])?;
        let output_norm = loader.vector("output_norm.weight", n_embd)?;
        let output = match gguf.tensor("output.weight") {
            Some(_) => loader.matrix("output.weight", &[n_embd, n_vocab])?,
            None => match places.head {
                Some(gpu) => {
                    let copied = loader.store.upload("token_embd.weight", gpu, places.progress);
                    copied.map_err(|error| in_store("token_embd.weight", error))?
                }
                None => token_embd,
            },
        };
        let layers = (0..config.n_layer).map(|layer| loader.layer(layer)).collect::<Result<Vec<_>, _>>()?;
        let unused = gguf.tensors().map(|tensor| tensor.info.name.clone());
        let unused = unused.filter(|name| !loader.seen.contains(name)).collect();
        loader.store.end_uploads();
        let is_pinned = places.pin && loader.store.pin(&experts(&layers));
        let weights = Weights { is_pinned, token_embd, output_norm, output, layers, n_vocab, unused };
        Ok((weights, Arc::new(loader.store)))
    }
}

/// The routed experts of all layers.
fn experts(layers: &[Layer]) -> Vec<StoreId> {
    let of_layer = |layer: &Layer| match &layer.feed_forward {
        FeedForward::Dense(_) => Vec::new(),
        FeedForward::Mixture(Mixture { gate_up: GateUp::Two { gate, up }, down, .. }) => vec![*gate, *up, *down],
        FeedForward::Mixture(Mixture { gate_up: GateUp::One { gate_up }, down, .. }) => vec![*gate_up, *down],
    };
    layers.iter().flat_map(of_layer).collect()
}

/// Bytes that a tensor on a GPU may take beyond its own, for alignment and for rows that are no whole tiles.
const PADDING: usize = 4096;

/// Takes the memory for all tensors that go to GPUs, GPU by GPU.
fn reserve(store: &mut Store, gguf: &Gguf, places: &Places<'_>) -> Result<(), WeightsError> {
    let mut bytes: BTreeMap<usize, (&Gpu, usize)> = BTreeMap::new();
    let mut count = |gpu, data: &[u8]| {
        let of_gpu = bytes.entry(Gpu::facts(gpu).number).or_insert((gpu, 0));
        of_gpu.1 += data.len().next_multiple_of(PADDING) + PADDING;
    };
    for tensor in gguf.tensors() {
        if let Some(gpu) = (places.gpu_of)(&tensor.info.name) {
            count(gpu, tensor.data);
        }
    }
    if let (Some(gpu), None, Some(tensor)) =
        (places.head, gguf.tensor("output.weight"), gguf.tensor("token_embd.weight"))
    {
        count(gpu, tensor.data);
    }
    bytes
        .into_values()
        .try_for_each(|(gpu, bytes)| store.reserve(gpu, bytes))
        .map_err(|error| in_store("weights", error))
}

fn in_store(name: &str, error: StoreError) -> WeightsError {
    WeightsError::Store { name: Clipped(name).to_string(), error }
}

struct Loader<'a, 'p> {
    gguf: &'a Arc<Gguf>,
    config: &'a Config,
    places: &'a Places<'p>,
    store: Store,
    seen: HashSet<String>,
}

impl Loader<'_, '_> {
    fn layer(&mut self, layer: usize) -> Result<Layer, WeightsError> {
        let name = |rest: &str| format!("blk.{layer}.{rest}");
        let n_embd = self.config.n_embd;
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm.weight"), n_embd)?,
            attention: self.attention(&name)?,
            ffn_norm: self.vector(&name("ffn_norm.weight"), n_embd)?,
            feed_forward: match &self.config.experts {
                Some(experts) if !self.config.is_dense(layer) => {
                    FeedForward::Mixture(self.mixture(&name, &experts.clone())?)
                }
                _ => FeedForward::Dense(self.mlp(&name, "", self.config.n_ff)?),
            },
        })
    }

    fn attention(&mut self, name: &dyn Fn(&str) -> String) -> Result<Attention, WeightsError> {
        let config = self.config;
        let (n_embd, n_head) = (config.n_embd, config.n_head);
        let query = match config.q_lora_rank {
            Some(rank) if !self.has(&name("attn_q.weight")) => Query::LowRank {
                q_a: self.matrix(&name("attn_q_a.weight"), &[n_embd, rank])?,
                q_a_norm: self.vector(&name("attn_q_a_norm.weight"), rank)?,
                q_b: self.matrix(&name("attn_q_b.weight"), &[rank, config.n_key * n_head])?,
            },
            _ => Query::Full { q: self.matrix(&name("attn_q.weight"), &[n_embd, config.n_key * n_head])? },
        };
        let kv_a_mqa = self.matrix(&name("attn_kv_a_mqa.weight"), &[n_embd, config.n_cached()])?;
        let kv_a_norm = self.vector(&name("attn_kv_a_norm.weight"), config.kv_lora_rank)?;
        let own = self.has(&name("attn_k_b.weight")) || !self.has(&name("attn_kv_b.weight"));
        let (k_b, values) = if own {
            // One fork's files hold attn_kv_b besides.
            self.seen.insert(name("attn_kv_b.weight"));
            let k_b = self.per_head(&name("attn_k_b.weight"), [config.n_nope(), config.kv_lora_rank, n_head])?;
            let v_b = self.per_head(&name("attn_v_b.weight"), [config.kv_lora_rank, config.n_value, n_head])?;
            (k_b, Values::Own { v_b })
        } else {
            let kv_b = name("attn_kv_b.weight");
            let rows = (config.n_nope() + config.n_value) * n_head;
            let values = Values::Joint { kv_b: self.matrix(&kv_b, &[config.kv_lora_rank, rows])? };
            (self.transposed_keys(&kv_b, &name("attn_k_b.weight"))?, values)
        };
        let output = self.matrix(&name("attn_output.weight"), &[config.n_value * n_head, n_embd])?;
        Ok(Attention { query, kv_a_mqa, kv_a_norm, k_b, values, output })
    }

    fn mixture(&mut self, name: &dyn Fn(&str) -> String, experts: &ExpertConfig) -> Result<Mixture, WeightsError> {
        let (n_embd, n_ff, n_expert) = (self.config.n_embd, experts.n_ff, experts.n_expert);
        let gate_up = if self.has(&name("ffn_gate_up_exps.weight")) {
            let gate_up = self.matrix(&name("ffn_gate_up_exps.weight"), &[n_embd, 2 * n_ff, n_expert])?;
            GateUp::One { gate_up }
        } else {
            GateUp::Two {
                gate: self.matrix(&name("ffn_gate_exps.weight"), &[n_embd, n_ff, n_expert])?,
                up: self.matrix(&name("ffn_up_exps.weight"), &[n_embd, n_ff, n_expert])?,
            }
        };
        let bias = name("exp_probs_b.bias");
        Ok(Mixture {
            router: self.matrix(&name("ffn_gate_inp.weight"), &[n_embd, n_expert])?,
            bias: self.has(&bias).then(|| self.vector(&bias, n_expert)).transpose()?,
            gate_up,
            down: self.matrix(&name("ffn_down_exps.weight"), &[n_ff, n_embd, n_expert])?,
            shared: match experts.n_shared {
                0 => None,
                n => Some(self.mlp(name, "_shexp", n * n_ff)?),
            },
        })
    }

    fn mlp(&mut self, name: &dyn Fn(&str) -> String, suffix: &str, n_ff: usize) -> Result<Mlp, WeightsError> {
        let n_embd = self.config.n_embd;
        Ok(Mlp {
            gate: self.matrix(&name(&format!("ffn_gate{suffix}.weight")), &[n_embd, n_ff])?,
            up: self.matrix(&name(&format!("ffn_up{suffix}.weight")), &[n_embd, n_ff])?,
            down: self.matrix(&name(&format!("ffn_down{suffix}.weight")), &[n_ff, n_embd])?,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    fn matrix(&mut self, name: &str, dims: &[usize]) -> Result<StoreId, WeightsError> {
        self.tensor(name, &[dims], Use::Matrix)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<StoreId, WeightsError> {
        self.tensor(name, &[&[len]], Use::Vector)
    }

    /// A matrix for each head, or the rows of all heads in one matrix.
    fn per_head(&mut self, name: &str, [n, rows, heads]: [usize; 3]) -> Result<StoreId, WeightsError> {
        self.tensor(name, &[&[n, rows, heads], &[n, rows * heads]], Use::Matrix)
    }

    /// The tensor `name`, which has one of the shapes.
    fn tensor(&mut self, name: &str, shapes: &[&[usize]], usage: Use) -> Result<StoreId, WeightsError> {
        let shapes: Vec<Shape> = shapes.iter().map(|dims| shape(dims)).collect();
        let clipped = || Clipped(name).to_string();
        let Some(tensor) = self.gguf.tensor(name) else {
            return Err(WeightsError::Missing { name: clipped(), expected: shapes[0] });
        };
        let (found, ty) = (tensor.info.shape, tensor.info.ty);
        if !shapes.iter().any(|shape| shape.ne() == found.ne()) {
            let expected: Vec<String> = shapes.iter().map(Shape::to_string).collect();
            return Err(WeightsError::Shape { name: clipped(), found, expected: expected.join(" or ") });
        }
        let unfit = match usage {
            Use::Matrix if !ggml::computes(ty) => Some("with which nothing can be computed"),
            Use::Vector if ty != TensorType::F32 => Some("but must be F32"),
            _ => None,
        };
        if let Some(must) = unfit {
            return Err(WeightsError::Type { name: clipped(), found: ty, must });
        }
        self.seen.insert(name.to_owned());
        let stored = match (self.places.gpu_of)(name) {
            Some(gpu) => self.store.upload(name, gpu, self.places.progress),
            None => self.store.map(name),
        };
        stored.map_err(|error| in_store(name, error))
    }

    /// The keys of `attn_kv_b`, transposed for each head: [n_nope, kv_lora_rank, n_head]. Quantised ones
    /// become F16, whose rounding is far below theirs.
    fn transposed_keys(&mut self, kv_b: &str, name: &str) -> Result<StoreId, WeightsError> {
        let config = self.config;
        let (n_nope, rank, n_head) = (config.n_nope(), config.kv_lora_rank, config.n_head);
        let Some(tensor) = self.gguf.tensor(kv_b) else {
            return Err(WeightsError::Missing { name: kv_b.to_owned(), expected: shape(&[rank, n_nope, n_head]) });
        };
        let head_bytes = tensor.data.len() / n_head;
        let (ty, is_f32) = (tensor.info.ty, tensor.info.ty == TensorType::F32);
        let heads: Result<Vec<Vec<u8>>, DequantizeError> = tensor
            .data
            .par_chunks_exact(head_bytes)
            .map(|head| {
                let mut values = vec![0f32; (n_nope + config.n_value) * rank];
                ggml::dequantize(ty, head, &mut values)?;
                let keys = (0..rank).flat_map(|c| (0..n_nope).map(move |n| (n, c))).map(|(n, c)| values[n * rank + c]);
                Ok(if is_f32 {
                    keys.flat_map(f32::to_le_bytes).collect()
                } else {
                    keys.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect()
                })
            })
            .collect();
        let heads = heads.map_err(|error| WeightsError::Dequantize { name: kv_b.to_owned(), error })?;
        let ty = if is_f32 { TensorType::F32 } else { TensorType::F16 };
        let mut write = || {
            let shape = shape(&[n_nope, rank, n_head]);
            let id = match (self.places.gpu_of)(name) {
                Some(gpu) => self.store.add_on(gpu, name, ty, &shape)?,
                None => self.store.add(name, ty, &shape)?,
            };
            for (head, bytes) in heads.iter().enumerate() {
                self.store.write(id, head * bytes.len(), bytes)?;
            }
            Ok(id)
        };
        write().map_err(|error| in_store(name, error))
    }
}

/// Dimensions are bounded by the configuration, so that there are at most three of them.
fn shape(dims: &[usize]) -> Shape {
    let dims: Vec<u64> = dims.iter().map(|dim| *dim as u64).collect();
    Shape::new(&dims).expect("at most three dimensions")
}
