//! How tokens are picked: what the model has, and over it what a request says, under the names of several servers.

use super::fault::Fault;
use super::fields::Fields;
use super::model::Model;
use crate::asking::from_deepseeks_api;
use crate::engine::sampler::{ParamError, SamplerParams};
use serde_json::Value;

/// How a protocol means its temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temperature {
    /// As DeepSeek's API does, for models of whom that is known.
    Api,
    Plain,
}

/// Parameters that others call otherwise; the first is their name here.
const ALIASES: [&[&str]; 3] =
    [&["typical_p", "typ_p"], &["repetition_penalty", "repeat_penalty"], &["penalty_last_n", "repeat_last_n"]];

fn names(parameter: &'static str) -> Vec<&'static str> {
    let known = ALIASES.iter().find(|names| names.first() == Some(&parameter));
    known.map_or_else(|| vec![parameter], |names| names.to_vec())
}

pub(super) fn sampling(fields: &Fields, model: &Model, meant: Temperature) -> Result<SamplerParams, Fault> {
    let mut params = model.sampling.clone();
    if let Some(temperature) = number(fields, "temperature")? {
        params.temperature = match meant {
            Temperature::Api if model.maps_temperature => from_deepseeks_api(temperature),
            _ => temperature,
        };
    }
    for (name, parameter) in [
        ("top_p", &mut params.top_p),
        ("min_p", &mut params.min_p),
        ("typical_p", &mut params.typical_p),
        ("repetition_penalty", &mut params.repetition_penalty),
        ("presence_penalty", &mut params.presence_penalty),
        ("frequency_penalty", &mut params.frequency_penalty),
        ("dry_multiplier", &mut params.dry_multiplier),
        ("dry_base", &mut params.dry_base),
        ("xtc_probability", &mut params.xtc_probability),
        ("xtc_threshold", &mut params.xtc_threshold),
    ] {
        *parameter = number(fields, name)?.unwrap_or(*parameter);
    }
    // -1 is all of them, as 0 is.
    params.top_k = fields.get::<i64>("top_k")?.map_or(params.top_k, |k| u32::try_from(k).unwrap_or(0));
    params.min_keep = fields.get("min_keep")?.unwrap_or(params.min_keep);
    params.penalty_last_n = fields.any(&names("penalty_last_n"))?.unwrap_or(params.penalty_last_n);
    params.dry_allowed_length = fields.get("dry_allowed_length")?.unwrap_or(params.dry_allowed_length);
    params.dry_penalty_last_n = fields.get("dry_penalty_last_n")?.unwrap_or(params.dry_penalty_last_n);
    if let Some(breakers) = fields.get("dry_sequence_breakers")? {
        params.dry_sequence_breakers = breakers;
    }
    // A negative one is as good as none.
    params.seed = match fields.value("seed").and_then(Value::as_i64) {
        Some(seed) if seed < 0 => None,
        _ => fields.get("seed")?.or(params.seed),
    };
    if let Some(value) = fields.value("logit_bias") {
        params.logit_bias = biases(value).ok_or_else(|| {
            let form = "it must be an object of token ids and numbers, or an array of pairs of them";
            fields.fault("logit_bias", form)
        })?;
        // llama.cpp's pairs may have any number.
        if value.is_object() && params.logit_bias.iter().any(|(_, bias)| bias.is_finite() && bias.abs() > 100.0) {
            return Err(fields.fault("logit_bias", "a bias must be from -100 to 100"));
        }
    }
    params.validate(model.engine.info().n_vocab).map_err(|error| out_of_range(fields, &error))?;
    Ok(params)
}

fn number(fields: &Fields, parameter: &'static str) -> Result<Option<f32>, Fault> {
    let Some(name) = fields.agreed_name_of(&names(parameter))? else { return Ok(None) };
    let number = fields.need::<f64>(name)? as f32;
    match number.is_finite() {
        true => Ok(Some(number)),
        false => Err(fields.fault(name, "it is too large a number")),
    }
}

/// With the field that the client called it by.
fn out_of_range(fields: &Fields, error: &ParamError) -> Fault {
    let name = error.parameter().and_then(|parameter| fields.name_of(&names(parameter)));
    Fault { field: name.map(|name| fields.path(name)), ..Fault::invalid(error.to_string()) }
}

fn biases(value: &Value) -> Option<Vec<(u32, f32)>> {
    let bias = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(|bias| bias as f32),
    };
    match value {
        Value::Object(map) => map.iter().map(|(id, value)| Some((id.parse().ok()?, bias(value)?))).collect(),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [id, value] => Some((u32::try_from(id.as_u64()?).ok()?, bias(value)?)),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
