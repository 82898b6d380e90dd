//! `bench` from outside: what it reports is there and agrees with itself; no test asserts a speed.

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::models::{V3, write_holes};
use support::parity::unpack_model;
use support::{Ended, cachalot};

/// What every call has: short tests, and a bandwidth that is not measured.
const SHORT: [&str; 8] = ["-p", "5,9", "-n", "3", "-d", "0,7", "-t", "1"];

fn bench(model: &Path, args: &[&str]) -> Ended {
    cachalot(&[&["bench", model.to_str().unwrap(), "--bandwidth", "10"], args].concat())
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-6
}

/// A program that answers as llama-bench would: `body` is a shell script.
fn peer(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("llama-bench");
    let script = format!("#!/bin/sh\n[ \"$1\" = --help ] && exit\n{body}\n");
    support::write_program(|| fs::write(&path, script)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_report_agrees_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let report = json(&bench(&model, &[&SHORT[..], &["-r", "4", "--json", "-q"]].concat()));
    let tests = report["tests"].as_array().unwrap();
    let what: Vec<_> = tests.iter().map(|test| (test["kind"].as_str().unwrap(), &test["n"], &test["depth"])).collect();
    let none = &Value::Null;
    let expected = [
        ("prompt", &5.into(), none),
        ("prompt", &9.into(), none),
        ("generation", &3.into(), &0.into()),
        ("generation", &3.into(), &7.into()),
    ];
    assert_eq!(what, expected);
    let traffic = &report["traffic"];
    for test in tests {
        let seconds: Vec<f64> = test["seconds"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(seconds.len(), 4);
        assert!(seconds.iter().all(|seconds| *seconds > 0.0));
        let rates: Vec<f64> = seconds.iter().map(|seconds| number(&test["n"]) / seconds).collect();
        let speed = &test["tokens_per_second"];
        assert!(close(number(&speed["mean"]), rates.iter().sum::<f64>() / 4.0));
        assert!(close(number(&speed["max"]), rates.iter().copied().fold(0.0, f64::max)));
        if test["kind"] == "generation" {
            let reading = &test["reading"];
            let context = number(&test["depth"]) + 2.0;
            let bytes = number(&traffic["weights"]) + context * number(&traffic["cache_per_token_of_context"]);
            assert_eq!(number(&reading["bytes_per_token"]), bytes.floor());
            assert!(close(number(&reading["gb_s"]), bytes * number(&speed["mean"]) / 1e9));
            assert!(close(number(&reading["of_bandwidth"]), number(&reading["gb_s"]) / 10.0));
        }
    }
    let load = &report["load"];
    assert!(0.0 < number(&load["seconds"]) && number(&load["seconds"]) < number(&load["first_token_seconds"]));
    assert_eq!(load["first_token_prompt"], 5);
    assert_eq!(report["settings"]["context"], 10);
    assert_eq!(report["machine"]["threads"], 1);
    assert!(number(&traffic["weights"]) < number(&report["model"]["bytes"]));
}

#[test]
fn the_table_has_a_line_for_each_test_and_progress_goes_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let ended = bench(&model, &SHORT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in ["model", "memory", "settings", "prompt 5", "prompt 9", "generation 3", "generation 3 at 7"] {
        assert!(ended.stdout.lines().any(|l| l.starts_with(line)), "{line}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("measuring generation 3 at 7"), "{}", ended.stderr);
    let quiet = bench(&model, &[&SHORT[..], &["-q", "--only", "prompt"]].concat());
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    assert!(!quiet.stdout.contains("generation"));
}

/// The usual depths are those that the model was made for; of those that are asked for all have to be.
#[test]
fn what_is_not_asked_for_fits_the_model() {
    let demo =
        ["bench", "demo", "-p", "1", "-n", "1", "-r", "1", "-t", "1", "--only", "generation", "--bandwidth", "10"];
    let ended = cachalot(&demo);
    assert!(ended.code == Some(0) && ended.stdout.contains("generation 1 "), "{ended:?}");
    assert!(!ended.stdout.contains("generation 1 at"), "{}", ended.stdout);
    let asked = cachalot(&[&demo[..], &["-d", "4096"]].concat());
    assert!(asked.code == Some(2) && asked.stderr.contains("made for 4096"), "{asked:?}");
}

/// Spans of the format that browsers show, within their step; a file is not written over.
#[test]
fn the_timeline_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let path = folder.path().join("trace.json");
    let args = [&SHORT[..], &["--only", "generation", "-r", "1", "--trace", path.to_str().unwrap()]].concat();
    let ended = bench(&model, &args);
    assert!(ended.code == Some(0) && ended.stderr.contains("trace.json shows it"), "{ended:?}");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let events = file["traceEvents"].as_array().unwrap();
    let spans = |lane: u64| events.iter().filter(move |event| event["ph"] == "X" && event["tid"] == lane);
    let sum = |lane| spans(lane).map(|event| event["dur"].as_f64().unwrap()).sum::<f64>();
    // The first of three steps is not in it.
    assert_eq!(spans(0).count(), 2);
    assert!((sum(0) - sum(1)).abs() < 1.0, "{} of {}", sum(1), sum(0));
    let again = bench(&model, &args);
    assert!(again.code != Some(0) && again.stderr.contains("exists already"), "{again:?}");
}

#[test]
fn the_memory_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let args = ["bench", model.to_str().unwrap(), "-p", "1", "--only", "prompt", "-t", "1", "--json"];
    let gb_s = number(&json(&cachalot(&args))["machine"]["bandwidth_gb_s"]);
    assert!(gb_s > 0.0 && gb_s < 1e6, "{gb_s}");
}

#[test]
fn wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    for (args, says) in [
        (&["-p", "0"][..], "'0'"),
        (&["-p", "128,x"], "'x'"),
        (&["-n", "0"], "'0'"),
        (&["-r", "0"], "'0'"),
        (&["-d", "-1"], "-1"),
        (&["--bandwidth", "0"], "not a number above 0"),
        (&["--against-args", "-lm none"], "--against"),
        (&["--against", "true", "--against-args", "-t '"], "a quote is not closed"),
        (&["--against", "true", "--against-args", "-r 2"], "-r is set by bench itself"),
        (&["-d", "0,163840"], "generation 32 at 163840 needs 163872 tokens of context, but the model was made for"),
        (&["-p", "4000000000"], "prompt 4000000000 needs 4000000000 tokens of context"),
    ] {
        let args = [&["bench", model.to_str().unwrap()], args].concat();
        let ended = cachalot(&args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(cachalot(&["bench", "/nowhere.gguf"]).code, Some(66));
}

/// Two prompts and two generations, 5 and 9 tokens in a millisecond, 3 in 2 and 4 milliseconds.
const ANSWERS: &str = r#"
echo "$@" >> "$(dirname "$0")/calls"
row() { echo "{\"n_prompt\": $1, \"n_gen\": $2, \"n_depth\": $3, \"samples_ns\": [$4, $4], \"more\": true}"; }
case "$*" in
  *"-p 5,9 -n 0"*) echo "[$(row 5 0 0 1000000), $(row 9 0 0 1000000)]" ;;
  *"-p 0 -n 3 -d 0,7"*) echo "[$(row 0 3 7 4000000), $(row 0 3 0 2000000)]" ;;
esac"#;

#[test]
fn against_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let peer = peer(folder.path(), ANSWERS);
    let against = ["-r", "2", "--against", peer.to_str().unwrap(), "--against-args", "-lm 'none' -fa 0"];
    let report = json(&bench(&model, &[&SHORT[..], &against, &["--json"]].concat()));
    let expected = [5000.0, 9000.0, 1500.0, 750.0];
    for (test, expected) in report["tests"].as_array().unwrap().iter().zip(expected) {
        let (ours, theirs) = (&test["tokens_per_second"]["median"], &test["peer"]["tokens_per_second"]["median"]);
        assert!(close(number(theirs), expected), "{test}");
        assert!(close(number(&test["peer"]["ratio"]), number(ours) / expected), "{test}");
        // Two rounds of two repetitions.
        assert_eq!(test["seconds"].as_array().unwrap().len(), 4);
        assert_eq!(test["peer"]["seconds"].as_array().unwrap().len(), 4);
    }
    assert_eq!(report["against"]["args"], serde_json::json!(["-lm", "none", "-fa", "0"]));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let model = model.to_str().unwrap();
    let both = |lengths: &str| {
        format!("-m {model} -r 2 -o json {lengths} -t 1 -b 2048 -ub 512 -ctk f16 -ctv f16 -lm none -fa 0")
    };
    let round = [both("-p 5,9 -n 0"), both("-p 0 -n 3 -d 0,7")];
    assert_eq!(calls.lines().collect::<Vec<_>>(), [&round[0], &round[1], &round[0], &round[1]]);
    let ended = bench(Path::new(model), &[&SHORT[..], &against].concat());
    let last: Vec<&str> = ended.stdout.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((&last[..4], last[5]), (&["generation", "3", "at", "7"][..], "750.00"));
}

