//! `cachalot plan`: what would go where, and how fast it would be, before anything is loaded.

use super::doctor::{disk_name, figures};
use super::model::CacheTypeArg;
use super::output::{Table, answer, json, message};
use super::size::{self, decimal};
use crate::catalog::Hub;
use crate::engine::CacheType;
use crate::exit::{BadInput, DoesNotFit};
use crate::machine::system::System;
use crate::machine::{Card, Machine, cards, usable};
use crate::placement::{Device, Pin};
use crate::plan::{DeviceRow, Options, Origin, Plan, Subject, llama_cpp};
use crate::text::Escaped;
use anyhow::Context;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Show what of a model would go where, what would be left, and how fast it would be
///
/// Reads headers only. Exits with 75 if the model does not fit, and says what would.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one, or a name: deepseek-v3-0324:Q2_K_XL,
    /// hf:OWNER/REPO:QUANT. Of what is not here the headers are read from the hub, some megabytes
    model: String,
    /// Do not ask the hub: plan models of the catalogue by their shapes and published sizes
    #[arg(long)]
    offline: bool,
    /// Plan for the machine that this TOML file describes, not for this one
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Tokens of context; 0 is the model's own, however long [default: the model's own, at most 32768]
    #[arg(short = 'c', long = "context", aliases = ["max-model-len", "ctx-size"], value_name = "N")]
    #[arg(value_parser = context)]
    context: Option<u64>,
    /// Tokens of a prompt to compute at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..1 << 31))]
    batch: u64,
    /// How cached keys and values are stored
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = CacheTypeArg::F16)]
    cache_type: CacheTypeArg,
    /// Memory that may be used of each GPU: 24G,24G
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = size::bytes)]
    vram: Vec<u64>,
    /// RAM that may be used: 180G
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    ram: Option<u64>,
    /// Have something lie on a device: blk.3-10.experts=gpu0, blk.*.rest=gpu1, blk.5=ram, head=gpu0; may be repeated
    #[arg(long, value_name = "WHAT=DEVICE")]
    pin: Vec<Pin>,
    /// Print the plan as flags for llama.cpp, and nothing else
    #[arg(long, conflicts_with = "json")]
    export_ot: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Say nothing but the plan, and errors
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot plan deepseek-v3-0324:Q2_K_XL
  cachalot plan model.gguf -c 65536 --cache-type q8_0
  cachalot plan deepseek-v3-0324:Q2_K_XL --machine desk.toml --pin 'blk.3-10.experts=gpu0'
  cachalot plan model.gguf --machine desk.toml --export-ot";

/// As many as the program counts.
fn context(text: &str) -> Result<u64, String> {
    size::context::<i32>(text).map(|n| n.unsigned_abs().into())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = if args.offline || is_offline() { None } else { Some(Hub::from_environment(message)?) };
    let subject = Subject::find(&args.model, hub.as_ref())?;
    let machine = machine(args, &subject)?;
    let trained = subject.outline.config.n_ctx_train as u64;
    let options = Options {
        n_ctx: match args.context {
            None => trained.min(crate::engine::Options::DEFAULT_CONTEXT as u64),
            Some(0) => trained,
            Some(n_ctx) => n_ctx,
        },
        n_batch: args.batch,
        cache_type: args.cache_type.into(),
        pins: args.pin.clone(),
    };
    check_cache(options.cache_type, &subject)?;
    let plan = Plan::make(&subject, &machine, &options)?;
    match (args.export_ot, args.json) {
        (true, _) => {
            let n_expert = subject.outline.config.experts.as_ref().map_or(0, |experts| experts.n_expert as u32);
            answer(format!("{}\n", llama_cpp(&plan.placement, n_expert)).as_bytes())?;
        }
        (_, true) => json(&Output { plan: &plan, would_fit: would_fit(&plan) })?,
        _ => answer(text(&plan).as_bytes())?,
    }
    match plan.fits {
        true => Ok(()),
        false => {
            let advice = would_fit(&plan).join("; ");
            Err(DoesNotFit(format!("{} of memory are missing; {advice}", decimal(plan.missing))).into())
        }
    }
}

/// Whether the user has told all programs that use the hub to do without it.
fn is_offline() -> bool {
    let is_set =
        |value: String| !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off");
    std::env::var("HF_HUB_OFFLINE").is_ok_and(is_set)
}

#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    would_fit: Vec<String>,
}

fn check_cache(cache_type: CacheType, subject: &Subject) -> Result<(), BadInput> {
    match cache_type.fits(&subject.outline.config) {
        true => Ok(()),
        false => Err(BadInput::Argument(format!("the cache of this model cannot be {}", cache_type.name()))),
    }
}

/// What to think of GPUs in a plan.
const HYPOTHETICAL: &str = "What is said of GPUs is a prediction: here nothing is computed on them.";

