//! `imatrix` as its users meet it: its sums against llama.cpp's, files that are merged, what `quantize` makes of
//! them, what is refused.

mod support;

use cachalot::gguf::Gguf;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use support::Ended;
use support::draft::{Draft, Part};
use support::parity::{distance, fixture, unpack_model};

/// A small model, a text, and what llama.cpp makes of them, in a folder of their own.
struct Bench(tempfile::TempDir);

/// As the stored file was made: three chunks of 64 tokens.
const CHUNKS: [&str; 5] = ["@text", "-c", "64", "--chunks", "3"];
/// What the small model needs for its numbers not to depend on the size of a step.
const STEADY: [&str; 3] = ["--cache-type", "f32", "--no-flash-attention"];

impl Bench {
    fn new() -> Bench {
        let bench = Bench(tempfile::tempdir().unwrap());
        unpack_model("parity/v3.gguf", bench.0.path());
        unpack_model("parity/v3.imatrix.gguf", bench.0.path());
        let sentence = |n: usize| {
            let (depth, minutes) = (200 + 37 * n % 1900, 20 + 13 * n % 70);
            format!("On day {n} the whale dived to {depth} metres, stayed {minutes} minutes below, and rose again.\n")
        };
        fs::write(bench.at("text"), (0..40).map(sentence).collect::<String>()).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = self.0.path().read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs `imatrix`; arguments that begin with `@` name files of the folder.
    fn run(&self, model: &str, output: &str, args: &[&str]) -> Ended {
        let start = [OsString::from("imatrix"), self.at(model).into(), "-o".into(), self.at(output).into()];
        let in_folder = |arg: &&str| arg.strip_prefix('@').map_or(OsString::from(arg), |name| self.at(name).into());
        support::cachalot(&start.into_iter().chain(args.iter().map(in_folder)).collect::<Vec<_>>())
    }

    #[track_caller]
    fn make(&self, output: &str, args: &[&str]) -> String {
        let ended = self.run("v3.gguf", output, &[args, &["-q"], &STEADY].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        ended.stdout
    }
}

/// What a file holds: a tensor's shape and values by its name.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let gguf = Gguf::open(path).unwrap();
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let content = |tensor: cachalot::gguf::Tensor<'_>| (tensor.info.shape.dims().to_vec(), values(tensor.data));
    gguf.tensors().map(|tensor| (tensor.info.name.clone(), content(tensor))).collect()
}

/// The texts, chunks and tokens of a chunk that a file says it is from.
fn origin(path: &Path) -> (Vec<String>, u32, u32) {
    let gguf = Gguf::open(path).unwrap();
    assert_eq!(gguf.metadata().require::<&str>("general.type").unwrap(), "imatrix");
    let texts: Vec<&str> = gguf.metadata().require("imatrix.datasets").unwrap();
    let number = |key| gguf.metadata().require(key).unwrap();
    (texts.into_iter().map(str::to_owned).collect(), number("imatrix.chunk_count"), number("imatrix.chunk_size"))
}

/// The same tensors, with values that are `factor` times as large but for rounding.
#[track_caller]
fn assert_near(actual: &Path, expected: &Path, factor: f32, bound: f64) {
    let (actual, expected) = (tensors(actual), tensors(expected));
    assert_eq!(actual.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, (shape, values)) in &actual {
        let (expected_shape, expected) = &expected[name];
        let expected: Vec<f32> = expected.iter().map(|x| factor * x).collect();
        assert_eq!(shape, expected_shape, "{name}");
        let distance = distance(values, &expected);
        assert!(distance < bound, "{name}: {distance:.2e}");
        assert!(!name.ends_with(".counts") || *values == expected || bound > 1e-3, "{name}");
    }
}

#[test]
fn sums_are_those_of_llama_cpp() {
    let bench = Bench::new();
    let expected = bench.at("v3.imatrix.gguf");
    let report = bench.make("out.gguf", &CHUNKS);
    assert_near(&bench.at("out.gguf"), &expected, 1.0, 2e-6);
    assert_eq!(origin(&bench.at("out.gguf")), (vec!["text".to_owned()], 3, 64));
    for line in ["3 chunks of 64 tokens", "matrices    35\n", "experts     32 of 32 experts reached\n"] {
        assert!(report.contains(line) && !report.contains("no data"), "{report}");
    }
    // However the work is cut.
    bench.make("small.gguf", &[&CHUNKS[..], &["--batch", "7", "--save-every", "1"]].concat());
    assert_near(&bench.at("small.gguf"), &expected, 1.0, 2e-6);
    // Rounding the cache and the scores changes little, a token's experts seldom.
    let ended = bench.run("v3.gguf", "fast.gguf", &CHUNKS);
    assert!(ended.code == Some(0) && ended.stderr.contains("3/3 chunks, 32 of 32 experts reached"), "{}", ended.stderr);
    assert_near(&bench.at("fast.gguf"), &expected, 1.0, 0.1);
    assert!(!bench.names().iter().any(|name| name.ends_with(".partial")));
}

#[test]
fn files_are_merged() {
    let bench = Bench::new();
    bench.make("first.gguf", &["@text", "-c", "64", "--chunks", "1"]);
    let rest = ["@text", "-c", "64", "--from-chunk", "1", "--chunks", "2", "--in-file", "@first.gguf"];
    // In the place of the file that it goes on from.
    bench.make("first.gguf", &[&rest[..], &["-f"]].concat());
    assert_near(&bench.at("first.gguf"), &bench.at("v3.imatrix.gguf"), 1.0, 2e-6);
    assert_eq!(origin(&bench.at("first.gguf")), (vec!["text".to_owned(); 2], 3, 64));
    // Without a text, and llama.cpp's own; its three chunks of 64 are one of 128 and a half.
    let twice = ["--in-file", "@v3.imatrix.gguf", "--in-file", "@first.gguf", "-c", "128"];
    bench.make("twice.gguf", &twice);
    assert_near(&bench.at("twice.gguf"), &bench.at("v3.imatrix.gguf"), 2.0, 2e-6);
    assert_eq!(origin(&bench.at("twice.gguf")), (vec!["text".to_owned(); 3], 3, 128));
}

#[test]
fn the_head_is_collected_for_when_asked() {
    let bench = Bench::new();
    bench.make("out.gguf", &[&CHUNKS[..], &["--process-output"]].concat());
    let mut tensors = tensors(&bench.at("out.gguf"));
    let (shape, sums) = tensors.remove("output.weight.in_sum2").unwrap();
    assert_eq!((shape, &tensors["output.weight.counts"].1), (vec![128], &vec![192.0]));
    // Normed rows have squares of about 1 on average, times the norm's weights.
    assert!(sums.iter().all(|x| *x > 0.0));
    assert_eq!(tensors.len(), 71);
    // A merge keeps it.
    bench.make("merged.gguf", &["--in-file", "@out.gguf"]);
    assert_near(&bench.at("merged.gguf"), &bench.at("out.gguf"), 1.0, 1e-9);
}

#[test]
fn what_no_token_reached_is_told() {
    let bench = Bench::new();
    let report = bench.make("out.gguf", &["@text", "-c", "8", "--chunks", "1"]);
    let tensors = tensors(&bench.at("out.gguf"));
    let unreached = |layer: usize| {
        let counts = &tensors[&format!("blk.{layer}.ffn_down_exps.weight.counts")].1;
        assert_eq!(counts.iter().sum::<f32>(), 8.0 * 4.0);
        counts.iter().filter(|count| **count == 0.0).count()
    };
    let [one, two] = [unreached(1), unreached(2)];
    assert!(one + two > 0 && report.contains(&format!("{} of 32 experts reached", 32 - one - two)), "{report}");
    let rows = report.lines().skip_while(|line| !line.contains("never reached")).skip(1);
    let rows: Vec<Vec<usize>> = rows.map(|row| row.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect();
    let mut expected = vec![vec![1, 16, one], vec![2, 16, two]];
    expected.retain(|row| row[2] > 0);
    expected.sort_by_key(|row| std::cmp::Reverse(row[2]));
    assert_eq!(rows, expected);
}

/// From the text to a model in few bits.
#[test]
fn quantize_takes_it() {
    let bench = Bench::new();
    let model = bench.at("f16.gguf");
    let ended = support::cachalot(&[
        OsString::from("synth"),
        "--like".into(),
        "tiny".into(),
        "--layers".into(),
        "2".into(),
        "--mix".into(),
        "F16".into(),
        "-o".into(),
        model.clone().into(),
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let args = ["@text", "-c", "64", "--chunks", "2", "-q", "--process-output"];
    let ended = bench.run("f16.gguf", "i.gguf", &args);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let quantize = |args: &[&str]| {
        let in_folder = |arg: &&str| arg.strip_prefix('@').map_or(OsString::from(arg), |name| bench.at(name).into());
        support::cachalot(&args.iter().map(in_folder).collect::<Vec<_>>())
    };
    // All but the embeddings are weighted, attn_k_b with its matrix for each head too.
    let few = ["--mix", "Q8_0", "--tensor", "ffn_down_exps=IQ2_XXS", "--imatrix"];
    let ended = quantize(&[&["quantize", "@f16.gguf", "@q.gguf"], &few[..], &["@i.gguf"]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("unweighted  1 tensors"), "{}", ended.stdout);
    let gguf = Gguf::open(&bench.at("q.gguf")).unwrap();
    assert_eq!(gguf.metadata().require::<&str>("quantize.imatrix.dataset").unwrap(), "text");
    // llama.cpp's, which has the heads of attn_k_b in one row.
    let ended = quantize(&["quantize", "@v3.gguf", "@k.gguf", "--mix", "Q8_0", "--imatrix", "@v3.imatrix.gguf"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_is_refused() {
    let bench = Bench::new();
    unpack_model("parity/v2lite.gguf", bench.0.path());
    assert_eq!(bench.run("v2lite.gguf", "other.gguf", &[&CHUNKS[..], &["-q"]].concat()).code, Some(0));
    fs::write(bench.at("short"), "Too little.").unwrap();
    fs::write(bench.at("empty"), "").unwrap();
    fs::write(bench.at("bytes"), [0xff, 0xfe]).unwrap();
    fs::write(bench.at("there.gguf"), "precious").unwrap();
    for (output, args, code, message) in [
        ("x", &["-c", "64"][..], 2, "required"),
        ("x", &["@none"], 66, "none: cannot be read"),
        ("x", &["@empty"], 65, "empty: 1 tokens are too few for a chunk of 512"),
        ("x", &["@short", "-c", "64"], 65, "tokens are too few for a chunk of 64"),
        ("x", &["@bytes"], 65, "not UTF-8"),
        ("x", &["@text", "-c", "64", "--from-chunk", "99"], 65, "--from-chunk 99: the text has no more than"),
        ("x", &["@text", "-c", "7"], 2, "-c 7: a chunk has from 8"),
        ("x", &["@text", "--chunks", "0"], 2, "--chunks"),
        ("x", &["@text", "--in-file", "@v3.gguf"], 65, "no importance matrix"),
        ("x", &["@text", "--in-file", "@none"], 66, "none"),
        ("x", &["@text", "--in-file", "@text"], 65, "text"),
        ("x", &["@text", "--in-file", "@other.gguf"], 65, "is of another model"),
        ("there.gguf", &["@text"], 73, "exists already"),
        ("no/x", &["@text"], 73, "no/x"),
        ("v3.gguf", &["@text", "--force"], 2, "is read from"),
        ("text", &["@text", "--force"], 2, "is read from"),
    ] {
        let ended = bench.run("v3.gguf", output, args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stdout.is_empty(), "{args:?}: {}", ended.stderr);
    }
    assert!(!bench.names().iter().any(|name| name.starts_with('x')), "{:?}", bench.names());
    assert_eq!(fs::read(bench.at("there.gguf")).unwrap(), b"precious");
    assert_eq!(bench.run("none.gguf", "x", &["@text"]).code, Some(66));
}

/// A model that computes no numbers: the first matrix that gets them is named, and nothing is written.
#[test]
fn numbers_that_are_none_are_told() {
    let bench = Bench::new();
    let mut draft = Draft::of(&fixture("parity/v3.gguf").gguf);
    let part: &mut Part = draft.part("blk.1.attn_q_a.weight");
    part.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    draft.write(&bench.at("nan.gguf"));
    let ended = bench.run("nan.gguf", "x.gguf", &[&CHUNKS[..], &["-q"]].concat());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("'blk.1.attn_q_b.weight' are not finite"), "{}", ended.stderr);
    assert!(!bench.at("x.gguf").exists());
}
