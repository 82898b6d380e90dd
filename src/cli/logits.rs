//! `cachalot logits`: what a model says of given tokens, for comparison with other programs.

use super::input::Input;
use super::interrupt::guard_job;
use super::model::ModelOptions;
use super::new_file::NewFile;
use crate::engine::{Forward, Refused, Seq, StepError, Token};
use crate::exit::{BadInput, CannotWrite};
use safetensors::tensor::{Dtype, TensorView};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Compute the logits of given tokens
///
/// The ids are used as they are: nothing is put before them. The result is a safetensors file with
/// `logits` F32 [rows, vocabulary] and `positions` I32 [rows].
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// A file with a JSON array of token ids; - is stdin
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whose logits: all, last, or a list such as 0,5,17
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = Positions::parse)]
    positions: Positions,
    /// As exact as can be: F32 cache, no flash attention, ggml's reference paths
    #[arg(long, conflicts_with_all = ["cache_type", "no_flash_attention"])]
    exact: bool,
    #[command(flatten)]
    options: ModelOptions,
}

const EXAMPLES: &str = "\
Examples:
  cachalot tokenize demo Hello --json | cachalot logits demo --tokens - -o logits.safetensors
  cachalot logits demo --tokens ids.json --positions last -o last.safetensors";

#[derive(Debug, Clone, PartialEq)]
enum Positions {
    All,
    Last,
    These(Vec<usize>),
}

impl Positions {
    fn parse(text: &str) -> Result<Positions, String> {
        match text {
            "all" => Ok(Positions::All),
            "last" => Ok(Positions::Last),
            list => {
                let mut positions: Vec<usize> = list
                    .split(',')
                    .map(|part| part.trim().parse().map_err(|_| format!("'{part}' is no position")))
                    .collect::<Result<_, _>>()?;
                positions.sort_unstable();
                positions.dedup();
                Ok(Positions::These(positions))
            }
        }
    }

    /// Which of `n` tokens are meant.
    fn of(&self, n: usize) -> Result<Vec<usize>, BadInput> {
        match self {
            Positions::All => Ok((0..n).collect()),
            Positions::Last => Ok(vec![n - 1]),
            Positions::These(positions) => match positions.iter().find(|position| **position >= n) {
                Some(beyond) => Err(BadInput::Argument(format!("--positions: {beyond} is not one of {n} tokens"))),
                None => Ok(positions.clone()),
            },
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let ids = read_ids(&args.tokens)?;
    let positions = args.positions.of(ids.len())?;
    NewFile::refuse_existing(&args.output)?;
    let mut options = args.options.engine_options();
    options.exact = args.exact;
    options.n_ctx.get_or_insert(ids.len());
    let engine = args.options.open_with(&args.model, &options, true)?;
    let n_vocab = engine.info().n_vocab;
    if let Some(id) = ids.iter().find(|id| **id as usize >= n_vocab) {
        let fault = format!("the token id {id} is not in the vocabulary of {n_vocab}");
        return Err(BadInput::Faulty { name: args.tokens.display().to_string(), fault }.into());
    }
    let (prompt, n_ctx) = (ids.len(), engine.info().n_ctx);
    if prompt > n_ctx {
        return Err(Refused::PromptTooLong { prompt, n_ctx }.into());
    }
    let wanted = positions.clone();
    let guard = guard_job(&engine);
    let output = NewFile::create(&args.output)?;
    let of_job = guard.clone();
    let logits = engine.with_forward(move |forward| -> anyhow::Result<_> {
        of_job.check()?;
        Ok(evaluate(forward, &ids, &wanted)?)
    })?;
    let logits = guard.finish(logits)?;
    write(output, &args.output, &positions, n_vocab, &logits)
}

/// The logits of the tokens at `wanted`, which ascend.
fn evaluate(forward: &mut Forward, ids: &[u32], wanted: &[usize]) -> Result<Vec<f32>, StepError> {
    let seq = Seq::FIRST;
    let token = |(at, id): (usize, &u32)| Token {
        id: *id,
        seq,
        position: i32::try_from(at).unwrap_or(i32::MAX),
        wants_logits: wanted.binary_search(&at).is_ok(),
    };
    let tokens: Vec<Token> = ids.iter().enumerate().map(token).collect();
    let mut logits = Vec::new();
    for chunk in tokens.chunks(forward.options().n_batch) {
        forward.step(chunk, &mut logits)?;
    }
    Ok(logits)
}

fn read_ids(path: &Path) -> Result<Vec<u32>, BadInput> {
    let mut input = Input::open(path)?;
    let text = input.text()?;
    let ids: Vec<u32> = serde_json::from_str(&text)
        .map_err(|error| input.faulty(&format!("not a JSON array of token ids: {error}")))?;
    if ids.is_empty() { Err(input.faulty("there are no tokens in it")) } else { Ok(ids) }
}

fn write(mut file: NewFile, path: &Path, positions: &[usize], n_vocab: usize, logits: &[f32]) -> anyhow::Result<()> {
    let logits: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let numbers: Vec<u8> = positions.iter().flat_map(|p| (*p as i32).to_le_bytes()).collect();
    let rows = positions.len();
    let tensors = [
        ("logits", TensorView::new(Dtype::F32, vec![rows, n_vocab], &logits)?),
        ("positions", TensorView::new(Dtype::I32, vec![rows], &numbers)?),
    ];
    let bytes = safetensors::serialize(tensors, None)?;
    file.write_all(&bytes).map_err(|error| CannotWrite { path: path.to_owned(), error })?;
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_all_the_last_or_a_list() {
        assert_eq!(Positions::parse("all").unwrap().of(3).unwrap(), [0, 1, 2]);
        assert_eq!(Positions::parse("last").unwrap().of(3).unwrap(), [2]);
        assert_eq!(Positions::parse("2, 0,2").unwrap().of(3).unwrap(), [0, 2]);
        assert!(Positions::parse("3").unwrap().of(3).is_err());
        assert_eq!(Positions::parse("1,x"), Err("'x' is no position".to_owned()));
    }
}
