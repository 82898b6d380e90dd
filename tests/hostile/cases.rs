//! The named files: how each is made. What the program must say of it is in `data/hostile.txt`.

#![allow(unreachable_pub)]

use crate::support::models::write_tiny;
use crate::support::raw::{Raw, string};
use cachalot::gguf::Split;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, or a set of files, and how the program is called on it.
pub struct Case {
    pub name: &'static str,
    /// Makes the files in an empty folder and returns the path to inspect.
    pub make: Box<dyn Fn(&Path) -> PathBuf>,
    pub check_data: bool,
    /// Run as a user without rights to the file.
    pub as_nobody: bool,
}

fn case(name: &'static str, make: impl Fn(&Path) -> PathBuf + 'static) -> Case {
    Case { name, make: Box::new(make), check_data: false, as_nobody: false }
}

/// One file of these bytes.
fn file(name: &'static str, bytes: impl Fn() -> Vec<u8> + 'static) -> Case {
    case(name, move |dir| put(dir, "model.gguf", &bytes()))
}

fn raw(name: &'static str, raw: Raw) -> Case {
    file(name, move || raw.bytes())
}

pub fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The three shards of the tiny model, and what to do to them.
fn split(name: &'static str, spoil: impl Fn(&Path, &[PathBuf]) -> PathBuf + 'static) -> Case {
    case(name, move |dir| {
        let shards = write_tiny(&dir.join("tiny.gguf"), Split::MaxTensors(12));
        assert_eq!(shards.len(), 3);
        spoil(dir, &shards)
    })
}

/// A shard put together by hand: its keys as a function of what the good one would have.
fn shard(dir: &Path, number: u16, count: u16, tensors: i32, names: &[&str]) -> PathBuf {
    let raw = Raw::new().u16("split.no", number).u16("split.count", count).i32("split.tensors.count", tensors);
    let raw = names.iter().zip(0u64..).fold(raw, |raw, (name, i)| raw.tensor(name, &[8], 0, i * 32));
    let bytes = raw.data(names.len() * 32).bytes();
    put(dir, &format!("m-{:05}-of-{count:05}.gguf", number + 1), &bytes)
}

/// A sparse file of `len` bytes with this header.
pub fn sparse(dir: &Path, header: &[u8], len: u64) -> PathBuf {
    let path = put(dir, "model.gguf", header);
    File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    path
}

const GB_400: u64 = 400_000_000_000;

fn big_tensor() -> Vec<u8> {
    Raw::new().tensor("w", &[GB_400 as i64], 24, 0).header()
}

/// A model with a vocabulary and one layer of two experts, right in itself.
pub fn sound() -> Raw {
    Raw::new_arch("deepseek2")
        .u32("deepseek2.block_count", 1)
        .u32("deepseek2.embedding_length", 8)
        .u32("deepseek2.attention.head_count", 2)
        .strings("tokenizer.ggml.tokens", &["a", "b", "c"])
        .text("tokenizer.ggml.model", "gpt2")
        .tensor("token_embd.weight", &[8, 3], 0, 0)
        .tensor("blk.0.ffn_gate_exps.weight", &[8, 4, 2], 0, 96)
        .data(96 + 256)
}

fn file_system() -> Vec<Case> {
    vec![
        case("no such file", |dir| dir.join("model.gguf")),
        case("dangling link", |dir| {
            std::os::unix::fs::symlink(dir.join("gone"), dir.join("model.gguf")).unwrap();
            dir.join("model.gguf")
        }),
        case("empty folder", Path::to_owned),
        case("folder with two models", |dir| {
            put(dir, "a.gguf", &Raw::new().bytes());
            put(dir, "b.gguf", &Raw::new().bytes());
            dir.to_owned()
        }),
        case("folder named like a model", |dir| {
            fs::create_dir(dir.join("model.gguf")).unwrap();
            dir.join("model.gguf")
        }),
        case("FIFO", |dir| {
            let path = dir.join("model.gguf");
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        }),
        case("socket", |dir| {
            let path = dir.join("model.gguf");
            std::os::unix::net::UnixListener::bind(&path).unwrap();
            path
        }),
        case("device", |_| "/dev/zero".into()),
        Case {
            as_nobody: true,
            ..case("unreadable file", |dir| {
                let path = put(dir, "model.gguf", &Raw::new().bytes());
                fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
                path
            })
        },
        case("folder with two models whose names are not UTF-8", |dir| {
            for name in [b"caf\xe8.gguf", b"caf\xe9.gguf"] {
                fs::write(dir.join(OsStr::from_bytes(name)), Raw::new().bytes()).unwrap();
            }
            dir.to_owned()
        }),
        case("a path through a file", |dir| put(dir, "a", b"").join("model.gguf")),
        case("a name that speaks to the terminal", |dir| dir.join("\u{1b}]0;owned\u{7}.gguf")),
    ]
}

