//! `models.toml` is data that people edit: its form, its sources, and that no name means two models.

use cachalot::catalog::{Reference, Repo, sampling_for};
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

fn files(model: &Table) -> Vec<&Table> {
    let files = model.get("files").and_then(Value::as_array).into_iter().flatten();
    files.map(|files| files.as_table().unwrap()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).expect("a number")
}

#[test]
fn every_model_is_complete_and_its_names_are_its_own() {
    let mut names = BTreeSet::new();
    for model in models() {
        let aliases = model["aliases"].as_array().unwrap().iter().map(|alias| alias.as_str().unwrap());
        // What a repository's files are of is one model, so that its name finds them.
        let repos = files(&model).into_iter().map(|files| text(files, "repo"));
        for name in aliases.chain(repos).chain([text(&model, "name")]) {
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
fn every_repository_has_its_source_and_the_mixes_grow() {
    let mut mixes_of_v3 = 0;
    for model in models() {
        for files in files(&model) {
            text(files, "source");
            assert!(Repo::parse(text(files, "repo")).is_some(), "{files}");
            assert!(files.get("layout").is_none_or(|layout| ["mla", "legacy"].contains(&layout.as_str().unwrap())));
            let quants = files.get("quants").and_then(Value::as_array).cloned().unwrap_or_default();
            let values = |key: &str| quants.iter().filter_map(|quant| quant.get(key)).map(number).collect::<Vec<f64>>();
            let (sizes, bits) = (values("gb"), values("bits"));
            assert!(sizes.is_sorted() && sizes.iter().all(|gb| *gb > 1.0), "{sizes:?}");
            assert!(bits.is_sorted() && bits.iter().all(|bits| (1.0..9.0).contains(bits)), "{bits:?}");
            let names: BTreeSet<&str> = quants.iter().map(|quant| quant["name"].as_str().unwrap()).collect();
            assert_eq!(names.len(), quants.len());
            // A recommendation says whose it is.
            let is_recommended = |quant: &Value| quant.get("recommended").is_some();
            assert!(!quants.iter().any(is_recommended) || !text(files, "advice").is_empty());
            if text(&model, "name") == "deepseek-v3-0324" && sizes.len() == 6 {
                mixes_of_v3 += bits.len();
                let recommended =
                    quants.iter().filter(|quant| is_recommended(quant)).map(|quant| number(&quant["bits"]));
                assert_eq!(recommended.collect::<Vec<_>>(), [2.42, 2.71]);
            }
        }
    }
    assert_eq!(mixes_of_v3, 12, "the six mixes of V3-0324 in both layouts");
}

#[test]
fn every_model_of_the_catalogue_is_found_by_each_of_its_names() {
    for model in models() {
        let aliases = model["aliases"].as_array().unwrap().iter().map(|alias| alias.as_str().unwrap());
        for name in aliases.chain([text(&model, "name")]) {
            let found = Reference::parse(name).unwrap().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.model.unwrap().name, text(&model, "name"));
            assert_eq!(found.repos.len(), files(&model).len());
        }
    }
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
