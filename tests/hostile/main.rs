//! Damaged and hostile files against the program: each named one has its exit code and its exact
//! message in `data/hostile.txt`, and none may crash it.
//!
//! After a wording has changed on purpose: `UPDATE_HOSTILE=1 cargo test --release --test hostile`,
//! then read the difference.

mod cases;
#[path = "../support/mod.rs"]
mod support;

use cachalot::gguf::Header;
use cases::{Case, put, sound, sparse};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::models::write_mini;
use support::raw::{Raw, string_bytes};
use support::{Ended, inspect, isolate, program};

fn run_case(case: &Case) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = (case.make)(dir.path());
    let mut command = program();
    // Root reads everything.
    let is_root = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap_or(false);
    if case.as_nobody && is_root {
        let program = dir.path().join("cachalot");
        let ours = env!("CARGO_BIN_EXE_cachalot");
        let copy = || support::write_program(|| fs::copy(ours, &program).map(drop));
        fs::hard_link(ours, &program).or_else(|_| copy()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = Command::new(program);
        isolate(&mut command);
        command.uid(65534).current_dir("/");
    }
    command.arg("inspect").arg(&path);
    if case.check_data {
        command.arg("--check");
    }
    let Ended { code, stdout, stderr } = support::run(&mut command);
    // A file that is sound in form is reported on before it is found wanting; of others nothing is said.
    let reported = code == Some(0) || stderr.contains(" problem");
    assert_eq!(!stdout.is_empty(), reported, "{}: {stdout}", case.name);
    let dir = dir.path().to_string_lossy().into_owned();
    (code, stderr.replace(&dir, "{dir}").trim_end().replace('\n', " ⏎ "))
}

#[test]
fn each_named_file_ends_with_its_code_and_its_message() {
    let cases = cases::all();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut table = String::from("# name | exit code | stderr\n");
    for case in &cases {
        let (code, stderr) = run_case(case);
        let code = code.map_or("signal".to_owned(), |code| code.to_string());
        writeln!(table, "{} | {code} | {stderr}", case.name).unwrap();
    }
    let expected_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile.txt");
    if std::env::var_os("UPDATE_HOSTILE").is_some() {
        fs::write(&expected_path, &table).unwrap();
    }
    let expected = fs::read_to_string(&expected_path).unwrap();
    for (found, expected) in table.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
    assert!(!table.contains("| signal |"), "a file crashed the program");
}

/// What may come of a file that was changed at random: a report, or one line that says what is wrong.
fn assert_orderly(ended: &Ended, what: &str) {
    match ended.code {
        Some(0) => assert_eq!((ended.stderr.as_str(), ended.stdout.is_empty()), ("", false), "{what}"),
        Some(65 | 66) => {
            assert_eq!(!ended.stdout.is_empty(), ended.stderr.contains(" problem"), "{what}: {ended:?}");
            assert!(ended.stderr.starts_with("cachalot: ") && ended.stderr.lines().count() == 1, "{what}: {ended:?}");
        }
        _ => panic!("{what}: {ended:?}"),
    }
}

/// Calls `each` for 0..n, spread over the cores; each worker has a copy of the smallest model.
fn for_all(n: usize, each: impl Fn(usize, &[PathBuf]) + Sync) {
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let each = &each;
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                let shards = write_mini(&dir.path().join("mini.gguf"));
                (worker..n).step_by(workers).for_each(|i| each(i, &shards));
            });
        }
    });
}

/// Where in the set byte `i` of all shards together lies: shard and offset.
fn locate(i: usize, lengths: &[usize]) -> (usize, usize) {
    let mut rest = i;
    for (shard, len) in lengths.iter().enumerate() {
        if rest < *len {
            return (shard, rest);
        }
        rest -= len;
    }
    unreachable!("{i} is beyond all shards")
}

fn header_of(bytes: &[u8]) -> Header {
    Header::parse(bytes, bytes.len() as u64).unwrap()
}

fn mini_bytes() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let shards = write_mini(&dir.path().join("mini.gguf"));
    shards.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_truncation_of_every_shard_is_noticed() {
    let bytes = mini_bytes();
    let lengths: Vec<usize> = bytes.iter().map(Vec::len).collect();
    // What follows the last tensor is padding, which a file may lack.
    let ends: Vec<u64> = bytes.iter().map(|bytes| header_of(bytes).tensors()[0].range.end).collect();
    for_all(lengths.iter().sum(), |i, shards| {
        let (shard, len) = locate(i, &lengths);
        let file = File::options().write(true).open(&shards[shard]).unwrap();
        file.set_len(len as u64).unwrap();
        let ended = inspect(&shards[(shard + 1) % 3]);
        let what = format!("shard {shard} cut to {len} bytes");
        assert_orderly(&ended, &what);
        assert_eq!(ended.code == Some(65), (len as u64) < ends[shard], "{what}: {ended:?}");
        if ended.code == Some(65) {
            assert!(ended.stderr.contains(&*shards[shard].to_string_lossy()), "{what}: {ended:?}");
        }
        file.write_all_at(&bytes[shard], 0).unwrap();
    });
}

