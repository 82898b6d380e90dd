//! `cachalot quantize` against the program itself: which types its files have, that they run, and what it
//! refuses.

mod support;

use cachalot::gguf::{Gguf, Shape, Split, TensorType, Writer};
use cachalot::model::Role;
use cachalot::quantize::Mix;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::parity::unpack_model;
use support::{Ended, cachalot, program, run};

const MIXES: [Mix; 6] = [Mix::IQ1_S, Mix::IQ1_M, Mix::IQ2_XXS, Mix::Q2_K_XL, Mix::Q3_K_XL, Mix::Q4_K_XL];

/// A small V3 in F16 with rows of 256 and more, and an importance matrix for it.
struct Model {
    folder: tempfile::TempDir,
    path: PathBuf,
    imatrix: PathBuf,
}

impl Model {
    fn new() -> Model {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f16.gguf");
        let name = path.to_string_lossy();
        let ended = cachalot(&["synth", "--like", "tiny", "--layers", "2", "--mix", "F16", "-o", &*name]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let imatrix = folder.path().join("imatrix.gguf");
        write_imatrix(&path, &imatrix, 0);
        Model { folder, path, imatrix }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn quantize(&self, output: &str, args: &[&str]) -> Ended {
        quantize(&self.path, &self.at(output), args)
    }

    fn with_imatrix(&self, output: &str, args: &[&str]) -> Ended {
        self.quantize(output, &[args, &["--imatrix", &self.imatrix.to_string_lossy()]].concat())
    }
}

fn quantize(input: &Path, output: &Path, args: &[&str]) -> Ended {
    run(program().arg("quantize").arg(input).arg(output).args(args))
}

/// Sums and counts for every matrix of `model` but the embeddings, with `extra` columns too many. The sixth
/// expert of each layer was never reached.
fn write_imatrix(model: &Path, path: &Path, extra: u64) {
    let gguf = Gguf::open(model).unwrap();
    let mut writer = Writer::new();
    let mut data = Vec::new();
    for tensor in gguf.tensors() {
        let [row, _, matrices, _] = tensor.info.shape.ne();
        if tensor.info.shape.dims().len() < 2 || tensor.info.name.starts_with("token_embd") {
            continue;
        }
        let row = row + extra;
        let sums: Vec<f32> = (0..row * matrices).map(|i| (1 + i * i % 97) as f32).collect();
        let counts: Vec<f32> = (0..matrices).map(|i| if i == 5 { 0.0 } else { 1.0 + i as f32 }).collect();
        for (suffix, shape, values) in [("in_sum2", [row, matrices], sums), ("counts", [1, matrices], counts)] {
            let name = format!("{}.{suffix}", tensor.info.name);
            writer.add_tensor(&name, TensorType::F32, Shape::new(&shape).unwrap()).unwrap();
            data.push((name, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        }
    }
    let mut output = writer.create(path, Split::None).unwrap();
    data.iter().for_each(|(name, bytes)| output.write(name, bytes).unwrap());
    output.finish().unwrap();
}

fn types(path: &Path) -> BTreeMap<String, TensorType> {
    Gguf::open(path).unwrap().tensors().map(|tensor| (tensor.info.name.clone(), tensor.info.ty)).collect()
}

fn file_type(path: &Path) -> (u32, u32) {
    let gguf = Gguf::open(path).unwrap();
    let key = |name| gguf.metadata().require(name).unwrap();
    (key("general.file_type"), key("general.quantization_version"))
}

/// The model says something of three tokens, and it is numbers.
fn runs(model: &Path, folder: &Path) {
    let tokens = folder.join("tokens.json");
    std::fs::write(&tokens, "[5, 17, 100]").unwrap();
    let logits = folder.join("logits.safetensors");
    let _ = std::fs::remove_file(&logits);
    let (model, tokens, out) = (model.to_string_lossy(), tokens.to_string_lossy(), logits.to_string_lossy());
    let ended = cachalot(&["logits", &model, "--tokens", &tokens, "-o", &out]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let values = support::parity::Reference::from_bytes(std::fs::read(&logits).unwrap()).f32("logits");
    assert!(!values.is_empty() && values.iter().all(|x| x.is_finite()), "{model}");
}

#[test]
fn each_mix_has_its_types_and_runs() {
    let model = Model::new();
    for mix in MIXES {
        let name = format!("{mix}.gguf");
        let ended = model.with_imatrix(&name, &["--mix", &format!("UD-{mix}")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{mix}");
        let path = model.at(&name);
        let gguf = Gguf::open(&path).unwrap();
        for tensor in gguf.tensors() {
            let expected = mix.tensor_type(&tensor.info.name, &tensor.info.shape, 2);
            assert_eq!(tensor.info.ty, expected, "{} of {mix}", tensor.info.name);
        }
        assert_eq!(file_type(&path), (mix.file_type(), 2), "{mix}");
        let routed = gguf.tensors().filter(|tensor| Role::of(&tensor.info.name).class.is_routed()).count();
        let unreached = format!("unreached   {routed} experts of {routed} tensors");
        assert!(routed == 3 && ended.stdout.contains(&unreached), "{}", ended.stdout);
        runs(&path, model.folder.path());
    }
}

/// The experts have rows of 32 to 128: no type of 256-value blocks fits, so none wants an importance matrix.
#[test]
fn short_rows_get_the_types_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    let input = unpack_model("parity/v3.gguf", folder.path());
    for mix in MIXES {
        let output = folder.path().join(format!("{mix}.gguf"));
        let ended = quantize(&input, &output, &["--mix", &format!("UD-{mix}")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{mix}");
        let gguf = Gguf::open(&output).unwrap();
        for tensor in gguf.tensors() {
            let (role, expected) =
                (Role::of(&tensor.info.name), mix.tensor_type(&tensor.info.name, &tensor.info.shape, 3));
            assert_eq!(tensor.info.ty, expected, "{} of {mix}", tensor.info.name);
            assert!(!role.class.is_routed() || expected.block_len() == 32, "{} of {mix}", tensor.info.name);
        }
        runs(&output, folder.path());
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let model = Model::new();
    let bytes = |name: &str, threads: &str| {
        let path = model.at(name);
        let ended = run(program()
            .arg("quantize")
            .args([&model.path, &path])
            .args(["--mix", "UD-IQ2_XXS", "--imatrix"])
            .arg(&model.imatrix)
            .env("RAYON_NUM_THREADS", threads));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        std::fs::read(path).unwrap()
    };
    assert!(bytes("one.gguf", "1") == bytes("many.gguf", "5"));
}

#[test]
fn exceptions_and_shards() {
    let model = Model::new();
    let exceptions = ["--tensor", "ffn_(up|down)_exps=Q5_K", "--tensor", "up_exps=q3_k"];
    let ended = model.quantize("s.gguf", &[&["--mix", "Q4_K", "--split-max-size", "1M"], &exceptions[..]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let shard = model.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.to_string_lossy().contains("s-0000")).min().unwrap();
    let gguf = Gguf::open(&shard).unwrap();
    assert!(gguf.shards().len() > 1);
    let types = types(&shard);
    for (name, ty) in [
        ("blk.1.ffn_gate_exps.weight", TensorType::Q4_K),
        ("blk.1.ffn_down_exps.weight", TensorType::Q5_K),
        ("blk.1.ffn_up_exps.weight", TensorType::Q3_K),
        ("blk.1.attn_norm.weight", TensorType::F32),
        ("output.weight", TensorType::Q6_K),
    ] {
        assert_eq!(types[name], ty, "{name}");
    }
    // What was quantised can be quantised again, and what has its type already is copied.
    let ended = quantize(&shard, &model.at("again.gguf"), &["--mix", "Q4_K", "--tensor", "exps=Q8_0"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let again = Gguf::open(&model.at("again.gguf")).unwrap();
    let data = |gguf: &Gguf, name| gguf.tensor(name).unwrap().data.to_vec();
    assert!(data(&gguf, "output.weight") == data(&again, "output.weight"));
    assert_eq!(again.tensor("blk.1.ffn_up_exps.weight").unwrap().info.ty, TensorType::Q8_0);
    assert_eq!(again.metadata().iter().filter(|(key, _)| key.starts_with("split.")).count(), 0);
}

#[test]
fn what_is_refused() {
    let model = Model::new();
    let wide = model.at("wide.gguf");
    write_imatrix(&model.path, &wide, 256);
    let (wide, whole) = (wide.to_string_lossy(), model.path.to_string_lossy());
    std::fs::write(model.at("there.gguf"), "precious").unwrap();
    for (output, args, code, message) in [
        ("x.gguf", &["--mix", "Q9"][..], 2, "there is no mix and no type 'Q9'; mixes: UD-IQ1_S"),
        ("x.gguf", &["--mix", "Q4_K", "--tensor", "up=Q9"], 2, "there is no type 'Q9'; these are: F32"),
        ("x.gguf", &["--mix", "Q4_K", "--tensor", "Q8_0"], 2, "'Q8_0' is not PATTERN=TYPE"),
        ("x.gguf", &["--mix", "Q4_K", "--tensor", "norm=Q8_0"], 2, "no matrix has 'norm' in its name"),
        ("x.gguf", &["--mix", "Q4_K", "--split-max-size", "0"], 2, "'0' is no size"),
        ("x.gguf", &["--mix", "UD-IQ1_S"], 2, "'blk.1.ffn_gate_exps.weight' would be IQ1_S"),
        ("x.gguf", &["--mix", "Q4_K", "--imatrix", &wide], 65, "the model's tensor needs [512, 1]"),
        ("x.gguf", &["--mix", "Q4_K", "--imatrix", &whole], 65, "no importance matrix"),
        ("x.gguf", &["--mix", "Q4_K", "--imatrix", "none.gguf"], 66, "none.gguf"),
        ("f16.gguf", &["--mix", "Q4_K", "--force"], 2, "f16.gguf: is read from"),
        ("there.gguf", &["--mix", "Q4_K"], 73, "exists already"),
        ("no/folder.gguf", &["--mix", "Q4_K"], 73, "cannot be written"),
    ] {
        let ended = model.quantize(output, args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stdout.is_empty(), "{args:?}: {}", ended.stderr);
    }
    assert!(!model.at("x.gguf").exists() && !model.at("x.gguf.partial").exists());
    assert_eq!(std::fs::read(model.at("there.gguf")).unwrap(), b"precious");
    let ended = model.quantize("there.gguf", &["--mix", "Q4_K", "--force"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(file_type(&model.at("there.gguf")), (15, 2));
    assert_eq!(quantize(&model.at("nothing.gguf"), &model.at("x.gguf"), &["--mix", "Q4_K"]).code, Some(66));
}

/// A weight that is no number is named before ggml's encoders meet it, and nothing is left behind.
#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("nan.gguf"), folder.path().join("out.gguf"));
    let mut writer = Writer::new();
    writer.set("general.architecture", "deepseek2").unwrap();
    writer.add_tensor("blk.0.ffn_up.weight", TensorType::F32, Shape::new(&[256, 2]).unwrap()).unwrap();
    let mut file = writer.create(&input, Split::None).unwrap();
    let values: Vec<f32> = (0..512).map(|i| if i == 300 { f32::NAN } else { 1.0 }).collect();
    file.write("blk.0.ffn_up.weight", &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    file.finish().unwrap();
    let ended = quantize(&input, &output, &["--mix", "IQ3_S"]);
    assert_eq!(ended.code, Some(65), "{}", ended.stderr);
    assert!(ended.stderr.contains("'blk.0.ffn_up.weight': NaN cannot be stored as IQ3_S"), "{}", ended.stderr);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}
