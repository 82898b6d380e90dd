//! Which path leads where, and what every response goes through.

use super::app::App;
use super::fault::{Fault, Kind};
use super::{ServeError, anthropic, door, ollama, openai, page, status, tokens};
use crate::text::Clipped;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Instant;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::normalize_path::NormalizePath;

pub(super) fn router(app: &Arc<App>) -> Result<Router, ServeError> {
    let router = Router::new()
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/health", get(status::health))
        .route("/version", get(status::version))
        .route("/metrics", get(status::metrics))
        .route("/v1/models", get(openai::models::list))
        .route("/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat::answer))
        .route("/chat/completions", post(openai::chat::answer))
        .route("/v1/completions", post(openai::completions::answer))
        .route("/completions", post(openai::completions::answer))
        .route("/v1/responses", post(openai::responses::answer))
        .route("/v1/embeddings", post(status::embeddings))
        .route("/v1/messages", post(anthropic::answer))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
        .route("/api/version", get(status::version))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::running))
        .route("/api/show", post(ollama::show))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/embed", post(status::embeddings))
        .route("/api/embeddings", post(status::embeddings))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        // Bodies are bounded where they are read.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(app.clone());
    let keyed = router.layer(from_fn_with_state(app.clone(), door::ask_for_key));
    // Before the key, so that a page can read that it is missing.
    let shared = match cors(&app.options.origins)? {
        Some(cors) => keyed.layer(cors),
        None => keyed,
    };
    let guarded = shared.layer(from_fn_with_state(app.clone(), door::guard));
    let finished = guarded.layer(from_fn_with_state(app.clone(), finish));
    // A slash behind a path is no other path.
    Ok(Router::new().fallback_service(NormalizePath::trim_trailing_slash(finished)))
}

async fn nowhere(request: Request) -> Fault {
    let message = format!("there is nothing at {}", Clipped(request.uri().path()));
    Fault::new(Kind::NotFound, message)
}

async fn wrong_method(request: Request) -> Fault {
    let message = format!("{} takes another method than {}", Clipped(request.uri().path()), request.method());
    Fault::new(Kind::Method, message)
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, ServeError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let origin = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().map(|origin| header_of(origin)).collect::<Result<Vec<_>, _>>()?),
    };
    let layer = CorsLayer::new().allow_origin(origin).allow_methods([Method::GET, Method::POST]);
    Ok(Some(layer.allow_headers(AllowHeaders::mirror_request())))
}

fn header_of(origin: &str) -> Result<HeaderValue, ServeError> {
    let fault = || ServeError::Origin(origin.to_owned());
    origin.split_once("://").filter(|(_, host)| !host.is_empty() && !host.contains('/')).ok_or_else(fault)?;
    origin.parse().map_err(|_| fault())
}

/// Where clients and proxies say, and are told, which request it is; the second is Anthropic's.
const REQUEST_ID: [HeaderName; 2] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];
const MAX_REQUEST_ID: usize = 128;

/// The id that a client has given its request, or one of ours.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let [name, _] = REQUEST_ID;
    let given = headers.get(name).and_then(|value| value.to_str().ok());
    let is_fit = |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(is_fit).map_or_else(|| app.id("req_"), str::to_owned)
}

/// Gives a fault the form of its protocol, and every response its id; counts, and logs.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(&app, request.headers());
    let (path, method, start) = (request.uri().path().to_owned(), request.method().clone(), Instant::now());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    // What has no route is counted as one, or else clients would say how many there are.
    app.metrics.response(route.as_deref().unwrap_or("other"), response.status().as_u16());
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let (parts, _) = response.into_parts();
        let mut dressed = (parts.status, Json(fault.in_form_of(&path, &id))).into_response();
        for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ACCESS_CONTROL_ALLOW_ORIGIN, header::VARY] {
            if let Some(value) = parts.headers.get(&name) {
                dressed.headers_mut().insert(name, value.clone());
            }
        }
        response = dressed;
    }
    if let Some(log) = app.options.log {
        // Neither what stands behind a question mark nor a header, which may be secret.
        let (status, millis) = (response.status().as_u16(), start.elapsed().as_millis());
        log(&format!("{} {} {status} after {millis} ms, {id}", Clipped(method.as_str()), Clipped(&path)));
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        let names = if path.starts_with("/v1/messages") { &REQUEST_ID[..] } else { &REQUEST_ID[..1] };
        names.iter().for_each(|name| drop(headers.insert(name, id.clone())));
    }
    response
}
