//! The cache of latent keys and values: for each layer and cell, the latent vector and the turned part of
//! the key, in one row. Values are the beginning of the same row.

use super::cells::{Cells, Seq};
use super::devices::Devices;
use crate::ggml::{Cpu, Store, StoreError, StoreId, dequantize};
use crate::gguf::{Shape, TensorType};
use crate::model::Config;
use std::ops::Range;
use std::sync::Arc;

/// How cached values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum CacheType {
    F32,
    #[default]
    F16,
    Bf16,
    Q8_0,
    Q4_0,
}

impl CacheType {
    pub const ALL: [CacheType; 5] = [CacheType::F32, CacheType::F16, CacheType::Bf16, CacheType::Q8_0, CacheType::Q4_0];

    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Bf16 => "bf16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    pub(super) fn tensor_type(self) -> TensorType {
        match self {
            CacheType::F32 => TensorType::F32,
            CacheType::F16 => TensorType::F16,
            CacheType::Bf16 => TensorType::BF16,
            CacheType::Q8_0 => TensorType::Q8_0,
            CacheType::Q4_0 => TensorType::Q4_0,
        }
    }

    /// Bytes that a token takes in one layer's cache, if it can be stored so.
    pub fn row_bytes(self, config: &Config) -> u64 {
        let ty = self.tensor_type();
        (config.n_cached() as u64).div_ceil(ty.block_len()) * ty.block_bytes()
    }

    /// Whether rows of this model can be stored so: the latent vector and the key are whole blocks.
    pub fn fits(self, config: &Config) -> bool {
        let block = self.tensor_type().block_len();
        [config.kv_lora_rank, config.n_cached()].into_iter().all(|n| (n as u64).is_multiple_of(block))
    }
}

/// Cells are used, and masked, in multiples of this; what the flash attention of GPUs asks for.
pub(super) const CELLS_STEP: usize = 256;

pub(super) struct Cache {
    pub(super) cells: Cells,
    pub(super) store: Arc<Store>,
    /// For each layer [n_cached, cells].
    pub(super) layers: Vec<StoreId>,
    pub(super) ty: TensorType,
    /// Of a cell, in one layer.
    pub(super) row_bytes: usize,
    /// Cells below this have been zeroed or written, a multiple of [`CELLS_STEP`]: memory is touched as the
    /// context grows, and what a masked cell holds is a number.
    touched: usize,
}

impl Cache {
    /// A cache for `n_ctx` tokens, of all sequences together.
    pub(super) fn new(config: &Config, n_ctx: usize, ty: CacheType, devices: &Devices) -> Result<Cache, StoreError> {
        let n_cells = n_ctx.next_multiple_of(CELLS_STEP);
        let ne = [config.n_cached(), n_cells].map(|n| n as u64);
        let ty = ty.tensor_type();
        let wrong = || StoreError::Shape { ty, shape: [ne[0] as i64, ne[1] as i64, 1, 1] };
        let shape = Shape::new(&ne).ok_or_else(wrong)?;
        let bytes = shape.n_bytes(ty).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(wrong)?;
        let mut store = Store::new(config.n_layer, None)?;
        let add = |layer: usize| {
            let name = format!("cache.{layer}");
            match devices.of_cache(layer) {
                Some(gpu) => store.add_on(gpu, &name, ty, &shape),
                None => store.add(&name, ty, &shape),
            }
        };
        let layers = (0..config.n_layer).map(add).collect::<Result<_, _>>()?;
        let cells = Cells::new(n_ctx);
        Ok(Cache { cells, store: Arc::new(store), layers, ty, row_bytes: bytes / n_cells, touched: 0 })
    }

    /// How many cells, from the first on, a step must look at once the first `end` may be used.
    pub(super) fn n_kv(&self, end: usize) -> usize {
        end.max(1).next_multiple_of(CELLS_STEP)
    }

    /// Makes sure that cells below `end` hold numbers.
    pub(super) fn touch(&mut self, cpu: &mut Cpu, end: usize) -> Result<(), StoreError> {
        if end > self.touched {
            self.zero(cpu, self.touched..end)?;
            self.touched = end;
        }
        Ok(())
    }

    /// Writes zeros where cells hold numbers that are none: what multiplies those by zero gets no zero, so
    /// that other sequences would be touched by them. The cells are bad from then on.
    pub(super) fn clean(&mut self, cpu: &mut Cpu) -> Result<(), StoreError> {
        let ty = self.ty;
        let n_values = self.row_bytes / ty.block_bytes() as usize * ty.block_len() as usize;
        let mut rows = vec![0; self.row_bytes * CELLS_STEP];
        let mut values = vec![0.0; n_values];
        for (layer, id) in self.layers.iter().enumerate() {
            for first in (0..self.touched).step_by(CELLS_STEP) {
                self.store.read(*id, first * self.row_bytes, &mut rows)?;
                for (cell, row) in (first..).zip(rows.chunks_exact(self.row_bytes)) {
                    let is_number = dequantize(ty, row, &mut values).is_ok() && values.iter().all(|x| x.is_finite());
                    if !is_number {
                        self.cells.set_bad(cell, layer);
                        cpu.zero(&self.store, *id, cell * self.row_bytes..(cell + 1) * self.row_bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes zeros over the cells.
    fn zero(&self, cpu: &mut Cpu, cells: Range<usize>) -> Result<(), StoreError> {
        let bytes = cells.start * self.row_bytes..cells.end * self.row_bytes;
        self.layers.iter().try_for_each(|id| cpu.zero(&self.store, *id, bytes.clone()))
    }

    /// Whether some of it lies on a GPU.
    pub(super) fn is_on_gpus(&self) -> bool {
        self.store.n_gpu_bytes() > 0
    }

    /// Tokens of a sequence.
    pub(super) fn n_tokens(&self, seq: Seq) -> usize {
        self.cells.of(seq).count()
    }

    /// Bytes of one token, in all layers.
    pub(super) fn token_bytes(&self) -> usize {
        self.layers.len() * self.row_bytes
    }

    /// In RAM.
    pub(super) fn n_bytes(&self) -> usize {
        self.store.n_owned_bytes()
    }
}
