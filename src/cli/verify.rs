//! `cachalot verify`: whether a model's files are what was published.

use super::named::{FolderOption, reference};
use super::output::message;
use super::size;
use super::transfer::Transfer;
use crate::catalog::{Error, Event, Finding, Hub, MAIN, Plan, Pulled, PulledFile, Reference, reopen, verify};
use crate::model::{Detail, ModelFile};
use std::path::{Path, PathBuf};

/// Hold a model's files against their hashes
///
/// SHA-256 of every file against what the hub said when it was pulled, and what the GGUF files say of themselves.
/// The exit code is 65 where a file is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A name as `list` shows it, or a file or folder
    #[arg(value_name = "MODEL|PATH")]
    model: PathBuf,
    /// Fetch again what is damaged or missing: of files that were pulled, the damaged chunks alone
    #[arg(long)]
    repair: bool,
    /// Take the hashes from the hub, for files that came here another way
    #[arg(long, value_name = "hf:OWNER/REPO:QUANT")]
    against: Option<String>,
    #[command(flatten)]
    folder: FolderOption,
    /// Say nothing but what is wrong
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot verify deepseek-v3-0324:Q2_K_XL
  cachalot verify ~/models/model.gguf";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let pulled = find(args)?;
    let files: Vec<&PulledFile> = pulled.manifest.files.iter().collect();
    let transfer = Transfer::new(&files, args.quiet);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let findings = verify(&pulled, threads, &|file, bytes| transfer.note(Event::Received { file, bytes }));
    transfer.finish();
    let n_wrong = report(&pulled, &findings, args.quiet);
    if n_wrong == 0 {
        return structure(&pulled, args.quiet);
    }
    if !args.repair {
        let n_files = findings.len();
        return Err(Error::Damaged { name: args.model.display().to_string(), n_wrong, n_files }.into());
    }
    let hub = Hub::from_environment(message)?;
    reopen(&pulled, &findings)?;
    let plan = Plan::again(&hub, pulled)?;
    let transfer = Transfer::new(&plan.missing(), args.quiet);
    let guard = transfer.guard("what has come is kept; `cachalot pull` goes on with it");
    let repaired = plan.run(4, &|event| transfer.note(event));
    drop(guard);
    transfer.finish();
    structure(&repaired?, args.quiet)
}

/// The model that is meant, with hashes: those of its pull, or of the hub.
fn find(args: &Args) -> anyhow::Result<Pulled> {
    let store = args.folder.store()?;
    let name = args.model.to_str().filter(|name| !Path::new(name).exists());
    if let (Some(name), None) = (name, &args.against)
        && let Some(reference) = Reference::parse(name)?
    {
        return Ok(store.find(&reference)?);
    }
    let folder = folder_of(&args.model)?;
    if let Some(against) = &args.against {
        let hub = Hub::from_environment(message)?;
        return Ok(Plan::for_folder(&hub, &reference(against)?, MAIN, folder)?);
    }
    if let Some(pulled) = Pulled::at(folder)? {
        return Ok(pulled);
    }
    // What can be said without hashes.
    sound(&args.model)?;
    Err(Error::NoHashes(args.model.clone()).into())
}

/// Where a model's files are.
fn folder_of(path: &Path) -> Result<&Path, Error> {
    let found = std::fs::metadata(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
    match path.parent() {
        _ if found.is_dir() => Ok(path),
        Some(folder) if !folder.as_os_str().is_empty() => Ok(folder),
        _ => Ok(Path::new(".")),
    }
}

/// Says what is the matter with each file; returns how many are not sound.
fn report(pulled: &Pulled, findings: &[Finding], is_quiet: bool) -> usize {
    for (file, finding) in pulled.manifest.files.iter().zip(findings) {
        let path = pulled.path_of(file);
        let text = match finding {
            Finding::Sound if is_quiet => continue,
            Finding::Sound => "sound".to_owned(),
            Finding::Missing => "missing".to_owned(),
            Finding::Unreadable(error) => format!("cannot be read: {error}"),
            Finding::Damaged { found, .. } if *found != file.size => {
                format!("damaged: it has {} bytes in place of {}", size::exact(*found), size::exact(file.size))
            }
            Finding::Damaged { ranges, .. } if ranges.is_empty() => {
                "damaged, or another file: its SHA-256 is not the one that was published".to_owned()
            }
            Finding::Damaged { ranges, .. } => {
                let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                let places: Vec<String> =
                    ranges.iter().take(5).map(|range| format!("{}..{}", range.start, range.end)).collect();
                let more = if ranges.len() > 5 { ", …" } else { "" };
                format!("damaged in {}, at bytes {}{more}", size::binary(bytes), places.join(", "))
            }
        };
        message(&format!("{}: {text}", path.display()));
    }
    findings.iter().filter(|finding| !finding.is_sound()).count()
}

/// Whether the files are what they must be among themselves.
fn structure(pulled: &Pulled, is_quiet: bool) -> anyhow::Result<()> {
    sound(&pulled.first())?;
    if !is_quiet {
        message(&format!("{} is as it was published", pulled.name()));
    }
    Ok(())
}

fn sound(path: &Path) -> anyhow::Result<()> {
    Ok(ModelFile::open(path)?.inspect(Detail { tensors: false, metadata: false }).sound(path)?)
}
