//! `tokenize` and `detokenize` as their users meet them: output, pipes, exit codes.

mod support;

use cachalot::gguf::{Split, Writer};
use lzma_rust2::XzReader;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Ended, program};
use tempfile::TempDir;

/// A folder with a file of the small vocabulary, of no tensor.
struct Model {
    folder: TempDir,
}

impl Model {
    fn new(change: impl FnOnce(&mut Writer)) -> Model {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer/vocabulary.json.xz");
        let mut json = String::new();
        XzReader::new(File::open(packed).unwrap(), false).read_to_string(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let strings = |key: &str| -> Vec<String> { serde_json::from_value(json[key].clone()).unwrap() };
        let types: Vec<i32> = serde_json::from_value(json["token_types"].clone()).unwrap();

        let mut writer = Writer::new();
        writer.set("general.architecture", "deepseek2").unwrap();
        writer.set("tokenizer.ggml.model", "gpt2").unwrap();
        writer.set("tokenizer.ggml.pre", "deepseek-v3").unwrap();
        writer.set("tokenizer.ggml.tokens", strings("tokens").as_slice()).unwrap();
        writer.set("tokenizer.ggml.token_type", types.as_slice()).unwrap();
        writer.set("tokenizer.ggml.merges", strings("merges").as_slice()).unwrap();
        change(&mut writer);
        let model = Model { folder: TempDir::new().unwrap() };
        writer.create(&model.path(), Split::None).unwrap().finish().unwrap();
        model
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut program = program();
        program.arg(command).arg(self.path()).args(args);
        program
    }

    fn run(&self, command: &str, args: &[&str]) -> Ended {
        support::run(self.command(command, args).stdin(Stdio::null()))
    }

    fn piped(&self, command: &str, args: &[&str], input: &[u8]) -> Ended {
        let file = self.folder.path().join("stdin");
        fs::write(&file, input).unwrap();
        support::run(self.command(command, args).stdin(File::open(file).unwrap()))
    }
}

fn model() -> Model {
    Model::new(|_| {})
}

#[track_caller]
fn assert_says(ended: &Ended, stdout: &str) {
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), stdout, ""));
}

#[track_caller]
fn assert_fails(ended: &Ended, code: i32, message: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(message), "{}", ended.stderr);
}

#[test]
fn a_table_is_the_default() {
    let table = [
        r#" id  kind          text"#,
        r#"  0  control       "<｜begin▁of▁sentence｜>""#,
        r#"289  text          " the""#,
        r#"223  text          " ""#,
        r#"165  text          "\xe6""#,
        r#"118  text          "\xb7""#,
        r#"112  text          "\xb1""#,
        "",
    ];
    assert_says(&model().run("tokenize", &[" the 深"]), &table.join("\n"));
}

