//! `run` and `fim` as scripts use them: prompts from everywhere, pipes that close, full disks, signals, JSON.

#![cfg(feature = "demo")]

mod support;

use cachalot::catalog;
use cachalot::gguf::Gguf;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::draft::{Draft, Key};
use support::{Ended, ended, piped, program};

fn run(args: &[&str], input: &str) -> Ended {
    piped(program().args(["run", "-t", "1"]).args(args), input.as_bytes())
}

/// A script, in which `$0` is the program.
fn bash(script: &str) -> Ended {
    let mut command = Command::new("bash");
    support::isolate(&mut command);
    support::run(command.args(["-o", "pipefail", "-c", script, env!("CARGO_BIN_EXE_cachalot")]))
}

const SUM: &str = "What is 17 + 25?";

#[test]
fn the_prompt_can_come_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt");
    fs::write(&file, SUM).unwrap();
    for (args, input) in [
        (&["-p", SUM][..], ""),
        (&["What", "is", "17", "+", "25?"], ""),
        (&[], SUM),
        (&["-"], SUM),
        (&["--prompt-file", file.to_str().unwrap()], ""),
        (&["--prompt-file", "-"], SUM),
    ] {
        let ended = run(args, input);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "42\n", ""), "{args:?}");
    }
}

#[test]
fn a_loop_keeps_its_lines_where_it_gives_none_away() {
    let script = r#"printf '1 + 1\n2 + 2\n' | while read -r l; do "$0" run -p "What is $l?" </dev/null; done"#;
    assert_eq!(bash(script).stdout, "2\n4\n");
    let closed = bash(&format!("\"$0\" run -p '{SUM}' <&-"));
    assert_eq!((closed.code, closed.stdout.as_str()), (Some(0), "42\n"), "{}", closed.stderr);
}

