//! `cachalot imatrix`: how much each input column of each matrix matters, from a text.

use super::input::Input;
use super::interrupt;
use super::model::ModelOptions;
use super::output::{Table, answer, message};
use super::progress::Progress;
use crate::catalog;
use crate::engine::{Failure, Forward, Seq, Token};
use crate::exit::{BadInput, CannotWrite};
use crate::quality::Cut;
use crate::quantize::{Collector, Coverage, Reached};
use crate::text::Escaped;
use clap::builder::RangedU64ValueParser;
use std::fmt::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Find out how much each column of each matrix matters, for quantize
///
/// Computes a text and sums up the squares of what goes into each matrix, for each expert by itself. The file is
/// in llama.cpp's GGUF format: `cachalot quantize` and llama.cpp's programs read it.
#[derive(Debug, clap::Args)]
#[command(mut_arg("context", |arg| arg.help("Tokens of a chunk [default: 512]")))]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// The text; - is stdin. It may be left out where files are merged
    #[arg(required_unless_present = "in_file")]
    file: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Add what is in an earlier file for this model, from here or from llama.cpp; may be given more than once
    #[arg(long, value_name = "FILE")]
    in_file: Vec<PathBuf>,
    /// Chunks to compute at most
    #[arg(long, value_name = "N", requires = "file", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    chunks: Option<usize>,
    /// Leave out the first N chunks, for instance those that --in-file has
    #[arg(long, value_name = "N", requires = "file", default_value_t = 0)]
    from_chunk: usize,
    /// Write OUT after every N chunks, so that a long run can be taken up again; 0 is only at the end
    #[arg(long, value_name = "N", default_value_t = 10)]
    save_every: usize,
    /// Take control tokens that are spelled in the text for what they are
    #[arg(long, requires = "file")]
    special: bool,
    /// Collect for the head, output.weight, too
    #[arg(long)]
    process_output: bool,
    /// Write over an existing file
    #[arg(short, long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    options: ModelOptions,
}

const DEFAULT_LENGTH: usize = 512;

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let length = chunk_length(args)?;
    check_output(args)?;
    let mut collector = Collector::new(catalog::source(&args.model)?, length, args.process_output)?;
    args.in_file.iter().try_for_each(|path| collector.merge(path))?;
    let seconds = match &args.file {
        Some(path) => {
            let (with_text, seconds) = collect(args, path, length, collector)?;
            collector = with_text;
            seconds
        }
        None => {
            // The file is written whole, whatever signal comes.
            let _guard = interrupt::guard(|| ());
            collector.write(&args.output, args.force)?;
            0.0
        }
    };
    Ok(answer(report(args, &collector, length, seconds).as_bytes())?)
}

/// Computes the text and writes what there is then.
fn collect(args: &Args, path: &Path, length: usize, mut collector: Collector) -> anyhow::Result<(Collector, f64)> {
    let mut input = Input::open(path)?;
    let text = input.text()?;
    let mut options = args.options.engine_options();
    options.n_ctx = Some(length);
    let engine = args.options.open_with(&args.model, &options, args.quiet)?;
    let n_ctx_train = engine.info().n_ctx_train;
    if length > n_ctx_train && !args.quiet {
        message(&format!("chunks of {length} tokens are longer than the {n_ctx_train} that the model was made for"));
    }
    let bos = engine.tokenizer().prefix();
    let ids = match args.special {
        true => engine.tokenizer().encode_trusted(&text),
        false => engine.tokenizer().encode_content(&text),
    };
    let tokens: Vec<u32> = bos.into_iter().chain(ids).collect();
    let chunks = chunks(args, tokens.len(), length).map_err(|fault| input.faulty(&fault))?;
    let name = path.file_name().map_or("stdin".into(), |name| name.to_string_lossy());
    collector.name_text(if path == Path::new("-") { "stdin" } else { &name });

    let progress = Progress::new(chunks.len(), args.quiet);
    let (output, force, save_every) = (args.output.clone(), args.force, args.save_every);
    // The chunk under way is finished first: what was computed is not to be lost.
    let guard = Arc::new(interrupt::guard(|| ()));
    let until_interrupted = guard.clone();
    let collected = engine.with_forward(move |forward| -> anyhow::Result<_> {
        let mut is_written = false;
        for (n_done, chunk) in (1..).zip(chunks.clone()) {
            observe(forward, &Cut::Chunks(length).window(&tokens, chunk, bos), &mut collector)?;
            progress.show(n_done, &reached_text(&collector.coverage()));
            let interrupted = until_interrupted.check();
            let is_last = n_done == chunks.len() || interrupted.is_err();
            if is_last || (save_every > 0 && n_done % save_every == 0) {
                collector.write(&output, force || is_written)?;
                is_written = true;
            }
            if let (true, Err(interrupted)) = (n_done < chunks.len(), interrupted) {
                progress.finish();
                message(&rest(&output, chunk + 1));
                return Err(interrupted.into());
            }
        }
        Ok((collector, progress.finish()))
    })?;
    // An output that could not be written must be told, interrupted or not.
    match collected {
        Err(error) if error.is::<std::io::Error>() => guard.finish(Err(error)),
        collected => collected,
    }
}

