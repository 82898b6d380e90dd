//! Windows through the model: the logits of their scored tokens, a step's worth at a time.

use crate::engine::{Failure, Forward, Seq, Token};
use std::ops::Range;

/// Rows of logits and, for each, the token that came.
pub(super) struct Rows<'a> {
    pub(super) logits: &'a [f32],
    pub(super) n_vocab: usize,
    pub(super) targets: &'a [u32],
}

/// Computes a window from an empty cache and hands on what is said at the `scored` positions. Nothing is
/// computed that no score depends on.
pub(super) fn evaluate(
    forward: &mut Forward,
    window: &[u32],
    scored: Range<usize>,
    mut take: impl FnMut(&Rows<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    forward.clear();
    let token = |(at, id): (usize, &u32)| Token {
        id: *id,
        seq: Seq::FIRST,
        position: i32::try_from(at).unwrap_or(i32::MAX),
        wants_logits: scored.contains(&at),
    };
    let tokens: Vec<Token> = window.iter().enumerate().take(scored.end).map(token).collect();
    let (n_batch, n_vocab) = (forward.options().n_batch, forward.n_vocab());
    let mut targets = window.get(scored.start + 1..).unwrap_or_default();
    let mut logits = Vec::new();
    for step in tokens.chunks(n_batch) {
        logits.clear();
        forward.step(step, &mut logits).map_err(Failure::from)?;
        if !logits.iter().all(|x| x.is_finite())
            && let Some(fault) = forward.faults(step, &logits).map_err(Failure::from)?.into_iter().next()
        {
            return Err(Failure::from(fault).into());
        }
        let (of_step, rest) = targets.split_at_checked(logits.len() / n_vocab).unwrap_or((targets, &[]));
        targets = rest;
        if !of_step.is_empty() {
            take(&Rows { logits: &logits, n_vocab, targets: of_step })?;
        }
    }
    Ok(())
}
