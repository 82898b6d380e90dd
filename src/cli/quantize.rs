//! `cachalot quantize`: a model in fewer bits.

use super::interrupt;
use super::output::{Table, answer};
use super::size::{binary, bytes, count, exact};
use crate::catalog;
use crate::quantize::{Options, Override, Quantization, Summary, Target};
use crate::text::Escaped;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Store a model in fewer bits
///
/// Reads a model in F32, F16, BF16, Q8_0 or any other type and writes it as a mix of types after those of
/// Unsloth's dynamic quants, or in one type. Norms and the router stay F32. Where the rows of a tensor are no
/// whole number of a type's blocks it gets the nearest type that fits.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// UD-IQ1_S, UD-IQ1_M, UD-IQ2_XXS, UD-Q2_K_XL, UD-Q3_K_XL, UD-Q4_K_XL, or one type such as Q6_K
    #[arg(long, value_name = "MIX")]
    mix: Target,
    /// How much each column matters, in llama.cpp's GGUF format; IQ1 and IQ2 types need it
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Another type for matrices whose names the regular expression PATTERN is found in; the last one counts
    #[arg(long, value_name = "PATTERN=TYPE")]
    tensor: Vec<Override>,
    /// Write shards whose tensors take at most so many bytes, such as 500M or 48G
    #[arg(long, value_name = "N", value_parser = bytes)]
    split_max_size: Option<u64>,
    /// Write over existing files
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot quantize model-f16.gguf model-q8_0.gguf --mix Q8_0
  cachalot quantize model-f16.gguf small.gguf --mix Q2_K_XL --imatrix model.imatrix.gguf";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let options = Options { target: args.mix, overrides: args.tensor.clone(), imatrix: args.imatrix.clone() };
    let (quantization, summary) = Quantization::plan(catalog::source(&args.input)?, &options)?;
    let style = "quantizing {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    let bar = ProgressBar::new(summary.n_bytes).with_style(ProgressStyle::with_template(style)?);
    let start = Instant::now();
    let guard = interrupt::guard(|| ());
    let files = quantization.write(&args.output, args.split_max_size, args.force, &|bytes| {
        bar.inc(bytes);
        guard.check()
    });
    bar.finish_and_clear();
    let files = guard.finish(files)?;
    Ok(answer(report(args, &files, &summary, start.elapsed()).as_bytes())?)
}

fn report(args: &Args, files: &[PathBuf], summary: &Summary, took: Duration) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<11} {value}");
    };
    let first = files.first().unwrap_or(&args.output).to_string_lossy();
    let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
    let bits = 8.0 * summary.n_bytes as f64 / summary.n_parameters.max(1) as f64;
    line("file", format!("{}{more}", Escaped(&first)));
    line("mix", args.mix.to_string());
    line("parameters", count(summary.n_parameters));
    line("weights", format!("{} ({} bytes), {bits:.3} bits each", binary(summary.n_bytes), exact(summary.n_bytes)));
    line("written in", format!("{:.1} s", took.as_secs_f64()));
    let (experts, tensors) = summary.unreached;
    if experts > 0 {
        line("unreached", format!("{experts} experts of {tensors} tensors, which the importance matrix has not seen"));
    }
    if summary.without_importance > 0 {
        line("unweighted", format!("{} tensors that the importance matrix does not have", summary.without_importance));
    }
    for (name, ty) in &summary.replaced {
        line("instead", format!("{} is {ty}: its rows are no whole blocks of the type asked for", Escaped(name)));
    }
    let mut table = Table::new(&["type", ">tensors", ">bytes"]);
    for (ty, (tensors, bytes)) in &summary.types {
        table.row([(*ty).to_owned(), tensors.to_string(), exact(*bytes)]);
    }
    text + "\n" + &table.render("")
}
