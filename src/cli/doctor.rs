//! `cachalot doctor`: what this machine can do, and what to change.

use super::output::{answer, json, message};
use super::size::{binary, decimal};
use crate::catalog::{self, Store};
use crate::engine::{self, ResidentPages, Source, logical_cores, physical_cores};
use crate::experts::Isa;
use crate::ggml;
use crate::machine::kernels::whose;
use crate::machine::system::{System, disk_of};
use crate::machine::{Card, Figures, cards, disk, has_nvidia, usable};
use crate::text::Escaped;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Show what this machine can do for a model, and how to have it do more
///
/// Memory and kernels are measured once, in some ten seconds, and kept for `plan`, until the machine or the build is
/// another one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A model, by its name or path, to look at its files and their disk [default: all that were pulled]
    model: Option<PathBuf>,
    /// Measure anew
    #[arg(long)]
    again: bool,
    /// Measure how fast the disks are read that models lie on, on up to 2 GB of a model
    #[arg(long)]
    disk: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Say nothing while measuring
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot doctor
  cachalot doctor deepseek-v3-0324:Q2_K_XL --disk
  cachalot doctor --again --json";

#[derive(Debug, Serialize)]
struct Report {
    system: System,
    cores: Cores,
    build: Build,
    /// Bytes and operations a second.
    measured: Figures,
    gpus: Vec<Card>,
    /// Why none are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_gpus: Option<String>,
    /// Those that this program computes on.
    computed_on: Vec<Card>,
    /// Why it computes on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_only: Option<String>,
    models: Vec<ModelRow>,
    advice: Vec<Advice>,
}

#[derive(Debug, Serialize)]
struct Cores {
    physical: usize,
    logical: usize,
}

