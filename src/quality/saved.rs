//! The file that keeps what a model predicted, so that another model's predictions can be compared with it.
//!
//! All numbers are little-endian. The header is the magic, the version u32, then u32 each: tokens of the
//! vocabulary, tokens of a chunk, chunks. Each chunk is its tokens as they were computed, u32 each, and then
//! a row for each of the positions that [`Cut::Chunks`] scores:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | f64: −ln of the probability of the token that came |
//! | 4 | u32: the likeliest token |
//! | 4 | f32: the step of what follows |
//! | 2 a token of the vocabulary | u16: so many steps is its log-probability below the likeliest one's |
//!
//! 65,535 steps are the whole row, or [`Row::RANGE`] where it is wider: what is less likely than that has no
//! part in anything. A log-probability is so kept to within 0.00025, two bytes each.

use super::{Cut, Score};
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"CACHLOGP";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 24;
/// What a row has before its codes.
const ROW_HEAD: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("this is no file of saved logits")]
    Foreign,
    #[error("saved logits of version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("damaged: chunks of {n_ctx} tokens, {n_chunks} chunks and a vocabulary of {n_vocab} tokens")]
    Header { n_vocab: u32, n_ctx: u32, n_chunks: u32 },
    #[error("damaged or not complete: its header speaks of {expected} bytes, there are {actual}")]
    Length { expected: u64, actual: u64 },
    #[error("damaged: the token id {id} in chunk {chunk} is not in the vocabulary of {n_vocab}")]
    Token { id: u32, chunk: u32, n_vocab: u32 },
    #[error("damaged: row {row} of chunk {chunk}")]
    Row { row: usize, chunk: u32 },
}

/// What a file of saved logits is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub n_vocab: u32,
    /// Tokens of a chunk.
    pub n_ctx: u32,
    pub n_chunks: u32,
}

impl Header {
    pub fn cut(&self) -> Cut {
        Cut::Chunks(self.n_ctx as usize)
    }

    /// Bytes of the whole file.
    pub fn n_bytes(&self) -> u64 {
        let row = ROW_HEAD as u64 + 2 * u64::from(self.n_vocab);
        let chunk = (self.cut().scored().len() as u64).saturating_mul(row).saturating_add(4 * u64::from(self.n_ctx));
        chunk.saturating_mul(self.n_chunks.into()).saturating_add(HEADER_BYTES)
    }

    fn is_sensible(&self) -> bool {
        (Cut::MIN_LENGTH..=Cut::MAX_LENGTH).contains(&(self.n_ctx as usize)) && self.n_vocab > 0 && self.n_chunks > 0
    }
}

/// A row of logits, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub nll: f64,
    pub top: u32,
    step: f32,
    codes: Vec<u16>,
}

impl Row {
    /// Natural logarithms that a row covers at most.
    pub const RANGE: f32 = 32.0;

    /// Of a row of finite logits, and the token that came.
    pub fn of(logits: &[f32], target: u32) -> Row {
        let score = Score::of(logits, target);
        let max = logits.get(score.top as usize).copied().unwrap_or_default();
        let min = logits.iter().copied().fold(max, f32::min);
        let step = (max - min).min(Row::RANGE) / f32::from(u16::MAX);
        // The conversion ends at 65,535, and makes 0 of 0/0.
        let code = |x: &f32| ((max - x) / step).round() as u16;
        Row { nll: score.nll, top: score.top, step, codes: logits.iter().map(code).collect() }
    }

