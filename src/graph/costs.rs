//! What routed experts cost on this machine: the CPU and the bus, measured with a layer of the model's own weights.

use super::cells::Seq;
use super::forward::{Forward, StepError, Token};
use super::step::{self, BuildError};
use crate::experts::{Costs, GateUp, Kernels, LOADS, Lane, Shares, Span};
use crate::ggml::{Graph, Input};
use crate::gguf::TensorType;
use crate::model;

/// Steps of one token, of which the last counts.
const STEPS: i32 = 3;

impl Forward {
    /// Corrects what experts are thought to cost where the CPU and GPUs share them.
    pub(super) fn measure_costs(&mut self) -> Result<(), StepError> {
        let Some(sending) = &self.sending else { return Ok(()) };
        // The first time the driver has to be woken.
        let Some((layer, seconds, n)) = (0..2).filter_map(|_| sending.time(&self.weights, &self.store)).next_back()
        else {
            return Ok(());
        };
        let Some(Shares::Balanced(assumed)) = sending.shares_of(layer) else { return Ok(()) };
        let send = seconds / n as f64;
        let mut cpu = assumed.cpu;
        for (cost, load) in cpu.iter_mut().zip(LOADS) {
            *cost = self.time_of_cpu(layer, load)?.unwrap_or(*cost);
        }
        // A single token's are limited by the memory, which the bus reads at the same time.
        cpu[0] = self.time_beside_the_bus()?.unwrap_or(cpu[0]);
        let bus = ratio(send, assumed.send);
        let of_cpu: [f64; LOADS.len()] = std::array::from_fn(|n| ratio(cpu[n], assumed.cpu[n]));
        let corrected = |shares| match shares {
            Shares::Balanced(Costs { send, cpu, ram }) => {
                let cpu = std::array::from_fn(|n| cpu[n] * of_cpu[n]);
                Shares::Balanced(Costs { send: send * bus, cpu, ram })
            }
            fixed => fixed,
        };
        self.sending.iter_mut().for_each(|sending| drop(sending.set_shares(&corrected)));
        self.forget();
        Ok(())
    }

    /// Seconds that the CPU takes for an expert of so many tokens, where all of a layer's have as many; `None` where that
    /// is more than is computed at once.
    fn time_of_cpu(&mut self, layer: usize, load: u32) -> Result<Option<f64>, StepError> {
        let model::FeedForward::Mixture(mixture) = &self.weights.layers[layer].feed_forward else { return Ok(None) };
        let Some(experts) = &self.config.experts else { return Ok(None) };
        let (n_embd, n_used, n_expert) = (self.config.n_embd, experts.n_used, experts.n_expert);
        // Of a single token few are needed.
        let n_tokens = if load == 1 { 1 } else { (load as usize * n_expert).div_ceil(n_used) };
        if n_tokens > self.options.n_batch.min(self.options.n_ctx) {
            return Ok(None);
        }
        let shape = step::kernel_shape(&self.config, self.options.n_threads, n_tokens);
        let kernels = Kernels::new(self.options.isa, shape, &mut self.room).map_err(BuildError::from)?;
        let gate_up = mixture.gate_up;
        let down = mixture.down;
        let n = n_tokens as i64;
        let (graph, ports) = Graph::build(16, vec![self.store.clone()], |b| -> Result<_, BuildError> {
            let (x, x_tensor) = b.input("x", TensorType::F32, [n_embd as i64, n, 1, 1])?;
            let (ids, id) = b.input("ids", TensorType::I32, [n_used as i64, n, 1, 1])?;
            let (weights, weight) = b.input("weights", TensorType::F32, [1, n_used as i64, n, 1])?;
            let gate_up = match gate_up {
                model::GateUp::Two { gate, up } => GateUp::Two { gate: b.stored(0, gate), up: b.stored(0, up) },
                model::GateUp::One { gate_up } => GateUp::One(b.stored(0, gate_up)),
            };
            let begun = kernels.begin_experts(b, gate_up, b.stored(0, down), [x_tensor, id, weight], None)?;
            let Some(begun) = begun else { return Ok(None) };
            kernels.end_experts(b, begun)?;
            Ok(Some([x, ids, weights]))
        })?;
        let Some([x, ids, weights]) = ports else { return Ok(None) };
        self.forget();
        self.cpu.load(graph)?;
        let all: Vec<i32> = (0..n_tokens * n_used).map(|n| (n % n_expert) as i32).collect();
        let mut spans = Vec::new();
        // The first time pages are looked up.
        for _ in 0..2 {
            self.write(x, n_tokens * n_embd)?;
            self.cpu.write(ids, &all)?;
            self.write(weights, n_tokens * n_used)?;
            self.room.trace().begin();
            let done = self.cpu.run();
            spans = self.room.trace().end();
            done?;
        }
        Ok(Some(seconds(&spans) / (n_tokens * n_used).min(n_expert) as f64))
    }

    /// Numbers of a usual size, neither all the same nor zero.
    fn write(&mut self, input: Input, n: usize) -> Result<(), StepError> {
        let values: Vec<f32> = (0..n).map(|n| 0.1 + (n * 37 % 101) as f32 / 100.0).collect();
        Ok(self.cpu.write(input, &values)?)
    }

    /// Seconds that the CPU takes for an expert of one token, while as many are sent.
    fn time_beside_the_bus(&mut self) -> Result<Option<f64>, StepError> {
        let Some(sending) = &mut self.sending else { return Ok(None) };
        let n_used = self.config.experts.as_ref().map_or(0, |experts| experts.n_used);
        let (n_sent, n_layers) = (n_used / 2, sending.n_layers());
        let before = sending.set_shares(&|_| Shares::Fixed(n_sent));
        let mut spans = Vec::new();
        let n_steps = i32::try_from(self.options.n_ctx).map_or(STEPS, |n_ctx| n_ctx.min(STEPS));
        for position in 0..n_steps {
            self.room.trace().begin();
            let token = Token { id: 0, seq: Seq::FIRST, position, wants_logits: true };
            let done = self.step(&[token], &mut Vec::new());
            spans = self.room.trace().end();
            done?;
        }
        self.clear();
        if let Some(sending) = &mut self.sending {
            sending.put_shares(before);
        }
        Ok(Some(seconds(&spans) / (n_layers * (n_used - n_sent)) as f64).filter(|seconds| seconds.is_finite()))
    }

    /// Has the next step make its graph.
    fn forget(&mut self) {
        self.loaded = None;
        self.cpu.unload();
    }
}

/// How long a thread beside the graph was at work.
fn seconds(spans: &[Span]) -> f64 {
    let of_first = spans.iter().filter(|span| span.lane == Lane::Beside(0));
    of_first.map(|span| (span.end - span.begin).as_secs_f64()).sum()
}

/// 1 where nothing can be said.
fn ratio(measured: f64, assumed: f64) -> f64 {
    Some(measured / assumed).filter(|ratio| ratio.is_finite() && *ratio > 0.0).unwrap_or(1.0)
}
