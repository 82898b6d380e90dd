//! `cachalot inspect`: what is in a GGUF file.

use super::output::{self, Table, answer};
use super::size::{binary, count, exact};
use super::template_check::{self, Request, Verdict};
use crate::catalog;
use crate::chat::{Detected, Facts, Family};
use crate::exit::Unwritable;
use crate::model::{Class, Detail, Inspection, LayerRow, ModelFile, RoleToken, TokenizerFacts};
use crate::text::{Clipped, Escaped};
use crate::tokenizer::{BOS, EOS};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Show what is in a GGUF file, of any architecture
///
/// Reads headers only, unless --check is given. Exits with 65 if the file is damaged or contradicts
/// itself.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    file: PathBuf,
    /// List every tensor: type, shape, bytes, file, offset
    #[arg(long)]
    tensors: bool,
    /// List every metadata key
    #[arg(long)]
    metadata: bool,
    /// Print the value of one metadata key, whole, and nothing else
    #[arg(long, value_name = "KEY", conflicts_with_all = ["tensors", "metadata", "json", "check"])]
    key: Option<String>,
    /// Read all tensor data and look for NaNs and infinities
    #[arg(long)]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot inspect model-00001-of-00006.gguf
  cachalot inspect demo --tensors
  cachalot inspect demo --key general.architecture";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let model = ModelFile::open(catalog::source(&args.file)?)?;
    if let Some(key) = &args.key {
        return show_value(args, &model, key);
    }
    let detail = Detail { tensors: args.tensors, metadata: args.metadata };
    let report = match args.check {
        true => check(&model, detail)?,
        false => model.inspect(detail),
    };
    let chat = chat_facts(&report);
    match args.json {
        true => output::json(&Output { report: &report, chat: chat.as_ref() })?,
        false => answer(render(&report, chat.as_ref()).as_bytes())?,
    }
    Ok(report.sound(&args.file)?)
}

fn show_value(args: &Args, model: &ModelFile, key: &str) -> anyhow::Result<()> {
    let mut out = output::FileText::new();
    let missing = || format!("{}: no metadata key '{key}'", args.file.display());
    model.write_value(key, &mut out).with_context(missing)?.map_err(Unwritable)?;
    Ok(out.finish()?)
}

/// The report as JSON, with what only the chat templates know.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    report: &'a Inspection<'a>,
    chat: Option<&'a ChatFacts>,
}

/// The prompt format that the program would use, and what the file's own template says to it.
#[derive(Serialize)]
struct ChatFacts {
    family: &'static str,
    models: &'static str,
    because: &'static str,
    template: Option<Verdict>,
}

/// `None` for architectures that the program cannot run.
fn chat_facts(report: &Inspection) -> Option<ChatFacts> {
    let tokenizer = report.tokenizer.as_ref().filter(|_| report.architecture.as_deref() == Some("deepseek2"))?;
    let special_tokens: Vec<&str> = tokenizer.special_tokens.iter().map(String::as_str).collect();
    let file = report.files.first().map(|file| Path::new(&file.path));
    let file_name = file.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let Detected { family, because } = Family::detect(&Facts {
        template: tokenizer.chat_template.as_deref(),
        special_tokens: &special_tokens,
        name: report.name.as_deref().or(file_name.as_deref()),
    });
    // As the tokenizer does: by the file's key, else by its text.
    let token = |role: &str, text: &str| {
        let named = tokenizer.special.get(role).and_then(|token| token.text.clone());
        named.unwrap_or_else(|| if special_tokens.contains(&text) { text.to_owned() } else { String::new() })
    };
    let template = tokenizer.chat_template.as_ref().filter(|_| family != Family::Base).map(|template| {
        template_check::verdict(&Request {
            template: template.clone(),
            family: family.name().to_owned(),
            bos: token("bos", BOS),
            eos: token("eos", EOS),
            special_tokens: tokenizer.special_tokens.clone(),
        })
    });
    let unread = tokenizer.chat_template_bytes.filter(|_| tokenizer.chat_template.is_none());
    let unread =
        unread.map(|n| Verdict::unknown(format!("the file's chat template is not looked at: it has {n} bytes")));
    Some(ChatFacts { family: family.name(), models: family.models(), because, template: template.or(unread) })
}

