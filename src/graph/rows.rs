//! Rows of the cache out of it and back again, as bytes: what was computed for a sequence can leave the program
//! and return. Streams them: no second copy of the cache is made.
//!
//! Keys are stored turned by their positions, so that rows come back at the positions from which they were taken.
//! What the bytes are part of, and whether they belong to this model, is the caller's to know.

use super::cells::Seq;
use super::forward::Forward;
use crate::ggml::StoreError;
use crate::model::first_bad_block;
use std::io::{self, Read, Write};

#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the sequence has no token at position {0}")]
    NoToken(usize),
    #[error("the sequence has tokens already")]
    Taken,
    #[error("{n} tokens, but only {free} of {n_ctx} are free")]
    Full { n: usize, free: usize, n_ctx: usize },
    #[error("layer {layer} holds numbers that are not finite")]
    NotFinite { layer: usize },
    #[error("the cache cannot be reached: {0}")]
    Store(#[from] StoreError),
}

/// Bytes that are moved at a time.
const BUFFER_BYTES: usize = 1 << 20;

impl Forward {
    /// Bytes of a token in the cache of one layer.
    pub fn row_bytes(&self) -> usize {
        self.cache.row_bytes
    }

    /// Writes the rows of the first `n` tokens of a sequence: layer by layer, in the order of their positions.
    pub fn write_rows(&self, seq: Seq, n: usize, out: &mut dyn Write) -> Result<(), RowsError> {
        let cells = self.cells_of_first(seq, n)?;
        let row = self.cache.row_bytes;
        let mut buffer = vec![0; self.rows_at_once() * row];
        for id in &self.cache.layers {
            for (first, n_rows) in runs(&cells, self.rows_at_once()) {
                let bytes = &mut buffer[..n_rows * row];
                self.cache.store.read(*id, first * row, bytes)?;
                out.write_all(bytes)?;
            }
        }
        Ok(())
    }

    /// Gives a sequence that has no tokens its first `n`: reads layers of `n_stored` rows each, of which the first
    /// `n` are taken. If it fails the sequence stays empty.
    pub fn read_rows(&mut self, seq: Seq, n: usize, n_stored: usize, input: &mut dyn Read) -> Result<(), RowsError> {
        if self.cache.n_tokens(seq) > 0 {
            return Err(RowsError::Taken);
        }
        let (free, n_ctx) = (self.n_free(), self.options().n_ctx);
        let cells = self.cache.cells.find_free(n).ok_or(RowsError::Full { n, free, n_ctx })?;
        let end = self.cache.n_kv(cells.last().map_or(0, |last| last + 1));
        self.cache.touch(&mut self.cpu, end)?;
        let row = self.cache.row_bytes;
        let mut buffer = vec![0; self.rows_at_once() * row];
        for (layer, id) in self.cache.layers.iter().enumerate() {
            for (first, n_rows) in runs(&cells, self.rows_at_once()) {
                let bytes = &mut buffer[..n_rows * row];
                input.read_exact(bytes)?;
                // Also a cell that nobody sees must hold numbers.
                if first_bad_block(self.cache.ty, bytes).is_some() {
                    return Err(RowsError::NotFinite { layer });
                }
                self.cpu.put(&self.cache.store, *id, first * row, bytes)?;
            }
            skip(input, n_stored.saturating_sub(n), row, &mut buffer)?;
        }
        for (position, cell) in (0..).zip(cells) {
            self.cache.cells.place(cell, seq, position);
        }
        Ok(())
    }

    fn cells_of_first(&self, seq: Seq, n: usize) -> Result<Vec<usize>, RowsError> {
        let mut cells = vec![None; n];
        for (cell, position) in self.cache.cells.of(seq) {
            if let Some(place) = usize::try_from(position).ok().and_then(|position| cells.get_mut(position)) {
                *place = Some(cell);
            }
        }
        let cells = cells.into_iter().enumerate();
        cells.map(|(position, cell)| cell.ok_or(RowsError::NoToken(position))).collect()
    }

    fn rows_at_once(&self) -> usize {
        (BUFFER_BYTES / self.cache.row_bytes).max(1)
    }
}

/// Stretches of neighbouring cells, as (first, how many), none longer than `max`.
fn runs(cells: &[usize], max: usize) -> impl Iterator<Item = (usize, usize)> {
    let neighbours = cells.chunk_by(|a, b| *b == a + 1);
    neighbours.flat_map(move |run| run.chunks(max)).map(|run| (run[0], run.len()))
}

/// Reads rows that nobody wants.
fn skip(input: &mut dyn Read, mut n_rows: usize, row: usize, buffer: &mut [u8]) -> io::Result<()> {
    while n_rows > 0 {
        let n = n_rows.min(buffer.len() / row);
        input.read_exact(&mut buffer[..n * row])?;
        n_rows -= n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_moved_together() {
        let found: Vec<_> = runs(&[4, 5, 6, 2, 3, 9], 2).collect();
        assert_eq!(found, [(4, 2), (6, 1), (2, 2), (9, 1)]);
        assert_eq!(runs(&[], 2).count(), 0);
    }
}
