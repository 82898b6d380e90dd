//! The model that answers: its names, what holds for it where a request says nothing, and what becomes of a request.

use super::ask::{Ask, Asked, Bounds, Calls, Chat};
use super::fault::{Fault, Kind};
use super::fields::Fields;
use super::form::Form;
use crate::asking;
use crate::chat::{self, CallRest, Family, Prompt, Tool};
use crate::engine::sampler::SamplerParams;
use crate::engine::{Canceller, Engine, Event, Grammar, Refused, Request};
use crate::text::Clipped;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A model to be served.
pub struct Served {
    pub engine: Arc<Engine>,
    /// The first is what answers are said to be from.
    pub names: Vec<String>,
    /// Others that it answers to.
    pub aliases: Vec<String>,
    /// How tokens are picked where a request does not say it.
    pub sampling: SamplerParams,
    /// Tokens of an answer at most.
    pub max_tokens: Option<usize>,
    /// Whether temperatures are meant as DeepSeek's API means them.
    pub maps_temperature: bool,
}

pub(super) struct Model {
    pub(super) engine: Arc<Engine>,
    pub(super) family: Family,
    pub(super) names: Vec<String>,
    aliases: Vec<String>,
    pub(super) sampling: SamplerParams,
    pub(super) max_tokens: Option<usize>,
    pub(super) maps_temperature: bool,
    /// In seconds since 1970.
    pub(super) since: u64,
}

/// A request as the engine takes it, and the prompt that knows how to read its answer; none for text that is only
/// gone on with.
pub(super) struct Settled {
    pub(super) request: Request,
    pub(super) prompt: Option<Prompt>,
    pub(super) single_call: bool,
    /// What stopped an answer is a part of it.
    pub(super) shows_stop: bool,
    /// The field that says what the answer must look like.
    pub(super) form: Option<String>,
}

