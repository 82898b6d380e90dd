//! `serve` in the protocols beside OpenAI's chat, over TLS, and before its model is there.

#![cfg(feature = "demo")]

mod support;

use cachalot::engine::ReadSoFar;
use cachalot::server;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::server::{Response, Server, read, request};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn names(response: &Response) -> Vec<&str> {
    response.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

fn messages() -> Value {
    json!([{ "role": "user", "content": "What is 17 + 25?" }])
}

fn tool() -> Value {
    json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false })
}

#[test]
fn anthropics_messages() {
    let server = Server::start(&[]);
    let ask = |more: Value| {
        let mut body = json!({ "model": "demo", "max_tokens": 80, "messages": messages() });
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        server.post("/v1/messages", &body)
    };
    let whole = ask(json!({})).json();
    assert_eq!(whole["content"], json!([{ "type": "text", "text": "42" }]));
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    let stream = ask(json!({ "stream": true }));
    let expected = [
        "message_start",
        // While its prompt is computed.
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&stream), expected, "{stream:?}");
    let stopped = ask(json!({ "stop_sequences": ["2"] })).json();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!("2")));
    assert_eq!(ask(json!({ "max_tokens": 1 })).json()["stop_reason"], "max_tokens");

    // Blocks, a system prompt, and an answer that is gone on with.
    let blocks = json!([{ "role": "user", "content": [{ "type": "text", "text": "What is 17 + 25?" }] }]);
    assert_eq!(ask(json!({ "messages": blocks })).json()["content"][0]["text"], "42");
    let begun = json!([{ "role": "user", "content": "What is 17 + 25?" }, { "role": "assistant", "content": "4" }]);
    assert_eq!(ask(json!({ "messages": begun })).json()["content"][0]["text"], "2");
    assert_eq!(ask(json!({ "system": [{ "type": "text", "text": "s" }] })).status, 200);

    let tools = json!([{ "name": "add", "description": "d", "input_schema": tool() }]);
    let called = ask(json!({ "tools": tools, "tool_choice": { "type": "any" } })).json();
    assert_eq!((&called["stop_reason"], &called["content"][0]["name"]), (&json!("tool_use"), &json!("add")));
    assert!(called["content"][0]["input"]["n"].is_i64(), "{called}");
    let result = json!({ "type": "tool_result", "tool_use_id": called["content"][0]["id"], "content": "42" });
    let history = json!([messages()[0], { "role": "assistant", "content": called["content"] }, { "role": "user", "content": [result] }]);
    assert_eq!(ask(json!({ "messages": history, "tools": tools })).status, 200);

    let format = json!({ "format": { "type": "json_schema", "schema": tool() } });
    let shaped = ask(json!({ "output_config": format })).json();
    let text = shaped["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_i64(), "{text}");

    let count = server.post("/v1/messages/count_tokens", &json!({ "messages": messages() })).json();
    let usage = &whole["usage"];
    let n = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count["input_tokens"].as_u64(), Some(n("input_tokens") + n("cache_read_input_tokens")));
    for (body, status, kind) in [
        (json!({ "messages": messages() }), 400, "invalid_request_error"),
        (json!({ "model": "claude", "max_tokens": 5, "messages": messages() }), 404, "not_found_error"),
        (
            json!({ "max_tokens": 5, "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }),
            400,
            "invalid_request_error",
        ),
        (
            json!({ "max_tokens": 5, "messages": messages(), "tools": [{ "type": "bash_20250124", "name": "bash" }] }),
            400,
            "invalid_request_error",
        ),
        (
            json!({ "max_tokens": 5, "messages": messages(), "tool_choice": { "type": "tool", "name": "x" } }),
            400,
            "invalid_request_error",
        ),
        (json!({ "max_tokens": 5, "messages": messages(), "mcp_servers": [{}] }), 400, "invalid_request_error"),
        (json!({ "max_tokens": 5, "messages": [{ "role": "user" }] }), 400, "invalid_request_error"),
        (json!({ "max_tokens": 5, "messages": messages(), "stop_sequences": "x" }), 400, "invalid_request_error"),
        (json!({ "max_tokens": 5, "messages": messages(), "tools": [{ "name": "f" }] }), 400, "invalid_request_error"),
        (json!({ "max_tokens": 5, "messages": messages(), "metadata": "x" }), 400, "invalid_request_error"),
    ] {
        let response = server.post("/v1/messages", &body);
        assert_eq!(
            (response.status, &response.json()["type"], &response.json()["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{body}"
        );
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Every answer has the id of its request, in the header where each protocol's clients look for it.
#[test]
fn requests_have_ids() {
    let server = Server::start(&["--api-key", "k"]);
    let send = |path: &str, more: &[(&str, &str)], body: &Value| {
        let headers = [&[("content-type", "application/json"), ("x-api-key", "k")], more].concat();
        server.send("POST", path, &headers, body.to_string().as_bytes())
    };
    let fine = json!({ "max_tokens": 1, "messages": messages() });
    for body in [&fine, &json!({ "max_tokens": 1, "messages": messages(), "stream": true }), &json!({})] {
        let answer = send("/v1/messages", &[], body);
        let id = header(&answer, "request-id").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(id.starts_with("req_") && header(&answer, "x-request-id") == Some(id), "{answer:?}");
        if answer.status != 200 {
            assert_eq!((answer.status, &answer.json()["request_id"]), (400, &json!(id)));
        }
    }
    // At the door too.
    let refused = server.post("/v1/messages", &fine);
    assert_eq!((refused.status, &refused.json()["request_id"]), (401, &json!(header(&refused, "request-id"))));
    let chat = send("/v1/chat/completions", &[("x-request-id", "mine-1")], &json!({}));
    assert_eq!((header(&chat, "x-request-id"), header(&chat, "request-id")), (Some("mine-1"), None));
    assert_eq!(chat.json()["request_id"], Value::Null);
    for unfit in ["a b", "\u{e9}", &"x".repeat(200)] {
        let own = send("/v1/models", &[("x-request-id", unfit)], &json!({}));
        assert!(header(&own, "x-request-id").unwrap().starts_with("req_"), "{own:?}");
    }
}

/// The tokens of a prompt are told where it still waits, and where nothing else is.
#[test]
fn a_message_that_waited_tells_its_tokens() {
    let mut server = Server::start(&["--parallel", "1", "--grace", "0"]);
    let send = |body: Value| {
        let mut stream = server.connect();
        let bytes =
            request("POST", "/v1/messages", &[("content-type", "application/json")], body.to_string().as_bytes());
        stream.write_all(&bytes).unwrap();
        stream
    };
    let count = server.post("/v1/messages/count_tokens", &json!({ "messages": messages() })).json();
    let endless = json!({ "max_tokens": 4000, "messages": messages(), "stream": true, "ignore_eos": true });
    let _first = send(endless.clone());
    server.until("cachalot_requests_running", 1.0);
    let mut second = send(endless);
    server.until("cachalot_requests_waiting", 1.0);
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.child), rustix::process::Signal::TERM)
        .unwrap();
    let told = read(&mut second);
    assert_eq!(names(&told), ["message_start", "error"], "{told:?}");
    assert_eq!(told.events()[0]["message"]["usage"]["input_tokens"], count["input_tokens"]);
    server.child.wait().unwrap();
}

#[test]
fn openais_responses() {
    let server = Server::start(&[]);
    let ask = |body: Value| server.post("/v1/responses", &body);
    let whole = ask(json!({ "input": "What is 17 + 25?" })).json();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(whole["output"][0]["content"][0]["text"], "42");
    let items = json!([{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "What is 17 + 25?" }] }]);
    assert_eq!(ask(json!({ "input": items })).json()["output"][0]["content"][0]["text"], "42");
    let cut = ask(json!({ "input": "What is 17 + 25?", "max_output_tokens": 1 })).json();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );

    let stream = ask(json!({ "input": "What is 17 + 25?", "stream": true }));
    let names = names(&stream);
    assert_eq!(
        (names[0], names[1], names[names.len() - 1]),
        ("response.created", "response.in_progress", "response.completed")
    );
    let events = stream.events();
    assert!(events.iter().zip(0..).all(|(event, n)| event["sequence_number"] == n), "{events:?}");
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "42");

    let tools = json!([{ "type": "function", "name": "add", "parameters": tool() }]);
    let choice = json!({ "type": "function", "name": "add" });
    let call = ask(json!({ "input": "x", "tools": tools, "tool_choice": choice, "max_output_tokens": 80 })).json();
    let call = &call["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("add")));
    let output = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "42" });
    let history = json!([{ "role": "user", "content": "x" }, call, output]);
    assert_eq!(ask(json!({ "input": history, "tools": tools, "max_output_tokens": 4 })).status, 200);
    let format = json!({ "format": { "type": "json_schema", "name": "a", "schema": tool() } });
    let shaped = ask(json!({ "input": "x", "text": format, "max_output_tokens": 80 })).json();
    let text = shaped["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_i64(), "{text}");
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({ "id": "conv_1" })),
        ("background", json!(true)),
        ("prompt", json!({ "id": "pmpt_1" })),
    ] {
        let mut body = json!({ "input": "x" });
        body[field] = value;
        let refused = ask(body);
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(field)));
    }
}

