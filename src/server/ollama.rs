//! Ollama's protocol: chat and generate, as lines of JSON, and the lists that its clients look at first.
//!
//! What `generate` calls `context` is the tokens of a conversation, which its client keeps and sends with the next prompt.

use super::answers::{Answers, Call, End, Reason, Said, Whole};
use super::app::App;
use super::ask::{self, Ask, Asked, Calls, Chat};
use super::fault::Fault;
use super::fields::Fields;
use super::form::Form;
use super::model::Model;
use super::sampling::{Temperature, sampling};
use super::stream::{self, Wire, json as line};
use super::tools;
use super::unsupported::{self, refuse};
use crate::chat::{Conversation, Ending, Message, Options, Thinking};
use crate::engine::Grammar;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn details(model: &Model) -> Value {
    let info = model.engine.info();
    json!({
        "parent_model": "", "format": "gguf", "family": "deepseek2", "families": ["deepseek2"],
        "parameter_size": in_short(info.n_parameters), "quantization_level": info.main_type.unwrap_or_default(),
        "chat_family": model.family.name(),
    })
}

/// A number of parameters, as Ollama writes it.
fn in_short(n: u64) -> String {
    let units = [(1e9, "B"), (1e6, "M"), (1e3, "K")];
    let unit = units.iter().find(|(unit, _)| n as f64 >= *unit);
    unit.map_or_else(|| n.to_string(), |(unit, name)| format!("{:.1}{name}", n as f64 / unit))
}

fn digest(model: &Model) -> String {
    blake3::hash(format!("{:?}", model.engine.info().fingerprint).as_bytes()).to_hex().to_string()
}

fn since(model: &Model) -> String {
    let seconds = i64::try_from(model.since).unwrap_or_default();
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn entry(model: &Model, name: &str) -> Value {
    let info = model.engine.info();
    json!({
        "name": tagged(name), "model": tagged(name), "modified_at": since(model), "size": info.n_bytes,
        "digest": digest(model), "details": details(model),
    })
}

pub(super) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let models: Vec<Value> = model.names.iter().map(|name| entry(&model, name)).collect();
    Ok(Json(json!({ "models": models })))
}

pub(super) async fn running(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let mut entry = entry(&model, model.name());
    entry["context_length"] = model.engine.info().n_ctx.into();
    entry["size_vram"] = model.engine.info().memory.on_gpus.into();
    // It stays as long as the server does.
    entry["expires_at"] = "2318-01-01T00:00:00Z".into();
    Ok(Json(json!({ "models": [entry] })))
}

pub(super) async fn show(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let info = model.engine.info();
    let mut capabilities = vec!["completion"];
    if model.engine.tokenizer().special("<｜fim▁hole｜>").is_ok() {
        capabilities.push("insert");
    }
    if model.family.has_tools() {
        capabilities.push("tools");
    }
    if model.family.thinking() != Thinking::Never {
        capabilities.push("thinking");
    }
    Ok(Json(json!({
        "modelfile": "", "parameters": "", "template": info.chat_template.as_deref().unwrap_or_default(),
        "details": details(&model),
        "model_info": {
            "general.architecture": "deepseek2",
            "general.basename": info.name,
            "general.parameter_count": info.n_parameters,
            "deepseek2.context_length": info.n_ctx,
            "deepseek2.block_count": info.n_layer,
            "tokenizer.ggml.tokens": info.n_vocab,
        },
        "capabilities": capabilities, "modified_at": since(&model),
    })))
}

pub(super) async fn chat(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let conversation = Conversation { messages: messages(&fields)?, tools: tools::read(&fields)? };
    let ends = is_over(&fields)?;
    if conversation.messages.is_empty() {
        return Ok(Json(loaded(&model, true, ends)).into_response());
    }
    refuse(&fields, &unsupported::OLLAMA_CHAT)?;
    let options = Options { thinking: thinking(&fields, &model)?, ending: ask::ending(&conversation) };
    let chat = Chat { field: "messages", conversation, options, calls: Calls::Free, single_call: false };
    answer(app, &fields, model, Asked::Chat(chat), true).await
}