#[derive(Debug, Serialize)]
struct Build {
    ggml: &'static str,
    backends: Vec<String>,
    /// Whose kernels compute on the CPU.
    kernels: &'static str,
    /// What the CPU has and the build does not use.
    unused: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct ModelRow {
    path: PathBuf,
    bytes: u64,
    /// Bytes of it that are in memory.
    resident: u64,
    disk: Option<String>,
    /// Bytes a second.
    disk_speed: Option<f64>,
}

/// Something to change.
#[derive(Debug, Serialize)]
struct Advice {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'static str>,
}

/// Bytes that are read to measure a disk.
const SAMPLE: u64 = 2_000_000_000;

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut pages = Vec::new();
    for source in sources(args)? {
        pages.push((source.path().to_owned(), engine::resident(source)?));
    }
    let mut measured = figures(args.again, args.quiet)?;
    let mut models = Vec::new();
    let mut fresh = HashSet::new();
    for (path, pages) in pages {
        models.push(model(args, path, pages, &mut measured, &mut fresh)?);
    }
    let (gpus, no_gpus) = match cards() {
        Ok(cards) => (cards, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let (computed_on, cpu_only) = match usable() {
        Ok(cards) => (cards, None),
        Err(why) => (Vec::new(), Some(why.to_string())),
    };
    let system = System::read();
    let isa = Isa::chosen()?;
    let build = Build {
        ggml: ggml::version(),
        backends: ggml::backends(),
        kernels: isa.name(),
        unused: ggml::unused_features(),
    };
    let advice = advice(&system, &build, &gpus, no_gpus.as_deref(), &models);
    let cores = Cores { physical: physical_cores(), logical: logical_cores() };
    let report = Report { system, cores, build, measured, gpus, no_gpus, computed_on, cpu_only, models, advice };
    match args.json {
        true => json(&report)?,
        false => answer(text(&report, isa).as_bytes())?,
    }
    Ok(())
}

/// The figures of this machine: those that are kept, or measured now.
pub(super) fn figures(again: bool, quiet: bool) -> anyhow::Result<Figures> {
    let isa = Isa::chosen()?;
    if let Some(kept) = Figures::kept(isa).filter(|_| !again) {
        return Ok(kept);
    }
    if !quiet {
        message("measuring memory and kernels of this machine, once, for some ten seconds");
    }
    let figures = Figures::measure(isa, &|_| ())?;
    if let Err(error) = figures.keep() {
        message(&format!("what was measured cannot be kept for next time: {error}"));
    }
    Ok(figures)
}

/// The models to look at: the one that is named, or those that were pulled and are whole.
fn sources(args: &Args) -> anyhow::Result<Vec<Source>> {
    if let Some(model) = &args.model {
        return Ok(vec![catalog::source(model)?]);
    }
    // Without a home there is nothing that was pulled.
    let Ok(store) = Store::open(None) else { return Ok(Vec::new()) };
    let (pulled, _) = store.list()?;
    Ok(pulled.iter().filter(|pulled| pulled.is_whole()).map(|pulled| Source::Path(pulled.first())).collect())
}

/// A disk is measured once, however many models lie on it.
fn model(
    args: &Args,
    path: PathBuf,
    pages: ResidentPages,
    figures: &mut Figures,
    fresh: &mut HashSet<String>,
) -> anyhow::Result<ModelRow> {
    let ResidentPages { files, bytes, resident } = pages;
    let path = files.first().cloned().unwrap_or(path);
    let disk = disk_of(&path);
    if let (true, Some(name)) = (args.disk && !files.is_empty(), &disk)
        && fresh.insert(name.clone())
    {
        let largest = files.iter().max_by_key(|file| std::fs::metadata(file).map_or(0, |file| file.len()));
        figures.disks.insert(name.clone(), disk::read_speed(largest.map_or(path.as_path(), PathBuf::as_path), SAMPLE)?);
        figures.keep()?;
    }
    let disk_speed = disk.as_ref().and_then(|name| figures.disks.get(name)).copied();
    Ok(ModelRow { path, bytes, resident, disk, disk_speed })
}

fn advice(system: &System, build: &Build, gpus: &[Card], no_gpus: Option<&str>, models: &[ModelRow]) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |is: bool, what: &str, command: Option<&'static str>| {
        if is {
            all.push(Advice { what: what.to_owned(), command });
        }
    };
    let lacks = format!("this CPU has {}, which this build does not use: build it here", build.unused.join(", "));
    say(!build.unused.is_empty(), &lacks, Some("cargo build --release"));
    let governed = system.governor.as_deref().is_some_and(|governor| governor != "performance");
    say(
        governed,
        "the CPU's clock is not at its highest under load",
        Some("sudo cpupower frequency-set -g performance"),
    );
    say(
        system.nodes > 1,
        "memory is in several NUMA nodes: a model that is loaded once should be spread over all of them",
        Some("numactl --interleave=all cachalot …"),
    );
    say(
        system.nodes > 1 && system.numa_balancing,
        "the kernel moves pages between nodes while a model is read",
        Some("sudo sysctl kernel.numa_balancing=0"),
    );
    say(
        system.huge_pages.as_deref() == Some("never"),
        "huge pages are off: the cache of a long context is read through small ones",
        Some("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"),
    );
    say(
        system.huge_pages_reserved.is_some_and(|bytes| bytes > 0),
        "memory is set aside as huge pages, which models in files cannot use",
        Some("sudo sysctl vm.nr_hugepages=0"),
    );
    let limit = system.cgroup.map(|cgroup| cgroup.limit).filter(|limit| system.ram.is_some_and(|ram| *limit < ram));
    let limited = format!("the control group of this process may use {}", limit.map_or(String::new(), binary));
    say(limit.is_some(), &limited, Some("systemctl set-property UNIT MemoryMax=infinity, or docker run --memory"));
    for card in gpus {
        let slow = card.pcie_now[1] < card.pcie_max[1] && card.pcie_now[1] > 0;
        let what = format!("{} has {} of {} lanes: look at its slot", card.name, card.pcie_now[1], card.pcie_max[1]);
        say(slow, &what, Some("nvidia-smi -q -d PERFORMANCE,CLOCK"));
    }
    say(
        no_gpus.is_some() && has_nvidia(),
        "there is a GPU of NVIDIA's, but no driver that knows it",
        Some("sudo apt install nvidia-driver-580, or your distribution's package"),
    );
    let short = system.memlock.filter(|limit| models.iter().any(|model| model.bytes > *limit));
    let locked = format!(
        "{} may be locked in memory, less than a model needs with --mlock",
        short.map_or(String::new(), binary)
    );
    say(
        short.is_some(),
        &locked,
        Some("ulimit -l unlimited, and for good \"USER - memlock unlimited\" in /etc/security/limits.conf"),
    );
    for model in models {
        let usable = system.usable.unwrap_or(u64::MAX);
        let (path, bytes) = (model.path.display(), decimal(model.bytes));
        let over = format!("{path} has {bytes}, but {} of memory can be used", decimal(usable));
        say(model.bytes > usable, &over, Some("cachalot plan MODEL"));
    }
    all
}

