//! What happens while tokens are generated, in the format that chrome://tracing and ui.perfetto.dev show.

use crate::experts::{Lane, Span};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Steps of generation, and what their threads did.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub begin: Instant,
    pub end: Instant,
    /// Within it.
    pub spans: Vec<Span>,
}

/// An event of the format: times in microseconds, `ph` "X" for a span and "M" for a name.
#[derive(Serialize)]
struct Event {
    name: &'static str,
    ph: &'static str,
    pid: u32,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Name>,
}

#[derive(Serialize)]
struct Name {
    name: String,
}

#[derive(Serialize)]
struct File {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

/// What the graph's thread does where none of our work runs in it.
const REST: &str = "other nodes, copies, GPUs";

impl Step {
    /// What the graph's thread does, without gaps: between two pieces of our work it computes other nodes, or has GPUs
    /// compute and waits for them.
    fn of_graph(&self) -> Vec<(&'static str, Instant, Instant)> {
        let mut all = Vec::new();
        let mut at = self.begin;
        for span in self.spans.iter().filter(|span| span.lane == Lane::Graph) {
            all.extend([(REST, at, span.begin), (span.what, span.begin, span.end)]);
            at = span.end;
        }
        all.push((REST, at, self.end));
        all.retain(|(_, begin, end)| begin < end);
        all
    }
}

impl Timeline {
    /// As a file of the format.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let origin = self.steps.first().map(|step| step.begin);
        let micros =
            |at: Instant| origin.map_or(0.0, |origin| at.saturating_duration_since(origin).as_secs_f64() * 1e6);
        let span = |name, tid, begin: Instant, end| {
            let (ts, dur) = (Some(micros(begin)), Some(micros(end) - micros(begin)));
            Event { name, ph: "X", pid: 0, tid, ts, dur, args: None }
        };
        let mut events = Vec::new();
        for step in &self.steps {
            events.push(span("step", 0, step.begin, step.end));
            events.extend(step.of_graph().into_iter().map(|(what, begin, end)| span(what, 1, begin, end)));
            events.extend(step.spans.iter().filter_map(|found| match found.lane {
                Lane::Graph => None,
                Lane::Beside(thread) => Some(span(found.what, 2 + thread, found.begin, found.end)),
            }));
        }
        let n_lanes = events.iter().map(|event| event.tid + 1).max().unwrap_or(0);
        let name = |tid: usize| match tid {
            0 => "steps".to_owned(),
            1 => "graph".to_owned(),
            _ => format!("experts {}", tid - 1),
        };
        let named = |tid| {
            let args = Some(Name { name: name(tid) });
            Event { name: "thread_name", ph: "M", pid: 0, tid, ts: None, dur: None, args }
        };
        events.extend((0..n_lanes).map(named));
        serde_json::to_string(&File { events })
    }

    /// How long the graph's thread was at what, all steps together, longest first; and the sum.
    pub fn totals(&self) -> Vec<(&'static str, Duration)> {
        let mut totals: Vec<(&'static str, Duration)> = Vec::new();
        for (what, begin, end) in self.steps.iter().flat_map(Step::of_graph) {
            match totals.iter_mut().find(|(name, _)| *name == what) {
                Some((_, sum)) => *sum += end - begin,
                None => totals.push((what, end - begin)),
            }
        }
        totals.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_the_rest_and_all_of_a_step_is_counted() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let span = |what, lane, from, to| Span { what, lane, begin: at(from), end: at(to) };
        let spans = vec![
            span("send experts", Lane::Graph, 2, 3),
            span("experts", Lane::Beside(1), 2, 6),
            span("wait for experts", Lane::Graph, 5, 6),
        ];
        let timeline = Timeline { steps: vec![Step { begin, end: at(10), spans }] };
        let ms = |(what, time): &(&'static str, Duration)| (*what, time.as_millis());
        let totals: Vec<_> = timeline.totals().iter().map(ms).collect();
        assert_eq!(totals, [(REST, 8), ("send experts", 1), ("wait for experts", 1)]);

        let file: serde_json::Value = serde_json::from_str(&timeline.to_json().unwrap()).unwrap();
        let events = file["traceEvents"].as_array().unwrap();
        let spans = |tid: u64| events.iter().filter(move |event| event["ph"] == "X" && event["tid"] == tid);
        assert_eq!(spans(0).map(|event| event["dur"].as_f64().unwrap()).collect::<Vec<_>>(), [10_000.0]);
        assert_eq!(spans(1).map(|event| event["dur"].as_f64().unwrap()).sum::<f64>(), 10_000.0);
        assert_eq!(spans(3).map(|event| event["ts"].as_f64().unwrap()).collect::<Vec<_>>(), [2000.0]);
        assert!(events.iter().any(|event| event["ph"] == "M" && event["args"]["name"] == "experts 2"));
    }
}
