//! The data of a synthetic file, made and written at the same time.
//!
//! One thread, with all of rayon's behind it, fills chunks; the caller's thread writes them. A few
//! buffers go round between the two, so memory does not grow when the disk is slow.

use super::tensors::Tensor;
use crate::gguf::{Output, WriteError};
use std::io::Error;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes made and written at a time.
const CHUNK: u64 = 16 << 20;
/// One is written, one is filled, one waits.
const BUFFERS: usize = 3;

/// Writes all tensors, which `output` must expect in this order; `progress` is told of bytes
/// written, and ends it with an error.
pub(super) fn write(
    tensors: &[Tensor],
    output: &mut Output,
    progress: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(), WriteError> {
    let (full, filled) = sync_channel::<Vec<u8>>(BUFFERS);
    let (empty, emptied) = sync_channel::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = empty.send(Vec::new());
    }
    std::thread::scope(|scope| {
        scope.spawn(move || fill(tensors, &emptied, &full));
        // Dropped where writing fails; that ends the other thread, whichever of them it waits for.
        let (empty, filled) = (empty, filled);
        for tensor in tensors {
            output.write_with(&tensor.name, |out| {
                let mut missing = tensor.n_bytes;
                while missing > 0 {
                    let chunk = filled.recv().map_err(|_| Error::other("the data could not be made"))?;
                    out.write_all(&chunk)?;
                    missing = missing.saturating_sub(chunk.len() as u64);
                    progress(chunk.len() as u64)?;
                    let _ = empty.send(chunk);
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// Makes the data of all tensors, chunk after chunk, until it is done or nobody takes it.
fn fill(tensors: &[Tensor], emptied: &Receiver<Vec<u8>>, full: &SyncSender<Vec<u8>>) {
    for tensor in tensors {
        let unit = tensor.filler.unit() as u64;
        let chunk = CHUNK / unit * unit;
        for start in (0..tensor.n_bytes).step_by(chunk as usize) {
            let Ok(mut buffer) = emptied.recv() else { return };
            buffer.resize(chunk.min(tensor.n_bytes - start) as usize, 0);
            tensor.filler.fill(tensor.stream, start, &mut buffer);
            if full.send(buffer).is_err() {
                return;
            }
        }
    }
}
