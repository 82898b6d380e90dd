//! Which way of writing a conversation a model was trained on, and how that is found out.
//!
//! Owns the list of families and the reasons for choosing one. Knows no GGUF: it is given plain
//! text, and what each family writes is in the family's own file.

use super::message::Tool;
use super::prompt::{Prompt, THINK, USER};
use super::tools::{CallRest, Form};
use crate::text::name_words;
use std::fmt;
use std::str::FromStr;

/// A family of models that share one prompt format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// V2, V2-Lite, Coder-V2: `User:` and `Assistant:` as plain text.
    V2,
    /// V2.5, V3 and V3-0324: role tokens.
    V3,
    /// R1: as V3, and reasons before it answers.
    R1,
    /// V3.1: answers at once, or reasons first where asked to.
    V31,
    /// Base models: they continue text and know no roles.
    Base,
}

/// What is known of a model before its family is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The chat template of the file.
    pub template: Option<&'a str>,
    /// Texts of the special tokens in the vocabulary.
    pub special_tokens: &'a [&'a str],
    /// The model's name, or its file's.
    pub name: Option<&'a str>,
}

/// A family, and why it was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    pub family: Family,
    pub because: &'static str,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.family, self.because)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown chat family '{}': use v2, v3, r1, v3.1 or base", crate::text::Escaped(.0))]
pub struct UnknownFamily(pub String);

impl Family {
    pub const ALL: [Family; 5] = [Family::V2, Family::V3, Family::R1, Family::V31, Family::Base];

    /// The name that selects this family.
    pub fn name(self) -> &'static str {
        match self {
            Family::V2 => "v2",
            Family::V3 => "v3",
            Family::R1 => "r1",
            Family::V31 => "v3.1",
            Family::Base => "base",
        }
    }

    /// The models of this family, for people.
    pub fn models(self) -> &'static str {
        match self {
            Family::V2 => "DeepSeek-V2, V2-Lite, Coder-V2",
            Family::V3 => "DeepSeek-V2.5, V3, V3-0324",
            Family::R1 => "DeepSeek-R1",
            Family::V31 => "DeepSeek-V3.1",
            Family::Base => "base models",
        }
    }

    /// Whether the family has a form for tool calls and their results.
    pub fn has_tools(self) -> bool {
        matches!(self, Family::V3 | Family::R1 | Family::V31)
    }

    /// Whether a model reasons unless told otherwise, and whether that can be changed.
    pub fn thinking(self) -> Thinking {
        match self {
            Family::R1 => Thinking::Always,
            Family::V31 => Thinking::OnRequest,
            Family::V2 | Family::V3 | Family::Base => Thinking::Never,
        }
    }

    /// Lets the answer to a prompt be the call of one of these tools, and says what of it is left to the model. `None`
    /// where the family has no form for calls, or there is no tool.
    pub fn begin_call(self, prompt: &mut Prompt, tools: &[&Tool]) -> Option<CallRest> {
        let form = match self {
            Family::V3 | Family::R1 => Form::Fenced,
            Family::V31 => Form::Bare,
            Family::V2 | Family::Base => return None,
        };
        (!tools.is_empty()).then(|| form.begin_call(prompt, tools))
    }

    /// The family that the facts speak for.
    ///
    /// A name that says `base` comes first, because base models are published with the template of
    /// their chat model; then the template, which is what the model was trained on; then the name;
    /// then the vocabulary.
    pub fn detect(facts: &Facts) -> Detected {
        let name = facts.name.unwrap_or_default().to_ascii_lowercase();
        if name_words(&name).any(|word| word == "base") {
            return Detected { family: Family::Base, because: "its name says that it is a base model" };
        }
        facts
            .template
            .and_then(|template| by_template(template, facts.special_tokens))
            .or_else(|| by_name(&name))
            .unwrap_or_else(|| by_tokens(facts.special_tokens))
    }
}

/// When a family reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    Never,
    OnRequest,
    Always,
}

fn by_template(template: &str, special_tokens: &[&str]) -> Option<Detected> {
    let found = |family, because| Some(Detected { family, because });
    if !template.contains(USER) {
        return match template.contains("User: ") && template.contains("Assistant:") {
            true => found(Family::V2, "its chat template writes 'User: ' and 'Assistant:' as text"),
            false => None,
        };
    }
    // Templates differ in spacing and in quotes; what they print does not.
    let bare: String = template.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let prints = |text: &str| ["'", "\""].iter().any(|q| bare.contains(&format!("{{{{{q}{text}{q}}}}}")));
    let closes = ["<｜Assistant｜></think>", "<think></think>"];
    if prints("</think>") || closes.iter().any(|text| bare.contains(text)) {
        found(Family::V31, "its chat template writes <｜User｜> and closes </think> before each answer")
    } else if bare.contains("</think>") && (bare.contains(THINK) || special_tokens.contains(&THINK)) {
        found(Family::R1, "its chat template writes <｜User｜> and drops the reasoning before </think>")
    } else {
        found(Family::V3, "its chat template writes <｜User｜> and <｜Assistant｜>, and knows no reasoning")
    }
}