/// Clients read back what they asked for, and in which state each item is.
#[test]
fn openais_responses_repeat_their_requests() {
    let server = Server::start(&[]);
    let ask = |body: Value| server.post("/v1/responses", &body);
    let plain = ask(json!({ "input": "What is 17 + 25?" })).json();
    for (name, value) in [
        ("instructions", Value::Null),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("parallel_tool_calls", json!(true)),
        ("metadata", json!({})),
        ("text", json!({ "format": { "type": "text" } })),
        ("truncation", json!("disabled")),
        ("background", json!(false)),
        ("store", json!(false)),
    ] {
        assert_eq!(plain[name], value, "{name}");
    }
    let said = json!({
        "instructions": "s", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 1, "parallel_tool_calls": false,
        "metadata": { "a": "b" }, "tools": [{ "type": "function", "name": "add", "parameters": tool() }],
        "tool_choice": "none", "user": "u", "text": { "format": { "type": "text" } },
    });
    let mut body = said.clone();
    body["input"] = "What is 17 + 25?".into();
    let whole = ask(body.clone()).json();
    body["stream"] = true.into();
    let events = ask(body).events();
    for object in [&whole, &events[0]["response"], &events[events.len() - 1]["response"]] {
        for (name, value) in said.as_object().unwrap() {
            assert_eq!(object[name], *value, "{name}");
        }
    }
    assert_eq!(plain["output"][0]["status"], "completed");
    let item = |object: &Value| object["output"][0]["status"].clone();
    assert_eq!([item(&whole), item(&events[events.len() - 1]["response"])], [json!("incomplete"), json!("incomplete")]);
}

