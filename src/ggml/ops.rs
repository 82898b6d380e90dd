//! The operations of a graph, each checked before ggml is asked for it.
//!
//! What ggml asserts, when the node is made and when its CPU backend computes it, is asked here first, and
//! so is what it leaves to chance. Row numbers must be within the tensor that they choose from: those that a
//! sort gives are, and those that are written from outside are checked then.

use super::checks::{
    are_blocks, can_dot, can_multiply, can_repeat, has_dense_elements, has_floats, has_rows, is_f32, is_f32_even_rows,
    is_f32_rows, takes_rows,
};
use super::graph::{Builder, is_possible};
use super::tensor::{Dims, Ne, Tensor};
use crate::gguf::TensorType;
use ggml_sys::ggml_tensor;
use std::ptr;

/// An operation that these tensors do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {problem}")]
pub struct OpError {
    pub op: &'static str,
    pub problem: String,
}

pub type OpResult<'b> = Result<Tensor<'b>, OpError>;

/// How positions turn into angles; ggml's parameters of RoPE with YaRN (arXiv:2309.00071).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Values of a head that are turned; even.
    pub n_dims: i32,
    pub n_ctx_orig: i32,
    pub freq_base: f32,
    pub freq_scale: f32,
    /// 1 for YaRN, 0 for plain RoPE.
    pub ext_factor: f32,
    pub attn_factor: f32,
    pub beta_fast: f32,
    pub beta_slow: f32,
}

macro_rules! ensure {
    ($op:expr, $condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(OpError { op: $op, problem: format!($($message)+) });
        }
    };
}