fn by_name(name: &str) -> Option<Detected> {
    let found = |family, because| Some(Detected { family, because });
    let has = |wanted: &str| name_words(name).any(|word| word == wanted);
    if has("r1") {
        found(Family::R1, "no known chat template; its name says R1")
    } else if has("v3.1") {
        found(Family::V31, "no known chat template; its name says V3.1")
    } else if has("v3") || has("v2.5") || has("0324") {
        found(Family::V3, "no known chat template; its name says V2.5 or V3")
    } else if has("v2") {
        found(Family::V2, "no known chat template; its name says V2")
    } else {
        None
    }
}

fn by_tokens(tokens: &[&str]) -> Detected {
    if !tokens.contains(&USER) {
        let because = "neither a known chat template nor the token <｜User｜>: it continues text";
        return Detected { family: Family::Base, because };
    }
    match tokens.contains(&THINK) {
        true => Detected {
            family: Family::R1,
            because: "no known chat template; its vocabulary has <｜User｜> and <think>",
        },
        false => Detected { family: Family::V3, because: "no known chat template; its vocabulary has <｜User｜>" },
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(name: &str) -> Result<Family, UnknownFamily> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "v2" | "coder-v2" => Family::V2,
            "v3" | "v2.5" | "v3-0324" => Family::V3,
            "r1" => Family::R1,
            "v3.1" => Family::V31,
            "base" => Family::Base,
            _ => return Err(UnknownFamily(name.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(template: Option<&str>, special_tokens: &[&str], name: Option<&str>) -> Family {
        Family::detect(&Facts { template, special_tokens, name }).family
    }

    #[test]
    fn names_select_families() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
        }
        assert_eq!("V3-0324".parse(), Ok(Family::V3));
        assert!("v4".parse::<Family>().unwrap_err().to_string().contains("v3.1"));
    }

    #[test]
    fn the_template_decides_before_the_name() {
        let v3 = "{{'<｜User｜>' + message['content'] + '<｜Assistant｜>'}}";
        assert_eq!(detect(Some(v3), &[THINK, USER], Some("DeepSeek R1")), Family::V3);
        let r1 = "{{'<｜User｜>' + c}}{% if '</think>' in c %}{% endif %}{{'<｜Assistant｜><think>\\n'}}";
        assert_eq!(detect(Some(r1), &[], Some("DeepSeek-V3")), Family::R1);
        let v31 = "{{'<｜User｜>' + c}}{{'<｜Assistant｜>'}}{%- if not thinking %}{{ '</think>' -}}{% endif %}";
        assert_eq!(detect(Some(v31), &[], None), Family::V31);
        let v31_variant = "{{'<｜User｜>' + c}}{{'<｜Assistant｜><think></think>'}}";
        assert_eq!(detect(Some(v31_variant), &[], None), Family::V31);
        let v2 = "{{ 'User: ' + message['content'] + '\n\n' }}{{ 'Assistant:' }}";
        assert_eq!(detect(Some(v2), &[USER], Some("V3")), Family::V2);
        assert_eq!(detect(Some("{{ '<|im_start|>' }}"), &[], Some("deepseek-v3.1")), Family::V31);
    }

    /// A template may drop what other models' reasoning left in a history.
    #[test]
    fn a_model_without_think_does_not_reason() {
        let v3 = "{{'<｜User｜>' + c + '<｜Assistant｜>'}}{% if '</think>' in c %}{% endif %}";
        assert_eq!(detect(Some(v3), &[USER], Some("DeepSeek-V3-0324")), Family::V3);
        assert_eq!(detect(Some(v3), &[USER, THINK], Some("x")), Family::R1);
    }

    #[test]
    fn base_models_carry_their_chat_models_template() {
        let v3 = "{{'<｜User｜>' + message['content'] + '<｜Assistant｜>'}}";
        assert_eq!(detect(Some(v3), &[USER], Some("DeepSeek-V3-Base")), Family::Base);
        assert_eq!(detect(Some(v3), &[USER], Some("Database-V3")), Family::V3);
    }

    #[test]
    fn without_a_template_the_name_then_the_vocabulary_decide() {
        for (name, family) in [
            ("DeepSeek-R1-0528-UD-Q2_K_XL.gguf", Family::R1),
            ("DeepSeek-V3-0324", Family::V3),
            ("deepseek v2.5", Family::V3),
            ("DeepSeek-Coder-V2-Lite-Instruct", Family::V2),
            ("DeepSeek-V3.1.gguf", Family::V31),
        ] {
            assert_eq!(detect(None, &[], Some(name)), family, "{name}");
        }
        assert_eq!(detect(None, &[USER, THINK], Some("x")), Family::R1);
        assert_eq!(detect(None, &[USER], None), Family::V3);
        assert_eq!(detect(None, &[], None), Family::Base);
        let why = Family::detect(&Facts::default()).to_string();
        assert!(why.starts_with("base: neither a known chat template"), "{why}");
    }
}
