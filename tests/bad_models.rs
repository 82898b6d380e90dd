//! Well-formed files that are no model: refused with a message that names what is wrong.

mod support;

use cachalot::graph::{Forward, Options};
use support::bad_models::bad_models;

#[test]
fn none_is_loaded() {
    for bad in bad_models() {
        let fixture = bad.draft.open();
        let error = match Forward::load(&fixture.gguf, Options::new(64, 1)) {
            Ok(_) => panic!("{} was loaded", bad.name),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(bad.message), "{}: {error}", bad.name);
        assert_eq!(error.lines().count(), 1, "{}: {error}", bad.name);
    }
}

/// The program says the same, names the file, and ends with the code.
#[test]
fn the_program_refuses_each() {
    for bad in bad_models() {
        let fixture = bad.draft.open();
        let tokens = fixture.folder.path().join("tokens.json");
        std::fs::write(&tokens, "[1,2,3]").unwrap();
        let out = fixture.folder.path().join("out.safetensors");
        let ended = support::run(
            support::program().arg("logits").arg(&fixture.path).arg("--tokens").arg(&tokens).arg("-o").arg(&out),
        );
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(bad.exit_code), ""), "{}: {}", bad.name, ended.stderr);
        assert!(ended.stderr.contains(bad.message), "{}: {}", bad.name, ended.stderr);
        assert!(ended.stderr.contains("model.gguf"), "{}: {}", bad.name, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}: {}", bad.name, ended.stderr);
        assert!(!out.exists());
    }
}

/// To look into such a file is no reason to fall, whether it is found wanting or not.
#[test]
fn each_can_be_inspected() {
    for bad in bad_models() {
        let ended = support::inspect(&bad.draft.open().path);
        assert!(matches!(ended.code, Some(0 | 65)), "{}: {ended:?}", bad.name);
        assert!(!ended.stdout.is_empty() && ended.stderr.lines().count() <= 1, "{}: {ended:?}", bad.name);
    }
}

/// Without a fault the tiny model is one.
#[test]
fn the_tiny_model_is_sound() {
    let fixture = support::draft::Draft::tiny().open();
    Forward::load(&fixture.gguf, Options::new(64, 1)).unwrap();
}
