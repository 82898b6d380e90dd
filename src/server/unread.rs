//! Answers to what never becomes a request: headers that are none, are too large or come too late, and connections that
//! are too many.
//!
//! hyper answers the first two by itself, with a head and nothing behind it, and cannot be told otherwise; the stream below
//! writes the same fault in the form of all others in its place. Which protocol was meant nobody knows here.

use super::app::App;
use super::fault::{Fault, Kind};
use axum::http::StatusCode;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A whole response, which its connection ends with; counted and logged as others are.
pub(super) fn response(app: &App, fault: &Fault) -> Vec<u8> {
    let (status, id, body) = (fault.kind.status(), app.id("req_"), fault.openai().to_string());
    app.metrics.response("other", status.as_u16());
    if let Some(log) = app.options.log {
        log(&format!("{} to what was no request, {id}", status.as_u16()));
    }
    let retry = fault.retry_after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let (code, reason, length) = (status.as_u16(), status.canonical_reason().unwrap_or_default(), body.len());
    format!(
        "HTTP/1.1 {code} {reason}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         x-content-type-options: nosniff\r\nx-request-id: {id}\r\n{retry}\r\n{body}"
    )
    .into_bytes()
}

/// The fault of which hyper tells by such a head. It is known by what it lacks: the id that every response of ours has.
/// Behind another response in the same piece it is let through as it is.
fn told_by(written: &[u8]) -> Option<Fault> {
    let text = written.strip_prefix(b"HTTP/1.")?.strip_suffix(b"\r\n\r\n")?;
    let text = str::from_utf8(text).ok()?.to_ascii_lowercase();
    let has_body = text.contains("\r\n\r\n") || !text.contains("\r\ncontent-length: 0");
    if has_body || text.contains("\r\nx-request-id: ") {
        return None;
    }
    let status: StatusCode = text.split(' ').nth(1)?.parse().ok()?;
    match status {
        StatusCode::BAD_REQUEST => Some(Fault::invalid("what came is no request of HTTP/1.1, or has a faulty header")),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            Some(Fault::new(Kind::HeadersTooLarge, "the headers are too large, or too many"))
        }
        _ => None,
    }
}

/// A connection on which hyper's own answers have a body.
pub(super) struct Telling<S> {
    stream: S,
    app: Arc<App>,
    /// Of an answer in place of hyper's, what is not written yet.
    rest: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Telling<S> {
    pub(super) fn new(stream: S, app: Arc<App>) -> Telling<S> {
        Telling { stream, app, rest: Vec::new() }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => drop(self.rest.drain(..n)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Telling<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Telling<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(context))?;
        match told_by(bytes) {
            Some(fault) => {
                this.rest = response(&this.app, &fault);
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut this.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_answers_are_known() {
        let told = |text: &str| told_by(text.as_bytes()).map(|fault| fault.kind.status().as_u16());
        let rest = "connection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\r\n";
        assert_eq!(told(&format!("HTTP/1.1 400 Bad Request\r\n{rest}")), Some(400));
        assert_eq!(told(&format!("HTTP/1.0 431 Request Header Fields Too Large\r\n{rest}")), Some(431));
        for other in [
            format!("HTTP/1.1 400 Bad Request\r\nX-Request-Id: req_1\r\n{rest}"),
            format!("HTTP/1.1 204 No Content\r\n{rest}"),
            "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n".to_owned(),
            format!("HTTP/1.1 400 Bad Request\r\n{rest}HTTP/1.1 400 Bad Request\r\n{rest}"),
            "HTTP/1.1 400 Bad Request".to_owned(),
            String::new(),
        ] {
            assert_eq!(told(&other), None, "{other}");
        }
    }
}
