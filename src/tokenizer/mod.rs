//! Text to tokens and back, by the vocabulary of a GGUF file.
//!
//! Text is content or trusted. Content becomes ordinary tokens whatever it says: the tokens that frame a
//! prompt cannot come out of it, since the encoder of words does not know them. Trusted text is searched
//! for them first. Which text is which, and where a prompt has its control tokens, is for `chat` to say.
//!
//! Time is linear in the text, but for the merges within one word, which are taken in order of rank.

mod bpe;
mod byte_level;
mod decode;
mod error;
mod long_word;
mod parts;
mod segment;
mod special;
mod split;
mod vocabulary;

pub(crate) use byte_level::char_of as byte_char;
pub use decode::{ControlTokens, Decoder, Utf8Stream};
pub use error::{Error, OpenError, UnknownToken};
pub use parts::{BOS, EOS, Parts, Roles};
pub use segment::Segment;
pub use vocabulary::{Kind, Token};

use crate::gguf::{Gguf, Metadata, Source};
use bpe::Bpe;
use special::{Specials, Stretch};
use split::PreTokenizer;
use std::fmt;
use vocabulary::Vocabulary;

/// The token of a single byte, for vocabularies that tests make up.
#[cfg(test)]
pub(crate) fn spelling_of_byte(byte: u8) -> String {
    byte_level::char_of(byte).to_string()
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
    /// The tokenizer of a model.
    pub fn open(source: impl Into<Source>) -> Result<Tokenizer, OpenError> {
        let source = source.into();
        let gguf = Gguf::open(&source)?;
        let vocabulary = |error| OpenError::Vocabulary { path: source.path().to_owned(), error };
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
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    /// 10,000 cases, or as many as `PROPTEST_CASES` says.
    pub(super) fn cases() -> Config {
        let set = std::env::var_os("PROPTEST_CASES").is_some();
        if set { Config::default() } else { Config::with_cases(10_000) }
    }

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

    /// Ordinary and odd texts of tokens.
    fn any_token() -> impl Strategy<Value = (String, i32)> {
        let text = prop_oneof!["[a-cĠ]{1,3}", "<[a-c]{0,2}>", any::<String>()];
        (text, prop_oneof![8 => Just(1), 2 => Just(3), 2 => Just(4), 1 => -1..8])
    }

    proptest! {
        #![proptest_config(cases())]

        /// Whatever a file holds is refused, or encodes any text so that it comes back.
        #[test]
        fn no_vocabulary_is_fatal(
            more in prop::collection::vec(any_token(), 0..6),
            odd_merge in prop::option::weighted(0.2, any::<String>()),
            pairs in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..3),
            bos in prop::option::weighted(0.2, 0..300u32),
            text: String,
        ) {
            let tokens: Vec<(&str, i32)> = more.iter().map(|(text, ty)| (text.as_str(), *ty)).collect();
            let texts: Vec<&str> = tokens.iter().map(|(text, _)| *text).chain(["a", "b", "Ġ"]).collect();
            let merges = pairs.iter().map(|(left, right)| format!("{} {}", left.get(&texts), right.get(&texts)));
            let merges: Vec<String> = merges.chain(odd_merge).collect();
            let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
            if let Ok(tokenizer) = build(&tokens, &merges, Roles { bos, ..Roles::default() }) {
                let text = texts.concat() + &text;
                for ids in [tokenizer.encode_content(&text), tokenizer.encode_trusted(&text)] {
                    prop_assert_eq!(&tokenizer.decode(&ids, ControlTokens::Shown).unwrap(), &text);
                }
            }
        }
    }
}
