//! A tensor from its old type to its new one, batch after batch of rows, on all threads.

use super::{Error, Planned, Quantization};
use crate::ggml::{DequantizeError, QuantizeError, Quantizer, dequantize};
use crate::gguf::{Output, Tensor};
use rayon::prelude::*;
use std::io;

/// Values in a batch, which is in memory in its new type: 64 MiB at most, unless a row is longer.
const BATCH: usize = 1 << 24;
/// Bytes that are copied at a time where the type stays.
const COPY: usize = 64 << 20;
/// Values that a thread takes at a time.
const JOB: usize = 1 << 15;

/// Writes a tensor, which `output` must expect next.
pub(super) fn write(
    quantization: &Quantization,
    planned: &Planned,
    output: &mut Output,
    progress: &dyn Fn(u64) -> io::Result<()>,
) -> Result<(), Error> {
    let Some(tensor) = quantization.gguf.tensor(&planned.name) else {
        return Ok(());
    };
    quantization.gguf.read_ahead(&tensor);
    if planned.ty == planned.from {
        let copied = output.write_with(&planned.name, |out| {
            tensor.data.chunks(COPY).try_for_each(|part| {
                out.write_all(part)?;
                progress(part.len() as u64)
            })
        });
        return Ok(copied?);
    }
    let [row, rows, matrices @ ..] = planned.shape.ne();
    let importance = match &quantization.imatrix {
        Some(imatrix) if planned.unreached.is_some() => {
            imatrix.importance(&planned.name, row, matrices.iter().product())?
        }
        _ => None,
    };
    let blocks = |ty: crate::gguf::TensorType| (row / ty.block_len() * ty.block_bytes()) as usize;
    let work = Work {
        tensor,
        quantizer: Quantizer::new(planned.ty).map_err(|error| encode(planned, error))?,
        importance: importance.as_ref().map(|importance| importance.values.as_slice()),
        row: row as usize,
        rows: rows as usize,
        old_bytes: blocks(planned.from),
        new_bytes: blocks(planned.ty),
    };
    let n_rows = planned.n_bytes as usize / work.new_bytes.max(1);
    let mut fault = None;
    let written = output.write_with(&planned.name, |out| {
        let at_once = (BATCH / work.row.max(1)).max(1);
        let mut buffer = Vec::new();
        for first in (0..n_rows).step_by(at_once) {
            buffer.resize(at_once.min(n_rows - first) * work.new_bytes, 0);
            if let Err(error) = work.batch(first, &mut buffer) {
                fault = Some(error);
                return Err(io::Error::other("its values cannot be stored"));
            }
            out.write_all(&buffer)?;
            progress(buffer.len() as u64)?;
        }
        Ok(())
    });
    match fault {
        Some(Fault::Decode(error)) => Err(Error::Decode { tensor: planned.name.clone(), error }),
        Some(Fault::Encode(error)) => Err(encode(planned, error)),
        None => Ok(written?),
    }
}

fn encode(planned: &Planned, error: QuantizeError) -> Error {
    Error::Encode { tensor: planned.name.clone(), error }
}

enum Fault {
    Decode(DequantizeError),
    Encode(QuantizeError),
}

/// What the rows of one tensor have in common.
struct Work<'a> {
    tensor: Tensor<'a>,
    quantizer: Quantizer,
    /// Row after row [columns, matrices].
    importance: Option<&'a [f32]>,
    /// Values in a row.
    row: usize,
    /// Rows in a matrix.
    rows: usize,
    /// Bytes of a row in the old type and in the new one.
    old_bytes: usize,
    new_bytes: usize,
}

impl Work<'_> {
    /// The rows from `first` on, as many as `out` takes.
    fn batch(&self, first: usize, out: &mut [u8]) -> Result<(), Fault> {
        let at_once = (JOB / self.row.max(1)).max(1);
        out.par_chunks_mut(at_once * self.new_bytes)
            .enumerate()
            .try_for_each_init(Vec::new, |values, (job, out)| self.rows(first + job * at_once, values, out))
    }

    fn rows(&self, first: usize, values: &mut Vec<f32>, out: &mut [u8]) -> Result<(), Fault> {
        let n = out.len() / self.new_bytes;
        values.resize(n * self.row, 0.0);
        // In bounds: a tensor's data is that of its shape.
        let old = &self.tensor.data[first * self.old_bytes..(first + n) * self.old_bytes];
        dequantize(self.tensor.info.ty, old, values).map_err(Fault::Decode)?;
        let Some(importance) = self.importance else {
            return self.quantizer.rows(values, self.row, None, out).map_err(Fault::Encode);
        };
        let rows = values.chunks(self.row).zip(out.chunks_mut(self.new_bytes));
        for (number, (values, out)) in (first..).zip(rows) {
            let matrix = number / self.rows;
            let importance = importance.get(matrix * self.row..(matrix + 1) * self.row);
            self.quantizer.rows(values, self.row, importance, out).map_err(Fault::Encode)?;
        }
        Ok(())
    }
}
