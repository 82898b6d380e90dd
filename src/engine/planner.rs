//! Who decides what of a model goes to GPUs. The engine says how much it is to hold, and obeys.

use super::{CacheType, OpenError};
use crate::ggml::Gpu;
use crate::gguf::Gguf;
use crate::graph::{self, Devices, Sharing, Streams};
use crate::model::Outline;
use crate::placement::Placement;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What is planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub n_ctx: u64,
    pub n_batch: u64,
    /// Whether it may be more that is computed at once.
    pub may_grow: bool,
    pub cache_type: CacheType,
}

/// What goes where, and from how many tokens of a step on experts are sent from RAM to a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub placement: Placement,
    pub streams: Streams,
    /// How experts in RAM are shared by the CPU and GPUs; `None` where they are not.
    pub sharing: Option<Sharing>,
    /// Tokens that are computed at once.
    pub n_batch: u64,
}

pub type NoPlan = Box<dyn std::error::Error + Send + Sync>;

type Decide = dyn Fn(&Outline, Wanted) -> Result<Option<Planned>, NoPlan> + Send + Sync;

/// Makes a plan for a model; none where nothing is to go to GPUs. The default has none for any model.
#[derive(Clone, Default)]
pub struct Planner(Option<Arc<Decide>>);

impl Planner {
    /// GPUs are counted as this machine's are that can be computed on.
    pub fn new(
        decide: impl Fn(&Outline, Wanted) -> Result<Option<Planned>, NoPlan> + Send + Sync + 'static,
    ) -> Planner {
        Planner(Some(Arc::new(decide)))
    }

    /// Has the options say what goes to which GPU.
    pub(super) fn settle(
        &self,
        gguf: &Gguf,
        path: &Path,
        may_grow: bool,
        options: &mut graph::Options,
    ) -> Result<(), OpenError> {
        let Some(decide) = &self.0 else { return Ok(()) };
        let in_file = |error: crate::model::ConfigError| OpenError::Load { path: path.to_owned(), error: error.into() };
        let outline = Outline::of(gguf).map_err(in_file)?;
        let [n_ctx, n_batch] = [options.n_ctx, options.n_batch].map(|n| n as u64);
        let wanted = Wanted { n_ctx, n_batch, may_grow, cache_type: options.cache_type };
        let Some(Planned { placement, streams, sharing, n_batch }) =
            decide(&outline, wanted).map_err(OpenError::Plan)?
        else {
            return Ok(());
        };
        let gpus = Gpu::all().map_err(|error| OpenError::Plan(error.into()))?;
        // What is not in memory would have to be read before the first token.
        let is_in_memory = gguf.n_resident_bytes() >= gguf.n_bytes() / 10 * 9;
        options.devices = Devices::new(gpus, placement, streams, is_in_memory);
        options.sharing = sharing;
        options.n_batch = usize::try_from(n_batch).unwrap_or(options.n_batch);
        Ok(())
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Planner" } else { "no planner" })
    }
}
