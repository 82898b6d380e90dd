//! `serve` over real sockets, with the demo model: OpenAI's protocol, and what the server does when things go wrong.

#![cfg(feature = "demo")]

mod support;

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};
use support::server::{Response, Server, read, request};

const CHAT: &str = "/v1/chat/completions";

fn question(text: &str) -> Value {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": text }] })
}

fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn content(response: &Response) -> String {
    response.json()["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

fn fault(response: &Response) -> (u16, String, Value) {
    let error = response.json()["error"].clone();
    (response.status, error["message"].as_str().unwrap_or_default().to_owned(), error)
}

#[test]
fn a_chat_is_answered_whole_and_as_it_comes() {
    let server = Server::start(&["--parallel", "4"]);
    let whole = server.post(CHAT, &question("What is 17 + 25?"));
    assert_eq!((whole.status, content(&whole).as_str()), (200, "42"));
    let value = whole.json();
    assert_eq!((&value["object"], &value["model"]), (&json!("chat.completion"), &json!("demo")));
    assert_eq!(value["choices"][0]["finish_reason"], "stop");
    let usage = &value["usage"];
    let n = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(n("prompt_tokens") + n("completion_tokens"), n("total_tokens"));
    // The same again is cached, but for the token whose logits are needed.
    let again = server.post(CHAT, &question("What is 17 + 25?")).json();
    assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], n("prompt_tokens") - 1);

    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let stream = server.post(CHAT, &with(question("What is 17 + 25?"), more));
    assert!(stream.head.contains("text/event-stream") && stream.body.ends_with("data: [DONE]\n\n"), "{stream:?}");
    let events = stream.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "42");
    let (last, before) = (&events[events.len() - 1], &events[events.len() - 2]);
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &usage["completion_tokens"]));
    assert_eq!(before["choices"][0]["finish_reason"], "stop");
    assert!(events.iter().all(|event| event["id"] == events[0]["id"] && event["object"] == "chat.completion.chunk"));
}

