//! `models.toml` is data that people edit: its form, and that no name means two models.

use cachalot::catalog::sampling_for;
use cachalot::chat::Family;
use cachalot::engine::sampler::SamplerParams;
use std::collections::BTreeSet;
use toml::{Table, Value};

fn models() -> Vec<Table> {
    let text = include_str!("../models.toml");
    let document: Table = text.parse().expect("models.toml is TOML");
    let models = document["model"].as_array().expect("[[model]]");
    models.iter().map(|model| model.as_table().expect("a table").clone()).collect()
}

fn text<'a>(table: &'a Table, key: &str) -> &'a str {
    match table.get(key).and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => text,
        _ => panic!("{key} is missing in {table}"),
    }
}

fn number(value: &Value) -> f64 {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).expect("a number")
}

#[test]
fn every_model_is_complete_and_its_names_are_its_own() {
    let mut names = BTreeSet::new();
    for model in models() {
        let aliases = model["aliases"].as_array().unwrap().iter().map(|alias| alias.as_str().unwrap());
        for name in aliases.chain([text(&model, "name")]) {
            assert!(names.insert(name.to_lowercase()), "{name} names two models");
        }
        let is_embedded = model.get("embedded").and_then(Value::as_bool) == Some(true);
        assert!(is_embedded || text(&model, "official").contains('/'));
        text(&model, "title");
        text(&model, "source");
        let family = text(&model, "family");
        let known = ["deepseek-v2", "deepseek-v3", "deepseek-v3.1", "deepseek-r1", "base"];
        assert!(known.contains(&family), "{family}");
        if !is_embedded {
            let (all, active) = (number(&model["parameters"]), number(&model["active"]));
            assert!(0.0 < active && active < all && all < 1000.0);
        }
        assert!(model["context"].as_integer().unwrap() >= 4096);
    }
}

#[test]
fn every_quant_has_a_size_and_the_mixes_grow() {
    let mut quants = 0;
    for model in models() {
        for files in model.get("files").and_then(Value::as_array).into_iter().flatten().map(|f| f.as_table().unwrap()) {
            text(files, "source");
            assert!(text(files, "repo").contains('/'));
            assert!(["mla", "legacy"].contains(&text(files, "layout")));
            let sizes: Vec<f64> =
                files["quants"].as_array().unwrap().iter().map(|quant| number(&quant["gb"])).collect();
            assert!(sizes.is_sorted() && sizes.iter().all(|gb| *gb > 1.0), "{sizes:?}");
            quants += sizes.len();
        }
    }
    assert!(quants >= 12, "the six mixes of V3-0324 in both layouts");
}

#[test]
fn recommended_sampling_is_of_the_sampler_and_has_its_source() {
    let document: Table = include_str!("../models.toml").parse().unwrap();
    let mut recommended = vec![document["unknown"]["sampling"].clone()];
    for model in models() {
        let of_model = model.get("sampling").and_then(Value::as_table).into_iter().flatten();
        recommended.extend(of_model.map(|(by, values)| {
            assert!(["publisher", "quants"].contains(&by.as_str()), "{by}");
            values.clone()
        }));
    }
    for values in recommended {
        let mut params = SamplerParams::default();
        let mut values = values.as_table().unwrap().clone();
        text(&values, "source");
        values.remove("source");
        assert!(!values.is_empty());
        for (key, value) in values {
            params.set(&key, &value.to_string()).unwrap();
        }
        params.validate(1).unwrap();
    }
}

#[test]
fn one_model_speaks_for_each_family_but_the_base() {
    let speakers = models().into_iter().filter(|model| model.contains_key("speaks_for_family"));
    let families: Vec<Family> = speakers
        .map(|model| {
            assert!(model["sampling"].get("publisher").is_some(), "{model}");
            text(&model, "family").trim_start_matches("deepseek-").parse().unwrap()
        })
        .collect();
    for family in Family::ALL {
        let expected = usize::from(family != Family::Base);
        assert_eq!(families.iter().filter(|speaks_for| **speaks_for == family).count(), expected, "{family}");
        let found = sampling_for(None, family.name());
        assert_eq!(found.model.is_some(), family != Family::Base, "{family}");
    }
}
