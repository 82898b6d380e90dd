//! The list of models, which has one.

use crate::server::app::App;
use crate::server::fault::Fault;
use crate::server::model::Model;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

fn object(model: &Model, id: &str) -> Value {
    let info = model.engine.info();
    json!({
        "id": id,
        "object": "model",
        "created": model.since,
        "owned_by": "cachalot",
        "max_model_len": info.n_ctx,
        "meta": {
            "name": info.name,
            "family": model.family.name(),
            "n_ctx": info.n_ctx,
            "n_ctx_train": info.n_ctx_train,
            "n_vocab": info.n_vocab,
            "size": info.n_bytes,
        },
    })
}

pub(in crate::server) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let data: Vec<Value> = model.names.iter().map(|name| object(&model, name)).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

pub(in crate::server) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let Path(id) = id.map_err(|_| Fault::invalid("the name of the model is not UTF-8"))?;
    model.check_called(&id)?;
    Ok(Json(object(&model, &id)))
}
