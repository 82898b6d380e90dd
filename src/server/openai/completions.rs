//! Completions: text that is gone on with, or filled in.

use super::{check_types, finish_reason, n_top, now, streaming, timings, usage_json};
use crate::engine::Scored;
use crate::server::answers::{Answers, End, Said, Whole, total};
use crate::server::app::App;
use crate::server::ask::{self, Ask, Asked, MAX_ANSWERS};
use crate::server::fault::Fault;
use crate::server::fields::{Fields, read as value_as};
use crate::server::form::form;
use crate::server::model::Model;
use crate::server::sampling::{Temperature, sampling};
use crate::server::stream::{self, Wire, data};
use crate::server::tokens::spelled;
use crate::server::unsupported::{self, refuse};
use crate::tokenizer::ControlTokens;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(in crate::server) async fn answer(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let (asks, echoes) = read(&fields, &model)?;
    let n = asks.first().map_or(1, |ask| ask.n);
    let has_logprobs = asks.iter().any(|ask| ask.n_logprobs.is_some());
    let (is_streamed, includes_usage) = streaming(&fields)?;
    let answers = Answers::begin(&app, asks).await?;
    let head = Head { id: app.id("cmpl-"), created: now(), model, n, echoes, has_logprobs };
    if is_streamed {
        let stream = Stream { head, includes_usage, tokens: Vec::new(), offsets: Vec::new(), ends: Vec::new() };
        return Ok(stream::response(answers, stream));
    }
    let wholes = answers.collect().await?;
    Ok(Json(head.whole(wholes)).into_response())
}

/// Tokens of an answer where a request says nothing of them, as with OpenAI's and vLLM's: text has no end of its own.
const MAX_TOKENS: usize = 16;

/// What is asked, and for each prompt its text where that is to stand before the answer.
fn read(fields: &Fields, model: &Model) -> Result<(Vec<Ask>, Vec<String>), Fault> {
    refuse(fields, &unsupported::OPENAI)?;
    check_types(fields)?;
    let prompts = prompts(fields)?;
    let echo = fields.flag("echo")?;
    let suffix: Option<String> = fields.get("suffix")?.filter(|suffix: &String| !suffix.is_empty());
    let prompts = match suffix {
        None => prompts,
        Some(_) if echo => return Err(fields.fault("echo", "with a 'suffix' an answer stands between two texts")),
        Some(suffix) => prompts.into_iter().map(|prompt| between(fields, prompt, &suffix)).collect::<Result<_, _>>()?,
    };
    let n = ask::n_answers(fields)?;
    if prompts.len().saturating_mul(n) > MAX_ANSWERS {
        return Err(fields.fault("prompt", format!("at most {MAX_ANSWERS} answers are given at once")));
    }
    // How many; of chat completions a client may send true.
    let n_logprobs = match fields.value("logprobs") {
        None | Some(Value::Bool(false)) if n_top(fields, "top_logprobs")? > 0 => {
            return Err(fields.fault("top_logprobs", "it goes with 'logprobs' alone"));
        }
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(n_top(fields, "top_logprobs")?),
        Some(_) => Some(n_top(fields, "logprobs")?),
    };
    let names = ["max_tokens", "max_completion_tokens", "n_predict"];
    let mut bounds = ask::bounds(fields, &names, "stop", model)?;
    if fields.name_of(&names).is_none() {
        bounds.max_tokens = Some(bounds.max_tokens.unwrap_or(MAX_TOKENS).min(MAX_TOKENS).max(bounds.min_tokens));
    }
    let one = Ask {
        prompt: Asked::Text(String::new()),
        sampling: sampling(fields, model, Temperature::Api)?,
        bounds,
        form: form(fields, &fields.object("response_format")?)?,
        n_logprobs,
        n,
    };
    if echo && n_logprobs.is_some() {
        return Err(fields.fault("echo", "the probabilities of a prompt's own tokens are not told"));
    }
    let text = |prompt: &Asked| match prompt {
        Asked::Text(text) => text.clone(),
        Asked::Tokens(ids) => model.engine.tokenizer().decode(ids, ControlTokens::Hidden).unwrap_or_default(),
        Asked::Chat(_) | Asked::Later { .. } | Asked::Between { .. } => String::new(),
    };
    let echoes = prompts.iter().map(|prompt| if echo { text(prompt) } else { String::new() }).collect();
    let asks = prompts.into_iter().map(|prompt| Ask { prompt, ..one.clone() }).collect();
    Ok((asks, echoes))
}

/// A text, or tokens, or several of either.
fn prompts(fields: &Fields) -> Result<Vec<Asked>, Fault> {
    let one = |(n, value): (usize, &Value)| match value {
        Value::String(text) => Ok(Asked::Text(text.clone())),
        Value::Array(_) => value_as(value, &format!("prompt[{n}]")).map(Asked::Tokens),
        _ => Err(fields.fault(&format!("prompt[{n}]"), "beside others, it must be a text or an array of tokens")),
    };
    match fields.value("prompt") {
        None => Err(fields.fault("prompt", "it is missing")),
        Some(Value::String(text)) => Ok(vec![Asked::Text(text.clone())]),
        Some(Value::Array(values)) if values.is_empty() => Err(fields.fault("prompt", "it is empty")),
        Some(Value::Array(values)) if values.iter().all(Value::is_number) => {
            Ok(vec![Asked::Tokens(fields.need("prompt")?)])
        }
        Some(Value::Array(values)) => values.iter().enumerate().map(one).collect(),
        Some(_) => Err(fields.fault("prompt", "it must be a text, tokens, or an array of these")),
    }
}