#[test]
fn ollamas_chat_and_generate() {
    let server = Server::start(&[]);
    let lines = |response: &Response| -> Vec<Value> {
        response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let chat = server.post("/api/chat", &json!({ "model": "demo", "messages": messages() }));
    assert!(chat.head.contains("application/x-ndjson"), "{chat:?}");
    let values = lines(&chat);
    let text: String = values.iter().filter_map(|value| value["message"]["content"].as_str()).collect();
    let last = values.last().unwrap();
    assert_eq!((text.as_str(), &last["done"], &last["done_reason"]), ("42", &json!(true), &json!("stop")));
    assert!(last["eval_count"].is_u64() && last["prompt_eval_count"].is_u64());
    let whole = |path: &str, body: Value| server.post(path, &body).json();
    let once = whole("/api/chat", json!({ "model": "demo:latest", "messages": messages(), "stream": false }));
    assert_eq!(once["message"]["content"], "42");
    let generated = whole("/api/generate", json!({ "prompt": "What is 17 + 25?", "stream": false }));
    assert_eq!(generated["response"], "42");
    let cut = whole("/api/chat", json!({ "messages": messages(), "stream": false, "options": { "num_predict": 1 } }));
    assert_eq!((&cut["message"]["content"], &cut["done_reason"]), (&json!("4"), &json!("length")));
    let shaped = whole(
        "/api/chat",
        json!({ "messages": messages(), "stream": false, "format": tool(), "options": { "num_predict": 80 } }),
    );
    let text = shaped["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_i64(), "{text}");
    // As curl sends it, which says nothing of JSON.
    let bare = server.send(
        "POST",
        "/api/generate",
        &[("content-type", "application/x-www-form-urlencoded")],
        br#"{"prompt": "What is 17 + 25?", "stream": false}"#,
    );
    assert_eq!(bare.json()["response"], "42");
    let tagged = &server.get("/api/tags").json()["models"][0];
    assert_eq!(tagged["name"], "demo:latest");
    let details = &tagged["details"];
    assert_eq!((&details["parameter_size"], &details["quantization_level"]), (&json!("9.3M"), &json!("Q6_K")));
    assert!(tagged["size"].as_u64().unwrap() > 1 << 20, "{tagged}");
    assert_eq!(server.get("/api/ps").json()["models"][0]["model"], "demo:latest");
    assert!(server.get("/api/version").json()["version"].is_string());
    let shown = whole("/api/show", json!({ "model": "demo" }));
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("tools")), "{shown}");
    for (path, body, reason) in [
        ("/api/generate", json!({ "model": "demo" }), "load"),
        ("/api/chat", json!({ "messages": [], "keep_alive": "5m" }), "load"),
        ("/api/generate", json!({ "keep_alive": 0 }), "unload"),
        ("/api/chat", json!({ "messages": [], "keep_alive": "0s" }), "unload"),
    ] {
        assert_eq!(whole(path, body)["done_reason"], reason);
    }
    for (path, body) in [
        ("/api/generate", json!({ "prompt": "x", "images": ["aGk="] })),
        ("/api/chat", json!({ "messages": messages(), "context": [1, 2] })),
        ("/api/generate", json!({ "prompt": "x", "context": [1, 99_999_999] })),
        ("/api/generate", json!({ "prompt": "x", "context": [1, 2], "raw": true })),
        ("/api/generate", json!({ "prompt": "x", "system": "Be brief.", "raw": true })),
        ("/api/generate", json!({ "prompt": "x", "keep_alive": true })),
        ("/api/generate", json!({ "prompt": "x", "keep_alive": "soon" })),
        ("/api/generate", json!({ "prompt": "x", "template": "{{ .Prompt }}" })),
        ("/api/chat", json!({ "messages": messages(), "options": { "mirostat": 2 } })),
        ("/api/chat", json!({ "messages": messages(), "think": "hard" })),
    ] {
        let refused = server.post(path, &body);
        assert!(refused.status == 400 && refused.json()["error"].is_string(), "{body}: {refused:?}");
    }
    let unknown = server.post("/api/chat", &json!({ "model": "llama", "messages": messages() }));
    assert!(unknown.status == 404 && unknown.json()["error"].as_str().unwrap().contains("demo"), "{unknown:?}");
}

