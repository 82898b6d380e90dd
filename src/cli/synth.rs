//! `cachalot synth`: a synthetic model to measure speed on.

use super::interrupt;
use super::output::answer;
use super::size::{binary, count, exact};
use crate::exit::BadInput;
use crate::quantize::Mix;
use crate::synth::{ExpertUse, Model, Recipe, Synthetic};
use crate::text::Escaped;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Write a synthetic model, to measure speed on
///
/// The file has a real model's shapes, types, metadata keys and control tokens, and random weights: it
/// runs at the real model's speed a layer, without a download and with as few layers as a machine has
/// room for. Text from it is noise. The same arguments make the same bytes.
///
/// Weights are of such a size that activations stay sane, and the hidden state stays near the token's
/// embedding. Tokens then use all experts about alike, which is what speed must be measured with, unless
/// --skew makes some more popular. How even their use will be is estimated and printed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whose shapes: deepseek-v3, deepseek-v2.5 (deepseek-v2 is the same) or deepseek-v2-lite
    #[arg(long, value_name = "MODEL")]
    like: &'static Model,
    /// How many layers [default: all of the model's]
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// How many of them, the first, have no experts [default: as the model, but 1 where --layers are fewer]
    #[arg(long, value_name = "N")]
    dense: Option<u32>,
    /// Types of the weights, like those of the quant of this name: IQ1_S, IQ1_M, IQ2_XXS, Q2_K_XL,
    /// Q3_K_XL, Q4_K_XL, Q8_0 or F16
    #[arg(long, value_name = "NAME")]
    mix: Mix,
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens in the vocabulary, for smaller embeddings and head [default: as the model]
    #[arg(long, value_name = "N")]
    vocab: Option<u32>,
    /// Make the n-th most popular expert of a layer be used in proportion to 1/n^S; 0 is even use
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    skew: f64,
    /// Other seeds make other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  cachalot synth --like deepseek-v3 --layers 3 --vocab 8192 --mix IQ1_S -o synth.gguf";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let recipe = Recipe {
        like: args.like,
        layers: args.layers,
        dense: args.dense,
        mix: args.mix,
        tokens: args.vocab,
        seed: args.seed,
        skew: args.skew,
    };
    let model = recipe.make().map_err(|error| BadInput::Argument(error.to_string()))?;
    let took = write(args, &model)?;
    Ok(answer(report(args, &model, took).as_bytes())?)
}

fn write(args: &Args, model: &Synthetic) -> anyhow::Result<Duration> {
    let style = "writing {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    let bar = ProgressBar::new(model.n_bytes()).with_style(ProgressStyle::with_template(style)?);
    let start = Instant::now();
    let guard = interrupt::guard(|| ());
    let written = model.write(&args.output, &|bytes| {
        bar.inc(bytes);
        guard.check()
    });
    bar.finish_and_clear();
    guard.finish(written)?;
    Ok(start.elapsed())
}

fn report(args: &Args, model: &Synthetic, took: Duration) -> String {
    let (bytes, layers, dense) = (model.n_bytes(), model.n_layers(), model.n_dense_layers());
    let seconds = took.as_secs_f64();
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<11} {value}");
    };
    line("file", Escaped(&args.output.to_string_lossy()).to_string());
    line("model", format!("{} in {}, {layers} layers, {dense} of them dense", args.like, args.mix));
    line("parameters", count(model.n_parameters()));
    line("weights", format!("{} ({} bytes)", binary(bytes), exact(bytes)));
    line("written in", format!("{seconds:.1} s, {:.2} GB/s", bytes as f64 / 1e9 / seconds));
    if let Some(experts) = model.expert_use() {
        text.push_str(&expert_use(&experts));
    }
    text
}

fn expert_use(experts: &ExpertUse) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    format!(
        "expert use  estimated at the embeddings of {} tokens, which choose {} of {} experts in {} layers:\n\
         \x20           the busiest tenth of the experts gets {} of all uses (even: 10 %)\n\
         \x20           the least used expert gets {:.2} times the mean, the most used {:.2} times\n\
         \x20           variation {:.3} (drawn by lot: {:.3})\n",
        experts.tokens,
        experts.used,
        experts.experts,
        experts.layers,
        percent(experts.busiest_tenth),
        experts.least,
        experts.most,
        experts.variation,
        experts.variation_by_lot,
    )
}