/// How an interrupted run goes on.
fn rest(output: &Path, from: usize) -> String {
    let shown = output.to_string_lossy();
    let name = shlex::try_quote(&shown).map_or_else(|_| Escaped(&shown).to_string(), |name| name.into_owned());
    format!(
        "{} has what was collected; to go on, give the same command with --in-file {name} --from-chunk {from} -f",
        Escaped(&shown)
    )
}

/// Adds what a chunk shows.
fn observe(forward: &mut Forward, window: &[u32], collector: &mut Collector) -> anyhow::Result<()> {
    forward.clear();
    let token = |(at, id): (usize, &u32)| Token {
        id: *id,
        seq: Seq::FIRST,
        position: i32::try_from(at).unwrap_or(i32::MAX),
        wants_logits: false,
    };
    let tokens: Vec<Token> = window.iter().enumerate().map(token).collect();
    for step in tokens.chunks(forward.options().n_batch) {
        let mut added = Ok(());
        let add = |collector: &mut Collector, names: &[String], sums: &[f32], counts: &[f32]| {
            names.iter().try_for_each(|name| collector.add(name, sums, counts))
        };
        let computed = forward.step_observed(step, |seen| {
            if added.is_ok() {
                added = add(collector, seen.tensors, seen.sums, seen.counts);
            }
        });
        computed.map_err(Failure::from)?;
        added?;
    }
    collector.count(window.len());
    Ok(())
}

fn chunk_length(args: &Args) -> Result<usize, BadInput> {
    let length = args.options.engine_options().n_ctx.unwrap_or(DEFAULT_LENGTH);
    let (min, max) = (Cut::MIN_LENGTH, Cut::MAX_LENGTH);
    match (min..=max).contains(&length) {
        true => Ok(length),
        false => Err(BadInput::Argument(format!("-c {length}: a chunk has from {min} to {max} tokens"))),
    }
}

/// Which chunks of a text of so many tokens are computed.
fn chunks(args: &Args, n_tokens: usize, length: usize) -> Result<Range<usize>, String> {
    let (n, first) = (n_tokens / length, args.from_chunk);
    if n == 0 {
        return Err(format!(
            "{n_tokens} tokens are too few for a chunk of {length}; give a longer text, or -c a smaller number"
        ));
    }
    if first >= n {
        return Err(format!("--from-chunk {first}: the text has no more than {n} chunks of {length} tokens"));
    }
    Ok(first..args.chunks.map_or(n, |chunks| n.min(first.saturating_add(chunks))))
}

/// Before the work, not after it.
fn check_output(args: &Args) -> anyhow::Result<()> {
    if args.output.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let error = std::io::Error::other("is no regular file, and is not written over");
        return Err(CannotWrite { path: args.output.clone(), error }.into());
    }
    let mut partial = args.output.clone().into_os_string();
    partial.push(".partial");
    if !args.force && Path::new(&partial).exists() {
        let error = std::io::Error::other("is what an unfinished run has left; remove it, or use --force");
        return Err(CannotWrite { path: partial.into(), error }.into());
    }
    let id = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let Some(output) = id(&args.output) else {
        let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = folder.map_or(Ok(()), |folder| folder.read_dir().map(drop));
        return Ok(found.map_err(|error| CannotWrite { path: args.output.clone(), error })?);
    };
    if [Some(&args.model), args.file.as_ref()].into_iter().flatten().any(|read| id(read) == Some(output)) {
        let fault = format!("{}: is read from; write to another name", args.output.display());
        return Err(BadInput::Argument(fault).into());
    }
    if !args.force {
        let error = std::io::Error::other("exists already; write to another name, or over it with --force");
        return Err(CannotWrite { path: args.output.clone(), error }.into());
    }
    Ok(())
}

fn report(args: &Args, collector: &Collector, length: usize, seconds: f64) -> String {
    let coverage = collector.coverage();
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<11} {value}");
    };
    line("file", Escaped(&args.output.to_string_lossy()).to_string());
    line("text", format!("{} chunks of {length} tokens, {seconds:.1} s", collector.n_chunks()));
    line("matrices", coverage.n_seen.to_string());
    if !coverage.experts.is_empty() {
        line("experts", reached_text(&coverage));
    }
    for name in &coverage.without_data {
        line("no data", Escaped(name).to_string());
    }
    let worst = worst(&coverage);
    if worst.is_empty() {
        return text;
    }
    let mut table = Table::new(&[">layer", ">experts", ">never reached"]);
    for Reached { layer, n_reached, n_experts } in worst {
        table.row([layer.to_string(), n_experts.to_string(), (n_experts - n_reached).to_string()]);
    }
    text + "\n" + &table.render("")
}

fn reached_text(coverage: &Coverage) -> String {
    let sum = |of: fn(&Reached) -> usize| coverage.experts.iter().map(of).sum::<usize>();
    format!("{} of {} experts reached", sum(|layer| layer.n_reached), sum(|layer| layer.n_experts))
}

/// Layers where experts were never reached, those with most of them first.
fn worst(coverage: &Coverage) -> Vec<Reached> {
    const SHOWN: usize = 10;
    let mut layers = coverage.experts.clone();
    layers.retain(|layer| layer.n_reached < layer.n_experts);
    layers.sort_by_key(|layer| layer.n_reached);
    layers.truncate(SHOWN);
    layers
}
