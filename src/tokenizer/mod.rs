//! Text to tokens and back, by the vocabulary of a GGUF file.
//!
//! Text is content or trusted. Content becomes ordinary tokens whatever it says: the tokens that frame a
//! prompt cannot come out of it, since the encoder of words does not know them. Trusted text is searched
//! for them first. Which text is which, and where a prompt has its control tokens, is for `chat` to say.
//!
//! Time is linear in the text, but for the merges within one word, which are sorted by a heap.

mod bpe;
mod byte_level;
mod decode;
mod error;
mod long_word;
mod segment;
mod special;
mod split;
mod vocabulary;

pub use decode::{ControlTokens, Decoder, Utf8Stream};
pub use error::{Error, OpenError, UnknownToken};
pub use segment::Segment;
pub use vocabulary::{Kind, Token};

use crate::gguf::{Gguf, Metadata, MetadataError};
use bpe::Bpe;
use special::{Specials, Stretch};
use split::PreTokenizer;
use std::fmt;
use std::path::Path;
use vocabulary::Vocabulary;

/// What a tokenizer is made of, as it stands in a GGUF file under `tokenizer.ggml`.
#[derive(Debug, Clone, Default)]
pub struct Parts<'a> {
    /// Name of the pre-tokenizer.
    pub pre: &'a str,
    /// The tokens' texts by id; the normal ones in the byte-level alphabet.
    pub tokens: Vec<&'a str>,
    pub token_types: Vec<i32>,
    /// Two tokens and a space between, the first to merge first.
    pub merges: Vec<&'a str>,
    pub roles: Roles,
    /// Whether a text begins with `roles.bos`. DeepSeek's do, so this is the default.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `roles.eos`; by default not.
    pub add_eos: Option<bool>,
}

/// The ids of tokens with a part to play. Those that the file does not name are found by their texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text or an answer.
    pub eos: Option<u32>,
    /// Ends a turn, in models that have a second token for it.
    pub eot: Option<u32>,
    pub pad: Option<u32>,
    /// Goes before the text before the gap that is to be filled.
    pub fim_prefix: Option<u32>,
    /// Goes before the text behind the gap. DeepSeek calls it the hole.
    pub fim_suffix: Option<u32>,
    /// Goes before what fills the gap. DeepSeek calls it the end.
    pub fim_middle: Option<u32>,
}

impl<'a> Parts<'a> {
    pub fn from_metadata(metadata: Metadata<'a>) -> Result<Parts<'a>, Error> {
        let model: &str = metadata.require("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(Error::Model(model.to_owned()));
        }
        Ok(Parts {
            pre: metadata.require("tokenizer.ggml.pre")?,
            tokens: metadata.require("tokenizer.ggml.tokens")?,
            token_types: metadata.require("tokenizer.ggml.token_type")?,
            merges: metadata.require("tokenizer.ggml.merges")?,
            roles: Roles::from_metadata(metadata)?,
            add_bos: metadata.get("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.get("tokenizer.ggml.add_eos_token")?,
        })
    }
}

impl Roles {
    fn from_metadata(metadata: Metadata<'_>) -> Result<Roles, MetadataError> {
        let id = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}_token_id"));
        Ok(Roles {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            pad: id("padding")?,
            fim_prefix: id("fim_pre")?,
            fim_suffix: id("fim_suf")?,
            fim_middle: id("fim_mid")?,
        })
    }

    /// Fills in what the file does not name.
    fn or_by_text(self, specials: &Specials) -> Roles {
        Roles {
            bos: self.bos.or_else(|| specials.id("<｜begin▁of▁sentence｜>")),
            eos: self.eos.or_else(|| specials.id("<｜end▁of▁sentence｜>")),
            fim_prefix: self.fim_prefix.or_else(|| specials.id("<｜fim▁begin｜>")),
            fim_suffix: self.fim_suffix.or_else(|| specials.id("<｜fim▁hole｜>")),
            fim_middle: self.fim_middle.or_else(|| specials.id("<｜fim▁end｜>")),
            ..self
        }
    }

    fn check(&self, n_tokens: usize) -> Result<(), Error> {
        let roles = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("padding_token_id", self.pad),
            ("fim_pre_token_id", self.fim_prefix),
            ("fim_suf_token_id", self.fim_suffix),
            ("fim_mid_token_id", self.fim_middle),
        ];
        for (key, id) in roles {
            if let Some(id) = id.filter(|&id| usize::try_from(id).map_or(true, |id| id >= n_tokens)) {
                return Err(Error::IdRange { key, id, n_tokens });
            }
        }
        Ok(())
    }
}

