//! How the server is: its health, its version, its figures.

use super::app::App;
use super::fault::Fault;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let (is_well, value) = app.health();
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = app.metrics.text(&app.figures(), app.options.n_parallel);
    let uptime = app.started.elapsed().as_secs_f64();
    let name = "cachalot_uptime_seconds";
    text.push_str(&format!("# HELP {name} Since the server listens.\n# TYPE {name} gauge\n{name} {uptime}\n"));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Embeddings that are of use come of models made for them.
pub(super) async fn embeddings() -> Fault {
    let message = "this model writes text and makes no embeddings: use a model that was made for them";
    Fault::new(super::fault::Kind::NotImplemented, message)
}
