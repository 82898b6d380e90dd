//! The plain kernel: it says what the others must compute.

use super::activation::Row;
use super::block::{GROUP, SUB, Unpacked, codebooks, group_bytes, unpacker};
use crate::gguf::TensorType;

/// A row of weights times each of `x`.
pub(super) fn dot(ty: TensorType, row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
    let Some(unpack) = unpacker(ty) else { return out.fill(f32::NAN) };
    let mut group = Unpacked::ZERO;
    out.fill(0.0);
    for (n, bytes) in row.chunks_exact(group_bytes(ty)).enumerate() {
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
