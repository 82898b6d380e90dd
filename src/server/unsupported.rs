//! Fields of other servers that would change an answer, and that nothing is done about here. They are refused, as an
//! answer without them would be another than the one that was asked for.

use super::fault::Fault;
use super::fields::Fields;
use serde_json::Value;

/// A field, the values that ask for nothing, and what to do instead.
type Field = (&'static str, fn(&Value) -> bool, &'static str);

const PLAIN: &str = "leave it out";
const NOT_KEPT: &str = "nothing is kept here: send all of the conversation";

/// Of OpenAI's chat completions and completions, with what vLLM and llama.cpp add.
pub(super) const OPENAI: [Field; 25] = [
    ("functions", is_off, "send 'tools' instead"),
    ("function_call", is_off, "send 'tool_choice' instead"),
    ("audio", is_off, PLAIN),
    ("modalities", is_text, "answers are text"),
    ("web_search_options", is_off, "offer a tool that searches"),
    ("prompt_logprobs", is_no, "only the probabilities of an answer's own tokens are told, by 'logprobs'"),
    ("prompt_embeds", is_off, "send text, or tokens"),
    ("use_beam_search", is_off, PLAIN),
    ("bad_words", is_off, "send 'logit_bias' instead"),
    ("allowed_token_ids", is_off, "send 'guided_choice' or 'guided_regex' instead"),
    ("logits_processors", is_off, "send 'logit_bias' instead"),
    ("truncate_prompt_tokens", is_off, "shorten the prompt before it is sent"),
    ("chat_template", is_off, "send a prompt of your own to /v1/completions"),
    ("documents", is_off, "put them into a message"),
    ("skip_special_tokens", is_yes, "control tokens are no part of an answer"),
    ("mirostat", is_off, PLAIN),
    ("mirostat_mode", is_off, PLAIN),
    ("dynatemp_range", is_off, PLAIN),
    ("top_n_sigma", is_not_positive, PLAIN),
    ("top_a", is_off, PLAIN),
    ("tfs", is_one, PLAIN),
    ("lora", is_off, "the model is used as its file has it"),
    ("samplers", is_off, "they always come in the same order"),
    ("add_generation_prompt", is_yes, "send a prompt of your own to /v1/completions"),
    ("tfs_z", is_one, PLAIN),
];

/// Of chat completions alone.
pub(super) const CHAT: [Field; 2] =
    [("echo", is_off, "send the prompt to /v1/completions"), ("suffix", is_off, "send the prompt to /v1/completions")];

/// Of one of its messages.
pub(super) const MESSAGE: [Field; 2] =
    [("function_call", is_off, "send 'tool_calls' instead"), ("audio", is_off, "answers are text")];

/// Of OpenAI's responses.
pub(super) const RESPONSES: [Field; 6] = [
    ("previous_response_id", is_off, NOT_KEPT),
    ("conversation", is_off, NOT_KEPT),
    ("background", is_off, "wait for the answer, or stream it"),
    ("prompt", is_off, "send its text in 'input'"),
    ("top_logprobs", is_off, "/v1/chat/completions tells probabilities"),
    ("include", has_no_logprobs, "/v1/chat/completions tells probabilities"),
];

/// Of Anthropic's messages.
pub(super) const ANTHROPIC: [Field; 2] =
    [("mcp_servers", is_off, "offer their tools in 'tools'"), ("container", is_off, PLAIN)];

/// Of Ollama's chat and generate, beside their options.
pub(super) const OLLAMA: [Field; 4] = [
    ("template", is_off, "send a prompt of your own, with 'raw'"),
    ("images", is_off, "no model here can see an image"),
    ("logprobs", is_off, "/v1/chat/completions tells probabilities"),
    ("top_logprobs", is_off, "/v1/chat/completions tells probabilities"),
];

/// Of Ollama's chat alone.
pub(super) const OLLAMA_CHAT: [Field; 1] = [("context", is_off, "send the conversation in 'messages'")];

pub(super) fn refuse(fields: &Fields, unsupported: &[Field]) -> Result<(), Fault> {
    let asks = |(name, is_neutral, _): &&Field| fields.value(name).is_some_and(|value| !is_neutral(value));
    match unsupported.iter().find(asks) {
        Some((name, _, instead)) => Err(fields.fault(name, format!("it is not supported: {instead}"))),
        None => Ok(()),
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn is_no(value: &Value) -> bool {
    *value == Value::Bool(false)
}

fn is_yes(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0) || is_off(value)
}

fn is_not_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number <= 0.0)
}

/// What else can be included, nothing here has.
fn has_no_logprobs(value: &Value) -> bool {
    value.as_array().is_none_or(|names| names.iter().all(|name| name != "message.output_text.logprobs"))
}

fn is_text(value: &Value) -> bool {
    value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_asks_for_nothing_is_let_through() {
        let check = |value: Value| match value {
            Value::Object(map) => refuse(&Fields::of(map, ""), &OPENAI).map_err(|fault| fault.field.unwrap()),
            _ => unreachable!(),
        };
        for asks_nothing in [
            json!({ "functions": [], "mirostat": 0, "tfs_z": 1.0, "top_n_sigma": -1, "skip_special_tokens": true }),
            json!({ "functions": null, "prompt_logprobs": null, "modalities": ["text"], "audio": {}, "other": 5 }),
        ] {
            assert_eq!(check(asks_nothing), Ok(()));
        }
        for (asks, field) in [
            (json!({ "functions": [{}] }), "functions"),
            (json!({ "prompt_logprobs": 0 }), "prompt_logprobs"),
            (json!({ "modalities": ["text", "audio"] }), "modalities"),
            (json!({ "skip_special_tokens": false }), "skip_special_tokens"),
            (json!({ "tfs_z": 0.5 }), "tfs_z"),
        ] {
            assert_eq!(check(asks), Err(field.to_owned()));
        }
    }
}
