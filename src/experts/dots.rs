//! From kernels of some rows to a kernel of any number of them. A macro, since for each number of rows a kernel is a
//! function of its own; `Row` and `group_bytes` are those of where it is used.

/// From slices to pointers, four rows at a time.
macro_rules! dots {
    ($name:ident, $trait:ident, $dot:ident) => {
        fn $name<F: $trait>(row: &[u8], x: &[Row<'_>], out: &mut [f32]) {
            let n = row.len() / const { group_bytes(F::TYPE) };
            assert!(x.iter().all(|x| x.groups.len() >= n), "a row of activations is too short");
            for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
                let ptr = |n: usize| x[n].groups.as_ptr();
                // SAFETY: lengths are checked above; kernels are called where they are supported only.
                unsafe {
                    match x.len() {
                        1 => out.copy_from_slice(&$dot::<F, 1>(row.as_ptr(), n, [ptr(0)])),
                        2 => out.copy_from_slice(&$dot::<F, 2>(row.as_ptr(), n, [ptr(0), ptr(1)])),
                        3 => out.copy_from_slice(&$dot::<F, 3>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2)])),
                        _ => out.copy_from_slice(&$dot::<F, 4>(row.as_ptr(), n, [ptr(0), ptr(1), ptr(2), ptr(3)])),
                    }
                }
            }
        }
    };
}

pub(super) use dots;
