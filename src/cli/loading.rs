//! What a user sees of a model's way into memory.

use super::output::message;
use super::size::decimal;
use crate::engine::{self, Info, Source, bench::machine::available_bytes};
use indicatif::{ProgressBar, ProgressStyle};

/// Less than this is quickly read as it is needed.
const WORTHWHILE: u64 = 256 << 20;

/// Reads what of a model's files is not in memory, if all of it has room, and shows how far that is. The first
/// answer would have to wait for it page by page.
pub(super) fn read_ahead(source: &Source, is_quiet: bool) -> anyhow::Result<()> {
    let pages = engine::resident(source)?;
    let missing = pages.bytes.saturating_sub(pages.resident);
    if missing < WORTHWHILE || pages.files.is_empty() {
        return Ok(());
    }
    if available_bytes().is_some_and(|available| pages.bytes > available as u64) {
        if !is_quiet {
            message(&format!(
                "{}: {} of weights are more than the memory there is: they are read from the disk again and again; \
                 `cachalot plan` says what would fit",
                source.name(),
                decimal(pages.bytes),
            ));
        }
        return Ok(());
    }
    let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new(pages.bytes) };
    let style = "reading {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let bar = bar.with_style(ProgressStyle::with_template(style)?);
    // It is only for speed: what cannot be read now is reported when it is needed.
    let _ = engine::read_ahead(&pages.files, &|n| bar.inc(n));
    bar.finish_and_clear();
    Ok(())
}

/// How much memory an open model takes, on stderr.
pub(super) fn explain(info: &Info) {
    let memory = &info.memory;
    let available = memory.available.map_or_else(|| "unknown".to_owned(), decimal);
    message(&format!(
        "plan: all on the CPU, {} threads; weights {} in the page cache, cache {} for {} tokens in {}, intermediate \
         results at most {}; {available} can be had",
        info.n_threads,
        decimal(memory.weights),
        decimal(memory.cache),
        info.n_ctx,
        info.cache_type.name(),
        decimal(memory.scratch),
    ));
    let without = memory.weights_without_room();
    if without > 0 {
        message(&format!("{} of weights have no room and are read from the disk again and again", decimal(without)));
    }
}
