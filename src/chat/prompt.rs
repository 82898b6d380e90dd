//! A prompt being written: segments, and the form that the model's answer will take.
//!
//! Owns the one rule that keeps text and control tokens apart: [`Prompt::control`] takes what a
//! template wrote, [`Prompt::text`] everything else. Knows no family.

use super::parse::{Expects, Parser, Piece};
use crate::tokenizer::Segment;
pub(super) use crate::tokenizer::{BOS, EOS};
use std::borrow::Cow;

pub(super) const USER: &str = "<｜User｜>";
pub(super) const ASSISTANT: &str = "<｜Assistant｜>";
pub(super) const THINK: &str = "<think>";
pub(super) const THINK_END: &str = "</think>";

/// What is sent to the model, and what to expect back.
///
/// It begins with the beginning-of-sentence token, so the tokenizer must not add another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    segments: Vec<Segment>,
    expects: Expects,
    /// What of the segments is the beginning of the answer: its parser is to see it.
    n_opening: usize,
}

impl Prompt {
    /// Starts with the beginning-of-sentence token.
    pub(super) fn begin() -> Prompt {
        let mut prompt = Prompt::default();
        prompt.control(BOS);
        prompt
    }

    pub(super) fn control(&mut self, token: impl Into<Cow<'static, str>>) {
        self.segments.push(Segment::Control(token.into()));
    }

    pub(super) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.segments.last_mut() {
            Some(Segment::Content(last)) => last.push_str(text),
            _ => self.segments.push(Segment::Content(text.to_owned())),
        }
    }

    /// What a reasoning model itself wrote: its tags are the tokens that they were.
    pub(super) fn model_text(&mut self, text: &str) {
        let mut rest = text;
        while let Some((at, tag)) = [THINK, THINK_END].iter().filter_map(|tag| Some((rest.find(tag)?, *tag))).min() {
            let (before, from_tag) = rest.split_at(at);
            self.text(before);
            self.control(tag);
            rest = from_tag.strip_prefix(tag).unwrap_or_default();
        }
        self.text(rest);
    }

    pub(super) fn expect(&mut self, expects: Expects) {
        self.expects = expects;
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    /// Reads the answer to this prompt.
    pub fn parser(&self) -> Parser {
        let mut parser = Parser::new(self.expects);
        for segment in self.segments.iter().skip(self.segments.len() - self.n_opening) {
            // A call that is not whole: nothing comes of it yet.
            parser.push(match segment {
                Segment::Control(token) => Piece::Control(token),
                Segment::Content(text) => Piece::Text(text),
            });
        }
        parser
    }

    /// Begins the answer, whose reasoning is over before it begins.
    pub(super) fn open_answer(&mut self, opening: Vec<Segment>) {
        if matches!(self.expects, Expects::Reasoning | Expects::MoreReasoning) {
            self.control(THINK_END);
        }
        self.expects = Expects::Answer;
        self.n_opening = opening.len();
        self.segments.extend(opening);
    }

    /// The tag that ends the reasoning with which every answer to this prompt begins.
    pub fn reasoning_ends_with(&self) -> Option<&'static str> {
        match self.expects {
            Expects::Reasoning | Expects::MoreReasoning => Some(THINK_END),
            Expects::Answer | Expects::Either => None,
        }
    }

    /// The prompt as a person reads it. Control tokens and text that spells them look alike here,
    /// so this is for display, never for the tokenizer.
    pub fn to_text(&self) -> String {
        self.text_from(0)
    }

    /// As [`to_text`](Self::to_text), without the first `skip` segments.
    pub(super) fn text_from(&self, skip: usize) -> String {
        self.segments
            .iter()
            .skip(skip)
            .map(|segment| match segment {
                Segment::Control(token) => token.as_ref(),
                Segment::Content(text) => text,
            })
            .collect()
    }
}

/// Fill-in-the-middle: the model writes what belongs between `prefix` and `suffix`.
pub fn fim(prefix: &str, suffix: &str) -> Prompt {
    let mut prompt = Prompt::begin();
    prompt.control("<｜fim▁begin｜>");
    prompt.text(prefix);
    prompt.control("<｜fim▁hole｜>");
    prompt.text(suffix);
    prompt.control("<｜fim▁end｜>");
    prompt
}

/// Text for the model to continue as it stands.
pub fn completion(text: &str) -> Prompt {
    let mut prompt = Prompt::begin();
    prompt.text(text);
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fim_is_exact_and_keeps_its_tokens_to_itself() {
        let prompt = fim("def f():\n", "<｜fim▁end｜>");
        assert_eq!(
            prompt.to_text(),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>def f():\n<｜fim▁hole｜><｜fim▁end｜><｜fim▁end｜>"
        );
        let contents: Vec<_> = prompt.segments().iter().filter(|s| matches!(s, Segment::Content(_))).collect();
        assert_eq!(contents, [&Segment::Content("def f():\n".into()), &Segment::Content("<｜fim▁end｜>".into())]);
    }

    #[test]
    fn the_models_own_tags_are_tokens_and_nothing_else_is() {
        let mut prompt = completion("");
        prompt.model_text("a<think>b</think><｜User｜></think>");
        let content = |text: &str| Segment::Content(text.into());
        let control = |text: &'static str| Segment::Control(text.into());
        let expected =
            [content("a"), control(THINK), content("b"), control(THINK_END), content("<｜User｜>"), control(THINK_END)];
        assert_eq!(prompt.segments()[1..], expected);
    }

    #[test]
    fn text_is_joined_and_empty_text_leaves_no_segment() {
        let mut prompt = completion("");
        assert_eq!(prompt.segments().len(), 1);
        prompt.text("a");
        prompt.text("b");
        assert_eq!(prompt.segments()[1..], [Segment::Content("ab".into())]);
    }
}
