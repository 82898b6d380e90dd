//! A model as its header describes it: enough to plan where it goes, without any of its weights.
//!
//! A header may be that of a file here, bytes that came from elsewhere, or one made for a model of which there is
//! no file.

use super::class::{Class, Role};
use super::config::{Config, ConfigError};
use crate::gguf::{Damage, Gguf, Header, Metadata, Shape, TensorInfo, TensorType};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Outline {
    /// `general.name`
    pub name: Option<String>,
    pub config: Config,
    pub tensors: Vec<TensorInfo>,
    /// What the routed experts' bytes are multiplied by, where only the size of the whole file is known.
    pub routed_scale: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("there is no header")]
    Empty,
}

impl Outline {
    pub fn of(gguf: &Gguf) -> Result<Outline, ConfigError> {
        Outline::new(gguf.metadata(), gguf.tensors().map(|tensor| tensor.info.clone()).collect())
    }

    /// By the beginnings of a model's files, in their order, each with the length of its file.
    pub fn of_headers(files: &[(&[u8], u64)]) -> Result<Outline, OutlineError> {
        let headers: Vec<Header> =
            files.iter().map(|(bytes, len)| Header::parse(bytes, *len)).collect::<Result<_, _>>()?;
        let (first, (bytes, _)) = headers.first().zip(files.first()).ok_or(OutlineError::Empty)?;
        let tensors = headers.iter().flat_map(|header| header.tensors().to_vec()).collect();
        Ok(Outline::new(first.metadata(bytes), tensors)?)
    }

    fn new(metadata: Metadata<'_>, tensors: Vec<TensorInfo>) -> Result<Outline, ConfigError> {
        let name = metadata.get::<&str>("general.name").ok().flatten().map(str::to_owned);
        Ok(Outline { name, config: Config::read(metadata)?, tensors, routed_scale: 1.0 })
    }

    /// The same model with routed experts that make it `n_bytes` large; `None` where it is larger without them.
    pub fn scaled_to(mut self, n_bytes: u64) -> Option<Outline> {
        let routed: u64 = self.tensors.iter().filter(|info| Role::of(&info.name).class.is_routed()).map(len).sum();
        let others = self.tensors.iter().map(len).sum::<u64>() - routed;
        let wanted = n_bytes.checked_sub(others).filter(|_| routed > 0)?;
        self.routed_scale = wanted as f64 / routed as f64;
        Some(self)
    }

    /// The same model with its tensors in other types; `None` where one cannot be in its type.
    pub fn in_types(mut self, ty: impl Fn(&str, &Shape) -> TensorType) -> Option<Outline> {
        for info in &mut self.tensors {
            info.ty = ty(&info.name, &info.shape);
            info.range = 0..info.shape.n_bytes(info.ty)?;
        }
        Some(self)
    }

    /// Bytes of a tensor.
    pub fn bytes(&self, info: &TensorInfo) -> u64 {
        match Role::of(&info.name).class.is_routed() {
            true => (len(info) as f64 * self.routed_scale) as u64,
            false => len(info),
        }
    }

    /// Bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(|info| self.bytes(info)).sum()
    }

    /// Bytes by class, in the order of [`Class::ALL`], of those that there are.
    pub fn classes(&self) -> BTreeMap<Class, u64> {
        let mut classes = BTreeMap::new();
        for info in &self.tensors {
            *classes.entry(Role::of(&info.name).class).or_default() += self.bytes(info);
        }
        classes
    }
}

fn len(info: &TensorInfo) -> u64 {
    info.range.end - info.range.start
}
