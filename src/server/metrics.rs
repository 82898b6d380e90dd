//! What is counted, and how Prometheus reads it.

use crate::engine::{Figures, Histogram, Number};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// What is counted here; of answers the engine counts, whoever asked for them.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) connections: Number,
    pub(super) rejected: Number,
    /// By route and status.
    responses: Mutex<BTreeMap<(String, u16), u64>>,
}

impl Metrics {
    pub(super) fn response(&self, route: &str, status: u16) {
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        *responses.entry((route.to_owned(), status)).or_default() += 1;
    }

    pub(super) fn text(&self, figures: &Figures, n_slots: usize) -> String {
        let mut out = String::new();
        let mut one = |kind: &str, name: &str, help: &str, value: f64| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        for (name, help, value) in [
            ("requests_waiting", "Answers that wait for a slot.", figures.waiting.get()),
            ("requests_running", "Answers that are being computed.", figures.running.get()),
            ("slots", "Answers that can be computed at the same time.", n_slots as u64),
            ("connections", "Open connections.", self.connections.get()),
        ] {
            one("gauge", &format!("cachalot_{name}"), help, value as f64);
        }
        for (name, help, number) in [
            ("requests_finished", "Answers that came to their end.", &figures.finished),
            ("requests_failed", "Answers that the engine failed.", &figures.failed),
            ("requests_cancelled", "Answers that nobody waited for any more.", &figures.cancelled),
            ("requests_rejected", "Requests that found no place in the queue.", &self.rejected),
            ("prompt_tokens", "Tokens of prompts.", &figures.prompt_tokens),
            ("cached_prompt_tokens", "Of these, tokens that were cached from before.", &figures.cached_tokens),
            ("generated_tokens", "Tokens of answers.", &figures.generated_tokens),
            ("steps", "Steps, each of tokens of several answers.", &figures.steps),
            ("expert_layers", "Layers of routed experts, a step each, that the CPU computed.", &figures.expert_layers),
            ("experts", "Experts that these needed.", &figures.experts),
        ] {
            one("counter", &format!("cachalot_{name}_total"), help, number.get() as f64);
        }
        for (name, help, time) in [
            ("prompt", "Time of prompts, of all requests together.", &figures.prompt_time),
            ("generation", "Time of answers, of all requests together.", &figures.generation_time),
            ("step", "Time of steps.", &figures.step_time),
        ] {
            one("counter", &format!("cachalot_{name}_seconds_total"), help, time.get() as f64 / 1e6);
        }
        for (name, help, value) in process() {
            one(if name.ends_with("_total") { "counter" } else { "gauge" }, name, help, value);
        }
        write_histogram(&figures.queue_time, "cachalot_queue_seconds", "From a request to its first step.", &mut out);
        let help = "From a request to its first token.";
        write_histogram(&figures.first_token_time, "cachalot_first_token_seconds", help, &mut out);
        write_histogram(&figures.answer_time, "cachalot_answer_seconds", "From a request to its end.", &mut out);
        let name = "cachalot_http_responses_total";
        let _ = write!(out, "# HELP {name} Responses by route and status.\n# TYPE {name} counter\n");
        for ((route, status), n) in &*self.responses.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "{name}{{route=\"{route}\",status=\"{status}\"}} {n}");
        }
        out
    }
}

fn write_histogram(histogram: &Histogram, name: &str, help: &str, out: &mut String) {
    let (n, seconds) = histogram.total();
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for (bound, count) in Histogram::BOUNDS.iter().zip(histogram.counts()) {
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {n}\n{name}_sum {seconds}\n{name}_count {n}\n");
}

/// What the system says of this process, under the names that Prometheus has for it.
fn process() -> Vec<(&'static str, &'static str, f64)> {
    let mut found = Vec::new();
    // Behind the name of the program, which may have spaces in it.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let times: Vec<f64> = stat.rsplit(')').next().unwrap_or_default().split(' ').flat_map(str::parse).collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    // The state is a letter, which is no number.
    if let (Some(user), Some(system)) = (times.get(10), times.get(11)) {
        found.push(("process_cpu_seconds_total", "Time of all CPUs.", (user + system) / ticks));
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    if let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()) {
        let bytes = pages * rustix::param::page_size() as f64;
        found.push(("process_resident_memory_bytes", "Memory that the process has.", bytes));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        found.push(("process_open_fds", "Open file descriptors.", open.count() as f64));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_line_has_prometheus_form() {
        let metrics = Metrics::default();
        metrics.response("/health", 200);
        let figures = Figures::default();
        figures.queue_time.observe(Duration::from_millis(60));
        let text = metrics.text(&figures, 4);
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && !name.contains(' '), "{line}");
        }
        assert!(text.contains("cachalot_queue_seconds_bucket{le=\"0.05\"} 0\n"), "{text}");
        assert!(text.contains("cachalot_queue_seconds_bucket{le=\"0.1\"} 1\n"), "{text}");
        assert!(text.contains("cachalot_http_responses_total{route=\"/health\",status=\"200\"} 1\n"), "{text}");
        assert!(text.contains("process_cpu_seconds_total") && text.contains("process_open_fds"), "{text}");
    }
}
