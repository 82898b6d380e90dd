//! Connections: how many there are, how long each of their parts may take, and how they end.
//!
//! HTTP/1.1 only. A connection that sends nothing, or reads nothing, is closed after a while.

use super::app::App;
use super::fault::{Fault, Kind};
use super::unread::{self, Telling};
use super::{Options, ServeError};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// For the last words to answers that are cut.
const CUT_TIME: Duration = Duration::from_secs(2);
const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_HEADERS: usize = 100;
/// Descriptors that are not for connections.
const SPARE_FILES: u64 = 64;

/// A server that accepts connections.
pub struct Listening {
    pub(super) address: SocketAddr,
    accepting: JoinHandle<JoinSet<()>>,
}

pub(super) fn bind(options: &Options) -> Result<StdListener, ServeError> {
    let Options { host, port, .. } = options;
    let no_host = |error| ServeError::Host { host: host.clone(), error };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, *port).to_socket_addrs().map_err(no_host)?;
    let address = addresses.next().ok_or_else(|| no_host(std::io::ErrorKind::NotFound.into()))?;
    if !address.ip().is_loopback() && options.keys.is_empty() {
        return Err(ServeError::Open { host: host.clone() });
    }
    let failed = |error| ServeError::Listen { address, error };
    let listener = StdListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

pub(super) fn start(
    listener: StdListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    app: &Arc<App>,
) -> Result<Listening, ServeError> {
    let address = listener.local_addr().map_err(ServeError::Runtime)?;
    let listener = TcpListener::from_std(listener).map_err(ServeError::Runtime)?;
    let max = max_connections(app.options.max_connections);
    let accepting = tokio::spawn(accept(listener, tls, router, app.clone(), max));
    Ok(Listening { address, accepting })
}

impl Listening {
    /// Waits until the server is told to stop, and then until its connections are over, or have had their time.
    pub(super) async fn finish(self, app: &App) {
        let mut stop = app.stopping();
        // The sender is the app itself.
        let _ = stop.wait_for(|stop| *stop).await;
        let Ok(mut connections) = self.accepting.await else { return };
        if tokio::time::timeout(app.options.grace, all_over(&mut connections)).await.is_err() {
            app.cut();
            let _ = tokio::time::timeout(CUT_TIME, all_over(&mut connections)).await;
        }
        connections.shutdown().await;
    }
}

async fn all_over(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// As many as wanted, or as files may be open.
fn max_connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + SPARE_FILES;
    if current.is_some_and(|current| current < needed) {
        let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
        // Where it cannot be raised, there are fewer connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(usize::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(usize::MAX)).max(1)
}

/// Accepts until the server is told to stop; gives the connections that are open then.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    app: Arc<App>,
    max: usize,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let mut stop = app.stopping();
    let places = Arc::new(Semaphore::new(max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return connections,
        };
        // Those that are over are forgotten.
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            // Out of descriptors or the like: others may end meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            refuse(stream, &app);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, router, app, stop) = (tls.clone(), router.clone(), app.clone(), app.stopping());
        connections.spawn(async move {
            let _place = place;
            app.metrics.connections.add(1);
            match tls {
                None => serve(stream, router, stop, &app).await,
                Some(tls) => {
                    let accepted = tokio::time::timeout(app.options.timeout, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = accepted {
                        serve(stream, router, stop, &app).await;
                    }
                }
            }
            app.metrics.connections.sub(1);
        });
    }
}

/// There are too many.
fn refuse(mut stream: tokio::net::TcpStream, app: &App) {
    let full = unread::response(app, &Fault::unavailable("there are too many connections: try again in a moment"));
    tokio::spawn(async move {
        // If it is heard, good.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&full)).await;
    });
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    mut stop: watch::Receiver<bool>,
    app: &Arc<App>,
) {
    let timeout = app.options.timeout;
    let mut stream = TimeoutStream::new(stream);
    // That a client does not take what is written to it.
    stream.set_write_timeout(Some(timeout));
    let mut builder = http1::Builder::new();
    // From the first byte of a request to the end of its headers; and for a connection between two requests.
    builder.timer(TokioTimer::new()).header_read_timeout(timeout);
    builder.max_header_size(MAX_HEADER_BYTES).max_headers(MAX_HEADERS);
    let stream = Telling::new(Box::pin(stream), app.clone());
    let mut connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // How it ended is the client's affair, but for a request that it has begun and not ended in time.
    if ended.is_err_and(|error| error.is_timeout()) {
        let parts = connection.into_parts();
        if !parts.read_buf.is_empty() {
            let mut stream = parts.io.into_inner();
            let slow = unread::response(app, &Fault::new(Kind::Timeout, "the headers did not come in time"));
            let _ = stream.write_all(&slow).await;
            let _ = stream.shutdown().await;
        }
    }
}