pub(super) async fn generate(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let prompt: String = fields.get("prompt")?.unwrap_or_default();
    let suffix: String = fields.get("suffix")?.unwrap_or_default();
    let context = context(&fields, &model)?;
    let (ends, is_raw) = (is_over(&fields)?, fields.flag("raw")?);
    if prompt.is_empty() && suffix.is_empty() {
        return Ok(Json(loaded(&model, false, ends)).into_response());
    }
    if !context.is_empty() && (is_raw || !suffix.is_empty()) {
        return Err(
            fields.fault("context", "neither a 'raw' prompt nor one with a 'suffix' is a part of a conversation")
        );
    }
    let system: Option<String> = fields.get("system")?.filter(|system: &String| !system.is_empty());
    if is_raw && system.is_some() {
        return Err(fields.fault("system", "a 'raw' prompt is sent as it is: write it there, or leave 'raw' out"));
    }
    let asked = if !suffix.is_empty() {
        Asked::Between { prefix: prompt, suffix }
    } else if is_raw {
        Asked::Text(prompt)
    } else {
        let messages = system.map(Message::System).into_iter().chain([Message::User(prompt)]).collect();
        let options = Options { thinking: thinking(&fields, &model)?, ..Options::default() };
        let conversation = Conversation::new(messages);
        let chat = Chat { field: "prompt", conversation, options, calls: Calls::Free, single_call: false };
        Asked::Later { before: context, chat }
    };
    answer(app, &fields, model, asked, false).await
}

/// Without a question a model is loaded, or let go; this one is there as long as the server is.
fn loaded(model: &Model, is_chat: bool, ends: bool) -> Value {
    let mut value = Wired::new(model, is_chat, None).object("", None, &[], true);
    value["done_reason"] = if ends { "unload" } else { "load" }.into();
    value
}

/// Whether nothing is to be kept behind a request.
fn is_over(fields: &Fields) -> Result<bool, Fault> {
    let form = "it must be a number of seconds, or a duration such as \"5m\"";
    match fields.value("keep_alive") {
        None => Ok(false),
        Some(Value::Number(seconds)) => Ok(seconds.as_f64() == Some(0.0)),
        Some(Value::String(text)) => match (text.parse::<f64>(), text.parse::<SignedDuration>()) {
            (Ok(seconds), _) => Ok(seconds == 0.0),
            (_, Ok(duration)) => Ok(duration.is_zero()),
            _ => Err(fields.fault("keep_alive", form)),
        },
        Some(_) => Err(fields.fault("keep_alive", form)),
    }
}

fn context(fields: &Fields, model: &Model) -> Result<Vec<u32>, Fault> {
    let context: Vec<u32> = fields.get("context")?.unwrap_or_default();
    let n_vocab = model.engine.info().n_vocab;
    match context.iter().find(|id| **id as usize >= n_vocab) {
        Some(id) => Err(fields.fault("context", format!("there is no token {id}; this vocabulary has {n_vocab}"))),
        None => Ok(context),
    }
}

/// A conversation, to be gone on with by the tokens that it has with its answer.
struct Kept {
    model: Arc<Model>,
    before: Vec<u32>,
    chat: Chat,
}

impl Kept {
    /// As it would stand in the prompt of the next question: without what the model thought.
    fn context(mut self, answer: &str) -> Option<Vec<u32>> {
        self.chat.conversation.messages.push(Message::assistant(answer));
        self.chat.options.ending = Ending::Continue;
        let prompt = self.model.framed(&self.chat).ok()?.0;
        let tokens = self.model.encode(&prompt, "").ok()?;
        let mut context = self.model.behind(self.before, tokens);
        context.extend(self.model.engine.tokenizer().roles().eos);
        Some(context)
    }
}

async fn answer(
    app: Arc<App>,
    fields: &Fields,
    model: Arc<Model>,
    prompt: Asked,
    is_chat: bool,
) -> Result<Response, Fault> {
    let options = fields.object("options")?;
    refuse(fields, &unsupported::OLLAMA)?;
    refuse(&options, &unsupported::OPENAI)?;
    let kept = match &prompt {
        Asked::Later { before, chat } => {
            Some(Kept { model: model.clone(), before: before.clone(), chat: chat.clone() })
        }
        _ => None,
    };
    let ask = Ask {
        prompt,
        sampling: sampling(&options, &model, Temperature::Plain)?,
        bounds: ask::bounds(&options, &["num_predict"], "stop", &model)?,
        form: format(fields)?.map(|grammar| Form { grammar, field: fields.path("format") }),
        n_logprobs: None,
        n: 1,
    };
    let is_streamed = fields.get("stream")?.unwrap_or(true);
    let answers = Answers::begin(&app, vec![ask]).await?;
    let mut wired = Wired::new(&model, is_chat, kept);
    if is_streamed {
        return Ok(stream::response(answers, wired));
    }
    let Whole { reasoning, content, mut calls, end, .. } =
        answers.collect().await?.into_iter().next().unwrap_or_default();
    // Arguments are objects here, and of one that was cut nobody would see that.
    calls.retain(|call| !call.is_cut);
    (wired.end, wired.text) = (end, content.clone());
    let mut value = wired.object(&content, reasoning.as_deref(), &calls, true);
    wired.figures(&mut value);
    Ok(Json(value).into_response())
}

