//! What ggml would end the process for, or not notice: each is an error.

use super::*;

const F32: TensorType = TensorType::F32;
const ROPE: Rope = Rope {
    n_dims: 4,
    n_ctx_orig: 0,
    freq_base: 10_000.0,
    freq_scale: 1.0,
    ext_factor: 0.0,
    attn_factor: 1.0,
    beta_fast: 32.0,
    beta_slow: 1.0,
};

/// A graph over one stored Q8_0 [64, 4], for what is refused in it.
struct Kit<'a, 'b>(&'a Builder<'b>, StoreId);

impl<'b> Kit<'_, 'b> {
    /// An F32 input.
    fn f<const N: usize>(&self, dims: [i64; N]) -> Tensor<'b> {
        self.of(F32, dims)
    }

    fn of<const N: usize>(&self, ty: TensorType, dims: [i64; N]) -> Tensor<'b> {
        self.0.input("x", ty, ne(dims)).unwrap().1
    }

    /// Row numbers.
    fn i<const N: usize>(&self, dims: [i64; N]) -> Tensor<'b> {
        self.of(TensorType::I32, dims)
    }

    /// F32 whose rows are not contiguous: [a, b], transposed.
    fn turned<const N: usize>(&self, dims: [i64; N]) -> Tensor<'b> {
        let [a, b, c, d] = ne(dims);
        self.0.permute(self.f([b, a, c, d]), [1, 0, 2, 3]).unwrap()
    }

    /// F32 whose rows are contiguous, but not next to each other.
    fn spread<const N: usize>(&self, dims: [i64; N]) -> Tensor<'b> {
        let [a, b, c, d] = ne(dims);
        let all = self.f([a + 1, b, c, d]);
        let [_, n1, n2, n3] = all.nb();
        self.0.view(all, ne(dims), [n1, n2, n3], 0).unwrap()
    }

    /// F32 whose rows are contiguous and equally far apart, but whose matrices are not.
    fn uneven<const N: usize>(&self, dims: [i64; N]) -> Tensor<'b> {
        let [a, b, c, d] = ne(dims);
        let all = self.f([a, b + 1, c, d]);
        let [_, n1, n2, n3] = all.nb();
        self.0.view(all, ne(dims), [n1, n2, n3], 0).unwrap()
    }

    /// Q8_0 [64, 4].
    fn q(&self) -> Tensor<'b> {
        self.0.stored(0, self.1)
    }
}

/// Each line is refused, by the operation it names.
macro_rules! refused {
    ($($name:ident: |$b:ident, $k:ident| { $($op:literal: $call:expr;)+ })+) => {$(
        #[test]
        fn $name() {
            let (store, id) = store_of(TensorType::Q8_0, &[64, 4], &[0; 8 * 34]);
            let built = Graph::build(2000, vec![store], |$b| {
                let $k = Kit($b, id);
                $({
                    let result: Result<_, OpError> = $call;
                    match result {
                        Ok(_) => panic!("{} was taken", stringify!($call)),
                        Err(error) => assert_eq!(error.op, $op, "{}: {error}", stringify!($call)),
                    }
                })+
                Ok::<_, Error>(())
            });
            built.unwrap();
        }
    )+};
}

