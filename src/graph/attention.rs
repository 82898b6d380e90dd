//! Multi-head latent attention (arXiv:2405.04434, 2.1), over the cache.
//!
//! The cache holds one latent vector a token, from which keys and values of all heads can be made. Instead,
//! queries are taken to the latent space and the result is taken out of it: what is called the absorbed
//! form, with one key for all heads. Only for many tokens at once the other way is faster.

use super::step::Step;
use crate::ggml::{Builder, OpError, OpResult, Tensor};
use crate::model::{Attention, Query, Values};

/// Writes the tokens' cells in a layer: `x` [n_embd, n_tokens], normed → the cache [n_cached, cells].
pub(super) fn write_cache<'b>(
    s: &Step<'_, 'b>,
    layer: usize,
    attention: &Attention,
    x: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    let (b, c) = (s.b, s.config);
    let [rank, n_rot, n_tokens] = [c.kv_lora_rank as i64, c.n_rot as i64, s.n_tokens as i64];
    s.observe(&[attention.kv_a_mqa], x)?;
    let kv = s.mul_mat(attention.kv_a_mqa, x)?; // [rank + n_rot, n_tokens]
    let row = kv.nb()[1];
    let latent = b.view(kv, [rank, n_tokens, 1, 1], [row; 3], 0)?;
    let latent = b.mul(b.rms_norm(latent, c.rms_eps)?, s.w(attention.kv_a_norm))?;
    if let Values::Joint { kv_b } = &attention.values {
        // Keys and values are its rows, and these their columns, whichever form attention takes.
        s.observe(&[*kv_b], latent)?;
    }
    let k_rot = b.view(kv, [n_rot, 1, n_tokens, 1], [row; 3], c.kv_lora_rank * size_of::<f32>())?;
    let k_rot = b.reshape(b.rope(k_rot, s.positions, &s.rope)?, [n_rot, n_tokens, 1, 1])?;
    b.set_rows(s.cache(layer), b.concat_rows(latent, k_rot)?, s.cells)
}

/// `x` [n_embd, n_tokens], normed → [n_embd, n_tokens], over the `cache` that [`write_cache`] returned.
pub(super) fn attend<'b>(
    s: &Step<'_, 'b>,
    attention: &Attention,
    x: Tensor<'b>,
    cache: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    let (b, c) = (s.b, s.config);
    let (q_nope, q_rot) = queries(s, &attention.query, x)?;
    let mixed = match s.absorb {
        true => absorbed(s, attention, cache, q_nope, q_rot)?,
        false => unabsorbed(s, attention, cache, q_nope, q_rot)?,
    }; // [n_value, n_head, n_tokens]
    let mixed = b.reshape(mixed, [(c.n_value * c.n_head) as i64, s.n_tokens as i64, 1, 1])?;
    s.observe(&[attention.output], mixed)?;
    s.mul_mat(attention.output, mixed)
}

/// Queries [n_nope | n_rot, n_head, n_tokens] go to the latent space, the result comes out of it:
/// [n_value, n_head, n_tokens].
fn absorbed<'b>(
    s: &Step<'_, 'b>,
    attention: &Attention,
    cache: Tensor<'b>,
    q_nope: Tensor<'b>,
    q_rot: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    let b = s.b;
    let k_b = latent_keys(s, attention)?;
    let q_nope = b.permute(q_nope, [0, 2, 1, 3])?; // [n_nope, n_tokens, n_head]
    let q_latent = b.mul_mat(k_b, q_nope)?; // [rank, n_tokens, n_head]
    let q_latent = b.permute(q_latent, [0, 2, 1, 3])?; // [rank, n_head, n_tokens]
    let q = b.concat_rows(q_latent, q_rot)?; // [rank + n_rot, n_head, n_tokens]
    let q = b.permute(q, [0, 2, 1, 3])?; // [rank + n_rot, n_tokens, n_head]
    let mixed = match s.flash {
        true => with_flash(s, cache, q)?,
        false => with_scores(s, cache, q)?,
    }; // [rank, n_tokens, n_head]
    if let Values::Own { v_b } = &attention.values {
        s.observe(&[attention.k_b], q_nope)?;
        s.observe(&[*v_b], mixed)?;
    }
    let v = b.mul_mat(values(s, &attention.values)?, mixed)?; // [n_value, n_tokens, n_head]
    b.cont(b.permute(v, [0, 2, 1, 3])?)
}