    /// ln of each token's probability, but for a summand that is the same for all.
    pub fn log_weights(&self) -> impl Iterator<Item = f64> {
        let step = -f64::from(self.step);
        self.codes.iter().map(move |code| step * f64::from(*code))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ROW_HEAD + 2 * self.codes.len());
        bytes.extend(self.nll.to_le_bytes());
        bytes.extend(self.top.to_le_bytes());
        bytes.extend(self.step.to_le_bytes());
        bytes.extend(self.codes.iter().flat_map(|code| code.to_le_bytes()));
        bytes
    }

    /// The row in these bytes, if there can be one such.
    fn from_bytes(bytes: &[u8], n_vocab: u32) -> Option<Row> {
        let (nll, rest) = bytes.split_first_chunk()?;
        let (top, rest) = rest.split_first_chunk()?;
        let (step, codes) = rest.split_first_chunk()?;
        let codes = codes.as_chunks().0.iter().map(|code| u16::from_le_bytes(*code)).collect();
        let row = Row {
            nll: f64::from_le_bytes(*nll),
            top: u32::from_le_bytes(*top),
            step: f32::from_le_bytes(*step),
            codes,
        };
        let is_sound = row.nll.is_finite() && row.nll >= 0.0 && row.top < n_vocab && (0.0..=1.0).contains(&row.step);
        is_sound.then_some(row)
    }
}

/// Writes a file: chunk by chunk its tokens and its rows.
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    pub fn new(mut out: W, header: Header) -> io::Result<Writer<W>> {
        out.write_all(&MAGIC)?;
        for number in [VERSION, header.n_vocab, header.n_ctx, header.n_chunks] {
            out.write_all(&number.to_le_bytes())?;
        }
        Ok(Writer(out))
    }

    pub fn tokens(&mut self, tokens: &[u32]) -> io::Result<()> {
        tokens.iter().try_for_each(|id| self.0.write_all(&id.to_le_bytes()))
    }

    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        self.0.write_all(&row.bytes())
    }

    pub fn into_inner(self) -> W {
        self.0
    }
}