fn between(fields: &Fields, prompt: Asked, suffix: &str) -> Result<Asked, Fault> {
    match prompt {
        Asked::Text(prefix) => Ok(Asked::Between { prefix, suffix: suffix.to_owned() }),
        _ => Err(fields.fault("suffix", "what stands before it must be a text")),
    }
}

/// What every object says.
struct Head {
    id: String,
    created: u64,
    model: Arc<Model>,
    n: usize,
    /// The texts of prompts, where these are to stand before their answers.
    echoes: Vec<String>,
    has_logprobs: bool,
}

impl Head {
    fn echo(&self, index: usize) -> &str {
        self.echoes.get(index / self.n.max(1)).map_or("", String::as_str)
    }

    fn object(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model.name(),
            "choices": choices,
        })
    }

    fn choice(&self, index: usize, text: &str, tokens: &[Scored], offset: &mut usize, reason: Option<&str>) -> Value {
        let logprobs = match self.has_logprobs {
            true => logprobs(&self.model, tokens, offset),
            false => Value::Null,
        };
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": reason })
    }

    fn whole(&self, wholes: Vec<Whole>) -> Value {
        let ends: Vec<End> = wholes.iter().filter_map(|whole| whole.end.clone()).collect();
        let choice = |(index, whole): (usize, &Whole)| {
            let text = format!("{}{}", self.echo(index), whole.content);
            let reason = whole.end.as_ref().map(|end| finish_reason(&end.reason));
            self.choice(index, &text, &whole.tokens, &mut 0, reason)
        };
        let usage = total(&ends, self.n);
        let mut object = self.object(wholes.iter().enumerate().map(choice).collect());
        object["usage"] = usage_json(&usage);
        object["timings"] = timings(&usage);
        object
    }
}

/// The form that completions have for it, in columns.
fn logprobs(model: &Model, tokens: &[Scored], offset: &mut usize) -> Value {
    let (mut texts, mut offsets, mut tops) = (Vec::new(), Vec::new(), Vec::new());
    for scored in tokens {
        let (text, _) = spelled(model, scored.id);
        offsets.push(*offset);
        *offset += text.chars().count();
        texts.push(text);
        // With the one that was picked, which may be none of the likeliest.
        let told = scored.top.iter().copied().chain([(scored.id, scored.logprob)]);
        tops.push(told.map(|(id, logprob)| (spelled(model, id).0, json!(logprob))).collect::<Map<_, _>>());
    }
    let logprobs: Vec<f32> = tokens.iter().map(|scored| scored.logprob).collect();
    json!({ "tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}

struct Stream {
    head: Head,
    includes_usage: bool,
    /// Tokens whose text has not come yet, and how much text has, of each answer.
    tokens: Vec<Vec<Scored>>,
    offsets: Vec<usize>,
    ends: Vec<(usize, End)>,
}

impl Stream {
    fn chunk(&mut self, index: usize, text: &str, reason: Option<&str>) -> String {
        let tokens = self.tokens.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut offset = self.offsets.get(index).copied().unwrap_or_default();
        let choice = self.head.choice(index, text, &tokens, &mut offset, reason);
        if let Some(kept) = self.offsets.get_mut(index) {
            *kept = offset;
        }
        let mut chunk = self.head.object(vec![choice]);
        if self.includes_usage {
            // The last one has it.
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    }
}

impl Wire for Stream {
    fn begin(&mut self) -> String {
        String::new()
    }

    fn said(&mut self, index: usize, said: Said) -> String {
        let mut echo = String::new();
        while self.tokens.len() <= index {
            let new = self.tokens.len();
            self.tokens.push(Vec::new());
            self.offsets.push(0);
            let text = self.head.echo(new).to_owned();
            if !text.is_empty() {
                echo += &self.chunk(new, &text, None);
            }
        }
        let text = match said {
            Said::Prompt(progress) => format!(": prompt {} of {} tokens\n\n", progress.done, progress.total),
            Said::Token(scored) => {
                if let Some(tokens) = self.tokens.get_mut(index) {
                    tokens.push(scored);
                }
                String::new()
            }
            Said::Content(text) | Said::Reasoning(text) => self.chunk(index, &text, None),
            // There are no tools here.
            Said::Call(_) | Said::Arguments(_) | Said::Called(_) | Said::NotCalled => String::new(),
            Said::End(end) => {
                let text = self.chunk(index, "", Some(finish_reason(&end.reason)));
                self.ends.push((index, end));
                text
            }
            Said::Failed(fault) => data(&fault.openai()),
        };
        echo + &text
    }

    fn end(&mut self) -> String {
        if !self.includes_usage {
            return "data: [DONE]\n\n".to_owned();
        }
        self.ends.sort_by_key(|(index, _)| *index);
        let ends: Vec<End> = self.ends.drain(..).map(|(_, end)| end).collect();
        let usage = total(&ends, self.head.n);
        let mut last = self.head.object(Vec::new());
        last["usage"] = usage_json(&usage);
        last["timings"] = timings(&usage);
        data(&last) + "data: [DONE]\n\n"
    }
}
