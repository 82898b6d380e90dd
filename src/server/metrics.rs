//! What is counted, and how Prometheus reads it.

use crate::engine::Usage;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) waiting: Number,
    pub(super) running: Number,
    pub(super) connections: Number,
    pub(super) rejected: Number,
    pub(super) cancelled: Number,
    pub(super) failed: Number,
    finished: Number,
    prompt_tokens: Number,
    cached_tokens: Number,
    generated_tokens: Number,
    prompt_micros: Number,
    generation_micros: Number,
    pub(super) queue_time: Histogram,
    pub(super) first_token_time: Histogram,
    answer_time: Histogram,
    /// By route and status.
    responses: Mutex<BTreeMap<(String, u16), u64>>,
}

#[derive(Debug, Default)]
pub(super) struct Number(AtomicI64);

impl Number {
    pub(super) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, n: i64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many took at most so long.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS.len()],
    n: AtomicU64,
    micros: AtomicU64,
}

/// In seconds.
const BOUNDS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

impl Histogram {
    pub(super) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bound, count) in BOUNDS.iter().zip(&self.counts) {
            count.fetch_add(u64::from(seconds <= *bound), Ordering::Relaxed);
        }
        self.micros.fetch_add(micros(time), Ordering::Relaxed);
        self.n.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        let n = self.n.load(Ordering::Relaxed);
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        for (bound, count) in BOUNDS.iter().zip(&self.counts) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {}", count.load(Ordering::Relaxed));
        }
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(text, "{name}_bucket{{le=\"+Inf\"}} {n}\n{name}_sum {sum}\n{name}_count {n}\n");
        out.push_str(&text);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Metrics {
    /// An answer is over.
    pub(super) fn count(&self, usage: &Usage, took: Duration) {
        self.finished.add(1);
        self.prompt_tokens.add(signed(usage.prompt_tokens));
        self.cached_tokens.add(signed(usage.cached_tokens));
        self.generated_tokens.add(signed(usage.generated_tokens));
        self.prompt_micros.add(i64::try_from(micros(usage.prompt_time)).unwrap_or(i64::MAX));
        self.generation_micros.add(i64::try_from(micros(usage.generation_time)).unwrap_or(i64::MAX));
        self.answer_time.observe(took);
    }

    pub(super) fn response(&self, route: &str, status: u16) {
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        *responses.entry((route.to_owned(), status)).or_default() += 1;
    }

    pub(super) fn text(&self, n_slots: usize) -> String {
        let mut out = String::new();
        let mut one = |kind: &str, name: &str, help: &str, value: f64| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        let seconds = |number: &Number| number.get() as f64 / 1e6;
        one("gauge", "cachalot_requests_waiting", "Answers that wait for a slot.", self.waiting.get() as f64);
        one("gauge", "cachalot_requests_running", "Answers that are being computed.", self.running.get() as f64);
        one("gauge", "cachalot_slots", "Answers that can be computed at the same time.", n_slots as f64);
        one("gauge", "cachalot_connections", "Open connections.", self.connections.get() as f64);
        for (name, help, number) in [
            ("requests_finished", "Answers that came to their end.", &self.finished),
            ("requests_failed", "Answers that the engine failed.", &self.failed),
            ("requests_cancelled", "Answers that nobody waited for any more.", &self.cancelled),
            ("requests_rejected", "Requests that found no place in the queue.", &self.rejected),
            ("prompt_tokens", "Tokens of prompts.", &self.prompt_tokens),
            ("cached_prompt_tokens", "Of these, tokens that were cached from before.", &self.cached_tokens),
            ("generated_tokens", "Tokens of answers.", &self.generated_tokens),
        ] {
            one("counter", &format!("cachalot_{name}_total"), help, number.get() as f64);
        }
        let prompt = seconds(&self.prompt_micros);
        one("counter", "cachalot_prompt_seconds_total", "Time of prompts, of all requests together.", prompt);
        let generation = seconds(&self.generation_micros);
        one("counter", "cachalot_generation_seconds_total", "Time of answers, of all requests together.", generation);
        for (name, help, value) in process() {
            one(if name.ends_with("_total") { "counter" } else { "gauge" }, name, help, value);
        }
        self.queue_time.write("cachalot_queue_seconds", "From a request to its first step.", &mut out);
        self.first_token_time.write("cachalot_first_token_seconds", "From a request to its first token.", &mut out);
        self.answer_time.write("cachalot_answer_seconds", "From a request to its end.", &mut out);
        let name = "cachalot_http_responses_total";
        let _ = write!(out, "# HELP {name} Responses by route and status.\n# TYPE {name} counter\n");
        for ((route, status), n) in &*self.responses.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "{name}{{route=\"{route}\",status=\"{status}\"}} {n}");
        }
        out
    }
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

    #[test]
    fn every_line_has_prometheus_form() {
        let metrics = Metrics::default();
        metrics.response("/health", 200);
        metrics.queue_time.observe(Duration::from_millis(60));
        let text = metrics.text(4);
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
