//! Calls of tools in answers of `serve`: as they come, cut by a limit, gone wrong; and in the history of a request.

#![cfg(feature = "demo")]

mod support;

use serde_json::{Value, json};
use support::server::{Response, Server};

const CHAT: &str = "/v1/chat/completions";
const QUESTION: &str = "What is the weather like in Paris?";
const ARGUMENTS: &str = r#"{"city": "Paris"}"#;

fn schema() -> Value {
    json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] })
}

fn with(mut body: Value, more: &Value) -> Value {
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body["temperature"] = 0.into();
    body
}

/// OpenAI's chat; the model calls the tool by itself.
fn chat(more: &Value) -> Value {
    let function = json!({ "name": "get_weather", "description": "Get the weather of a city", "parameters": schema() });
    let tools = json!([{ "type": "function", "function": function }]);
    with(json!({ "messages": [{ "role": "user", "content": QUESTION }], "tools": tools, "max_tokens": 80 }), more)
}

fn messages(more: &Value) -> Value {
    let tool = json!({ "name": "get_weather", "description": "Get the weather of a city", "input_schema": schema() });
    with(json!({ "messages": [{ "role": "user", "content": QUESTION }], "tools": [tool], "max_tokens": 80 }), more)
}

fn response(more: &Value) -> Value {
    let about = "Get the weather of a city";
    let tool = json!({ "type": "function", "name": "get_weather", "description": about, "parameters": schema() });
    with(json!({ "input": QUESTION, "tools": [tool], "max_output_tokens": 80 }), more)
}

fn text<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().filter_map(Value::as_str).collect()
}

/// What a stream of chat completions told of calls, and of text.
fn deltas(response: &Response) -> (Vec<Value>, String, Value) {
    let events = response.events();
    let choices: Vec<&Value> = events.iter().map(|event| &event["choices"][0]).collect();
    let calls = choices.iter().map(|choice| choice["delta"]["tool_calls"][0].clone()).filter(|call| !call.is_null());
    let content = text(choices.iter().map(|choice| &choice["delta"]["content"]));
    let reason = choices.iter().rev().find(|choice| choice["finish_reason"].is_string()).unwrap();
    (calls.collect(), content, reason["finish_reason"].clone())
}

