//! Answers as they come: events of a protocol, one behind the other, until the client goes away.

use super::answers::{Answers, Said};
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// A word in between, so that nobody on the way takes a long prompt for a dead connection.
const PING: Duration = Duration::from_secs(5);
/// Chunks that a slow client may be behind by.
const BEHIND: usize = 64;

/// How a protocol tells of answers.
pub(super) trait Wire: Send + 'static {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String;
    fn said(&mut self, index: usize, said: Said) -> String;
    fn end(&mut self) -> String;

    /// Says nothing.
    fn ping(&mut self) -> String {
        ": ping\n\n".to_owned()
    }
}

pub(super) fn response<W: Wire>(mut answers: Answers, mut wire: W) -> Response {
    let (sender, receiver) = channel::<String>(BEHIND);
    tokio::spawn(async move {
        let Some(()) = send(&sender, wire.begin()).await else { return };
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        loop {
            let text = tokio::select! {
                // The client went away; what it waited for is dropped with `answers`.
                () = sender.closed() => return,
                _ = ping.tick() => wire.ping(),
                said = answers.next() => match said {
                    Some((index, said)) => wire.said(index, said),
                    None => break,
                },
            };
            if !text.is_empty() {
                ping.reset();
                let Some(()) = send(&sender, text).await else { return };
            }
        }
        send(&sender, wire.end()).await;
    });
    let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, W::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
        // Or else a proxy would keep it until it is whole.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

async fn send(sender: &Sender<String>, text: String) -> Option<()> {
    if text.is_empty() {
        return Some(());
    }
    sender.send(text).await.ok()
}

/// A value as JSON on one line. What is serialised here has string keys only.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An event of server-sent events.
pub(super) fn data(value: &impl Serialize) -> String {
    format!("data: {}\n\n", json(value))
}

/// One that has a name.
pub(super) fn event(name: &str, value: &impl Serialize) -> String {
    format!("event: {name}\ndata: {}\n\n", json(value))
}
