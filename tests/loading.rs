//! How weights come into memory: mapped and read ahead, copied, locked.

mod support;

use cachalot::engine::{Engine, Event, Loading, OpenError, Options, Request, read_through};
use cachalot::gguf::{Gguf, Problem};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use support::parity::unpack_model;
use support::{Ended, cachalot, program};

const QUESTION: [&str; 4] = ["-p", "What is 17 + 25?", "-c", "512"];

fn demo() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.gguf").display().to_string()
}

/// Drops a file from the page cache, as far as the file system does that.
fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn answers_are_the_same_however_weights_are_loaded() {
    for (flags, says) in [
        (&["-v"][..], "in the page cache,"),
        (&["-v", "--no-mmap"], "copied into memory,"),
        (&["-v", "--mlock"], "in the page cache, locked there,"),
        (&["-v", "--mlock", "--no-mmap"], "copied into memory and locked there,"),
    ] {
        let ended = cachalot(&[&["run", "-m", &demo()], &QUESTION[..], flags].concat());
        // The limit of locked memory may be too low here for 7.8 MB.
        if ended.code == Some(75) && flags.contains(&"--mlock") {
            assert!(ended.stderr.contains("ulimit -l"), "{}", ended.stderr);
            continue;
        }
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{flags:?}: {}", ended.stderr);
    }
}

#[test]
fn every_command_that_loads_says_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "Some words, and some more of them. ".repeat(40)).unwrap();
    let (text, demo) = (text.to_str().unwrap(), demo());
    for args in [
        &["fim", "-m", &demo, "-v", "--prefix", "a", "--suffix", "b", "-n", "1"][..],
        &["perplexity", &demo, text, "-v", "-c", "64", "--chunks", "1"],
        &["bench", &demo, "-v", "-p", "4", "-n", "1", "-d", "0", "-r", "1", "--bandwidth", "10"],
    ] {
        let ended = cachalot(args);
        assert!(ended.code == Some(0) && ended.stderr.contains("plan: all on the CPU"), "{args:?}: {}", ended.stderr);
    }
}

/// The limit holds for whoever is not root, who may lock what is there.
#[test]
fn a_limit_of_locked_memory_is_said_with_what_raises_it() {
    let mut shell = Command::new("sh");
    let script = "ulimit -l 64 && exec \"$@\"";
    let args = [&["-c", script, "sh", env!("CARGO_BIN_EXE_cachalot"), "run", "-m", &demo(), "--mlock"], &QUESTION[..]];
    support::isolate(&mut shell);
    let ended = support::run(shell.args(args.concat()));
    if rustix::process::geteuid().is_root() {
        assert!(ended.code == Some(0) || ended.stderr.contains("ulimit -l"), "{}", ended.stderr);
    } else {
        assert_eq!(ended.code, Some(75), "{}", ended.stderr);
        for says in ["demo.gguf: 7 MB cannot be locked", "at most 65 kB", "ulimit -l unlimited", "limits.conf"] {
            assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
        }
    }
}

/// What becomes of the file is nothing to a model that was copied.
#[test]
fn a_copied_model_does_not_need_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpack_model("parity/v3.gguf", folder.path());
    let loading = Loading { copy: true, ..Loading::default() };
    let seen = AtomicU64::new(0);
    let watch = |so_far: cachalot::engine::ReadSoFar| {
        seen.fetch_max(so_far.done, Ordering::Relaxed);
        assert!(so_far.done <= so_far.total);
    };
    let options = Options { n_ctx: Some(256), n_threads: Some(1), loading, ..Options::default() };
    let engine = Engine::open_watched(&path, &options, &watch).unwrap();
    assert_eq!(seen.into_inner(), fs::metadata(&path).unwrap().len());
    fs::write(&path, "").unwrap();
    let generation =
        engine.generate(Request { prompt: vec![1, 2, 3], max_tokens: Some(2), ..Request::default() }).unwrap();
    let end = std::iter::repeat_with(|| generation.next_event())
        .find(|event| matches!(event, Event::Finished(_) | Event::Failed(_)));
    assert!(matches!(end, Some(Event::Finished(_))), "{end:?}");
}

