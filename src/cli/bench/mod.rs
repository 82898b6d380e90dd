//! `cachalot bench`: how fast a model is on this machine.
//!
//! `report` is what was measured, as data and as tables; `peer` is llama-bench, for comparison. The clock is
//! the engine's.

mod peer;
mod report;

use super::interrupt::guard_job;
use super::model::ComputeOptions;
use super::new_file::NewFile;
use super::output::{answer, json, message};
use super::size::at_least_one;
use crate::catalog;
use crate::engine::bench::{Test, first_token, machine, timeline};
use crate::engine::{Engine, trained_context};
use crate::exit::{BadInput, CannotWrite};
use peer::Peer;
use report::{Load, Measured, Report};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measure how fast a model is on this machine
///
/// Prompts are random tokens, computed from an empty cache. Generation is a token at a time, each with its
/// logits, behind --depth cached tokens; which token comes next is random, and sampling is not measured. Each
/// measurement is made once without counting, then --repetitions times.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// Lengths of prompts, in tokens
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', default_value = "128,512", value_parser = at_least_one::<u32>)]
    prompt: Vec<u32>,
    /// Tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value = "32", value_parser = at_least_one::<u32>)]
    generate: u32,
    /// Cached tokens behind which they are generated [default: 0, and 4096 where the model was made for so many]
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', value_parser = depth())]
    depth: Vec<u32>,
    /// How often each measurement is made
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = at_least_one::<u32>)]
    repetitions: u32,
    /// Measure prompts only, or generation only
    #[arg(long, value_name = "WHAT")]
    only: Option<Only>,
    /// Bandwidth of the memory, in GB/s, where it need not be measured
    #[arg(long, value_name = "GB/S", value_parser = gigabytes)]
    bandwidth: Option<f64>,
    /// Measure this llama-bench too, on the same file with the same lengths, in turn with our own
    #[arg(long, value_name = "LLAMA_BENCH")]
    against: Option<PathBuf>,
    /// More flags for it, in one word: "-lm none --repack 0"; one value each
    #[arg(long, value_name = "FLAGS", requires = "against", allow_hyphen_values = true, default_value = "")]
    against_args: String,
    /// Write what happens while tokens are generated behind the first --depth, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print the report as JSON, with every measurement
    #[arg(long)]
    json: bool,
    /// Say nothing while measuring
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    options: ComputeOptions,
}

const EXAMPLES: &str = "\
Examples:
  cachalot bench demo
  cachalot bench model.gguf -p 512 -n 64 -d 0,4096
  cachalot bench model.gguf --only generation --trace trace.json
  cachalot bench model.gguf --against ~/llama.cpp/build/bin/llama-bench";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Prompt,
    Generation,
}

fn depth() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..)
}

fn gigabytes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(n) if n > 0.0 && f64::is_finite(n) => Ok(n),
        _ => Err("not a number above 0".to_owned()),
    }
}

/// How often our measurements and the peer's take turns, so that both have what else the machine does.
const ROUNDS: usize = 2;

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let trained = trained_context(catalog::source(&args.model)?)?;
    let tests = tests(args, trained);
    let n_ctx = context(args, &tests, trained)?;
    if let Some(file) = &args.trace {
        NewFile::refuse_existing(file)?;
    }
    let peer = args.against.as_ref().map(|program| Peer::find(program, &args.against_args)).transpose()?;
    let say = |text: &str| {
        if !args.quiet {
            message(text);
        }
    };

    say("loading the model");
    let (engine, load) = load(args, n_ctx)?;
    let bandwidth = || {
        say("measuring the memory");
        machine::read_bandwidth(engine.info().n_threads)
    };
    let before = args.bandwidth.map_or_else(bandwidth, |gb| gb * 1e9);
    let mut rows: Vec<Measured> = tests.into_iter().map(Measured::new).collect();
    let rounds = if peer.is_some() { ROUNDS } else { 1 };
    for _ in 0..rounds {
        for row in &mut rows {
            say(&format!("measuring {}", report::title(row.test)));
            row.ours.extend(measure(&engine, row.test, args.repetitions as usize)?);
        }
        if let Some(peer) = &peer {
            say(&format!("running {}", peer.name()));
            measure_peer(peer, &engine, &mut rows, args.repetitions as usize)?;
        }
    }
    // What else the machine does may have slowed the first time.
    let bandwidth = args.bandwidth.map_or_else(|| before.max(bandwidth()), |_| before);
    if let Some(file) = &args.trace {
        trace(args, &engine, file)?;
    }
    let report = Report::new(engine.info(), load, bandwidth, &rows, peer.as_ref());
    match args.json {
        true => json(&report)?,
        false => answer(report.text().as_bytes())?,
    }
    Ok(())
}

