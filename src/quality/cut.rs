//! A text in windows, each computed from an empty cache, and which of their tokens are scored.
//!
//! The definition is llama.cpp's, so that numbers can be compared. It follows what that program computes.

use std::ops::Range;

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Windows of so many tokens, end to end. Each begins with the token that begins a text, in the place of
    /// its own first; the second half is scored.
    Chunks(usize),
    /// Windows that begin `stride` tokens apart and are half a stride longer than `n_ctx`; the last `stride`
    /// tokens of each are scored. They begin as the text does there, and not with the token that begins one:
    /// llama.cpp exchanges it only after the window is on its way. (It also rounds windows up to 256 tokens.)
    Strided { n_ctx: usize, stride: usize },
}

impl Cut {
    /// In a shorter window there would be too little to score.
    pub const MIN_LENGTH: usize = 8;
    /// No model has a longer context.
    pub const MAX_LENGTH: usize = 1 << 24;

    /// Tokens of a window.
    pub fn length(self) -> usize {
        match self {
            Cut::Chunks(n_ctx) => n_ctx,
            Cut::Strided { n_ctx, stride } => n_ctx + stride / 2,
        }
    }

    /// Tokens that a text needs to be cut so.
    pub fn n_needed(self) -> usize {
        2 * self.length()
    }

    /// How many windows there are in a text of `n_tokens`.
    pub fn n_windows(self, n_tokens: usize) -> usize {
        match self {
            _ if n_tokens < self.n_needed() => 0,
            Cut::Chunks(n_ctx) => n_tokens / n_ctx,
            Cut::Strided { stride, .. } => (n_tokens - self.length()).div_ceil(stride),
        }
    }

    /// The positions in a window whose predictions, of the token after them, are scored.
    pub fn scored(self) -> Range<usize> {
        let length = self.length();
        let first = match self {
            Cut::Chunks(_) => length / 2,
            Cut::Strided { stride, .. } => length.saturating_sub(stride + 1),
        };
        first..length.saturating_sub(1)
    }

    /// The tokens of a window. `bos` is the token that begins a text, where the model wants one.
    pub fn window(self, tokens: &[u32], index: usize, bos: Option<u32>) -> Vec<u32> {
        let step = match self {
            Cut::Chunks(n_ctx) => n_ctx,
            Cut::Strided { stride, .. } => stride,
        };
        let mut window: Vec<u32> = tokens.iter().skip(index * step).take(self.length()).copied().collect();
        if let (Cut::Chunks(_), Some(bos), Some(first)) = (self, bos, window.first_mut()) {
            *first = bos;
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_lie_end_to_end_and_the_second_half_counts() {
        let (cut, tokens) = (Cut::Chunks(8), (0..27).collect::<Vec<_>>());
        assert_eq!((cut.n_needed(), cut.n_windows(15), cut.n_windows(16), cut.n_windows(27)), (16, 0, 2, 3));
        assert_eq!(cut.scored(), 4..7);
        assert_eq!(cut.window(&tokens, 1, Some(99)), [99, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(cut.window(&tokens, 2, None), [16, 17, 18, 19, 20, 21, 22, 23]);
        assert_eq!(Cut::Chunks(9).scored(), 4..8);
    }

    #[test]
    fn strided_windows_overlap_and_score_each_token_once() {
        let (cut, tokens) = (Cut::Strided { n_ctx: 8, stride: 4 }, (0..27).collect::<Vec<_>>());
        assert_eq!((cut.length(), cut.n_windows(19), cut.n_windows(20), cut.n_windows(27)), (10, 0, 3, 5));
        let targets: Vec<u32> = (0..5)
            .flat_map(|index| {
                let window = cut.window(&tokens, index, Some(99));
                cut.scored().filter_map(|at| window.get(at + 1).copied()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(targets, (6..26).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_stride_leaves_a_context() {
        let cut = Cut::Strided { n_ctx: 8, stride: 8 };
        assert_eq!((cut.length(), cut.scored()), (12, 3..11));
    }
}
