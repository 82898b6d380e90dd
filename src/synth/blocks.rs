//! Random values in any type: random bytes, with scales that give the values the wanted size.
//!
//! How large a type's values are when its blocks are random is measured, with ggml's own decoder, and
//! not derived from the format. The scales differ from block to block, as in real files: a kernel that
//! took a neighbour's scale would be found out.
//!
//! One thing is not left to chance: within a block the values have a mean near 0. Groups of 32 values that
//! all go up or all go down would lie in the same columns of every matrix and of the embeddings, and one
//! product would make of them what should be noise: outputs several times too large.

use super::random::{Stream, unit};
use crate::ggml::dequantize;
use crate::gguf::TensorType;
use crate::model::{Scale, scales};
use half::f16;
use rayon::prelude::*;

/// What a tensor is filled with.
#[derive(Debug, Clone)]
pub(super) enum Filler {
    Blocks(Blocks),
    /// F16 values of this standard deviation.
    Halves(f32),
    Floats(Floats),
}

/// F32 values: each row spread evenly around a number of its own.
#[derive(Debug, Clone)]
pub(super) struct Floats {
    pub(super) row_len: usize,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) mean: f32,
    /// Standard deviation.
    pub(super) spread: f32,
}

/// Blocks with one or two f16 scales.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    ty: TensorType,
    scales: &'static [Scale],
    /// Bits of the scales that a block can have.
    choices: [[u16; 2]; N_CHOICES],
}

const N_CHOICES: usize = 16;
/// Blocks that a type is measured on.
const N_MEASURED: usize = 512;
/// A tensor is made in pieces of about so many bytes, each by one thread.
const PIECE: usize = 1 << 18;

/// The values of a type's random blocks with a first scale of 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    ty: TensorType,
    /// The second scale that makes the mean 0.
    second: f32,
    /// Root of the mean square.
    size: f32,
}

impl Measured {
    /// `None` for types that ggml cannot decode, or whose blocks have no f16 scales.
    pub(super) fn new(ty: TensorType) -> Option<Measured> {
        let scales = scales(ty);
        if scales.is_empty() || scales.len() > 2 {
            return None;
        }
        let mut data = vec![0; N_MEASURED * ty.block_bytes() as usize];
        Stream::new(0, ty.name()).fill(0, &mut data);
        data.chunks_exact_mut(ty.block_bytes() as usize).for_each(|block| balance(ty, block));
        let mut values = vec![0.0; N_MEASURED * ty.block_len() as usize];
        let mut with = |given: [f32; 2]| {
            for block in data.chunks_exact_mut(ty.block_bytes() as usize) {
                for (scale, value) in scales.iter().zip(given) {
                    scale.set_f16_bits(block, f16::from_f32(value).to_bits())?;
                }
            }
            dequantize(ty, &data, &mut values).ok()?;
            let mean = |f: fn(f64) -> f64| values.iter().map(|x| f((*x).into())).sum::<f64>() / values.len() as f64;
            Some((mean(|x| x) as f32, mean(|x| x * x).sqrt() as f32))
        };
        let second = match scales.len() {
            2 => -with([1.0, 0.0])?.0 / with([0.0, 1.0])?.0,
            _ => 0.0,
        };
        let (_, size) = with([1.0, second])?;
        Some(Measured { ty, second, size })
    }

    /// Blocks whose values have this standard deviation, around a mean of 0 or near it: the numbers of some
    /// formats go further down than up, and only a second scale could make up for it.
    pub(super) fn blocks(self, std: f32) -> Blocks {
        // From 0.75 to 1.25, together as if all were 1.
        let factors: [f32; N_CHOICES] = std::array::from_fn(|i| 0.75 + 0.5 * i as f32 / (N_CHOICES - 1) as f32);
        let size = (factors.iter().map(|x| x * x).sum::<f32>() / N_CHOICES as f32).sqrt();
        let choices = factors.map(|factor| {
            let scale = factor / size * std / self.size;
            [scale, scale * self.second].map(|scale| f16::from_f32(scale).to_bits())
        });
        Blocks { ty: self.ty, scales: scales(self.ty), choices }
    }
}