/// Cached tokens, where nothing is said of them and the model was made for as many.
const DEPTHS: [u32; 2] = [0, 4096];

/// Each once, in the order in which they are asked for.
fn tests(args: &Args, trained: usize) -> Vec<Test> {
    let prompts = args.prompt.iter().map(|n| Test::Prompt { n: *n as usize });
    let generation = |depth: &u32| Test::Generation { n: args.generate as usize, depth: *depth as usize };
    let prompts = prompts.filter(|_| args.only != Some(Only::Generation));
    let fits = |depth: &u32| *depth == 0 || generation(depth).n_ctx() <= trained;
    let usual: Vec<u32> = DEPTHS.into_iter().filter(fits).collect();
    let depths = if args.depth.is_empty() { &usual } else { &args.depth };
    let generations = depths.iter().map(generation).filter(|_| args.only != Some(Only::Prompt));
    let mut tests = Vec::new();
    for test in prompts.chain(generations) {
        if !tests.contains(&test) {
            tests.push(test);
        }
    }
    tests
}

/// What the longest test needs, unless it is more than the model was made for.
fn context(args: &Args, tests: &[Test], trained: usize) -> anyhow::Result<usize> {
    let Some(longest) = tests.iter().copied().max_by_key(|test| test.n_ctx()) else {
        return Err(BadInput::Argument("there is nothing to measure".to_owned()).into());
    };
    let needed = longest.n_ctx();
    if needed > trained {
        let what = report::title(longest);
        let text = format!("{what} needs {needed} tokens of context, but the model was made for {trained}");
        return Err(BadInput::Argument(text).into());
    }
    // The first token follows the shortest prompt, measured or not.
    Ok(needed.max(shortest(args)))
}

fn shortest(args: &Args) -> usize {
    args.prompt.iter().min().map_or(1, |n| *n as usize)
}

/// Opens the model and computes the first token of an answer to the shortest prompt.
fn load(args: &Args, n_ctx: usize) -> anyhow::Result<(Engine, Load)> {
    let n = shortest(args);
    let start = Instant::now();
    let engine =
        args.options.load.open(catalog::source(&args.model)?, &args.options.engine_options(Some(n_ctx)), args.quiet)?;
    let load = start.elapsed();
    engine.with_forward(move |forward| first_token(forward, n))??;
    let first_token = start.elapsed();
    Ok((engine, Load::new(load, first_token, n)))
}

/// Steps of the timeline, after one that is not in it.
const TRACED: usize = 8;

fn trace(args: &Args, engine: &Engine, file: &Path) -> anyhow::Result<()> {
    let depth = args.depth.first().map_or(0, |n| *n as usize);
    let n = TRACED.min(args.generate as usize);
    let mut timeline = engine.with_forward(move |forward| timeline(forward, n, depth))??;
    // The first one makes the graph.
    if timeline.steps.len() > 1 {
        timeline.steps.remove(0);
    }
    let mut out = NewFile::create(file)?;
    let written = out.write_all(timeline.to_json()?.as_bytes());
    written.map_err(|error| CannotWrite { path: file.to_owned(), error })?;
    out.finish()?;
    if !args.quiet {
        let n = timeline.steps.len() as f64;
        let each =
            timeline.totals().into_iter().map(|(what, sum)| format!("{what} {:.2} ms", sum.as_secs_f64() * 1e3 / n));
        message(&format!("a token: {}; {} shows it", each.collect::<Vec<_>>().join(", "), file.display()));
    }
    Ok(())
}

fn measure(engine: &Engine, test: Test, repetitions: usize) -> anyhow::Result<Vec<Duration>> {
    let guard = guard_job(engine);
    let of_job = guard.clone();
    let times = engine.with_forward(move |forward| -> anyhow::Result<_> {
        of_job.check()?;
        Ok(test.measure(forward, repetitions)?)
    })?;
    guard.finish(times)
}

/// The peer is started once for prompts and once for generation: it tries all combinations.
fn measure_peer(peer: &Peer, engine: &Engine, rows: &mut [Measured], repetitions: usize) -> anyhow::Result<()> {
    let is_prompt = |row: &Measured| matches!(row.test, Test::Prompt { .. });
    for group in rows.chunk_by_mut(|a, b| is_prompt(a) == is_prompt(b)) {
        let tests: Vec<Test> = group.iter().map(|row| row.test).collect();
        let times = peer.measure(engine.info(), &tests, repetitions)?;
        group.iter_mut().zip(times).for_each(|(row, times)| row.peer.extend(times));
    }
    Ok(())
}
