//! The hub: which commit a repository is at, which files it has, and their bytes.
//!
//! Redirects are followed here, so that the token goes to the hub alone and never to the hosts that it sends
//! clients to. Knows no folder and no quant.

use super::error::Error;
use super::patience::Patience;
use super::quant::Listed;
use super::reference::Repo;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const MAX_REDIRECTS: usize = 8;
/// Pages of a listing; a repository has some hundred files, a page a thousand.
const MAX_PAGES: usize = 1000;
const MAX_ANSWER: u64 = 64 << 20;
/// Without a byte for so long, a connection is given up.
const STALLED: Duration = Duration::from_secs(30);
/// What is encoded in a path: everything but what RFC 3986 leaves alone.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    note: fn(&str),
}

/// Not for any output.
struct Token(String);

/// Why a request has not given what it was for.
pub(super) enum Fault {
    /// It may the next time, which is not to be before `wait` has passed.
    Passing {
        reason: String,
        wait: Option<Duration>,
    },
    /// The hub says that what was asked for is not to be had.
    Refused(StatusCode, HeaderMap),
    /// A host that the hub has sent here says so: another address may do.
    Expired {
        reason: String,
    },
    Final(Error),
}

impl Fault {
    pub(super) fn passing(reason: impl Into<String>) -> Fault {
        Fault::Passing { reason: reason.into(), wait: None }
    }
}

/// What the hub says of a file before it sends one elsewhere for it.
#[derive(Debug, Default)]
pub(super) struct Linked {
    pub(super) commit: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) size: Option<u64>,
}

impl Hub {
    /// The hub that HF_ENDPOINT names, or Hugging Face; with the token of the environment or of the user's file. `note`
    /// hears what a user may want to know.
    pub fn from_environment(note: fn(&str)) -> Result<Hub, Error> {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let form = || Error::Form {
            text: endpoint.clone(),
            wanted: "address of a hub, such as https://huggingface.co (HF_ENDPOINT)",
        };
        if origin(&endpoint).is_none() {
            return Err(form());
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("cachalot/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(STALLED))
            .build();
        // A token in the clear is everybody's.
        let is_safe = endpoint.starts_with("https://") || is_loopback(&endpoint);
        let found = token();
        if found.is_some() && !is_safe {
            note(&format!("the token is not sent to {endpoint}, which is not encrypted"));
        }
        let token = found.filter(|_| is_safe);
        Ok(Hub { agent: config.into(), endpoint, token, note })
    }

    /// The commit that a revision means now, so that all files are of the same.
    pub(super) fn commit(&self, repo: &Repo, revision: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        let url = format!("{}/api/models/{repo}/revision/{}", self.endpoint, encoded(revision));
        let (info, _): (Info, _) = self.json(repo, revision, &url)?;
        match (6..=64).contains(&info.sha.len()) && info.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(info.sha),
            false => Err(Error::Answer { what: repo.to_string(), fault: "the commit has no hash".to_owned() }),
        }
    }

    /// All files of a commit.
    pub(super) fn listing(&self, repo: &Repo, commit: &str) -> Result<Vec<Listed>, Error> {
        #[derive(Deserialize)]
        struct Item {
            #[serde(rename = "type")]
            kind: String,
            path: String,
            #[serde(default)]
            size: u64,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            oid: String,
            size: Option<u64>,
        }
        let mut url = format!("{}/api/models/{repo}/tree/{}?recursive=1", self.endpoint, encoded(commit));
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let (items, next): (Vec<Item>, _) = self.json(repo, commit, &url)?;
            files.extend(items.into_iter().filter(|item| item.kind == "file").map(|item| {
                let size = item.lfs.as_ref().and_then(|lfs| lfs.size).unwrap_or(item.size);
                let sha256 = item.lfs.and_then(|lfs| sha256(&lfs.oid));
                Listed { path: item.path, size, sha256 }
            }));
            match next {
                Some(next) => url = next,
                None => return Ok(files),
            }
        }
        Err(Error::Answer { what: repo.to_string(), fault: format!("the listing has more than {MAX_PAGES} pages") })
    }

    /// Where the hub has a file.
    pub(super) fn address(&self, repo: &Repo, commit: &str, path: &str) -> String {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        format!("{}/{repo}/resolve/{}/{}", self.endpoint, encoded(commit), path.join("/"))
    }

    /// The host that a message names.
    pub(super) fn host(&self) -> String {
        host(&self.endpoint)
    }