#[test]
fn files_are_attached_in_their_frame() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.txt");
    fs::write(&file, "The code of the depot is 4711.").unwrap();
    let file = file.to_str().unwrap();
    let framed =
        format!("[file name]: a.txt\n[file content begin]\nThe code of the depot is 4711.\n[file content end]\n{SUM}");
    let tokens = |ended: &Ended| serde_json::from_str::<Value>(&ended.stdout).unwrap()["tokens"]["prompt"].clone();
    let (attached, typed) = (run(&["--json", "-f", file, "-p", SUM], ""), run(&["--json", "-p", &framed], ""));
    assert_eq!(tokens(&attached), tokens(&typed), "{}", attached.stderr);
    // Twice, and from stdin, which is then no part of the prompt.
    let twice = run(&["--json", "-f", file, "-f", "-", "-p", SUM], "The code of the depot is 4711.");
    assert!(tokens(&twice).as_u64() > tokens(&typed).as_u64());
    let results = folder.path().join("results.json");
    fs::write(&results, r#"[{"content": "The depot opens at 9."}]"#).unwrap();
    let searched = run(&["--json", "--search", results.to_str().unwrap(), "When does it open?"], "");
    assert!(tokens(&searched).as_u64() > Some(300), "{}", searched.stderr);
    let official = run(&["--json", "--official", SUM], "");
    assert!(tokens(&official).as_u64() > tokens(&run(&["--json", SUM], "")).as_u64());
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let long = file("long", "word ".repeat(9000).as_bytes());
    for (args, code, says) in [
        (vec!["-f", &file("binary", b"a\0b"), "x"], 65, "binary: not a text: it has zero bytes in it"),
        (vec!["-f", &file("latin1", b"caf\xe9"), "x"], 65, "latin1: not UTF-8: byte 3 belongs to no character"),
        (vec!["--prompt-file", &file("bad", b"\xff")], 65, "bad: not UTF-8"),
        (vec!["-f", &long, "x"], 3, "tokens do not fit into the context of 4096"),
        (vec!["--prompt-file", &long], 3, "but the context only 4096"),
        (vec!["-f", "/none", "x"], 66, "/none: cannot be read"),
        (vec!["-f", "/", "x"], 66, "cannot be read"),
        (vec!["--search", &file("s", b"{}"), "x"], 65, "an array"),
        (vec!["-f", "-", "--search", "-", "x"], 2, "standard input can be read once"),
        (vec!["--image", "cat.png", "x"], 2, "read text only"),
        (vec!["--think", "x"], 2, "does not reason"),
        (vec!["--raw", "--system", "x", "y"], 2, "--system"),
        (vec!["--json-schema", "{", "x"], 2, "the schema is not JSON"),
        (vec!["--json-schema", "/none", "x"], 66, "/none: cannot be read"),
        (vec!["--json-schema", r#"{"type": "objekt"}"#, "x"], 2, "objekt"),
        (vec![""], 2, "there is no prompt"),
    ] {
        let ended = run(&args, "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
    }
    let piped = piped(program().args(["run", "x"]), b"\xc3");
    assert!(piped.code == Some(65) && piped.stderr.contains("standard input: not UTF-8"), "{piped:?}");
}

#[test]
fn json_is_one_object() {
    let ended = run(&["--json", "--seed", "5", SUM], "");
    let object: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(object["text"], "42");
    assert_eq!((&object["finish_reason"], &object["seed"]), (&"end".into(), &5.into()));
    assert_eq!(object["model"]["name"], "Cachalot demo");
    assert!(object["tokens"]["generated"].as_u64() > Some(0) && object["seconds"]["prompt"].as_f64() > Some(0.0));
    let cut = run(&["--json", "-n", "1", "--json-object", SUM], "");
    let object: Value = serde_json::from_str(&cut.stdout).unwrap();
    assert_eq!(cut.code, Some(4), "{}", cut.stderr);
    assert_eq!((&object["finish_reason"], &object["satisfied"]), (&"length".into(), &false.into()));
}

#[test]
fn a_schema_holds_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    let schema = r#"{"type": "object", "properties": {"sum": {"type": "integer", "maximum": 999}},
        "required": ["sum"], "additionalProperties": false}"#;
    fs::write(&file, schema).unwrap();
    for given in [schema, file.to_str().unwrap()] {
        let ended = run(&["--json-schema", given, SUM], "");
        let value: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert!(value["sum"].is_i64() && value.as_object().unwrap().len() == 1, "{value}");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
    let short = run(&["--json-object", "-n", "1", SUM], "");
    assert!(short.code == Some(4) && short.stdout.starts_with('{') && short.stdout.ends_with('\n'), "{short:?}");
    assert!(short.stderr.contains("as many tokens as -n allows"), "{}", short.stderr);
}

/// The demo model with the name and the tags of one that reasons.
fn reasoner(folder: &Path) -> PathBuf {
    let demo = Arc::new(Gguf::open(catalog::source(Path::new("demo")).unwrap()).unwrap());
    let tokens: Vec<&str> = demo.metadata().get("tokenizer.ggml.tokens").unwrap().unwrap();
    let renamed = tokens.iter().map(|token| match *token {
        "<｜fim▁begin｜>" => "<think>".to_owned(),
        "<｜fim▁hole｜>" => "</think>".to_owned(),
        token => token.to_owned(),
    });
    let mut draft = Draft::of(&demo);
    draft.set_key("tokenizer.ggml.tokens", Key::Texts(renamed.collect()));
    draft.set_key("general.name", Key::Text("DeepSeek-R1"));
    draft.keys.retain(|(key, _)| key != "tokenizer.chat_template");
    let path = folder.join("r1.gguf");
    draft.write(&path);
    path
}

/// A schema is for what comes behind the reasoning; that goes to stderr, or before the answer, or nowhere.
#[test]
fn reasoning_is_free_and_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let model = reasoner(folder.path());
    let tokenizer = cachalot::tokenizer::Tokenizer::open(&model).unwrap();
    let (end, think_end) = (tokenizer.roles().eos.unwrap(), tokenizer.special("</think>").unwrap());
    // Its own end never comes, that of the reasoning soon.
    let bias = format!("logit_bias={end}:-inf,{think_end}:7");
    let ask = |more: &[&str], seed: &str| {
        let args = ["-m", model.to_str().unwrap(), "--json-schema", r#"{"const": 5}"#, "--set", &bias, "--temp", "1"];
        run(&[&args[..], &["--seed", seed, "-p", "What is 2 + 3?"], more].concat(), "")
    };
    let mut n_reasoned = 0;
    for seed in ["1", "2", "3", "4"] {
        let (aside, quiet, shown) = (ask(&[], seed), ask(&["-q"], seed), ask(&["--show-reasoning"], seed));
        assert_eq!((aside.code, aside.stdout.as_str()), (Some(0), "5\n"), "{}", aside.stderr);
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("5\n", ""));
        if aside.stderr.is_empty() {
            assert_eq!(shown.stdout, "5\n");
            continue;
        }
        n_reasoned += 1;
        assert!(aside.stderr.ends_with('\n'));
        assert_eq!((shown.stdout, shown.stderr.as_str()), (format!("<think>\n{}</think>\n\n5\n", aside.stderr), ""));
        let object: Value = serde_json::from_str(&ask(&["--json"], seed).stdout).unwrap();
        assert_eq!(object["reasoning"].as_str().unwrap().trim_end(), aside.stderr.trim_end());
    }
    assert!(n_reasoned > 0);
    let cut = ask(&["--set", &format!("logit_bias={end}:-inf,{think_end}:-inf"), "-n", "4"], "1");
    assert!(cut.code == Some(4) && cut.stdout.is_empty() && !cut.stderr.is_empty(), "{cut:?}");
}

#[test]
fn a_reader_may_leave_and_a_disk_may_be_full() {
    let story = "\"$0\" run --temp 1 --top-p 1 --set logit_bias=1:-inf -n 400 -p 'Tell me.'";
    let ended = bash(&format!("{story} </dev/null | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"));
    assert!([Some(0), Some(141)].contains(&ended.code), "{ended:?}");
    assert_eq!(ended.stderr, "");
    let full = bash(&format!("\"$0\" run -p '{SUM}' </dev/null >/dev/full"));
    assert_eq!(full.code, Some(73));
    assert!(full.stderr.contains("cannot write to standard output"), "{}", full.stderr);
    let full = bash("\"$0\" completions bash >/dev/full");
    assert_eq!(full.code, Some(73), "{}", full.stderr);
}

/// Nobody is left to read when the prompt is done: the answer is never begun.
#[test]
fn a_reader_who_left_while_the_prompt_was_read_is_noticed() {
    let mut command = program();
    command.args(["run", "-t", "1", "--batch", "16", "-p", &"word ".repeat(3000)]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = ended(child);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
}

fn endless() -> Command {
    let mut command = program();
    // No end of an answer is allowed, so that it goes on until the context is full.
    command.args(["run", "-t", "1", "--temp", "1", "--json-schema", r#"{"type": "string", "minLength": 3000}"#, "x"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_ends_an_answer_with_what_was_said() {
    for name in ["-INT", "-TERM"] {
        let mut child = endless().spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = vec![0];
        out.read_exact(&mut said).unwrap();
        signal(&child, name);
        out.read_to_end(&mut said).unwrap();
        let ended = ended(child);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(130), ""), "{name}");
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with('"') && said.ends_with('\n'), "{said}");
    }
}

#[test]
fn a_signal_ends_what_only_waits() {
    let mut command = program();
    let mut child = command.args(["run", "-p", "x"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Once it says that it waits for its stdin, it does.
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting for standard input to end"), "{line}");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// What was begun is taken away again.
#[test]
fn a_signal_leaves_no_partial_files() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(3000)).unwrap();
    let (text, out) = (text.to_str().unwrap().to_owned(), folder.path().join("out"));
    let to = out.to_str().unwrap().to_owned();
    let partial = folder.path().join("out.partial");
    for args in [
        vec!["synth", "--like", "deepseek-v2-lite", "--layers", "27", "--mix", "F16", "-o", &to],
        vec!["perplexity", "demo", &text, "-t", "1", "-c", "64", "-q", "--save-logits", &to],
    ] {
        let mut command = program();
        let child = command.args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !partial.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{args:?} writes nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&child, "-INT");
        let ended = ended(child);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(130), "", ""), "{args:?}");
        assert!(!partial.exists() && !out.exists(), "{args:?}");
    }
}