/// The machine that is planned for, within the budgets that are given.
fn machine(args: &Args, subject: &Subject) -> anyhow::Result<Machine> {
    let mut machine = match &args.machine {
        Some(path) => described(path)?,
        None => {
            // Budgets may be given for GPUs that are not computed on; otherwise the plan is what would be done.
            let (found, are_here) = gpus(args);
            let disk = disk_name(subject.path());
            let mut machine = figures(false, args.quiet)?.machine(&System::read(), &found, disk.as_deref());
            machine.gpus_are_here = are_here;
            machine
        }
    };
    if args.vram.len() > machine.gpus.len() {
        let (named, there) = (args.vram.len(), machine.gpus.len());
        let text = format!("--vram names {named} GPUs, but there are {there}: --machine describes others");
        return Err(BadInput::Argument(text).into());
    }
    machine.gpus.iter_mut().zip(&args.vram).for_each(|(gpu, bytes)| gpu.vram = *bytes);
    machine.ram = args.ram.unwrap_or(machine.ram);
    Ok(machine)
}

/// The GPUs to plan with, and whether they are computed on.
fn gpus(args: &Args) -> (Vec<Card>, bool) {
    let why = match usable() {
        Ok(cards) => return (cards, true),
        Err(why) => why,
    };
    let listed = cards().unwrap_or_default();
    if !args.vram.is_empty() {
        return (listed, false);
    }
    if !listed.is_empty() && !args.quiet {
        message(&format!("planned for the CPU alone: {why}; --vram plans with GPUs all the same"));
    }
    (Vec::new(), false)
}

fn described(path: &std::path::Path) -> anyhow::Result<Machine> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| BadInput::Unreadable { name: name.clone(), error })?;
    let text =
        String::from_utf8(text).map_err(|_| BadInput::Faulty { name: name.clone(), fault: "not UTF-8".into() })?;
    let faulty = |error: crate::machine::BadMachine| BadInput::Faulty { name, fault: error.to_string() };
    Machine::described(&text).map_err(faulty).context("the description of the machine")
}

/// What could be done about a plan that does not fit.
fn would_fit(plan: &Plan) -> Vec<String> {
    if plan.fits {
        return Vec::new();
    }
    let mut all = Vec::new();
    match plan.largest_context.filter(|largest| *largest < plan.context) {
        Some(largest) => all.push(format!("a context of {largest} tokens fits (-c {largest})")),
        None => all.push("no context is short enough".to_owned()),
    }
    match plan.quants.iter().find(|quant| quant.best) {
        Some(quant) => all.push(format!("{} fits, with {}", quant.name, decimal(quant.bytes))),
        None if !plan.quants.is_empty() => all.push("no published quant fits".to_owned()),
        None => {}
    }
    if let Some(speed) = plan.generation.first() {
        let [least, most] = speed.tokens_per_second;
        all.push(format!(
            "run all the same, it is read from the disk again and again: {} tokens/s",
            range(least, most)
        ));
    }
    all
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<10} {}", Escaped(&value));
    };
    let bytes: u64 = plan.classes.values().sum();
    line("model", format!("{}, {}", plan.model, decimal(bytes)));
    line(
        "from",
        match &plan.origin {
            Origin::File { path } => path.display().to_string(),
            Origin::Hub { repo, n_files, n_read, .. } => {
                let files = if *n_files == 1 { "1 file".to_owned() } else { format!("{n_files} files") };
                format!("the headers of {files} of {repo}, {} of them", decimal(*n_read))
            }
            Origin::Derived { published: Some(size), of_types, because } => format!(
                "its shapes, and its published size, from which the types of this quant's mix are {:+.1} % off ({because})",
                100.0 * (*of_types as f64 / *size as f64 - 1.0),
            ),
            Origin::Derived { published: None, because, .. } => {
                format!("its shapes and the types of the mix; no size is published ({because})")
            }
        },
    );
    let Machine { name, cores, bandwidth, basis, .. } = &plan.machine;
    line("machine", format!("{name}: {cores} cores, RAM at {:.0} GB/s", bandwidth / 1e9));
    let trained = if plan.context > plan.context_trained { ", more than the model was made for" } else { "" };
    line("context", format!("{} tokens in {}{trained}", plan.context, plan.cache_type));
    text.push_str(&classes(plan));
    text.push_str(&devices(plan));
    text.push_str(&speeds(plan));
    if plan.gpus_are_hypothetical {
        let _ = writeln!(text, "\n{HYPOTHETICAL}");
    }
    let efficiency = &plan.machine.efficiency;
    let percent = |[least, most]: [f64; 2]| format!("{:.0} to {:.0} %", 100.0 * least, 100.0 * most);
    let _ = writeln!(
        text,
        "\nbased on {basis}\nexpected: {} of the limit in generation, {} of the kernels' rate in prompts\n          ({})",
        percent(efficiency.generation),
        percent(efficiency.prompts),
        efficiency.source,
    );
    if !plan.quants.is_empty() {
        text.push_str(&quants(plan));
    }
    if let Some(largest) = plan.largest_context.filter(|_| plan.fits) {
        let _ = writeln!(text, "\nThe longest context that fits is {largest} tokens.");
    }
    text
}

