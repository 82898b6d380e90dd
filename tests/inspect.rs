//! `cachalot inspect` and the manners of the command line, against the program itself.

mod support;

use cachalot::gguf::Split;
use serde_json::Value as Json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::models::{V3, write_holes, write_tiny};
use support::raw::{Raw, string_bytes};
use support::{cachalot, inspect, program, run};

fn tiny() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = write_tiny(&dir.path().join("tiny.gguf"), Split::None).remove(0);
    (dir, path)
}

fn with_flags(path: &Path, flags: &[&str]) -> support::Ended {
    run(program().arg("inspect").arg(path).args(flags))
}

fn json(path: &Path, flags: &[&str]) -> Json {
    let ended = with_flags(path, &[&["--json"], flags].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Whether a line of `text` is `line`, however wide the columns are.
fn has_line(text: &str, line: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    text.lines().any(|found| words(found) == words(line))
}

#[test]
fn a_model_of_v3s_shape_in_words_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    write_holes(&V3, &dir.path().join("v3.gguf"), Split::MaxBytes(32 << 30));
    let ended = inspect(dir.path());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for line in [
        "model         DeepSeek-V3-0324-shaped",
        "architecture  deepseek2",
        "parameters    671.03 B, 37.55 B used for a token",
        "layers        61: 3 dense, 58 mixture-of-experts",
        "attention     latent (MLA), 128 heads, keys 192 (128 + 64 rotary), values 128, queries through 1536; \
         cache 576 values a token and layer",
        "feed-forward  256 routed experts of 2048 (8 a token) and 1 shared expert; dense layers 18432 wide",
        "routing       sigmoid, 4 of 8 groups (implied: the file lacks the keys), weights normalised, scaled by 2.5",
        "context       163840 tokens: yarn by 40 from 4096",
        "3–60 Q2_K 1.15 GiB Q2_K 1.15 GiB Q3_K 1.50 GiB 3.80 GiB",
        "  vocabulary    129,280 tokens (129,280 normal), 127,741 merges",
        "  bos           0 t0",
    ] {
        assert!(has_line(&ended.stdout, line), "{line:?} is not in\n{}", ended.stdout);
    }
    let report = json(dir.path(), &[]);
    assert_eq!(report["files"].as_array().unwrap().len(), 8);
    assert_eq!(report["parameters"], 671_026_419_200u64);
    let by_class: u64 = report["classes"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    let by_type: u64 = report["types"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!((Some(by_class), Some(by_type)), (report["tensor_bytes"].as_u64(), report["tensor_bytes"].as_u64()));
    assert_eq!(report["routed_layers"].as_array().unwrap().len(), 58);
    assert_eq!(report["tensors"], Json::Null, "only when asked for");
}

#[test]
fn tensors_and_metadata_on_request() {
    let (_dir, path) = tiny();
    let text = with_flags(&path, &["--tensors", "--metadata"]).stdout;
    assert!(has_line(&text, "blk.1.ffn_down_exps.weight F32 4 × 8 × 2 256 0 7,232"), "{text}");
    assert!(text.lines().any(|l| l.contains("tokenizer.ggml.tokens") && l.contains("6 × string")), "{text}");
    let report = json(&path, &["--tensors", "--metadata"]);
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 34);
    assert_eq!(tensors[0]["shape"], serde_json::json!([8, 6]));
    assert_eq!(tensors[0]["type"], "F32");
    assert_eq!(report["hyperparameters"]["rope.scaling.factor"], 40.0);
    assert_eq!(report["hyperparameters"]["block_count"], 2);
    assert_eq!(report["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 6);
    let bytes = fs::read(&path).unwrap();
    let at = tensors[1]["offset"].as_u64().unwrap() as usize;
    assert_eq!(bytes[at..at + 4], (48f32 / 1024.0).to_le_bytes(), "blk.0.attn_norm begins with value 48");
}

#[test]
fn one_key_whole_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let template = "{{ bos }}\n｜".repeat(100);
    fs::write(&path, Raw::new().text("tokenizer.chat_template", &template).u32("n", 7).bytes()).unwrap();
    let value = |key: &str| with_flags(&path, &["--key", key]);
    assert_eq!(value("tokenizer.chat_template").stdout, template + "\n");
    assert_eq!(value("n").stdout, "7\n");
    let gone = value("gone");
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
    assert!(gone.stderr.contains("no metadata key 'gone'"), "{}", gone.stderr);
}

#[test]
fn the_chat_family_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let of = |raw: Raw| {
        fs::write(&path, raw.bytes()).unwrap();
        json(&path, &[])["chat"].clone()
    };
    let raw = |name: &str| Raw::new_arch("deepseek2").text("general.name", name).text("tokenizer.ggml.model", "gpt2");
    assert_eq!(of(raw("DeepSeek-R1"))["family"], "r1");
    assert_eq!(of(raw("DeepSeek-V3-Base"))["family"], "base");
    let template = "{{'<｜User｜>' + message['content'] + '<｜Assistant｜>'}}";
    let chat = of(raw("x").text("tokenizer.chat_template", template));
    assert_eq!(chat["family"], "v3");
    assert!(chat["template"]["text"].as_str().unwrap().contains("failed: "), "no message outside a loop: {chat}");
    assert_eq!(of(Raw::new_arch("llama").text("tokenizer.ggml.model", "gpt2")), Json::Null);
    fs::write(&path, raw("DeepSeek-V3-0324").bytes()).unwrap();
    let text = inspect(&path).stdout;
    assert!(text.contains("chat family   v3 (DeepSeek-V2.5, V3, V3-0324): no known chat template"), "{text}");
}

/// The tokens that V3's template writes, with their kinds.
fn v3_tokens(raw: Raw) -> Raw {
    let tokens = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"];
    raw.text("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .array("tokenizer.ggml.token_type", 5, 4, &[3i32; 4].map(i32::to_le_bytes).concat())
        .u32("tokenizer.ggml.bos_token_id", 0)
        .u32("tokenizer.ggml.eos_token_id", 1)
}

fn template_says(template: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let raw = v3_tokens(Raw::new_arch("deepseek2").text("general.name", "V3"));
    fs::write(&path, raw.text("tokenizer.chat_template", template).bytes()).unwrap();
    let verdict = &json(&path, &[])["chat"]["template"];
    assert_eq!(verdict["agrees"] == true, verdict["text"].as_str().unwrap().ends_with("the same prompts"));
    verdict["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_template_that_differs_from_its_family_is_told() {
    let v3 = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif \
              m['role'] == 'user' %}{{'<｜User｜>' + m['content'] + '<｜Assistant｜>'}}{% else %}{{ m['content'] + \
              '<｜end▁of▁sentence｜>'}}{% endif %}{% endfor %}";
    assert_eq!(template_says(v3), "the file's chat template writes the same prompts");
    let other = v3.replace("{{ m['content'] }}{% elif", "{{ m['content'] + '\\n\\n' }}{% elif");
    let told = template_says(&other);
    assert!(told.starts_with("the file's chat template differs: it writes 'S\\n\\n<｜User｜>Q"), "{told}");
    assert!(template_says("{% for %}").contains("cannot be read"));
}

#[test]
fn a_template_that_devours_memory_harms_nobody() {
    let bomb = "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    assert_eq!(template_says(bomb), "the file's chat template takes more memory or time than it may");
}

#[test]
fn any_architecture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let llama = Raw::new_arch("llama")
        .u32("llama.block_count", 1)
        .u32("llama.embedding_length", 64)
        .u32("llama.attention.head_count", 8)
        .u32("llama.attention.head_count_kv", 2)
        .u32("llama.context_length", 4096)
        .f32("llama.rope.freq_base", 500000.0)
        .tensor("blk.0.attn_q.weight", &[64, 64], 1, 0)
        .data(8192);
    fs::write(&path, llama.bytes()).unwrap();
    let text = inspect(&path).stdout;
    assert!(text.contains("attention     grouped-query, 8 heads of 8, 2 for keys and values"), "{text}");
    assert!(text.contains("context       4096 tokens"), "{text}");
    // No architecture at all, as in the later shards of a split, or in a file of vectors.
    fs::write(&path, Raw::new_arch("").key("general.name", 8, &string_bytes(b"caf\xe9")).bytes()).unwrap();
    assert_eq!(inspect(&path).code, Some(0));
}

#[test]
fn problems_are_shown_and_set_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let raw = Raw::new_arch("deepseek2").u32("deepseek2.block_count", 0).u32("deepseek2.expert_count", 2);
    fs::write(&path, raw.u32("deepseek2.expert_used_count", 3).bytes()).unwrap();
    let ended = inspect(&path);
    assert_eq!(ended.code, Some(65));
    assert!(ended.stdout.contains("\nProblems\n  expert_used_count is 3, but expert_count 2\n  block_count is 0\n"));
    assert!(ended.stderr.contains("2 problems"), "{}", ended.stderr);
}

#[test]
fn text_from_a_file_cannot_speak_to_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let esc = "\u{1b}]0;owned\u{7}\u{202e}\u{9b}";
    let raw = Raw::new_arch(esc).text("general.name", esc).text(&format!("{esc}.x"), esc);
    fs::write(&path, raw.tensor(esc, &[8], 0, 0).data(32).bytes()).unwrap();
    let ended = with_flags(&path, &["--tensors", "--metadata"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{}", ended.stdout);
    let json = with_flags(&path, &["--json", "--metadata", "--tensors"]).stdout;
    assert!(!json.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}']), "{json}");
    let report: Json = serde_json::from_str(&json).unwrap();
    assert_eq!(report["name"], esc, "and says the same");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (_dir, path) = tiny();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program();
    let output = command.arg("inspect").arg(&path).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn a_full_disk_is_an_error() {
    let (_dir, path) = tiny();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = run(program().args(["inspect".as_ref(), path.as_os_str()]).stdout(full).stderr(Stdio::piped()));
    assert_eq!(ended.code, Some(73));
    assert!(ended.stderr.starts_with("cachalot: cannot write to standard output: No space left"), "{}", ended.stderr);
}

#[test]
fn usage_errors_are_told_from_failures() {
    for args in [&["inspect"][..], &["inspect", "a", "b"], &["nonsense"], &["inspect", "a", "--nonsense"], &[]] {
        let ended = cachalot(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["inspect", "--help"], &["--version"]] {
        let ended = cachalot(args);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn the_version_names_ggml_and_the_backends() {
    let text = cachalot(&["--version"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("cachalot {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(lines[1], format!("ggml      {}", ggml_sys::VERSION));
    assert!(lines[2].starts_with("backends  CPU ("), "{text}");
}