/// A conversation by the tokens that `generate` gave is the one that `chat` has by its messages.
#[test]
fn ollamas_context_goes_on() {
    let server = Server::start(&[]);
    let post = |path: &str, body: Value| server.post(path, &body).json();
    let first = json!({ "system": "Be brief.", "prompt": "What is 17 + 25?", "stream": false });
    let context = post("/api/generate", first)["context"].clone();
    let message = |role: &str, text: &str| json!({ "role": role, "content": text });
    let mut history =
        vec![message("system", "Be brief."), message("user", "What is 17 + 25?"), message("assistant", "42")];
    history.push(message("user", "And 1 + 1?"));
    let chat = post("/api/chat", json!({ "messages": history, "stream": false }));
    let body = json!({ "prompt": "And 1 + 1?", "context": context, "stream": true });
    let streamed = server.post("/api/generate", &body).body;
    let values: Vec<Value> = streamed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = values.iter().filter_map(|value| value["response"].as_str()).collect();
    let last = values.last().unwrap();
    assert_eq!(
        (json!(text), &last["prompt_eval_count"]),
        (chat["message"]["content"].clone(), &chat["prompt_eval_count"])
    );
    history.push(message("assistant", &text));
    history.push(message("user", "x"));
    let third = json!({ "prompt": "x", "context": last["context"], "stream": false, "options": { "num_predict": 1 } });
    let prompt = server.post("/apply-template", &json!({ "messages": history })).json();
    let n = server.post("/tokenize", &json!({ "content": prompt["prompt"] })).json()["count"].clone();
    assert_eq!(post("/api/generate", third)["prompt_eval_count"], n);
    let raw =
        post("/api/generate", json!({ "prompt": "x", "raw": true, "stream": false, "options": { "num_predict": 1 } }));
    assert_eq!(raw["context"], Value::Null);
    let unsaid = json!({ "prompt": "x", "raw": true, "system": "", "context": [], "template": "", "stream": false });
    assert_eq!(server.post("/api/generate", &unsaid).status, 200);
    let thinking = server.post("/api/generate", &json!({ "prompt": "x", "think": true }));
    assert!(thinking.status == 400 && thinking.body.contains("does not support thinking"), "{thinking:?}");
}