impl Filler {
    /// Fills `out` with a tensor's values from byte `start` on, with all threads; `start` is a multiple of
    /// [`unit`](Self::unit).
    pub(super) fn fill(&self, stream: Stream, start: u64, out: &mut [u8]) {
        let unit = self.unit();
        debug_assert!(start.is_multiple_of(unit as u64));
        let piece = (PIECE / unit).max(1) * unit;
        out.par_chunks_mut(piece).enumerate().for_each(|(number, out)| {
            let start = start + (number * piece) as u64;
            stream.fill(start / 8, out);
            match self {
                Filler::Blocks(blocks) => blocks.finish(out),
                Filler::Halves(std) => halves(*std, out),
                Filler::Floats(floats) => floats.spread(start / 4, out),
            }
        });
    }

    /// Bytes of which a piece must be a multiple: whole blocks and whole words.
    pub(super) fn unit(&self) -> usize {
        match self {
            Filler::Blocks(blocks) => blocks.ty.block_bytes() as usize * 8,
            Filler::Halves(_) | Filler::Floats(_) => 8,
        }
    }
}

impl Blocks {
    /// Makes blocks of random bytes.
    fn finish(&self, out: &mut [u8]) {
        for block in out.chunks_exact_mut(self.ty.block_bytes() as usize) {
            // The random bits that lie there choose what takes their place.
            let random = self.scales.first().and_then(|scale| scale.f16_bits(block)).unwrap_or(0);
            let choice = self.choices[usize::from(random) % N_CHOICES];
            for (scale, bits) in self.scales.iter().zip(choice) {
                scale.set_f16_bits(block, bits);
            }
            balance(self.ty, block);
        }
    }
}

/// In the formats that subtract a minimum in each group of values, makes the minima what the scales are.
/// Times the block's second scale they then lie in the middle of what the group's numbers come to.
fn balance(ty: TensorType, block: &mut [u8]) {
    match (ty, block) {
        // 16 groups, each with a scale in the lower four bits of a byte and a minimum in the upper.
        (TensorType::Q2_K, [groups @ .., _, _, _, _]) => {
            groups.iter_mut().take(16).for_each(|byte| *byte = *byte & 0x0f | *byte << 4);
        }
        // 8 groups with six bits for each scale and each minimum: the scales of the first four, with two
        // bits of the last four on top; the minima likewise; the other four bits of both.
        (TensorType::Q4_K | TensorType::Q5_K, [_, _, _, _, groups @ ..]) => {
            groups.copy_within(0..4, 4);
            groups.iter_mut().skip(8).take(4).for_each(|byte| *byte = *byte & 0x0f | *byte << 4);
        }
        _ => {}
    }
}

fn halves(std: f32, out: &mut [u8]) {
    for value in out.as_chunks_mut().0 {
        let bits = u32::from(u16::from_le_bytes(*value)) << 16;
        *value = f16::from_f32(unit(bits) * std).to_le_bytes();
    }
}

impl Floats {
    /// All values around one number.
    pub(super) fn around(mean: f32, spread: f32) -> Floats {
        Floats { row_len: usize::MAX, rows: vec![Row { mean, spread }] }
    }

