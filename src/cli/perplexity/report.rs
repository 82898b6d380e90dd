//! What comes out, as a line, a table, or JSON.

use super::super::output::Table;
use crate::quality::{Estimate, Summary};
use serde_json::{Value, json};
use std::path::Path;

/// What was computed, and in what time.
pub(super) struct Work<'a> {
    pub(super) model: &'a Path,
    pub(super) n_ctx: usize,
    pub(super) stride: Option<usize>,
    pub(super) n_chunks: usize,
    pub(super) seconds: f64,
}

impl Work<'_> {
    fn json(&self, n_tokens: usize) -> Value {
        let mut work = json!({
            "tokens": n_tokens,
            "chunks": self.n_chunks,
            "seconds": self.seconds,
            "model": self.model.display().to_string(),
            "n_ctx": self.n_ctx,
        });
        if let (Some(stride), Value::Object(work)) = (self.stride, &mut work) {
            work.insert("stride".to_owned(), stride.into());
        }
        work
    }

    fn text(&self, n_tokens: usize) -> String {
        let (n_chunks, n_ctx) = (self.n_chunks, self.n_ctx);
        let stride = self.stride.map(|stride| format!(", stride {stride}")).unwrap_or_default();
        format!("{n_tokens} tokens scored in {n_chunks} chunks of {n_ctx}{stride}")
    }
}

pub(super) fn perplexity_line(perplexity: Estimate, n_tokens: usize, work: &Work<'_>) -> String {
    format!("perplexity {}, {}\n", with_error(perplexity, 4), work.text(n_tokens))
}

pub(super) fn perplexity_json(perplexity: Estimate, n_tokens: usize, work: &Work<'_>) -> Value {
    joined(json!({"perplexity": perplexity.value, "error": perplexity.error}), work.json(n_tokens))
}

pub(super) fn divergence_table(summary: &Summary, work: &Work<'_>) -> String {
    let mut table = Table::new(&["", ">value", ">error"]);
    let mut estimate = |name: &str, estimate: Estimate, digits: usize, unit: &str| {
        let number = |x: f64| format!("{x:.digits$}{unit}");
        table.row([name.to_owned(), number(estimate.value), format!("± {}", number(estimate.error))]);
    };
    estimate("perplexity", summary.perplexity, 4, "");
    estimate("perplexity, saved", summary.saved_perplexity, 4, "");
    estimate("ratio", summary.ratio, 6, "");
    estimate("KL divergence", summary.kl, 6, "");
    let mut number = |name: &str, text: String| table.row([name.to_owned(), text, String::new()]);
    for (name, value) in ["  median", "  90 %", "  95 %", "  99 %", "  99.9 %"].iter().zip(summary.kl_quantiles) {
        number(name, format!("{value:.6}"));
    }
    number("  maximum", format!("{:.6}", summary.kl_max));
    let mut share = |name: &str, estimate: Estimate| {
        let percent = |x: f64| format!("{:.3} %", 100.0 * x);
        table.row([name.to_owned(), percent(estimate.value), format!("± {}", percent(estimate.error))]);
    };
    share("same top token", summary.same_top);
    share("Δp, mean", summary.delta_p);
    share("Δp, RMS", summary.delta_p_rms);
    for (name, value) in [("  minimum", summary.delta_p_min), ("  maximum", summary.delta_p_max)] {
        table.row([name.to_owned(), format!("{:.3} %", 100.0 * value), String::new()]);
    }
    format!("{}{}\n", table.render(""), work.text(summary.n))
}

pub(super) fn divergence_json(summary: &Summary, work: &Work<'_>) -> Value {
    let pair = |estimate: Estimate| json!({"value": estimate.value, "error": estimate.error});
    let [median, q90, q95, q99, q99_9] = summary.kl_quantiles;
    let kl = json!({
        "mean": summary.kl.value, "error": summary.kl.error,
        "median": median, "q90": q90, "q95": q95, "q99": q99, "q99_9": q99_9, "maximum": summary.kl_max,
    });
    let delta_p = json!({
        "mean": summary.delta_p.value, "error": summary.delta_p.error,
        "rms": summary.delta_p_rms.value, "rms_error": summary.delta_p_rms.error,
        "minimum": summary.delta_p_min, "maximum": summary.delta_p_max,
    });
    let result = json!({
        "perplexity": summary.perplexity.value,
        "error": summary.perplexity.error,
        "saved_perplexity": pair(summary.saved_perplexity),
        "ratio": pair(summary.ratio),
        "kl": kl,
        "same_top": pair(summary.same_top),
        "delta_p": delta_p,
    });
    joined(result, work.json(summary.n))
}

pub(super) fn with_error(estimate: Estimate, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", estimate.value, estimate.error)
}

/// The members of both objects.
fn joined(mut a: Value, b: Value) -> Value {
    if let (Value::Object(a), Value::Object(b)) = (&mut a, b) {
        a.extend(b);
    }
    a
}
