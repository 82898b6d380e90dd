//! What was measured, as data and as tables.

use super::peer::Peer;
use crate::cli::output::Table;
use crate::cli::size;
use crate::engine::bench::{Spread, Test, machine};
use crate::engine::{Info, Routing, Traffic};
use crate::ggml;
use crate::text::{Clipped, Escaped};
use serde::Serialize;
use std::time::Duration;

/// A test and the times of its repetitions.
pub(super) struct Measured {
    pub(super) test: Test,
    pub(super) ours: Vec<Duration>,
    pub(super) peer: Vec<Duration>,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: Model,
    machine: Machine,
    settings: Settings,
    load: Load,
    traffic: TrafficRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
    tests: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Model {
    path: String,
    name: Option<String>,
    bytes: u64,
    layers: usize,
    vocabulary: usize,
    context: usize,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: Option<String>,
    threads: usize,
    ggml: &'static str,
    backends: Vec<String>,
    /// Whose kernels compute on the CPU.
    kernels: &'static str,
    /// 10⁹ bytes a second.
    bandwidth_gb_s: f64,
}

#[derive(Debug, Serialize)]
struct Settings {
    context: usize,
    batch: usize,
    cache_type: &'static str,
    flash_attention: bool,
    routing: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Load {
    /// To open the model.
    seconds: f64,
    /// From the same start to the first token of an answer.
    first_token_seconds: f64,
    first_token_prompt: usize,
}

/// Bytes that one token reads.
#[derive(Debug, Serialize)]
struct TrafficRow {
    #[serde(flatten)]
    classes: Traffic,
    weights: u64,
    cache_per_token_of_context: u64,
}

#[derive(Debug, Serialize)]
struct Against {
    #[serde(skip)]
    name: String,
    program: String,
    args: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    test: Test,
    #[serde(flatten)]
    ours: Times,
    /// Of generation only: what is read for a token, and how fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<Reading>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Compared>,
}

#[derive(Debug, Serialize)]
struct Times {
    /// Of each repetition.
    seconds: Vec<f64>,
    tokens_per_second: Spread,
}

#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    times: Times,
    /// Our median in its medians.
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Reading {
    bytes_per_token: u64,
    gb_s: f64,
    of_bandwidth: f64,
}

impl Measured {
    pub(super) fn new(test: Test) -> Measured {
        Measured { test, ours: Vec::new(), peer: Vec::new() }
    }
}

impl Times {
    /// `None` where there are none.
    fn of(test: Test, times: &[Duration]) -> Option<Times> {
        let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        let rates: Vec<f64> = seconds.iter().map(|seconds| test.n() as f64 / seconds.max(1e-9)).collect();
        Some(Times { tokens_per_second: Spread::of(&rates)?, seconds })
    }
}

impl Load {
    pub(super) fn new(load: Duration, first_token: Duration, n_prompt: usize) -> Load {
        Load {
            seconds: load.as_secs_f64(),
            first_token_seconds: first_token.as_secs_f64(),
            first_token_prompt: n_prompt,
        }
    }
}

impl Report {
    /// `bandwidth` in bytes a second.
    pub(super) fn new(info: &Info, load: Load, bandwidth: f64, rows: &[Measured], peer: Option<&Peer>) -> Report {
        let mut report = Report {
            model: Model {
                path: info.path.display().to_string(),
                name: info.name.clone(),
                bytes: info.n_bytes,
                layers: info.n_layer,
                vocabulary: info.n_vocab,
                context: info.n_ctx_train,
            },
            machine: Machine {
                cpu: machine::cpu_name(),
                threads: info.n_threads,
                ggml: ggml::version(),
                backends: ggml::backends(),
                kernels: info.isa.name(),
                bandwidth_gb_s: bandwidth / 1e9,
            },
            settings: Settings {
                context: info.n_ctx,
                batch: info.n_batch,
                cache_type: info.cache_type.name(),
                flash_attention: info.flash_attention,
                routing: match info.routing {
                    Routing::DeepSeek => "deepseek",
                    Routing::Plain => "plain",
                },
            },
            load,
            traffic: TrafficRow {
                classes: info.traffic,
                weights: info.traffic.total(),
                cache_per_token_of_context: info.cached_bytes_per_token,
            },
            against: peer.map(|peer| Against {
                name: peer.name(),
                program: peer.program().display().to_string(),
                args: peer.args().to_vec(),
            }),
            tests: Vec::new(),
        };
        report.tests = rows.iter().filter_map(|row| report.row(row)).collect();
        report
    }

    fn row(&self, measured: &Measured) -> Option<Row> {
        let Measured { test, ours, peer } = measured;
        let ours = Times::of(*test, ours)?;
        let median = ours.tokens_per_second.median;
        let compared = |times: Times| Compared { ratio: median / times.tokens_per_second.median, times };
        let peer = Times::of(*test, peer).map(compared);
        Some(Row { test: *test, reading: self.reading(*test, ours.tokens_per_second.mean), ours, peer })
    }

