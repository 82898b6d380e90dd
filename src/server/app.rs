//! What the handlers share: the model once there is one, the places in the queue, and what is counted.

use super::Options;
use super::fault::Fault;
use super::metrics::Metrics;
use super::model::{Model, Served};
use crate::engine::{Figures, ReadSoFar};
use rand_chacha::rand_core::{OsRng, TryRngCore};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(super) struct App {
    pub(super) options: Options,
    pub(super) metrics: Metrics,
    pub(super) started: Instant,
    stage: Mutex<Stage>,
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    /// What is still answered when the time for it is over ends too.
    cut: watch::Sender<bool>,
    /// Makes ids that no other run of the program has.
    salt: [u8; 16],
    n_ids: AtomicU64,
}

#[derive(Clone)]
enum Stage {
    Loading(Option<ReadSoFar>),
    Ready(Arc<Model>),
}

impl App {
    pub(super) fn new(options: Options) -> App {
        let mut salt = [0; 16];
        // Without it ids are still told apart within one run.
        let _ = OsRng.try_fill_bytes(&mut salt);
        App {
            places: Arc::new(Semaphore::new(options.n_parallel + options.n_queue)),
            metrics: Metrics::default(),
            started: Instant::now(),
            stage: Mutex::new(Stage::Loading(None)),
            stop: watch::channel(false).0,
            cut: watch::channel(false).0,
            salt,
            n_ids: AtomicU64::new(0),
            options,
        }
    }

    pub(super) fn set_loading(&self, so_far: ReadSoFar) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Loading(Some(so_far));
    }

    pub(super) fn set_ready(&self, served: Served) {
        let model = Arc::new(Model::new(served));
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Ready(model);
    }

    fn stage(&self) -> Stage {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Whether answers have to end.
    pub(super) fn cutting(&self) -> watch::Receiver<bool> {
        self.cut.subscribe()
    }

    /// The model, where there is one and the server is not about to end.
    pub(super) fn model(&self) -> Result<Arc<Model>, Fault> {
        match self.stage() {
            _ if *self.stop.borrow() => Err(Fault::unavailable("the server is about to stop")),
            Stage::Ready(model) => Ok(model),
            Stage::Loading(_) => Err(Fault::unavailable("the model is being loaded: GET /health says how far it is")),
        }
    }

    /// What was done so far.
    pub(super) fn figures(&self) -> Arc<Figures> {
        match self.stage() {
            Stage::Ready(model) => model.engine.figures().clone(),
            Stage::Loading(_) => Arc::default(),
        }
    }

    /// How it is, and whether that is well.
    pub(super) fn health(&self) -> (bool, Value) {
        match self.stage() {
            _ if *self.stop.borrow() => (false, json!({ "status": "stopping" })),
            Stage::Loading(None) => (false, json!({ "status": "loading" })),
            Stage::Loading(Some(so_far)) => (false, json!({ "status": "loading", "loading": progress(so_far) })),
            Stage::Ready(model) => match model.engine.reading().and_then(|reading| reading.so_far()) {
                // It answers, if slowly as yet.
                Some(so_far) => (true, json!({ "status": "ok", "reading_ahead": progress(so_far) })),
                None => (true, json!({ "status": "ok" })),
            },
        }
    }

    /// Places for so many answers.
    pub(super) fn places(&self, n: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let n = u32::try_from(n).map_err(|_| Fault::busy())?;
        self.places.clone().try_acquire_many_owned(n).map_err(|_| {
            self.metrics.rejected.add(1);
            Fault::busy()
        })
    }

    pub(super) fn n_places(&self) -> usize {
        self.options.n_parallel + self.options.n_queue
    }

    /// An id that nothing else has.
    pub(super) fn id(&self, prefix: &str) -> String {
        let number = self.n_ids.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[&self.salt[..], &number.to_le_bytes()].concat());
        format!("{prefix}{}", &hash.to_hex()[..24])
    }
}

fn progress(so_far: ReadSoFar) -> Value {
    let ReadSoFar { done, total, time } = so_far;
    let fraction = done as f64 / total.max(1) as f64;
    json!({ "bytes": done, "total_bytes": total, "progress": fraction, "seconds": time.as_secs_f64() })
}