    /// What a status other than success means for whoever wanted `what` of `repo`.
    pub(super) fn refusal(&self, repo: &Repo, what: &str, status: StatusCode, headers: &HeaderMap) -> Error {
        let code = headers.get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        let denied = || Error::Denied {
            repo: repo.to_string(),
            status: status.as_u16(),
            endpoint: self.endpoint.clone(),
            has_token: self.token.is_some(),
        };
        match (status.as_u16(), code) {
            (401 | 403, _) | (_, "GatedRepo") => denied(),
            (404, "RevisionNotFound") => Error::NoRevision { repo: repo.to_string(), revision: what.to_owned() },
            (404, "EntryNotFound") => Error::Gone { what: what.to_owned() },
            (404 | 410, _) => Error::NoRepository { repo: repo.to_string() },
            _ => Error::Answer { what: repo.to_string(), fault: format!("HTTP {status}") },
        }
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        repo: &Repo,
        revision: &str,
        url: &str,
    ) -> Result<(T, Option<String>), Error> {
        let mut patience = Patience::short();
        loop {
            let answer = self.follow(url, None).and_then(|(_, response, _)| read_json(response));
            let (reason, wait) = match answer {
                Ok((value, headers)) => return Ok((value, next_page(url, &headers))),
                Err(Fault::Passing { reason, wait }) => (reason, wait),
                Err(Fault::Expired { reason }) => (reason, None),
                Err(Fault::Refused(status, headers)) => return Err(self.refusal(repo, revision, status, &headers)),
                Err(Fault::Final(error)) => return Err(error),
            };
            let Some(pause) = patience.next(wait) else {
                return Err(Error::Unreachable { host: self.host(), reason });
            };
            if pause >= Duration::from_secs(2) {
                (self.note)(&format!("{}: {reason}; again in {} s", self.host(), pause.as_secs()));
            }
            std::thread::sleep(pause);
        }
    }

    /// The answer to a request, wherever it comes from: its address, and what the hub said of the file on the way.
    pub(super) fn follow(
        &self,
        url: &str,
        range: Option<(u64, u64)>,
    ) -> Result<(String, Response<Body>, Linked), Fault> {
        let mut url = url.to_owned();
        let mut linked = Linked::default();
        for _ in 0..MAX_REDIRECTS {
            let response = self.once(&url, range)?;
            linked.note(response.headers());
            if !response.status().is_redirection() {
                return match accepted(response) {
                    Err(Fault::Refused(status, _)) if !self.is_own(&url) => {
                        Err(Fault::Expired { reason: format!("{}: HTTP {status}", host(&url)) })
                    }
                    Err(fault) => Err(fault),
                    Ok(response) => Ok((url, response, linked)),
                };
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| joined(&url, location));
            let broken = || Error::Answer { what: host(&url), fault: "it redirects to no address".to_owned() };
            let next = next.ok_or_else(|| Fault::Final(broken()))?;
            if url.starts_with("https://") && !next.starts_with("https://") {
                let fault = format!("it redirects from https to {}", host(&next));
                return Err(Fault::Final(Error::Answer { what: host(&url), fault }));
            }
            url = next;
        }
        Err(Fault::Final(Error::Answer { what: host(&url), fault: "it redirects without an end".to_owned() }))
    }

    /// Whether an address is the hub's, and not that of a host which it sends clients to.
    fn is_own(&self, url: &str) -> bool {
        origin(url).is_some() && origin(url) == origin(&self.endpoint)
    }

    /// One request; the token goes to the hub only.
    fn once(&self, url: &str, range: Option<(u64, u64)>) -> Result<Response<Body>, Fault> {
        // What is not compressed on the way has the length that was asked for.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if let Some(Token(token)) = self.token.as_ref().filter(|_| self.is_own(url)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((from, to)) = range {
            request = request.header("range", format!("bytes={from}-{}", to.saturating_sub(1)));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Fault::Final(Error::Answer { what: host(url), fault: format!("no address: {error}") })
            }
            error => Fault::passing(format!("{}: {error}", host(url))),
        })
    }
}

impl Linked {
    fn note(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.commit = self.commit.take().or_else(|| text("x-repo-commit").map(str::to_owned));
        self.etag = self.etag.take().or_else(|| text("x-linked-etag").and_then(etag));
        self.size = self.size.or_else(|| text("x-linked-size").and_then(|size| size.parse().ok()));
    }
}

/// The content of an ETag.
pub(super) fn etag(text: &str) -> Option<String> {
    let text = text.trim();
    let content = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    (!content.is_empty()).then(|| content.to_owned())
}

fn accepted(response: Response<Body>) -> Result<Response<Body>, Fault> {
    let status = response.status();
    match status.as_u16() {
        200..300 => Ok(response),
        429 => Err(Fault::Passing {
            reason: "too many requests (HTTP 429)".to_owned(),
            wait: retry_after(response.headers()),
        }),
        408 | 500..600 => {
            Err(Fault::Passing { reason: format!("HTTP {status}"), wait: retry_after(response.headers()) })
        }
        _ => Err(Fault::Refused(status, response.headers().clone())),
    }
}

