//! Many clients for a while, some of them ill-behaved: no answer is lost or goes to somebody else, and nothing leaks.
//! It takes a minute; `tools/soak.sh` has it take half an hour.

#![cfg(feature = "demo")]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::server::{Server, request};

const CHAT: &str = "/v1/chat/completions";
const CLIENTS: u64 = 16;
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn seconds() -> u64 {
    std::env::var("CACHALOT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// The questions that may be asked: some share a beginning, some are long.
fn candidates() -> Vec<Value> {
    let texts = (0..80).map(|n| match n % 4 {
        0 => format!("What is {} + 25?", 11 + n),
        1 => format!("What is {} * 3?", 2 + n),
        2 => format!("{} What is {} + 4?", "word ".repeat(10 * usize::try_from(n).unwrap()), n),
        _ => format!("{} * 25 = ?", n % 20),
    });
    texts.map(|text| json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 24 })).collect()
}

/// Whether the model is sure of every token. Where two are nearly as likely, rounding decides, and that depends on how
/// many tokens are computed at once.
fn is_sure(server: &Server, question: &Value) -> bool {
    let mut body = question.clone();
    body["logprobs"] = true.into();
    body["top_logprobs"] = 2.into();
    let value = server.post(CHAT, &body).json();
    let choice = &value["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let logprob = |token: &Value, at: usize| token["top_logprobs"][at]["logprob"].as_f64().unwrap();
    tokens.iter().all(|token| logprob(token, 0) - logprob(token, 1) > 1.0)
        // How sure it was of the end is not told: an answer that is one number is one that it was made for.
        && choice["finish_reason"] == "stop"
        && choice["message"]["content"].as_str().unwrap().chars().all(|c| c.is_ascii_digit())
}

fn answer(server: &Server, question: &Value, is_streamed: bool) -> String {
    let mut body = question.clone();
    body["stream"] = is_streamed.into();
    let response = server.post(CHAT, &body);
    assert_eq!(response.status, 200, "{response:?}");
    match is_streamed {
        false => response.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        true => {
            assert!(response.body.ends_with("data: [DONE]\n\n"), "{response:?}");
            let events = response.events();
            events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
        }
    }
}

/// A client that leaves, or speaks nonsense.
fn misbehave(server: &Server, question: &Value, kind: u64) {
    match kind % 4 {
        0 => {
            let mut body = question.clone();
            body["stream"] = true.into();
            let mut stream = server.connect();
            stream.write_all(&request("POST", CHAT, JSON, body.to_string().as_bytes())).unwrap();
            let _ = stream.read(&mut [0; 64]);
        }
        1 => {
            let mut stream = server.connect();
            stream.write_all(&request("POST", CHAT, JSON, question.to_string().as_bytes())).unwrap();
        }
        2 => assert_eq!(server.send("POST", CHAT, JSON, b"{\"messages\": [").status, 400),
        _ => drop(server.raw(b"\x16\x03\x01 nonsense\r\n\r\n")),
    }
}

#[test]
fn answers_are_those_of_one_client_alone() {
    let server = Server::start(&["--parallel", "8", "--context", "4096"]);
    let questions: Vec<Value> = candidates().into_iter().filter(|question| is_sure(&server, question)).collect();
    assert!(questions.len() >= 20, "{}", questions.len());
    let alone: Vec<String> = questions.iter().map(|question| answer(&server, question, false)).collect();
    assert_eq!(alone[0], "36");
    let (n_answers, n_bad) = (AtomicU64::new(0), AtomicU64::new(0));
    let (memory, files) = ("process_resident_memory_bytes", "process_open_fds");
    let end = Instant::now() + Duration::from_secs(seconds());
    let run = |until: Instant, salt: u64| {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, questions, alone, n_answers, n_bad) = (&server, &questions, &alone, &n_answers, &n_bad);
                scope.spawn(move || {
                    let mut random = (client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
                    while Instant::now() < until {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let which = usize::try_from(random % questions.len() as u64).unwrap();
                        if (random >> 8).is_multiple_of(10) {
                            misbehave(server, &questions[which], random >> 16);
                            n_bad.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let is_streamed = (random >> 32).is_multiple_of(2);
                        assert_eq!(
                            answer(server, &questions[which], is_streamed),
                            alone[which],
                            "{}",
                            questions[which]
                        );
                        n_answers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        server.until("cachalot_requests_running", 0.0);
        server.until("cachalot_requests_waiting", 0.0);
        server.until("cachalot_connections", 1.0);
        (server.figure(memory), server.figure(files))
    };
    let settled = run(Instant::now() + Duration::from_secs(seconds() / 4), 1);
    let last = run(end, 2);
    println!(
        "{} answers, {} ill-behaved clients; memory {:.1} MB, then {:.1} MB; {} files, then {}",
        n_answers.load(Ordering::Relaxed),
        n_bad.load(Ordering::Relaxed),
        settled.0 / 1e6,
        last.0 / 1e6,
        settled.1,
        last.1
    );
    assert_eq!(settled.1, last.1, "open files");
    // What allocators keep moves by a few megabytes; what leaks, by more.
    assert!(last.0 < settled.0 * 1.1 + 16e6, "memory: {settled:?}, then {last:?}");
    assert!(n_answers.load(Ordering::Relaxed) > 100 && n_bad.load(Ordering::Relaxed) > 10);
    crowd(&server);
}

/// 2,000 connections that say nothing and 500 that say it slowly, while others ask how the server is.
fn crowd(server: &Server) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let room = limit.maximum.map_or(2600, |maximum| maximum.saturating_sub(100)).min(2600);
    let n_idle = room.saturating_sub(600);
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let idle: Vec<_> = (0..n_idle).map(|_| connect()).collect();
    let mut slow: Vec<_> = (0..500).map(|_| connect()).collect();
    let mut longest = Duration::ZERO;
    for byte in b"POST /v1/chat/completions HTTP/1.1\r\n" {
        for stream in &mut slow {
            // The server may have had enough of it.
            let _ = stream.write_all(&[*byte]);
        }
        let start = Instant::now();
        assert_eq!(server.get("/health").status, 200);
        longest = longest.max(start.elapsed());
    }
    println!("{} idle and {} slow connections: /health took {longest:?} at most", idle.len(), slow.len());
    drop((idle, slow));
    server.until("cachalot_connections", 1.0);
}