/// Reads a file in its order, a row at a time: however long it is, that is all the memory it takes.
pub struct Reader<R> {
    input: R,
    header: Header,
    /// For messages, from 1; 0 before the first.
    chunk: u32,
    row: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the header of a file of `n_bytes`.
    pub fn new(mut input: R, n_bytes: u64) -> Result<Reader<R>, Error> {
        let mut bytes = [0; HEADER_BYTES as usize];
        // What is shorter than a header is no such file.
        if n_bytes < HEADER_BYTES {
            return Err(Error::Foreign);
        }
        input.read_exact(&mut bytes)?;
        let (magic, numbers) = bytes.split_at(MAGIC.len());
        let mut numbers = numbers.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number));
        let mut next = || numbers.next().unwrap_or_default();
        match next() {
            _ if magic != MAGIC => return Err(Error::Foreign),
            VERSION => {}
            other => return Err(Error::Version(other)),
        }
        let header = Header { n_vocab: next(), n_ctx: next(), n_chunks: next() };
        if !header.is_sensible() {
            let Header { n_vocab, n_ctx, n_chunks } = header;
            return Err(Error::Header { n_vocab, n_ctx, n_chunks });
        }
        match header.n_bytes() {
            expected if expected != n_bytes => Err(Error::Length { expected, actual: n_bytes }),
            _ => Ok(Reader { input, header, chunk: 0, row: 0 }),
        }
    }

    pub fn header(&self) -> Header {
        self.header
    }

    /// The tokens of the next chunk.
    pub fn tokens(&mut self) -> Result<Vec<u32>, Error> {
        (self.chunk, self.row) = (self.chunk.saturating_add(1), 0);
        let mut bytes = vec![0; 4 * self.header.n_ctx as usize];
        self.input.read_exact(&mut bytes)?;
        let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        let n_vocab = self.header.n_vocab;
        match ids.iter().find(|id| **id >= n_vocab) {
            Some(&id) => Err(Error::Token { id, chunk: self.chunk, n_vocab }),
            None => Ok(ids),
        }
    }

    /// The next row of the chunk.
    pub fn row(&mut self) -> Result<Row, Error> {
        self.row += 1;
        let mut bytes = vec![0; ROW_HEAD + 2 * self.header.n_vocab as usize];
        self.input.read_exact(&mut bytes)?;
        Row::from_bytes(&bytes, self.header.n_vocab).ok_or(Error::Row { row: self.row, chunk: self.chunk })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { n_vocab: 3, n_ctx: 8, n_chunks: 2 };

    fn file() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        for chunk in 0..2 {
            writer.tokens(&[chunk; 8]).unwrap();
            (0..3).for_each(|row| writer.row(&row_of(chunk, row)).unwrap());
        }
        writer.into_inner()
    }

    fn row_of(chunk: u32, row: u32) -> Row {
        Row::of(&[chunk as f32, row as f32, -40.0], 1)
    }

    type Chunk = (Vec<u32>, Vec<Row>);

    fn read(bytes: &[u8]) -> Result<Vec<Chunk>, Error> {
        let mut reader = Reader::new(bytes, bytes.len() as u64)?;
        let n_rows = reader.header().cut().scored().len();
        (0..reader.header().n_chunks)
            .map(|_| Ok((reader.tokens()?, (0..n_rows).map(|_| reader.row()).collect::<Result<_, _>>()?)))
            .collect()
    }

    #[test]
    fn comes_back_as_it_went() {
        let bytes = file();
        assert_eq!(bytes.len() as u64, HEADER.n_bytes());
        let expected = [0, 1].map(|chunk| (vec![chunk; 8], (0..3).map(|row| row_of(chunk, row)).collect::<Vec<_>>()));
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn log_probabilities_keep_their_digits() {
        let logits: Vec<f32> = (0..1000u16).map(|n| f32::from(n * 37 % 1009) / 50.0).collect();
        let row = Row::of(&logits, 0);
        let max = logits.iter().copied().fold(0.0, f32::max);
        for (kept, logit) in row.log_weights().zip(&logits) {
            assert!((kept - f64::from(logit - max)).abs() < 2e-4);
        }
        // All alike, and wider than the range.
        assert!(Row::of(&[2.0; 5], 0).log_weights().all(|x| x == 0.0));
        let wide: Vec<f64> = Row::of(&[100.0, 99.0, -3e38], 0).log_weights().collect();
        assert!((wide[1] + 1.0).abs() < 3e-4 && (wide[2] + 32.0).abs() < 1e-3, "{wide:?}");
    }

    #[test]
    fn every_truncation_is_found() {
        let bytes = file();
        for n in 0..bytes.len() {
            let error = read(&bytes[..n]).unwrap_err();
            assert!(matches!(error, Error::Foreign | Error::Length { .. }), "{n}: {error}");
        }
        assert!(matches!(read(&[&bytes[..], &[0]].concat()), Err(Error::Length { .. })));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let changed = |at: usize, new: &[u8]| {
            let mut bytes = file();
            bytes[at..at + new.len()].copy_from_slice(new);
            read(&bytes).unwrap_err().to_string()
        };
        let row = 24 + 4 * 8;
        for (at, new, message) in [
            (0, &b"GGUF"[..], "this is no file of saved logits"),
            (8, &[9], "saved logits of version 9; this program knows version 1"),
            (12, &[0], "damaged: chunks of 8 tokens, 2 chunks and a vocabulary of 0 tokens"),
            (16, &[7], "damaged: chunks of 7 tokens, 2 chunks and a vocabulary of 3 tokens"),
            (16, &[255; 4], "damaged: chunks of 4294967295 tokens, 2 chunks and a vocabulary of 3 tokens"),
            (24, &[3], "damaged: the token id 3 in chunk 1 is not in the vocabulary of 3"),
            (row, &f64::NAN.to_le_bytes(), "damaged: row 1 of chunk 1"),
            (row + 8, &[3], "damaged: row 1 of chunk 1"),
            (row + 12, &(-1f32).to_le_bytes(), "damaged: row 1 of chunk 1"),
            (row + 22 + 12, &f32::INFINITY.to_le_bytes(), "damaged: row 2 of chunk 1"),
        ] {
            assert_eq!(changed(at, new), message);
        }
        let huge = changed(12, &[255; 12]);
        assert!(huge.starts_with("damaged"), "{huge}");
    }
}
