//! llama-bench, on the same file with the same lengths.
//!
//! It is told what it must be told to measure the same; what its user adds comes last and replaces what is
//! said here by default.

use crate::cli::interrupt;
use crate::engine::Info;
use crate::engine::bench::Test;
use crate::exit::{BadInput, CannotRun, Interrupted};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub(super) struct Peer {
    program: PathBuf,
    args: Vec<String>,
}

/// The peer ran, and did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("{program}: {status}: {stderr}")]
    Failed { program: String, status: String, stderr: String },
    #[error("{program}: its output cannot be read: {fault}; on stderr: {stderr}")]
    Output { program: String, fault: String, stderr: String },
}

/// What the peer says of one test.
#[derive(Debug, Deserialize)]
struct Row {
    n_prompt: usize,
    n_gen: usize,
    /// Versions that know no depth measure at 0.
    #[serde(default)]
    n_depth: usize,
    samples_ns: Vec<u64>,
}

/// What this program decides, in the peer's words.
const DECIDED: [&[&str]; 8] = [
    &["-m", "--model"],
    &["-p", "--n-prompt"],
    &["-n", "--n-gen"],
    &["-pg"],
    &["-d", "--n-depth"],
    &["-r", "--repetitions"],
    &["-o", "--output"],
    &["-oe", "--output-err"],
];

impl Peer {
    /// `args`: more flags for the peer, split as a shell splits them.
    pub(super) fn find(program: &Path, args: &str) -> anyhow::Result<Peer> {
        let wrong = |text: String| BadInput::Argument(format!("--against-args: {text}"));
        let args = shlex::split(args).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
        let is_decided = |arg: &&String| DECIDED.iter().any(|names| names.contains(&arg.as_str()));
        if let Some(arg) = args.iter().find(is_decided) {
            return Err(wrong(format!("{arg} is set by bench itself")).into());
        }
        let peer = Peer { program: program.to_owned(), args };
        // Better now than after our own measurements.
        let mut help = Command::new(&peer.program);
        help.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        help.status().map_err(|error| CannotRun { program: program.to_owned(), error })?;
        Ok(peer)
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn args(&self) -> &[String] {
        &self.args
    }

    /// Its name without the folder.
    pub(super) fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// Times the tests, which are all of prompts or all of generation.
    pub(super) fn measure(&self, info: &Info, tests: &[Test], n: usize) -> anyhow::Result<Vec<Vec<Duration>>> {
        let file = info.first_file.as_ref().ok_or_else(|| {
            let name = info.path.display();
            let text = format!(
                "{name} is no file, which --against needs: write one with `cachalot quantize {name} OUT --mix Q8_0`"
            );
            BadInput::Argument(text)
        })?;
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(file).args(["-r", &n.to_string(), "-o", "json"]);
        command.args(lengths(tests)).args(self.defaults(info)).args(&self.args).stdin(Stdio::null());
        let output = self.output(command)?;
        let (program, stderr) = (self.name(), last_lines(&output.stderr));
        if !output.status.success() {
            return Err(PeerError::Failed { program, status: output.status.to_string(), stderr }.into());
        }
        let read = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string());
        let times = read.and_then(|rows: Vec<Row>| tests.iter().map(|test| times(&rows, *test)).collect());
        times.map_err(|fault| PeerError::Output { program, fault, stderr }.into())
    }

    /// Runs the peer to its end. A signal ends it too, with whatever it has started.
    fn output(&self, mut command: Command) -> anyhow::Result<Output> {
        let cannot_run = |error| CannotRun { program: self.program.clone(), error };
        // A group of its own, so that it can be ended as a whole.
        let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(cannot_run)?;
        let group = Pid::from_child(&child);
        let guard = interrupt::guard(move || {
            // One that has ended by itself is fine too.
            let _ = kill_process_group(group, Signal::KILL);
        });
        let output = child.wait_with_output().map_err(cannot_run);
        // What a peer says that was ended is not its fault.
        if guard.check().is_err() {
            return Err(Interrupted.into());
        }
        Ok(output?)
    }

