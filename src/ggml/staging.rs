//! Memory on a GPU for weights that lie in RAM, sent there when they are needed.

use super::store::{Store, StoreId};
use super::upload::Device;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tensors that are written while a graph is computed, by one of its nodes, and read by nodes behind that. Of a graph one
/// node is computed at a time, so that the device is used by one thread at a time.
pub struct Staging {
    store: Arc<Store>,
    /// What writes and reads come one behind the other on; without it they lie in RAM.
    device: Option<Arc<Device>>,
}

impl Staging {
    pub(super) fn new(store: Arc<Store>, device: Option<Arc<Device>>) -> Staging {
        Staging { store, device }
    }

    /// Writes part of a tensor, before what is computed next on its GPU. `data` must stay as it is until that has been
    /// computed. What is not within the tensor is not written.
    pub fn send(&self, id: StoreId, offset: usize, data: &[u8]) {
        let tensor = self.store.get(id);
        if offset.checked_add(data.len()).is_none_or(|end| end > tensor.n_bytes()) {
            return;
        }
        let (ptr, len) = (data.as_ptr().cast(), data.len());
        // SAFETY: within the tensor, which has memory; the backend is alive.
        unsafe {
            match &self.device {
                Some(device) => {
                    ggml_sys::ggml_backend_tensor_set_async(device.as_ptr(), tensor.as_ptr(), ptr, offset, len);
                }
                None => ggml_sys::ggml_backend_tensor_set(tensor.as_ptr(), ptr, offset, len),
            }
        }
    }

    /// How long it takes to send the first `n` matrices of a tensor that lies in RAM.
    pub fn time(&self, id: StoreId, n: usize, from: &Store, of: StoreId) -> Duration {
        let tensor = from.get(of);
        let n = tensor.n_bytes().min(n.saturating_mul(tensor.nb()[2]));
        if !tensor.is_in_ram() {
            return Duration::ZERO;
        }
        // SAFETY: stored tensors have data.
        let data = unsafe { std::slice::from_raw_parts((*tensor.as_ptr()).data.cast::<u8>(), n) };
        self.wait();
        let begun = Instant::now();
        self.send(id, 0, data);
        self.wait();
        begun.elapsed()
    }

    fn wait(&self) {
        if let Some(device) = &self.device {
            device.wait();
        }
    }
}
