//! What a GGUF file says of its tokenizer: the arrays, and the tokens with a part to play.
//!
//! Owns the names of the metadata keys. Checks no more than the ids of those parts; the arrays are
//! checked by who uses them.

use super::error::Error;
use super::special::Specials;
use crate::gguf::{Metadata, MetadataError};

/// The token that begins a text, in all DeepSeek vocabularies.
pub const BOS: &str = "<｜begin▁of▁sentence｜>";
/// The token that ends a text or an answer.
pub const EOS: &str = "<｜end▁of▁sentence｜>";

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
        // All bits set is how files say that there is no such token.
        let id = |key: &str| {
            let id: Option<u32> = metadata.get(&format!("tokenizer.ggml.{key}_token_id"))?;
            Ok::<_, MetadataError>(id.filter(|id| *id != u32::MAX))
        };
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
    pub(super) fn or_by_text(self, specials: &Specials) -> Roles {
        Roles {
            bos: self.bos.or_else(|| specials.id(BOS)),
            eos: self.eos.or_else(|| specials.id(EOS)),
            fim_prefix: self.fim_prefix.or_else(|| specials.id("<｜fim▁begin｜>")),
            fim_suffix: self.fim_suffix.or_else(|| specials.id("<｜fim▁hole｜>")),
            fim_middle: self.fim_middle.or_else(|| specials.id("<｜fim▁end｜>")),
            ..self
        }
    }

    pub(super) fn check(&self, n_tokens: usize) -> Result<(), Error> {
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