impl<'b> Builder<'b> {
    /// aᵀ·b: `a` [k, n, a2, a3], `b` [k, m, b2, b3] F32 → [n, m, b2, b3]; b2 and b3 are multiples of a's.
    pub fn mul_mat(&self, a: Tensor<'b>, b: Tensor<'b>) -> OpResult<'b> {
        let (na, nb) = (a.ne(), b.ne());
        ensure!("mul_mat", na[0] == nb[0], "rows of {} and {} values: {a:?}, {b:?}", na[0], nb[0]);
        ensure!("mul_mat", nb[2] % na[2] == 0 && nb[3] % na[3] == 0, "{a:?} cannot be repeated over {b:?}");
        can_multiply("mul_mat", a, b)?;
        has_size("mul_mat", [na[1], nb[1], nb[2], nb[3]])?;
        self.node("mul_mat", || unsafe { ggml_sys::ggml_mul_mat(self.ctx(), a.as_ptr(), b.as_ptr()) })
    }

    /// For each token its own matrices: `experts` [k, n, n_expert], `b` [k, 1 or n_used, n_tokens] F32,
    /// `ids` [n_used, n_tokens] I32 below n_expert → [n, n_used, n_tokens].
    pub fn mul_mat_id(&self, experts: Tensor<'b>, b: Tensor<'b>, ids: Tensor<'b>) -> OpResult<'b> {
        let (ne, nb, ni) = (experts.ne(), b.ne(), ids.ne());
        ensure!("mul_mat_id", ne[0] == nb[0], "rows of {} and {} values: {experts:?}, {b:?}", ne[0], nb[0]);
        ensure!("mul_mat_id", ne[3] == 1 && nb[3] == 1, "more than 3 dimensions: {experts:?}, {b:?}");
        ensure!("mul_mat_id", ids.is(TensorType::I32), "ids are {ids:?}, but must be I32");
        ensure!(
            "mul_mat_id",
            ni[1] == nb[2] && ni[2] == 1 && ni[3] == 1 && ni[0] % nb[1] == 0,
            "ids {ids:?} do not fit {b:?}"
        );
        ensure!("mul_mat_id", ids.nb()[0] == 4, "the ids of a token are not contiguous");
        can_multiply("mul_mat_id", experts, b)?;
        has_size("mul_mat_id", [ne[1], ni[0], nb[2], 1])?;
        self.can_choose("mul_mat_id", ids, ne[2])?;
        self.node("mul_mat_id", || unsafe {
            ggml_sys::ggml_mul_mat_id(self.ctx(), experts.as_ptr(), b.as_ptr(), ids.as_ptr())
        })
    }

    /// Rows of `a` [n, rows, …] chosen by `ids` I32 [m, …] → [n, m, …], in F32 unless `a` is I32.
    pub fn get_rows(&self, a: Tensor<'b>, ids: Tensor<'b>) -> OpResult<'b> {
        let (na, ni) = (a.ne(), ids.ne());
        ensure!("get_rows", ids.is(TensorType::I32), "ids are {ids:?}, but must be I32");
        ensure!("get_rows", na[2] == ni[1] && na[3] == ni[2] && ni[3] == 1, "ids {ids:?} do not fit {a:?}");
        ensure!("get_rows", has_dense_elements(a), "the rows of {a:?} are not contiguous");
        ensure!("get_rows", has_rows(a), "rows of {a:?} cannot be looked up");
        has_size("get_rows", [na[0], ni[0], ni[1], ni[2]])?;
        self.can_choose("get_rows", ids, na[1])?;
        self.node("get_rows", || unsafe { ggml_sys::ggml_get_rows(self.ctx(), a.as_ptr(), ids.as_ptr()) })
    }

    /// Writes the rows of `b` [n, m, …] F32 to the rows `ids` [m, …] (I32 or I64) of `a` [n, rows, …];
    /// the result is `a`, after the writing. `a` is no tensor of a file.
    pub fn set_rows(&self, a: Tensor<'b>, b: Tensor<'b>, ids: Tensor<'b>) -> OpResult<'b> {
        let (na, nb, ni) = (a.ne(), b.ne(), ids.ne());
        let is_index = ids.is(TensorType::I32) || ids.is(TensorType::I64);
        ensure!("set_rows", is_index, "ids are {ids:?}, but must be I32 or I64");
        ensure!("set_rows", b.is(TensorType::F32), "the new rows are {b:?}, but must be F32");
        ensure!("set_rows", na[0] == nb[0] && na[2] == nb[2] && na[3] == nb[3], "{b:?} does not fit into {a:?}");
        let ids_fit = nb[1] == ni[0] && nb[2] % ni[1] == 0 && nb[3] % ni[2] == 0 && ni[3] == 1;
        ensure!("set_rows", ids_fit, "ids {ids:?} do not fit {b:?}");
        let rows = a.has_contiguous_rows() && b.has_contiguous_rows();
        ensure!("set_rows", rows, "rows are not contiguous: {a:?}, {b:?}");
        ensure!("set_rows", takes_rows(a), "{a:?} is of a type that cannot be written");
        self.can_choose("set_rows", ids, na[1])?;
        ensure!("set_rows", self.writes(a), "{a:?} is not to be written");
        self.node("set_rows", || unsafe { ggml_sys::ggml_set_rows(self.ctx(), a.as_ptr(), b.as_ptr(), ids.as_ptr()) })
    }

    /// x / √(mean x² + eps), for each row of `a` [n, …] F32.
    pub fn rms_norm(&self, a: Tensor<'b>, eps: f32) -> OpResult<'b> {
        ensure!("rms_norm", is_f32_rows(a), "{a:?} is not F32 in contiguous rows");
        let is_usable = eps >= 0.0;
        ensure!("rms_norm", is_usable, "eps is {eps}");
        self.node("rms_norm", || unsafe { ggml_sys::ggml_rms_norm(self.ctx(), a.as_ptr(), eps) })
    }

    /// Turns pairs of neighbouring values by angles that grow with the position: `a` [n, heads, n_tokens]
    /// F32, `positions` I32 [n_tokens].
    pub fn rope(&self, a: Tensor<'b>, positions: Tensor<'b>, rope: &Rope) -> OpResult<'b> {
        let (na, np) = (a.ne(), positions.ne());
        ensure!("rope", is_f32_rows(a), "{a:?} is not F32 in contiguous rows");
        // What is not turned is copied in pairs too.
        ensure!("rope", na[0] % 2 == 0, "{a:?} is not made of pairs");
        let fit = positions.is(TensorType::I32) && positions.is_contiguous() && np == [na[2], 1, 1, 1];
        ensure!("rope", fit, "positions {positions:?} do not fit {a:?}");
        let dims_fit = rope.n_dims > 0 && rope.n_dims % 2 == 0 && i64::from(rope.n_dims) <= na[0];
        ensure!("rope", dims_fit, "{} of {} values cannot be turned", rope.n_dims, na[0]);
        self.node("rope", || unsafe {
            ggml_sys::ggml_rope_ext(
                self.ctx(),
                a.as_ptr(),
                positions.as_ptr(),
                ptr::null_mut(),
                rope.n_dims,
                0, // neighbours are pairs: GGML_ROPE_TYPE_NORMAL
                rope.n_ctx_orig,
                rope.freq_base,
                rope.freq_scale,
                rope.ext_factor,
                rope.attn_factor,
                rope.beta_fast,
                rope.beta_slow,
            )
        })
    }

    /// a + b, b repeated to a's size; F32.
    pub fn add(&self, a: Tensor<'b>, b: Tensor<'b>) -> OpResult<'b> {
        can_repeat("add", a, b)?;
        self.node("add", || unsafe { ggml_sys::ggml_add(self.ctx(), a.as_ptr(), b.as_ptr()) })
    }

    /// a · b, b repeated to a's size; F32.
    pub fn mul(&self, a: Tensor<'b>, b: Tensor<'b>) -> OpResult<'b> {
        can_repeat("mul", a, b)?;
        self.node("mul", || unsafe { ggml_sys::ggml_mul(self.ctx(), a.as_ptr(), b.as_ptr()) })
    }

    /// a / b, b repeated to a's size; F32.
    pub fn div(&self, a: Tensor<'b>, b: Tensor<'b>) -> OpResult<'b> {
        can_repeat("div", a, b)?;
        self.node("div", || unsafe { ggml_sys::ggml_div(self.ctx(), a.as_ptr(), b.as_ptr()) })
    }

    /// a · scale + bias; F32.
    pub fn scale_bias(&self, a: Tensor<'b>, scale: f32, bias: f32) -> OpResult<'b> {
        ensure!("scale", is_f32(a), "{a:?} is not contiguous F32");
        self.node("scale", || unsafe { ggml_sys::ggml_scale_bias(self.ctx(), a.as_ptr(), scale, bias) })
    }

    /// The values of `a`, none less than `min`; F32.
    pub fn at_least(&self, a: Tensor<'b>, min: f32) -> OpResult<'b> {
        self.clamp("at_least", a, min, f32::INFINITY)
    }

    /// The values of `a` from `min` to `max`; what is no number becomes `max`.
    fn clamp(&self, op: &'static str, a: Tensor<'b>, min: f32, max: f32) -> OpResult<'b> {
        ensure!(op, is_f32(a), "{a:?} is not contiguous F32");
        self.node(op, || unsafe { ggml_sys::ggml_clamp(self.ctx(), a.as_ptr(), min, max) })
    }

    /// 1 / (1 + exp(−a)); F32.
    pub fn sigmoid(&self, a: Tensor<'b>) -> OpResult<'b> {
        ensure!("sigmoid", is_f32_rows(a), "{a:?} is not F32 in contiguous rows");
        self.node("sigmoid", || unsafe { ggml_sys::ggml_sigmoid(self.ctx(), a.as_ptr()) })
    }

    /// Softmax over each row of `a`, F32.
    pub fn soft_max(&self, a: Tensor<'b>) -> OpResult<'b> {
        ensure!("soft_max", is_f32(a), "{a:?} is not contiguous F32");
        self.node("soft_max", || unsafe { ggml_sys::ggml_soft_max(self.ctx(), a.as_ptr()) })
    }

    /// Softmax over each row of scale · a + mask: `a` [n_kv, n_tokens, heads] F32, `mask` [n_kv, n_tokens]
    /// F32 or F16.
    pub fn soft_max_masked(&self, a: Tensor<'b>, mask: Tensor<'b>, scale: f32) -> OpResult<'b> {
        let (na, nm) = (a.ne(), mask.ne());
        ensure!("soft_max", is_f32(a), "{a:?} is not contiguous F32");
        let mask_type = mask.is(TensorType::F32) || mask.is(TensorType::F16);
        ensure!("soft_max", mask_type && mask.is_contiguous(), "the mask {mask:?} is not contiguous F32 or F16");
        let fit = nm[0] == na[0] && nm[1] >= na[1] && na[2] % nm[2] == 0 && na[3] % nm[3] == 0;
        ensure!("soft_max", fit, "the mask {mask:?} does not fit {a:?}");
        self.node("soft_max", || unsafe {
            ggml_sys::ggml_soft_max_ext(self.ctx(), a.as_ptr(), mask.as_ptr(), scale, 0.0)
        })
    }

    /// Where the `k` largest values of each row of `a` [n, …] F32 are, the largest first → I32 [k, …], a
    /// view whose rows are not next to each other. What is no number counts as the largest of all.
    pub fn argsort_top_k(&self, a: Tensor<'b>, k: i64) -> OpResult<'b> {
        let n = a.ne()[0];
        ensure!("argsort", k >= 1 && k <= n, "{k} of {n} values");
        let k = i32::try_from(k).map_err(|_| OpError { op: "argsort", problem: format!("{k} values") })?;
        // Values that no order holds for would have the sort leave its row.
        let a = self.clamp("argsort", a, f32::NEG_INFINITY, f32::MAX)?;
        // Two nodes: the sort and the view.
        self.room("argsort", 2)?;
        let best = self.node("argsort", || unsafe { ggml_sys::ggml_argsort_top_k(self.ctx(), a.as_ptr(), k) })?;
        self.set_bound(best, n);
        Ok(best)
    }

    /// The sum of each row of `a` [n, …] F32 → [1, …].
    pub fn sum_rows(&self, a: Tensor<'b>) -> OpResult<'b> {
        ensure!("sum_rows", is_f32_rows(a), "{a:?} is not F32 in contiguous rows");
        self.node("sum_rows", || unsafe { ggml_sys::ggml_sum_rows(self.ctx(), a.as_ptr()) })
    }

    /// A tensor like `a` with all values `value`; F32.
    pub fn fill(&self, a: Tensor<'b>, value: f32) -> OpResult<'b> {
        ensure!("fill", is_f32(a), "{a:?} is not contiguous F32");
        self.node("fill", || unsafe { ggml_sys::ggml_fill(self.ctx(), a.as_ptr(), value) })
    }

    /// `a` [n, …] and `b` [m, …] as one [n + m, …]; F32.
    pub fn concat_rows(&self, a: Tensor<'b>, b: Tensor<'b>) -> OpResult<'b> {
        let (na, nb) = (a.ne(), b.ne());
        ensure!("concat", na[1..] == nb[1..], "{a:?} and {b:?} differ in more than the first dimension");
        ensure!("concat", a.is(TensorType::F32) && b.is(TensorType::F32), "{a:?} and {b:?} are not F32");
        has_size("concat", [na[0] + nb[0], na[1], na[2], na[3]])?;
        self.node("concat", || unsafe { ggml_sys::ggml_concat(self.ctx(), a.as_ptr(), b.as_ptr(), 0) })
    }

    /// `a` repeated to the dimensions `ne`, multiples of its own; F32.
    pub fn repeat(&self, a: Tensor<'b>, ne: Ne) -> OpResult<'b> {
        ensure!("repeat", is_f32_rows(a) && is_possible(ne), "{a:?} to {}", Dims(ne));
        let fits = ne.iter().zip(a.ne()).all(|(n, of)| n % of == 0);
        ensure!("repeat", fits, "{a:?} to {}", Dims(ne));
        self.node("repeat", || unsafe { ggml_sys::ggml_repeat_4d(self.ctx(), a.as_ptr(), ne[0], ne[1], ne[2], ne[3]) })
    }

    /// silu(gate) · up; F32.
    pub fn swiglu(&self, gate: Tensor<'b>, up: Tensor<'b>) -> OpResult<'b> {
        ensure!("swiglu", gate.ne() == up.ne(), "{gate:?} and {up:?} differ");
        ensure!("swiglu", is_f32_even_rows(gate) && is_f32_even_rows(up), "{gate:?} or {up:?} is not contiguous F32");
        self.node("swiglu", || unsafe { ggml_sys::ggml_swiglu_split(self.ctx(), gate.as_ptr(), up.as_ptr()) })
    }

    /// The same for one tensor [2n, …] whose rows hold gate, then up → [n, …].
    pub fn swiglu_fused(&self, gate_up: Tensor<'b>) -> OpResult<'b> {
        ensure!("swiglu", gate_up.ne()[0] % 2 == 0, "{gate_up:?} cannot be halved");
        ensure!("swiglu", is_f32_even_rows(gate_up), "{gate_up:?} is not contiguous F32");
        self.node("swiglu", || unsafe { ggml_sys::ggml_swiglu(self.ctx(), gate_up.as_ptr()) })
    }

    /// Attention without its scores in memory: `q` [k_len, n_tokens, heads] F32, `k` [k_len, n_kv, kv_heads],
    /// `v` [v_len, n_kv, kv_heads], `mask` F16 [n_kv, n_tokens] → [v_len, heads, n_tokens].
    pub fn flash_attn(
        &self,
        q: Tensor<'b>,
        k: Tensor<'b>,
        v: Tensor<'b>,
        mask: Tensor<'b>,
        scale: f32,
    ) -> OpResult<'b> {
        let (nq, nk, nv, nm) = (q.ne(), k.ne(), v.ne(), mask.ne());
        ensure!("flash_attn", nq[0] == nk[0], "queries {q:?} do not fit keys {k:?}");
        ensure!("flash_attn", nk[1..] == nv[1..], "keys {k:?} do not fit values {v:?}");
        let heads = nq[2] % nk[2] == 0 && nq[3] == nk[3];
        ensure!("flash_attn", heads, "heads of {q:?} do not divide into those of {k:?}");
        ensure!("flash_attn", is_f32_rows(q), "queries are {q:?}");
        ensure!("flash_attn", has_dense_elements(k) && has_dense_elements(v), "{k:?}, {v:?} not in rows");
        ensure!("flash_attn", can_dot(k) && can_dot(v), "keys {k:?} or values {v:?} of an unfit type");
        ensure!("flash_attn", mask.is(TensorType::F16) && mask.is_contiguous(), "the mask is {mask:?}");
        let fit = nm[0] == nk[1] && nm[1] >= nq[1] && nq[2] % nm[2] == 0 && nq[3] % nm[3] == 0;
        ensure!("flash_attn", fit, "the mask {mask:?} does not fit {q:?} and {k:?}");
        has_size("flash_attn", [nv[0], nq[2], nq[1], nq[3]])?;
        self.node("flash_attn", || unsafe {
            ggml_sys::ggml_flash_attn_ext(
                self.ctx(),
                q.as_ptr(),
                k.as_ptr(),
                v.as_ptr(),
                mask.as_ptr(),
                scale,
                0.0,
                0.0,
            )
        })
    }

    /// The same values under other dimensions.
    pub fn reshape(&self, a: Tensor<'b>, ne: Ne) -> OpResult<'b> {
        ensure!("reshape", a.is_contiguous(), "{a:?} is not contiguous");
        let n = ne.iter().try_fold(1i64, |n, &dim| n.checked_mul(dim).filter(|_| dim > 0));
        ensure!("reshape", n == Some(a.n_elements()) && are_blocks(a, ne[0]), "{a:?} to {}", Dims(ne));
        self.node("reshape", || unsafe {
            ggml_sys::ggml_reshape_4d(self.ctx(), a.as_ptr(), ne[0], ne[1], ne[2], ne[3])
        })
    }

    /// Some of `a`: `ne` elements from `offset` bytes on, the dimensions after the first `nb` bytes apart.
    /// What is viewed lies within `a`, and would too if its rows followed each other.
    pub fn view(&self, a: Tensor<'b>, ne: Ne, nb: [usize; 3], offset: usize) -> OpResult<'b> {
        let problem = || OpError { op: "view", problem: format!("{} at {offset} of {a:?}", Dims(ne)) };
        let row = a.ty().and_then(|ty| {
            let n = u64::try_from(ne[0]).ok()?;
            let blocks = n.is_multiple_of(ty.block_len()).then(|| n / ty.block_len())?;
            usize::try_from(blocks.checked_mul(ty.block_bytes())?).ok().filter(|bytes| *bytes > 0)
        });
        let row = row.ok_or_else(problem)?;
        let end = ne[1..].iter().zip(nb).try_fold(row, |end, (&n, stride)| {
            let last = usize::try_from(n).ok()?.checked_sub(1)?;
            end.checked_add(last.checked_mul(stride)?)
        });
        let end = end.and_then(|end| end.checked_add(offset)).ok_or_else(problem)?;
        ensure!("view", end <= a.n_bytes(), "{} at {offset} goes beyond {a:?}", Dims(ne));
        let dense = ne[1..].iter().try_fold(row, |bytes, &n| bytes.checked_mul(usize::try_from(n).ok()?));
        let dense_end = dense.and_then(|bytes| bytes.checked_add(a.view_offset())?.checked_add(offset));
        let fits = dense_end.is_some_and(|end| end <= a.root().n_bytes());
        ensure!("view", fits, "{} at {offset} of {a:?} has more elements than there are", Dims(ne));
        has_size("view", ne)?;
        let unit = a.ty().map_or(1, |ty| ty.block_bytes() as usize);
        ensure!("view", offset.is_multiple_of(unit), "{offset} is in the midst of a block of {a:?}");
        ensure!("view", nb.iter().all(|stride| stride.is_multiple_of(unit)), "strides {nb:?} of {a:?}");
        self.node("view", || unsafe {
            ggml_sys::ggml_view_4d(self.ctx(), a.as_ptr(), ne[0], ne[1], ne[2], ne[3], nb[0], nb[1], nb[2], offset)
        })
    }

    /// Dimension i of `a` becomes dimension `axes[i]`; the first stays the first where it is made of blocks.
    pub fn permute(&self, a: Tensor<'b>, axes: [i32; 4]) -> OpResult<'b> {
        let mut sorted = axes;
        sorted.sort_unstable();
        ensure!("permute", sorted == [0, 1, 2, 3], "the axes {axes:?}");
        ensure!("permute", axes[0] == 0 || are_blocks(a, 1), "the blocks of {a:?} cannot be parted");
        self.node("permute", || unsafe {
            ggml_sys::ggml_permute(self.ctx(), a.as_ptr(), axes[0], axes[1], axes[2], axes[3])
        })
    }

    /// A contiguous copy.
    pub fn cont(&self, a: Tensor<'b>) -> OpResult<'b> {
        ensure!("cont", are_blocks(a, 1) || has_dense_elements(a), "{a:?} cannot be copied by elements");
        ensure!("cont", i32::try_from(a.n_elements()).is_ok(), "{a:?} has too many elements");
        let copy = self.node("cont", || unsafe { ggml_sys::ggml_cont(self.ctx(), a.as_ptr()) })?;
        self.copy_bound(a, copy);
        Ok(copy)
    }

    /// A contiguous copy in F32.
    pub fn to_f32(&self, a: Tensor<'b>) -> OpResult<'b> {
        ensure!("cast", has_floats(a) && has_dense_elements(a), "{a:?} to F32");
        ensure!("cast", i32::try_from(a.n_elements()).is_ok(), "{a:?} has too many elements");
        self.node("cast", || unsafe { ggml_sys::ggml_cast(self.ctx(), a.as_ptr(), TensorType::F32.id()) })
    }

    /// Makes a node, if the context has room for one more.
    pub(super) fn node(&self, op: &'static str, make: impl FnOnce() -> *mut ggml_tensor) -> OpResult<'b> {
        self.room(op, 1)?;
        let ptr = ptr::NonNull::new(make()).ok_or(OpError { op, problem: "no memory".to_owned() })?;
        // SAFETY: made in the builder's context, which lives for 'b.
        let node = unsafe { Tensor::from_ptr(ptr) };
        self.append(node);
        Ok(node)
    }

    fn room(&self, op: &'static str, n: usize) -> Result<(), OpError> {
        ensure!(op, self.has_room(n), "the graph is full");
        Ok(())
    }

    fn can_choose(&self, op: &'static str, ids: Tensor<'b>, n_rows: i64) -> Result<(), OpError> {
        let problem = || format!("{ids:?} may be other numbers than those of {n_rows} rows");
        if self.choose_from(ids, n_rows) { Ok(()) } else { Err(OpError { op, problem: problem() }) }
    }
}

/// Whether a result of these dimensions can be.
fn has_size(op: &'static str, ne: Ne) -> Result<(), OpError> {
    ensure!(op, is_possible(ne), "the result would be {}", Dims(ne));
    Ok(())
}
