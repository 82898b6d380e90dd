//! The options with which tokens are picked, which several commands have.

use super::nearest::nearest;
use crate::asking;
use crate::engine::Engine;
use crate::engine::sampler::{ParamError, SamplerParams};
use crate::exit::BadInput;
use crate::text::Clipped;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SamplingOptions {
    /// Temperature: 0 always takes the likeliest token, 1 takes each with its probability
    #[arg(long, value_name = "T")]
    temp: Option<f32>,
    /// Take only the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Take only tokens at least so likely, in parts of the likeliest one's probability
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// The seed: the same seed, prompt and model give the same answer
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Set another sampling parameter; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SamplingOptions {
    /// What is recommended for the model, and over it what is asked for.
    pub(super) fn params(&self, engine: &Engine) -> Result<SamplerParams, BadInput> {
        let mut params = asking::recommended(engine);
        for setting in &self.set {
            let fault = |text: String| BadInput::Argument(format!("--set {setting}: {text}"));
            let (key, value) = setting.split_once('=').ok_or_else(|| fault("this is not KEY=VALUE".to_owned()))?;
            set(&mut params, key.trim(), value.trim()).map_err(fault)?;
        }
        params.temperature = self.temp.unwrap_or(params.temperature);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.seed = self.seed.or(params.seed);
        Ok(params)
    }
}

/// Sets a parameter by its name, or says which one may have been meant.
fn set(params: &mut SamplerParams, key: &str, value: &str) -> Result<(), String> {
    params.set(key, value).map_err(|error| match (&error, nearest(&key.replace('-', "_"), SamplerParams::KEYS)) {
        (ParamError::Unknown(_), Some(meant)) => {
            format!("no sampling parameter is called '{}'; did you mean '{meant}'?", Clipped(key))
        }
        _ => error.to_string(),
    })
}