impl Model {
    pub(super) fn new(served: Served) -> Model {
        let Served { engine, names, aliases, sampling, max_tokens, maps_temperature } = served;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let family = asking::family(&engine);
        Model { engine, family, names, aliases, sampling, max_tokens, maps_temperature, since }
    }

    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }

    /// Whether a request is for this model; one that names none is.
    pub(super) fn check_name(&self, fields: &Fields) -> Result<(), Fault> {
        let name: Option<String> = fields.name_of(&["model", "name"]).map_or(Ok(None), |name| fields.get(name))?;
        name.filter(|name| !name.is_empty()).map_or(Ok(()), |name| self.check_called(&name))
    }

    pub(super) fn check_called(&self, name: &str) -> Result<(), Fault> {
        let bare = name.strip_suffix(":latest").unwrap_or(name);
        let mut known = self.names.iter().chain(&self.aliases);
        if known.any(|known| known.eq_ignore_ascii_case(bare) || known.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let names: Vec<&str> = self.names.iter().chain(&self.aliases).map(String::as_str).collect();
        let message = format!("there is no model '{}' here; these are: {}", Clipped(name), names.join(", "));
        Err(Fault { field: Some("model".to_owned()), ..Fault::new(Kind::NoModel, message) })
    }

    /// The prompt, and what the engine is to do with it.
    pub(super) fn settle(&self, ask: Ask) -> Result<Settled, Fault> {
        let mut single_call = false;
        let (mut form, mut sampling) = (ask.form, ask.sampling);
        let (before, asked) = match ask.prompt {
            Asked::Later { before, chat } => (before, Asked::Chat(chat)),
            asked => (Vec::new(), asked),
        };
        let (prompt, tokens) = match asked {
            Asked::Chat(chat) | Asked::Later { chat, .. } => {
                single_call = chat.single_call || chat.calls != Calls::Free;
                let (prompt, forced) = self.framed(&chat)?;
                form = forced.map(|grammar| Form { grammar, field: "tools".to_owned() }).or(form);
                let tokens = self.encode(&prompt, "which its chat format needs")?;
                (Some(prompt), self.behind(before, tokens))
            }
            Asked::Text(text) => (None, self.as_it_stands(&text)?),
            Asked::Tokens(tokens) => (None, tokens),
            Asked::Between { prefix, suffix } => {
                sampling = asking::without_control(sampling, &self.engine);
                let prompt = chat::fim(&prefix, &suffix);
                (None, self.encode(&prompt, "which this model would need to fill in the middle")?)
            }
        };
        let Bounds { max_tokens, min_tokens, stop, stop_tokens, shows_stop, is_endless } = ask.bounds;
        if let Some(Form { field, .. }) = form.as_ref().filter(|_| is_endless || min_tokens > 0) {
            let bound = if is_endless { "ignore_eos" } else { "min_tokens" };
            return Err(Fault::field(bound, format!("an answer that '{field}' gives a form ends where that is whole")));
        }
        if is_endless {
            let barred = self.engine.ends().filter(|id| !stop_tokens.contains(id));
            sampling.logit_bias.extend(barred.map(|id| (id, f32::NEG_INFINITY)));
        }
        let (no_frame, n_logprobs) = (Prompt::default(), ask.n_logprobs);
        let (grammar, form) = form.map(|Form { grammar, field }| (grammar, field)).unzip();
        let constraint =
            grammar.map(|grammar| asking::constraint(grammar, &self.engine, prompt.as_ref().unwrap_or(&no_frame)));
        let request =
            Request { prompt: tokens, sampling, max_tokens, min_tokens, stop, stop_tokens, constraint, n_logprobs };
        Ok(Settled { request, prompt, single_call, shows_stop, form })
    }

    /// The prompt of a conversation; and for an answer that has to be a call, what is left of that to the model.
    pub(super) fn framed(&self, chat: &Chat) -> Result<(Prompt, Option<Grammar>), Fault> {
        let unframed = |error: chat::TemplateError| Fault::field(chat.field, error);
        let mut prompt = self.family.prompt(&chat.conversation, chat.options).map_err(unframed)?;
        let offered = &chat.conversation.tools;
        let tools: Vec<&Tool> = match &chat.calls {
            Calls::Free => return Ok((prompt, None)),
            Calls::Some => offered.iter().collect(),
            Calls::Named(name) => offered.iter().filter(|tool| tool.name == *name).take(1).collect(),
        };
        let none = || Fault::field("tool_choice", "no tool is offered that it could mean");
        let rest = self.family.begin_call(&mut prompt, &tools).ok_or_else(none)?;
        let grammar = match rest {
            CallRest::Arguments(schema) => Grammar::JsonSchema(schema),
            CallRest::NameAndArguments(choices) => Grammar::Headed(choices),
        };
        Ok((prompt, Some(grammar)))
    }

    /// A prompt that its client made: control tokens in it are meant as such. It begins as every text does, whether the
    /// client has written that or not.
    fn as_it_stands(&self, text: &str) -> Result<Vec<u32>, Fault> {
        let mut tokens = self.encode(&chat::completion(""), "which every text begins with")?;
        let of_text = self.engine.tokenizer().encode_trusted(text);
        let is_begun = of_text.starts_with(&tokens);
        tokens.extend(of_text.into_iter().skip(if is_begun { tokens.len() } else { 0 }));
        Ok(tokens)
    }

    /// Tokens behind others: a text begins once.
    pub(super) fn behind(&self, mut before: Vec<u32>, tokens: Vec<u32>) -> Vec<u32> {
        let begin =
            self.engine.tokenizer().prefix().filter(|begin| !before.is_empty() && tokens.first() == Some(begin));
        before.extend(tokens.into_iter().skip(begin.map_or(0, |_| 1)));
        before
    }

    pub(super) fn encode(&self, prompt: &Prompt, why: &str) -> Result<Vec<u32>, Fault> {
        let tokenizer = self.engine.tokenizer();
        tokenizer.encode_segments(prompt.segments()).map_err(|error| Fault::invalid(format!("{error}, {why}")))
    }

    pub(super) fn submit(
        &self,
        request: Request,
        sink: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Result<Canceller, Refused> {
        self.engine.submit(request, sink)
    }
}