#[test]
fn no_flipped_bit_of_a_header_crashes_the_program() {
    let bytes = mini_bytes();
    let headers: Vec<usize> = bytes.iter().map(|bytes| header_of(bytes).data_start() as usize).collect();
    for_all(headers.iter().sum::<usize>() * 8, |i, shards| {
        let (shard, at) = locate(i / 8, &headers);
        let file = File::options().write(true).open(&shards[shard]).unwrap();
        file.write_all_at(&[bytes[shard][at] ^ (1 << (i % 8))], at as u64).unwrap();
        assert_orderly(&inspect(&shards[0]), &format!("shard {shard}, byte {at}, bit {}", i % 8));
        file.write_all_at(&bytes[shard][at..=at], at as u64).unwrap();
    });
}

#[test]
fn a_file_truncated_while_it_is_read_ends_with_a_message() {
    // 64 GiB of zeros that take no room: reading them takes seconds, cutting them off does not.
    let dir = tempfile::tempdir().unwrap();
    let header = Raw::new().tensor("w", &[1 << 34], 0, 0).header();
    let path = sparse(dir.path(), &header, header.len() as u64 + (1 << 36));
    let args = [OsStr::new("inspect"), path.as_os_str(), OsStr::new("--check")];
    let child =
        program().args(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Wait until it has mapped the file, then cut.
    let maps = format!("/proc/{}/maps", child.id());
    while !fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("model.gguf")) {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(66), "{stderr}");
    assert!(stderr.contains("model.gguf: cannot be read at byte "), "{stderr}");
}

/// Files of a few hundred bytes on the disk that say they are enormous: none may take the machine down.
#[test]
fn little_memory_is_enough_for_any_file() {
    let tokens = |count: u64| {
        let header = Raw::new_arch("deepseek2").array("tokenizer.ggml.tokens", 8, count, &[]).header();
        (header.clone(), header.len() as u64 + count * 8)
    };
    let array = |key: &str, count: u64| {
        let header = Raw::new_arch("deepseek2").array(key, 0, count, &[]).header();
        (header.clone(), header.len() as u64 + count)
    };
    let name = {
        let header = Raw::new().key("general.name", 8, &(1u64 << 28).to_le_bytes()).header();
        (header.clone(), header.len() as u64 + (1 << 28))
    };
    for (what, (header, len), flags) in [
        ("2^24 empty tokens", tokens(1 << 24), &[][..]),
        ("a hyperparameter of 2^28 values", array("deepseek2.x", 1 << 28), &["--metadata"]),
        ("a key of 2^28 values", array("x", 1 << 28), &["--metadata"]),
        ("a name of 2^28 bytes", name, &["--metadata"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = sparse(dir.path(), &header, len);
        let mut command = Command::new("/bin/sh");
        // The map takes address space; what the program allocates must fit beside it.
        command.args(["-c", "ulimit -v $1 && shift && exec \"$@\"", "sh"]);
        command.arg((len / 1024 + (700 << 10)).to_string()).arg(env!("CARGO_BIN_EXE_cachalot"));
        isolate(&mut command);
        let ended = support::run(command.arg("inspect").arg(&path).args(flags));
        assert_eq!(ended.code, Some(0), "{what}: {}", ended.stderr);
        assert!(ended.stdout.len() < 10_000, "{what}: {} bytes", ended.stdout.len());
    }
}

#[test]
fn unusual_but_sound_files_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let sound: Vec<(&str, Raw)> = vec![
        ("no tensors", Raw::new()),
        ("version 2", {
            let mut raw = sound();
            raw.version = 2;
            raw
        }),
        ("a scalar tensor", Raw::new().tensor("w", &[], 0, 0).data(4)),
        ("an empty tensor", Raw::new().tensor("w", &[0, 4], 0, 0).tensor("v", &[8], 0, 0).data(32)),
        ("gaps and another order", Raw::new().tensor("a", &[8], 0, 96).tensor("b", &[8], 0, 32).data(128)),
        ("alignment 8", {
            let mut raw =
                Raw::new().u32("general.alignment", 8).tensor("a", &[2], 0, 0).tensor("b", &[2], 0, 8).data(16);
            raw.alignment = 8;
            raw
        }),
        ("split.count 0, as merged files have it", Raw::new().u16("split.count", 0).u16("split.no", 0)),
        ("a string that is not UTF-8", Raw::new().key("general.name", 8, &string_bytes(b"caf\xe9"))),
        ("a sound model", sound()),
        ("several empty tokens", Raw::new().strings("tokenizer.ggml.tokens", &["a", "", "b", ""])),
        ("experts with biases", {
            let raw = Raw::new_arch("gpt-oss").u32("gpt-oss.embedding_length", 8).u32("gpt-oss.expert_count", 2);
            let raw = raw.tensor("blk.0.ffn_up_exps.weight", &[8, 4, 2], 0, 0);
            raw.tensor("blk.0.ffn_up_exps.bias", &[4, 2], 0, 256).data(256 + 32)
        }),
        ("one value a layer", {
            let raw = Raw::new_arch("x").array("x.expert_count", 4, 2, &[0, 0, 0, 0, 8, 0, 0, 0]);
            raw.array("x.rope.freq_base", 6, 1, &1e4f32.to_le_bytes())
        }),
        ("layers without tensors, elsewhere", {
            Raw::new_arch("deci").u32("deci.block_count", 3).tensor("blk.0.attn_norm.weight", &[8], 0, 0).data(32)
        }),
    ];
    for (name, raw) in sound {
        let path = put(dir.path(), "model.gguf", &raw.bytes());
        let ended = inspect(&path);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{name}");
    }
}
