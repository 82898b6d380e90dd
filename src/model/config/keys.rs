//! Metadata by key, for all layers at once: dimensions, numbers, and what is wrong with them.

use super::ConfigError;
use crate::gguf::{FromValue, Metadata, Value};

/// Larger dimensions than any model has, and small enough that their products are counted in 64 bits.
const MAX_DIM: u64 = 1 << 24;

/// The keys of the architecture.
pub(super) struct Keys<'a> {
    pub(super) metadata: Metadata<'a>,
    /// Entries of an array that count; 0 while that is not known.
    pub(super) n_layer: usize,
}

impl<'a> Keys<'a> {
    fn name(key: &str) -> String {
        format!("deepseek2.{key}")
    }

    pub(super) fn must(&self, key: &str, value: impl ToString, must: &str) -> ConfigError {
        ConfigError::Value { key: Self::name(key), value: value.to_string(), must: must.to_owned() }
    }

    fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing { key: Self::name(key) }
    }

    pub(super) fn optional<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        Ok(self.metadata.get(&Self::name(key))?)
    }

    /// A value for all layers, or an array of one a layer of which the first `n` count and agree.
    fn uniform<T: FromValue<'a> + PartialEq + ToString>(&self, key: &str, n: usize) -> Result<Option<T>, ConfigError>
    where
        Vec<T>: FromValue<'a>,
    {
        if !matches!(self.metadata.value(&Self::name(key)), Some(Value::Array(_))) {
            return self.optional(key);
        }
        let mut values: Vec<T> = self.optional(key)?.unwrap_or_default();
        if values.len() < n || values.is_empty() {
            let must = if n == 0 { "it must have a value".to_owned() } else { format!("there are {n} layers") };
            return Err(self.must(key, format!("an array of {}", values.len()), &must));
        }
        values.truncate(n.max(1));
        let last = values.pop();
        match (values.iter().find(|value| Some(*value) != last.as_ref()), &last) {
            (Some(odd), Some(last)) => {
                let both = format!("{} in one layer and {} in another", odd.to_string(), last.to_string());
                Err(self.must(key, both, "layers that differ in it are not supported"))
            }
            _ => Ok(last),
        }
    }

    pub(super) fn optional_dim(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.uniform::<u32>(key, self.n_layer)?.map(|n| self.bounded(key, n)).transpose()
    }

    fn bounded(&self, key: &str, n: u32) -> Result<usize, ConfigError> {
        if u64::from(n) > MAX_DIM {
            return Err(self.must(key, n, "no model is that large"));
        }
        Ok(n as usize)
    }

    pub(super) fn dim(&self, key: &str) -> Result<usize, ConfigError> {
        self.nonzero(key, self.optional_dim(key)?)
    }

    fn nonzero(&self, key: &str, n: Option<usize>) -> Result<usize, ConfigError> {
        match n.ok_or_else(|| self.missing(key))? {
            0 => Err(self.must(key, 0, "it must be at least 1")),
            n => Ok(n),
        }
    }

    /// As `dim`, of the first `n` layers.
    pub(super) fn first(&self, key: &str, n: usize) -> Result<usize, ConfigError> {
        let dim = self.uniform::<u32>(key, n)?.map(|n| self.bounded(key, n)).transpose()?;
        self.nonzero(key, dim)
    }

    /// `key`, or `other` where it is absent or 0.
    pub(super) fn either(&self, key: &str, other: &str) -> Result<usize, ConfigError> {
        match self.optional_dim(key)?.filter(|n| *n > 0) {
            Some(n) => Ok(n),
            None => self.dim(other),
        }
    }

    pub(super) fn finite(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.uniform::<f32>(key, self.n_layer)? {
            Some(x) if !x.is_finite() => Err(self.must(key, x, "it must be a finite number")),
            x => Ok(x),
        }
    }

    pub(super) fn optional_positive(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.finite(key)? {
            Some(x) if x <= 0.0 => Err(self.must(key, x, "it must be greater than 0")),
            x => Ok(x),
        }
    }

    pub(super) fn positive(&self, key: &str) -> Result<f32, ConfigError> {
        self.optional_positive(key)?.ok_or_else(|| self.missing(key))
    }
}
