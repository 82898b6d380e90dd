//! What `/set` changes: how tokens are picked, and how answers are shown.

use crate::chat::Family;
use crate::chat::Thinking;
use crate::cli::nearest::nearest;
use crate::engine::sampler::SamplerParams;
use crate::text::{Clipped, Escaped};

/// How reasoning is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Reasoning {
    /// As it comes, dimmed
    #[default]
    Show,
    /// As one line that says how long it took
    Fold,
    /// Not at all
    Hide,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) sampling: SamplerParams,
    pub(super) reasoning: Reasoning,
    /// Whether each answer is followed by its statistics.
    pub(super) stats: bool,
    pub(super) max_tokens: Option<usize>,
    /// Whether a model that can do both reasons first; none for what it does by itself.
    pub(super) thinking: Option<bool>,
    /// What was set, as it was typed, to be set again for another model.
    pub(super) changed: Vec<(String, String)>,
}

/// Settings that are no parameters of sampling, and what they may be.
pub(super) const OWN_KEYS: [(&str, &str); 4] = [
    ("reasoning", "show, fold or hide"),
    ("stats", "on or off"),
    ("max_tokens", "a number from 1 on, or none"),
    ("thinking", "on, off or auto"),
];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    #[error("{key} is {expected}, not '{}'", Escaped(value))]
    Value { key: &'static str, expected: &'static str, value: String },
    #[error("there is no setting '{}'; did you mean '{meant}'?", Clipped(key))]
    Near { key: String, meant: &'static str },
    #[error("there is no setting '{}'; /set lists them", Clipped(.0))]
    Unknown(String),
    #[error("{0}")]
    Sampling(String),
    #[error("this model {0}: thinking cannot be changed")]
    Thinking(&'static str),
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    SamplerParams::KEYS.into_iter().chain(OWN_KEYS.map(|(key, _)| key))
}

fn unknown(key: &str, known: &str) -> SetError {
    match nearest(known, keys()) {
        Some(meant) => SetError::Near { key: key.to_owned(), meant },
        None => SetError::Unknown(key.to_owned()),
    }
}

impl Settings {
    /// Sets one of the keys.
    pub(super) fn set(&mut self, key: &str, value: &str, family: Family, n_vocab: usize) -> Result<(), SetError> {
        let known = key.replace('-', "_").to_ascii_lowercase();
        let known = if known == "temp" { "temperature" } else { &known };
        match OWN_KEYS.into_iter().find(|(name, _)| *name == known) {
            Some((key, expected)) => {
                let wrong = || SetError::Value { key, expected, value: value.to_owned() };
                self.set_own(key, value, family, wrong)?;
            }
            None => {
                let mut sampling = self.sampling.clone();
                if !SamplerParams::KEYS.contains(&known) {
                    return Err(unknown(key, known));
                }
                // As it is shown.
                let written = if known == "logit_bias" && value == "none" { "" } else { value };
                let set = sampling.set(known, written).and_then(|()| sampling.validate(n_vocab));
                set.map_err(|error| SetError::Sampling(error.to_string()))?;
                self.sampling = sampling;
            }
        }
        self.changed.retain(|(key, _)| key != known);
        self.changed.push((known.to_owned(), value.to_owned()));
        Ok(())
    }

    fn set_own(
        &mut self,
        key: &str,
        value: &str,
        family: Family,
        wrong: impl Fn() -> SetError,
    ) -> Result<(), SetError> {
        match (key, value) {
            ("reasoning", "show") => self.reasoning = Reasoning::Show,
            ("reasoning", "fold") => self.reasoning = Reasoning::Fold,
            ("reasoning", "hide") => self.reasoning = Reasoning::Hide,
            ("stats", "on") => self.stats = true,
            ("stats", "off") => self.stats = false,
            ("max_tokens", "none") => self.max_tokens = None,
            ("max_tokens", _) => {
                let n = value.parse().ok().filter(|n| *n > 0);
                self.max_tokens = Some(n.ok_or_else(wrong)?);
            }
            ("thinking", "auto") => self.thinking = None,
            ("thinking", "on" | "off") => match family.thinking() {
                Thinking::OnRequest => self.thinking = Some(value == "on"),
                Thinking::Always => return Err(SetError::Thinking("always reasons")),
                Thinking::Never => return Err(SetError::Thinking("does not reason")),
            },
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// All of them, one a line.
    pub(super) fn show(&self) -> String {
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        let s = &self.sampling;
        let reasoning = match self.reasoning {
            Reasoning::Show => "show",
            Reasoning::Fold => "fold",
            Reasoning::Hide => "hide",
        };
        let number = |n: Option<u64>, none: &str| n.map_or(none.to_owned(), |n| n.to_string());
        let breakers = serde_json::to_string(&s.dry_sequence_breakers).unwrap_or_default();
        let biases: Vec<String> = s.logit_bias.iter().map(|(token, bias)| format!("{token}:{bias}")).collect();
        let rows: [(&str, String); 23] = [
            ("temperature", s.temperature.to_string()),
            ("top_k", s.top_k.to_string()),
            ("top_p", s.top_p.to_string()),
            ("min_p", s.min_p.to_string()),
            ("typical_p", s.typical_p.to_string()),
            ("repetition_penalty", s.repetition_penalty.to_string()),
            ("presence_penalty", s.presence_penalty.to_string()),
            ("frequency_penalty", s.frequency_penalty.to_string()),
            ("penalty_last_n", s.penalty_last_n.to_string()),
            ("dry_multiplier", s.dry_multiplier.to_string()),
            ("dry_base", s.dry_base.to_string()),
            ("dry_allowed_length", s.dry_allowed_length.to_string()),
            ("dry_penalty_last_n", s.dry_penalty_last_n.to_string()),
            ("dry_sequence_breakers", breakers),
            ("xtc_probability", s.xtc_probability.to_string()),
            ("xtc_threshold", s.xtc_threshold.to_string()),
            ("logit_bias", if biases.is_empty() { "none".to_owned() } else { biases.join(",") }),
            ("min_keep", s.min_keep.to_string()),
            ("seed", number(s.seed, "random")),
            ("reasoning", reasoning.to_owned()),
            ("stats", on(self.stats).to_owned()),
            ("max_tokens", number(self.max_tokens.map(|n| n as u64), "none")),
            ("thinking", self.thinking.map_or("auto", on).to_owned()),
        ];
        rows.iter().map(|(key, value)| format!("  {key:22}{value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            sampling: SamplerParams::default(),
            reasoning: Reasoning::Show,
            stats: false,
            max_tokens: None,
            thinking: None,
            changed: Vec::new(),
        }
    }

    #[test]
    fn settings_are_set_or_refused_whole() {
        let mut settings = settings();
        for (key, value) in [("temp", "0.3"), ("top-p", "0.9"), ("reasoning", "fold"), ("stats", "on"), ("temp", "0.4")]
        {
            settings.set(key, value, Family::V3, 100).unwrap();
        }
        assert_eq!((settings.sampling.temperature, settings.sampling.top_p), (0.4, 0.9));
        assert_eq!((settings.reasoning, settings.stats), (Reasoning::Fold, true));
        // Each once, the last time it was set.
        assert_eq!(settings.changed.iter().filter(|(key, _)| key == "temperature").count(), 1);
        for (key, value) in [
            ("temp", "-1"),
            ("temp", "warm"),
            ("no_such", "1"),
            ("reasoning", "maybe"),
            ("max_tokens", "x"),
            ("max_tokens", "0"),
        ] {
            let before = settings.show();
            assert!(settings.set(key, value, Family::V3, 100).is_err(), "{key}");
            assert_eq!(settings.show(), before);
        }
    }

    #[test]
    fn the_key_that_was_meant_is_named() {
        for (key, says) in
            [("temprature", "did you mean 'temperature'?"), ("max-token", "'max_tokens'?"), ("zz", "/set")]
        {
            let error = settings().set(key, "1", Family::V3, 100).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn thinking_is_for_models_that_can_do_both() {
        for (family, works) in [(Family::V31, true), (Family::R1, false), (Family::V3, false)] {
            assert_eq!(settings().set("thinking", "on", family, 100).is_ok(), works, "{family:?}");
        }
    }

    #[test]
    fn every_key_is_shown() {
        let shown = settings().show();
        for key in keys() {
            assert!(shown.lines().any(|line| line.trim().starts_with(key)), "{key}");
        }
    }
}
