//! The tensors of a synthetic model: names, shapes and types as in a real file, and what fills each.
//!
//! Sizes are such that activations stay what a network is made for: a matrix gives an output of about 1
//! for an input of about 1, and norms change nothing. Only the embeddings are larger, so that what the
//! layers add changes the hidden state little. Routing then follows the token itself and stays as even
//! as the router is; in a plain random network all tokens end up with the same few experts, and prompts
//! look faster than they are.

use super::blocks::{Filler, Floats, Measured, Row};
use super::model::Model;
use super::random::Stream;
use super::routing::Scores;
use super::skew::Skew;
use crate::ggml::dequantize;
use crate::gguf::{Shape, TensorType};
use crate::quantize::Mix;
use std::collections::HashMap;

/// Standard deviation of the embeddings; a layer's outputs have about 1.
const EMBEDDING: f32 = 50.0;
/// Norms and the router's bias are not all alike, so that leaving one out is noticed.
const NORM_SPREAD: f32 = 0.05;
const BIAS_SPREAD: f32 = 0.002;

#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) ty: TensorType,
    pub(super) shape: Shape,
    pub(super) n_bytes: u64,
    pub(super) filler: Filler,
    pub(super) stream: Stream,
}

/// A type of which no random blocks can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} blocks cannot be made at random")]
pub struct NoRandomBlocks(pub(super) TensorType);

/// What a list of tensors is made by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) model: &'static Model,
    pub(super) layers: u32,
    pub(super) dense: u32,
    pub(super) tokens: u32,
    pub(super) mix: Mix,
    pub(super) seed: u64,
    /// Exponent of the experts' popularity; 0: all alike.
    pub(super) skew: f64,
}

/// All tensors, in the order of the file.
pub(super) fn tensors(plan: &Plan) -> Result<Vec<Tensor>, NoRandomBlocks> {
    let [width, tokens] = [plan.model.width, plan.tokens];
    let mut list = List { plan, tensors: Vec::new(), measured: HashMap::new() };
    list.matrix("token_embd.weight", &[width, tokens], EMBEDDING)?;
    for layer in 0..plan.layers {
        attention(&mut list, layer)?;
        list.norm(&format!("blk.{layer}.ffn_norm.weight"), width);
        match layer < plan.dense {
            true => list.feed_forward(layer, "", plan.model.dense_ff, &[])?,
            false => mixture(&mut list, layer)?,
        }
    }
    list.norm("output_norm.weight", width);
    list.linear("output.weight", &[width, tokens])?;
    Ok(list.tensors)
}

fn attention(list: &mut List<'_>, layer: u32) -> Result<(), NoRandomBlocks> {
    let Model { width, heads, q_rank, kv_rank, nope, rope, value, .. } = *list.plan.model;
    let name = |part: &str| format!("blk.{layer}.attn_{part}.weight");
    list.norm(&name("norm"), width);
    let queries = heads * (nope + rope);
    match q_rank {
        Some(rank) => {
            list.linear(&name("q_a"), &[width, rank])?;
            list.norm(&name("q_a_norm"), rank);
            list.linear(&name("q_b"), &[rank, queries])?;
        }
        None => list.linear(&name("q"), &[width, queries])?,
    }
    list.linear(&name("kv_a_mqa"), &[width, kv_rank + rope])?;
    list.norm(&name("kv_a_norm"), kv_rank);
    // Stored transposed: it makes keys out of the latent, which is its second dimension.
    list.matrix(&name("k_b"), &[nope, kv_rank, heads], like_input_of(kv_rank))?;
    list.linear(&name("v_b"), &[kv_rank, value, heads])?;
    list.linear(&name("output"), &[heads * value, width])
}

