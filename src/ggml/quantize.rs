//! Floats to stored weights: the other way of `dequant`, by ggml's own encoders.
//!
//! These end the process at values that they do not expect, a NaN for instance, or search in vain for a
//! grid point where nothing weighs anything. So values and importance are looked at before.

use crate::gguf::TensorType;

/// The largest value that F16, and the F16 scale of any block, can stand for.
const LARGEST: f32 = 65504.0;
/// An importance times the square of a weight stays a number.
const LARGEST_IMPORTANCE: f32 = 1e25;

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    #[error("nothing can be stored as {0}: ggml has no encoder for it")]
    Type(TensorType),
    #[error("{values} values in rows of {row} are not {bytes} bytes of {ty} data")]
    Length { ty: TensorType, values: usize, row: usize, bytes: usize },
    #[error("{0} cannot be stored as {1}")]
    Value(f32, TensorType),
    #[error("{0} needs to know how important the columns are")]
    NoImportance(TensorType),
    #[error("the importance of {got} columns is no use for rows of {row}")]
    Columns { got: usize, row: usize },
    #[error("{0} is no importance: it must be positive and at most {LARGEST_IMPORTANCE:e}")]
    Importance(f32),
}

/// An encoder whose tables are made.
#[derive(Debug, Clone, Copy)]
pub struct Quantizer {
    ty: TensorType,
}

impl Quantizer {
    /// What weights can be stored in, from many bits to few.
    #[rustfmt::skip]
    pub const TYPES: [TensorType; 22] = {
        use TensorType::*;
        [
            F32, F16, BF16, Q8_0, Q6_K, Q5_1, Q5_0, Q5_K, Q4_1, Q4_0, Q4_K, IQ4_NL, IQ4_XS, Q3_K, IQ3_S,
            IQ3_XXS, Q2_K, IQ2_S, IQ2_XS, IQ2_XXS, IQ1_M, IQ1_S,
        ]
    };

    pub fn new(ty: TensorType) -> Result<Quantizer, QuantizeError> {
        if !Quantizer::TYPES.contains(&ty) {
            return Err(QuantizeError::Type(ty));
        }
        // SAFETY: the id is one of ggml's. The tables are made under ggml's lock, once, and are never freed.
        unsafe { ggml_sys::ggml_quantize_init(ty.id()) };
        Ok(Quantizer { ty })
    }

    /// Whether ggml cannot store anything as `ty` without an importance.
    pub fn needs_importance(ty: TensorType) -> bool {
        // SAFETY: a question about a number.
        unsafe { ggml_sys::ggml_quantize_requires_imatrix(ty.id()) }
    }