#[test]
fn requests_at_the_same_time_get_their_own_answers() {
    let server = Server::start(&["--parallel", "4"]);
    let ask = |a: u32| content(&server.post(CHAT, &question(&format!("What is {a} + 25?"))));
    let alone: Vec<String> = (11..19).map(ask).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (11..19)
            .map(|a| {
                scope.spawn({
                    let ask = &ask;
                    move || ask(a)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert_eq!(together[0], "36");
}

#[test]
fn the_fields_of_a_request_are_kept_to() {
    let server = Server::start(&["--parallel", "4"]);
    let ask = |more: Value| server.post(CHAT, &with(question("What is 17 + 25?"), more)).json();
    let cut = ask(json!({ "max_tokens": 1 }));
    assert_eq!(
        (&cut["choices"][0]["finish_reason"], &cut["usage"]["completion_tokens"]),
        (&json!("length"), &json!(1))
    );
    assert_eq!(ask(json!({ "max_completion_tokens": 1 }))["choices"][0]["finish_reason"], "length");
    let stopped = ask(json!({ "stop": "2" }));
    assert_eq!(stopped["choices"][0]["message"]["content"], "4");
    assert_eq!(ask(json!({ "stop": ["x", "4"] }))["choices"][0]["message"]["content"], "");

    let several = ask(json!({ "n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 6 }));
    assert_eq!(several["choices"].as_array().unwrap().len(), 3);
    assert_eq!(several["choices"], ask(json!({ "n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 6 }))["choices"]);

    let likely = ask(json!({ "logprobs": true, "top_logprobs": 2 }));
    let first = &likely["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&first["token"], &first["logprob"]),
        (&first["top_logprobs"][0]["token"], &first["top_logprobs"][0]["logprob"])
    );
    let joined: String = likely["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["token"].as_str().unwrap())
        .collect();
    assert_eq!(joined, "42");

    // The token that it would take is forbidden.
    let id = server.post("/tokenize", &json!({ "content": "42" })).json()["tokens"][0].to_string();
    let other = ask(json!({ "logit_bias": { id: -100 }, "max_tokens": 4 }));
    assert!(!other["choices"][0]["message"]["content"].as_str().unwrap().starts_with('4'), "{other}");
    // What nobody knows, and nothing, change nothing.
    let plain = ask(json!({ "colour": 1, "user": "x", "stop": null, "temperature": null, "stream": null }));
    assert_eq!(plain["choices"][0]["message"]["content"], "42");
}

#[test]
fn an_answer_can_be_given_a_form() {
    let server = Server::start(&["--parallel", "4"]);
    let schema = json!({
        "type": "object", "properties": { "answer": { "type": "integer" } }, "required": ["answer"],
        "additionalProperties": false,
    });
    let object = |more: Value| -> Value {
        let response = server.post(CHAT, &with(question("What is 17 + 25?"), with(json!({ "max_tokens": 60 }), more)));
        serde_json::from_str(&content(&response)).unwrap_or_else(|error| panic!("{error}: {response:?}"))
    };
    let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    for more in
        [json!({ "response_format": format }), json!({ "guided_json": schema }), json!({ "json_schema": schema })]
    {
        assert!(object(more.clone())["answer"].is_i64(), "{more}");
    }
    let regex = server.post(CHAT, &with(question("Hello"), json!({ "guided_regex": "[0-9]{3}x" })));
    assert!(content(&regex).len() == 4 && content(&regex).ends_with('x'));
    let choice = server.post(CHAT, &with(question("Hello"), json!({ "guided_choice": ["a|b", "c"] })));
    assert!(["a|b", "c"].contains(&content(&choice).as_str()));
    for (more, says) in [
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "int" } } } }),
            "int",
        ),
        (json!({ "response_format": { "type": "yaml" } }), "response_format.type"),
        (json!({ "guided_regex": "(" }), "regular expression"),
        (json!({ "grammar": "root ::= x" }), "GBNF"),
    ] {
        let (status, message, _) = fault(&server.post(CHAT, &with(question("x"), more)));
        assert!(status == 400 && message.contains(says), "{message}");
    }
}

#[test]
fn tools_are_called_where_that_is_asked_for() {
    let server = Server::start(&["--parallel", "4"]);
    let tool = |name: &str| {
        json!({ "type": "function", "function": {
            "name": name, "description": "d", "parameters": {
                "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"],
                "additionalProperties": false,
            },
        } })
    };
    let ask = |more: Value| {
        let body = with(json!({ "tools": [tool("first"), tool("second")], "max_tokens": 100 }), more);
        server.post(CHAT, &with(question("What is 17 + 25?"), body))
    };
    for (choice, names) in [
        (json!({ "type": "function", "function": { "name": "second" } }), &["second"][..]),
        (json!("required"), &["first", "second"]),
    ] {
        let value = ask(json!({ "tool_choice": choice })).json();
        let (message, reason) = (&value["choices"][0]["message"], &value["choices"][0]["finish_reason"]);
        let calls = message["tool_calls"].as_array().unwrap_or_else(|| panic!("{value}"));
        assert_eq!((calls.len(), reason), (1, &json!("tool_calls")));
        assert!(names.contains(&calls[0]["function"]["name"].as_str().unwrap()), "{value}");
        let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["n"].is_i64() && calls[0]["id"].as_str().unwrap().starts_with("call_"), "{value}");
        assert_eq!(message["content"], Value::Null);

        let events = ask(json!({ "tool_choice": choice, "stream": true })).events();
        let deltas: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
            .filter(|d| !d.is_null())
            .collect();
        assert!(deltas.len() > 1 && deltas[0]["index"] == 0 && deltas[0]["id"].is_string(), "{events:?}");
    }
    assert_eq!(content(&ask(json!({ "tool_choice": "none" }))), "42");
    let (status, message, _) = fault(&ask(json!({ "tool_choice": { "function": { "name": "third" } } })));
    assert!(status == 400 && message.contains("tool_choice"), "{message}");
    // Results go back.
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "first", "arguments": "{\"n\": 1}" } });
    let messages = json!([
        { "role": "user", "content": "u" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "2" },
    ]);
    assert_eq!(server.post(CHAT, &json!({ "messages": messages, "max_tokens": 2 })).status, 200);
}

#[test]
fn text_is_gone_on_with_and_filled_in() {
    let server = Server::start(&["--parallel", "4"]);
    let complete =
        |more: Value| server.post("/v1/completions", &with(json!({ "max_tokens": 8, "temperature": 0 }), more));
    let value = complete(json!({ "prompt": "The capital of France is" })).json();
    assert_eq!((&value["object"], &value["choices"][0]["index"]), (&json!("text_completion"), &json!(0)));
    let text = value["choices"][0]["text"].as_str().unwrap().to_owned();
    assert!(!text.is_empty());
    let echoed = complete(json!({ "prompt": "The capital of France is", "echo": true })).json();
    assert_eq!(echoed["choices"][0]["text"], format!("The capital of France is{text}"));
    let ids = server.post("/tokenize", &json!({ "content": "The capital of France is", "add_special": true })).json();
    let by_tokens = complete(json!({ "prompt": ids["tokens"], "logprobs": 1 })).json();
    assert_eq!(by_tokens["choices"][0]["text"], text);
    assert_eq!(by_tokens["choices"][0]["logprobs"]["text_offset"][0], 0);
    let several = complete(json!({ "prompt": ["a", "b"], "n": 2 })).json();
    let indices: Vec<u64> =
        several["choices"].as_array().unwrap().iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    let stream = complete(json!({ "prompt": "The capital of France is", "stream": true }));
    let streamed: String = stream.events().iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert!(streamed == text && stream.body.ends_with("data: [DONE]\n\n"));

    // The demo model fills in nothing, for want of the tokens for it; or it does.
    let filled = complete(json!({ "prompt": "def add(a, b):\n", "suffix": "\nprint(add(1, 2))" }));
    let is_answer = filled.status == 200 && filled.json()["choices"][0]["text"].is_string();
    assert!(is_answer || fault(&filled).1.contains("fill in the middle"), "{filled:?}");
}

#[test]
fn text_becomes_tokens_and_comes_back() {
    let server = Server::start(&["--parallel", "4"]);
    let value = server.post("/tokenize", &json!({ "content": "Hello <｜User｜> é", "with_pieces": true })).json();
    let n = value["count"].as_u64().unwrap() as usize;
    assert_eq!(value["tokens"].as_array().unwrap().len(), n);
    let ids: Vec<&Value> = value["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
    let back = server.post("/detokenize", &json!({ "tokens": ids })).json();
    assert_eq!(back["content"], "Hello <｜User｜> é");
    let prompt = server.post("/apply-template", &question("Hi")).json()["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.contains("<｜User｜>Hi<｜Assistant｜>"), "{prompt}");
    let (status, _, error) = fault(&server.post("/detokenize", &json!({ "tokens": [1, 99_999_999] })));
    assert_eq!((status, &error["param"]), (400, &json!("tokens")));
}

#[test]
fn the_server_says_how_it_is() {
    let server = Server::start(&["--parallel", "4"]);
    assert_eq!((server.get("/health").status, server.get("/health").json()), (200, json!({ "status": "ok" })));
    assert_eq!(server.get("/health/").status, 200);
    assert_eq!(server.get("/version").json()["version"], env!("CARGO_PKG_VERSION"));
    let models = server.get("/v1/models").json();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["object"]), (&json!("demo"), &json!("model")));
    // By any of its names.
    for name in ["demo", "Demo", "cachalot-demo", "Cachalot%20demo", "demo:latest"] {
        assert_eq!(server.get(&format!("/v1/models/{name}")).status, 200, "{name}");
    }
    assert!(server.figure("cachalot_slots") == 4.0 && server.figure("process_resident_memory_bytes") > 1e6);
    let (status, _, error) = fault(&server.post("/v1/embeddings", &json!({ "input": "x" })));
    assert_eq!((status, &error["type"]), (501, &json!("not_implemented_error")));
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::start(&["--parallel", "4"]);
    for (body, status, param, says) in [
        (json!({}), 400, json!("messages"), "missing"),
        (json!({ "messages": [] }), 400, json!("messages"), "empty"),
        (json!({ "messages": "x" }), 400, json!("messages"), "it must be an array, not the text"),
        (
            json!({ "messages": [{ "role": "wizard", "content": "x" }] }),
            400,
            json!("messages[0]"),
            "unknown role 'wizard'",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            json!("messages[0]"),
            "only text",
        ),
        (with(question("x"), json!({ "temperature": "hot" })), 400, json!("temperature"), "must be a number, not"),
        (with(question("x"), json!({ "temperature": -1 })), 400, json!("temperature"), "temperature is -1"),
        (with(question("x"), json!({ "top_p": 7 })), 400, json!("top_p"), "top_p is 7"),
        (with(question("x"), json!({ "max_tokens": -5 })), 400, json!("max_tokens"), "negative"),
        (with(question("x"), json!({ "max_tokens": 1e30 })), 400, json!("max_tokens"), "1e+30 is too large"),
        (with(question("x"), json!({ "n": 0 })), 400, json!("n"), "from 1 to"),
        (with(question("x"), json!({ "top_logprobs": 50 })), 400, json!("top_logprobs"), "from 0 to 20"),
        (with(question("x"), json!({ "logit_bias": { "x": 1 } })), 400, json!("logit_bias"), "token ids"),
        (with(question("x"), json!({ "stop": [""] })), 400, json!("stop"), "stop string is empty"),
        (with(question("x"), json!({ "stream_options": 3 })), 400, json!("stream_options"), "must be an object, not 3"),
        (with(question("x"), json!({ "model": "gpt-4" })), 404, json!("model"), "these are: demo, cachalot-demo"),
        (question(&"word ".repeat(9000)), 400, Value::Null, "but the context only"),
    ] {
        let response = server.post(CHAT, &body);
        let (found, message, error) = fault(&response);
        assert!(found == status && message.contains(says), "{body}: {response:?}");
        assert_eq!(error["param"], param, "{body}");
    }
    let json = ("content-type", "application/json");
    for (method, path, headers, body, status) in [
        ("POST", CHAT, &[json][..], &b"{"[..], 400),
        ("POST", CHAT, &[json], b"[]", 400),
        ("POST", CHAT, &[json], b"{\"messages\": \"\xff\"}", 400),
        ("POST", CHAT, &[json], "[".repeat(200_000).as_bytes(), 400),
        ("POST", CHAT, &[("content-type", "text/plain")], b"{}", 415),
        ("POST", CHAT, &[], b"{}", 415),
        ("GET", CHAT, &[], b"", 405),
        ("GET", "/nowhere", &[], b"", 404),
        ("GET", "/v1/models/nobody", &[], b"", 404),
        ("GET", "/v1/models/%ff", &[], b"", 400),
        ("GET", "/health", &[("host", "evil.example")], b"", 403),
        ("GET", "/health", &[("host", "evil.example:8080")], b"", 403),
        ("GET", "/health", &[("host", "127.0.0.1:8080")], b"", 200),
        ("POST", CHAT, &[json, ("origin", "http://evil.example")], b"{}", 403),
        ("POST", "/api/chat", &[("content-type", "text/plain"), ("origin", "null")], b"{}", 403),
    ] {
        let response = server.send(method, path, headers, body);
        assert_eq!(response.status, status, "{method} {path} {headers:?}: {response:?}");
        assert!(
            response.status == 200 || response.json()["error"].is_object() || path.starts_with("/api/"),
            "{response:?}"
        );
    }
}

#[test]
fn a_server_holds_its_bounds() {
    let server = Server::start(&["--max-body", "1K", "--parallel", "1", "--queue", "1", "--context", "4096"]);
    let (status, message, _) = fault(&server.post(CHAT, &question(&"x".repeat(2000))));
    assert!(status == 413 && message.contains("1000 bytes"), "{message}");
    // Also where a client does not say how much it sends.
    let mut chunked = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n"
        .to_vec();
    chunked.extend([b'x'; 2000]);
    chunked.extend(b"\r\n0\r\n\r\n");
    assert_eq!(server.raw(&chunked).status, 413);
    let long = [("x-long", "x".repeat(40_000))];
    let long: Vec<(&str, &str)> = long.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(server.send("GET", "/health", &long, b"").status, 431);

    // Two places, and both are taken.
    let endless = with(question("x"), json!({ "stream": true, "min_p": 0, "logit_bias": { "1": -100 } }));
    let endless = request("POST", CHAT, &[("content-type", "application/json")], endless.to_string().as_bytes());
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(&endless).unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            stream
        })
        .collect();
    server.until("cachalot_requests_running", 1.0);
    server.until("cachalot_requests_waiting", 1.0);
    let refused = server.post(CHAT, &question("x"));
    assert!(refused.status == 429 && refused.head.contains("retry-after: "), "{refused:?}");
    let (_, _, error) = fault(&server.post(CHAT, &with(question("x"), json!({ "n": 3 }))));
    assert_eq!(error["param"], "n");
    // Who goes away leaves its place: first who is in the queue, then who is answered.
    while let Some(stream) = held.pop() {
        stream.shutdown(Shutdown::Both).unwrap();
    }
    server.until("cachalot_requests_running", 0.0);
    server.until("cachalot_requests_waiting", 0.0);
    assert_eq!(content(&server.post(CHAT, &question("What is 17 + 25?"))), "42");
    assert_eq!(server.figure("cachalot_requests_rejected_total"), 1.0);
    // A client that asked for the whole answer, too.
    let body = with(question("x"), json!({ "logit_bias": { "1": -100 } }));
    let mut stream = server.connect();
    stream
        .write_all(&request("POST", CHAT, &[("content-type", "application/json")], body.to_string().as_bytes()))
        .unwrap();
    server.until("cachalot_requests_running", 1.0);
    drop(stream);
    server.until("cachalot_requests_running", 0.0);
}