/// A vocabulary and the way to cut text into its tokens.
pub struct Tokenizer {
    pre: PreTokenizer,
    vocabulary: Vocabulary,
    bpe: Bpe,
    specials: Specials,
    roles: Roles,
    add_bos: bool,
    add_eos: bool,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("pre", &self.pre).field("n_tokens", &self.n_tokens()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer of the model at `path`: a file, any shard of a split, or a folder that holds one model.
    pub fn open(path: &Path) -> Result<Tokenizer, OpenError> {
        let gguf = Gguf::open(path)?;
        let vocabulary = |error| OpenError::Vocabulary { path: path.to_owned(), error };
        Tokenizer::from_metadata(gguf.metadata()).map_err(vocabulary)
    }

    /// The tokenizer of an open model.
    pub fn from_metadata(metadata: Metadata<'_>) -> Result<Tokenizer, Error> {
        Tokenizer::from_parts(&Parts::from_metadata(metadata)?)
    }

    pub fn from_parts(parts: &Parts<'_>) -> Result<Tokenizer, Error> {
        let pre = PreTokenizer::from_name(parts.pre).ok_or_else(|| Error::PreTokenizer(parts.pre.to_owned()))?;
        let vocabulary = Vocabulary::new(&parts.tokens, &parts.token_types)?;
        parts.roles.check(vocabulary.len())?;

        let of_kind = |wanted: fn(Kind) -> bool| {
            let tokens = parts.tokens.iter().copied().zip(0..);
            tokens.filter(|&(_, id)| vocabulary.kind(id).is_some_and(wanted)).collect::<Vec<(&str, u32)>>()
        };
        let bpe = Bpe::new(of_kind(|kind| kind == Kind::Normal).into_iter(), &parts.merges)?;
        let specials = Specials::new(&of_kind(Kind::is_special))?;
        let roles = parts.roles.or_by_text(&specials);
        let (add_bos, add_eos) = (parts.add_bos.unwrap_or(true), parts.add_eos.unwrap_or(false));
        Ok(Tokenizer { pre, vocabulary, bpe, specials, roles, add_bos, add_eos })
    }

    pub fn n_tokens(&self) -> usize {
        self.vocabulary.len()
    }

    pub fn token(&self, id: u32) -> Result<Token<'_>, UnknownToken> {
        self.vocabulary.get(id).ok_or(UnknownToken::Id { id, n_tokens: self.n_tokens() })
    }

    /// The id of a control or user-defined token.
    pub fn special(&self, text: &str) -> Result<u32, UnknownToken> {
        self.specials.id(text).ok_or_else(|| UnknownToken::Special(text.to_owned()))
    }

    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// What a whole text begins with. No encoder here puts it there.
    pub fn prefix(&self) -> Option<u32> {
        self.roles.bos.filter(|_| self.add_bos)
    }

    /// What a whole text ends with. No encoder here puts it there.
    pub fn suffix(&self) -> Option<u32> {
        self.roles.eos.filter(|_| self.add_eos)
    }

    /// Whether an answer ends with this token.
    pub fn ends_answer(&self, id: u32) -> bool {
        [self.roles.eos, self.roles.eot].contains(&Some(id))
    }

    /// Encodes text that may come from anywhere: never a control nor a user-defined token.
    pub fn encode_content(&self, text: &str) -> Vec<u32> {
        let mut encoder = self.bpe.encoder();
        self.pre.split(text, |word| encoder.push_word(word));
        encoder.ids
    }

    /// Encodes text whose control and user-defined tokens are meant as such.
    pub fn encode_trusted(&self, text: &str) -> Vec<u32> {
        let mut encoder = self.bpe.encoder();
        self.specials.cut(text, |stretch| match stretch {
            Stretch::Text(text) => self.pre.split(text, |word| encoder.push_word(word)),
            Stretch::Token(id) => encoder.ids.push(id),
        });
        encoder.ids
    }

    /// Encodes a prompt.
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, UnknownToken> {
        let mut ids = Vec::new();
        let mut content = String::new();
        for segment in segments {
            match segment {
                Segment::Content(text) => content.push_str(text),
                Segment::Control(text) => {
                    ids.append(&mut self.encode_content(&content));
                    content.clear();
                    ids.push(self.special(text)?);
                }
            }
        }
        ids.append(&mut self.encode_content(&content));
        Ok(ids)
    }

