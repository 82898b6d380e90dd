//! How to sample a model, as those say who made it. Numbers, with who recommends them; knows no sampler.

use super::models::{Model, Recommended, models_or_own, spoken_of, unknown};

/// How to sample a model, unless the user says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingDefaults {
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// The model that these are meant for; none for those that suit no model in particular.
    pub model: Option<&'static str>,
    /// Whether DeepSeek's API, and so its clients, mean another temperature than the model: 1 there is 0.3 here.
    pub temperature_map: bool,
    /// Who recommends them.
    pub sources: Vec<&'static str>,
}

/// How to sample the model whose file has this name (`general.name`, or the name of the file), and whose
/// chat family has this one, as [`chat::Family`](crate::chat::Family) says it.
///
/// The name decides: the catalogue's model that has most of its words in it, one behind the other,
/// whatever the case and what separates them. `DeepSeek R1 0528 BF16` is `deepseek-r1-0528`. Where that
/// says nothing, the family does, and for what neither knows there are values that suit most models.
pub fn sampling_for(name: Option<&str>, family: &str) -> SamplingDefaults {
    let known = |model: &&Model| model.sampling.publisher.is_some();
    let speaks = |model: &&Model| model.speaks_for_family && model.family() == family;
    let named = name.and_then(spoken_of).filter(known);
    match named.or_else(|| models_or_own().iter().find(speaks)) {
        Some(Model { title, sampling, temperature_map, .. }) => {
            SamplingDefaults { temperature_map: *temperature_map, ..defaults(&sampling.by(), Some(title)) }
        }
        None => defaults(&[unknown()], None),
    }
}

/// What is recommended, by the first of those who say anything about it.
fn defaults(by: &[&'static Recommended], model: Option<&'static str>) -> SamplingDefaults {
    SamplingDefaults {
        temperature: by.iter().find_map(|by| by.temperature).unwrap_or(1.0),
        top_p: by.iter().find_map(|by| by.top_p).unwrap_or(1.0),
        min_p: by.iter().find_map(|by| by.min_p).unwrap_or(0.0),
        model,
        temperature_map: false,
        sources: by.iter().map(|by| by.source.as_str()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, family: &str) -> (f32, f32, f32, Option<&'static str>) {
        let found = sampling_for(Some(name), family);
        (found.temperature, found.top_p, found.min_p, found.model)
    }

    #[test]
    fn the_name_of_the_file_decides() {
        let v3 = (0.3, 1.0, 0.01, Some("DeepSeek-V3-0324"));
        for name in ["DeepSeek-V3-0324", "Deepseek V3 0324", "DeepSeek_V3_0324-UD-Q2_K_XL-00001-of-00006.gguf"] {
            assert_eq!(values(name, "v3"), v3, "{name}");
        }
        assert_eq!(values("DeepSeek R1 BF16", "r1"), (0.6, 0.95, 0.05, Some("DeepSeek-R1")));
        assert_eq!(values("DeepSeek-R1-0528.gguf", "v3"), (0.6, 0.95, 0.01, Some("DeepSeek-R1-0528")));
        assert_eq!(values("deepseek-v3.1.gguf", "v3.1"), (0.6, 0.95, 0.01, Some("DeepSeek-V3.1")));
        assert_eq!(values("DeepSeek-V2.5-1210", "v3"), (0.3, 0.95, 0.0, Some("DeepSeek-V2.5")));
        assert_eq!(values("Unsloth/DeepSeek V2 Lite Chat", "v2").3, Some("DeepSeek-V2-Lite-Chat"));
    }

    #[test]
    fn where_the_name_says_nothing_the_family_does() {
        for name in ["DeepSeek-V3", "V3-0324", "my tune", ""] {
            assert_eq!(values(name, "v3").3, Some("DeepSeek-V3-0324"), "{name}");
        }
        assert_eq!(values("DeepSeek-R1T-Chimera", "r1").3, Some("DeepSeek-R1-0528"));
        assert_eq!(sampling_for(None, "v3.1").model, Some("DeepSeek-V3.1"));
    }

    #[test]
    fn for_the_unknown_there_are_values_too() {
        for (name, family) in [("DeepSeek-V3-Base", "base"), ("llama", "other")] {
            assert_eq!(values(name, family), (0.7, 1.0, 0.05, None), "{name}");
        }
    }

    #[test]
    fn the_makers_of_quants_go_over_the_publisher() {
        let found = sampling_for(Some("DeepSeek-V3-0324"), "v3");
        assert_eq!(
            found.sources,
            ["Unsloth's guide to DeepSeek-V3-0324", "model card of deepseek-ai/DeepSeek-V3-0324"]
        );
    }
}
