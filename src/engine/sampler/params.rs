//! The parameters of sampling: their names, their ranges, their neutral values.
//!
//! Which values suit a model is for the catalogue to say.

use super::ParamError;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// How to pick tokens. By default every step is off, and tokens come with the model's own probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplerParams {
    /// 0 is greedy; 1 leaves the probabilities as they are.
    pub temperature: f32,
    /// The number of tokens that stay; 0 is off.
    pub top_k: u32,
    /// The probability that the likeliest tokens have together; 1 is off.
    pub top_p: f32,
    /// The least probability, in parts of that of the likeliest token; 0 is off.
    pub min_p: f32,
    /// The probability that the most typical tokens have together; 1 is off.
    pub typical_p: f32,
    /// Divides the positive logits of tokens that occurred lately, and multiplies the negative; 1 is off.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that occurred lately; 0 is off.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that it occurred lately; 0 is off.
    pub frequency_penalty: f32,
    /// The number of tokens that "lately" means in these three; -1 is all of the context.
    pub penalty_last_n: i32,
    /// What DRY takes from the logit of a token that would repeat more than allowed; 0 is off.
    pub dry_multiplier: f32,
    /// What that is multiplied by for each further token of the repetition.
    pub dry_base: f32,
    /// The number of tokens that may be repeated.
    pub dry_allowed_length: u32,
    /// The number of tokens that DRY looks back on; -1 is all of the context.
    pub dry_penalty_last_n: i32,
    /// Texts that no repetition goes across.
    pub dry_sequence_breakers: Vec<String>,
    /// How often XTC excludes the top choices; 0 is off.
    pub xtc_probability: f32,
    /// The probability that makes a token a top choice; more than 0.5 is off.
    pub xtc_threshold: f32,
    /// Added to the logits of tokens; minus infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// The number of tokens that each truncation leaves at least.
    pub min_keep: u32,
    /// Drawn from the system where it is none.
    pub seed: Option<u64>,
}

impl Default for SamplerParams {
    fn default() -> SamplerParams {
        SamplerParams {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: 64,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            logit_bias: Vec::new(),
            min_keep: 1,
            seed: None,
        }
    }
}

impl SamplerParams {
    /// The names that [`set`](SamplerParams::set) knows.
    pub const KEYS: [&'static str; 19] = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "penalty_last_n",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "xtc_probability",
        "xtc_threshold",
        "logit_bias",
        "min_keep",
        "seed",
    ];

    const MAX_BREAKERS: usize = 64;
    const MAX_BREAKER_BYTES: usize = 256;