    /// A token in the middle of those that are generated sees half of them, and what was cached before.
    fn reading(&self, test: Test, tokens_per_second: f64) -> Option<Reading> {
        let Test::Generation { n, depth } = test else { return None };
        let context = depth as f64 + (n + 1) as f64 / 2.0;
        let bytes = self.traffic.weights as f64 + self.traffic.cache_per_token_of_context as f64 * context;
        let gb_s = bytes * tokens_per_second / 1e9;
        Some(Reading { bytes_per_token: bytes as u64, gb_s, of_bandwidth: gb_s / self.machine.bandwidth_gb_s })
    }

    pub(super) fn text(&self) -> String {
        let Report { model, machine, settings, load, traffic, .. } = self;
        let mut facts = Table::new(&["", ""]);
        let mut fact = |name: &str, text: String| facts.row([name.to_owned(), text]);
        let (name, path) = (Clipped(model.name.as_deref().unwrap_or("no name")), Escaped(&model.path));
        fact("model", format!("{name}, {}, {} layers, {path}", size::binary(model.bytes), model.layers));
        fact("CPU", format!("{}, threads {}", machine.cpu.as_deref().unwrap_or("unknown"), machine.threads));
        fact("memory", format!("{:.1} GB/s read", machine.bandwidth_gb_s));
        fact("ggml", format!("{}, {}", machine.ggml, machine.backends.join(", ")));
        fact("kernels", machine.kernels.to_owned());
        fact("settings", settings.text());
        fact("a token reads", traffic.text());
        fact("load", format!("{:.3} s, files as found", load.seconds));
        let first = format!("{:.3} s, load included, prompt of {}", load.first_token_seconds, load.first_token_prompt);
        fact("first token", first);
        if let Some(against) = &self.against {
            fact("against", Escaped(&format!("{} {}", against.program, against.args.join(" "))).to_string());
        }
        let comparison = self.against.as_ref().map(|against| self.comparison(against)).unwrap_or_default();
        format!("{}\n{}{comparison}", facts.render("").trim_start(), self.table())
    }

    fn table(&self) -> String {
        let mut table = Table::new(&["test", ">tokens/s", ">", ">best", ">GB/s", ">of memory"]);
        for row in &self.tests {
            let rate = row.ours.tokens_per_second;
            let (gb_s, part) = match &row.reading {
                Some(reading) => (format!("{:.2}", reading.gb_s), format!("{:.0} %", 100.0 * reading.of_bandwidth)),
                None => ("–".to_owned(), "–".to_owned()),
            };
            let (mean, sd) = (format!("{:.2}", rate.mean), format!("± {:.2}", rate.sd));
            table.row([title(row.test), mean, sd, format!("{:.2}", rate.max), gb_s, part]);
        }
        table.render("")
    }

    fn comparison(&self, against: &Against) -> String {
        let mut table = Table::new(&["median tokens/s", ">cachalot", &format!(">{}", against.name), ">ratio"]);
        for row in &self.tests {
            let Some(Compared { times, ratio }) = &row.peer else { continue };
            let median = |times: &Times| format!("{:.2}", times.tokens_per_second.median);
            table.row([title(row.test), median(&row.ours), median(times), format!("{ratio:.2}")]);
        }
        format!("\n{}", table.render(""))
    }
}

impl Settings {
    fn text(&self) -> String {
        let flash = if self.flash_attention { "flash attention" } else { "no flash attention" };
        format!(
            "context {}, batch {}, cache {}, {flash}, routing {}",
            self.context, self.batch, self.cache_type, self.routing
        )
    }
}

impl TrafficRow {
    fn text(&self) -> String {
        let Traffic { attention, dense, shared, routed, head, .. } = self.classes;
        let others = self.weights - attention - dense - shared - routed - head;
        let parts = [
            ("routed experts", routed),
            ("attention", attention),
            ("shared experts", shared),
            ("dense", dense),
            ("head", head),
            ("others", others),
        ];
        let parts = parts.map(|(name, bytes)| format!("{name} {}", size::decimal(bytes))).join(", ");
        let (weights, cache) = (size::decimal(self.weights), size::decimal(self.cache_per_token_of_context));
        format!("{weights} of weights ({parts}) and {cache} of cache for each token of context")
    }
}

/// What a test is called.
pub(super) fn title(test: Test) -> String {
    match test {
        Test::Prompt { n } => format!("prompt {n}"),
        Test::Generation { n, depth: 0 } => format!("generation {n}"),
        Test::Generation { n, depth } => format!("generation {n} at {depth}"),
    }
}