fn text(report: &Report, isa: Isa) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<11} {}", Escaped(&value));
    };
    let Report { system, cores, measured, .. } = report;
    let of = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), binary);
    let name = system.cpu.as_deref().unwrap_or("unknown");
    line("CPU", format!("{name}, {} cores, {} threads", cores.physical, cores.logical));
    line("build", format!("ggml {}; {}", report.build.ggml, report.build.backends.join("; ")));
    line("kernels", chosen(isa));
    line("RAM", format!("{}, of which {} can be used now", of(system.ram), of(system.usable)));
    line("bandwidth", format!("{:.1} GB/s, read by {} threads", measured.bandwidth / 1e9, measured.threads));
    line(
        "NUMA",
        match system.nodes {
            1 => "one node".to_owned(),
            n => format!("{n} nodes; the kernel {} pages", if system.numa_balancing { "moves" } else { "leaves" }),
        },
    );
    line(
        "huge pages",
        format!(
            "{}; {} set aside",
            system.huge_pages.as_deref().unwrap_or("unknown"),
            binary(system.huge_pages_reserved.unwrap_or(0)),
        ),
    );
    line("memlock", system.memlock.map_or_else(|| "unlimited".to_owned(), binary));
    line(
        "cgroup",
        match (system.cgroup, system.cgroup_cpus) {
            (None, None) => "no limit".to_owned(),
            (memory, cpus) => format!(
                "memory {}, CPUs {}",
                memory.map_or_else(|| "unlimited".to_owned(), |memory| binary(memory.limit)),
                cpus.map_or_else(|| "unlimited".to_owned(), |cpus| format!("{cpus:.1}")),
            ),
        },
    );
    line("governor", system.governor.clone().unwrap_or_else(|| "none (a virtual machine, or fixed)".to_owned()));
    for card in &report.gpus {
        let [generation, lanes] = card.pcie_now;
        let [most, width] = card.pcie_max;
        let link = format!("PCIe {generation} x{lanes} of {most} x{width}, at most {:.0} GB/s", card.pcie() / 1e9);
        line(
            "GPU",
            format!(
                "{}, {} of {} free, {link}, driver {}",
                card.name,
                binary(card.free),
                binary(card.memory),
                card.driver
            ),
        );
    }
    if let Some(why) = &report.no_gpus {
        line("GPU", format!("none ({why})"));
    }
    for (number, card) in report.computed_on.iter().enumerate() {
        let Card { name, compute_capability, .. } = card;
        let (free, memory) = (binary(card.free), binary(card.memory));
        line(
            "computes on",
            format!("gpu{number}: {name}, {free} of {memory} free, compute capability {compute_capability}"),
        );
    }
    if let Some(why) = &report.cpu_only {
        line("computes on", format!("the CPU alone: {why}"));
    }
    for model in &report.models {
        let part = 100.0 * model.resident as f64 / model.bytes.max(1) as f64;
        line("model", format!("{}, {}", model.path.display(), decimal(model.bytes)));
        line("in memory", format!("{} ({part:.0} %)", decimal(model.resident)));
        // A model in the program has no disk.
        let Some(disk) = &model.disk else { continue };
        let speed = match model.disk_speed {
            Some(speed) => format!("{:.2} GB/s; the whole model in {:.0} s", speed / 1e9, model.bytes as f64 / speed),
            None => "not measured: --disk does".to_owned(),
        };
        line("disk", format!("{disk}: {speed}"));
    }
    text.push_str(&kernels(measured, isa));
    for Advice { what, command } in &report.advice {
        let _ = writeln!(text, "\nto change: {}", Escaped(what));
        if let Some(command) = command {
            let _ = writeln!(text, "           {command}");
        }
    }
    text
}

/// Whose kernels run, and which could.
fn chosen(isa: Isa) -> String {
    let others = Isa::available().into_iter().filter(|other| *other != isa).map(Isa::name);
    format!("{isa} (CACHALOT_CPU takes others: {})", others.collect::<Vec<_>>().join(", "))
}

/// How fast each type is computed with, and whose kernel does.
fn kernels(measured: &Figures, isa: Isa) -> String {
    let mut table = super::output::Table::new(&["type", "kernel", ">generating, GB/s", ">prompts, Gop/s"]);
    let mut row = |ty: &str, decode: Option<f64>, prefill: f64| {
        let decode = decode.map_or(String::new(), |rate| format!("{:.1}", rate / 1e9));
        table.row([ty.to_owned(), whose(isa, ty).to_string(), decode, format!("{:.0}", prefill / 1e9)]);
    };
    for (ty, rate) in &measured.rates.decode {
        row(ty, Some(*rate), measured.rates.prefill.get(ty).copied().unwrap_or(0.0));
    }
    row("attention", None, measured.rates.attention);
    format!("\n{}", table.render(""))
}

/// The disk of a path, as the figures name it.
pub(super) fn disk_name(path: Option<&Path>) -> Option<String> {
    path.and_then(disk_of)
}
