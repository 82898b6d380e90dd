//! `run` and `logits` as they are used.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use support::parity::{Fixture, Reference, distance, fixture};
use support::{Ended, cachalot, program};

/// Runs the program with something on its stdin.
fn piped<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Ended {
    let mut command = program();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `run` with a prompt of ours on stdin, or none.
fn run(model: &Fixture, args: &[&str], input: &str) -> Ended {
    let path = model.path.to_str().unwrap();
    piped(&[&["run", "-m", path, "-t", "1"], args].concat(), input.as_bytes())
}

#[test]
fn the_answer_is_on_stdout_and_nothing_else() {
    let model = fixture("parity/v3.gguf");
    let answer = run(&model, &["-p", "Hello", "-n", "8", "--temp", "0"], "");
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.len() > 1 && answer.stdout.ends_with('\n') && !answer.stdout.ends_with("\n\n"));
    assert_eq!(answer.stderr, "");
    // However the prompt comes.
    for (args, input) in [(&["-n", "8", "--temp", "0", "Hello"][..], ""), (&["-n", "8", "--temp", "0"], "Hello")] {
        assert_eq!(run(&model, args, input).stdout, answer.stdout);
    }
    let both = run(&model, &["-p", "Hello", "-n", "8", "--temp", "0"], "you");
    let joined = run(&model, &["-p", "Hello\n\nyou", "-n", "8", "--temp", "0"], "");
    assert_eq!(both.stdout, joined.stdout);
    assert_ne!(both.stdout, answer.stdout);
}

#[test]
fn a_seed_can_be_replayed() {
    let model = fixture("parity/v3.gguf");
    let text =
        |seed: &str| run(&model, &["-p", "x", "-n", "24", "--temp", "1", "--min-p", "0", "--seed", seed], "").stdout;
    assert_eq!(text("7"), text("7"));
    assert_ne!(text("7"), text("8"));
}