fn mixture(list: &mut List<'_>, layer: u32) -> Result<(), NoRandomBlocks> {
    let plan = list.plan;
    let Model { width, expert_ff, shared_experts, rule, .. } = *plan.model;
    let skew = Skew::new(rule, plan.skew, Stream::new(plan.seed, &format!("blk.{layer}.popularity")));
    // The logits of a token have about the size 1.
    let row = |length: f32| Row { mean: 0.0, spread: length * like_input_of(width) };
    let router = Floats { row_len: width as usize, rows: skew.row_lengths().into_iter().map(row).collect() };
    list.floats(&format!("blk.{layer}.ffn_gate_inp.weight"), &[width, rule.experts], router);
    if rule.scores == Scores::Sigmoid {
        let rows = skew.biases().into_iter().map(|mean| Row { mean, spread: BIAS_SPREAD }).collect();
        list.floats(&format!("blk.{layer}.exp_probs_b.bias"), &[rule.experts], Floats { row_len: 1, rows });
    }
    list.feed_forward(layer, "_exps", expert_ff, &[rule.experts])?;
    list.feed_forward(layer, "_shexp", expert_ff * shared_experts, &[])
}

/// The size of weights that give an output as large as their input, of `n` values.
fn like_input_of(n: u32) -> f32 {
    1.0 / (n as f32).sqrt()
}

struct List<'p> {
    plan: &'p Plan,
    tensors: Vec<Tensor>,
    measured: HashMap<TensorType, Measured>,
}

impl List<'_> {
    /// Gate, up and down of one network, or of as many as `many` says, each `inner` wide.
    fn feed_forward(&mut self, layer: u32, suffix: &str, inner: u32, many: &[u32]) -> Result<(), NoRandomBlocks> {
        let width = self.plan.model.width;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}{suffix}.weight");
        self.linear(&name("gate"), &[&[width, inner], many].concat())?;
        self.linear(&name("up"), &[&[width, inner], many].concat())?;
        self.linear(&name("down"), &[&[inner, width], many].concat())
    }

    /// A matrix whose output is as large as its input.
    fn linear(&mut self, name: &str, dims: &[u32]) -> Result<(), NoRandomBlocks> {
        self.matrix(name, dims, like_input_of(dims.first().copied().unwrap_or(1)))
    }

    /// A matrix in the type of the mix, its values with this standard deviation.
    fn matrix(&mut self, name: &str, dims: &[u32], std: f32) -> Result<(), NoRandomBlocks> {
        let shape = shape(dims);
        let ty = self.plan.mix.tensor_type(name, &shape, self.plan.layers);
        let filler = match (ty, self.measured.get(&ty)) {
            (TensorType::F16, _) => Filler::Halves(std),
            (_, Some(measured)) => Filler::Blocks(measured.blocks(std)),
            (_, None) => {
                let measured = Measured::new(ty).ok_or(NoRandomBlocks(ty))?;
                self.measured.insert(ty, measured);
                Filler::Blocks(measured.blocks(std))
            }
        };
        self.push(name, ty, shape, filler);
        Ok(())
    }

    fn norm(&mut self, name: &str, width: u32) {
        self.floats(name, &[width], Floats::around(1.0, NORM_SPREAD));
    }

    fn floats(&mut self, name: &str, dims: &[u32], floats: Floats) {
        self.push(name, TensorType::F32, shape(dims), Filler::Floats(floats));
    }

    fn push(&mut self, name: &str, ty: TensorType, shape: Shape, filler: Filler) {
        let stream = Stream::new(self.plan.seed, name);
        let n_bytes = shape.n_bytes(ty).unwrap_or(0);
        self.tensors.push(Tensor { name: name.to_owned(), ty, shape, n_bytes, filler, stream });
    }
}

fn shape(dims: &[u32]) -> Shape {
    let dims: Vec<u64> = dims.iter().copied().map(u64::from).collect();
    Shape::new(&dims).expect("tensors have at most three dimensions here")
}

