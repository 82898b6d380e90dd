//! Whether the chat template of a file writes the prompts that its family writes.
//!
//! A template is a program from outside. Its steps and its output are limited where it runs, but not
//! the memory of what it builds on the way, so `inspect` runs it in a process of its own, under the
//! system's limits: this program again, by a command that the help does not show.

use super::output::answer;
use crate::chat::{Agreement, Family, FileTemplate, SpecialTokens};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::{Command, Stdio};

/// Try a chat template, given on stdin
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What the other process is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) template: String,
    pub(super) family: String,
    pub(super) bos: String,
    pub(super) eos: String,
    pub(super) special_tokens: Vec<String>,
}

/// Address space of the process in KiB: the program itself takes a hundredth of it.
const MEMORY_KIB: u32 = 1 << 20;
const CPU_SECONDS: u32 = 5;

/// Whether template and family agree.
#[derive(Serialize, Deserialize)]
pub(super) struct Verdict {
    /// `None`: that could not be found out.
    pub(super) agrees: Option<bool>,
    pub(super) text: String,
}

impl Verdict {
    pub(super) fn unknown(text: impl Into<String>) -> Verdict {
        Verdict { agrees: None, text: text.into() }
    }
}

pub(super) fn verdict(request: &Request) -> Verdict {
    match try_elsewhere(request) {
        Ok(Some(verdict)) => verdict,
        Ok(None) => Verdict::unknown("the file's chat template takes more memory or time than it may"),
        Err(error) => Verdict::unknown(format!("the file's chat template could not be tried: {error}")),
    }
}

/// `None` if the limits ended the other process: it dies of a signal then.
fn try_elsewhere(request: &Request) -> std::io::Result<Option<Verdict>> {
    let limits =
        format!("ulimit -v {MEMORY_KIB} && ulimit -t {CPU_SECONDS} && ulimit -c 0 && exec \"$0\" template-check");
    let mut child = Command::new("/bin/sh")
        .args(["-c", &limits])
        .arg(std::env::current_exe()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(&serde_json::to_vec(request)?));
    let output = child.wait_with_output()?;
    match output.status.code() {
        None => Ok(None),
        Some(0) => {
            written.transpose()?;
            Ok(Some(serde_json::from_slice(&output.stdout)?))
        }
        Some(code) => Err(std::io::Error::other(format!("trying it ended with exit code {code}"))),
    }
}

/// The other process.
pub(super) fn run() -> anyhow::Result<()> {
    let request: Request = serde_json::from_reader(std::io::stdin().lock())?;
    let family: Family = request.family.parse()?;
    let all: Vec<&str> = request.special_tokens.iter().map(String::as_str).collect();
    let tokens = SpecialTokens { bos: &request.bos, eos: &request.eos, all: &all };
    let verdict = match FileTemplate::new(&request.template, tokens) {
        Err(error) => Verdict::unknown(error.to_string()),
        Ok(template) => {
            let agreement = template.agrees_with(family);
            let agrees = match agreement {
                Agreement::Same => Some(true),
                Agreement::Different { .. } => Some(false),
                Agreement::Failed(_) => None,
            };
            Verdict { agrees, text: agreement.to_string() }
        }
    };
    Ok(answer(&serde_json::to_vec(&verdict)?)?)
}