fn header() -> Vec<Case> {
    let with = |change: fn(&mut Raw)| {
        let mut raw = Raw::new();
        change(&mut raw);
        raw
    };
    vec![
        file("empty file", Vec::new),
        file("one byte", || b"G".to_vec()),
        file("magic alone", || b"GGUF".to_vec()),
        file("text", || b"Hello, this is no model.".to_vec()),
        file("zip archive", || b"PK\x03\x04 and more, and more".to_vec()),
        file("legacy ggml file", || b"lmgg\x01\0\0\0".repeat(4)),
        file("zeros", || vec![0; 4096]),
        file("big-endian", || [&b"GGUF"[..], &3u32.to_be_bytes(), &[0; 16]].concat()),
        raw("version 0", with(|raw| raw.version = 0)),
        raw("version 1", with(|raw| raw.version = 1)),
        raw("version 4", with(|raw| raw.version = 4)),
        raw("negative number of tensors", with(|raw| raw.n_tensors = Some(-1))),
        raw("huge number of tensors", with(|raw| raw.n_tensors = Some(1 << 60))),
        raw("more tensors than the file has", with(|raw| raw.n_tensors = Some(2))),
        raw("negative number of keys", with(|raw| raw.n_keys = Some(i64::MIN))),
        raw("huge number of keys", with(|raw| raw.n_keys = Some(i64::MAX))),
        raw("one key too many", with(|raw| raw.n_keys = Some(2))),
    ]
}

fn metadata() -> Vec<Case> {
    let long = 1u64 << 40;
    let u64s = |n: u64| n.to_le_bytes().to_vec();
    vec![
        file("key longer than the file", move || {
            let mut bytes = Raw::new().header();
            bytes.truncate(24);
            [bytes, u64s(1000), b"abc".to_vec()].concat()
        }),
        file("key longer than 1 GiB", move || {
            let mut bytes = Raw::new().header();
            bytes.truncate(24);
            [bytes, u64s(u64::MAX), vec![0; 64]].concat()
        }),
        raw("empty key", Raw::new().u32("", 1)),
        raw("key that is not UTF-8", Raw::new().key_bytes(b"a\xff", 4, &[0; 4])),
        raw("key with a NUL", Raw::new().u32("a\0b", 1)),
        raw("key twice", Raw::new().u32("general.file_type", 1).u32("general.file_type", 1)),
        file("key of a megabyte, twice", || {
            let key = "k".repeat(1 << 20);
            Raw::new().u32(&key, 1).u32(&key, 1).bytes()
        }),
        raw("key that speaks to the terminal, twice", Raw::new().u32("\u{1b}[2J", 1).u32("\u{1b}[2J", 1)),
        raw("unknown value type", Raw::new().key("a", 13, &[0; 8])),
        raw("value type all ones", Raw::new().key("a", u32::MAX, &[0; 8])),
        raw("value missing", Raw::new().key_unfinished("a", &4u32.to_le_bytes())),
        raw("value type missing", Raw::new().key_unfinished("a", &[])),
        raw("bool of 2", Raw::new().key("a", 7, &[2])),
        raw("bool of 255 in an array", Raw::new().array("a", 7, 3, &[0, 1, 255])),
        raw("string longer than the file", Raw::new().key("a", 8, &[&u64s(100)[..], b"abc"].concat())),
        raw("string longer than 1 GiB", Raw::new().key("a", 8, &u64s(u64::MAX))),
        raw("nested array", Raw::new().array("a", 9, 1, &[0; 32])),
        raw("array of an unknown type", Raw::new().array("a", 99, 1, &[0; 32])),
        raw("array longer than the file", Raw::new().array("a", 4, 1000, &[0; 16])),
        raw("array of 2^40 elements", Raw::new().array("a", 0, long, &[0; 16])),
        raw("array whose bytes overflow", Raw::new().array("a", 10, u64::MAX / 4, &[0; 16])),
        raw("array of strings longer than the file", Raw::new().array("a", 8, 3, &string("one"))),
        raw(
            "array of strings, one too long",
            Raw::new().array("a", 8, 2, &[string("one"), u64s(u64::MAX - 7)].concat()),
        ),
        raw("array without a length", Raw::new().key_unfinished("a", &[9u32, 4].map(u32::to_le_bytes).concat())),
        raw("alignment of another type", Raw::new().key("general.alignment", 10, &u64s(32))),
        raw("alignment as a string", Raw::new().text("general.alignment", "32")),
        raw("alignment as an array", Raw::new().array("general.alignment", 4, 1, &[32, 0, 0, 0])),
        raw("alignment 0", Raw::new().u32("general.alignment", 0)),
        raw("alignment 3", Raw::new().u32("general.alignment", 3)),
        file("alignment 2^31", || {
            Raw::new().u32("general.alignment", 1 << 31).tensor("w", &[8], 0, 0).data(32).bytes()
        }),
    ]
}