fn thinking(fields: &Fields, model: &Model) -> Result<Option<bool>, Fault> {
    let think = match fields.value("think") {
        Some(Value::Bool(think)) => Some(*think),
        Some(Value::String(effort)) if ["low", "medium", "high", "max"].contains(&effort.as_str()) => Some(true),
        Some(Value::String(effort)) if effort == "none" => Some(false),
        Some(_) => return Err(fields.fault("think", "it must be true, false, low, medium, high, max or none")),
        None => None,
    };
    if think == Some(true) && model.family.thinking() == Thinking::Never {
        return Err(fields.fault("think", format!("\"{}\" does not support thinking", model.name())));
    }
    Ok(think.filter(|_| model.family.thinking() == Thinking::OnRequest))
}

fn format(fields: &Fields) -> Result<Option<Grammar>, Fault> {
    match fields.value("format") {
        None => Ok(None),
        Some(Value::String(format)) if format.is_empty() => Ok(None),
        Some(Value::String(format)) if format == "json" => Ok(Some(Grammar::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Grammar::JsonSchema(schema.clone()))),
        Some(_) => Err(fields.fault("format", "it must be \"json\" or a JSON schema")),
    }
}

/// OpenAI's messages, but for the names of two fields.
fn messages(fields: &Fields) -> Result<Vec<Message>, Fault> {
    let mut values: Vec<Map<String, Value>> = fields.get("messages")?.unwrap_or_default();
    for message in &mut values {
        if let Some(thinking) = message.remove("thinking") {
            message.insert("reasoning_content".to_owned(), thinking);
        }
        if message.get("images").and_then(Value::as_array).is_some_and(|images| !images.is_empty()) {
            return Err(fields.fault("messages", "no model here can see an image"));
        }
    }
    let values = values.into_iter().map(Value::Object).collect();
    super::fields::read(&Value::Array(values), &fields.path("messages"))
}

struct Wired {
    name: String,
    is_chat: bool,
    end: Option<End>,
    kept: Option<Kept>,
    /// The answer, where it is kept.
    text: String,
}

impl Wired {
    fn new(model: &Model, is_chat: bool, kept: Option<Kept>) -> Wired {
        Wired { name: model.name().to_owned(), is_chat, end: None, kept, text: String::new() }
    }

    fn object(&self, text: &str, thinking: Option<&str>, calls: &[Call], done: bool) -> Value {
        let mut value = json!({ "model": self.name, "created_at": Timestamp::now().to_string() });
        if self.is_chat {
            let mut message = json!({ "role": "assistant", "content": text });
            if let Some(thinking) = thinking {
                message["thinking"] = thinking.into();
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.iter().map(call_json).collect();
            }
            value["message"] = message;
        } else {
            value["response"] = text.into();
            if let Some(thinking) = thinking {
                value["thinking"] = thinking.into();
            }
        }
        value["done"] = done.into();
        value
    }

    fn figures(&mut self, value: &mut Value) {
        let Some(End { reason, usage }) = &self.end else { return };
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        value["done_reason"] = if *reason == Reason::Length { "length" } else { "stop" }.into();
        value["total_duration"] = nanos(usage.prompt_time + usage.generation_time).into();
        value["load_duration"] = 0.into();
        value["prompt_eval_count"] = usage.prompt_tokens.into();
        value["prompt_eval_duration"] = nanos(usage.prompt_time).into();
        value["eval_count"] = usage.generated_tokens.into();
        value["eval_duration"] = nanos(usage.generation_time).into();
        if let Some(context) = self.kept.take().and_then(|kept| kept.context(&self.text)) {
            value["context"] = context.into();
        }
    }
}

fn call_json(call: &Call) -> Value {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({ "id": call.id, "function": { "name": call.name, "arguments": arguments } })
}

impl Wire for Wired {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";

    fn begin(&mut self) -> String {
        String::new()
    }

    fn said(&mut self, _: usize, said: Said) -> String {
        let value = match said {
            Said::Prompt(_) | Said::Token(_) | Said::Call(_) | Said::Arguments(_) | Said::NotCalled => {
                return String::new();
            }
            Said::Reasoning(text) => self.object("", Some(&text), &[], false),
            Said::Content(text) => {
                if self.kept.is_some() {
                    self.text += &text;
                }
                self.object(&text, None, &[], false)
            }
            Said::Called(call) if call.is_cut => return String::new(),
            Said::Called(call) => self.object("", None, &[call], false),
            Said::End(end) => {
                self.end = Some(end);
                return String::new();
            }
            Said::Failed(fault) => fault.ollama(),
        };
        line(&value) + "\n"
    }

    fn end(&mut self) -> String {
        if self.end.is_none() {
            return String::new();
        }
        let mut value = self.object("", None, &[], true);
        self.figures(&mut value);
        line(&value) + "\n"
    }

    /// A line that says nothing would be read as something.
    fn ping(&mut self) -> String {
        String::new()
    }
}