#[test]
fn a_key_is_wanted_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "secret-one\n\nsecret-two\n").unwrap();
    let args =
        ["--api-key-file", file.to_str().unwrap(), "--cors", "https://chat.example", "--allow-host", "api.example"];
    let server = Server::start(&args);
    let with_key = |name: &str, value: &str| server.send("GET", "/v1/models", &[(name, value)], b"").status;
    assert_eq!(with_key("authorization", "Bearer secret-one"), 200);
    assert_eq!(with_key("authorization", "bearer secret-two"), 200);
    assert_eq!(with_key("x-api-key", "secret-two"), 200);
    for value in ["Bearer secret", "Bearer secret-onee", "secret-one", "Bearer ", ""] {
        assert_eq!(with_key("authorization", value), 401, "{value}");
    }
    for path in ["/metrics", "/version", "/v1/models", "/api/tags", "/nowhere"] {
        let response = server.get(path);
        assert!(response.status == 401 && !response.body.contains("secret"), "{path}: {response:?}");
    }
    assert_eq!((server.get("/health").status, server.get("/").status), (200, 200));
    assert_eq!(server.send("GET", "/health", &[("host", "api.example")], b"").status, 200);
    let origin = [("origin", "https://chat.example"), ("access-control-request-method", "POST")];
    let preflight = server.send("OPTIONS", CHAT, &origin, b"");
    assert!(preflight.status == 200 && preflight.head.contains("access-control-allow-origin: https://chat.example"));
    assert_eq!(server.send("OPTIONS", CHAT, &[("origin", "https://other.example")], b"").status, 403);
}