#[test]
fn text_comes_from_arguments_files_or_stdin() {
    let model = model();
    let file = model.folder.path().join("text");
    fs::write(&file, "the\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = model.run("tokenize", &["--json", "the the"]).stdout;
    assert_says(&model.run("tokenize", &["--json", "the", "the"]), &expected);
    assert_says(&model.piped("tokenize", &["--json"], b"the the"), &expected);

    let twice = model.piped("tokenize", &["--json"], b"the\nthe\n").stdout;
    assert_says(&model.run("tokenize", &["--json", "-f", file, "-f", file]), &twice);
    assert_says(&model.piped("tokenize", &["--json", "-f", file, "-f", "-"], b"the\n"), &twice);
}

#[test]
fn control_tokens_are_content_unless_asked_for() {
    let model = model();
    assert_says(&model.run("tokenize", &["--json", "--special", "<｜User｜>"]), "[0,756]\n");
    assert_says(&model.run("tokenize", &["--json", "--special", "--no-bos", "<｜User｜>"]), "[756]\n");
    let content = model.run("tokenize", &["--json", "--no-bos", "<｜User｜>"]).stdout;
    assert!(!content.contains("756") && content.matches(',').count() > 3, "{content}");
}

#[test]
fn a_text_begins_once_and_as_the_model_wants() {
    let bos = "<｜begin▁of▁sentence｜>";
    assert_says(&model().run("tokenize", &["--json", "--special", bos]), "[0]\n");
    assert_says(&model().piped("tokenize", &["--json"], b""), "[0]\n");
    assert_says(&model().piped("tokenize", &["--json", "--no-bos"], b""), "[]\n");

    let model = Model::new(|writer| {
        writer.set("tokenizer.ggml.add_bos_token", false).unwrap();
        writer.set("tokenizer.ggml.add_eos_token", true).unwrap();
    });
    assert_says(&model.piped("tokenize", &["--json"], b""), "[1]\n");
}

#[test]
fn what_was_tokenized_comes_back_byte_for_byte() {
    let model = model();
    let text = " <｜User｜> the\tÄ深度🐋\r\n\n";
    let ids = model.piped("tokenize", &["--json"], text.as_bytes()).stdout;
    assert_says(&model.piped("detokenize", &[], ids.as_bytes()), text);
    let shown = format!("<｜begin▁of▁sentence｜>{text}");
    assert_says(&model.piped("detokenize", &["--special"], ids.as_bytes()), &shown);
    let quoted = serde_json::to_string(text).unwrap() + "\n";
    assert_says(&model.piped("detokenize", &["--json"], ids.as_bytes()), &quoted);

    assert_says(&model.run("detokenize", &["289", "756", "289"]), " the the");
    // The first two bytes of a character, and no third.
    let ids = model.run("tokenize", &["--json", "--no-bos", "深"]).stdout;
    let cut = ids.rsplit_once(',').unwrap().0;
    assert_says(&model.piped("detokenize", &[], cut.as_bytes()), "\u{fffd}");
}

#[test]
fn lines_of_json_go_both_ways() {
    let model = model();
    let texts = "\" the\\n\"\n\"\"\n\"\\u6df1<｜User｜>\"";
    let ids = model.piped("tokenize", &["--jsonl"], texts.as_bytes());
    assert_eq!(ids.code, Some(0));
    assert!(ids.stdout.starts_with("[0,289,201]\n[0]\n[0,"), "{}", ids.stdout);
    let back = model.piped("detokenize", &["--jsonl"], ids.stdout.as_bytes());
    assert_says(&back, "\" the\\n\"\n\"\"\n\"深<｜User｜>\"\n");
}

#[test]
fn each_line_is_answered_before_the_next_is_asked_for() {
    let model = model();
    let mut command = model.command("tokenize", &["--jsonl", "--no-bos"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        writeln!(input, "\" the\"").unwrap();
        assert_eq!(output.next().unwrap().unwrap(), "[289]");
    }
    // The beginning of another line is no reason to wait for its end.
    write!(input, "\" the\"\n\" t").unwrap();
    assert_eq!(output.next().unwrap().unwrap(), "[289]");
    writeln!(input, "he\"").unwrap();
    assert_eq!(output.next().unwrap().unwrap(), "[289]");
    drop(input);
    assert!(output.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_pipe_is_no_complaint() {
    let model = model();
    let lines = "\"the whale dives\"\n".repeat(100_000);
    let file = model.folder.path().join("lines");
    fs::write(&file, lines).unwrap();
    let mut command = model.command("tokenize", &["--jsonl", "-f", file.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(141), b"".as_slice()));
}

#[test]
fn wrong_usage_is_2() {
    let model = model();
    assert_fails(&model.run("detokenize", &["768"]), 2, "there is no token 768: the vocabulary ends before 768");
    assert_fails(&model.run("detokenize", &["x"]), 2, "'x' is not a token id");
    assert_eq!(model.run("detokenize", &["[289,223]", "289"]).stdout, " the  the");
    assert_fails(&model.run("tokenize", &["--json", "--jsonl"]), 2, "cannot be used with");
    assert_fails(&model.run("tokenize", &["--jsonl", "text"]), 2, "cannot be used with");
    assert_fails(&model.run("tokenize", &["-f", "x", "text"]), 2, "cannot be used with");
}

#[test]
fn faulty_input_is_65_and_missing_input_66() {
    let model = model();
    assert_fails(&model.piped("tokenize", &[], b"ab\xffc"), 65, "standard input: not UTF-8: byte 2");
    assert_fails(&model.piped("tokenize", &["--jsonl"], b"x"), 65, "standard input: line 1 is not a JSON string");
    assert_fails(&model.piped("tokenize", &["--jsonl"], b"\n"), 65, "line 1 is not a JSON string");
    assert_fails(&model.piped("detokenize", &[], b"1 x"), 65, "standard input: 'x' is not a token id");
    assert_fails(&model.piped("detokenize", &[], b"768"), 65, "standard input: there is no token 768");
    assert_fails(&model.piped("detokenize", &["--jsonl"], b"[768]"), 65, "line 1: there is no token 768");
    assert_fails(&model.run("tokenize", &["-f", "/no/such/file"]), 66, "/no/such/file: cannot be read");
    assert_fails(&model.run("tokenize", &["-f", "/"]), 66, "/: cannot be read");
}

#[test]
fn a_model_without_a_usable_tokenizer_is_65_and_none_66() {
    let ended = support::cachalot(&["tokenize", "/no/such/model.gguf", "text"]);
    assert_fails(&ended, 66, "/no/such/model.gguf: no such file or folder");

    let with = |key: &str, value: &str| Model::new(|writer| writer.set(key, value).unwrap()).run("tokenize", &["x"]);
    let ended = with("tokenizer.ggml.pre", "llama-bpe");
    assert_fails(&ended, 65, "model.gguf: the pre-tokenizer 'llama-bpe' (tokenizer.ggml.pre) is not supported");
    assert!(ended.stderr.contains("deepseek-v3, deepseek-llm, deepseek-coder"));
    assert_fails(
        &with("tokenizer.ggml.model", "llama"),
        65,
        "the tokenizer model 'llama' is not supported; only 'gpt2'",
    );
    assert_fails(&with("tokenizer.ggml.tokens", "x"), 65, "'tokenizer.ggml.tokens' must be an array");

    let model = Model::new(|writer| writer.set("tokenizer.ggml.eos_token_id", 768u32).unwrap());
    assert_fails(&model.run("detokenize", &["0"]), 65, "eos_token_id is 768, but the vocabulary ends before 768");
    let model =
        Model::new(|writer| writer.set("tokenizer.ggml.merges", ["Ġ x\u{1b}"].map(str::to_owned).as_slice()).unwrap());
    assert_fails(&model.run("tokenize", &["x"]), 65, "merge 0, 'Ġ x\\u{1b}', needs 'x\\u{1b}'");
}