#[test]
fn a_file_that_is_cut_short_while_it_is_copied_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpack_model("parity/v3.gguf", folder.path());
    let mut gguf = Gguf::open(&path).unwrap();
    let len = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(len - 1).unwrap();
    let error = gguf.copy(&|_| true).unwrap_err();
    assert!(matches!(error.problem, Problem::Unreadable(_)) && error.path == path, "{error}");
    // One in which another has taken its place has another header.
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    bytes[40] ^= 1;
    let other = folder.path().join("other");
    fs::write(&other, &bytes).unwrap();
    fs::rename(other, &path).unwrap();
    let error = gguf.copy(&|_| true).unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
}

#[test]
fn filling_brings_all_of_a_model_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpack_model("parity/v3.gguf", folder.path());
    evict(&path);
    let gguf = Gguf::open(&path).unwrap();
    let read = AtomicU64::new(0);
    gguf.fill(&|n| read.fetch_add(n, Ordering::Relaxed) < u64::MAX).unwrap();
    assert_eq!(gguf.n_resident_bytes(), gguf.n_bytes());
    // The system may have read some of it ahead, by itself.
    assert!(read.into_inner() <= gguf.n_bytes());
    // What is there is not read again.
    gguf.fill(&|_| panic!("it was all there")).unwrap();
}

#[test]
fn a_part_of_a_file_is_read_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let seen = AtomicU64::new(0);
    let done = |block: &std::ops::Range<u64>| seen.fetch_add(block.end - block.start, Ordering::Relaxed) < u64::MAX;
    read_through(&File::open(&path).unwrap(), 10..50_000, |_| false, done).unwrap();
    assert_eq!(seen.into_inner(), 49_990);
}

/// More weights than memory: they can be mapped, and not copied.
#[test]
fn weights_without_room_are_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        support::models::write_holes(&support::models::V3, &folder.path().join("v3.gguf"), cachalot::gguf::Split::None);
    let loading = Loading { copy: true, ..Loading::default() };
    let error = Engine::open(&path[0], &Options { n_ctx: Some(256), loading, ..Options::default() }).err().unwrap();
    assert!(matches!(error, OpenError::NoRoomForWeights { .. }), "{error}");
    let ended = cachalot(&["run", "-m", path[0].to_str().unwrap(), "-c", "256", "--no-mmap", "-p", "x"]);
    assert_eq!(ended.code, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("without --no-mmap") && ended.stderr.contains("cachalot plan"), "{}", ended.stderr);
}

/// GPUs that something is to lie on and that are not there are an error that says why; otherwise nothing needs them.
#[test]
fn without_a_gpu_the_cpu_computes_unless_one_is_asked_for() {
    let run = |flags: &[&str]| {
        let demo = demo();
        let mut command = program();
        // Where there are GPUs, they are hidden.
        command.env("CUDA_VISIBLE_DEVICES", "-1").args(["run", "-m", &demo]).args(QUESTION).args(flags);
        support::run(&mut command)
    };
    for flags in [&[][..], &["--gpu-layers", "0"], &["--gpu-layers", "0", "--pin", "head=gpu0"]] {
        let ended = run(flags);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"), "{flags:?}: {}", ended.stderr);
    }
    let says_why = |ended: &Ended| {
        ["without CUDA", "no NVIDIA driver", "finds no GPU"].iter().any(|why| ended.stderr.contains(why))
    };
    for flags in [&["--vram", "20G"], &["--pin", "blk.*=gpu0"]] {
        let ended = run(flags);
        assert!(ended.code == Some(1) && ended.stdout.is_empty() && says_why(&ended), "{flags:?}: {}", ended.stderr);
    }
    // A number of layers is as many as can be.
    for flags in [&["--gpu-layers", "99"][..], &["-ngl", "99"], &["-ngl", "all", "-cmoe"], &["--n-gpu-layers", "-1"]] {
        let ended = run(flags);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"), "{flags:?}: {}", ended.stderr);
        let said = ended.stderr.matches("the CPU computes alone").count();
        assert!(said == 1 && says_why(&ended), "{flags:?}: {}", ended.stderr);
    }
    assert_eq!(run(&["-ngl", "99", "-q"]).stderr, "");
    assert_eq!(run(&["--n-cpu-moe", "3", "--pin", "head=ram"]).stderr, "");
}