#[test]
fn temperatures_are_those_of_deepseeks_api_where_that_is_said() {
    let server = Server::start(&["--temperature-map", "on"]);
    let fault = |path: &str, body: Value| server.post(path, &body).body;
    // What is refused says what it became.
    assert!(
        fault("/v1/chat/completions", json!({ "messages": messages(), "temperature": -1 }))
            .contains("temperature is -0.3")
    );
    let body = json!({ "messages": messages(), "options": { "temperature": -1 } });
    assert!(fault("/api/chat", body).contains("temperature is -1"));
}

#[test]
fn before_its_model_is_there_a_server_says_so() {
    let options = server::Options {
        host: "127.0.0.1".to_owned(),
        port: 0,
        keys: Vec::new(),
        allowed_hosts: Vec::new(),
        origins: Vec::new(),
        tls: None,
        n_parallel: 1,
        n_queue: 1,
        max_body: 1 << 20,
        timeout: Duration::from_secs(30),
        max_connections: 16,
        log: None,
        grace: Duration::ZERO,
    };
    let server = server::Server::start(options).unwrap();
    let (address, handle) = (server.address(), server.handle());
    let send = |method: &str, path: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&request(method, path, &[("content-type", "application/json")], body)).unwrap();
        read(&mut stream)
    };
    let health = send("GET", "/health", b"");
    assert_eq!((health.status, health.json()), (503, json!({ "status": "loading" })));
    handle.loading(ReadSoFar { done: 25, total: 100, time: Duration::from_secs(2) });
    assert_eq!(send("GET", "/health", b"").json()["loading"]["progress"], 0.25);
    for (method, path) in
        [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/v1/messages"), ("POST", "/api/chat")]
    {
        let response = send(method, path, b"{}");
        assert!(
            response.status == 503 && response.head.contains("retry-after") && response.body.contains("/health"),
            "{response:?}"
        );
    }
    assert_eq!((send("GET", "/version", b"").status, send("GET", "/", b"").status), (200, 200));
    handle.stop();
    server.run();
}

#[test]
fn over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::start(&["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, server.connect());
    let body = json!({ "messages": messages() }).to_string();
    stream
        .write_all(&request("POST", "/v1/chat/completions", &[("content-type", "application/json")], body.as_bytes()))
        .unwrap();
    let response = read(&mut stream);
    assert_eq!(response.json()["choices"][0]["message"]["content"], "42");
    // Who does not speak TLS hears nothing.
    assert_eq!(server.get("/health").status, 0);
}