#[test]
fn calls_come_as_they_are_written() {
    let server = Server::start(&[]);
    for choice in [json!("auto"), json!("required")] {
        let whole = server.post(CHAT, &chat(&json!({ "tool_choice": choice, "logprobs": true }))).json();
        let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], "get_weather", "{whole}");
        let arguments = call["arguments"].as_str().unwrap();
        assert!(choice == "required" || arguments == ARGUMENTS, "{whole}");

        let streamed = server.post(CHAT, &chat(&json!({ "tool_choice": choice, "stream": true, "logprobs": true })));
        let (calls, content, reason) = deltas(&streamed);
        let (first, rest) = calls.split_first().unwrap();
        assert_eq!((&first["index"], &first["type"]), (&json!(0), &json!("function")));
        assert_eq!(first["function"], json!({ "name": "get_weather", "arguments": "" }));
        assert!(first["id"].as_str().unwrap().starts_with("call_"), "{first}");
        assert!(rest.len() > 3, "{rest:?}");
        for delta in rest {
            let keys: Vec<&String> =
                delta.as_object().unwrap().keys().chain(delta["function"].as_object().unwrap().keys()).collect();
            assert_eq!(keys, ["index", "function", "arguments"], "{delta}");
        }
        assert_eq!(text(rest.iter().map(|delta| &delta["function"]["arguments"])), arguments);
        assert_eq!((content.as_str(), reason), ("", json!("tool_calls")));
        // Each token's probability is told, with what comes of it or behind that.
        let n_tokens = |choice: &Value| choice["logprobs"]["content"].as_array().map_or(0, Vec::len);
        let n_told: usize = streamed.events().iter().map(|event| n_tokens(&event["choices"][0])).sum();
        assert_eq!(n_told, n_tokens(&whole["choices"][0]));
    }

    let events = server.post("/v1/messages", &messages(&json!({ "stream": true }))).events();
    let of_block = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let begun = of_block("content_block_start");
    assert!(begun.len() == 1 && of_block("content_block_stop").len() == 1, "{events:?}");
    let block = &begun[0]["content_block"];
    assert_eq!(
        (&block["type"], &block["name"], &block["input"]),
        (&json!("tool_use"), &json!("get_weather"), &json!({}))
    );
    let deltas = of_block("content_block_delta");
    assert!(deltas.len() > 3 && deltas.iter().all(|delta| delta["delta"]["type"] == "input_json_delta"), "{deltas:?}");
    assert_eq!(text(deltas.iter().map(|delta| &delta["delta"]["partial_json"])), ARGUMENTS);
    assert_eq!(of_block("message_delta")[0]["delta"]["stop_reason"], "tool_use");

    let events = server.post("/v1/responses", &response(&json!({ "stream": true }))).events();
    let of_kind = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert!(events.iter().zip(0..).all(|(event, n)| event["sequence_number"] == n), "{events:?}");
    let added = &of_kind("response.output_item.added")[0]["item"];
    assert_eq!((&added["arguments"], &added["status"]), (&json!(""), &json!("in_progress")));
    let deltas = of_kind("response.function_call_arguments.delta");
    assert!(deltas.len() > 3 && deltas.iter().all(|delta| delta["item_id"] == added["id"]), "{deltas:?}");
    assert_eq!(text(deltas.iter().map(|delta| &delta["delta"])), ARGUMENTS);
    assert_eq!(of_kind("response.function_call_arguments.done")[0]["arguments"], ARGUMENTS);
    let done = &of_kind("response.output_item.done")[0]["item"];
    assert_eq!((&done["arguments"], &done["status"]), (&json!(ARGUMENTS), &json!("completed")));
    assert_eq!(of_kind("response.completed")[0]["response"]["output"], json!([done]));

    // Whole, as Ollama's clients want it.
    let body = json!({ "messages": chat(&json!({}))["messages"], "tools": chat(&json!({}))["tools"], "options": { "temperature": 0 } });
    let lines = server.post("/api/chat", &body).body;
    let calls: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["message"]["tool_calls"].clone())
        .filter(|calls| !calls.is_null())
        .collect();
    assert_eq!(calls.len(), 1, "{lines}");
    assert_eq!(calls[0][0]["function"], json!({ "name": "get_weather", "arguments": { "city": "Paris" } }));
}