    /// Sets one parameter from text. A key may have hyphens for its underscores. Ranges are for
    /// [`validate`](SamplerParams::validate), when all is set.
    ///
    /// `dry_sequence_breakers` is a JSON array of strings, `logit_bias` a list of `TOKEN:BIAS` with commas, where
    /// BIAS may be `-inf`; `seed` may be `random`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ParamError> {
        let known = key.replace('-', "_");
        let name = SamplerParams::KEYS.into_iter().find(|name| *name == known);
        let name = name.ok_or_else(|| ParamError::Unknown(key.to_owned()))?;
        match name {
            "temperature" => read(&mut self.temperature, name, value),
            "top_k" => read(&mut self.top_k, name, value),
            "top_p" => read(&mut self.top_p, name, value),
            "min_p" => read(&mut self.min_p, name, value),
            "typical_p" => read(&mut self.typical_p, name, value),
            "repetition_penalty" => read(&mut self.repetition_penalty, name, value),
            "presence_penalty" => read(&mut self.presence_penalty, name, value),
            "frequency_penalty" => read(&mut self.frequency_penalty, name, value),
            "penalty_last_n" => read(&mut self.penalty_last_n, name, value),
            "dry_multiplier" => read(&mut self.dry_multiplier, name, value),
            "dry_base" => read(&mut self.dry_base, name, value),
            "dry_allowed_length" => read(&mut self.dry_allowed_length, name, value),
            "dry_penalty_last_n" => read(&mut self.dry_penalty_last_n, name, value),
            "dry_sequence_breakers" => {
                let expected = r#"a JSON array of strings, such as ["\n", ":"]"#;
                let breakers = serde_json::from_str(value).map_err(|_| unreadable(name, value, expected))?;
                self.dry_sequence_breakers = breakers;
                Ok(())
            }
            "xtc_probability" => read(&mut self.xtc_probability, name, value),
            "xtc_threshold" => read(&mut self.xtc_threshold, name, value),
            "logit_bias" => {
                let expected = "a list of TOKEN:BIAS, such as 5:-1.5,77:-inf";
                let biases = value.split(',').filter(|item| !item.trim().is_empty()).map(bias);
                self.logit_bias = biases.collect::<Option<_>>().ok_or_else(|| unreadable(name, value, expected))?;
                Ok(())
            }
            "min_keep" => read(&mut self.min_keep, name, value),
            // The last of the keys: seed.
            _ => {
                let expected = "a whole number, 0 or more, or 'random'";
                let seed = || value.trim().parse().map_err(|_| unreadable(name, value, expected));
                self.seed = if value.trim() == "random" { None } else { Some(seed()?) };
                Ok(())
            }
        }
    }

    /// Checks the ranges, for a vocabulary of `n_vocab` tokens. What is not a number is in no range.
    pub fn validate(&self, n_vocab: usize) -> Result<(), ParamError> {
        let at_least = |floor: f32| move |value: f32| value >= floor && value.is_finite();
        let part = |value: f32| (0.0..=1.0).contains(&value);
        let some = |value: f32| value.abs() <= 100.0;
        let span = |value: i32| value >= -1;

        check("temperature", self.temperature, at_least(0.0), "0 or more")?;
        check("top_p", self.top_p, part, "from 0 to 1")?;
        check("min_p", self.min_p, part, "from 0 to 1")?;
        check("typical_p", self.typical_p, part, "from 0 to 1")?;
        check("repetition_penalty", self.repetition_penalty, |p| p > 0.0 && p.is_finite(), "more than 0")?;
        check("presence_penalty", self.presence_penalty, some, "from -100 to 100")?;
        check("frequency_penalty", self.frequency_penalty, some, "from -100 to 100")?;
        check("penalty_last_n", self.penalty_last_n, span, "-1 (all of the context), 0 or more")?;
        check("dry_multiplier", self.dry_multiplier, at_least(0.0), "0 or more")?;
        check("dry_base", self.dry_base, at_least(1.0), "1 or more")?;
        check("dry_allowed_length", self.dry_allowed_length, |length| length >= 1, "1 or more")?;
        check("dry_penalty_last_n", self.dry_penalty_last_n, span, "-1 (all of the context), 0 or more")?;
        check("xtc_probability", self.xtc_probability, part, "from 0 to 1")?;
        check("xtc_threshold", self.xtc_threshold, part, "from 0 to 1")?;
        self.check_breakers()?;
        for &(token, bias) in &self.logit_bias {
            check("logit_bias", bias, |bias| bias < f32::INFINITY, "a finite number or -inf")?;
            if token as usize >= n_vocab {
                return Err(ParamError::NoToken { token, n_vocab });
            }
        }
        Ok(())
    }

    fn check_breakers(&self) -> Result<(), ParamError> {
        let (name, breakers) = ("dry_sequence_breakers", &self.dry_sequence_breakers);
        let few = |n| n <= SamplerParams::MAX_BREAKERS;
        check(name, format_args!("{} strings", breakers.len()), |_| few(breakers.len()), "64 strings or fewer")?;
        let short = |breaker: &String| (1..=SamplerParams::MAX_BREAKER_BYTES).contains(&breaker.len());
        breakers.iter().try_for_each(|breaker| {
            let length = format_args!("a string of {} bytes", breaker.len());
            check(name, length, |_| short(breaker), "strings of 1 to 256 bytes")
        })
    }

    pub(super) fn min_keep(&self) -> usize {
        self.min_keep.max(1) as usize
    }
}

/// How far a penalty looks back: None is all of the context.
pub(super) fn last_n(tokens: i32) -> Option<usize> {
    usize::try_from(tokens).ok()
}

fn check<T: Display + Copy>(
    name: &'static str,
    value: T,
    within: impl Fn(T) -> bool,
    range: &'static str,
) -> Result<(), ParamError> {
    match within(value) {
        true => Ok(()),
        false => Err(ParamError::Range { name, value: value.to_string(), range }),
    }
}

fn read<T: Number>(parameter: &mut T, name: &'static str, value: &str) -> Result<(), ParamError> {
    *parameter = value.trim().parse().map_err(|_| unreadable(name, value, T::EXPECTED))?;
    Ok(())
}

fn bias(item: &str) -> Option<(u32, f32)> {
    let (token, bias) = item.split_once(':')?;
    Some((token.trim().parse().ok()?, bias.trim().parse().ok()?))
}

fn unreadable(name: &'static str, value: &str, expected: &'static str) -> ParamError {
    ParamError::Unreadable { name, value: value.to_owned(), expected }
}

trait Number: FromStr {
    const EXPECTED: &'static str;
}

impl Number for f32 {
    const EXPECTED: &'static str = "a number";
}

impl Number for u32 {
    const EXPECTED: &'static str = "a whole number, 0 or more";
}