impl Tensor {
    /// The values of row `row`, as whoever reads the file has them.
    pub(super) fn row(&self, row: u64) -> Vec<f32> {
        self.rows(row, 1)
    }

    /// The values of all rows.
    pub(super) fn values(&self) -> Vec<f32> {
        self.rows(0, self.shape.ne()[1..].iter().product())
    }

    fn rows(&self, first: u64, n: u64) -> Vec<f32> {
        let [width, ..] = self.shape.ne();
        let row_bytes = width / self.ty.block_len() * self.ty.block_bytes();
        let (start, end) = (first * row_bytes, (first + n) * row_bytes);
        let unit = self.filler.unit() as u64;
        let from = start / unit * unit;
        let mut data = vec![0; (end - from) as usize];
        self.filler.fill(self.stream, from, &mut data);
        let mut values = vec![0.0; (n * width) as usize];
        let decoded = data.get((start - from) as usize..).map(|data| dequantize(self.ty, data, &mut values));
        debug_assert_eq!(decoded, Some(Ok(())), "all types here were measured with the decoder");
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(model: &str, mix: Mix) -> Plan {
        let model: &'static Model = model.parse().unwrap();
        Plan { model, layers: model.layers, dense: model.dense_layers, tokens: model.tokens, mix, seed: 0, skew: 0.0 }
    }

    #[test]
    fn models_have_their_published_number_of_tensors_and_parameters() {
        for (model, n_tensors, n_parameters) in [
            ("deepseek-v3", 1086, 671_026_419_200u64),
            ("deepseek-v2.5", 1019, 235_741_434_880),
            ("deepseek-v2-lite", 404, 15_706_484_224),
        ] {
            let tensors = tensors(&plan(model, Mix::Q2_K_XL)).unwrap();
            let n: u64 = tensors.iter().filter_map(|tensor| tensor.shape.n_elements()).sum();
            assert_eq!((tensors.len(), n), (n_tensors, n_parameters), "{model}");
        }
    }

    /// In GB. Published are 192, 200, 215, 250, 296 (321 before) and 384 (405 before): those below Q2_K_XL
    /// have better types in more layers.
    #[test]
    fn mixes_of_v3_have_their_sizes() {
        let size = |mix| tensors(&plan("deepseek-v3", mix)).unwrap().iter().map(|tensor| tensor.n_bytes).sum::<u64>();
        let sizes = Mix::ALL.map(|mix| size(mix) / 1_000_000_000);
        assert_eq!(sizes, [153, 170, 207, 249, 322, 408, 713, 1342]);
    }

    /// No row is another's, in any tensor; and each has the size that was asked for.
    #[test]
    fn rows_are_distinct_and_sane() {
        for mix in Mix::ALL {
            let mut seen = std::collections::HashSet::new();
            for tensor in tensors(&plan("tiny", mix)).unwrap().iter().filter(|tensor| tensor.shape.dims().len() > 1) {
                let [width, ..] = tensor.shape.ne();
                let values = tensor.values();
                for row in values.chunks(width as usize) {
                    let bits: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
                    assert!(seen.insert(bits), "{} repeats a row", tensor.name);
                }
                let size = (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
                let wanted = match tensor.name.as_str() {
                    "token_embd.weight" => EMBEDDING,
                    name if name.contains("attn_k_b") => like_input_of(256),
                    _ => like_input_of(width as u32),
                };
                assert!((size / wanted - 1.0).abs() < 0.06, "{} {}: {size}, not {wanted}", tensor.name, tensor.ty);
            }
        }
    }

    #[test]
    fn a_row_is_that_of_the_whole() {
        for tensor in &tensors(&plan("tiny", Mix::IQ1_M)).unwrap()[..6] {
            let [width, ..] = tensor.shape.ne();
            let values = tensor.values();
            for (number, row) in (0..).zip(values.chunks(width as usize)) {
                assert!(tensor.row(number) == row, "{} {number}", tensor.name);
            }
        }
    }
}