fn classes(plan: &Plan) -> String {
    let mut table = Table::new(&["weights", ">bytes", ">"]);
    let all: u64 = plan.classes.values().sum();
    for (class, bytes) in &plan.classes {
        let part = 100.0 * *bytes as f64 / all.max(1) as f64;
        table.row([class.name().to_owned(), decimal(*bytes), format!("{part:.1} %")]);
    }
    format!("\n{}", table.render(""))
}

fn devices(plan: &Plan) -> String {
    let columns = ["device", "layers", ">head etc.", ">layers", ">experts", ">cache", ">scratch", ">used", ">left"];
    let mut table = Table::new(&columns);
    for row in &plan.devices {
        let load = &row.load;
        let left = match u64::try_from(row.left) {
            Ok(left) => decimal(left),
            Err(_) => format!("−{}", decimal(row.left.unsigned_abs())),
        };
        let cells = [load.ends, load.fixed, load.experts, load.cache, load.scratch, row.used].map(decimal);
        let [ends, fixed, experts, cache, scratch, used] = cells;
        table.row([device(row), ranges(&row.layers), ends, fixed, experts, cache, scratch, used, left]);
    }
    format!("\n{}", table.render(""))
}

fn device(row: &DeviceRow) -> String {
    match row.device {
        Device::Ram => row.name.clone(),
        Device::Gpu(n) => format!("gpu{n}, {}", row.name),
    }
}

/// `0-3,7`; `none` without any.
fn ranges(numbers: &[usize]) -> String {
    let groups = numbers.chunk_by(|a, b| a + 1 == *b).map(|group| match group {
        [first, .., last] => format!("{first}-{last}"),
        [one] => one.to_string(),
        [] => String::new(),
    });
    let text = groups.collect::<Vec<_>>().join(",");
    if text.is_empty() { "none".to_owned() } else { text }
}

fn speeds(plan: &Plan) -> String {
    let mut table = Table::new(&["expected", ">tokens/s", ">at the limit", "where the time goes"]);
    let parts = |parts: &[(&str, f64)]| {
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let said = parts.iter().filter(|(_, seconds)| *seconds > 0.005 * all);
        said.map(|(name, seconds)| format!("{name} {:.0} %", 100.0 * seconds / all)).collect::<Vec<_>>().join(", ")
    };
    for speed in &plan.generation {
        let time = &speed.limit;
        let what =
            if speed.tokens == 0 { "generation".to_owned() } else { format!("generation behind {}", speed.tokens) };
        let where_to = parts(&[
            ("RAM", time.ram),
            ("GPU", time.gpu),
            ("attention", time.attention),
            ("handing over", time.handoff),
            ("disk", time.disk),
        ]);
        let [least, most] = speed.tokens_per_second;
        table.row([what, range(least, most), number(1.0 / time.total()), where_to]);
    }
    for speed in &plan.prompts {
        let time = &speed.limit;
        let where_to = parts(&[
            ("CPU", time.cpu),
            ("GPU", time.gpu),
            ("attention", time.attention),
            ("handing over", time.handoff),
            ("disk", time.disk),
        ]);
        let [least, most] = speed.tokens_per_second;
        let what = format!("prompt of {}", speed.tokens);
        table.row([what, range(least, most), String::new(), where_to]);
    }
    format!("\n{}", table.render(""))
}

fn quants(plan: &Plan) -> String {
    let mut table = Table::new(&["quant", ">size", "fits", ">tokens/s", ""]);
    for quant in &plan.quants {
        let [least, most] = quant.generation;
        let fits = if quant.fits { "yes" } else { "no" };
        let best = if quant.best { "suits this machine best: the largest that fits" } else { "" };
        table.row([quant.name.clone(), decimal(quant.bytes), fits.into(), range(least, most), best.into()]);
    }
    format!("\n{}", table.render(""))
}

fn range(least: f64, most: f64) -> String {
    format!("{} to {}", number(least), number(most))
}

/// As many digits as a prediction deserves: two.
fn number(x: f64) -> String {
    match x {
        x if !x.is_finite() => "?".to_owned(),
        x if x >= 100.0 => format!("{:.0}", (x / 10.0).round() * 10.0),
        x if x >= 10.0 => format!("{x:.0}"),
        x if x >= 1.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_layers() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "none");
    }

    #[test]
    fn two_digits() {
        let all = [0.0312, 1.26, 12.6, 126.0, f64::INFINITY].map(number);
        assert_eq!(all, ["0.03", "1.3", "13", "130", "?"]);
    }
}
