//! Connections to `serve` whose clients take their time.

#![cfg(feature = "demo")]

mod support;

use serde_json::json;
use std::io::{Read, Write};
use support::server::{Server, read, request};

/// Many connections that say nothing, and some that say it slowly, are nobody's trouble.
#[test]
fn idle_and_slow_connections_keep_nobody_waiting() {
    let server = Server::start(&[]);
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc").unwrap();
            stream
        })
        .collect();
    server.until("cachalot_connections", 251.0);
    assert_eq!(server.get("/health").status, 200);
    drop((idle, slow));
    server.until("cachalot_connections", 1.0);
}

/// Clients that do not go on are let go: amid headers, amid a body, without a request, and without reading.
#[test]
fn who_keeps_the_server_waiting_is_let_go() {
    let server = Server::start(&["--timeout", "1"]);
    let until_closed = |begun: &str| {
        let mut stream = server.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        read(&mut stream)
    };
    // Who has not begun is told nothing.
    assert_eq!(until_closed("").status, 0);
    assert_eq!(until_closed("GET /health HTTP/1.1\r\nhost: loc").status, 408);
    let cut = until_closed(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 100\r\nconnection: close\r\n\r\n{",
    );
    assert!(cut.status == 408 && cut.body.contains("in time"), "{cut:?}");
    // Far more than the system keeps for a client that reads nothing.
    let body = json!({ "content": "a ".repeat(2_000_000), "with_pieces": true }).to_string();
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/tokenize", &[("content-type", "application/json")], body.as_bytes())).unwrap();
    stream.peek(&mut [0]).unwrap();
    server.until("cachalot_connections", 1.0);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 40_000_000, "{}", rest.len());
}
