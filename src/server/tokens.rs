//! Text to tokens and back, and conversations to prompts, with the fields of llama.cpp's server and of vLLM's.

use super::app::App;
use super::ask::{Calls, Chat, ending_by, thinking};
use super::fault::Fault;
use super::fields::Fields;
use super::model::Model;
use super::tools;
use crate::chat::{self, Conversation, Prompt};
use crate::tokenizer::{ControlTokens, Kind};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// Text of `content`, as llama.cpp's server has it, or of `prompt`, as vLLM's, where it begins as every text does unless
/// that is not wanted; or the prompt of `messages`. With both control tokens are meant as such, but for `parse_special`.
pub(super) async fn tokenize(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let work = move || {
        let tokenizer = model.engine.tokenizer();
        let text: Option<String> = fields.any(&["content", "prompt"])?;
        let ids = match fields.value("messages") {
            Some(_) if text.is_some() => {
                let name = fields.name_of(&["content", "prompt"]).unwrap_or_default();
                return Err(fields.fault("messages", format!("there is the text of '{name}' already")));
            }
            Some(_) => model.encode(&framed(&model, &fields)?, "which its chat format needs")?,
            None => {
                let missing = "it is missing, and so are 'prompt' and 'messages'";
                let text = text.ok_or_else(|| fields.fault("content", missing))?;
                let is_vllms = fields.value("content").is_none();
                let begins = fields.any(&["add_special", "add_special_tokens"])?.unwrap_or(is_vllms);
                let prefix = tokenizer.prefix().filter(|_| begins);
                let ids = match fields.get("parse_special")?.unwrap_or(true) {
                    true => tokenizer.encode_trusted(&text),
                    false => tokenizer.encode_content(&text),
                };
                prefix.into_iter().chain(ids).collect::<Vec<u32>>()
            }
        };
        let count = ids.len();
        let piece = |id: &u32| {
            let token = tokenizer.token(*id);
            let bytes = token.as_ref().map_or(&[][..], |token| token.bytes);
            match str::from_utf8(bytes) {
                Ok(text) => json!({ "id": id, "piece": text }),
                Err(_) => json!({ "id": id, "piece": bytes }),
            }
        };
        let tokens = match fields.flag("with_pieces")? {
            true => ids.iter().map(piece).collect(),
            false => json!(ids),
        };
        let mut value = json!({ "tokens": tokens, "count": count, "max_model_len": model.engine.info().n_ctx });
        if fields.flag("return_token_strs")? {
            value["token_strs"] = ids.iter().map(|id| spelled(&model, *id).0).collect();
        }
        Ok(Json(value))
    };
    blocking(work).await
}

pub(super) async fn detokenize(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let ids: Vec<u32> = fields.need("tokens")?;
    let text = model.engine.tokenizer().decode(&ids, ControlTokens::Shown);
    let text = text.map_err(|error| fields.fault("tokens", error))?;
    Ok(Json(json!({ "content": text, "prompt": text })))
}

/// The prompt of a conversation, as a person reads it.
pub(super) async fn apply_template(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    blocking(move || Ok(Json(json!({ "prompt": framed(&model, &fields)?.to_text() })))).await
}

fn framed(model: &Model, fields: &Fields) -> Result<Prompt, Fault> {
    let conversation = Conversation { messages: fields.need("messages")?, tools: tools::read(fields)? };
    let goes_on = fields.flag("continue_final_message")?.then_some("continue_final_message");
    let options =
        chat::Options { thinking: thinking(fields, model)?, ending: ending_by(fields, goes_on, &conversation)? };
    let chat = Chat { field: "messages", conversation, options, calls: Calls::Free, single_call: false };
    Ok(model.framed(&chat)?.0)
}

/// On a thread that may take its time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let gone = |_| Fault::new(super::fault::Kind::Internal, "the request could not be computed: an internal error");
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}

/// The text of one token, and its bytes.
pub(super) fn spelled(model: &Model, id: u32) -> (String, Vec<u8>) {
    let token = model.engine.tokenizer().token(id);
    let bytes = token.as_ref().map_or_else(|_| Vec::new(), |token| token.bytes.to_vec());
    let is_text = token.is_ok_and(|token| token.kind == Kind::Normal || token.kind.is_special());
    let text = if is_text { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() };
    (text, bytes)
}