refused! {
    inputs: |b, k| {
        "input": b.input("x", TensorType::Q8_0, ne([32]));
        "input": b.input("x", F32, ne([0]));
        "input": b.input("x", F32, ne([4, -1]));
        "input": b.input("x", F32, [1 << 20; 4]);
        "input": b.input("x", F32, [i64::MAX; 4]);
        "input": b.input("x", F32, ne([1 << 31]));
        "input": b.input("x", F32, ne([1, 1 << 31]));
        "output": b.output(k.turned([2, 3]));
        "output": b.output(k.f([2]));
        "output": b.output(k.q());
    }

    mul_mat: |b, k| {
        "mul_mat": b.mul_mat(k.f([4, 2]), k.f([3, 2]));
        "mul_mat": b.mul_mat(k.f([4, 2, 2]), k.f([4, 2, 3]));
        "mul_mat": b.mul_mat(k.f([4, 2, 1, 2]), k.f([4, 2, 1, 3]));
        "mul_mat": b.mul_mat(k.f([4, 2, 4]), k.f([4, 2, 2]));
        "mul_mat": b.mul_mat(k.turned([4, 2]), k.f([4, 2]));
        "mul_mat": b.mul_mat(k.f([4, 2]), k.turned([4, 2]));
        "mul_mat": b.mul_mat(k.i([4, 2]), k.f([4, 2]));
        "mul_mat": b.mul_mat(k.of(TensorType::F64, [4, 2]), k.f([4, 2]));
        "mul_mat": b.mul_mat(k.f([4, 2]), k.of(TensorType::F16, [4, 2]));
        "mul_mat": b.mul_mat(k.f([64, 2]), k.q());
        // Rows one upon the other count as transposed.
        "mul_mat": b.mul_mat(b.view(k.f([4, 2]), ne([4, 2]), [0; 3], 0)?, k.f([4, 2]));
        "mul_mat": b.mul_mat(k.f([1, 1 << 30]), k.f([1, 1 << 30]));
    }

    mul_mat_id: |b, k| {
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([5, 1, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3, 2]), k.f([4, 1, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), k.f([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), k.of(TensorType::I64, [2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), k.i([2, 3]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), k.i([2, 2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), k.i([2, 2, 1, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 2, 2]), k.i([3, 2]));
        "mul_mat_id": b.mul_mat_id(k.turned([4, 2, 3]), k.f([4, 1, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.turned([4, 3, 2]), k.i([3, 2]));
        "mul_mat_id": b.mul_mat_id(k.i([4, 2, 3]), k.f([4, 1, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.of(TensorType::F16, [4, 1, 2]), k.i([2, 2]));
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), b.permute(k.i([2, 2]), [1, 0, 2, 3])?);
        // Four numbers, three experts.
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), b.argsort_top_k(k.f([4, 2]), 2)?);
        // Numbers of which nothing is known.
        "mul_mat_id": b.mul_mat_id(k.f([4, 2, 3]), k.f([4, 1, 2]), b.cont(k.i([2, 2]))?);
    }

    rows: |b, k| {
        "get_rows": b.get_rows(k.f([4, 3]), k.f([2]));
        "get_rows": b.get_rows(k.f([4, 3]), k.of(TensorType::I64, [2]));
        "get_rows": b.get_rows(k.f([4, 3, 2]), k.i([2, 3]));
        "get_rows": b.get_rows(k.f([4, 3, 1, 2]), k.i([2, 1, 3]));
        "get_rows": b.get_rows(k.f([4, 3]), k.i([2, 1, 1, 2]));
        "get_rows": b.get_rows(k.turned([4, 3]), k.i([2]));
        "get_rows": b.get_rows(k.of(TensorType::I64, [4, 3]), k.i([2]));
        "get_rows": b.get_rows(k.of(TensorType::I8, [4, 3]), k.i([2]));
        "get_rows": b.get_rows(k.of(TensorType::F64, [4, 3]), k.i([2]));
        "get_rows": b.get_rows(k.f([4, 3]), b.argsort_top_k(k.f([4]), 2)?);
        "get_rows": b.get_rows(k.f([4, 3]), b.get_rows(k.i([2, 1]), k.i([1]))?);
        "get_rows": b.get_rows(k.f([1 << 20, 2]), k.i([1 << 30]));
        "set_rows": b.set_rows(k.f([4, 3]), k.f([5, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3, 2]), k.f([4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3, 1, 2]), k.f([4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.f([4, 2]), k.i([3]));
        "set_rows": b.set_rows(k.f([4, 3, 3]), k.f([4, 2, 3]), k.i([2, 2]));
        "set_rows": b.set_rows(k.f([4, 3, 1, 3]), k.f([4, 2, 1, 3]), k.i([2, 1, 2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.f([4, 2]), k.i([2, 1, 1, 2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.of(TensorType::F64, [4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.of(TensorType::F16, [4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.f([4, 2]), k.f([2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.f([4, 2]), k.of(TensorType::I16, [2]));
        "set_rows": b.set_rows(k.turned([4, 3]), k.f([4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.f([4, 3]), k.turned([4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.i([4, 3]), k.f([4, 2]), k.i([2]));
        "set_rows": b.set_rows(k.of(TensorType::F64, [4, 3]), k.f([4, 2]), k.i([2]));
        "set_rows": b.set_rows(b.fill(k.f([4, 3]), 0.0)?, k.f([4, 2]), b.argsort_top_k(k.f([4]), 2)?);
        // An input's data is what was written.
        "set_rows": b.set_rows(k.f([4, 3]), k.f([4, 2]), k.i([2]));
    }

    norms_and_rope: |b, k| {
        "rms_norm": b.rms_norm(k.turned([4, 2]), 0.0);
        "rms_norm": b.rms_norm(k.of(TensorType::F16, [4, 2]), 0.0);
        "rms_norm": b.rms_norm(k.f([4, 2]), -1.0);
        "rms_norm": b.rms_norm(k.f([4, 2]), f32::NAN);
        "rope": b.rope(k.turned([4, 2, 3]), k.i([3]), &ROPE);
        "rope": b.rope(k.i([4, 2, 3]), k.i([3]), &ROPE);
        "rope": b.rope(k.f([4, 2, 3]), k.f([3]), &ROPE);
        "rope": b.rope(k.f([4, 2, 3]), k.i([2]), &ROPE);
        "rope": b.rope(k.f([4, 2, 3]), k.i([3, 2]), &ROPE);
        "rope": b.rope(k.f([4, 2, 3]), b.view(k.i([2, 3]), ne([1, 3]), [8, 24, 24], 0)?, &ROPE);
        "rope": b.rope(k.f([2, 2, 3]), k.i([3]), &ROPE);
        "rope": b.rope(k.f([5, 2, 3]), k.i([3]), &ROPE);
        "rope": b.rope(k.f([4, 2, 3]), k.i([3]), &Rope { n_dims: 3, ..ROPE });
        "rope": b.rope(k.f([4, 2, 3]), k.i([3]), &Rope { n_dims: 0, ..ROPE });
        "rope": b.rope(k.f([4, 2, 3]), k.i([3]), &Rope { n_dims: -2, ..ROPE });
    }

    element_by_element: |b, k| {
        "add": b.add(k.f([4, 2]), k.f([4, 3]));
        "add": b.add(k.f([4]), k.f([4, 2]));
        "add": b.add(k.turned([4, 2]), k.f([4, 2]));
        "add": b.add(k.f([4, 2]), k.turned([4, 2]));
        "add": b.add(k.f([4]), k.of(TensorType::F16, [4]));
        "add": b.add(k.i([4]), k.i([4]));
        "add": b.add(k.q(), k.f([64, 4]));
        "mul": b.mul(k.f([4, 2]), k.f([3, 2]));
        "mul": b.mul(k.of(TensorType::BF16, [4]), k.f([4]));
        "div": b.div(k.f([4, 2]), k.f([4, 4]));
        "div": b.div(k.f([4]), k.i([4]));
        "scale": b.scale_bias(k.spread([4, 2]), 1.0, 0.0);
        "scale": b.scale_bias(k.i([4]), 1.0, 0.0);
        "at_least": b.at_least(k.spread([4, 2]), 0.0);
        "at_least": b.at_least(k.of(TensorType::F16, [4]), 0.0);
        "sigmoid": b.sigmoid(k.turned([4, 2]));
        "sigmoid": b.sigmoid(k.i([4]));
        "fill": b.fill(k.spread([4, 2]), 0.0);
        "fill": b.fill(k.q(), 0.0);
        "swiglu": b.swiglu(k.f([4, 2]), k.f([4, 3]));
        "swiglu": b.swiglu(k.turned([4, 2]), k.f([4, 2]));
        "swiglu": b.swiglu(k.f([4, 2, 2]), k.uneven([4, 2, 2]));
        "swiglu": b.swiglu(k.f([4]), k.of(TensorType::F16, [4]));
        "swiglu": b.swiglu_fused(k.f([5, 2]));
        "swiglu": b.swiglu_fused(k.uneven([4, 2, 2]));
        "swiglu": b.swiglu_fused(k.i([4, 2]));
        "concat": b.concat_rows(k.f([4, 2]), k.f([4, 3]));
        "concat": b.concat_rows(k.f([4, 2]), k.i([4, 2]));
        "concat": b.concat_rows(k.q(), k.q());
        "concat": b.concat_rows(k.f([1 << 30, 2]), k.f([1 << 30, 2]));
    }

    along_rows: |b, k| {
        "soft_max": b.soft_max(k.spread([4, 2]));
        "soft_max": b.soft_max(k.of(TensorType::F16, [4, 2]));
        "soft_max": b.soft_max_masked(k.spread([4, 2]), k.f([4, 2]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2]), k.i([4, 2]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2]), k.spread([4, 2]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2]), k.f([5, 2]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2]), k.f([4, 1]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2, 3]), k.f([4, 2, 2]), 1.0);
        "soft_max": b.soft_max_masked(k.f([4, 2, 1, 3]), k.f([4, 2, 1, 2]), 1.0);
        "argsort": b.argsort_top_k(k.f([4, 2]), 5);
        "argsort": b.argsort_top_k(k.f([4, 2]), 0);
        "argsort": b.argsort_top_k(k.f([4, 2]), -1);
        "argsort": b.argsort_top_k(k.f([4, 2]), i64::MAX);
        "argsort": b.argsort_top_k(k.turned([4, 2]), 2);
        "argsort": b.argsort_top_k(k.uneven([4, 2, 2]), 2);
        "argsort": b.argsort_top_k(k.i([4, 2]), 2);
        "sum_rows": b.sum_rows(k.turned([4, 2]));
        "sum_rows": b.sum_rows(k.i([4, 2]));
    }

    flash_attn: |b, k| {
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([6, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.f([4, 6]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 3]), k.f([8, 5, 2]), k.f([4, 5, 2]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2, 2]), k.f([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.turned([8, 3, 2]), k.f([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.turned([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.turned([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.i([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.i([4, 5]), k.of(TensorType::F16, [5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.f([4, 5]), k.f([5, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [4, 3]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 2]), 1.0);
        "flash_attn": b.flash_attn(k.f([8, 3, 2]), k.f([8, 5]), k.f([4, 5]), k.of(TensorType::F16, [5, 3, 4]), 1.0);
        "flash_attn": b.flash_attn(
            k.f([8, 3, 2]),
            k.f([8, 5]),
            k.f([4, 5]),
            b.permute(k.of(TensorType::F16, [3, 5]), [1, 0, 2, 3])?,
            1.0,
        );
    }

    reshape_and_permute: |b, k| {
        "reshape": b.reshape(k.spread([4, 2]), ne([8]));
        "reshape": b.reshape(k.f([4, 2]), ne([9]));
        "reshape": b.reshape(k.f([4, 2]), ne([0, 8]));
        "reshape": b.reshape(k.f([4, 2]), ne([-4, -2]));
        "reshape": b.reshape(k.f([4, 2]), [1 << 32, 1 << 32, 1, 8]);
        "reshape": b.reshape(k.q(), ne([16, 16]));
        "permute": b.permute(k.f([4, 2]), [0, 0, 2, 3]);
        "permute": b.permute(k.f([4, 2]), [0, 1, 2, 4]);
        "permute": b.permute(k.f([4, 2]), [-1, 1, 2, 3]);
        "permute": b.permute(k.q(), [1, 0, 2, 3]);
        "cont": b.cont(k.f([1 << 20, 1 << 12]));
        "cast": b.to_f32(k.i([4]));
        "cast": b.to_f32(k.turned([4, 2]));
        "cast": b.to_f32(k.of(TensorType::F16, [1 << 20, 1 << 12]));
    }

    view: |b, k| {
        "view": b.view(k.f([4, 2]), ne([5, 2]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([4, 3]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([4, 2]), [16, 32, 32], 4);
        "view": b.view(k.f([4, 2]), ne([4, 2]), [20, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([0, 2]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([4, 0]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([-4, 2]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([4, 1]), [16, 32, 32], usize::MAX - 3);
        "view": b.view(k.f([4, 2]), ne([4, 2]), [usize::MAX - 3, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([4, i64::MAX]), [16, 32, 32], 0);
        "view": b.view(k.f([4, 2]), ne([1]), [4, 4, 4], 2);
        "view": b.view(k.f([4, 2]), ne([1, 2]), [6, 16, 16], 0);
        // Rows one upon the other, more of them than there is data.
        "view": b.view(k.f([4, 2]), ne([4, 3]), [0, 0, 0], 0);
        "view": b.view(k.f([4, 2]), ne([4, 1, 1, 1 << 40]), [0, 0, 0], 0);
        // The second half of the second half.
        "view": b.view(b.view(k.f([4, 2]), ne([4]), [16; 3], 16)?, ne([4]), [16; 3], 16);
        "view": b.view(k.q(), ne([48, 4]), [68, 272, 272], 0);
        "view": b.view(k.q(), ne([32, 4]), [68, 272, 272], 17);
        "view": b.view(k.q(), ne([32, 4]), [35, 140, 140], 0);
        "view": b.view(k.q(), ne([64, 5]), [68, 340, 340], 0);
    }
}

/// What an error says: the operation, and both sides of what does not fit.
#[test]
fn errors_name_what_does_not_fit() {
    let (store, id) = store_of(TensorType::Q8_0, &[64, 4], &[0; 8 * 34]);
    Graph::build(100, vec![store], |b| {
        let k = Kit(b, id);
        let says = |result: OpResult<'_>, expected: &str| assert_eq!(result.unwrap_err().to_string(), expected);
        says(b.mul_mat(k.q(), k.f([3, 2])), "mul_mat: rows of 64 and 3 values: Q8_0 [64, 4], F32 [3, 2]");
        says(b.add(k.f([4, 2]), k.f([3])), "add: F32 [3] cannot be repeated over F32 [4, 2]");
        says(b.view(k.f([4, 2]), ne([5, 2]), [16; 3], 0), "view: [5, 2] at 0 goes beyond F32 [4, 2]");
        says(b.reshape(k.f([4, 2]), ne([9])), "reshape: F32 [4, 2] to [9]");
        says(b.get_rows(k.f([4, 3]), k.f([2])), "get_rows: ids are F32 [2], but must be I32");
        says(
            b.get_rows(k.f([4, 3]), b.argsort_top_k(k.f([4]), 2)?),
            "get_rows: I32 [2] may be other numbers than those of 3 rows",
        );
        Ok::<_, Error>(())
    })
    .unwrap();
}
