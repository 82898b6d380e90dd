//! The fields of requests to `serve`: those of other servers that are kept to, and what of them is refused.

#![cfg(feature = "demo")]

mod support;

use serde_json::{Value, json};
use support::server::{Response, Server};

const CHAT: &str = "/v1/chat/completions";

fn question(more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "What is 17 + 25?" }] });
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

fn content(response: &Response) -> String {
    response.json()["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

fn tool(name: &str) -> Value {
    let parameters = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
}

/// Each is refused with 400, the field, and a word that tells what is wrong.
fn assert_refused(server: &Server, path: &str, cases: impl IntoIterator<Item = (Value, &'static str, &'static str)>) {
    for (body, field, says) in cases {
        let response = server.post(path, &body);
        let error = &response.json()["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert_eq!((response.status, &error["param"]), (400, &json!(field)), "{body}: {response:?}");
        assert!(message.contains(says), "{body}: {message}");
        for name in ["u32", "usize", "i64", "f32", "f64", "struct ", "variant", "sequence"] {
            assert!(!message.contains(name), "{body}: {message}");
        }
    }
}

#[test]
fn an_answer_ends_where_it_is_said_to() {
    let server = Server::start(&[]);
    let ask = |more: Value| server.post(CHAT, &question(more));
    let figures = |response: &Response| {
        let value = response.json();
        (value["usage"]["completion_tokens"].as_u64().unwrap(), value["choices"][0]["finish_reason"].clone())
    };
    let endless = ask(json!({ "ignore_eos": true, "max_tokens": 20 }));
    assert_eq!(figures(&endless), (20, json!("length")));
    let long = ask(json!({ "min_tokens": 10, "max_tokens": 40, "stop": "2" }));
    assert!(figures(&long).0 >= 10 && content(&long).starts_with("42"), "{long:?}");
    let ids = server.post("/tokenize", &json!({ "content": "42" })).json()["tokens"].clone();
    assert_eq!(ids.as_array().unwrap().len(), 2);
    let stopped = ask(json!({ "stop_token_ids": [ids[1]] }));
    assert_eq!((content(&stopped), figures(&stopped)), ("4".to_owned(), (2, json!("stop"))));
    for (field, value) in [("stop", json!("2")), ("stop_token_ids", json!([ids[1]]))] {
        for stream in [false, true] {
            let mut body = question(json!({ "include_stop_str_in_output": true, "stream": stream }));
            body[field] = value.clone();
            let response = server.post(CHAT, &body);
            let text = match stream {
                false => content(&response),
                true => response.events().iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect(),
            };
            assert_eq!(text, "42", "{body}");
        }
    }
    // A token that a request itself ends its answer with does so, the model's own too.
    let end = server.post("/tokenize", &json!({ "content": "<｜end▁of▁sentence｜>", "parse_special": true })).json();
    let ended = ask(json!({ "ignore_eos": true, "stop_token_ids": end["tokens"] }));
    assert_eq!((content(&ended), figures(&ended).1), ("42".to_owned(), json!("stop")));
    let completed =
        server.post("/v1/completions", &json!({ "prompt": "The capital of France is", "ignore_eos": true }));
    assert_eq!(figures(&completed), (16, json!("length")));
    assert_refused(
        &server,
        CHAT,
        [
            (question(json!({ "min_tokens": 5, "max_tokens": 4 })), "min_tokens", "so many"),
            (question(json!({ "stop_token_ids": [99_999_999] })), "stop_token_ids", "no token 99999999"),
            (question(json!({ "stop_token_ids": "x" })), "stop_token_ids", "an array"),
            (question(json!({ "ignore_eos": true, "guided_regex": "a" })), "ignore_eos", "guided_regex"),
        ],
    );
}

#[test]
fn what_would_be_ignored_is_refused() {
    let server = Server::start(&[]);
    assert_refused(
        &server,
        CHAT,
        [
            (question(json!({ "functions": [{ "name": "f" }] })), "functions", "'tools'"),
            (question(json!({ "function_call": "auto" })), "function_call", "'tool_choice'"),
            (question(json!({ "best_of": 3 })), "best_of", "'n'"),
            (question(json!({ "prompt_logprobs": 0 })), "prompt_logprobs", "'logprobs'"),
            (question(json!({ "add_generation_prompt": false })), "add_generation_prompt", "/v1/completions"),
            (question(json!({ "lora": [{ "id": 0 }] })), "lora", "as its file has it"),
            (question(json!({ "samplers": ["top_k"] })), "samplers", "same order"),
            (question(json!({ "modalities": ["text", "audio"] })), "modalities", "text"),
            (
                json!({ "messages": [{ "role": "assistant", "content": null, "function_call": { "name": "f" } }] }),
                "messages[0].function_call",
                "'tool_calls'",
            ),
        ],
    );
    assert_eq!(
        server.post(CHAT, &question(json!({ "best_of": 1, "functions": [], "function_call": null, "lora": [], "add_generation_prompt": true }))).status,
        200
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let server = Server::start(&[]);
    let format = json!({ "type": "json_object" });
    assert_refused(
        &server,
        CHAT,
        [
            (
                question(json!({ "guided_regex": "a", "response_format": format })),
                "guided_regex",
                "response_format.type",
            ),
            (question(json!({ "guided_regex": "a", "guided_choice": ["b"] })), "guided_choice", "guided_regex"),
            (
                question(json!({ "structured_outputs": { "json": {}, "regex": "a" } })),
                "structured_outputs.regex",
                "structured_outputs.json",
            ),
            (question(json!({ "continue_final_message": true })), "continue_final_message", "assistant"),
            (question(json!({ "reasoning_effort": "huge" })), "reasoning_effort", "medium"),
            (question(json!({ "tools": [tool("f"), tool("f")] })), "tools[1]", "another tool"),
            (question(json!({ "tools": [tool("f g")] })), "tools[0]", "letters"),
            (question(json!({ "tools": [tool(&"f".repeat(200))] })), "tools[0]", "letters"),
            (question(json!({ "tools": [{ "type": "web_search" }] })), "tools[0].type", "web_search"),
            (
                question(json!({ "tools": [{ "name": "f", "parameters": { "type": "string" } }] })),
                "tools[0]",
                "'type' than 'object'",
            ),
            (
                question(
                    json!({ "tools": [tool("f")], "tool_choice": { "type": "function", "function": { "name": "g" } } }),
                ),
                "tool_choice.function.name",
                "no tool 'g'",
            ),
            (question(json!({ "tool_choice": "required" })), "tool_choice", "no tool"),
            (
                question(json!({ "repetition_penalty": 1.1, "repeat_penalty": 1.2 })),
                "repeat_penalty",
                "'repetition_penalty' says something else",
            ),
            (question(json!({ "typ_p": 0.5, "typical_p": 0.4 })), "typ_p", "'typical_p' says"),
            (question(json!({ "repeat_last_n": 8, "penalty_last_n": 9 })), "repeat_last_n", "'penalty_last_n' says"),
            (
                question(json!({ "chat_template_kwargs": { "thinking": true, "enable_thinking": false } })),
                "chat_template_kwargs.enable_thinking",
                "'chat_template_kwargs.thinking' says",
            ),
        ],
    );
    let text = json!({ "type": "text" });
    let fine = question(json!({ "guided_regex": "[0-9]+", "response_format": text, "tools": [tool("a.b-c_9")] }));
    assert_eq!(server.post(CHAT, &fine).status, 200);
    assert_refused(
        &server,
        "/v1/completions",
        [
            (json!({ "prompt": "a", "suffix": "b", "echo": true }), "echo", "suffix"),
            (json!({ "prompt": ["a", 1] }), "prompt[1]", "array of tokens"),
            (json!({ "prompt": [["a"]] }), "prompt[0][0]", "whole number"),
            (json!({ "prompt": [[]] }), "prompt", "empty"),
            (json!({ "prompt": [99_999_999] }), "prompt", "99999999"),
        ],
    );
    let messages = question(json!({}))["messages"].clone();
    assert_refused(
        &server,
        "/tokenize",
        [
            (json!({}), "content", "missing"),
            (json!({ "content": "a", "prompt": "b" }), "prompt", "'content' says something else"),
            (json!({ "messages": messages, "prompt": "b" }), "messages", "'prompt'"),
            (
                json!({ "content": "a", "add_special": true, "add_special_tokens": false }),
                "add_special_tokens",
                "'add_special'",
            ),
        ],
    );
    let twice = question(json!({ "repetition_penalty": 1, "repeat_penalty": 1.0, "typ_p": null }));
    assert_eq!(server.post(CHAT, &twice).status, 200);
    assert_eq!(server.post("/tokenize", &json!({ "content": "" })).json()["count"], 0);
}

/// What belongs to another field that is not there, or says something else than one that is.
#[test]
fn fields_that_need_each_other_are_refused_alone() {
    let server = Server::start(&[]);
    let usage = json!({ "include_usage": true });
    assert_refused(
        &server,
        CHAT,
        [
            (question(json!({ "top_logprobs": 2 })), "top_logprobs", "'logprobs': true"),
            (question(json!({ "stream_options": usage })), "stream_options", "'stream': true"),
            (question(json!({ "max_tokens": 5, "max_completion_tokens": 6 })), "max_tokens", "'max_completion_tokens'"),
            (question(json!({ "max_tokens": 5, "n_predict": 6 })), "n_predict", "'max_tokens'"),
        ],
    );
    assert_refused(
        &server,
        "/v1/completions",
        [
            (json!({ "prompt": "x", "top_logprobs": 2 }), "top_logprobs", "'logprobs'"),
            (json!({ "prompt": "x", "stream_options": usage }), "stream_options", "'stream': true"),
        ],
    );
    assert_refused(
        &server,
        "/v1/responses",
        [(json!({ "input": "x", "stream_options": {} }), "stream_options", "'stream': true")],
    );
    let fine = json!({
        "max_tokens": 5, "max_completion_tokens": 5, "top_logprobs": 2, "logprobs": true, "stream": false,
        "stream_options": null, "user": "u", "metadata": { "a": "b" }, "presence_penalty": 2.5,
    });
    assert_eq!(server.post(CHAT, &question(fine)).status, 200);
}

/// Where usage is asked for, every chunk has it, and the last one says it.
#[test]
fn chunks_have_usage_where_it_is_asked_for() {
    let server = Server::start(&[]);
    for (path, body) in [(CHAT, question(json!({}))), ("/v1/completions", json!({ "prompt": "x" }))] {
        for is_asked in [true, false] {
            let mut body = body.clone();
            (body["stream"], body["max_tokens"]) = (true.into(), 2.into());
            if is_asked {
                body["stream_options"] = json!({ "include_usage": true });
            }
            let events = server.post(path, &body).events();
            let (last, before) = events.split_last().unwrap();
            let expected = is_asked.then_some(&Value::Null);
            assert!(before.iter().all(|event| event.get("usage") == expected), "{path}: {events:?}");
            assert_eq!(last["usage"].is_object(), is_asked, "{path}: {last}");
        }
    }
}

/// llama.cpp's pairs of biases have no bounds; OpenAI's object has.
#[test]
fn biases_are_bounded_as_each_protocol_has_them() {
    let server = Server::start(&[]);
    assert_refused(
        &server,
        CHAT,
        [
            (question(json!({ "logit_bias": { "5": 100.5 } })), "logit_bias", "-100 to 100"),
            (question(json!({ "logit_bias": { "5": -101 } })), "logit_bias", "-100 to 100"),
        ],
    );
    for fine in [json!({ "5": -100 }), json!({ "5": false }), json!([[5, -500]])] {
        assert_eq!(server.post(CHAT, &question(json!({ "logit_bias": fine, "max_tokens": 1 }))).status, 200);
    }
}

#[test]
fn a_wrong_value_is_refused_in_its_clients_words() {
    let server = Server::start(&[]);
    assert_refused(
        &server,
        CHAT,
        [
            (question(json!({ "temperature": 1e308 })), "temperature", "too large"),
            (question(json!({ "repeat_penalty": 0 })), "repeat_penalty", "more than 0"),
            (question(json!({ "max_tokens": 1e30 })), "max_tokens", "1e+30 is too large"),
            (question(json!({ "max_tokens": 1.5 })), "max_tokens", "a whole number, not 1.5"),
            (question(json!({ "min_tokens": -1 })), "min_tokens", "a whole number that is not negative"),
            (question(json!({ "stop": 5 })), "stop", "a text or an array of texts"),
            (question(json!({ "logit_bias": { "99999999": 1 } })), "logit_bias", "no token"),
            (json!({ "messages": [5] }), "messages[0]", "an object"),
            (question(json!({ "user": 5 })), "user", "a text, not 5"),
            (question(json!({ "metadata": "x" })), "metadata", "an object"),
            (json!({ "messages": [{ "role": "user", "content": "x", "name": 5 }] }), "messages[0].name", "a text"),
            (json!({ "messages": [{ "role": "user", "content": 5 }] }), "messages[0].content", "a text, or an array"),
            (
                json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": 5 }] }] }),
                "messages[0].tool_calls[0].function",
                "an object, not 5",
            ),
        ],
    );
    assert_refused(
        &server,
        "/v1/responses",
        [
            (json!({ "input": [] }), "input", "empty"),
            (json!({ "input": "x", "metadata": 5 }), "metadata", "an object, not 5"),
            (json!({ "input": "x", "include": "x" }), "include", "an array"),
            (json!({ "input": "x", "user": [] }), "user", "a text"),
            (json!({ "input": "x", "include": ["message.output_text.logprobs"] }), "include", "not supported"),
        ],
    );
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    let response = server.send("POST", CHAT, &[("content-type", "application/json")], deep.as_bytes());
    assert!(response.status == 400 && response.body.contains("nested too deeply"), "{response:?}");
}

#[test]
fn a_schema_that_nothing_meets_is_its_clients_fault() {
    let server = Server::start(&[]);
    let looping =
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
    let within = json!({
        "type": "object", "properties": { "x": { "$ref": "#/$defs/a" } }, "required": ["x"], "$defs": looping["$defs"],
    });
    let format = |schema: &Value| json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    assert_refused(
        &server,
        CHAT,
        [
            (
                question(json!({ "response_format": format(&looping) })),
                "response_format.json_schema.schema",
                "nothing can be written",
            ),
            (
                question(json!({ "response_format": format(&within) })),
                "response_format.json_schema.schema",
                "it allows nothing",
            ),
            (question(json!({ "guided_json": { "type": "int" } })), "guided_json", "int"),
        ],
    );
    // One that goes round and ends is fine.
    let list = json!({ "anyOf": [{ "type": "integer" }, { "type": "array", "items": { "$ref": "#" } }] });
    assert_eq!(server.post(CHAT, &question(json!({ "guided_json": list, "max_tokens": 20 }))).status, 200);
}

#[test]
fn some_of_the_tools_can_be_allowed() {
    let server = Server::start(&[]);
    let offered = json!([tool("first"), tool("second"), tool("third")]);
    let allowed = json!([{ "type": "function", "function": { "name": "second" } }]);
    let choice = json!({ "type": "allowed_tools", "allowed_tools": { "mode": "required", "tools": allowed } });
    let value =
        server.post(CHAT, &question(json!({ "tools": offered, "tool_choice": choice, "max_tokens": 80 }))).json();
    assert_eq!(value["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "second", "{value}");

    let parameters = tool("")["function"]["parameters"].clone();
    let flat = |name: &str| json!({ "type": "function", "name": name, "parameters": parameters });
    let choice = json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "b" }] });
    let body = json!({ "input": "x", "tools": [flat("a"), flat("b")], "tool_choice": choice, "max_output_tokens": 80 });
    let value = server.post("/v1/responses", &body).json();
    assert_eq!((&value["output"][0]["name"], &value["tool_choice"]), (&json!("b"), &choice), "{value}");
    let none = json!({ "type": "allowed_tools", "mode": "auto", "tools": [{ "type": "function", "name": "c" }] });
    let body = json!({ "input": "x", "tools": [flat("a")], "tool_choice": none });
    assert_refused(&server, "/v1/responses", [(body, "tool_choice.tools[0].name", "no tool 'c'")]);
}

/// A prompt that a client made of control tokens is read as such, whether it begins as texts do or not; and results of
/// tools stand in the order of their calls, by their ids.
#[test]
fn prompts_are_what_clients_mean() {
    let server = Server::start(&[]);
    let prompt = server.post("/apply-template", &question(json!({}))).json()["prompt"].as_str().unwrap().to_owned();
    let bare = prompt.split_once("<｜User｜>").map(|(_, rest)| format!("<｜User｜>{rest}")).unwrap();
    for prompt in [&prompt, &bare] {
        let answer = server.post("/v1/completions", &json!({ "prompt": prompt, "temperature": 0 })).json();
        assert_eq!((&answer["choices"][0]["text"], &answer["usage"]["prompt_tokens"]), (&json!("42"), &json!(13)));
        let body = json!({ "prompt": prompt, "raw": true, "stream": false, "options": { "temperature": 0 } });
        assert_eq!(server.post("/api/generate", &body).json()["response"], "42");
    }

    let call = |id: &str, n: i32| {
        let function = json!({ "name": "add", "arguments": format!("{{\"n\": {n}}}") });
        json!({ "id": id, "type": "function", "function": function })
    };
    let result = |id: &str, text: &str| json!({ "role": "tool", "tool_call_id": id, "content": text });
    let prompt = |results: [Value; 2]| {
        let calls = json!({ "role": "assistant", "content": null, "tool_calls": [call("c1", 1), call("c2", 2)] });
        let mut messages = vec![json!({ "role": "user", "content": "x" }), calls];
        messages.extend(results);
        let body = json!({ "messages": messages, "tools": [tool("add")] });
        server.post("/apply-template", &body).json()["prompt"].as_str().unwrap().to_owned()
    };
    let in_order = prompt([result("c1", "first"), result("c2", "second")]);
    assert!(in_order.find("first").unwrap() < in_order.find("second").unwrap());
    assert_eq!(prompt([result("c2", "second"), result("c1", "first")]), in_order);
}

/// llama.cpp's server adds nothing to a text that it is not asked to add; vLLM's begins it. Both read control tokens.
#[test]
fn texts_become_tokens_as_each_server_has_it() {
    let server = Server::start(&[]);
    let tokens = |body: Value| server.post("/tokenize", &body).json()["tokens"].clone();
    let bare = tokens(json!({ "content": "Hello" }));
    let begun = tokens(json!({ "content": "Hello", "add_special": true }));
    let begin = begun[0].as_u64().unwrap();
    assert_eq!(begun, Value::from_iter([&[json!(begin)], &bare.as_array().unwrap()[..]].concat()));
    assert_eq!(tokens(json!({ "prompt": "Hello" })), begun);
    assert_eq!(tokens(json!({ "prompt": "Hello", "add_special_tokens": false })), bare);
    let marker = "<｜User｜>";
    assert_eq!(tokens(json!({ "content": marker })).as_array().unwrap().len(), 1);
    assert!(tokens(json!({ "content": marker, "parse_special": false })).as_array().unwrap().len() > 1);
    assert_eq!(
        server.post("/detokenize", &json!({ "tokens": tokens(json!({ "content": marker })) })).json()["content"],
        marker
    );
    let spelled = server.post("/tokenize", &json!({ "prompt": "Hello", "return_token_strs": true })).json();
    let text: String =
        spelled["token_strs"].as_array().unwrap()[1..].iter().map(|text| text.as_str().unwrap()).collect();
    assert_eq!(text, "Hello");
}

#[test]
fn the_token_that_was_picked_is_among_the_likeliest() {
    let server = Server::start(&[]);
    for (n_top, n_told) in [(0, 1), (2, 3)] {
        let body = json!({ "prompt": "Hello", "max_tokens": 1, "logprobs": n_top, "logit_bias": { "5": 100 } });
        let told = server.post("/v1/completions", &body).json()["choices"][0]["logprobs"].clone();
        let token = told["tokens"][0].as_str().unwrap();
        assert_eq!(told["top_logprobs"][0][token], told["token_logprobs"][0], "{told}");
        assert_eq!(told["top_logprobs"][0].as_object().unwrap().len(), n_told, "{told}");
    }
}
