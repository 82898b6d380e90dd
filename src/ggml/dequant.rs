//! What stored weights are worth: blocks to floats, by ggml's own decoders.

use crate::gguf::TensorType;
use std::ffi::c_void;

/// No format's block asks for more than this.
const ALIGNMENT: usize = align_of::<u64>();
/// Bytes that are moved at a time where they do not lie as ggml reads them.
const STAGE: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DequantizeError {
    #[error("{0} data cannot be turned into floats: ggml has no decoder for it")]
    Type(TensorType),
    #[error("{bytes} bytes of {ty} data are not {values} values")]
    Length { ty: TensorType, bytes: usize, values: usize },
}

/// The values of `bytes`, whole blocks of type `ty` at any address; `out` must have room for exactly those.
pub fn dequantize(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), DequantizeError> {
    let (block_bytes, block_len) = (ty.block_bytes() as usize, ty.block_len() as usize);
    let n_values = (bytes.len() / block_bytes).checked_mul(block_len);
    if !bytes.len().is_multiple_of(block_bytes) || n_values != Some(out.len()) {
        return Err(DequantizeError::Length { ty, bytes: bytes.len(), values: out.len() });
    }
    if ty == TensorType::F32 {
        let (words, _) = bytes.as_chunks();
        out.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_le_bytes(*word));
        return Ok(());
    }
    // SAFETY: ggml has traits for every id below its count, and they live for ever; the ids are ggml's own.
    let traits = unsafe { &*ggml_sys::ggml_get_type_traits(ty.id()) };
    let decode = traits.to_float.ok_or(DequantizeError::Type(ty))?;
    let decode = |blocks: *const c_void, out: &mut [f32]| {
        // SAFETY: `blocks` is aligned and readable for the blocks of `out.len()` values: the length was
        // checked above, and both callers cut data and `out` alike.
        unsafe { decode(blocks, out.as_mut_ptr(), out.len() as i64) }
    };
    if bytes.as_ptr().cast::<u64>().is_aligned() {
        decode(bytes.as_ptr().cast(), out);
        return Ok(());
    }
    let at_once = (STAGE / block_bytes).max(1);
    let mut stage = vec![0u64; (at_once * block_bytes).div_ceil(ALIGNMENT)];
    for (bytes, out) in bytes.chunks(at_once * block_bytes).zip(out.chunks_mut(at_once * block_len)) {
        for (word, bytes) in stage.iter_mut().zip(bytes.chunks(ALIGNMENT)) {
            let mut whole = [0; ALIGNMENT];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        decode(stage.as_ptr().cast(), out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 × -7 and 3 × 7, in a Q4_0 block among zeros (a nibble of 8).
    fn q4_0() -> Vec<u8> {
        let mut block = vec![0x88; 18];
        block[..2].copy_from_slice(&0x4200u16.to_le_bytes());
        block[2] = 0xf1;
        block
    }

    #[test]
    fn blocks_become_values() {
        let mut out = [f32::NAN; 32];
        dequantize(TensorType::Q4_0, &q4_0(), &mut out).unwrap();
        let expected: Vec<f32> =
            (0..32).map(|i| [-21.0, 21.0, 0.0][[0, 16].iter().position(|n| *n == i).unwrap_or(2)]).collect();
        assert_eq!(out, *expected);
        let mut out = [0.0; 2];
        dequantize(TensorType::F32, &[1.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat(), &mut out).unwrap();
        assert_eq!(out, [1.5, -2.0]);
        dequantize(TensorType::F16, &[0, 0x3c, 0, 0xc0], &mut out).unwrap();
        assert_eq!(out, [1.0, -2.0]);
        dequantize(TensorType::Q6_K, &[], &mut []).unwrap();
    }

    /// More than one stage, at every address: the values must be those of aligned data.
    #[test]
    fn data_may_lie_anywhere() {
        for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::IQ1_M, TensorType::MXFP4] {
            let n_blocks = 2 * STAGE / ty.block_bytes() as usize + 1;
            let len = n_blocks * ty.block_bytes() as usize;
            // No byte above 0x3b: no scale is a NaN, whatever the format.
            let data: Vec<u8> = (0..len + 8).map(|i| (i * i % 59) as u8).collect();
            let mut values = vec![0.0; n_blocks * ty.block_len() as usize];
            let mut expected = values.clone();
            for shift in 0..8 {
                let moved: Vec<u8> = [&data[..shift], &data[..len]].concat();
                dequantize(ty, &moved[shift..], &mut values).unwrap();
                if shift == 0 {
                    expected.clone_from(&values);
                }
                assert!(values == expected, "{ty} at {shift}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = |ty, bytes: usize, values: usize| {
            dequantize(ty, &vec![0; bytes], &mut vec![0.0; values]).unwrap_err().to_string()
        };
        assert_eq!(error(TensorType::Q4_0, 17, 32), "17 bytes of Q4_0 data are not 32 values");
        assert_eq!(error(TensorType::Q4_0, 18, 31), "18 bytes of Q4_0 data are not 31 values");
        assert_eq!(error(TensorType::Q4_0, 36, 32), "36 bytes of Q4_0 data are not 32 values");
        assert_eq!(error(TensorType::F32, 4, 2), "4 bytes of F32 data are not 2 values");
        let no_decoder = "I8 data cannot be turned into floats: ggml has no decoder for it";
        assert_eq!(error(TensorType::I8, 1, 1), no_decoder);
    }

    /// Whatever the type, the answer is values or an error.
    #[test]
    fn every_type_is_answered() {
        for ty in TensorType::ALL.iter().copied() {
            let (block, len) = (ty.block_bytes() as usize, ty.block_len() as usize);
            let decoded = dequantize(ty, &vec![0; block], &mut vec![f32::NAN; len]);
            assert!(matches!(decoded, Ok(()) | Err(DequantizeError::Type(_))), "{ty}: {decoded:?}");
        }
    }
}
