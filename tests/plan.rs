//! `cachalot plan` and `cachalot doctor`, against the program itself.

mod support;

use cachalot::gguf::Split;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::models::{V3, write_holes};
use support::parity::unpack_model;
use support::{Ended, run};

const CPU: &str = "[ram]\nsize = \"512 GB\"\nbandwidth_gb_s = 400\n[cpu]\ncores = 64\n";
const GPU: &str = "[[gpu]]\nname = \"A\"\nvram = \"24 GiB\"\nbandwidth_gb_s = 1000\ntflops = 160\npcie_gb_s = 25\n";

fn machine(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("machine.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A plan for a machine that is described so.
fn plan(model: &str, text: &str, args: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let path = machine(folder.path(), text);
    run(Command::new(env!("CARGO_BIN_EXE_cachalot"))
        .args(["plan", model, "-q", "--offline", "--machine"])
        .arg(path)
        .args(args))
}

fn json(ended: &Ended) -> Json {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr))
}

fn sum(load: &Json) -> u64 {
    load.as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum()
}

#[test]
fn the_json_agrees_with_itself() {
    let ended = plan("deepseek-v3-0324:Q2_K_XL", &[CPU, GPU, GPU].concat(), &["--json", "-c", "16384"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let plan = json(&ended);
    assert_eq!(
        (plan["fits"].as_bool(), plan["missing"].as_u64(), plan["context"].as_u64()),
        (Some(true), Some(0), Some(16384))
    );
    // All that the model was made for, by the name that vLLM has for it.
    let longest = json(&self::plan("deepseek-v3-0324:Q2_K_XL", CPU, &["--json", "--max-model-len", "0"]));
    assert_eq!(longest["context"], longest["context_trained"]);
    assert_eq!(longest["context_trained"], 163_840);
    let devices = plan["devices"].as_array().unwrap();
    assert_eq!(
        devices.iter().map(|row| &row["device"]).collect::<Vec<_>>(),
        [&serde_json::json!({"gpu": 0}), &serde_json::json!({"gpu": 1}), &serde_json::json!("ram"),]
    );
    let mut layers = Vec::new();
    let (mut bytes, mut experts) = (0, 0);
    for row in devices {
        let (used, scratch) = (row["used"].as_u64().unwrap(), row["load"]["scratch"].as_u64().unwrap());
        assert_eq!(used, sum(&row["load"]));
        assert!(used <= row["budget"].as_u64().unwrap());
        assert_eq!(row["left"].as_u64().unwrap(), row["budget"].as_u64().unwrap() - used);
        bytes += used - scratch - row["load"]["cache"].as_u64().unwrap();
        experts += row["experts"].as_u64().unwrap();
        layers.extend(row["layers"].as_array().unwrap().iter().map(|layer| layer.as_u64().unwrap()));
    }
    layers.sort_unstable();
    assert_eq!((layers, experts), ((0..61).collect::<Vec<_>>(), 58 * 256));
    let weights: u64 = plan["classes"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    // The three matrices of an expert are counted in whole bytes.
    assert!(bytes.abs_diff(weights) < 3 * 58 * 256, "{bytes} of {weights}");
    assert!(weights.abs_diff(250_000_000_000) < 1000);
    let speeds = plan["generation"].as_array().unwrap().iter().chain(plan["prompts"].as_array().unwrap());
    for speed in speeds {
        let [least, most] = [0, 1].map(|at| speed["tokens_per_second"][at].as_f64().unwrap());
        assert!(0.0 < least && least < most && most < 1000.0, "{speed}");
    }
    assert_eq!(plan["quants"].as_array().unwrap().iter().filter(|quant| quant["best"] == true).count(), 1);
}

#[test]
fn the_table_says_what_goes_where() {
    let ended = plan("deepseek-v3-0324:IQ2_XXS", &[CPU, GPU].concat(), &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for says in ["DeepSeek-V3-0324 IQ2_XXS, 215.000 GB", "gpu0, A", "0-60", "RAM, 64 cores", "suits this machine best"]
    {
        assert!(ended.stdout.contains(says), "{says}: {}", ended.stdout);
    }
}

/// A real file's header, of V3's size and without its data.
#[test]
fn a_file_is_planned_from_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_holes(&V3, &folder.path().join("v3.gguf"), Split::None).remove(0);
    let ended = plan(path.to_str().unwrap(), &[CPU, GPU].concat(), &["--json", "-c", "4096"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let plan = json(&ended);
    assert_eq!(plan["model"], "DeepSeek-V3-0324-shaped");
    assert_eq!(plan["origin"]["file"]["path"], path.to_str().unwrap());
    assert_eq!(plan["devices"][0]["layers"].as_array().unwrap().len(), 61);
    // 576 values of 2 bytes a token and layer.
    assert_eq!(plan["devices"][0]["load"]["cache"], 4096 * 61 * 576 * 2);
}

#[test]
fn what_does_not_fit_says_what_would() {
    let small = CPU.replace("512 GB", "220 GB");
    let ended = plan("deepseek-v3-0324:Q4_K_XL", &small, &[]);
    assert_eq!(ended.code, Some(75));
    for says in ["it does not fit", "IQ1_M fits", "no context is short enough", "from the disk again and again"] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    assert!(ended.stdout.contains("−"), "what is missing: {}", ended.stdout);
    // With 4 GB of RAM to spare a long context is what does not fit.
    let ended = plan("deepseek-v3-0324:IQ2_XXS", &small, &["--ram", "222G", "-c", "100000", "--json"]);
    assert_eq!(ended.code, Some(75));
    let plan = json(&ended);
    let largest = plan["largest_context"].as_u64().unwrap();
    assert!(largest > 0 && largest < 100_000);
    assert!(plan["would_fit"][0].as_str().unwrap().contains(&largest.to_string()));
}

#[test]
fn pins_and_budgets_are_obeyed_and_exported() {
    let model = "deepseek-v3-0324:Q2_K_XL";
    let machine = [CPU, GPU, GPU].concat();
    let args = ["--pin", "blk.10-11.experts=gpu1", "--pin", "head=ram", "--vram", "24G,20G", "--json"];
    let plan_of = json(&plan(model, &machine, &args));
    let devices = &plan_of["devices"];
    assert_eq!((devices[1]["budget"].as_u64(), devices[2]["head"].as_bool()), (Some(20_000_000_000), Some(true)));
    assert!(devices[1]["experts"].as_u64().unwrap() >= 512);

    let export = plan(model, &machine, &["--pin", "blk.10-11.experts=gpu1", "--export-ot"]);
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    assert!(export.stdout.starts_with("-ngl 999 -ts "), "{}", export.stdout);
    assert!(export.stdout.contains(r"|10|11)\.ffn_.*_exps=CUDA1,ffn_.*_exps=CPU"), "{}", export.stdout);
    assert_eq!(plan(model, CPU, &["--export-ot"]).stdout, "-ngl 0\n");

    for (args, says) in [
        (&["--pin", "blk.99=ram"][..], "there is no layer 99"),
        (&["--pin", "head=gpu7"], "there is no gpu7"),
        (&["--pin", "blk.*.experts=gpu0"], "pinned to gpu0"),
        (&["--pin", "nonsense"], "is no pin"),
        (&["--vram", "1G,1G,1G"], "--machine describes others"),
        (&["--vram", "much"], "is no size"),
        (&["-c", "-1"], "'-1'"),
    ] {
        let ended = plan(model, &machine, args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
}

#[test]
fn errors_of_a_description_give_line_and_key() {
    for (text, line, key) in [
        (CPU.replace("cores = 64", "cores = -1"), "line 5", "u32"),
        (CPU.replace("400", "0"), "line 3", "ram.bandwidth_gb_s"),
        (CPU.replace("512 GB", "512"), "line 2", "ram.size"),
        ([CPU, "[gpus]\n"].concat(), "line 6", "gpus"),
        ("[cpu".to_owned(), "line 1", ""),
    ] {
        let ended = plan("deepseek-v3-0324", &text, &[]);
        assert_eq!(ended.code, Some(65), "{}", ended.stderr);
        for says in ["machine.toml", line, key] {
            assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
        }
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn what_is_not_there() {
    let ended = plan("no-such-model", CPU, &[]);
    assert_eq!(ended.code, Some(66), "{}", ended.stderr);
    let ended = plan("deepseek-v3-0324:Q9_Z", CPU, &[]);
    assert_eq!(ended.code, Some(66), "{}", ended.stderr);
    assert!(ended.stderr.contains("IQ1_S, IQ1_M"), "{}", ended.stderr);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
    let ended = run(command.args(["plan", "deepseek-v3-0324", "--offline", "--machine", "/no/such/file.toml"]));
    assert_eq!(ended.code, Some(66), "{}", ended.stderr);
}

/// Measured once, kept, and used by `plan`; another model's file is looked at.
#[test]
fn doctor_measures_once_and_plan_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let cachalot = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
        run(command.env("XDG_CACHE_HOME", folder.path()).args(args))
    };
    let path = model.to_str().unwrap();
    let first = cachalot(&["doctor", path, "--disk", "--json"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("measuring"));
    let report = json(&first);
    let measured = &report["measured"];
    assert!(measured["bandwidth"].as_f64().unwrap() > 0.0);
    for ty in ["Q2_K", "IQ1_S", "Q8_0", "F16"] {
        for kind in ["decode", "prefill"] {
            assert!(measured["rates"][kind][ty].as_f64().unwrap() > 0.0, "{kind} {ty}");
        }
    }
    let bytes = fs::metadata(&model).unwrap().len();
    assert_eq!(report["models"][0]["bytes"], bytes);
    assert!(report["models"][0]["resident"].as_u64().unwrap() <= bytes);
    assert!(report["models"][0]["disk_speed"].as_f64().unwrap() > 0.0);
    assert!(report["system"]["ram"].as_u64() >= report["system"]["available"].as_u64());
    assert!(report["advice"].as_array().unwrap().iter().all(|advice| advice["what"].is_string()));

    assert_eq!(report["build"]["kernels"], measured["kernels"]);

    let second = cachalot(&["doctor", "--json"]);
    assert_eq!(second.stderr, "");
    assert_eq!(json(&second)["measured"], *measured);
    let text = cachalot(&["doctor"]);
    for line in [
        "CPU",
        "kernels",
        "RAM",
        "bandwidth",
        "NUMA",
        "huge pages",
        "memlock",
        "cgroup",
        "governor",
        "GPU",
        "attention",
    ] {
        assert!(text.stdout.lines().any(|l| l.starts_with(line)), "{line}: {}", text.stdout);
    }
    let plan = cachalot(&["plan", path, "--json"]);
    assert_eq!((plan.code, plan.stderr.contains("measuring")), (Some(0), false), "{}", plan.stderr);
    assert_eq!(json(&plan)["machine"]["rates"], measured["rates"]);

    // Figures of other kernels are for who chooses these.
    let other = |kernels: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
        let command = command.env("XDG_CACHE_HOME", folder.path()).env("CACHALOT_CPU", kernels);
        run(command.args(["doctor", "--json"]))
    };
    let kept = folder.path().join("cachalot/machine.json");
    let mut figures: Json = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    figures["kernels"] = "scalar".into();
    fs::write(&kept, figures.to_string()).unwrap();
    let ended = other("scalar");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(&ended)["build"]["kernels"], "scalar");
    let ended = other("sse9");
    assert!(ended.code == Some(2) && ended.stderr.contains("CACHALOT_CPU"), "{:?}: {}", ended.code, ended.stderr);
}

#[test]
fn a_context_without_room_is_refused_with_one_that_has() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let run_it = |n: &str| {
        let args = ["run", "-m", model.to_str().unwrap(), "-p", "x", "-n", "1", "-v", "-c", n, "--no-flash-attention"];
        support::cachalot(&args)
    };
    let ended = run_it("2000000000");
    assert_eq!(ended.code, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("the longest that fits is"), "{}", ended.stderr);
    let ended = run_it("512");
    assert!(ended.stderr.contains("plan: all on the CPU"), "{}", ended.stderr);
}

/// What is foreseen is at least what is taken.
#[test]
fn intermediate_results_are_no_more_than_foreseen() {
    use cachalot::gguf::Gguf;
    use cachalot::graph::{Forward, Options, Seq, Token, kernel_scratch_bytes, scratch_bytes};
    let folder = tempfile::tempdir().unwrap();
    let gguf = std::sync::Arc::new(Gguf::open(&unpack_model("parity/v3.gguf", folder.path())).unwrap());
    for (n, flash_attention) in [(1, true), (40, true), (300, true), (300, false), (512, true)] {
        let options = Options { flash_attention, ..Options::new(512, 1) };
        let mut forward = Forward::load(&gguf, options).unwrap();
        let before = forward.n_bytes();
        let token =
            |at: usize| Token { id: at as u32 % 7, seq: Seq::FIRST, position: at as i32, wants_logits: at + 1 == n };
        forward.step(&(0..n).map(token).collect::<Vec<_>>(), &mut Vec::new()).unwrap();
        let taken = (forward.n_bytes() - before) as u64;
        let (n_vocab, batch) = (forward.n_vocab() as u64, n as u64);
        let foreseen = scratch_bytes(forward.config(), n_vocab, batch, 512, flash_attention)
            + kernel_scratch_bytes(forward.config(), batch, forward.options().n_threads);
        assert!(taken <= foreseen, "{n} {flash_attention}: {taken} of {foreseen}");
    }
}
