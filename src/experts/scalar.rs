//! The plain kernel: it says what the others must compute.

use super::activation::Row;
use super::block::{GROUP, SUB, Unpack, Unpacked, codebooks, group_bytes, unpacker};
use super::kernel::Dot;
use crate::gguf::TensorType;

macro_rules! kernels {
    ($($ty:ident)*) => {
        pub(super) fn kernel(ty: TensorType) -> Option<Dot> {
            match ty {
                $(TensorType::$ty => Some(|row, x, out| dot(TensorType::$ty, row, x, out)),)*
                _ => None,
            }
        }
    };
}

kernels! {
    IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_XS IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K Q4_0 Q5_0 Q8_0
}

fn dot(ty: TensorType, row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
    match unpacker(ty) {
        Some(unpack) => dot_by(unpack, group_bytes(ty), row, x, out),
        None => unreachable!("every type with a kernel can be unpacked"),
    }
}

/// A row of weights times each of `x`.
fn dot_by(unpack: Unpack, bytes: usize, row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
    let mut group = Unpacked::ZERO;
    out.fill(0.0);
    for (n, bytes) in row.chunks_exact(bytes).enumerate() {
        unpack(bytes, codebooks(), &mut group);
        for (out, x) in out.iter_mut().zip(x) {
            let x = &x.groups[n];
            for sub in 0..GROUP / SUB {
                let at = SUB * sub..SUB * (sub + 1);
                let products = group.q[at.clone()].iter().zip(&x.q[at]);
                let dot: i32 = products.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                *out += group.scale[sub] * x.d[sub] * dot as f32 + group.min[sub] * x.sum[sub];
            }
        }
    }
}
