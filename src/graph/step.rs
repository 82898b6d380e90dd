//! One step of the forward pass as a graph: some tokens, each of a sequence and at a position, through all
//! layers (arXiv:2412.19437, figure 2).

use super::attention::{attend, write_cache};
use super::cache::Cache;
use super::feed_forward::feed_forward;
use super::observe::{Observer, Port};
use super::router::Routing;
use super::sending::Sending;
use crate::experts::{Isa, Kernels, Room, Shape};
use crate::ggml::{Builder, Graph, Input, OpError, OutOfMemory, Output, Rope, Store, StoreId, Tensor};
use crate::gguf::TensorType;
use crate::model::{Config, RopeConfig, Scaling, Weights};
use std::sync::Arc;

/// What decides how the graph of a step looks. Two steps of the same shape can share a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepShape {
    pub(super) n_tokens: usize,
    /// Cells that are looked at.
    pub(super) n_kv: usize,
    /// Tokens whose logits are computed; without any the step ends with the last cells written.
    pub(super) n_outputs: usize,
    /// Whether queries are taken to the latent space.
    pub(super) absorb: bool,
    /// Heads whose keys and values are made together, where queries are not taken there: a part of all.
    pub(super) heads_at_once: usize,
    pub(super) keep: Keep,
}

/// What is kept of a step besides its logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// What each layer passes on.
    Hidden,
    /// How large the inputs of each matrix are. All tokens go through all layers, and none gets logits.
    Inputs,
}

/// Where a step's numbers go in and come out.
#[derive(Debug)]
pub(super) struct Ports {
    /// I32 [n_tokens]
    pub(super) tokens: Input,
    /// I32 [n_tokens]
    pub(super) positions: Input,
    /// I64 [n_tokens]: the cell that each token is written to.
    pub(super) cells: Input,
    /// F16 [n_kv, n_tokens]: 0 where a token sees a cell, else −∞.
    pub(super) mask: Input,
    /// I32 [n_outputs]: which tokens' logits are wanted.
    pub(super) rows: Input,
    /// [n_vocab, n_outputs]
    pub(super) logits: Option<Output>,
    /// [n_embd, n_tokens] before each layer, then [n_embd, n_outputs] after the last and after the final norm.
    pub(super) hidden: Vec<Output>,
    /// The inputs of matrices, where they are kept.
    pub(super) inputs: Vec<Port>,
}

/// What the parts of a layer need to know.
pub(super) struct Step<'a, 'b> {
    pub(super) b: &'a Builder<'b>,
    pub(super) config: &'a Config,
    pub(super) n_tokens: usize,
    pub(super) n_kv: usize,
    pub(super) positions: Tensor<'b>,
    pub(super) cells: Tensor<'b>,
    pub(super) mask: Tensor<'b>,
    pub(super) rope: Rope,
    pub(super) flash: bool,
    /// Whether queries are taken to the latent space.
    pub(super) absorb: bool,
    pub(super) heads_at_once: usize,
    pub(super) routing: Routing,
    /// Tokens from which on experts in RAM are sent to a GPU.
    pub(super) streams_from: usize,
    pub(super) kernels: Kernels,
    /// Experts in RAM that GPUs compute.
    pub(super) sending: Option<&'a Sending>,
    /// Is shown what goes into each matrix, where that is kept.
    pub(super) observer: Option<&'a Observer>,
    layers: &'a [StoreId],
}

/// The stores that a step's graph is built over, by number.
const WEIGHTS: usize = 0;
const CACHE: usize = 1;
const SENT: usize = 2;

impl<'b> Step<'_, 'b> {
    /// A weight.
    pub(super) fn w(&self, id: StoreId) -> Tensor<'b> {
        self.b.stored(WEIGHTS, id)
    }

    /// Memory for weights that are sent.
    pub(super) fn sent(&self, id: StoreId) -> Tensor<'b> {
        self.b.stored(SENT, id)
    }

    /// A matrix [k, n] times `x` [k, n_tokens] → [n, n_tokens].
    pub(super) fn mul_mat(&self, id: StoreId, x: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
        self.kernels.mul_mat(self.b, self.w(id), x)
    }

    /// The cache of a layer: [n_cached, cells].
    pub(super) fn cache(&self, layer: usize) -> Tensor<'b> {
        self.b.stored(CACHE, self.layers[layer])
    }
}

/// How the forward pass is computed.
#[derive(Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) flash: bool,
    pub(super) routing: Routing,
    pub(super) isa: Isa,
    pub(super) n_threads: usize,
    /// Tokens from which on experts in RAM are sent to a GPU.
    pub(super) streams_from: usize,
    /// Experts in RAM that GPUs compute.
    pub(super) sending: Option<&'a Sending>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// More nodes than a layer ever has.
const NODES_PER_LAYER: usize = 160;

/// More than heads take whose keys and values are made together.
const NODES_OF_HEADS: usize = 30;

/// More than observing the inputs of a layer's matrices takes.
const NODES_OBSERVED_PER_LAYER: usize = 120;