#[test]
fn the_end_has_its_exit_code() {
    let model = fixture("parity/v3.gguf");
    let code = |args: &[&str]| {
        let ended = run(&model, args, "");
        (ended.code, ended.stderr)
    };
    assert_eq!(code(&["-p", "x", "-n", "3"]), (Some(0), String::new()));
    let (full, text) = code(&["-p", "x", "-c", "24", "--temp", "0"]);
    assert_eq!(full, Some(3), "{text}");
    assert!(text.contains("the context of 24 tokens is full"), "{text}");
    let (long, text) = code(&["-p", &"word ".repeat(100), "-c", "24"]);
    assert_eq!(long, Some(3));
    assert!(text.contains("but the context only 24"), "{text}");
    // As llama.cpp has it: no bound but the context, the model's own context, all threads.
    assert_eq!(code(&["-p", "x", "--max-model-len", "24", "--temp", "0", "-n", "-1"]).0, Some(3));
    assert_eq!(code(&["-p", "x", "-c", "0", "-n", "3"]), (Some(0), String::new()));
    let path = model.path.to_str().unwrap();
    assert_eq!(cachalot(&["run", "-m", path, "-t", "-1", "-n", "3", "x"]).code, Some(0));
    for args in [
        &[][..],
        &["-p", "x", "--temp", "-1"],
        &["-p", "x", "--set", "top_q=1"],
        &["-p", "x", "--set", "top_k"],
        &["-p", "x", "--stop", ""],
        &["-p", "x", "-c", "-1"],
        &["-p", "x", "-n", "-3"],
        &["-p", "x", "-n", "0"],
        &["-p", "x", "y"],
    ] {
        let (code, text) = code(args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(!text.is_empty());
    }
}

#[test]
fn what_was_meant_is_said() {
    let model = fixture("parity/v3.gguf");
    for (args, says) in [
        (&["--temp", "-1"][..], "temperature is -1; it must be"),
        (&["--top-p", "-0.5"], "top_p is -0.5; it must be"),
        (&["--seed", "-1"], "invalid value '-1' for '--seed <N>'"),
        (&["-n", "0"], "a whole number of 1 or more"),
        (&["--set", "top-kk=1"], "'top-kk'; did you mean 'top_k'?"),
        (&["--set", "colour=1"], "these are: temperature"),
    ] {
        let ended = run(&model, &[&["-p", "x"], args].concat(), "");
        assert!(ended.code == Some(2) && ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("tip:"), "{}", ended.stderr);
    }
    for (schema, says) in [
        (r#"{"properties": {"a": {"type": "int"}}}"#, "at /properties/a: Invalid type: int"),
        (r##"{"$defs": {"n": {"enum": 5}}, "items": {"$ref": "#/$defs/n"}}"##, "at /$defs/n: enum must be an array"),
        (r#"{"properties": 5}"#, "at its top: properties must be an object"),
        (r#"{"a": 1,}"#, "is not JSON: trailing comma at line 1 column 9"),
    ] {
        let ended = run(&model, &["-p", "x", "-n", "1", "--json-schema", schema], "");
        assert!(ended.code == Some(2) && ended.stderr.contains(says), "{schema}: {}", ended.stderr);
    }
    // A number is also something to ask about.
    let ended = run(&model, &["-n", "1", "--temp", "0", "-1"], "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let model = fixture("parity/v3.gguf");
    let mut command = program();
    command.args(["run", "-t", "1", "-p", "x", "-n", "500", "-m"]).arg(&model.path);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn logits_are_the_references() {
    let (model, reference) = (fixture("parity/v3.gguf"), Reference::of("parity/v3.reference"));
    let folder = model.folder.path();
    let ids = reference.ids("prompt1.tokens");
    let tokens = folder.join("ids.json");
    fs::write(&tokens, serde_json::to_string(&ids).unwrap()).unwrap();
    let expected = reference.f32("prompt1.logits");
    let n_vocab = expected.len() / ids.len();
    for (name, extra, rows) in [
        ("all", &["--exact"][..], (0..ids.len()).collect::<Vec<_>>()),
        ("batch", &["--exact", "--batch", "4"], (0..ids.len()).collect()),
        ("last", &["--exact", "--positions", "last"], vec![ids.len() - 1]),
        ("some", &["--exact", "--positions", "30,2"], vec![2, 30]),
    ] {
        let out = folder.join(name);
        let ended = logits(&model.path, &tokens, &out, extra);
        assert_eq!((ended.code, ended.stderr.as_str(), ended.stdout.as_str()), (Some(0), "", ""));
        let written = Reference::from_bytes(fs::read(&out).unwrap());
        assert_eq!(written.shape("logits"), [rows.len(), n_vocab]);
        assert_eq!(written.ids("positions"), rows.iter().map(|row| *row as u32).collect::<Vec<_>>());
        let rows: Vec<f32> =
            rows.iter().flat_map(|row| &expected[row * n_vocab..(row + 1) * n_vocab]).copied().collect();
        assert!(distance(&written.f32("logits"), &rows) < 1e-5, "{name}");
    }
}

fn logits(model: &Path, tokens: &Path, out: &Path, extra: &[&str]) -> Ended {
    let [model, tokens, out] = [model, tokens, out].map(|path| path.to_str().unwrap());
    cachalot(&[&["logits", model, "--tokens", tokens, "-o", out, "-t", "1"], extra].concat())
}

#[test]
fn logits_that_cannot_be_had() {
    let model = fixture("parity/v3.gguf");
    let folder = model.folder.path();
    let file = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let good = file("good", "[0, 5]");
    let out = folder.join("out");
    for (tokens, extra, code, says) in [
        (file("empty", "[]"), &[][..], 65, "there are no tokens in it"),
        (file("words", "[\"a\"]"), &[], 65, "not a JSON array of token ids"),
        (file("negative", "[-1]"), &[], 65, "not a JSON array of token ids"),
        (file("large", "[0, 768]"), &[], 65, "the token id 768 is not in the vocabulary of 768"),
        (folder.join("none"), &[], 66, "cannot be read"),
        (good.clone(), &["--positions", "2"], 2, "2 is not one of 2 tokens"),
        (good.clone(), &["--positions", "x"], 2, "'x' is no position"),
        (good.clone(), &["-c", "1"], 3, "the prompt has 2 tokens, but the context only 1"),
        (good.clone(), &["--batch", "0"], 2, "a whole number of 1 or more"),
    ] {
        let ended = logits(&model.path, &tokens, &out, extra);
        assert_eq!(ended.code, Some(code), "{tokens:?} {extra:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        assert!(!out.exists());
    }
    fs::write(&out, "mine").unwrap();
    let ended = logits(&model.path, &good, &out, &[]);
    assert_eq!((ended.code, fs::read_to_string(&out).unwrap().as_str()), (Some(73), "mine"));
}
