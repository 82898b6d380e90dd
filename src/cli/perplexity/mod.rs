//! `cachalot perplexity`: how well a model predicts a text, and how far it is from another model.

mod evaluate;
mod report;

use super::input::Input;
use super::interrupt::guard_job;
use super::model::ModelOptions;
use super::new_file::NewFile;
use super::output::{answer, json, message};
use super::progress::Progress;
use crate::engine::Engine;
use crate::exit::{BadInput, CannotWrite};
use crate::quality::saved::{self, Header, Row};
use crate::quality::{Comparison, Cut, Sample, Score, Summary};
use evaluate::{Rows, evaluate};

use rayon::prelude::*;
use report::Work;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Measure how well a model predicts a text
///
/// The text is cut into chunks; each is computed by itself, and its second half is scored. The perplexity is
/// defined as in llama.cpp's tool, so the numbers can be compared: with the same text, chunks and vocabulary,
/// lower is better. With --kl the model is compared, token by token, with one whose predictions --save-logits
/// has saved.
#[derive(Debug, clap::Args)]
#[command(mut_arg("context", |arg| arg.help("Tokens of a chunk [default: 512]")))]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// The text; - is stdin
    #[arg(required_unless_present = "kl", conflicts_with = "kl")]
    file: Option<PathBuf>,
    /// Chunks to compute at most
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Let chunks begin so many tokens apart and score the last N of each; they are then N/2 tokens longer
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Save the predictions, for --kl; the file must not exist. A token takes two bytes for each of the
    /// vocabulary
    #[arg(long, value_name = "FILE", conflicts_with = "stride")]
    save_logits: Option<PathBuf>,
    /// Compare with saved predictions: their text, their chunks
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stride", "save_logits"])]
    kl: Option<PathBuf>,
    /// Take control tokens that are spelled in the text for what they are
    #[arg(long, conflicts_with = "kl")]
    special: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    options: ModelOptions,
}

const DEFAULT_LENGTH: usize = 512;

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.chunks == Some(0) {
        return Err(BadInput::Argument("--chunks 0: there must be one at least".to_owned()).into());
    }
    match &args.kl {
        Some(path) => compare(args, path),
        None => measure(args),
    }
}

/// The perplexity of a text.
fn measure(args: &Args) -> anyhow::Result<()> {
    let (cut, path) = (cut(args)?, args.file.as_deref().unwrap_or(Path::new("-")));
    if let Some(path) = &args.save_logits {
        NewFile::refuse_existing(path)?;
    }
    let mut input = Input::open(path)?;
    let text = input.text()?;
    let engine = open(args, cut)?;
    let tokenizer = engine.tokenizer();
    let bos = tokenizer.prefix();
    let ids = match args.special {
        true => tokenizer.encode_trusted(&text),
        false => tokenizer.encode_content(&text),
    };
    let tokens: Vec<u32> = bos.into_iter().chain(ids).collect();
    let n_windows = cut.n_windows(tokens.len());
    if n_windows == 0 {
        let (n, length, needed) = (tokens.len(), cut.length(), cut.n_needed());
        let fault = format!(
            "{n} tokens are too few: two chunks of {length} tokens need {needed}; give a longer text, or -c a \
             smaller number"
        );
        return Err(input.faulty(&fault).into());
    }
    let n_chunks = n_windows.min(args.chunks.unwrap_or(usize::MAX));
    let guard = guard_job(&engine);
    let of_job = guard.clone();
    let mut saver = args.save_logits.as_deref().map(|path| Saver::new(path, &engine, cut, n_chunks)).transpose()?;

    let progress = Progress::new(n_chunks, args.quiet);
    let measured = engine.with_forward(move |forward| -> anyhow::Result<_> {
        let mut nll = Sample::default();
        for chunk in 0..n_chunks {
            of_job.check()?;
            let window = cut.window(&tokens, chunk, bos);
            saver.as_mut().map_or(Ok(()), |saver| saver.tokens(&window))?;
            evaluate(forward, &window, cut.scored(), |rows| {
                nll.extend(score(rows));
                saver.as_mut().map_or(Ok(()), |saver| saver.rows(rows))
            })?;
            progress.show(chunk + 1, &format!("perplexity {}", report::with_error(nll.perplexity(), 4)));
        }
        saver.map_or(Ok(()), Saver::finish)?;
        Ok((nll, progress.finish()))
    })?;
    let (nll, seconds) = guard.finish(measured)?;

    let n_ctx = cut.length();
    let work = Work { model: &args.model, n_ctx, stride: args.stride, n_chunks, seconds };
    match args.json {
        true => json(&report::perplexity_json(nll.perplexity(), nll.len(), &work))?,
        false => answer(report::perplexity_line(nll.perplexity(), nll.len(), &work).as_bytes())?,
    }
    Ok(())
}

