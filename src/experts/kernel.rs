//! Which kernels there are, and which run on this machine.

use super::activation::{Group, Row, quantize};
use super::block::GROUP;
use super::{avx512, scalar};
use crate::gguf::TensorType;
use std::fmt;
use std::str::FromStr;

/// A row of weights, times each of the rows `x`, to as many sums.
pub(super) type Dot = fn(&[u8], x: &[Row<'_>], &mut [f32]);

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No kernels of ours: ggml computes everything.
    Ggml,
    /// Plain code, for comparison.
    Scalar,
    /// 512-bit vectors with VNNI and VBMI: Intel since Ice Lake, AMD since Zen 4.
    Avx512,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    #[error("CACHALOT_CPU={0:?} names no kernels; it can be {known}", known = names(&Isa::ALL))]
    Unknown(String),
    #[error("CACHALOT_CPU={0}, but this CPU cannot run them; it can run {can}", can = names(&Isa::available()))]
    Unsupported(Isa),
}

fn names(all: &[Isa]) -> String {
    all.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl Isa {
    pub const ALL: [Isa; 3] = [Isa::Ggml, Isa::Scalar, Isa::Avx512];

    pub fn name(self) -> &'static str {
        match self {
            Isa::Ggml => "ggml",
            Isa::Scalar => "scalar",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this CPU can run it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Ggml | Isa::Scalar => true,
            Isa::Avx512 => avx512::is_supported(),
        }
    }

    /// What this CPU can run, the best last.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported()).collect()
    }

    /// What `CACHALOT_CPU` names, or else the best for this CPU; where there are only plain kernels, ggml's.
    pub fn chosen() -> Result<Isa, IsaError> {
        match std::env::var("CACHALOT_CPU") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Isa::best()),
        }
    }

    pub fn best() -> Isa {
        Isa::available().last().copied().filter(|isa| *isa != Isa::Scalar).unwrap_or(Isa::Ggml)
    }

    /// The kernel of a type, to be used by itself.
    pub fn kernel(self, ty: TensorType) -> Option<Kernel> {
        self.dot(ty).filter(|_| self.is_supported()).map(Kernel)
    }

    /// The kernel of a type.
    pub(super) fn dot(self, ty: TensorType) -> Option<Dot> {
        match self {
            Isa::Ggml => None,
            Isa::Scalar => scalar::kernel(ty),
            Isa::Avx512 => avx512::kernel(ty),
        }
    }

    /// Whether rows of `k` weights of a type have a kernel.
    pub fn computes(self, ty: TensorType, k: usize) -> bool {
        k.is_multiple_of(GROUP) && self.dot(ty).is_some()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        let isa = isa.ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
        if isa.is_supported() { Ok(isa) } else { Err(IsaError::Unsupported(isa)) }
    }
}

/// Rows of weights of one type times rows of activations.
#[derive(Clone, Copy)]
pub struct Kernel(Dot);

impl Kernel {
    /// A row of weights times each of `x`, to `out`, which is as long as `x`. The row is whole groups of 256 weights,
    /// and so are the activations, at least as many.
    pub fn dot(&self, row: &[u8], x: &[&Activations], out: &mut [f32]) {
        for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
            let rows: [Row<'_>; 4] = std::array::from_fn(|n| Row { groups: x.get(n).map_or(&[], |x| &x.0) });
            (self.0)(row, &rows[..x.len()], out);
        }
    }
}

/// A row of activations as kernels take it.
pub struct Activations(Vec<Group>);

impl Activations {
    /// Of values whose number is a multiple of 256; the rest is left out.
    pub fn new(values: &[f32]) -> Activations {
        let mut groups = vec![Group::ZERO; values.len() / GROUP];
        quantize(values, &mut groups);
        Activations(groups)
    }
}