impl Number for i32 {
    const EXPECTED: &'static str = "a whole number";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Result<SamplerParams, String> {
        let mut params = SamplerParams::default();
        params.set(key, value).and_then(|()| params.validate(100)).map_err(|error| error.to_string())?;
        Ok(params)
    }

    /// What `key` is, as text: the fields have its name.
    fn shown(params: &SamplerParams, key: &str) -> String {
        let all = format!("{params:#?}").replace("\n        ", "").replace(",\n    ]", "]");
        let line = all.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{key} in {all}"))
    }

    #[test]
    fn every_key_sets_its_own_field_and_no_other() {
        for key in SamplerParams::KEYS {
            let (value, shows) = match key {
                "dry_sequence_breakers" => (r#"["a", "\n"]"#, "\"a\""),
                "logit_bias" => ("5:-1.5, 77:-inf", "77"),
                "top_p" | "min_p" | "typical_p" | "xtc_probability" | "xtc_threshold" => ("0.5", "0.5"),
                _ => ("7", "7"),
            };
            let (default, params) = (SamplerParams::default(), set(key, value).unwrap());
            assert!(shown(&params, key).contains(shows), "{key}: {params:?}");
            for other in SamplerParams::KEYS.into_iter().filter(|other| *other != key) {
                assert_eq!(shown(&params, other), shown(&default, other), "{key} set {other}");
            }
            assert_eq!(set(&key.replace('_', "-"), value).unwrap(), params);
        }
    }

    #[test]
    fn lists_and_seeds_are_read() {
        assert_eq!(set("logit_bias", " 5:-1.5, 77:-inf").unwrap().logit_bias, [(5, -1.5), (77, f32::NEG_INFINITY)]);
        assert!(set("logit_bias", "").unwrap().logit_bias.is_empty());
        assert_eq!(set("dry_sequence_breakers", r#"["\n", "a,b"]"#).unwrap().dry_sequence_breakers, ["\n", "a,b"]);
        assert_eq!(set("seed", "18446744073709551615").unwrap().seed, Some(u64::MAX));
        assert_eq!(set("seed", "random").unwrap().seed, None);
        assert_eq!(set("penalty_last_n", "-1").unwrap().penalty_last_n, -1);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let error = set("temprature", "1").unwrap_err();
        assert!(error.starts_with("no sampling parameter is called 'temprature'; these are: temperature, top_k"));
        assert_eq!(set("top_k", "-1").unwrap_err(), "top_k: '-1' is not a whole number, 0 or more");
        assert_eq!(set("min_p", "low").unwrap_err(), "min_p: 'low' is not a number");
        for (key, value) in [
            ("penalty_last_n", "1.5"),
            ("seed", "-1"),
            ("seed", ""),
            ("logit_bias", "5"),
            ("logit_bias", "x:1"),
            ("logit_bias", "1:2:3"),
            ("dry_sequence_breakers", "\n"),
            ("dry_sequence_breakers", "[1]"),
        ] {
            assert!(set(key, value).unwrap_err().contains(" is not "), "{key}={value}");
        }
    }

    #[test]
    fn ranges_are_kept() {
        assert_eq!(set("top_p", "1.5").unwrap_err(), "top_p is 1.5; it must be from 0 to 1");
        assert_eq!(set("temperature", "nan").unwrap_err(), "temperature is NaN; it must be 0 or more");
        assert_eq!(
            set("logit_bias", "100:1").unwrap_err(),
            "logit_bias: there is no token 100; this vocabulary has 100"
        );
        for key in SamplerParams::KEYS {
            if SamplerParams::default().set(key, "nan").is_ok() {
                assert!(set(key, "nan").unwrap_err().starts_with(&format!("{key} is NaN; it must be ")));
                assert!(set(key, "inf").is_err() && set(key, "-inf").is_err());
            }
        }
        for (key, value) in [
            ("temperature", "-0.1"),
            ("min_p", "-0.1"),
            ("typical_p", "1.01"),
            ("repetition_penalty", "0"),
            ("presence_penalty", "-101"),
            ("frequency_penalty", "101"),
            ("penalty_last_n", "-2"),
            ("dry_multiplier", "-1"),
            ("dry_base", "0.9"),
            ("dry_allowed_length", "0"),
            ("dry_penalty_last_n", "-2"),
            ("dry_sequence_breakers", r#"[""]"#),
            ("xtc_probability", "2"),
            ("xtc_threshold", "2"),
            ("logit_bias", "1:inf"),
            ("logit_bias", "1:nan"),
        ] {
            assert!(set(key, value).unwrap_err().contains("must be"), "{key}={value}");
        }
        let many = serde_json::to_string(&vec!["a"; 65]).unwrap();
        assert!(set("dry_sequence_breakers", &many).unwrap_err().contains("is 65 strings; it must be 64"));
        let long = serde_json::to_string(&["a".repeat(257)]).unwrap();
        assert!(set("dry_sequence_breakers", &long).unwrap_err().contains("is a string of 257 bytes"));
    }
}