/// How far the model is from the one whose predictions are in a file.
fn compare(args: &Args, path: &Path) -> anyhow::Result<()> {
    let in_file = |error| unusable(path, error);
    let file = File::open(path).map_err(|error| in_file(error.into()))?;
    let metadata = file.metadata().map_err(|error| in_file(error.into()))?;
    if !metadata.is_file() {
        return Err(in_file(std::io::Error::other("it is no ordinary file").into()).into());
    }
    let mut saved = saved::Reader::new(BufReader::new(file), metadata.len()).map_err(in_file)?;
    let Header { n_vocab, n_ctx, n_chunks } = saved.header();
    let cut = saved.header().cut();
    if let Some(length) = args.options.engine_options().n_ctx.filter(|length| *length != cut.length()) {
        let fault = format!("-c {length}: {} was saved with chunks of {n_ctx} tokens", path.display());
        return Err(BadInput::Argument(fault).into());
    }
    let engine = open(args, cut)?;
    if engine.info().n_vocab != n_vocab as usize {
        let fault = format!(
            "saved with a vocabulary of {n_vocab} tokens, but the one of {} has {}",
            args.model.display(),
            engine.info().n_vocab
        );
        return Err(BadInput::Faulty { name: path.display().to_string(), fault }.into());
    }

    let n_chunks = args.chunks.unwrap_or(usize::MAX).min(n_chunks as usize);
    let progress = Progress::new(n_chunks, args.quiet);
    let path = path.to_owned();
    let guard = guard_job(&engine);
    let of_job = guard.clone();
    let compared = engine.with_forward(move |forward| -> anyhow::Result<_> {
        let mut comparisons = Vec::new();
        for chunk in 0..n_chunks {
            of_job.check()?;
            let window = saved.tokens().map_err(|error| unusable(&path, error))?;
            evaluate(forward, &window, cut.scored(), |rows| {
                let of_saved: Result<Vec<Row>, _> = rows.targets.iter().map(|_| saved.row()).collect();
                comparisons.extend(diverge(&of_saved.map_err(|error| unusable(&path, error))?, rows));
                Ok(())
            })?;
            let so_far = Summary::of(&comparisons);
            let (kl, ratio) = (report::with_error(so_far.kl, 6), report::with_error(so_far.ratio, 4));
            progress.show(chunk + 1, &format!("KL divergence {kl}, perplexity ratio {ratio}"));
        }
        Ok((Summary::of(&comparisons), progress.finish()))
    })?;
    let (summary, seconds) = guard.finish(compared)?;

    let work = Work { model: &args.model, n_ctx: cut.length(), stride: None, n_chunks, seconds };
    match args.json {
        true => json(&report::divergence_json(&summary, &work))?,
        false => answer(report::divergence_table(&summary, &work).as_bytes())?,
    }
    Ok(())
}

/// How the options say a text is to be cut.
fn cut(args: &Args) -> Result<Cut, BadInput> {
    let n_ctx = args.options.engine_options().n_ctx.unwrap_or(DEFAULT_LENGTH);
    let (min, max) = (Cut::MIN_LENGTH, Cut::MAX_LENGTH);
    if !(min..=max).contains(&n_ctx) {
        return Err(BadInput::Argument(format!("-c {n_ctx}: a chunk has from {min} to {max} tokens")));
    }
    match args.stride {
        None => Ok(Cut::Chunks(n_ctx)),
        Some(stride) if (1..=n_ctx).contains(&stride) => Ok(Cut::Strided { n_ctx, stride }),
        Some(stride) => {
            let fault = format!("--stride {stride}: it must be from 1 to the {n_ctx} tokens of a chunk");
            Err(BadInput::Argument(fault))
        }
    }
}

/// Opens the model with room for a window.
fn open(args: &Args, cut: Cut) -> anyhow::Result<Engine> {
    let mut options = args.options.engine_options();
    options.n_ctx = Some(cut.length());
    let engine = args.options.open_with(&args.model, &options, args.quiet)?;
    let (length, n_ctx_train) = (cut.length(), engine.info().n_ctx_train);
    if length > n_ctx_train && !args.quiet {
        message(&format!("chunks of {length} tokens are longer than the {n_ctx_train} that the model was made for"));
    }
    Ok(engine)
}

fn score(rows: &Rows<'_>) -> Vec<f64> {
    let logits = rows.logits.par_chunks_exact(rows.n_vocab);
    logits.zip(rows.targets).map(|(row, target)| Score::of(row, *target).nll).collect()
}

fn diverge(saved: &[Row], rows: &Rows<'_>) -> Vec<Comparison> {
    let logits = rows.logits.par_chunks_exact(rows.n_vocab).zip(rows.targets);
    logits.zip(saved).map(|((row, target), saved)| Comparison::of(saved, row, *target)).collect()
}

/// What is wrong with a file of saved predictions, under its name.
fn unusable(path: &Path, error: saved::Error) -> BadInput {
    let name = path.display().to_string();
    match error {
        saved::Error::Io(error) => BadInput::Unreadable { name, error },
        fault => BadInput::Faulty { name, fault: fault.to_string() },
    }
}

/// The file into which predictions go.
struct Saver {
    path: PathBuf,
    writer: saved::Writer<NewFile>,
}

impl Saver {
    fn new(path: &Path, engine: &Engine, cut: Cut, n_chunks: usize) -> Result<Saver, CannotWrite> {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let header =
            Header { n_vocab: number(engine.info().n_vocab), n_ctx: number(cut.length()), n_chunks: number(n_chunks) };
        let file = NewFile::create(path)?;
        match saved::Writer::new(file, header) {
            Ok(writer) => Ok(Saver { path: path.to_owned(), writer }),
            Err(error) => Err(CannotWrite { path: path.to_owned(), error }),
        }
    }

    fn tokens(&mut self, tokens: &[u32]) -> anyhow::Result<()> {
        Ok(self.writer.tokens(tokens).map_err(|error| CannotWrite { path: self.path.clone(), error })?)
    }

    fn rows(&mut self, rows: &Rows<'_>) -> anyhow::Result<()> {
        let logits = rows.logits.par_chunks_exact(rows.n_vocab);
        let rows: Vec<Row> = logits.zip(rows.targets).map(|(row, target)| Row::of(row, *target)).collect();
        let mut written = rows.iter().map(|row| self.writer.row(row));
        Ok(written.try_for_each(|result| result).map_err(|error| CannotWrite { path: self.path.clone(), error })?)
    }

    fn finish(self) -> anyhow::Result<()> {
        Ok(self.writer.into_inner().finish()?)
    }
}
