//! `cachalot tokenize`: text to token ids.

use super::input::Input;
use super::output::{Parts, answer};
use crate::catalog;
use crate::text::Escaped;
use crate::tokenizer::{Kind, Tokenizer};
use std::fmt::Write;
use std::path::PathBuf;

/// Cut text into a model's tokens
///
/// The text is TEXT, its words joined by spaces; or what is in the files; or what comes on stdin. Unless
/// --special is given it becomes ordinary tokens, whatever it says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    model: PathBuf,
    /// The text
    #[arg(conflicts_with_all = ["file", "jsonl"])]
    text: Vec<String>,
    /// Take the text from a file; may be repeated, and - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Print the ids alone, as one JSON array
    #[arg(long)]
    json: bool,
    /// Read lines that are JSON strings; print the JSON array of each one's ids
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
    /// Take control tokens in the text, such as <｜User｜>, for what they are
    #[arg(long)]
    special: bool,
    /// Do not begin with the token that begins a text
    #[arg(long)]
    no_bos: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot tokenize demo \"Why is the sky blue?\"
  cachalot tokenize demo -f prompt.txt --json";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::open(catalog::source(&args.model)?)?;
    if args.jsonl {
        return lines(args, &tokenizer);
    }
    let ids = encode(args, &tokenizer, &text(args)?);
    if args.json {
        return Ok(answer((serde_json::to_string(&ids)? + "\n").as_bytes())?);
    }
    table(&tokenizer, &ids)
}

fn text(args: &Args) -> anyhow::Result<String> {
    if !args.text.is_empty() {
        return Ok(args.text.join(" "));
    }
    let mut text = String::new();
    for input in Input::all(&args.file) {
        text += &input?.text()?;
    }
    Ok(text)
}

fn lines(args: &Args, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let mut out = Parts::new();
    for input in Input::all(&args.file) {
        let mut input = input?;
        let mut number = 0u64;
        while let Some(line) = input.line()? {
            number += 1;
            let text: String = serde_json::from_slice(&line)
                .map_err(|_| input.faulty(&format!("line {number} is not a JSON string")))?;
            let ids = serde_json::to_string(&encode(args, tokenizer, &text))? + "\n";
            out.push(ids.as_bytes())?;
            if input.is_drained() {
                out.flush()?;
            }
        }
    }
    Ok(out.flush()?)
}

/// The ids of `text` as a whole, so that it begins as the model's texts do, but not twice.
fn encode(args: &Args, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = match args.special {
        true => tokenizer.encode_trusted(text),
        false => tokenizer.encode_content(text),
    };
    let prefix = tokenizer.prefix().filter(|id| !args.no_bos && ids.first() != Some(id));
    ids.splice(..0, prefix);
    ids.extend(tokenizer.suffix());
    ids
}

/// Row by row, in columns as wide as the vocabulary may need: a text may have millions of tokens.
fn table(tokenizer: &Tokenizer, ids: &[u32]) -> anyhow::Result<()> {
    let width = tokenizer.n_tokens().to_string().len();
    let mut out = Parts::new();
    out.push(format!("{:>width$}  {:<12}  text\n", "id", "kind").as_bytes())?;
    for &id in ids {
        let token = tokenizer.token(id)?;
        out.push(format!("{id:>width$}  {:<12}  {}\n", kind(token.kind), quoted(token.bytes)).as_bytes())?;
    }
    Ok(out.flush()?)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Normal => "text",
        Kind::Unknown => "unknown",
        Kind::Control => "control",
        Kind::UserDefined => "user-defined",
        Kind::Unused => "unused",
    }
}

/// Text in quotation marks, so that its spaces are seen, these and backslashes escaped; bytes that are no text as `\xe6`.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().replace('\\', r"\\").replace('"', r#"\""#);
        let _ = write!(text, "{}", Escaped(&valid));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_whatever_their_bytes() {
        assert_eq!(quoted(" a\n".as_bytes()), "\" a\\n\"");
        assert_eq!(quoted(br#"\n""#), r#""\\n\"""#);
        assert_eq!(quoted(b"\xe6\xb7a\xff"), "\"\\xe6\\xb7a\\xff\"");
    }
}
