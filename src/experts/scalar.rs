//! The plain kernel: it says what the others must compute.

use super::activation::{Order, Row};
use super::block::{SUB, Unpack, Unpacked, codebooks, group_bytes, unpacker};
use super::kernel::{Dot, Way};
use crate::gguf::TensorType;

macro_rules! kernels {
    ($($ty:ident)*) => {
        pub(super) fn kernel(ty: TensorType) -> Option<Way> {
            let dot: Dot = match ty {
                $(TensorType::$ty => |row, x, out| dot(TensorType::$ty, row, x, out),)*
                _ => return None,
            };
            Some(Way { dot, order: Order::Natural })
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
            let (runs, _) = group.q.as_chunks::<SUB>();
            let (x_runs, _) = x.q.as_chunks::<SUB>();
            for (sub, (run, x_run)) in runs.iter().zip(x_runs).enumerate() {
                let dot: i32 = run.iter().zip(x_run).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                *out += x.d * (group.scale[sub] * dot as f32 + group.min[sub] * x.float_sums[sub]);
            }
        }
    }
}
