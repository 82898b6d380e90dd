//! `cachalot synth` against the program itself: what is in the files it writes, and what it refuses.

mod support;

use cachalot::gguf::Gguf;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Ended, cachalot, isolate, program, run};

/// V3 in small, which the program does not speak of.
const TINY: [&str; 4] = ["--like", "tiny", "--layers", "2"];

fn synth(output: &Path, args: &[&str]) -> Ended {
    run(program().arg("synth").args(args).arg("-o").arg(output))
}

/// A folder and a file in it, written with these arguments.
fn written(args: &[&str]) -> (tempfile::TempDir, PathBuf, Ended) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("synthetic.gguf");
    let ended = synth(&path, args);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
    (dir, path, ended)
}

/// What `inspect` says, having read every value.
fn inspected(path: &Path) -> Json {
    let ended = cachalot(&["inspect", "--check", "--tensors", "--json", &path.to_string_lossy()]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Tensor → type.
fn types(report: &Json) -> BTreeMap<&str, &str> {
    let tensors = report["tensors"].as_array().unwrap();
    tensors.iter().map(|row| (row["name"].as_str().unwrap(), row["type"].as_str().unwrap())).collect()
}

#[test]
fn every_mix_makes_a_sound_file_of_its_types() {
    for (mix, gate_up, down, queries, head) in [
        ("iq1_s", "IQ1_S", "IQ2_XXS", "Q4_K", "Q6_K"),
        ("IQ1_M", "IQ1_M", "IQ2_XS", "Q4_K", "Q6_K"),
        ("UD-IQ2_XXS", "IQ2_XXS", "IQ3_XXS", "Q4_K", "Q6_K"),
        ("q2_k_xl", "Q2_K", "Q3_K", "Q4_K", "Q6_K"),
        ("ud-q3_k_xl", "Q3_K", "Q4_K", "Q4_K", "Q6_K"),
        ("Q4_K_XL", "Q4_K", "Q5_K", "Q4_K", "Q6_K"),
        ("Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
        ("f16", "F16", "F16", "F16", "F16"),
    ] {
        let (_dir, path, _) = written(&[&TINY[..], &["--mix", mix]].concat());
        let report = inspected(&path);
        assert_eq!((&report["problems"], &report["data_checked"]), (&Json::Array(vec![]), &Json::Bool(true)), "{mix}");
        let types = types(&report);
        assert_eq!(types.len(), 34, "{mix}");
        for (name, ty) in [
            ("blk.1.ffn_gate_exps.weight", gate_up),
            ("blk.1.ffn_up_exps.weight", gate_up),
            ("blk.1.ffn_down_exps.weight", down),
            ("blk.1.attn_q_b.weight", queries),
            ("output.weight", head),
            ("blk.1.ffn_gate_inp.weight", "F32"),
            ("blk.1.exp_probs_b.bias", "F32"),
            ("blk.0.attn_norm.weight", "F32"),
        ] {
            assert_eq!(types[name], ty, "{name} of {mix}");
        }
        no_row_twice(&path);
    }
}

fn no_row_twice(path: &Path) {
    let gguf = Gguf::open(path).unwrap();
    let mut seen = HashSet::new();
    for tensor in gguf.tensors().filter(|tensor| tensor.info.shape.dims().len() > 1) {
        let rows: u64 = tensor.info.shape.ne()[1..].iter().product();
        for row in tensor.data.chunks(tensor.data.len() / rows as usize) {
            assert!(seen.insert(row.to_vec()), "{} repeats a row", tensor.info.name);
        }
    }
}

/// Rows of 1408 and 10944 are no whole blocks of 256.
#[test]
fn v2_lite_in_two_layers() {
    let args = ["--like", "deepseek-v2-lite", "--layers", "2", "--vocab", "1024", "--mix", "iq1_s"];
    let (_dir, path, ended) = written(&args);
    let report = inspected(&path);
    let types = types(&report);
    for (name, ty) in [
        ("blk.0.attn_q.weight", "Q4_K"),
        ("blk.0.ffn_gate.weight", "Q4_K"),
        ("blk.0.ffn_down.weight", "Q8_0"),
        ("blk.1.ffn_gate_exps.weight", "IQ1_S"),
        ("blk.1.ffn_down_exps.weight", "IQ4_NL"),
        ("blk.1.ffn_down_shexp.weight", "Q6_K"),
    ] {
        assert_eq!(types[name], ty, "{name}");
    }
    assert!(!types.contains_key("blk.1.exp_probs_b.bias"), "softmax routing has no bias");
    let keys = &report["hyperparameters"];
    for (key, value) in [
        ("block_count", 2),
        ("leading_dense_block_count", 1),
        ("attention.key_length", 576),
        ("attention.key_length_mla", 192),
        ("attention.value_length_mla", 128),
        ("vocab_size", 1024),
    ] {
        assert_eq!(keys[key], value, "{key}");
    }
    assert_eq!(keys["attention.q_lora_rank"], Json::Null);
    assert!(ended.stdout.contains("6 of 64 experts in 1 layers"), "{}", ended.stdout);
}

#[test]
fn text_becomes_tokens() {
    let (_dir, path, _) = written(&[&TINY[..], &["--mix", "f16", "--vocab", "600"]].concat());
    let path = path.to_string_lossy();
    let ids = |args: &[&str]| cachalot(&[&["tokenize", "--json", &*path], args].concat()).stdout;
    assert!(ids(&["hello", "<｜User｜>"]).starts_with("[0,"));
    assert_eq!(ids(&["--special", "--no-bos", "<｜User｜>"]), "[588]\n", "control tokens are the last");
    let back = cachalot(&["detokenize", &path, &ids(&["hello, 世界"])]);
    assert_eq!((back.code, back.stdout.as_str()), (Some(0), "hello, 世界"));
}

#[test]
fn a_seed_makes_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |name: &str, seed: &str, threads: &str| {
        let path = dir.path().join(name);
        let args = [&TINY[..], &["--mix", "iq1_m", "--seed", seed]].concat();
        let ended = run(program().arg("synth").args(args).arg("-o").arg(&path).env("RAYON_NUM_THREADS", threads));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        std::fs::read(path).unwrap()
    };
    let one = bytes("one", "7", "1");
    assert!(one == bytes("many", "7", "5"));
    let other = bytes("other", "8", "2");
    let differing = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert!(one.len() == other.len() && differing > one.len() * 3 / 4, "{differing} of {}", one.len());
}

#[test]
fn popularity_can_be_skewed() {
    for like in ["tiny", "deepseek-v2-lite"] {
        let args = ["--like", like, "--layers", "2", "--mix", "iq1_s", "--vocab", "1024"];
        let share = |skew: &str| {
            let (_dir, _, ended) = written(&[&args[..], &["--skew", skew]].concat());
            let (_, after) = ended.stdout.split_once("the busiest tenth of the experts gets ").unwrap();
            after.split_once(" %").unwrap().0.parse::<f64>().unwrap()
        };
        let (even, skewed) = (share("0"), share("1.2"));
        assert!(even < 16.0 && skewed > 25.0, "{like}: {even} {skewed}");
    }
}

#[test]
fn wrong_usage_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    for (args, message) in [
        (["--like", "llama", "--mix", "f16"].as_slice(), "no shapes are known of 'llama'; these are: deepseek-v3, "),
        (&["--like", "tiny", "--mix", "q9"], "there is no mix 'q9'; these are: IQ1_S, "),
        (&["--like", "tiny"], "--mix <NAME>"),
        (&["--like", "tiny", "--mix", "f16", "--layers", "0"], "0 layers: a model has 1 to 512"),
        (&["--like", "tiny", "--mix", "f16", "--layers", "2", "--dense", "3"], "3 dense layers of 2"),
        (&["--like", "tiny", "--mix", "f16", "--vocab", "100"], "a vocabulary of 100 tokens: one like Tiny DeepSeek"),
        (&["--like", "tiny", "--mix", "f16", "--vocab", "1025"], "has 274 to 1024"),
        (&["--like", "tiny", "--mix", "f16", "--skew", "nan"], "a skew of NaN"),
    ] {
        let ended = synth(&path, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
        assert!(!path.exists());
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_remains() {
    let (dir, path, _) = written(&[&TINY[..], &["--mix", "iq1_s"]].concat());
    let before = std::fs::read(&path).unwrap();
    let ended = synth(&path, &[&TINY[..], &["--mix", "f16"]].concat());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(73), ""));
    assert!(ended.stderr.contains("exists already"), "{}", ended.stderr);
    assert!(std::fs::read(&path).unwrap() == before);

    let ended = synth(&dir.path().join("missing/x.gguf"), &[&TINY[..], &["--mix", "f16"]].concat());
    assert_eq!(ended.code, Some(73));

    // A file that may not grow beyond 4 MB fails as a full disk does.
    let full = dir.path().join("full.gguf");
    let script = r#"trap '' XFSZ; ulimit -f 4096; exec "$@""#;
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_cachalot"), "synth", "-o"]).arg(&full);
    isolate(&mut command);
    let ended = run(command.args(TINY).args(["--mix", "f16"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(73), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("full.gguf.partial: cannot be written: File too large"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn help_says_what_the_files_are_for() {
    let help = cachalot(&["synth", "--help"]).stdout;
    assert!(help.contains("to measure speed on") && help.contains("noise"), "{help}");
}