fn tensors() -> Vec<Case> {
    let one = |dims: &[i64], ty: u32, offset: u64| Raw::new().tensor("w", dims, ty, offset).data(64);
    let named = |name: &[u8]| Raw::new().tensor_with_dims(name, 1, &[8], 0, 0).data(32);
    vec![
        raw("tensor name of 64 bytes", named(&[b'n'; 64])),
        raw("tensor name of 2^30 bytes", {
            Raw::new()
                .key_unfinished("a", &[&4u32.to_le_bytes()[..], &[0; 4]].concat())
                .tensor_raw(&(1u64 << 30).to_le_bytes())
        }),
        raw("tensor name that is not UTF-8", named(b"w\xc3")),
        raw("tensor name with a NUL", named(b"a\0b")),
        raw("tensor twice", Raw::new().tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64)),
        raw("five dimensions", Raw::new().tensor_with_dims(b"w", 5, &[1; 5], 0, 0).data(64)),
        raw("2^32 - 1 dimensions", Raw::new().tensor_with_dims(b"w", u32::MAX, &[1; 8], 0, 0).data(64)),
        raw("negative dimension", one(&[4, -1], 0, 0)),
        raw("shape with too many elements", one(&[1 << 32, 1 << 32], 0, 0)),
        raw("overflow behind a zero", one(&[0, 1 << 62, 1 << 62], 0, 0)),
        raw("shape with too many bytes", one(&[1 << 61], 27, 0)),
        raw("size that wraps to a small one", one(&[1 << 31, 1 << 31], 27, 0)),
        raw("removed type Q4_2", one(&[32], 4, 0)),
        raw("removed type Q4_0_4_4", one(&[32], 31, 0)),
        raw("unknown type 43", one(&[32], 43, 0)),
        raw("type all ones", one(&[32], u32::MAX, 0)),
        raw("row that is no whole block", one(&[255, 2], 12, 0)),
        raw("misaligned data", one(&[8], 0, 16)),
        raw("data beyond the file", one(&[8], 0, 4096)),
        raw("data one value too long", one(&[17], 0, 0)),
        raw("offset near 2^64", one(&[8], 0, u64::MAX - 31)),
        raw("offset plus size wraps", one(&[8], 0, u64::MAX - 127)),
        raw("the same data twice", Raw::new().tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(64)),
        raw("overlapping data", Raw::new().tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).data(64)),
        raw("overlap out of order", Raw::new().tensor("a", &[8], 0, 32).tensor("b", &[16], 0, 0).data(64)),
        file("no padding and no data", || {
            let mut bytes = Raw::new().tensor("w", &[8], 0, 0).bytes();
            bytes.truncate(24 + 8 + 20 + 4 + 12 + 8 + 1 + 4 + 8 + 4 + 8);
            bytes
        }),
        case("400 GB, one byte short", |dir| {
            let header = big_tensor();
            sparse(dir, &header, header.len() as u64 + GB_400 - 1)
        }),
        case("400 GB, to the byte", |dir| {
            let header = big_tensor();
            sparse(dir, &header, header.len() as u64 + GB_400)
        }),
        case("400 GB, one byte more", |dir| {
            let header = big_tensor();
            sparse(dir, &header, header.len() as u64 + GB_400 + 1)
        }),
        case("tensor that begins at 400 GB, one byte short", |dir| {
            let header = Raw::new().tensor("w", &[8], 0, GB_400).header();
            sparse(dir, &header, header.len() as u64 + GB_400 + 31)
        }),
        case("tensor that begins at 400 GB", |dir| {
            let header = Raw::new().tensor("w", &[8], 0, GB_400).header();
            sparse(dir, &header, header.len() as u64 + GB_400 + 32)
        }),
        case("two tensors that meet at 400 GB, one byte apart", |dir| {
            let raw = Raw::new().tensor("a", &[GB_400 as i64 + 1], 24, 0).tensor("b", &[8], 0, GB_400);
            let header = raw.header();
            sparse(dir, &header, header.len() as u64 + GB_400 + 64)
        }),
    ]
}