/// Keys and values of all heads are made from the latent vectors, for attention as it is without latent
/// ones: some four times less work for each pair of tokens, and so much more before it that it takes many
/// tokens at once to pay. Some heads at a time where those of all would take too much memory. Same shapes as
/// [`absorbed`].
fn unabsorbed<'b>(
    s: &Step<'_, 'b>,
    attention: &Attention,
    cache: Tensor<'b>,
    q_nope: Tensor<'b>,
    q_rot: Tensor<'b>,
) -> Result<Tensor<'b>, OpError> {
    let (b, c) = (s.b, s.config);
    let [rank, n_nope, n_rot, n_value, n_head] =
        [c.kv_lora_rank, c.n_nope(), c.n_rot, c.n_value, c.n_head].map(|n| n as i64);
    let [n_kv, n_tokens] = [s.n_kv, s.n_tokens].map(|n| n as i64);
    let row = cache.nb()[1];
    let cells = b.to_f32(b.view(cache, [rank + n_rot, n_kv, 1, 1], [row, row * s.n_kv, row * s.n_kv], 0)?)?;
    let [_, row, all, _] = cells.nb();
    let latent = b.cont(b.view(cells, [rank, n_kv, 1, 1], [row, all, all], 0)?)?;
    let k_rot = b.view(cells, [n_rot, 1, n_kv, 1], [row, row, all], c.kv_lora_rank * size_of::<f32>())?;

    // Blocks of few bits have lost more already than BF16 does.
    let k_b_is_rounded = s.w(attention.k_b).ty().is_some_and(|ty| ty.block_len() > 1);
    let k_b = b.to_f32(latent_keys(s, attention)?)?;
    let k_b = b.cont(b.permute(k_b, [1, 0, 2, 3])?)?; // [rank, n_nope, n_head]
    let v_b = values(s, &attention.values)?; // [rank, n_value, n_head]
    let q = b.concat_rows(q_nope, q_rot)?; // [n_key, n_head, n_tokens]
    let by_head = |x| b.permute(x, [0, 2, 1, 3]);
    let n = s.heads_at_once as i64;
    let k_rot = b.repeat(k_rot, [n_rot, n, n_kv, 1])?;
    let mixed_by = |first: i64| {
        let k_b = b.reshape(heads(b, k_b, first, n)?, [rank, n_nope * n, 1, 1])?;
        let k = match k_b_is_rounded {
            true => s.kernels.mul_mat_rounded(b, k_b, latent)?,
            false => b.mul_mat(k_b, latent)?,
        };
        let k = b.concat_rows(b.reshape(k, [n_nope, n, n_kv, 1])?, k_rot)?; // [n_key, n, n_kv]
        let v_b = heads(b, v_b, first, n)?;
        let v = match &attention.values {
            Values::Own { .. } => {
                let v_b = b.reshape(v_b, [rank, n_value * n, 1, 1])?;
                b.reshape(s.kernels.mul_mat(b, v_b, latent)?, [n_value, n, n_kv, 1])?
            }
            Values::Joint { .. } => {
                let latent = b.repeat(latent, [rank, n_kv, n, 1])?;
                b.permute(b.mul_mat(v_b, latent)?, [0, 2, 1, 3])?
            }
        }; // [n_value, n, n_kv]
        let [_, head, token, all] = q.nb();
        let q = b.view(q, [c.n_key as i64, n, n_tokens, 1], [head, token, all], first as usize * head)?;
        b.flash_attn(by_head(q)?, by_head(k)?, by_head(v)?, s.mask, c.attention_scale())
    }; // [n_value, n, n_tokens]
    if n == n_head {
        return mixed_by(0);
    }
    let rows = |first| b.reshape(mixed_by(first)?, [n_value * n, n_tokens, 1, 1]);
    let join = |all: Tensor<'b>, first| b.concat_rows(all, rows(first)?);
    let all = (n..n_head).step_by(n as usize).try_fold(rows(0)?, join)?;
    b.reshape(all, [n_value, n_head, n_tokens, 1])
}

/// `n` heads of `a` [_, _, n_head], from `first` on.
fn heads<'b>(b: &Builder<'b>, a: Tensor<'b>, first: i64, n: i64) -> OpResult<'b> {
    let ([rows, columns, n_head, _], [_, row, head, all]) = (a.ne(), a.nb());
    if n == n_head {
        return Ok(a);
    }
    b.view(a, [rows, columns, n, 1], [row, head, all], first as usize * head)
}