    /// Our own settings, where the peer's user did not say otherwise.
    fn defaults(&self, info: &Info) -> Vec<String> {
        let settings = [
            ("-t", "--threads", info.n_threads.to_string()),
            ("-b", "--batch-size", info.n_batch.max(2048).to_string()),
            ("-ub", "--ubatch-size", info.n_batch.to_string()),
            ("-ctk", "--cache-type-k", info.cache_type.name().to_owned()),
            ("-ctv", "--cache-type-v", info.cache_type.name().to_owned()),
            ("-fa", "--flash-attn", u8::from(info.flash_attention).to_string()),
        ];
        let is_said = |name: &str| self.args.iter().any(|arg| arg == name);
        let unsaid = settings.into_iter().filter(|(short, long, _)| !is_said(short) && !is_said(long));
        unsaid.flat_map(|(short, _, value)| [short.to_owned(), value]).collect()
    }
}

/// The flags for what is measured.
fn lengths(tests: &[Test]) -> Vec<String> {
    let list = |of: &dyn Fn(&Test) -> usize| tests.iter().map(|t| of(t).to_string()).collect::<Vec<_>>().join(",");
    let (prompt, generate) = match tests.first() {
        Some(Test::Generation { n, .. }) => ("0".to_owned(), n.to_string()),
        _ => (list(&|test| test.n()), "0".to_owned()),
    };
    let mut flags = vec!["-p".to_owned(), prompt, "-n".to_owned(), generate];
    if tests.iter().any(|test| test.depth() > 0) {
        flags.extend(["-d".to_owned(), list(&|test| test.depth())]);
    }
    flags
}

/// What the peer measured of a test: once, or its flags have several values.
fn times(rows: &[Row], test: Test) -> Result<Vec<Duration>, String> {
    let wanted = match test {
        Test::Prompt { n } => (n, 0, 0),
        Test::Generation { n, depth } => (0, n, depth),
    };
    let mut found = rows.iter().filter(|row| (row.n_prompt, row.n_gen, row.n_depth) == wanted);
    let title = super::report::title(test);
    match (found.next(), found.next()) {
        (Some(row), None) if !row.samples_ns.is_empty() => {
            Ok(row.samples_ns.iter().map(|ns| Duration::from_nanos(*ns)).collect())
        }
        (Some(_), Some(_)) => Err(format!("{title} is in it twice; flags may have one value each")),
        _ => Err(format!("{title} is not in it")),
    }
}

/// What a program last said, in one line.
fn last_lines(stderr: &[u8]) -> String {
    const LINES: usize = 4;
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "it said nothing".to_owned(),
        n => lines[n.saturating_sub(LINES)..].join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_the_peers_words() {
        let prompts = [Test::Prompt { n: 128 }, Test::Prompt { n: 512 }];
        assert_eq!(lengths(&prompts), ["-p", "128,512", "-n", "0"]);
        let generation = |depth| Test::Generation { n: 32, depth };
        assert_eq!(lengths(&[generation(0)]), ["-p", "0", "-n", "32"]);
        assert_eq!(lengths(&[generation(0), generation(64)]), ["-p", "0", "-n", "32", "-d", "0,64"]);
    }

    #[test]
    fn a_test_is_found_once_or_is_an_error() {
        let row = |n_gen, n_depth| Row { n_prompt: 0, n_gen, n_depth, samples_ns: vec![1_000] };
        let rows = [row(4, 0), row(4, 8), row(5, 0), row(5, 0)];
        let times = |n, depth| times(&rows, Test::Generation { n, depth });
        assert_eq!(times(4, 8), Ok(vec![Duration::from_micros(1)]));
        assert_eq!(times(4, 9), Err("generation 4 at 9 is not in it".to_owned()));
        assert_eq!(times(5, 0), Err("generation 5 is in it twice; flags may have one value each".to_owned()));
    }

    #[test]
    fn the_last_lines_are_what_counts() {
        assert_eq!(last_lines(b"a\nb\n\nc\nd\r\ne\n"), "b | c | d | e");
        assert_eq!(last_lines(b" \n"), "it said nothing");
    }
}
