//! What ggml and its CPU backend ask of tensors, as questions.

use super::ops::OpError;
use super::tensor::Tensor;
use crate::gguf::TensorType;

/// What the CPU's matrix multiplication asks of both sides.
pub(super) fn can_multiply(op: &'static str, a: Tensor<'_>, b: Tensor<'_>) -> Result<(), OpError> {
    let error = |problem| Err(OpError { op, problem });
    if a.is_transposed() || !has_dense_elements(a) {
        return error(format!("the rows of {a:?} are not contiguous"));
    }
    if !can_dot(a) {
        return error(format!("nothing is multiplied by {a:?}"));
    }
    if !b.is(TensorType::F32) || !has_dense_elements(b) {
        return error(format!("{b:?} is not F32 in contiguous rows"));
    }
    Ok(())
}

/// Whether the CPU backend has a dot product for the tensor's type.
pub(super) fn can_dot(a: Tensor<'_>) -> bool {
    a.ty().is_some_and(computes)
}

/// Whether matrices of this type can be multiplied by.
pub fn computes(ty: TensorType) -> bool {
    // SAFETY: the table has an entry for every type that ggml knows.
    unsafe { (*ggml_sys::ggml_get_type_traits_cpu(ty.id())).vec_dot.is_some() }
}

/// Whether rows of this type can be looked up.
pub(super) fn has_rows(a: Tensor<'_>) -> bool {
    // What has no dot product is for intermediate results only, and its rows cannot be had.
    a.is(TensorType::I32) || can_dot(a)
}

/// Whether rows can be written to the tensor and read again.
pub(super) fn takes_rows(a: Tensor<'_>) -> bool {
    // SAFETY: the table of a type's functions is static.
    can_dot(a) && unsafe { (*ggml_sys::ggml_get_type_traits_cpu(a.type_id())).from_float.is_some() }
}

/// Whether values of the tensor's type can be turned into floats.
pub(super) fn has_floats(a: Tensor<'_>) -> bool {
    // SAFETY: the table of a type's functions is static.
    a.is(TensorType::F32) || unsafe { (*ggml_sys::ggml_get_type_traits(a.type_id())).to_float.is_some() }
}

pub(super) fn can_repeat(op: &'static str, a: Tensor<'_>, b: Tensor<'_>) -> Result<(), OpError> {
    let problem = if !is_f32_rows(a) || !is_f32_rows(b) {
        format!("{a:?} and {b:?} are not F32 in contiguous rows")
    } else if !a.ne().iter().zip(b.ne()).all(|(a, b)| a % b == 0) {
        format!("{b:?} cannot be repeated over {a:?}")
    } else {
        return Ok(());
    };
    Err(OpError { op, problem })
}

/// Whether the elements, or blocks, of a row follow each other.
pub(super) fn has_dense_elements(a: Tensor<'_>) -> bool {
    a.ty().is_some_and(|ty| a.nb()[0] == ty.block_bytes() as usize)
}

/// Whether `n` values are whole blocks of the tensor's type.
pub(super) fn are_blocks(a: Tensor<'_>, n: i64) -> bool {
    a.ty().zip(u64::try_from(n).ok()).is_some_and(|(ty, n)| n.is_multiple_of(ty.block_len()))
}

pub(super) fn is_f32(a: Tensor<'_>) -> bool {
    a.is(TensorType::F32) && a.is_contiguous()
}

pub(super) fn is_f32_rows(a: Tensor<'_>) -> bool {
    a.is(TensorType::F32) && a.nb()[0] == 4
}

/// F32 whose rows are contiguous and equally far apart.
pub(super) fn is_f32_even_rows(a: Tensor<'_>) -> bool {
    // SAFETY: alive by construction.
    is_f32_rows(a) && unsafe { ggml_sys::ggml_is_contiguous_1(a.as_ptr()) }
}
