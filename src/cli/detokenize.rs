//! `cachalot detokenize`: token ids to text.

use super::input::Input;
use super::output::{Parts, answer};
use crate::catalog;
use crate::exit::BadInput;
use crate::tokenizer::{ControlTokens, Tokenizer};
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

/// Put a model's tokens together to text
///
/// The ids are ID; or what is in the files; or what comes on stdin: numbers with spaces, commas or
/// brackets between, as tokenize --json prints them. The text is printed as it is, with no line end added
/// but on a terminal. Bytes that are no text come out as U+FFFD.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// The ids
    #[arg(value_name = "ID", conflicts_with_all = ["file", "jsonl"])]
    ids: Vec<String>,
    /// Take the ids from a file; may be repeated, and - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Print the text as a JSON string
    #[arg(long)]
    json: bool,
    /// Read lines that are JSON arrays of ids; print the JSON string of each one's text
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
    /// Show control tokens, such as <｜User｜>, in the text
    #[arg(long)]
    special: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot detokenize demo 17 42
  cachalot tokenize demo Hello --json | cachalot detokenize demo";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::open(catalog::source(&args.model)?)?;
    let control = if args.special { ControlTokens::Shown } else { ControlTokens::Hidden };
    if args.jsonl {
        return lines(args, &tokenizer, control);
    }
    let ids = ids(args, &tokenizer)?;
    let mut text = tokenizer.decode(&ids, control)?;
    if args.json {
        text = serde_json::to_string(&text)? + "\n";
    } else if stdout().is_terminal() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(answer(text.as_bytes())?)
}

fn ids(args: &Args, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    if !args.ids.is_empty() {
        let ids = parse(&args.ids.join(" ")).map_err(BadInput::Argument)?;
        check(tokenizer, &ids).map_err(BadInput::Argument)?;
        return Ok(ids);
    }
    let mut ids = Vec::new();
    for input in Input::all(&args.file) {
        let mut input = input?;
        let mut more = parse(&input.text()?).map_err(|fault| input.faulty(&fault))?;
        check(tokenizer, &more).map_err(|fault| input.faulty(&fault))?;
        ids.append(&mut more);
    }
    Ok(ids)
}

fn lines(args: &Args, tokenizer: &Tokenizer, control: ControlTokens) -> anyhow::Result<()> {
    let mut out = Parts::new();
    for input in Input::all(&args.file) {
        let mut input = input?;
        let mut number = 0u64;
        while let Some(line) = input.line()? {
            number += 1;
            let ids: Vec<u32> = serde_json::from_slice(&line)
                .map_err(|_| input.faulty(&format!("line {number} is not a JSON array of ids")))?;
            let text =
                tokenizer.decode(&ids, control).map_err(|error| input.faulty(&format!("line {number}: {error}")))?;
            out.push((serde_json::to_string(&text)? + "\n").as_bytes())?;
            if input.is_drained() {
                out.flush()?;
            }
        }
    }
    Ok(out.flush()?)
}

fn parse(text: &str) -> Result<Vec<u32>, String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("'{word}' is not a token id"))).collect()
}

fn check(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), String> {
    ids.iter().try_for_each(|&id| tokenizer.token(id).map(drop)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_stand_in_json_or_in_lines() {
        assert_eq!(parse("[1,2, 3]\n"), Ok(vec![1, 2, 3]));
        assert_eq!(parse("1\n2\t3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse(" \n"), Ok(vec![]));
        for word in ["-1", "x", "4294967296", "1.5"] {
            assert!(parse(word).is_err_and(|fault| fault.contains(word)));
        }
    }
}