    /// A decoder for tokens that come one by one.
    pub fn decoder(&self, control: ControlTokens) -> Decoder<'_> {
        Decoder::new(self, control)
    }

    pub fn decode(&self, ids: &[u32], control: ControlTokens) -> Result<String, UnknownToken> {
        let mut decoder = self.decoder(control);
        let mut text = String::new();
        for &id in ids {
            decoder.push(id, &mut text)?;
        }
        decoder.finish(&mut text);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::test_runner::Config;

    /// 10,000 cases, or as many as `PROPTEST_CASES` says.
    pub(super) fn cases() -> Config {
        let set = std::env::var_os("PROPTEST_CASES").is_some();
        if set { Config::default() } else { Config::with_cases(10_000) }
    }

    const BOS: &str = "<｜begin▁of▁sentence｜>";

    /// The bytes at their own numbers, then `more`.
    fn build(more: &[(&str, i32)], merges: &[&str], roles: Roles) -> Result<Tokenizer, Error> {
        let bytes: Vec<String> = (0..=255).map(|byte| byte_level::char_of(byte).to_string()).collect();
        Tokenizer::from_parts(&Parts {
            pre: "deepseek-v3",
            tokens: bytes.iter().map(String::as_str).chain(more.iter().map(|&(text, _)| text)).collect(),
            token_types: bytes.iter().map(|_| 1).chain(more.iter().map(|&(_, ty)| ty)).collect(),
            merges: merges.to_vec(),
            roles,
            ..Parts::default()
        })
    }

    fn tokenizer() -> Tokenizer {
        let more = [(BOS, 3), ("<think>", 4), ("Ġa", 1), ("<|EOT|>", 3), ("[PAD260]", 5), ("<unk>", 2)];
        build(&more, &["Ġ a"], Roles::default()).unwrap()
    }

    #[test]
    fn content_is_never_special() {
        let tokenizer = tokenizer();
        for text in [BOS, "<think>", "<|EOT|>"] {
            let ids = tokenizer.encode_content(text);
            assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        }
        assert_eq!(tokenizer.encode_content("<think> a"), [&b"<think>".map(u32::from)[..], &[258]].concat());
    }

    #[test]
    fn trusted_text_is_searched_for_specials() {
        let ids = tokenizer().encode_trusted("<|EOT|> a<think>x<unk>");
        assert_eq!(ids, [&[259, 258, 257, 120][..], &b"<unk>".map(u32::from)].concat());
    }

    #[test]
    fn segments_are_control_tokens_and_joined_content() {
        let tokenizer = tokenizer();
        let content = |text: &str| Segment::Content(text.to_owned());
        let segments = [Segment::Control(BOS.into()), content("x "), content("a"), Segment::Control("<think>".into())];
        assert_eq!(tokenizer.encode_segments(&segments).unwrap(), [256, 120, 258, 257]);
        assert!(tokenizer.encode_segments(&[]).unwrap().is_empty());
        for text in ["<｜User｜>", "a", "Ġa", "[PAD260]", ""] {
            let error = tokenizer.encode_segments(&[content("x"), Segment::Control(text.to_owned().into())]);
            assert_eq!(error, Err(UnknownToken::Special(text.to_owned())));
        }
    }

    #[test]
    fn control_tokens_are_shown_or_hidden() {
        let tokenizer = tokenizer();
        let ids = [256, 258, 257, 260, 261, 120];
        assert_eq!(tokenizer.decode(&ids, ControlTokens::Hidden).unwrap(), " a<think>x");
        let shown = format!("{BOS} a<think>[PAD260]<unk>x");
        assert_eq!(tokenizer.decode(&ids, ControlTokens::Shown).unwrap(), shown);
        let error = tokenizer.decode(&[0, 262], ControlTokens::Hidden);
        assert_eq!(error, Err(UnknownToken::Id { id: 262, n_tokens: 262 }));
    }

    #[test]
    fn roles_are_named_by_the_file_or_found_by_text() {
        let tokens = [(BOS, 3), ("<s>", 3), ("<｜fim▁hole｜>", 3)];
        let found = build(&tokens, &[], Roles::default()).unwrap();
        let expected = Roles { bos: Some(256), fim_suffix: Some(258), ..Roles::default() };
        assert_eq!(*found.roles(), expected);
        assert_eq!((found.prefix(), found.suffix()), (Some(256), None));

        let named = build(&tokens, &[], Roles { bos: Some(257), eot: Some(258), ..Roles::default() }).unwrap();
        assert_eq!(named.prefix(), Some(257));
        assert!(named.ends_answer(258) && !named.ends_answer(257));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let role = |id| Roles { fim_middle: Some(id), ..Roles::default() };
        assert!(build(&[], &[], role(255)).is_ok());
        for id in [256, u32::MAX] {
            assert!(matches!(build(&[], &[], role(id)), Err(Error::IdRange { key: "fim_mid_token_id", .. })));
        }
        // A merge must not make a token that is special, nor be made of one.
        for merges in [["< |"], ["<| >"]] {
            assert!(matches!(build(&[("<|", 3)], &merges, Roles::default()), Err(Error::MergeToken { .. })));
        }
        let error = Tokenizer::from_parts(&Parts { pre: "llama-bpe", ..Parts::default() }).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the pre-tokenizer 'llama-bpe' (tokenizer.ggml.pre) is not supported; \
             these are: deepseek-v3, deepseek-llm, deepseek-coder"
        );
        let error = Tokenizer::from_parts(&Parts { pre: "deepseek-v3", ..Parts::default() }).err().unwrap();
        assert!(matches!(error, Error::MissingByte { byte: 0 }));
    }
}
