//! `cachalot list`: the models that are here, and those that are known.

use super::named::FolderOption;
use super::output::{Table, answer, json, message};
use super::size;
use crate::catalog::{Model, Pulled, Store, models};
use serde_json::{Value, json};

/// List the models that are here
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the catalogue knows, here or not
    #[arg(long)]
    all: bool,
    /// An array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderOption,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.all {
        return known(args.json);
    }
    let store = args.folder.store()?;
    let (here, damaged) = store.list()?;
    for error in &damaged {
        message(&error.to_string());
    }
    if args.json {
        return Ok(json(&here.iter().map(object).collect::<Vec<_>>())?);
    }
    if here.is_empty() {
        message(&nothing(&store));
        return Ok(());
    }
    let mut table = Table::new(&["model", ">size", "state", "path"]);
    for pulled in &here {
        table.row([pulled.name(), size::binary(pulled.size()), state(pulled), pulled.first().display().to_string()]);
    }
    Ok(answer(table.render("").as_bytes())?)
}

fn nothing(store: &Store) -> String {
    format!("no models in {}; `cachalot list --all` shows what can be pulled", store.root().display())
}

fn state(pulled: &Pulled) -> String {
    match pulled.is_whole() {
        true => "complete".to_owned(),
        false => format!("partial, {}", size::binary(pulled.bytes_here())),
    }
}

fn object(pulled: &Pulled) -> Value {
    let manifest = &pulled.manifest;
    json!({
        "name": pulled.name(),
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

fn known(as_json: bool) -> anyhow::Result<()> {
    let models = models()?;
    if as_json {
        return Ok(json(&models.iter().map(known_object).collect::<Vec<_>>())?);
    }
    let mut table = Table::new(&["model", ">parameters", ">active", "quants"]);
    for model in models {
        let billions = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n} B"));
        let quants = match model.files.first() {
            _ if model.embedded => "in the program".to_owned(),
            None => "pull hf:OWNER/REPO:QUANT".to_owned(),
            Some(files) if files.quants.is_empty() => format!("see {}", files.repo),
            Some(files) => files.quants.iter().map(|quant| quant.name.as_str()).collect::<Vec<_>>().join(", "),
        };
        table.row([model.name.clone(), billions(model.parameters), billions(model.active), quants]);
    }
    Ok(answer(table.render("").as_bytes())?)
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
                "bits": quant.bits,
                "recommended": quant.recommended,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "source": model.source,
    })
}