#[test]
fn it_does_not_start_where_it_must_not() {
    let other = Server::start(&[]);
    let taken = other.port.to_string();
    for (args, code, says) in [
        (&["--host", "0.0.0.0"][..], 2, "there is no key"),
        (&["--host", "no.such.host.invalid"], 2, "no address"),
        (&["--port", &taken], 1, "another port is set with --port"),
        (&["--tls-cert", "/nowhere"], 2, "--tls-key"),
        (&["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], 66, "cannot be read"),
        (&["--api-key-file", "/nowhere"], 66, "/nowhere"),
        (&["--cors", "example.org"], 2, "https://HOST"),
        (&["-m", "no-such-model", "--port", "0"], 66, "no-such-model"),
    ] {
        let ended = support::cachalot(&[&["serve"], args].concat());
        assert!(ended.code == Some(code) && ended.stderr.contains(says), "{args:?}: {ended:?}");
    }
    let vllm = ["--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.9", "--max-model-len", "64"];
    let ended = support::cachalot(&[&["serve", "-m", "no-such-model", "--port", "0"][..], &vllm].concat());
    assert!(ended.stderr.contains("experts are placed one by one") && ended.stderr.contains("not needed"), "{ended:?}");
    let llama = ["--ctx-size", "64", "--n-gpu-layers", "99", "--jinja", "--flash-attn", "on", "--batch-size", "64"];
    let ended = support::cachalot(&[&["serve", "-m", "no-such-model", "--port", "0"][..], &llama].concat());
    assert!(ended.code == Some(66) && ended.stderr.contains("--jinja is not needed"), "{ended:?}");
    let quiet = support::cachalot(&["serve", "-q", "-m", "no-such-model", "--port", "0", "--jinja", "-tp", "2"]);
    assert!(quiet.code == Some(66) && !quiet.stderr.contains("not needed"), "{quiet:?}");
    for (args, says) in [
        (&["--chat-template", "chatml"][..], "--chat-template is not known here"),
        (&["--embeddings"], "no embeddings are computed here"),
        (&["--max-model-len", "4x"], "32768, 32K"),
    ] {
        let ended = support::cachalot(&[&["serve", "--port", "0"], args].concat());
        assert!(ended.code == Some(2) && ended.stderr.contains(says), "{args:?}: {ended:?}");
    }
    for (key, says) in [
        (&b""[..], "CACHALOT_API_KEY: the key is empty"),
        (b" ", "CACHALOT_API_KEY: the key is empty"),
        (b"a b", "CACHALOT_API_KEY: a key is of ASCII"),
        (b"\xff", "CACHALOT_API_KEY: not UTF-8"),
    ] {
        let mut command = support::program();
        command.args(["serve", "demo", "--port", "0"]).env("CACHALOT_API_KEY", OsStr::from_bytes(key));
        let ended = support::run(&mut command);
        assert!(ended.code == Some(2) && ended.stderr.contains(says), "{ended:?}");
    }
}

/// What came from outside cannot write lines of its own, and no key is in it.
#[test]
fn requests_are_logged_where_that_is_asked_for() {
    let mut command = support::program();
    command.args(["serve", "demo", "--port", "0", "-t", "1", "-v", "--api-key", "secret-key"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let address = lines.find_map(|line| Some(line.split_once("http://")?.1.split(';').next()?.to_owned())).unwrap();
    lines.find(|line| line.ends_with(" answers")).unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let id = ("x-request-id", "mine-7");
        let headers = [("authorization", "Bearer secret-kez"), ("content-type", "application/json"), id];
        stream.write_all(&request("GET", path, &headers, b"")).unwrap();
        read(&mut stream)
    };
    assert_eq!(ask("/health?key=secret-key").status, 200);
    assert_eq!(ask("/%1b%0a\u{1b}").status, 400);
    assert_eq!(ask("/nowhere").status, 401);
    signal_child(&child, rustix::process::Signal::TERM);
    let rest: Vec<String> = lines.collect();
    child.wait().unwrap();
    let logged = rest.join("\n");
    assert!(logged.contains("GET /health 200 after ") && logged.contains("GET /nowhere 401 after "), "{logged}");
    assert_eq!(logged.matches(" ms, mine-7").count(), 2, "{logged}");
    assert!(!logged.contains("secret-k") && !logged.contains('\u{1b}') && !logged.contains('\u{202e}'), "{logged}");
}

#[test]
fn it_ends_in_good_order() {
    let mut server = Server::start(&["--grace", "60"]);
    let body = with(question("What is 17 + 25?"), json!({ "stream": true }));
    let mut stream = server.connect();
    stream
        .write_all(&request("POST", CHAT, &[("content-type", "application/json")], body.to_string().as_bytes()))
        .unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    signal(&server, rustix::process::Signal::TERM);
    // What was begun is brought to its end.
    let rest = read(&mut stream);
    let text = format!("{}{}", rest.head, rest.body);
    assert!(text.contains("[DONE]"), "{text}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));

    // What does not end has its time.
    let mut server = Server::start(&["--grace", "0"]);
    let endless = with(question("x"), json!({ "logit_bias": { "1": -100 } }));
    let mut stream = server.connect();
    stream
        .write_all(&request("POST", CHAT, &[("content-type", "application/json")], endless.to_string().as_bytes()))
        .unwrap();
    server.until("cachalot_requests_running", 1.0);
    signal(&server, rustix::process::Signal::INT);
    let cut = read(&mut stream);
    assert_eq!(cut.status, 503, "{cut:?}");
    assert!(cut.body.contains("the answer was cut"), "{cut:?}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_refused_at_the_door() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "# of the team\nk1\n").unwrap();
    let page = "http://a.example";
    let server = Server::start(&["--api-key-file", keys.path().to_str().unwrap(), "--cors", page]);
    let ask = |key: &str| server.send("GET", "/v1/models", &[("origin", page), ("x-api-key", key)], b"");
    assert_eq!(ask("k1").status, 200);
    let refused = ask("# of the team");
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("access-control-allow-origin: http://a.example"), "{refused:?}");
    let twice = server.send("GET", "/health", &[("host", "localhost"), ("host", "evil.example")], b"");
    assert_eq!(twice.status, 400, "{twice:?}");
    let mut named = quiet(&["serve", "--port", "0", "--allow-host", "http://a.b/"]);
    assert_eq!(named.status().unwrap().code(), Some(2));
}

fn quiet(args: &[&str]) -> std::process::Command {
    let mut command = support::program();
    command.args(args).stderr(std::process::Stdio::null());
    command
}

fn signal(server: &Server, signal: rustix::process::Signal) {
    signal_child(&server.child, signal);
}

fn signal_child(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn figures_are_of_all_work() {
    let server = Server::start(&["--parallel", "1"]);
    let end = "cachalot_requests_cancelled_total";
    // Cut in the middle: its tokens were computed all the same.
    let body = with(question("What is 17 + 25?"), json!({ "stream": true, "min_p": 0, "logit_bias": { "1": -100 } }));
    let mut stream = server.connect();
    stream
        .write_all(&request("POST", CHAT, &[("content-type", "application/json")], body.to_string().as_bytes()))
        .unwrap();
    stream.read_exact(&mut [0; 2000]).unwrap();
    drop(stream);
    server.until(end, 1.0);
    let of_cut = [server.figure("cachalot_prompt_tokens_total"), server.figure("cachalot_generated_tokens_total")];
    assert!(of_cut[0] > 5.0 && of_cut[1] > 2.0, "{of_cut:?}");
    let usage = server.post(CHAT, &question("What is 17 + 25?")).json()["usage"].clone();
    let prompt = server.figure("cachalot_prompt_tokens_total") - of_cut[0];
    let generated = server.figure("cachalot_generated_tokens_total") - of_cut[1];
    assert_eq!(
        (json!(prompt as u64), json!(generated as u64)),
        (usage["prompt_tokens"].clone(), usage["completion_tokens"].clone())
    );
    assert_eq!(server.figure("cachalot_requests_finished_total"), 1.0);
    assert_eq!(server.figure("cachalot_queue_seconds_count"), 2.0);
    assert_eq!(server.figure("cachalot_first_token_seconds_count"), 2.0);
    // Every step computes all layers of experts, and each token needs some.
    let [steps, layers, experts] =
        ["steps", "expert_layers", "experts"].map(|name| server.figure(&format!("cachalot_{name}_total")));
    assert!(layers >= steps && layers % steps == 0.0 && experts >= layers, "{steps} {layers} {experts}");
}
