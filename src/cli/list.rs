//! `cachalot list`: the models that are here, and those that are known.

use super::named::FolderOption;
use super::output::{Table, answer, json, message};
use super::settings::Settings;
use super::size;
use crate::catalog::{Model, Pulled, Quant, default_name, embedded, models, source};
use crate::engine::Source;
use crate::text::Escaped;
use serde_json::{Value, json};
use std::path::Path;

/// List the models that are here, and which one answers where none is named
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What the catalogue knows, here or not
    #[arg(long)]
    all: bool,
    /// Print an object instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderOption,
}

const EXAMPLES: &str = "\
Examples:
  cachalot list
  cachalot list --all
  cachalot list --json | jq -r .default";

pub(super) fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    if args.all {
        return known(args.json);
    }
    let store = args.folder.store()?;
    let (here, damaged) = store.list()?;
    for error in &damaged {
        message(&error.to_string());
    }
    let set = settings.get("model");
    let default = match set {
        Some(set) => Some(set.value.as_str()),
        None => default_name(),
    };
    let source = default.and_then(|name| source(Path::new(name)).ok());
    let is_default = |pulled: &Pulled| matches!(&source, Some(Source::Path(path)) if *path == pulled.first());
    let is_embedded_default = |own: &Source| source.as_ref().is_some_and(|source| source.name() == own.name());
    if args.json {
        let carried = embedded().map(|(model, own)| embedded_object(model, &own, is_embedded_default(&own)));
        let pulled = here.iter().map(|pulled| object(pulled, is_default(pulled)));
        let models: Vec<Value> = carried.chain(pulled).collect();
        return Ok(json(&json!({ "default": default, "models": models }))?);
    }
    let mut text = match (default, set) {
        (Some(default), Some(set)) => {
            format!("default  {} ({})\n\n", Escaped(default), Escaped(&set.origin.to_string()))
        }
        (Some(default), None) => format!("default  {default}\n\n"),
        (None, _) => "default  none: this program was built without the demo model\n\n".to_owned(),
    };
    let mut table = Table::new(&["model", ">size", "state", "path"]);
    let named = |name: String, is_default: bool| if is_default { format!("{name} (default)") } else { name };
    for (model, own) in embedded() {
        let name = named(model.name.clone(), is_embedded_default(&own));
        table.row([
            name,
            own.embedded_bytes().map_or_else(String::new, size::binary),
            "in the program".to_owned(),
            String::new(),
        ]);
    }
    for pulled in &here {
        let (name, path) = (named(pulled.name(), is_default(pulled)), pulled.first().display().to_string());
        table.row([name, size::binary(pulled.size()), state(pulled), path]);
    }
    text.push_str(&table.render(""));
    answer(text.as_bytes())?;
    if here.is_empty() {
        message(&format!("no models in {}; `cachalot list --all` shows what can be pulled", store.root().display()));
    }
    Ok(())
}

fn state(pulled: &Pulled) -> String {
    match pulled.is_whole() {
        true => "complete".to_owned(),
        false => format!("partial, {}", size::binary(pulled.bytes_here())),
    }
}

fn object(pulled: &Pulled, is_default: bool) -> Value {
    let manifest = &pulled.manifest;
    json!({
        "name": pulled.name(),
        "default": is_default,
        "embedded": false,
        "repo": manifest.repo,
        "quant": manifest.quant,
        "revision": manifest.revision,
        "bytes": pulled.size(),
        "bytes_here": pulled.bytes_here(),
        "complete": pulled.is_whole(),
        "path": pulled.first(),
        "files": manifest.files.iter().map(|file| json!({
            "path": pulled.path_of(file),
            "bytes": file.size,
            "sha256": file.sha256,
        })).collect::<Vec<_>>(),
    })
}

fn embedded_object(model: &Model, own: &Source, is_default: bool) -> Value {
    let (name, bytes) = (&model.name, own.embedded_bytes());
    json!({ "name": name, "default": is_default, "embedded": true, "bytes": bytes, "bytes_here": bytes, "complete": true })
}

fn known(as_json: bool) -> anyhow::Result<()> {
    let models = models()?;
    if as_json {
        return Ok(json(&json!({ "models": models.iter().map(known_object).collect::<Vec<_>>() }))?);
    }
    let mut table = Table::new(&["model", ">parameters", ">active", "quants"]);
    for model in models {
        let billions = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n} B"));
        let quants = match model.files.first() {
            _ if model.embedded => "in the program".to_owned(),
            None => "pull hf:OWNER/REPO:QUANT".to_owned(),
            Some(files) if files.quants.is_empty() => format!("see {}", files.repo),
            Some(files) => files.quants.iter().map(quant).collect::<Vec<_>>().join(", "),
        };
        table.row([model.name.clone(), billions(model.parameters), billions(model.active), quants]);
    }
    Ok(answer(table.render("").as_bytes())?)
}

/// With its size, where that is known.
fn quant(quant: &Quant) -> String {
    quant.gb.map_or_else(|| quant.name.clone(), |gb| format!("{} ({gb:.0} GB)", quant.name))
}

fn known_object(model: &Model) -> Value {
    json!({
        "name": model.name,
        "title": model.title,
        "aliases": model.aliases,
        "official": model.official,
        "licence": model.licence,
        "parameters_billions": model.parameters,
        "active_billions": model.active,
        "context": model.context,
        "embedded": model.embedded,
        "files": model.files.iter().map(|files| json!({
            "repo": files.repo,
            "layout": files.layout,
            "advice": files.advice,
            "source": files.source,
            "quants": files.quants.iter().map(|quant| json!({
                "name": quant.name,
                "gb": quant.gb,
                "bytes": quant.bytes(),
                "bits": quant.bits,
                "recommended": quant.recommended,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "source": model.source,
    })
}
