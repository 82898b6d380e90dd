//! `cachalot sessions`: chats that were kept.

use super::output::{FileText, Table, answer, json, message};
use super::size;
use crate::exit::Unwritable;
use crate::session::{Store, StoreError, Summary, export};
use crate::text::Clipped;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Show and remove chats that were kept
///
/// A session is named by its id, the beginning of it or of its last word, as far as that means one; `latest` is the
/// one that was changed last.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The folder of sessions [default: cachalot/sessions in $XDG_STATE_HOME, or in ~/.local/state]
    #[arg(long, value_name = "DIR", global = true)]
    folder: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cachalot sessions list
  cachalot sessions show latest > chat.md
  cachalot sessions show latest --json | jq .messages
  cachalot sessions rm k3f9";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, the one that was changed last first
    List {
        /// An array of objects
        #[arg(long)]
        json: bool,
    },
    /// Print a session, as Markdown
    Show {
        #[arg(value_name = "ID")]
        which: String,
        /// As JSON, with all its branches
        #[arg(long, conflicts_with = "markdown")]
        json: bool,
        /// As Markdown, which is the default
        #[arg(long)]
        markdown: bool,
    },
    /// Remove sessions, with what is cached of them
    Rm {
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        which: Vec<String>,
        /// All that there are
        #[arg(long)]
        all: bool,
    },
    /// Print where they are: the folder, or the file of a session
    Path {
        #[arg(value_name = "ID")]
        which: Option<String>,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let store = Store::open(args.folder.as_deref())?;
    match &args.action {
        Action::List { json } => list(&store, *json),
        Action::Show { which, json, .. } => show(&store, which, *json),
        Action::Rm { which, .. } => remove(&store, which),
        Action::Path { which } => {
            let path = match which {
                Some(which) => store.path(&store.resolve(which)?),
                None => store.folder().to_owned(),
            };
            print(format!("{}\n", path.display()).as_bytes())
        }
    }
}

fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let listing = store.list()?;
    for error in &listing.damaged {
        message(&error.to_string());
    }
    if as_json {
        return Ok(json(&listing.sessions.iter().map(object).collect::<Vec<_>>())?);
    }
    if listing.sessions.is_empty() {
        message(&StoreError::Empty.to_string());
        return Ok(());
    }
    let mut table = Table::new(&["session", "changed", ">messages", ">size", "title"]);
    for summary in &listing.sessions {
        table.row([
            summary.id.to_string(),
            local(summary.updated),
            summary.n_turns.to_string(),
            size::binary(summary.bytes + summary.snapshot_bytes),
            Clipped(&summary.title).to_string(),
        ]);
    }
    Ok(answer(table.render("").as_bytes())?)
}

fn object(summary: &Summary) -> Value {
    json!({
        "id": summary.id.as_str(),
        "title": summary.title,
        "model": { "path": summary.model.path, "name": summary.model.name },
        "messages": summary.n_turns,
        "created": summary.created,
        "updated": summary.updated,
        "bytes": summary.bytes,
        "snapshot_bytes": summary.snapshot_bytes,
    })
}

fn show(store: &Store, which: &str, as_json: bool) -> anyhow::Result<()> {
    let loaded = store.read(which)?;
    if let Some(note) = &loaded.note {
        message(note);
    }
    match as_json {
        true => Ok(json(&export::json(&loaded.transcript))?),
        false => print(export::markdown(&loaded.transcript).as_bytes()),
    }
}

/// Removes what can be removed; the last error decides how it ends, the others are shown.
fn remove(store: &Store, which: &[String]) -> anyhow::Result<()> {
    let ids = match which {
        [] => store.ids()?.into_iter().collect(),
        // All names first, so that none is removed where another is mistyped.
        names => names.iter().map(|name| store.resolve(name)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut failed = None;
    for id in ids {
        if let Err(error) = store.remove(&id)
            && let Some(earlier) = failed.replace(error)
        {
            message(&earlier.to_string());
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// On a terminal with what would steer it escaped.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = FileText::new();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Unwritable)?;
    Ok(())
}

fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}