/// A limit leaves of a call what came of it, and says so.
#[test]
fn a_limit_cuts_calls() {
    let server = Server::start(&[]);
    // As many tokens as it takes to the midst of the city's name.
    let arguments = r#"{"city": "Par"#;
    let cut = |max_tokens: usize| {
        let value = server.post(CHAT, &chat(&json!({ "max_tokens": max_tokens }))).json()["choices"][0].clone();
        (value["message"]["tool_calls"][0]["function"]["arguments"] == arguments).then_some((max_tokens, value))
    };
    let (n, choice) = (8..24).find_map(cut).unwrap();
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("length"), &Value::Null));
    let (calls, content, reason) = deltas(&server.post(CHAT, &chat(&json!({ "max_tokens": n, "stream": true }))));
    assert_eq!(text(calls.iter().map(|call| &call["function"]["arguments"])), arguments);
    assert_eq!((content.as_str(), reason), ("", json!("length")));

    let whole = server.post("/v1/messages", &messages(&json!({ "max_tokens": n }))).json();
    let block = &whole["content"][0];
    assert_eq!((&block["name"], &block["input"]), (&json!("get_weather"), &json!({})), "{whole}");
    assert_eq!((&whole["stop_reason"], whole["content"].as_array().unwrap().len()), (&json!("max_tokens"), 1));
    let events = server.post("/v1/messages", &messages(&json!({ "max_tokens": n, "stream": true }))).events();
    assert_eq!(text(events.iter().map(|event| &event["delta"]["partial_json"])), arguments);
    let kinds: Vec<&str> = events.iter().rev().take(3).filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["message_stop", "message_delta", "content_block_stop"]);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "max_tokens");

    let is_cut = |object: &Value| {
        let item = &object["output"][0];
        assert_eq!((&item["type"], &item["status"]), (&json!("function_call"), &json!("incomplete")), "{object}");
        assert_eq!((&item["arguments"], object["output"].as_array().unwrap().len()), (&json!(arguments), 1));
        assert_eq!(
            (&object["status"], &object["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
    };
    is_cut(&server.post("/v1/responses", &response(&json!({ "max_output_tokens": n }))).json());
    let events = server.post("/v1/responses", &response(&json!({ "max_output_tokens": n, "stream": true }))).events();
    assert_eq!(text(events.iter().map(|event| &event["delta"])), arguments);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    is_cut(&last["response"]);

    // Members that are whole are there where arguments are objects.
    let parameters = json!({ "type": "object", "properties": {
        "a": { "type": "string", "const": "x" }, "b": { "type": "string", "const": "y".repeat(200) },
    }, "required": ["a", "b"], "additionalProperties": false });
    let more = json!({
        "tools": [{ "name": "f", "input_schema": parameters }], "tool_choice": { "type": "any" }, "max_tokens": 40,
    });
    let whole = server.post("/v1/messages", &messages(&more)).json();
    assert_eq!((&whole["content"][0]["input"], &whole["stop_reason"]), (&json!({ "a": "x" }), &json!("max_tokens")));
    // Half a call is none to Ollama's clients, and of one without a name nobody is told.
    let body = with(
        json!({ "messages": chat(&json!({}))["messages"], "tools": chat(&json!({}))["tools"], "stream": false }),
        &json!({ "options": { "num_predict": n, "temperature": 0 } }),
    );
    let value = server.post("/api/chat", &body).json();
    assert_eq!((&value["message"]["tool_calls"], &value["done_reason"]), (&Value::Null, &json!("length")));
    for stream in [false, true] {
        let nothing = server.post(CHAT, &chat(&json!({ "max_tokens": 4, "stream": stream })));
        assert!(nothing.body.contains(r#""finish_reason":"length""#), "{nothing:?}");
        assert!(!nothing.body.contains("tool") && !nothing.body.contains("get_"), "{nothing:?}");
    }
}

/// What turns out to be no call is text, whether its client was told of a call or not; and half a call stays half.
#[test]
fn calls_that_go_wrong_are_text() {
    let server = Server::start(&[]);
    let more = json!({ "stop": ["Par"] });
    let whole = server.post(CHAT, &chat(&more)).json()["choices"][0].clone();
    let content = whole["message"]["content"].as_str().unwrap();
    assert!(content.contains("get_weather") && content.ends_with(r#"{"city": ""#), "{whole}");
    assert_eq!((&whole["finish_reason"], &whole["message"]["tool_calls"]), (&json!("stop"), &Value::Null));
    let (calls, text_of, reason) = deltas(&server.post(CHAT, &with(chat(&more), &json!({ "stream": true }))));
    assert_eq!((text_of.as_str(), reason), (content, json!("stop")));
    assert_eq!(text(calls.iter().map(|call| &call["function"]["arguments"])), r#"{"city": ""#);

    let events = server.post("/v1/messages", &messages(&json!({ "stop_sequences": ["Par"], "stream": true }))).events();
    let begun: Vec<&Value> =
        events.iter().map(|event| &event["content_block"]["type"]).filter(|kind| !kind.is_null()).collect();
    assert_eq!(begun, ["tool_use", "text"]);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "stop_sequence");
    let events = server.post("/v1/responses", &response(&json!({ "stop": "Par", "stream": true }))).events();
    let items = events.last().unwrap()["response"]["output"].as_array().unwrap();
    let states: Vec<[&Value; 2]> = items.iter().map(|item| [&item["type"], &item["status"]]).collect();
    assert_eq!(states, [[&json!("function_call"), &json!("incomplete")], [&json!("message"), &json!("completed")]]);
}

/// Every call in a history has its result right behind it, and every result its call.
#[test]
fn calls_without_results_are_refused() {
    let server = Server::start(&[]);
    let refused = |path: &str, body: &Value, place: &str, says: &str| {
        let response = server.post(path, body);
        let error = &response.json()["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert!(response.status == 400 && message.starts_with(&format!("'{place}'")), "{body}: {response:?}");
        assert!(message.contains(says), "{message}");
        if !path.ends_with("messages") {
            assert_eq!(error["param"], place, "{response:?}");
        }
    };
    let user = || json!({ "role": "user", "content": "x" });
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let calls =
        |ids: &[&str]| json!({ "role": "assistant", "tool_calls": ids.iter().map(|id| call(id)).collect::<Vec<_>>() });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "1" });
    let history = |messages: Vec<Value>| chat(&json!({ "messages": messages, "max_tokens": 1 }));
    for (messages, place, says) in [
        (vec![user(), calls(&["a"]), user()], "messages[1].tool_calls[0].id", "'a' has no result"),
        (vec![user(), calls(&["a", "b"]), result("a")], "messages[1].tool_calls[1].id", "role 'tool'"),
        (vec![user(), calls(&["a"])], "messages[1].tool_calls[0].id", "'a'"),
        (vec![user(), calls(&["a"]), result("b")], "messages[2].tool_call_id", "'b'"),
        (vec![user(), result("a")], "messages[1].tool_call_id", "'a'"),
    ] {
        refused(CHAT, &history(messages), place, says);
    }
    assert_eq!(server.post(CHAT, &history(vec![user(), calls(&["a", "b"]), result("b"), result("a")])).status, 200);

    let used = |ids: &[&str]| {
        let block = |id: &&str| json!({ "type": "tool_use", "id": id, "name": "f", "input": {} });
        json!({ "role": "assistant", "content": ids.iter().map(block).collect::<Vec<_>>() })
    };
    let block = |id: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": "1" });
    let said = |blocks: Vec<Value>| json!({ "role": "user", "content": blocks });
    let text = || json!({ "type": "text", "text": "x" });
    let history = |history: Vec<Value>| messages(&json!({ "messages": history, "max_tokens": 1 }));
    for (messages, place, says) in [
        (vec![user(), used(&["a"]), user()], "messages[1].content[0].id", "tool_result"),
        (vec![user(), used(&["a", "b"]), said(vec![block("a"), text()])], "messages[1].content[1].id", "'b'"),
        (vec![user(), used(&["a"]), said(vec![text(), block("a")])], "messages[1].content[0].id", "before any text"),
        (vec![user(), used(&["a"])], "messages[1].content[0].id", "'a'"),
        (vec![user(), used(&["a"]), said(vec![block("b")])], "messages[2].content[0].tool_use_id", "'b'"),
    ] {
        refused("/v1/messages", &history(messages), place, says);
    }
    let answered = vec![user(), used(&["a", "b"]), said(vec![block("b"), block("a"), text()])];
    assert_eq!(server.post("/v1/messages", &history(answered)).status, 200);

    let item = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
    let output = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": "1" });
    let history = |items: Vec<Value>| response(&json!({ "input": items, "max_output_tokens": 1 }));
    for (items, place, says) in [
        (vec![user(), item("a"), user()], "input[1].call_id", "function_call_output"),
        (vec![user(), item("a"), item("b"), output("b")], "input[1].call_id", "'a'"),
        (vec![user(), output("a")], "input[1].call_id", "'a'"),
    ] {
        refused("/v1/responses", &history(items), place, says);
    }
    // What a response itself says behind a call goes back with it.
    let answer = json!({ "role": "assistant", "content": [{ "type": "output_text", "text": "y" }] });
    assert_eq!(
        server.post("/v1/responses", &history(vec![user(), item("a"), answer, output("a"), user()])).status,
        200
    );
    let unnamed =
        json!({ "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "f", "arguments": {} } }] });
    let body = json!({ "messages": [user(), unnamed, user()], "stream": false, "options": { "num_predict": 1 } });
    assert_eq!(server.post("/api/chat", &body).status, 200);
}
