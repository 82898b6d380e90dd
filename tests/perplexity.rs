//! `perplexity` as its users meet it: its numbers against a plain formula, saved predictions, exit codes.

mod support;

use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use support::Ended;
use support::parity::{Reference, unpack_model};

/// A small model and a text, in a folder of their own.
struct Bench {
    folder: tempfile::TempDir,
}

/// What the small model needs for its numbers not to depend on the size of a step.
const STEADY: [&str; 3] = ["--cache-type", "f32", "--no-flash-attention"];

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        unpack_model("parity/v3.gguf", bench.folder.path());
        fs::write(bench.path("text"), text(40)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the model; arguments that begin with `@` name files of the folder.
    fn run(&self, command: &str, args: &[&str]) -> Ended {
        let model = [OsString::from(command), self.path("v3.gguf").into()];
        let in_folder = |arg: &&str| arg.strip_prefix('@').map_or(OsString::from(arg), |name| self.path(name).into());
        support::cachalot(&model.into_iter().chain(args.iter().map(in_folder)).collect::<Vec<_>>())
    }

    fn json(&self, args: &[&str]) -> Value {
        let ended = self.run("perplexity", &[args, &["--json", "-q"], &STEADY].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&ended.stdout).unwrap()
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let ended = self.run("tokenize", &["--json", "-f", &format!("@{name}")]);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// The mean and its error of −ln p of the tokens behind `scored`, by `logits` and a plain softmax.
    fn nll(&self, windows: &[Vec<u32>], scored: std::ops::Range<usize>) -> (f64, f64) {
        let mut nll = Vec::new();
        for (n, window) in windows.iter().enumerate() {
            let (ids, out) = (format!("@{n}.json"), format!("@{n}.safetensors"));
            fs::write(self.path(&ids[1..]), serde_json::to_string(window).unwrap()).unwrap();
            let ended = self.run("logits", &[&["--tokens", &ids, "-o", &out], &STEADY[..]].concat());
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let bytes = fs::read(self.path(&out[1..])).unwrap();
            fs::remove_file(self.path(&out[1..])).unwrap();
            let logits = Reference::from_bytes(bytes).f32("logits");
            let rows: Vec<&[f32]> = logits.chunks(logits.len() / window.len()).collect();
            nll.extend(scored.clone().map(|at| {
                let sum: f64 = rows[at].iter().map(|x| f64::from(*x).exp()).sum();
                -(f64::from(rows[at][window[at + 1] as usize]).exp() / sum).ln()
            }));
        }
        let n = nll.len() as f64;
        let mean = nll.iter().sum::<f64>() / n;
        let squares = nll.iter().map(|x| x * x).sum::<f64>() / n;
        (mean, ((squares - mean * mean) / (n - 1.0)).sqrt())
    }
}

/// So many sentences, no two alike.
fn text(n: usize) -> String {
    let sentence = |n: usize| {
        let (depth, minutes) = (200 + 37 * n % 1900, 20 + 13 * n % 70);
        format!("On day {n} the whale dived to {depth} metres, stayed {minutes} minutes below, and rose again.\n")
    };
    (0..n).map(sentence).collect()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {value}"))
}

#[track_caller]
fn assert_near(actual: f64, expected: f64) {
    assert!((actual / expected - 1.0).abs() < 1e-5, "{actual}, not {expected}");
}

#[test]
fn perplexity_is_that_of_a_plain_formula() {
    let bench = Bench::new();
    let tokens = bench.tokens("text");
    let report = bench.json(&["@text", "-c", "64", "--chunks", "5"]);
    let bos = tokens[0];
    let windows: Vec<Vec<u32>> = tokens.chunks(64).take(5).map(|chunk| [&[bos], &chunk[1..]].concat()).collect();
    let (mean, error) = bench.nll(&windows, 32..63);
    assert_near(number(&report, "/perplexity"), mean.exp());
    assert_near(number(&report, "/error"), mean.exp() * error);
    let counts = ["/tokens", "/chunks", "/n_ctx"].map(|path| number(&report, path));
    assert_eq!(counts, [155.0, 5.0, 64.0]);
    assert!(number(&report, "/seconds") > 0.0);
    assert!(report["model"].as_str().unwrap().ends_with("v3.gguf"));

    // However the work is cut.
    let in_small_steps = bench.json(&["@text", "-c", "64", "--chunks", "5", "--batch", "7"]);
    assert_near(number(&in_small_steps, "/perplexity"), mean.exp());

    // The windows of 64 and half a stride.
    let strided = bench.json(&["@text", "-c", "64", "--stride", "20", "--chunks", "4"]);
    let windows: Vec<Vec<u32>> = (0..4).map(|n| tokens[n * 20..n * 20 + 74].to_vec()).collect();
    let (mean, error) = bench.nll(&windows, 53..73);
    assert_near(number(&strided, "/perplexity"), mean.exp());
    assert_near(number(&strided, "/error"), mean.exp() * error);
    assert_eq!(["/tokens", "/chunks", "/stride"].map(|path| number(&strided, path)), [80.0, 4.0, 20.0]);
}

#[test]
fn the_answer_is_a_line_and_the_way_there_goes_to_stderr() {
    let bench = Bench::new();
    let ended = bench.run("perplexity", &["@text", "-c", "64", "--chunks", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("perplexity "), "{}", ended.stdout);
    assert!(ended.stdout.ends_with(", 62 tokens scored in 2 chunks of 64\n"), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.stderr);
    assert!(lines[0].starts_with("cachalot: 1/2 chunks, perplexity ") && lines[0].ends_with(" left"), "{}", lines[0]);

    // All chunks, and a rest that fills none.
    let n = bench.tokens("text").len() / 64;
    let ended = bench.run("perplexity", &["@text", "-c", "64", "-q"]);
    assert!(ended.stdout.ends_with(&format!("scored in {n} chunks of 64\n")), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let bench = Bench::new();
    let saved = bench.json(&["@text", "-c", "64", "--chunks", "4", "--save-logits", "@saved"]);
    assert_eq!(fs::metadata(bench.path("saved")).unwrap().len(), 24 + 4 * (4 * 64 + 31 * (16 + 2 * 768)));
    let report = bench.json(&["--kl", "@saved"]);
    assert_eq!(report["perplexity"], saved["perplexity"]);
    assert_eq!(report["error"], saved["error"]);
    assert_eq!(report["saved_perplexity"]["value"], saved["perplexity"]);
    for (path, expected) in [("/ratio/value", 1.0), ("/ratio/error", 0.0), ("/same_top/value", 1.0), ("/tokens", 124.0)]
    {
        assert_eq!(number(&report, path), expected, "{path}");
    }
    for path in ["/delta_p/rms", "/delta_p/minimum", "/delta_p/maximum"] {
        assert_eq!(number(&report, path), 0.0, "{path}");
    }
    assert!((0.0..1e-7).contains(&number(&report, "/kl/maximum")), "{report}");

    // Fewer chunks, and the same number of tokens said again.
    let part = bench.json(&["--kl", "@saved", "--chunks", "1", "-c", "64"]);
    assert_eq!(number(&part, "/tokens"), 31.0);
}

#[test]
fn a_coarser_cache_diverges() {
    let bench = Bench::new();
    bench.json(&["@text", "-c", "64", "--chunks", "4", "--save-logits", "@saved"]);
    let ended = bench.run("perplexity", &["--kl", "@saved", "--json", "-q", "--cache-type", "q4_0"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let ascending =
        ["median", "q90", "q95", "q99", "q99_9", "maximum"].map(|name| number(&report["kl"], &format!("/{name}")));
    assert!(ascending.is_sorted() && ascending[0] > 1e-7, "{report}");
    assert!(number(&report, "/kl/mean") > 1e-6 && number(&report, "/kl/error") > 0.0, "{report}");
    assert!(number(&report, "/same_top/value") <= 1.0 && number(&report, "/delta_p/rms") > 0.0, "{report}");

    let table = bench.run("perplexity", &["--kl", "@saved", "-q", "--cache-type", "q4_0"]).stdout;
    for name in ["perplexity, saved", "ratio", "KL divergence", "99.9 %", "same top token", "Δp, RMS"] {
        assert!(table.contains(name), "{table}");
    }
    assert!(table.ends_with("124 tokens scored in 4 chunks of 64\n"), "{table}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let bench = Bench::new();
    bench.json(&["@text", "-c", "16", "--chunks", "2", "--save-logits", "@saved"]);
    let saved = fs::read(bench.path("saved")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(bench.path(name), bytes).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = saved.clone();
        bytes[at] = byte;
        bytes
    };
    write("short", b"Too little.");
    write("latin1", b"caf\xe9");
    write("truncated", &saved[..saved.len() - 1]);
    write("stub", &saved[..10]);
    write("newer", &changed(8, 2));
    write("vocabulary", &[&saved[..12], &767u32.to_le_bytes(), &saved[16..]].concat());
    // Its length agrees with the smaller vocabulary, so that only the model's can tell.
    let n_bytes = 24 + 2 * (4 * 16 + 7 * (16 + 2 * 767));
    write("other", &fs::read(bench.path("vocabulary")).unwrap()[..n_bytes]);
    write("endless", &[&saved[..12], &[255; 12]].concat());
    write("row", &changed(24 + 4 * 16 + 7, 0xff));
    fs::create_dir(bench.path("folder")).unwrap();

    for (args, code, message) in [
        (&["@short", "-c", "16"][..], 65, "tokens are too few: two chunks of 16 tokens need 32"),
        (&["@text", "-c", "2000"], 65, "two chunks of 2000 tokens need 4000"),
        (&["@latin1"], 65, "not UTF-8: byte 3"),
        (&["@none"], 66, "cannot be read"),
        (&[], 2, "required"),
        (&["@text", "--kl", "@saved"], 2, "cannot be used with"),
        (&["@text", "--stride", "4", "--save-logits", "@new"], 2, "cannot be used with"),
        (&["@text", "-c", "7"], 2, "a chunk has from 8"),
        (&["@text", "-c", "99999999999"], 2, "a chunk has from 8"),
        (&["@text", "--stride", "0"], 2, "--stride 0"),
        (&["@text", "--stride", "513"], 2, "--stride 513"),
        (&["@text", "--chunks", "0"], 2, "a whole number of 1 or more"),
        (&["@text", "-c", "16", "--save-logits", "@saved"], 73, "exists already"),
        (&["@text", "-c", "16", "--save-logits", "@none/new"], 73, "none/new"),
        (&["--kl", "@saved", "-c", "32"], 2, "saved with chunks of 16 tokens"),
        (&["--kl", "@none"], 66, "cannot be read"),
        (&["--kl", "@folder"], 66, "no ordinary file"),
        (&["--kl", "@text"], 65, "no file of saved logits"),
        (&["--kl", "@stub"], 65, "no file of saved logits"),
        (&["--kl", "@truncated"], 65, "not complete"),
        (&["--kl", "@vocabulary"], 65, "not complete"),
        (&["--kl", "@endless"], 65, "damaged"),
        (&["--kl", "@newer"], 65, "version 2"),
        (&["--kl", "@other"], 65, "a vocabulary of 767 tokens"),
        (&["--kl", "@row"], 65, "row 1 of chunk 1"),
    ] {
        let ended = bench.run("perplexity", &[args, &["-q"]].concat());
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    assert!(!bench.path("new").exists() && !bench.path("new.partial").exists());
    assert_eq!(fs::read(bench.path("saved")).unwrap(), saved);
}
