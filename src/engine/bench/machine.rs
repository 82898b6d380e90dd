//! What this machine is, and how fast it reads its memory.

use crate::engine::available_bytes;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The CPU's name for itself.
pub fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "model name")?;
    Some(name.trim().to_owned())
}

/// Bytes a second that `n_threads` threads read from memory together: the best of several passes over
/// memory that no cache holds.
pub fn read_bandwidth(n_threads: usize) -> f64 {
    const ENOUGH: Duration = Duration::from_secs(1);
    const AT_LEAST: usize = 5;
    let n_words = buffer_bytes() / size_of::<u64>() / n_threads.max(1);
    let (pass, is_over) = (Barrier::new(n_threads + 1), AtomicBool::new(false));
    // Threads take the time themselves: whoever waits for them may be woken late, and see less of it.
    let times = Mutex::new(Vec::with_capacity(n_threads));
    let read_part = || {
        // Each thread fills its own part, so that it lies in the memory next to it.
        let words: Vec<u64> = (0..n_words as u64).collect();
        loop {
            pass.wait();
            if is_over.load(Ordering::SeqCst) {
                return;
            }
            let start = Instant::now();
            black_box(sum(black_box(&words)));
            times.lock().unwrap_or_else(PoisonError::into_inner).push((start, Instant::now()));
            pass.wait();
        }
    };
    let best = thread::scope(|scope| {
        (0..n_threads).for_each(|_| drop(scope.spawn(read_part)));
        let (mut best, mut spent, mut passes) = (Duration::MAX, Duration::ZERO, 0);
        while passes < AT_LEAST || spent < ENOUGH {
            pass.wait();
            pass.wait();
            let time = from_first_to_last(&std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner)));
            (best, spent, passes) = (best.min(time), spent + time, passes + 1);
        }
        is_over.store(true, Ordering::SeqCst);
        pass.wait();
        best
    });
    (n_words * size_of::<u64>() * n_threads) as f64 / best.as_secs_f64()
}

fn from_first_to_last(times: &[(Instant, Instant)]) -> Duration {
    let first = times.iter().map(|(start, _)| *start).min();
    let last = times.iter().map(|(_, end)| *end).max();
    first.zip(last).map_or(Duration::MAX, |(first, last)| last - first)
}

/// Many times the largest caches there are, or an eighth of the memory that is free where that is less.
fn buffer_bytes() -> usize {
    const WANTED: usize = 2 << 30;
    available_bytes().and_then(|bytes| usize::try_from(bytes / 8).ok()).map_or(WANTED, |bytes| bytes.min(WANTED))
}

/// Sixteen sums side by side, so that no load waits for an addition.
fn sum(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<16>();
    let mut sums = [0u64; 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    sums.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
    }
}