fn splits() -> Vec<Case> {
    vec![
        split("first shard missing", |_, shards| {
            fs::remove_file(&shards[0]).unwrap();
            shards[1].clone()
        }),
        split("middle shard missing", |_, shards| {
            fs::remove_file(&shards[1]).unwrap();
            shards[0].clone()
        }),
        split("last shard missing, opened by folder", |dir, shards| {
            fs::remove_file(&shards[2]).unwrap();
            dir.to_owned()
        }),
        split("a shard is a folder", |_, shards| {
            fs::remove_file(&shards[1]).unwrap();
            fs::create_dir(&shards[1]).unwrap();
            shards[0].clone()
        }),
        split("a shard is empty", |_, shards| {
            fs::write(&shards[1], b"").unwrap();
            shards[0].clone()
        }),
        split("a shard is cut short", |_, shards| {
            let len = fs::metadata(&shards[2]).unwrap().len();
            File::options().write(true).open(&shards[2]).unwrap().set_len(len / 2).unwrap();
            shards[0].clone()
        }),
        split("two shards swapped", |dir, shards| {
            fs::rename(&shards[1], dir.join("x")).unwrap();
            fs::rename(&shards[2], &shards[1]).unwrap();
            fs::rename(dir.join("x"), &shards[2]).unwrap();
            shards[0].clone()
        }),
        split("a shard under another's number", |_, shards| {
            fs::copy(&shards[0], &shards[1]).unwrap();
            shards[1].clone()
        }),
        split("a shard under a name of its own", |dir, shards| {
            fs::rename(&shards[0], dir.join("model.gguf")).unwrap();
            dir.join("model.gguf")
        }),
        case("shards of two models: other count", |dir| {
            shard(dir, 0, 2, 2, &["a"]);
            let other = shard(dir, 1, 3, 2, &["b"]);
            fs::rename(other, dir.join("m-00002-of-00002.gguf")).unwrap();
            dir.join("m-00001-of-00002.gguf")
        }),
        case("shards of two models: other number of tensors", |dir| {
            shard(dir, 1, 2, 3, &["b"]);
            shard(dir, 0, 2, 2, &["a"])
        }),
        case("shards of two models: other name", |dir| {
            let raw = |number, name: &str, tensor: &str| {
                let raw = Raw::new().u16("split.no", number).u16("split.count", 2).i32("split.tensors.count", 2);
                raw.text("general.name", name).tensor(tensor, &[8], 0, 0).data(32).bytes()
            };
            put(dir, "m-00002-of-00002.gguf", &raw(1, "R1", "b"));
            put(dir, "m-00001-of-00002.gguf", &raw(0, "V3", "a"))
        }),
        case("a tensor in two shards", |dir| {
            shard(dir, 1, 2, 2, &["a"]);
            shard(dir, 0, 2, 2, &["a"])
        }),
        case("tensors missing from the union", |dir| {
            shard(dir, 1, 2, 3, &["b"]);
            shard(dir, 0, 2, 3, &["a"])
        }),
        case("split.no beyond split.count", |dir| {
            let raw = Raw::new().u16("split.no", 2).u16("split.count", 2).i32("split.tensors.count", 0);
            put(dir, "m-00003-of-00002.gguf", &raw.bytes())
        }),
        case("65535 shards", |dir| {
            let raw = Raw::new().u16("split.no", 0).u16("split.count", 65535).i32("split.tensors.count", 0);
            put(dir, "m-00001-of-65535.gguf", &raw.bytes())
        }),
        raw("split.count is a string", Raw::new().text("split.count", "2")),
        raw("split.count is negative", Raw::new().i32("split.count", -2)),
        raw("split.no is missing", Raw::new().u16("split.count", 2)),
        raw("split.tensors.count is missing", Raw::new().u16("split.no", 0).u16("split.count", 2)),
    ]
}