    fn spread(&self, first: u64, out: &mut [u8]) {
        for (index, value) in (first..).zip(out.as_chunks_mut().0) {
            let row = self.rows.get(index as usize / self.row_len).copied().unwrap_or(Row { mean: 0.0, spread: 0.0 });
            *value = (row.mean + row.spread * unit(u32::from_le_bytes(*value))).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be made, but the formats of -1, 0 and 1 whose fourth number, 2, no real file has.
    fn types() -> impl Iterator<Item = (TensorType, Measured)> {
        let types = TensorType::ALL.iter().copied();
        let even = types.filter(|ty| ![TensorType::TQ2_0, TensorType::Q2_0].contains(ty));
        even.filter_map(|ty| Some((ty, Measured::new(ty)?)))
    }

    /// Mean and standard deviation.
    fn moments(values: &[f32]) -> (f64, f64) {
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
        let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
        (mean, (values.iter().map(square).sum::<f64>() / values.len() as f64).sqrt())
    }

    #[test]
    fn every_type_gets_the_size_that_is_asked_for() {
        assert!(types().count() >= 20);
        for (ty, measured) in types() {
            for std in [0.01f32, 1.0] {
                let mut data = vec![0; 4000 * ty.block_bytes() as usize];
                Filler::Blocks(measured.blocks(std)).fill(Stream::new(7, "x"), 0, &mut data);
                let mut values = vec![0.0; 4000 * ty.block_len() as usize];
                dequantize(ty, &data, &mut values).unwrap();
                let (mean, deviation) = moments(&values);
                let size = mean.hypot(deviation);
                assert!((size / f64::from(std) - 1.0).abs() < 0.05, "{ty}: {size} for {std}");
                assert!(mean.abs() < 0.15 * size, "{ty}: mean {mean} of {size}");
                let bits = scales(ty)[0].f16_bits(&data).unwrap();
                let other = |block: &[u8]| scales(ty)[0].f16_bits(block) != Some(bits);
                assert!(data.chunks(ty.block_bytes() as usize).any(other), "{ty}: all blocks have one scale");
            }
        }
    }

    /// No 16 values that lie together share a sign or an offset: the mean of n independent values has an
    /// n-th of their square.
    #[test]
    fn groups_of_values_have_no_offset() {
        for (ty, measured) in types() {
            let mut data = vec![0; 400 * ty.block_bytes() as usize];
            Filler::Blocks(measured.blocks(1.0)).fill(Stream::new(7, "x"), 0, &mut data);
            let mut values = vec![0.0; 400 * ty.block_len() as usize];
            dequantize(ty, &data, &mut values).unwrap();
            let square = |means: &[f32]| means.iter().map(|x| x * x).sum::<f32>() / means.len() as f32;
            let means: Vec<f32> = values.chunks(16).map(|group| group.iter().sum::<f32>() / 16.0).collect();
            let share = 16.0 * square(&means) / square(&values);
            assert!(share < 2.0, "{ty}: {share}");
        }
    }

    #[test]
    fn types_without_f16_scales_are_not_made() {
        for ty in [TensorType::F32, TensorType::MXFP4, TensorType::NVFP4, TensorType::Q8_1, TensorType::Q8_K] {
            assert!(Measured::new(ty).is_none(), "{ty}");
        }
    }

    #[test]
    fn plain_floats_have_rows_of_their_own() {
        let rows = vec![Row { mean: 1.0, spread: 0.1 }, Row { mean: -1.0, spread: 0.0 }];
        let mut data = vec![0; 8000];
        Filler::Floats(Floats { row_len: 1000, rows }).fill(Stream::new(0, ""), 0, &mut data);
        let mut values = [0.0; 2000];
        dequantize(TensorType::F32, &data, &mut values).unwrap();
        let (mean, std) = moments(&values[..1000]);
        assert!((mean - 1.0).abs() < 0.02 && (std - 0.1).abs() < 0.01, "{mean} {std}");
        assert!(values[1000..].iter().all(|x| *x == -1.0));
        Filler::Halves(0.5).fill(Stream::new(0, ""), 0, &mut data);
        let mut values = [0.0; 4000];
        dequantize(TensorType::F16, &data, &mut values).unwrap();
        let (mean, std) = moments(&values);
        assert!(mean.abs() < 0.03 && (std - 0.5).abs() < 0.02, "{mean} {std}");
    }

    #[test]
    fn a_piece_is_what_the_whole_has_there() {
        let filler = Filler::Blocks(Measured::new(TensorType::IQ1_M).unwrap().blocks(1.0));
        let mut whole = vec![0; 3 * PIECE / 56 * 56];
        filler.fill(Stream::new(3, "x"), 0, &mut whole);
        let start = 56 * 8 * 700;
        let mut piece = vec![0; 56 * 100];
        filler.fill(Stream::new(3, "x"), start as u64, &mut piece);
        assert!(piece == whole[start..start + piece.len()]);
    }
}