/// Seconds, or the time of day when.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Duration::try_from(time.duration_since(Timestamp::now()).max(SignedDuration::ZERO)).ok()
}

fn read_json<T: serde::de::DeserializeOwned>(response: Response<Body>) -> Result<(T, HeaderMap), Fault> {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::new();
    let read = body.into_reader().take(MAX_ANSWER).read_to_end(&mut bytes);
    read.map_err(|error| Fault::passing(format!("the answer breaks off: {error}")))?;
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        let fault = format!("it is not what a hub says: {error}");
        Fault::Final(Error::Answer { what: "listing".to_owned(), fault })
    })?;
    Ok((value, parts.headers))
}

/// `<URL>; rel="next"` of the Link header, at the host that was asked: a mirror may pass on what the hub has written.
fn next_page(url: &str, headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let next = joined(url, next.split_once('<')?.1.split_once('>')?.0)?;
    let path = next.strip_prefix(origin(&next)?)?;
    Some(format!("{}{path}", origin(url)?))
}

/// A location as it is written, from where it was written.
fn joined(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return origin(location).map(|_| location.to_owned());
    }
    let (scheme, _) = base.split_once("://")?;
    match location.strip_prefix("//") {
        Some(rest) => Some(format!("{scheme}://{rest}")),
        None if location.starts_with('/') => Some(format!("{}{location}", origin(base)?)),
        None => None,
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let start = url.len() - rest.len();
    let len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // Names before an @ are not hosts, whatever they look like.
    (len > 0 && !rest.get(..len)?.contains('@')).then(|| url.get(..start + len)).flatten()
}

fn host(url: &str) -> String {
    let origin = origin(url).unwrap_or(url);
    origin.split_once("://").map_or(origin, |(_, host)| host).to_owned()
}

fn is_loopback(url: &str) -> bool {
    let host = host(url);
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(&*host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Some hubs say with which function.
fn sha256(oid: &str) -> Option<String> {
    let digits = oid.strip_prefix("sha256:").unwrap_or(oid);
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// As Hugging Face's own tools look for it.
fn token() -> Option<Token> {
    let named = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    let kept = || {
        let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home()?.join("token")))?;
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let is_token = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    named.or_else(kept).filter(is_token).map(Token)
}

fn home() -> Option<PathBuf> {
    let cache = || Some(directories::BaseDirs::new()?.cache_dir().join("huggingface"));
    variable("HF_HOME").map(PathBuf::from).or_else(cache)
}

/// Where Hugging Face's own tools keep what they have fetched.
pub(super) fn cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join("hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(origin("https://huggingface.co/a/b?c"), Some("https://huggingface.co"));
        assert_eq!(origin("http://127.0.0.1:80"), Some("http://127.0.0.1:80"));
        for wrong in ["ftp://a", "huggingface.co", "https://", "https:///a", "https://huggingface.co@evil.example/"] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
        let base = "https://h.example/a/b?c=1";
        assert_eq!(joined(base, "/x?y").as_deref(), Some("https://h.example/x?y"));
        assert_eq!(joined(base, "//cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(joined(base, "https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(joined(base, "file:///etc/passwd"), None);
        for (url, expected) in [
            ("http://127.0.0.1:8080/x", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("http://[::1]", true),
            ("http://127.0.0.1.example", false),
            ("http://hub.example:80", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
        assert_eq!(encoded("a b/ü#"), "a%20b%2F%C3%BC%23");
    }

    #[test]
    fn headers() {
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let url = "https://h.example/api?page=1";
        let next = |value: &str| next_page(url, &with("link", value));
        let page = "https://h.example/api?page=2";
        assert_eq!(next(&format!("<{page}>; rel=\"next\"")).as_deref(), Some(page));
        assert_eq!(
            next(&format!("<https://h.example/api>; rel=\"first\", <{page}>; rel=\"next\"")).as_deref(),
            Some(page)
        );
        assert_eq!(next("</api?page=2>; rel=\"next\"").as_deref(), Some(page));
        assert_eq!(next("<https://other.example/api?page=2>; rel=\"next\"").as_deref(), Some(page));
        assert_eq!(next("<x>; rel=\"prev\""), None);
        assert_eq!(retry_after(&with("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&with("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")), Some(Duration::ZERO));
        assert_eq!(retry_after(&with("retry-after", "soon")), None);
        assert_eq!(etag("W/\"abc\"").as_deref(), Some("abc"));
        assert_eq!(etag("\"\""), None);
        assert_eq!(sha256(&format!("sha256:{}", "AB".repeat(32))), Some("ab".repeat(32)));
        assert_eq!(sha256("da39a3ee5e6b4b0d3255bfef95601890afd80709"), None);
    }
}
