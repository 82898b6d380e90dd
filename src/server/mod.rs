//! A model that answers over HTTP, in the protocols that other programs speak already.
//!
//! - `ask`: what is asked, and `answers`: what comes of it, in one form for all protocols. `model`: from the one to the
//!   other. `app`: what the handlers share; `metrics`: what is counted.
//! - `openai`, `anthropic`, `ollama`: those protocols, each a translator in and out. `tokens`: text to tokens and back.
//!   `status`: how the server is. `page`: the page for browsers.
//! - `sampling`, `form`, `tools`: fields that several protocols share; `unsupported`: those that nothing is done about.
//! - `fields`: JSON that clients sent, `words`: what is said of it; `fault`: what is answered when something is wrong;
//!   `stream`: answers as they come.
//! - `listen`: connections, and what bounds them; `unread`: what is said to those that send no request; `tls`; `door`: who
//!   may come in.
//!
//! This room knows no tensor and no terminal.

mod answers;
mod anthropic;
mod app;
mod ask;
mod awaited;
mod door;
mod fault;
mod fields;
mod form;
mod listen;
mod metrics;
mod model;
mod ollama;
mod openai;
mod page;
mod routes;
mod sampling;
mod status;
mod stream;
mod tls;
mod tokens;
mod tools;
mod unread;
mod unsupported;
mod words;

pub use door::Key;
pub use listen::Listening;
pub use model::Served;

use crate::engine::ReadSoFar;
use app::App;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    pub host: String,
    pub port: u16,
    /// One of these must come with every request but those for health and for the page; none where there are none.
    pub keys: Vec<Key>,
    /// Names of this server beside those of loopback, and addresses, by which browsers may call it.
    pub allowed_hosts: Vec<String>,
    /// Pages of these origins may use it; `*` for all.
    pub origins: Vec<String>,
    /// A certificate and its key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Requests that are computed at the same time, and those that may wait beside them.
    pub n_parallel: usize,
    pub n_queue: usize,
    pub max_body: usize,
    /// That a client may take for the headers of a request, for its body, and to read what it asked for.
    pub timeout: Duration,
    pub max_connections: usize,
    /// Is told of every response, in a line that can steer no terminal.
    pub log: Option<fn(&str)>,
    /// What requests that are under way have, once the server is told to stop.
    pub grace: Duration,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{host} can be reached from elsewhere, and there is no key: give one with --api-key or --api-key-file, or \
         listen on 127.0.0.1"
    )]
    Open { host: String },
    #[error("{host} is no address of this machine: {error}")]
    Host { host: String, error: std::io::Error },
    #[error("cannot listen on {address}: {error}{}", match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another port is set with --port",
        _ => "",
    })]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("{}: {fault}", path.display())]
    Tls { path: PathBuf, fault: String },
    #[error("an origin is '*' or has the form https://HOST: '{0}' has not")]
    Origin(String),
    #[error("the server cannot be run: {0}")]
    Runtime(std::io::Error),
}

/// A server that listens. It answers from the start; what needs a model is refused until there is one.
pub struct Server {
    app: Arc<App>,
    listening: Listening,
    runtime: Runtime,
}

/// Lets a server be told things from other threads.
#[derive(Clone)]
pub struct Handle(Arc<App>);

impl Server {
    pub fn start(options: Options) -> Result<Server, ServeError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).max_blocking_threads(32).thread_name("http").enable_all();
        let runtime = builder.build().map_err(ServeError::Runtime)?;
        let listener = listen::bind(&options)?;
        let tls = options.tls.as_ref().map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()?;
        let app = Arc::new(App::new(options));
        let router = routes::router(&app)?;
        let listening = {
            let _guard = runtime.enter();
            listen::start(listener, tls, router, &app)?
        };
        Ok(Server { app, listening, runtime })
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn handle(&self) -> Handle {
        Handle(self.app.clone())
    }

    /// Answers until it is told to stop, and then until what is under way is done, or has had its time.
    pub fn run(self) {
        self.runtime.block_on(self.listening.finish(&self.app));
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl Handle {
    /// Says how far the model is that is being loaded.
    pub fn loading(&self, so_far: ReadSoFar) {
        self.0.set_loading(so_far);
    }

    /// From here on this model answers.
    pub fn ready(&self, served: Served) {
        self.0.set_ready(served);
    }

    pub fn stop(&self) {
        self.0.stop();
    }
}