fn check(model: &ModelFile, detail: Detail) -> anyhow::Result<Inspection<'_>> {
    let bar = ProgressBar::no_length().with_message("checking").with_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )?);
    let report = model.inspect_and_check(detail, &|total, read| {
        bar.set_length(total);
        bar.inc(read);
    });
    bar.finish_and_clear();
    Ok(report)
}

fn render(report: &Inspection, chat: Option<&ChatFacts>) -> String {
    let mut text = String::new();
    summary(&mut text, report);
    if !report.classes.is_empty() {
        section(&mut text, "Tensors by class", &by_class(report));
        section(&mut text, "Tensors by type", &by_type(report));
    }
    if !report.routed_layers.is_empty() {
        section(&mut text, "Routed experts by layer", &by_layer(&report.routed_layers));
    }
    if let Some(tokenizer) = &report.tokenizer {
        section(&mut text, "Tokenizer", &tokenizer_lines(tokenizer, chat));
    }
    if report.files.len() > 1 {
        section(&mut text, "Files", &files(report));
    }
    if let Some(metadata) = &report.metadata {
        let mut table = Table::new(&["key", "type", "value"]);
        metadata.iter().for_each(|row| table.row([clipped(row.key), row.ty(), clipped(&row.text())]));
        section(&mut text, "Metadata", &table.render("  "));
    }
    if report.tensors.is_some() {
        section(&mut text, "Tensors", &tensors(report));
    }
    let problems: String = report.problems.iter().map(|problem| format!("  {}\n", shown(problem))).collect();
    if !problems.is_empty() {
        section(&mut text, "Problems", &problems);
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    let _ = write!(text, "\n{title}\n{body}");
}

fn summary(text: &mut String, report: &Inspection) {
    let mut lines = vec![
        ("model", report.name.as_deref().map_or("(no name)".to_owned(), clipped)),
        ("architecture", report.architecture.as_deref().map_or("(none)".to_owned(), clipped)),
    ];
    let active = match report.parameters_active {
        active if active < report.parameters => format!(", {} used for a token", count(active)),
        _ => String::new(),
    };
    lines.push(("parameters", format!("{}{active}", count(report.parameters))));
    let checked = if report.data_checked { ", all data checked" } else { "" };
    lines.push((
        "size",
        format!(
            "{} ({} bytes) in {}, {:.3} bits per weight{checked}",
            binary(report.bytes),
            exact(report.bytes),
            plural(report.files.len(), "file"),
            report.bits_per_weight
        ),
    ));
    lines.extend(report.in_words.iter().map(|(label, words)| (*label, words.clone())));
    if let [file] = report.files.as_slice() {
        let tensors = plural(file.tensors, "tensor");
        lines.push(("format", format!("GGUF version {}, {tensors}, aligned to {}", file.version, file.alignment)));
    }
    for (label, value) in lines {
        let _ = writeln!(text, "{label:<13} {value}");
    }
}

fn by_class(report: &Inspection) -> String {
    let mut table = Table::new(&["class", ">tensors", ">parameters", ">size", ">bytes", ">bits", "types"]);
    for row in &report.classes {
        let types: Vec<String> = row.types.iter().map(|(ty, n)| format!("{ty}×{n}")).collect();
        table.row([
            row.class.name().to_owned(),
            row.tensors.to_string(),
            count(row.parameters),
            binary(row.bytes),
            exact(row.bytes),
            format!("{:.3}", row.bits_per_weight),
            types.join(" "),
        ]);
    }
    table.render("  ")
}

fn by_type(report: &Inspection) -> String {
    let mut table = Table::new(&["type", ">tensors", ">parameters", ">size", ">bytes"]);
    for row in &report.types {
        let (params, bytes) = (count(row.parameters), exact(row.bytes));
        table.row([row.ty.to_owned(), row.tensors.to_string(), params, binary(row.bytes), bytes]);
    }
    table.render("  ")
}

/// One row for each run of layers that are alike.
fn by_layer(layers: &[LayerRow]) -> String {
    let mut table = Table::new(&["layers", "gate", "up", "down", ">size each"]);
    for run in layers.chunk_by(|a, b| a.experts == b.experts && a.layer.checked_add(1) == Some(b.layer)) {
        let [first, ..] = run else { continue };
        let range = match run.last() {
            Some(last) if last.layer != first.layer => format!("{}–{}", first.layer, last.layer),
            _ => first.layer.to_string(),
        };
        let cell = |class: Class| {
            let fused = first.experts.get(&Class::RoutedGateUp).filter(|_| class != Class::RoutedDown);
            match first.experts.get(&class).or(fused) {
                Some(experts) => format!("{} {}", experts.ty, binary(experts.bytes)),
                None => "-".to_owned(),
            }
        };
        let [gate, up, down] = [Class::RoutedGate, Class::RoutedUp, Class::RoutedDown].map(cell);
        table.row([range, gate, up, down, binary(first.bytes)]);
    }
    table.render("  ")
}

fn tokenizer_lines(facts: &TokenizerFacts, chat: Option<&ChatFacts>) -> String {
    let pre = facts.pre.as_deref().map_or(String::new(), |pre| format!(", pre-tokenizer {}", clipped(pre)));
    let merges = facts.merges.map_or(String::new(), |n| format!(", {} merges", exact(n as u64)));
    let kinds: Vec<String> = facts.kinds.iter().map(|(kind, n)| format!("{} {kind}", exact(*n as u64))).collect();
    let flag = |name: &str, value: Option<bool>| {
        value.map(|yes| format!("{name} {}", if yes { "is added" } else { "is not added" }))
    };
    let mut lines = vec![("model", format!("{}{pre}", clipped(&facts.model)))];
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    lines.push(("vocabulary", format!("{} tokens{kinds}{merges}", exact(facts.tokens as u64))));
    for (role, RoleToken { id, text }) in &facts.special {
        lines.push((role, format!("{id} {}", text.as_deref().map_or("(beyond the vocabulary)".to_owned(), clipped))));
    }
    let added: Vec<String> = [flag("bos", facts.add_bos), flag("eos", facts.add_eos)].into_iter().flatten().collect();
    lines.push(("by default", added.join(", ")));
    lines.push((
        "chat template",
        facts.chat_template_bytes.map_or("none".to_owned(), |n| format!("{} bytes", exact(n as u64))),
    ));
    if let Some(chat) = chat {
        lines.push(("chat family", format!("{} ({}): {}", chat.family, chat.models, chat.because)));
        lines.extend(chat.template.iter().map(|verdict| ("", shown(&verdict.text))));
    }
    let line = |(label, value): (&str, String)| format!("  {:<13} {value}\n", clipped(label));
    lines.into_iter().filter(|(_, value)| !value.is_empty()).map(line).collect()
}

fn files(report: &Inspection) -> String {
    let mut table = Table::new(&[">file", "path", ">tensors", ">size", ">bytes"]);
    for (number, file) in report.files.iter().enumerate() {
        let (path, size) = (shown(&file.path), binary(file.bytes));
        table.row([number.to_string(), path, file.tensors.to_string(), size, exact(file.bytes)]);
    }
    table.render("  ")
}

fn tensors(report: &Inspection) -> String {
    let mut table = Table::new(&["name", "type", "shape", ">bytes", ">file", ">offset"]);
    for row in report.tensors.iter().flatten() {
        let shape: Vec<String> = row.shape.iter().map(u64::to_string).collect();
        let (bytes, offset) = (exact(row.bytes), exact(row.offset));
        table.row([shown(&row.name), row.ty.to_owned(), shape.join(" × "), bytes, row.file.to_string(), offset]);
    }
    table.render("  ")
}

fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", exact(n as u64), if n == 1 { "" } else { "s" })
}

fn shown(text: &str) -> String {
    Escaped(text).to_string()
}

fn clipped(text: &str) -> String {
    Clipped(text).to_string()
}
