//! How fast a model's files come from the disk, against a plain parallel read of the same files, in turns, each with
//! the files dropped from the page cache before:
//!
//! ```text
//! cachalot synth --like deepseek-v3 --layers 3 --vocab 8192 --mix IQ1_S -o a.gguf
//! cargo bench --bench load -- a.gguf
//! ```

use cachalot::engine::{Engine, Event, Loading, Options, Request};
use cachalot::gguf::Gguf;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// What a plain read asks for at once, and how many threads do: as `fio --bs=1m --numjobs=8`.
const BLOCK: u64 = 1 << 20;
const READERS: usize = 8;
const PROMPT: usize = 16;

/// What is measured, and the seconds that it takes.
type Way = (&'static str, fn(&Path) -> f64);

const WAYS: [Way; 6] = [
    ("plain parallel read", plain),
    ("read ahead (mapped)", ahead),
    ("copied (--no-mmap)", copied),
    ("first token, reading ahead beside", |path| first_token(path, Loading { read_ahead: true, ..Loading::default() })),
    ("first token, mapped alone", |path| first_token(path, Loading::default())),
    ("first token, copied before", |path| first_token(path, Loading { copy: true, ..Loading::default() })),
];

fn main() {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).filter(|path| path.exists()).collect();
    if paths.is_empty() {
        println!("load: name a model of some gigabytes: cargo bench --bench load -- FILE.gguf");
    }
    for path in paths {
        measure(&path);
    }
}

fn measure(path: &Path) {
    let gb = Gguf::open(path).expect("a model").n_bytes() as f64 / 1e9;
    let mut times = [const { Vec::new() }; WAYS.len()];
    for round in 0..ROUNDS {
        // No way is always the first, for what was done before may slow down what follows.
        for at in (0..WAYS.len()).map(|at| (at + round) % WAYS.len()) {
            evict(path);
            times[at].push(WAYS[at].1(path));
        }
    }
    println!("{}: {gb:.2} GB, best and median of {ROUNDS}, and the best against that of a plain read", path.display());
    // What disturbs a measurement makes it slower, never faster.
    let [best, medians] = [0, ROUNDS / 2].map(|at| {
        times.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[at]
        })
    });
    for (((name, _), best_time), median) in WAYS.iter().zip(best).zip(medians) {
        let (rate, part) = (gb / best_time, 100.0 * best[0] / best_time);
        println!("{name:<35} {best_time:6.2} s {median:6.2} s  {rate:5.2} GB/s  {part:4.0} %");
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    Gguf::open(path).expect("a model").shards().iter().map(|shard| shard.path().to_owned()).collect()
}

/// Nobody has the files mapped here, so that nothing of them stays.
fn evict(path: &Path) {
    for path in files(path) {
        let file = File::open(path).expect("a file");
        file.sync_all().expect("a disk");
        fadvise(&file, 0, None, Advice::DontNeed).expect("a file that is cached");
    }
    let gguf = Gguf::open(path).expect("a model");
    let (resident, all) = (gguf.n_resident_bytes(), gguf.n_bytes());
    assert!(resident < all / 20, "{resident} of {all} bytes stay in the page cache: another process has them mapped");
}

fn plain(path: &Path) -> f64 {
    let start = Instant::now();
    for path in files(path) {
        let (file, next) = (File::open(&path).expect("a file"), AtomicU64::new(0));
        let len = file.metadata().expect("a file").len();
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    let mut buffer = vec![0; BLOCK as usize];
                    loop {
                        let at = next.fetch_add(BLOCK, Ordering::Relaxed);
                        if at >= len {
                            return;
                        }
                        let n = BLOCK.min(len - at) as usize;
                        file.read_exact_at(&mut buffer[..n], at).expect("a disk");
                    }
                });
            }
        });
    }
    start.elapsed().as_secs_f64()
}

fn options(loading: Loading) -> Options {
    Options { n_ctx: Some(512), loading, ..Options::default() }
}

/// Until the model is open and all of it in memory.
fn ahead(path: &Path) -> f64 {
    let start = Instant::now();
    let engine = Engine::open(path, &options(Loading { read_ahead: true, ..Loading::default() })).expect("a model");
    while engine.reading().is_some_and(|reading| reading.so_far().is_some()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed().as_secs_f64()
}

fn copied(path: &Path) -> f64 {
    let start = Instant::now();
    let _engine = Engine::open(path, &options(Loading { copy: true, ..Loading::default() })).expect("a model");
    start.elapsed().as_secs_f64()
}

fn first_token(path: &Path, loading: Loading) -> f64 {
    let start = Instant::now();
    let engine = Engine::open(path, &options(loading)).expect("a model");
    let prompt = (0..PROMPT as u32).map(|n| 1000 + 37 * n).collect();
    let generation = engine.generate(Request { prompt, max_tokens: Some(1), ..Request::default() }).expect("a prompt");
    loop {
        match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) | Event::Piece(_) => {}
            Event::Finished(_) => return start.elapsed().as_secs_f64(),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
}
