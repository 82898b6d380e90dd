//! Connections to `serve` whose clients take their time.

#![cfg(feature = "demo")]

mod support;

use serde_json::json;
use std::collections::BTreeSet;
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
    let late = until_closed("GET /health HTTP/1.1\r\nhost: loc");
    assert!(late.status == 408 && late.body.contains("the headers did not come in time"), "{late:?}");
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

/// What never becomes a request is told so as requests are, and counted.
#[test]
fn what_is_no_request_is_answered_like_one() {
    let server = Server::start(&["--timeout", "1"]);
    let long = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    let mut ids = BTreeSet::new();
    for (sent, status, says) in [
        ("what is 17 + 25?\r\n\r\n", 400, "no request of HTTP/1.1"),
        ("GET /health HTTP/1.1\r\nhost localhost\r\n\r\n", 400, "faulty header"),
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400, "faulty header"),
        (&long, 431, "too large"),
        (&many, 431, "too many"),
        ("GET /health HTTP/1.1\r\nhost: loc", 408, "in time"),
    ] {
        let response = server.raw(sent.as_bytes());
        let error = &response.json()["error"];
        assert_eq!((response.status, &error["type"]), (status, &json!("invalid_request_error")), "{response:?}");
        assert!(error["message"].as_str().unwrap().contains(says), "{response:?}");
        assert!(response.head.contains("\r\ncontent-type: application/json\r\n"), "{response:?}");
        let id = response.head.lines().find_map(|line| line.strip_prefix("x-request-id: req_"));
        assert!(ids.insert(id.unwrap().to_owned()), "{response:?}");
    }
    for (status, n) in [(400, 3.0), (408, 1.0), (431, 2.0)] {
        let name = format!("cachalot_http_responses_total{{route=\"other\",status=\"{status}\"}}");
        assert_eq!(server.figure(&name), n, "{status}");
    }
    // Behind a request that is one, on the same connection.
    let mut stream = server.connect();
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream.write_all(b"?\r\n\r\n").unwrap();
    let rest = read(&mut stream);
    assert!(rest.body.ends_with("}}") && rest.body.contains("no request of HTTP/1.1"), "{rest:?}");
}
