//! `cachalot pull`: the files of a model, from the hub.

use super::named::{FolderOption, reference};
use super::output::{Table, answer, message};
use super::progress::in_words;
use super::size;
use super::transfer::Transfer;
use crate::catalog::{Error, Hub, MAIN, Plan, Reference};
use crate::exit::BadInput;
use clap::builder::RangedU64ValueParser;
use std::os::unix::ffi::OsStrExt;

/// Fetch a model's files, or the rest of them
///
/// What an interrupted pull has left is gone on with. A file has its name only when its SHA-256 is what the hub says.
/// The path that can be opened goes to stdout.
///
/// HF_ENDPOINT names another hub, HF_TOKEN is sent to it (or what `huggingface-cli login` has kept), HTTPS_PROXY and
/// NO_PROXY are respected. Files that are in the cache of Hugging Face's own tools are not fetched again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A model of the catalogue, such as deepseek-v3-0324:Q2_K_XL, or hf:OWNER/REPO:QUANT
    #[arg(value_name = "MODEL")]
    model: String,
    /// A branch, tag or commit of the repository
    #[arg(long, value_name = "REV", default_value = MAIN)]
    revision: String,
    #[command(flatten)]
    folder: FolderOption,
    /// Connections at once
    #[arg(short = 'j', long, value_name = "N", default_value_t = 8,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    connections: usize,
    /// Say what would be fetched, and fetch nothing
    #[arg(long)]
    dry_run: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot pull deepseek-v3-0324:Q2_K_XL
  cachalot pull hf:unsloth/DeepSeek-V3-0324-GGUF:Q2_K_XL
  cachalot chat \"$(cachalot pull deepseek-v3-0324:Q2_K_XL)\"";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let store = args.folder.store()?;
    let reference = reference(&args.model)?;
    if reference.model.is_some_and(|model| model.embedded) {
        return Err(BadInput::Argument(format!("the program carries {}: there is nothing to fetch", args.model)).into());
    }
    if reference.repos.is_empty() {
        return Err(Error::NoFiles(args.model.clone()).into());
    }
    advise(args, &reference);
    let hub = Hub::from_environment(message)?;
    let plan = Plan::new(&hub, &store, &reference, &args.revision)?;
    if args.dry_run {
        return show(&plan);
    }
    if !args.quiet {
        message(&summary(&plan));
    }
    let transfer = Transfer::new(&plan.missing(), args.quiet);
    let guard = transfer.guard("what has come is kept; the same command goes on with it");
    let fetched = plan.run(args.connections, &|event| transfer.note(event));
    drop(guard);
    let (bytes, time) = transfer.finish();
    let pulled = fetched?;
    if !args.quiet {
        if bytes > 0 {
            message(&format!("{} in {}", size::binary(bytes), in_words(time)));
        }
        let name = pulled.name();
        match store.is_default() {
            true => message(&format!("{name} is here: cachalot run -m {name} \"…\"")),
            false => message(&format!(
                "{name} is here; it is found by its name where CACHALOT_MODELS names {}",
                store.root().display()
            )),
        }
    }
    let mut path = pulled.first().as_os_str().as_bytes().to_vec();
    path.push(b'\n');
    Ok(answer(&path)?)
}

/// What the card says, to somebody who has still to choose.
fn advise(args: &Args, reference: &Reference) {
    if args.quiet || reference.quant.is_some() {
        return;
    }
    let files = reference.model.iter().flat_map(|model| &model.files);
    for files in files.filter(|files| reference.repos.iter().any(|repo| repo.as_str() == files.repo)).take(1) {
        for quant in &files.quants {
            let size = quant.gb.map_or(String::new(), |gb| format!(", {gb} GB"));
            let bits = quant.bits.map_or(String::new(), |bits| format!(", {bits} bits a weight of the experts"));
            let note = if quant.recommended { " (recommended)" } else { "" };
            message(&format!("{}{size}{bits}{note}", reference.with_quant(&quant.name)));
        }
        if let Some(advice) = &files.advice {
            message(advice);
        }
    }
}

fn summary(plan: &Plan<'_>) -> String {
    let (pulled, missing) = (plan.pulled(), plan.missing());
    let manifest = &pulled.manifest;
    let commit = manifest.revision.get(..8).unwrap_or(&manifest.revision);
    let bytes: u64 = missing.iter().map(|file| file.size).sum();
    let (n, whole) = (manifest.files.len(), size::binary(pulled.size()));
    let files = if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    let rest = match (missing.len(), plan.kept_bytes()) {
        (0, _) => "all of it is here".to_owned(),
        (_, kept) if kept == 0 && bytes == pulled.size() => format!("to {}", pulled.folder.display()),
        (_, kept) => format!(
            "{} of it are still to come, to {}",
            size::binary(bytes.saturating_sub(kept)),
            pulled.folder.display()
        ),
    };
    format!("{} {} at {commit}: {files}, {whole}; {rest}", manifest.repo, manifest.quant)
}

fn show(plan: &Plan<'_>) -> anyhow::Result<()> {
    let pulled = plan.pulled();
    let missing = plan.missing();
    let mut table = Table::new(&["file", ">bytes", ">size", "state"]);
    for file in &pulled.manifest.files {
        let is_missing = missing.iter().any(|other| other.name == file.name);
        let state = if is_missing { "to fetch" } else { "here" };
        table.row([file.name.clone(), size::exact(file.size), size::binary(file.size), state.to_owned()]);
    }
    let free = plan.free_bytes().map_or(String::new(), |free| format!("; {} are free there", size::binary(free)));
    let text = format!("{}{}{free}\n", table.render(""), summary(plan));
    Ok(answer(text.as_bytes())?)
}