#[test]
fn the_middle_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (before, after) = ("def add(a, b):\n    return ", "\n");
    let fim = |args: &[&str], input: &str| piped(program().args(["fim", "-t", "1"]).args(args), input.as_bytes());
    let typed = fim(&["--prefix", before, "--suffix", after], "");
    assert_eq!((typed.code, typed.stderr.as_str()), (Some(0), ""));
    assert!(!typed.stdout.is_empty() && !typed.stdout.ends_with('\n'), "{:?}", typed.stdout);
    let from = |path: String| format!("@{path}");
    let (marked, hole) = (format!("{before}<fim>{after}"), format!("{before}HOLE{after}"));
    for (args, input) in [
        (vec!["--prefix", &from(file("a", before)), "--suffix", &from(file("b", after))], ""),
        (vec!["--prefix", "@-", "--suffix", after], before),
        (vec![file("marked", &marked).as_str()], ""),
        (vec!["-"], marked.as_str()),
        (vec![file("hole", &hole).as_str(), "--marker", "HOLE"], ""),
    ] {
        assert_eq!(fim(&args, input).stdout, typed.stdout, "{args:?}");
    }
    for (args, code, says) in [
        (vec![], 2, "required"),
        (vec![file("none", "x").as_str()], 65, "the marker <fim> is not in it"),
        (vec![file("two", "<fim><fim>").as_str()], 65, "more than once"),
        (vec!["--prefix", "a", "--marker", "x"], 2, "--marker"),
    ] {
        let ended = fim(&args, "");
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
}