pub(super) fn build(
    config: &Config,
    weights: &Weights,
    store: &Arc<Store>,
    cache: &Cache,
    method: Method<'_>,
    room: &mut Room,
    shape: StepShape,
) -> Result<(Graph, Ports), BuildError> {
    let n_used = config.experts.as_ref().map_or(0, |experts| experts.n_used);
    let observed = if shape.keep == Keep::Inputs { NODES_OBSERVED_PER_LAYER } else { 0 };
    let of_heads = config.n_head / shape.heads_at_once.max(1) * NODES_OF_HEADS;
    let max_nodes = (config.n_layer + 1) * (NODES_PER_LAYER + observed + of_heads + 3 * n_used);
    let observer = (shape.keep == Keep::Inputs).then(Observer::default);
    let kernels = Kernels::new(method.isa, kernel_shape(config, method.n_threads, shape.n_tokens), room)?;
    let mut stores = vec![store.clone(), cache.store.clone()];
    stores.extend(method.sending.map(|sending| sending.store.clone()));
    Graph::build(max_nodes, stores, |b| {
        let n = shape.n_tokens as i64;
        let (tokens, token_ids) = b.input("tokens", TensorType::I32, [n, 1, 1, 1])?;
        let (positions, position) = b.input("positions", TensorType::I32, [n, 1, 1, 1])?;
        let (cells, cell) = b.input("cells", TensorType::I64, [n, 1, 1, 1])?;
        let (mask, mask_tensor) = b.input("mask", TensorType::F16, [shape.n_kv as i64, n, 1, 1])?;
        let (rows, row) = b.input("rows", TensorType::I32, [shape.n_outputs.max(1) as i64, 1, 1, 1])?;
        let ports = |logits, hidden| {
            let inputs = observer.as_ref().map(Observer::take).unwrap_or_default();
            Ports { tokens, positions, cells, mask, rows, logits, hidden, inputs }
        };
        let mut step = Step {
            b,
            config,
            n_tokens: shape.n_tokens,
            n_kv: shape.n_kv,
            positions: position,
            cells: cell,
            mask: mask_tensor,
            rope: rope(config.n_rot, &config.rope),
            flash: method.flash,
            absorb: shape.absorb,
            heads_at_once: shape.heads_at_once,
            routing: method.routing,
            streams_from: method.streams_from,
            kernels,
            sending: method.sending,
            observer: observer.as_ref(),
            layers: &cache.layers,
        };
        let mut hidden = Vec::new();
        let mut x = b.get_rows(step.w(weights.token_embd), token_ids)?; // [n_embd, n_tokens]
        for (number, layer) in weights.layers.iter().enumerate() {
            if shape.keep == Keep::Hidden {
                hidden.push(b.output(x)?);
            }
            let normed = b.mul(b.rms_norm(x, config.rms_eps)?, step.w(layer.attn_norm))?;
            let cache = write_cache(&step, number, &layer.attention, normed)?;
            let is_last = number + 1 == weights.layers.len();
            if is_last && shape.n_outputs == 0 && observer.is_none() {
                return Ok(ports(None, hidden));
            }
            let mut attended = attend(&step, &layer.attention, normed, cache)?;
            if is_last && observer.is_none() {
                // Behind the last attention tokens go separate ways: only those asked for go on.
                attended = b.get_rows(attended, row)?;
                x = b.get_rows(x, row)?;
                step.n_tokens = shape.n_outputs;
            }
            x = b.add(x, attended)?;
            let normed = b.mul(b.rms_norm(x, config.rms_eps)?, step.w(layer.ffn_norm))?;
            x = b.add(x, feed_forward(&step, number, &layer.feed_forward, normed)?)?;
        }
        let normed = b.mul(b.rms_norm(x, config.rms_eps)?, step.w(weights.output_norm))?;
        if shape.keep == Keep::Inputs {
            step.observe(&[weights.output], normed)?;
            return Ok(ports(None, hidden));
        }
        if shape.keep == Keep::Hidden {
            hidden.push(b.output(x)?);
            hidden.push(b.output(normed)?);
        }
        let logits = step.mul_mat(weights.output, normed)?;
        Ok(ports(Some(b.output(logits)?), hidden))
    })
}

/// The longest rows of a model.
pub(super) fn kernel_shape(config: &Config, n_threads: usize, n_tokens: usize) -> Shape {
    let experts = config.experts.as_ref();
    let (n_used, n_ff) = experts.map_or((0, 0), |experts| (experts.n_used, experts.n_ff));
    let n_expert = experts.map_or(0, |experts| experts.n_expert);
    let n_shared = experts.map_or(0, |experts| experts.n_shared * experts.n_ff);
    let n_embd = config.n_embd;
    let rows = [n_embd, config.n_value * config.n_head, config.n_ff, config.q_lora_rank.unwrap_or(0), n_shared];
    let n_row = rows.into_iter().max().unwrap_or(0);
    Shape { n_threads, n_tokens, n_row, n_embd, n_used, n_ff, n_expert }
}

/// ggml's parameters. With YaRN it multiplies the turned values by 1 + 0.1·ln(factor) of its own accord,
/// which is taken back here.
fn rope(n_rot: usize, config: &RopeConfig) -> Rope {
    let plain = Rope {
        n_dims: n_rot as i32,
        n_ctx_orig: 0,
        freq_base: config.freq_base,
        freq_scale: 1.0,
        ext_factor: 0.0,
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    match config.scaling {
        Scaling::None => plain,
        Scaling::Linear { factor } => Rope { freq_scale: 1.0 / factor, ..plain },
        Scaling::Yarn { factor, n_ctx_orig, beta_fast, beta_slow, .. } => {
            let own = 1.0 + 0.1 * f64::from(factor).ln();
            Rope {
                n_ctx_orig: n_ctx_orig as i32,
                freq_scale: 1.0 / factor,
                ext_factor: 1.0,
                attn_factor: (f64::from(config.magnitude()) / own) as f32,
                beta_fast,
                beta_slow,
                ..plain
            }
        }
    }
}
