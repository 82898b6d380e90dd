//! `models.toml` is data that people edit: its form, and that no name means two models.

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
        assert!(text(&model, "official").contains('/'));
        text(&model, "title");
        text(&model, "source");
        let family = text(&model, "family");
        let known = ["deepseek-v2", "deepseek-v3", "deepseek-v3.1", "deepseek-r1", "base"];
        assert!(known.contains(&family), "{family}");
        let (all, active) = (number(&model["parameters"]), number(&model["active"]));
        assert!(0.0 < active && active < all && all < 1000.0);
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
