//! `cachalot list`: the models that there are names for, and which one answers where none is named.

use super::output::{Table, answer, json};
use super::settings::Settings;
use crate::catalog::{self, Entry};
use crate::text::Escaped;
use serde_json::{Value, json};

/// List the models of the catalogue, and the default
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print an object instead
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let set = settings.get("model");
    let default = set.map(|set| set.value.as_str()).or_else(|| catalog::default_source().map(|_| catalog::DEMO));
    let entries = catalog::entries();
    if args.json {
        let models: Vec<Value> = entries.iter().map(object).collect();
        return Ok(json(&json!({ "default": default, "models": models }))?);
    }
    let mut text = match (default, set) {
        (Some(default), Some(set)) => {
            format!("default  {} ({})\n\n", Escaped(default), Escaped(&set.origin.to_string()))
        }
        (Some(default), None) => format!("default  {default}\n\n"),
        (None, _) => "default  none: this program was built without the demo model\n\n".to_owned(),
    };
    let mut table = Table::new(&["name", ">parameters", ">context", "quants, as published"]);
    for entry in &entries {
        table.row([entry.name.to_owned(), parameters(entry), entry.context.to_string(), quants(entry)]);
    }
    text.push_str(&table.render(""));
    text.push_str("\nOnly the demo model is in the program. Others are named by the path of their files.\n");
    Ok(answer(text.as_bytes())?)
}

fn parameters(entry: &Entry) -> String {
    match entry.parameters {
        Some((all, active)) => format!("{all} B, {active} B active"),
        None => "in the program".to_owned(),
    }
}

/// The smallest and the largest; there are several uploads of the same quants.
fn quants(entry: &Entry) -> String {
    let sizes = || entry.quants.iter();
    let least = sizes().min_by(|a, b| a.1.total_cmp(&b.1));
    let most = sizes().max_by(|a, b| a.1.total_cmp(&b.1));
    match (least, most) {
        (Some((small, gb)), Some((large, more))) => format!("{small} ({gb} GB) to {large} ({more} GB)"),
        _ => "-".to_owned(),
    }
}

fn object(entry: &Entry) -> Value {
    let quants: Vec<Value> = entry.quants.iter().map(|(name, gb)| json!({ "name": name, "gb": gb })).collect();
    json!({
        "name": entry.name,
        "title": entry.title,
        "embedded": entry.is_embedded,
        "parameters_b": entry.parameters.map(|(all, _)| all),
        "active_b": entry.parameters.map(|(_, active)| active),
        "context": entry.context,
        "quants": quants,
    })
}