/// Into the latent space, for each head: [n_nope, rank, n_head].
fn latent_keys<'b>(s: &Step<'_, 'b>, attention: &Attention) -> Result<Tensor<'b>, OpError> {
    let c = s.config;
    s.b.reshape(s.w(attention.k_b), [c.n_nope() as i64, c.kv_lora_rank as i64, c.n_head as i64, 1])
}

/// The parts without and with position: [n_nope, n_head, n_tokens], [n_rot, n_head, n_tokens].
fn queries<'b>(s: &Step<'_, 'b>, query: &Query, x: Tensor<'b>) -> Result<(Tensor<'b>, Tensor<'b>), OpError> {
    let (b, c) = (s.b, s.config);
    let q = match query {
        Query::Full { q } => {
            s.observe(&[*q], x)?;
            s.mul_mat(*q, x)?
        }
        Query::LowRank { q_a, q_a_norm, q_b } => {
            s.observe(&[*q_a], x)?;
            let low = s.mul_mat(*q_a, x)?; // [q_lora_rank, n_tokens]
            let low = b.mul(b.rms_norm(low, c.rms_eps)?, s.w(*q_a_norm))?;
            s.observe(&[*q_b], low)?;
            s.mul_mat(*q_b, low)?
        }
    }; // [n_key · n_head, n_tokens]
    let [n_head, n_tokens] = [c.n_head as i64, s.n_tokens as i64];
    let head = c.n_key * size_of::<f32>();
    let strides = [head, head * c.n_head, head * c.n_head * s.n_tokens];
    let nope = b.view(q, [c.n_nope() as i64, n_head, n_tokens, 1], strides, 0)?;
    let rot = b.view(q, [c.n_rot as i64, n_head, n_tokens, 1], strides, c.n_nope() * size_of::<f32>())?;
    Ok((nope, b.rope(rot, s.positions, &s.rope)?))
}

/// From the latent space to values, for each head: [rank, n_value, n_head].
fn values<'b>(s: &Step<'_, 'b>, values: &Values) -> Result<Tensor<'b>, OpError> {
    let c = s.config;
    let ne = [c.kv_lora_rank as i64, c.n_value as i64, c.n_head as i64, 1];
    match values {
        Values::Own { v_b } => s.b.reshape(s.w(*v_b), ne),
        Values::Joint { kv_b } => {
            let kv_b = s.w(*kv_b);
            let row = kv_b.nb()[1];
            let head = (c.n_nope() + c.n_value) * row;
            s.b.view(kv_b, ne, [row, head, head * c.n_head], c.n_nope() * row)
        }
    }
}

/// Attention without the scores in memory: `cache` [n_cached, cells], `q` [n_cached, n_tokens, n_head] →
/// [rank, n_tokens, n_head].
fn with_flash<'b>(s: &Step<'_, 'b>, cache: Tensor<'b>, q: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
    let (b, c) = (s.b, s.config);
    let row = cache.nb()[1];
    let all = row * s.n_kv;
    let keys = b.view(cache, [c.n_cached() as i64, s.n_kv as i64, 1, 1], [row, all, all], 0)?;
    let values = b.view(cache, [c.kv_lora_rank as i64, s.n_kv as i64, 1, 1], [row, all, all], 0)?;
    let mixed = b.flash_attn(q, keys, values, s.mask, c.attention_scale())?; // [rank, n_head, n_tokens]
    b.permute(mixed, [0, 2, 1, 3])
}

/// Attention with the scores in memory, [n_kv, n_tokens, n_head].
fn with_scores<'b>(s: &Step<'_, 'b>, cache: Tensor<'b>, q: Tensor<'b>) -> Result<Tensor<'b>, OpError> {
    let (b, c) = (s.b, s.config);
    let n_kv = s.n_kv as i64;
    let row = cache.nb()[1];
    let all = row * s.n_kv;
    let mut keys = b.view(cache, [c.n_cached() as i64, n_kv, 1, 1], [row, all, all], 0)?;
    if cache.ty().is_some_and(|ty| ty.block_len() > 1) {
        // Values are needed with their dimensions exchanged, which blocks do not allow.
        keys = b.to_f32(keys)?;
    }
    let scores = b.mul_mat(keys, q)?;
    let weights = b.soft_max_masked(scores, s.mask, c.attention_scale())?; // [n_kv, n_tokens, n_head]
    let [_, row, all, _] = keys.nb();
    let values = b.view(keys, [c.kv_lora_rank as i64, n_kv, 1, 1], [row, all, all], 0)?;
    let values = b.cont(b.permute(values, [1, 0, 2, 3])?)?; // [n_kv, rank]
    b.mul_mat(values, weights)
}