#[test]
fn a_signal_ends_the_peer_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    // It waits in a program of its own, as a script around llama-bench would.
    let body = r#"cd "$(dirname "$0")"; sleep 600 & echo $! > new; mv new waiting; wait"#;
    let peer = peer(folder.path(), body);
    let mut command = support::program();
    command.args(["bench", model.to_str().unwrap(), "-q", "--against", peer.to_str().unwrap()]).args(SHORT);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waiting = folder.path().join("waiting");
    while !waiting.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let ended = support::ended(child);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(130), ""));
    let waiting = fs::read_to_string(waiting).unwrap();
    let proc = Path::new("/proc").join(waiting.trim()).join("stat");
    // It is gone, or a zombie that nobody has looked after yet.
    let state = || fs::read_to_string(&proc).ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    let deadline = Instant::now() + Duration::from_secs(60);
    while state().is_some_and(|state| state != 'Z') {
        assert!(Instant::now() < deadline, "{proc:?} still waits");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_peer_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let missing = folder.path().join("none");
    let ended = bench(&model, &[&SHORT[..], &["--against", missing.to_str().unwrap()]].concat());
    assert_eq!(ended.code, Some(66), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot be run"), "{}", ended.stderr);
    for (body, says) in [
        ("echo one >&2; echo two >&2; exit 3", "llama-bench: exit status: 3: one | two"),
        ("kill -ABRT $$", "signal: 6"),
        ("echo nonsense; echo why >&2", "its output cannot be read"),
        ("echo '[]'", "prompt 5 is not in it"),
    ] {
        let peer = peer(folder.path(), body);
        let ended = bench(&model, &[&SHORT[..], &["--against", peer.to_str().unwrap()]].concat());
        assert_eq!(ended.code, Some(1), "{body}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{body}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

/// V3's table of tensors, without data: what its tokens read, in GB as published shapes and types have it.
#[test]
fn what_a_token_of_v3_reads() {
    use cachalot::gguf::{Gguf, Split};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v3.gguf");
    write_holes(&V3, &path, Split::None);
    let gguf = Gguf::open(&path).unwrap();
    let config = cachalot::model::Config::read(gguf.metadata()).unwrap();
    let tensors: Vec<_> = gguf.tensors().map(|tensor| tensor.info).collect();
    let traffic = cachalot::model::Traffic::of(&tensors, &config);
    let near = |bytes: u64, gb: f64| assert!((bytes as f64 / 1e9 / gb - 1.0).abs() < 5e-3, "{bytes} for {gb} GB");
    // Two thirds of 2.554 GB a bit in Q2_K's 2.625 bits, one in Q3_K's 3.4375.
    near(traffic.routed, 2.554 * (2.0 * 2.625 + 3.4375) / 3.0);
    near(traffic.router, 0.426);
    near(traffic.shared, 0.319 * 4.5);
    near(traffic.dense, 0.149 * 4.5);
    near(traffic.head, 0.116 * 4.5);
    // 1.02 of 11.41 thousand million parameters in Q8_0.
    near(traffic.attention, (10.39 * 4.5 + 1.023 * 8.5) / 8.0);
}