fn contradictions() -> Vec<Case> {
    let arch = "deepseek2";
    let keys = |pairs: &[(&str, u32)]| {
        pairs.iter().fold(Raw::new_arch(arch), |raw, (key, value)| raw.u32(&format!("{arch}.{key}"), *value))
    };
    let with_norm = |raw: Raw, layer: u32| raw.tensor(&format!("blk.{layer}.attn_norm.weight"), &[8], 0, 0).data(32);
    vec![
        raw("more experts used than there are", keys(&[("expert_count", 4), ("expert_used_count", 5)])),
        raw(
            "experts that do not divide into groups",
            keys(&[("expert_count", 10), ("expert_group_count", 4), ("expert_group_used_count", 2)]),
        ),
        raw(
            "more groups used than there are",
            keys(&[("expert_count", 8), ("expert_group_count", 4), ("expert_group_used_count", 5)]),
        ),
        raw("zero layers", keys(&[("block_count", 0)])),
        raw("more dense layers than layers", keys(&[("block_count", 2), ("leading_dense_block_count", 3)])),
        raw("odd rotary dimension", keys(&[("attention.kv_lora_rank", 8), ("rope.dimension_count", 7)])),
        raw(
            "rotary dimension beyond the key",
            keys(&[("attention.kv_lora_rank", 8), ("rope.dimension_count", 66), ("attention.key_length", 64)]),
        ),
        raw("epsilon is NaN", Raw::new_arch(arch).f32("deepseek2.attention.layer_norm_rms_epsilon", f32::NAN)),
        raw("scale is infinite", Raw::new_arch(arch).f32("deepseek2.expert_weights_scale", f32::INFINITY)),
        raw("a layer without tensors", with_norm(keys(&[("block_count", 3)]), 0)),
        raw("a layer beyond the last", with_norm(keys(&[("block_count", 1)]), 4_000_000_000)),
        raw("vocab_size is not the number of tokens", sound().u32("deepseek2.vocab_size", 4)),
        raw("a token type too few", sound().array("tokenizer.ggml.token_type", 5, 2, &[1, 0, 0, 0, 1, 0, 0, 0])),
        raw("a bos token beyond the vocabulary", sound().u32("tokenizer.ggml.bos_token_id", 3)),
        raw(
            "the embedding has too few rows",
            Raw::new()
                .strings("tokenizer.ggml.tokens", &["a", "b"])
                .tensor("token_embd.weight", &[8, 1], 0, 0)
                .data(32),
        ),
        raw("the name is a number", Raw::new_arch("deepseek2").u32("general.name", 3)),
        raw("tokens that are numbers", Raw::new().array("tokenizer.ggml.tokens", 4, 3, &[0; 12])),
        raw("a negative number of layers", Raw::new_arch(arch).i32("deepseek2.block_count", -5)),
        raw("the number of experts is a string", Raw::new_arch(arch).text("deepseek2.expert_count", "256")),
        raw("an infinity among the layers' values", {
            Raw::new_arch(arch).array("deepseek2.limits", 6, 2, &[0, 0, 0, 0, 0, 0, 0x80, 0x7f])
        }),
        raw("two tokens with the same text", Raw::new().strings("tokenizer.ggml.tokens", &["a", "\u{1b}x", "\u{1b}x"])),
        raw("experts of the wrong number", sound().u32("deepseek2.expert_count", 4)),
        raw("experts of the wrong width", {
            Raw::new_arch(arch)
                .u32("deepseek2.embedding_length", 16)
                .tensor("blk.0.ffn_up_exps.weight", &[8, 4, 2], 0, 0)
                .data(256)
        }),
    ]
}

fn data() -> Vec<Case> {
    let checked = |name, raw: Raw| Case { check_data: true, ..self::raw(name, raw) };
    let f32s = |value: f32| {
        let mut raw = Raw::new().tensor("blk.0.attn_q.weight", &[64], 0, 0).data(256);
        raw.data[100..104].copy_from_slice(&value.to_le_bytes());
        raw
    };
    let mut scales = Raw::new().tensor("a", &[256], 12, 0).tensor("b", &[256], 12, 160).data(160 + 144);
    scales.data[160..162].copy_from_slice(&0x7c00u16.to_le_bytes());
    vec![
        checked("a NaN among the weights", f32s(f32::NAN)),
        checked("an infinity among the weights", f32s(f32::NEG_INFINITY)),
        checked("an infinite scale of a block", scales),
        checked("finite weights", f32s(f32::MAX)),
    ]
}

pub fn all() -> Vec<Case> {
    [file_system(), header(), metadata(), tensors(), splits(), contradictions(), data()].into_iter().flatten().collect()
}
