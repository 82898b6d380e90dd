//! Who may come in: by the key, by the name that this server is called by, and by the page that sends the request.

use super::app::App;
use super::fault::{Fault, Kind};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// A key of which only the hash is kept, so that nothing can show it. Hashes are compared in constant time.
#[derive(Clone)]
pub struct Key(blake3::Hash);

impl Key {
    pub fn new(text: &str) -> Key {
        Key(blake3::hash(text.as_bytes()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Lets requests pass that know this server's name, from pages that may ask.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

/// Lets requests pass that have a key, where one is wanted.
pub(super) async fn ask_for_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check_key(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

fn check(app: &App, request: &Request) -> Result<(), Fault> {
    let host = called(request)?;
    if !is_known_host(app, host) {
        let message =
            format!("this server is not called '{}': a name is allowed with --allow-host", host.escape_debug());
        return Err(Fault::new(Kind::Forbidden, message));
    }
    check_origin(app, request, host)
}

fn check_key(app: &App, request: &Request) -> Result<(), Fault> {
    // A browser asks without the key whether it may ask.
    if is_open(request.method(), request.uri().path()) || app.options.keys.is_empty() {
        return Ok(());
    }
    let given = given_key(request.headers()).map(blake3_of);
    match given.is_some_and(|given| app.options.keys.iter().any(|key| key.0 == given)) {
        true => Ok(()),
        false => Err(Fault::new(Kind::NoKey, "the key is missing or wrong: send 'Authorization: Bearer KEY'")),
    }
}

fn blake3_of(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

/// What needs no key: whether the server is well, and the page, which asks for one.
fn is_open(method: &Method, path: &str) -> bool {
    let is_page = matches!(path, "/" | "/page.css" | "/page.js");
    method == Method::OPTIONS || (matches!(*method, Method::GET | Method::HEAD) && (path == "/health" || is_page))
}

fn given_key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| text("x-api-key"))
}

/// The name by which the server was called, with its port.
fn called(request: &Request) -> Result<&str, Fault> {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Fault::invalid("the request has several Hosts"));
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or(header).ok_or_else(|| Fault::invalid("the request has no Host"))
}

/// A page from elsewhere can have a name of its own lead to this machine, but not an address.
fn is_known_host(app: &App, host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name == app.options.host.to_ascii_lowercase()
        || app.options.allowed_hosts.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(&name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// A page may use the server that it is from, and others only where that is allowed: a form of theirs would be sent
/// without any question.
fn check_origin(app: &App, request: &Request, host: &str) -> Result<(), Fault> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let is_own = origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
    let is_allowed = app.options.origins.iter().any(|allowed| allowed == "*" || allowed == origin);
    match is_own || is_allowed {
        true => Ok(()),
        false => {
            let message = format!(
                "pages of '{}' may not use this server: an origin is allowed with --cors",
                origin.escape_debug()
            );
            Err(Fault::new(Kind::Forbidden, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_a_name() {
        for (host, name) in [
            ("a:80", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", Key::new("secret")), "Key");
    }

    #[test]
    fn keys_come_in_two_headers() {
        let headers = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        assert_eq!(given_key(&headers("authorization", "bearer k")), Some("k"));
        assert_eq!(given_key(&headers("x-api-key", "k")), Some("k"));
        assert_eq!(given_key(&headers("authorization", "Basic k")), None);
    }
}
