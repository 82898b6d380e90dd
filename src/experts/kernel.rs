//! Which kernels there are, and which run on this machine.

use super::activation::{Group, Order, Row, quantize};
use super::block::GROUP;
use super::gemm::{self, Engine, Unpack};
use super::{avx2, avx512, scalar};
use crate::gguf::TensorType;
use std::fmt;
use std::str::FromStr;

/// The types that the kernels know.
pub const TYPES: [TensorType; 17] = [
    TensorType::IQ1_S,
    TensorType::IQ1_M,
    TensorType::IQ2_XXS,
    TensorType::IQ2_XS,
    TensorType::IQ2_S,
    TensorType::IQ3_XXS,
    TensorType::IQ3_S,
    TensorType::IQ4_XS,
    TensorType::IQ4_NL,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::Q4_0,
    TensorType::Q5_0,
    TensorType::Q8_0,
];

/// A row of weights, times each of the rows `x`, to as many sums.
pub(super) type Dot = fn(&[u8], x: &[Row<'_>], &mut [f32]);

/// From so many tokens of a matrix on, or of an expert on average, panels pay: for fewer, to unpack again for each few
/// tokens is faster.
pub(super) const MANY_FROM: usize = 6;

/// How a type's weights are multiplied.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) dot: Dot,
    /// What activations have to be in.
    pub(super) order: Order,
}

/// How a type's weights are multiplied by many tokens at once.
#[derive(Clone, Copy)]
pub(super) struct ByPanels {
    pub(super) engine: Engine,
    pub(super) unpack: Unpack,
}

/// How many tokens at once are multiplied.
#[derive(Clone, Copy)]
pub(super) enum Many {
    /// A row of weights at a time, for a few tokens.
    Rows,
    Panels(ByPanels),
    /// Not by us.
    Ggml,
}

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Isa {
    /// No kernels of ours: ggml computes everything.
    Ggml,
    /// Plain code, for comparison.
    Scalar,
    /// 256-bit vectors: Intel since Haswell, AMD since Zen.
    Avx2,
    /// 512-bit vectors with VNNI and VBMI, and many tokens in BF16: Intel since Sapphire Rapids, AMD since Zen 4.
    Bf16,
    /// 512-bit vectors with VNNI and VBMI, and many tokens as whole numbers: Intel since Ice Lake, AMD since Zen 4.
    Avx512,
    /// 512-bit vectors, and AMX tiles with BF16 for many tokens: Intel since Sapphire Rapids.
    Amx,
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
    pub const ALL: [Isa; 6] = [Isa::Ggml, Isa::Scalar, Isa::Avx2, Isa::Bf16, Isa::Avx512, Isa::Amx];

    pub fn name(self) -> &'static str {
        match self {
            Isa::Ggml => "ggml",
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Bf16 => "bf16",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    /// Whether this CPU can run it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Ggml | Isa::Scalar => true,
            Isa::Avx2 => avx2::is_supported(),
            Isa::Bf16 => avx512::is_supported() && gemm::has_vectors(),
            Isa::Avx512 => avx512::is_supported(),
            Isa::Amx => avx512::is_supported() && gemm::has_amx(),
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
        self.way(ty).filter(|_| self.is_supported()).map(Kernel)
    }

    /// The kernel of a type.
    pub(super) fn way(self, ty: TensorType) -> Option<Way> {
        match self {
            Isa::Ggml => None,
            Isa::Scalar => scalar::kernel(ty),
            Isa::Avx2 => avx2::kernel(ty),
            Isa::Bf16 | Isa::Avx512 | Isa::Amx => avx512::kernel(ty),
        }
    }

    /// How many tokens at once are multiplied.
    pub(super) fn many(self, ty: TensorType) -> Many {
        let panels = |engine: Engine, unpack: Option<Unpack>| {
            unpack.map_or(Many::Ggml, |unpack| Many::Panels(ByPanels { engine, unpack }))
        };
        match self {
            Isa::Ggml => Many::Ggml,
            Isa::Scalar | Isa::Avx2 => Many::Rows,
            Isa::Avx512 if ty == TensorType::BF16 => {
                self.many_floats().map_or(Many::Ggml, |by| panels(by.engine, avx512::unpack(ty)))
            }
            Isa::Bf16 => panels(Engine::Vectors, avx512::unpack(ty)),
            Isa::Avx512 => panels(Engine::Bytes, avx512::unpack_bytes(ty)),
            Isa::Amx => panels(Engine::Amx, avx512::unpack(ty)),
        }
    }

    /// How floats are multiplied by many tokens, rounded to BF16.
    pub(super) fn many_floats(self) -> Option<ByPanels> {
        let engine = match self {
            Isa::Ggml | Isa::Scalar | Isa::Avx2 => None,
            Isa::Bf16 | Isa::Avx512 => gemm::has_vectors().then_some(Engine::Vectors),
            Isa::Amx => Some(Engine::Amx),
        };
        engine.map(|engine| ByPanels { engine, unpack: avx512::unpack_floats })
    }

    /// What multiplies panels, if anything does.
    pub(super) fn engine(self) -> Option<Engine> {
        match self {
            Isa::Ggml | Isa::Scalar | Isa::Avx2 => None,
            Isa::Bf16 => Some(Engine::Vectors),
            Isa::Avx512 => Some(Engine::Bytes),
            Isa::Amx => Some(Engine::Amx),
        }
    }

    /// Whether rows of `k` weights of a type have a kernel.
    pub fn computes(self, ty: TensorType, k: usize) -> bool {
        k.is_multiple_of(GROUP) && self.way(ty).is_some()
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
pub struct Kernel(Way);

impl Kernel {
    /// A row of weights times each of `x`, to `out`, which is as long as `x`. The row is whole groups of 256 weights,
    /// and so are the activations, at least as many.
    pub fn dot(&self, row: &[u8], x: &[&Activations], out: &mut [f32]) {
        for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
            let rows: [Row<'_>; 4] = std::array::from_fn(|n| Row { groups: x.get(n).map_or(&[], |x| &x.0) });
            (self.0.dot)(row, &rows[..x.len()], out);
        }
    }
}

/// A row of activations as kernels take it.
pub struct Activations(Vec<Group>);

impl Activations {
    /// For a kernel, of values whose number is a multiple of 256; the rest is left out.
    pub fn new(values: &[f32], kernel: &Kernel) -> Activations {
        let mut groups = vec![Group::ZERO; values.len() / GROUP];
        quantize(values, kernel.0.order, &mut groups);
        Activations(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::block::group_bytes;
    use crate::experts::testing::{noise, random_rows};
    use crate::ggml::dequantize;

    /// Rows of weights times rows of activations in f64, and the sum of the amounts of all products.
    fn expected(ty: TensorType, row: &[u8], x: &[f32]) -> (f64, f64) {
        let mut weights = vec![0.0; x.len()];
        dequantize(ty, row, &mut weights).unwrap();
        let products = || weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
        (products().sum(), products().map(f64::abs).sum())
    }

    /// Activations that eight bits hold exactly: whatever is wrong then is the kernel's.
    fn whole_numbers(seed: u64, n: usize) -> Vec<f32> {
        let mut x: Vec<f32> = noise(seed, n).iter().map(|x| (x * 127.0).round() / 64.0).collect();
        x.iter_mut().step_by(GROUP).for_each(|x| *x = 127.0 / 64.0);
        x
    }

    #[test]
    fn every_kernel_multiplies_what_is_stored() {
        for isa in Isa::available() {
            for ty in TYPES {
                let Some(kernel) = isa.kernel(ty) else { continue };
                for n in [1, 2, 3, 4, 5, 9] {
                    let rows = random_rows(ty, 3 * n, n as u64);
                    let values: Vec<Vec<f32>> = (0..7).map(|seed| whole_numbers(seed, n * GROUP)).collect();
                    let x: Vec<Activations> = values.iter().map(|x| Activations::new(x, &kernel)).collect();
                    for row in rows.chunks(n * group_bytes(ty)) {
                        for count in 1..=x.len() {
                            let mut found = vec![f32::NAN; count];
                            kernel.dot(row, &x[..count].iter().collect::<Vec<_>>(), &mut found);
                            for (found, x) in found.iter().zip(&values) {
                                let (expected, amount) = expected(ty, row, x);
                                let error = (f64::from(*found) - expected).abs();
                                assert!(error <= 4e-6 * amount, "{isa} {ty}, {n} groups: {found}, not {expected}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Blocks of the same byte throughout: indices, signs and scales at their ends.
    #[test]
    fn extreme_bits() {
        for isa in Isa::available() {
            for ty in TYPES {
                let Some(kernel) = isa.kernel(ty) else { continue };
                let x = vec![127.0; 2 * GROUP];
                let activations = Activations::new(&x, &kernel);
                for byte in [0x00, 0x7b, 0x3f, 0x55, 0x2a, 0x7a, 0xf0, 0x0f, 0x88, 0xfb] {
                    let row = vec![byte; 2 * group_bytes(ty)];
                    let (expected, amount) = expected(ty, &row, &x);
                    if !amount.is_finite() {
                        continue;
                    }
                    let mut found = [f32::NAN];
                    kernel.dot(&row, &[&activations], &mut found);
                    let error = (f64::from(found[0]) - expected).abs();
                    // Where numbers are small and all activations are large, an offset of 128 takes some bits.
                    assert!(error <= 3e-5 * amount, "{isa} {ty} of {byte:#x}: {}, not {expected}", found[0]);
                }
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        let error = "sse9".parse::<Isa>().unwrap_err().to_string();
        assert!(error.contains("CACHALOT_CPU=\"sse9\"") && error.contains("ggml, scalar"), "{error}");
    }
}