    /// Stores whole rows of `row` values each. `importance` has one number a column; each row is stored by
    /// itself, so it is the same bytes in whatever company.
    pub fn rows(
        &self,
        values: &[f32],
        row: usize,
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), QuantizeError> {
        let ty = self.ty;
        let (block_bytes, block_len) = (ty.block_bytes() as usize, ty.block_len() as usize);
        let whole = row > 0 && row.is_multiple_of(block_len) && values.len().is_multiple_of(row);
        if !whole || (values.len() / block_len).checked_mul(block_bytes) != Some(out.len()) {
            return Err(QuantizeError::Length { ty, values: values.len(), row, bytes: out.len() });
        }
        let largest = if matches!(ty, TensorType::F32 | TensorType::BF16) { f32::MAX } else { LARGEST };
        // No range contains a NaN.
        if let Some(value) = values.iter().find(|value| !(-largest..=largest).contains(*value)) {
            return Err(QuantizeError::Value(*value, ty));
        }
        match importance {
            None if Quantizer::needs_importance(ty) => return Err(QuantizeError::NoImportance(ty)),
            None => {}
            Some(importance) if importance.len() != row => {
                return Err(QuantizeError::Columns { got: importance.len(), row });
            }
            Some(importance) => {
                let fits = |x: &f32| *x > 0.0 && *x <= LARGEST_IMPORTANCE;
                importance.iter().find(|x| !fits(x)).map_or(Ok(()), |x| Err(QuantizeError::Importance(*x)))?;
            }
        }
        if values.is_empty() {
            return Ok(());
        }
        let importance = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
        // SAFETY: `values` are whole rows of whole blocks, `out` has the bytes of these blocks, and `importance`
        // is null where it may be or has a value a column: all checked above. Encoders write bytes and halves
        // through pointers to blocks, which the platforms that ggml is compiled for allow at any address.
        let written = unsafe {
            ggml_sys::ggml_quantize_chunk(
                ty.id(),
                values.as_ptr(),
                out.as_mut_ptr().cast(),
                0,
                (values.len() / row) as i64,
                row as i64,
                importance,
            )
        };
        debug_assert_eq!(written, out.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml::dequantize;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    /// Sums of twelve uniform numbers: a bell of width 1.
    fn bell(n: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = || random.next_u32() as f32 / u32::MAX as f32;
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn stored(ty: TensorType, values: &[f32], row: usize, importance: Option<&[f32]>) -> Vec<u8> {
        let mut out = vec![0; values.len() / ty.block_len() as usize * ty.block_bytes() as usize];
        Quantizer::new(ty).unwrap().rows(values, row, importance, &mut out).unwrap();
        out
    }

    /// The relative error, root mean square, of each type; it must not be far below either, or the type is
    /// not what it says.
    #[test]
    fn values_come_back_within_the_error_of_their_type() {
        use TensorType::*;
        let row = 512;
        let values = bell(64 * row);
        let importance: Vec<f32> = (0..row).map(|i| 1.0 + (i % 3) as f32).collect();
        for (ty, bound) in [
            (F32, 1e-9),
            (F16, 4e-4),
            (BF16, 3e-3),
            (Q8_0, 0.008),
            (Q6_K, 0.025),
            (Q5_1, 0.05),
            (Q5_0, 0.06),
            (Q5_K, 0.05),
            (Q4_1, 0.1),
            (Q4_0, 0.11),
            (Q4_K, 0.1),
            (IQ4_NL, 0.1),
            (IQ4_XS, 0.1),
            (Q3_K, 0.2),
            (IQ3_S, 0.18),
            (IQ3_XXS, 0.24),
            (Q2_K, 0.36),
            (IQ2_S, 0.34),
            (IQ2_XS, 0.38),
            (IQ2_XXS, 0.42),
            (IQ1_M, 0.58),
            (IQ1_S, 0.62),
        ] {
            let mut back = vec![0.0; values.len()];
            dequantize(ty, &stored(ty, &values, row, Some(&importance)), &mut back).unwrap();
            let square = |x: f32| f64::from(x) * f64::from(x);
            let off: f64 = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
            let error = (off / values.iter().map(|x| square(*x)).sum::<f64>()).sqrt();
            println!("{ty} {error}");
            assert!(error <= bound && error >= if ty == F32 { 0.0 } else { bound / 3.0 }, "{ty}: {error}");
        }
    }

    #[test]
    fn a_row_is_stored_by_itself() {
        let row = 256;
        let (values, importance) = (bell(3 * row), vec![1.0; row]);
        for ty in Quantizer::TYPES {
            let apart: Vec<u8> =
                values.chunks(row).flat_map(|values| stored(ty, values, row, Some(&importance))).collect();
            assert!(stored(ty, &values, row, Some(&importance)) == apart, "{ty}");
        }
    }

    /// ggml would search its grids in vain, or at least must not.
    #[test]
    fn odd_rows_do_not_end_the_process() {
        let spike: Vec<f32> = (0..256).map(|i| if i == 77 { LARGEST } else { 0.0 }).collect();
        let tiny = vec![1e-30; 256];
        let alternating: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { LARGEST } else { -1e-20 }).collect();
        let steep: Vec<f32> = (0..256).map(|i| 10f32.powi(i % 40 - 20)).collect();
        for ty in Quantizer::TYPES {
            for values in [&spike, &tiny, &alternating, &vec![0.0; 256], &vec![-3.0; 256], &bell(256)] {
                for importance in [&steep, &vec![1e-9; 256], &vec![LARGEST_IMPORTANCE; 256]] {
                    let mut back = vec![f32::NAN; 256];
                    dequantize(ty, &stored(ty, values, 256, Some(importance)), &mut back).unwrap();
                    assert!(back.iter().all(|x| x.is_finite()), "{ty}");
                }
            }
        }
    }

    #[test]
    fn what_ggml_would_die_of_is_refused() {
        let error = |ty, values: &[f32], row, importance: Option<&[f32]>, bytes| {
            let quantizer = Quantizer::new(ty).unwrap();
            quantizer.rows(values, row, importance, &mut vec![0; bytes]).unwrap_err().to_string()
        };
        use TensorType::{F16, IQ1_S, Q4_K, Q8_0};
        let ones = [1.0; 256];
        assert_eq!(error(Q4_K, &ones, 128, None, 144), "256 values in rows of 128 are not 144 bytes of Q4_K data");
        assert_eq!(error(Q8_0, &ones[..32], 32, None, 33), "32 values in rows of 32 are not 33 bytes of Q8_0 data");
        assert_eq!(error(Q8_0, &ones[..32], 0, None, 34), "32 values in rows of 0 are not 34 bytes of Q8_0 data");
        assert_eq!(error(F16, &[f32::NAN], 1, None, 2), "NaN cannot be stored as F16");
        assert_eq!(error(F16, &[-65536.0], 1, None, 2), "-65536 cannot be stored as F16");
        assert_eq!(error(IQ1_S, &ones, 256, None, 50), "IQ1_S needs to know how important the columns are");
        assert_eq!(
            error(IQ1_S, &ones, 256, Some(&ones[..9]), 50),
            "the importance of 9 columns is no use for rows of 256"
        );
        let zeros = [0.0; 256];
        assert!(error(IQ1_S, &ones, 256, Some(&zeros), 50).starts_with("0 is no importance"));
        let no_encoder = Quantizer::new(TensorType::I8).unwrap_err().to_string();
        assert_eq!(no_encoder, "nothing can be stored as I8: ggml has no encoder for it");
    }
}
