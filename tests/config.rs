//! What is set once: the file, the environment, `config`, `use`, `list`; and what shells are told.

#![cfg(feature = "demo")]

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::parity::unpack_model;
use support::{Ended, program};

/// A user with settings of their own.
struct User(tempfile::TempDir);

impl User {
    fn new() -> User {
        User(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("cachalot/config.toml")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.env("XDG_CONFIG_HOME", self.0.path()).args(args).stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        support::run(&mut self.command(args))
    }

    /// What must succeed, and what it prints.
    fn get(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        ended.stdout
    }
}

fn seed(ended: &Ended) -> u64 {
    let object: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    object["seed"].as_u64().unwrap()
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let user = User::new();
    let ask = ["run", "--json", "-t", "1", "What is 1 + 1?"];
    assert_eq!(user.get(&["config", "set", "seed", "1"]), "");
    assert_eq!(seed(&user.run(&ask)), 1);
    assert_eq!(seed(&support::run(user.command(&ask).env("CACHALOT_SEED", "2"))), 2);
    assert_eq!(seed(&support::run(user.command(&ask).env("CACHALOT_SEED", "2").args(["--seed", "3"]))), 3);
    let shown: Value = serde_json::from_str(&user.get(&["config", "show", "--json"])).unwrap();
    assert_eq!(shown["seed"]["value"], "1");
    assert!(shown["seed"]["from"].as_str().unwrap().ends_with("cachalot/config.toml, line 1"), "{shown}");
    assert_eq!(shown["threads"]["value"], Value::Null);
    let shown = support::run(user.command(&["config", "show"]).env("CACHALOT_SEED", "2")).stdout;
    assert!(shown.lines().any(|line| line.starts_with("seed") && line.contains("CACHALOT_SEED")), "{shown}");
    user.get(&["config", "unset", "seed"]);
    // With a unit, as the flag takes it.
    let long = "word ".repeat(1100);
    let asked = |context: &str| support::run(user.command(&["run", "-p", &long]).env("CACHALOT_CONTEXT", context));
    assert!(asked("1k").stderr.contains("but the context only 1000"), "{:?}", asked("1k"));
    user.get(&["config", "set", "context", "1K"]);
    assert_eq!(fs::read_to_string(user.file()).unwrap(), "context = \"1K\"\n");
    assert!(user.run(&["run", "-p", &long]).stderr.contains("but the context only 1024"));
    user.get(&["config", "unset", "context"]);
    assert_eq!(fs::read_to_string(user.file()).unwrap(), "");
    assert_eq!(user.get(&["config", "path"]), format!("{}\n", user.file().display()));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let user = User::new();
    for (text, says) in [
        ("\nthread = 4\n", "line 2: there is no key 'thread'; did you mean 'threads'?"),
        ("threads = \"4\"", "line 1: threads: must be a whole number"),
        ("threads = 0", "line 1: threads: invalid value '0'"),
        ("# x\ncache_type = \"q9\"", "line 2: cache_type: invalid value 'q9'"),
        ("context = \"32 K\"", "line 1: context: invalid value '32 K'"),
        ("context = 1.5", "line 1: context: must be a whole number, or in quotes"),
        ("temp = -1.0", "line 1: temp: temperature is -1"),
        ("threads = = 4", "line 1: not TOML"),
        ("[run]\nseed = 1", "line 1: there is no key 'run'"),
    ] {
        user.write(text);
        let ended = user.run(&["run", "x"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(65), ""), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(says) && ended.stderr.contains("config.toml"), "{text}: {}", ended.stderr);
        // What does without goes on.
        assert_eq!(user.run(&["config", "path"]).code, Some(0), "{text}");
    }
    user.write("thread = 4\n");
    user.get(&["config", "unset", "thread"]);
    assert_eq!(fs::read_to_string(user.file()).unwrap(), "");
    let ended = support::run(user.command(&["run", "x"]).env("CACHALOT_THREADS", "many"));
    assert!(ended.code == Some(2) && ended.stderr.contains("CACHALOT_THREADS: 'many' is not"), "{ended:?}");
    for args in [&["config", "set", "thread", "4"][..], &["config", "set", "temp", "-1"], &["config", "unset", "x"]] {
        let ended = user.run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_broken_file_is_not_added_to() {
    let user = User::new();
    for (text, says) in [
        ("seed = 1\nthread = 4\n", "config.toml: line 2: there is no key 'thread'"),
        ("seed = \"x\"\n", "config.toml: line 1: seed: must be a whole number"),
        ("\n\nseed = = 4\n", "config.toml: line 3: not TOML"),
    ] {
        user.write(text);
        let ended = user.run(&["config", "set", "threads", "2"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(65), ""), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{text}: {}", ended.stderr);
        assert_eq!(fs::read_to_string(user.file()).unwrap(), text);
    }
    // What is wrong with a key is mended by setting it.
    user.write("seed = \"x\"\n");
    user.get(&["config", "set", "seed", "2"]);
    assert_eq!(fs::read_to_string(user.file()).unwrap(), "seed = 2\n");
    assert_eq!(fs::read_dir(user.file().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn variables_that_mean_nothing_are_told() {
    let user = User::new();
    let ask = ["run", "-t", "1", "-n", "1", "x"];
    for (name, says) in [
        ("CACHALOT_THREAD", "CACHALOT_THREAD is set, and means nothing; did you mean CACHALOT_THREADS?"),
        ("CACHALOT_0\u{1b}[", "`cachalot config show` lists"),
    ] {
        let ended = support::run(user.command(&ask).env(name, "1"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains(says) && !ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
        assert_eq!(support::run(user.command(&ask).arg("-q").env(name, "1")).stderr, "");
    }
    for (known, value) in [("CACHALOT_SEED", "1"), ("CACHALOT_MODELS", "1"), ("CACHALOT_CPU", "ggml")] {
        assert_eq!(support::run(user.command(&ask).env(known, value)).stderr, "", "{known}");
    }
}

#[test]
fn the_default_model_can_be_another() {
    let user = User::new();
    let folder = tempfile::tempdir().unwrap();
    let model = unpack_model("parity/v3.gguf", folder.path());
    let name = |args: &[&str]| {
        let object: Value = serde_json::from_str(&user.get(args)).unwrap();
        object["model"]["path"].as_str().unwrap().to_owned()
    };
    let ask = ["run", "--json", "-t", "1", "-n", "1", "x"];
    let default = || serde_json::from_str::<Value>(&user.get(&["list", "--json"])).unwrap()["default"].clone();
    assert_eq!((name(&ask).as_str(), default()), ("demo", "demo".into()));

    // From its folder, by a relative path.
    let mut command = user.command(&["use", "./v3.gguf"]);
    let ended = support::run(command.current_dir(folder.path()));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let full = model.canonicalize().unwrap();
    assert_eq!((name(&ask), default()), (full.display().to_string(), full.to_str().unwrap().into()));
    assert!(user.get(&["list"]).contains("config.toml, line 1"));
    assert_eq!(name(&["run", "-m", "demo", "--json", "-t", "1", "-n", "1", "x"]), "demo");
    let by_variable = support::run(user.command(&ask).env("CACHALOT_MODEL", "demo"));
    assert!(by_variable.stdout.contains("\"path\": \"demo\""), "{by_variable:?}");

    for (wrong, code) in [("/none", 66), ("deepseek-v3-0324", 66), (file!(), 65)] {
        let wrong = if code == 65 { Path::new(env!("CARGO_MANIFEST_DIR")).join(wrong) } else { wrong.into() };
        let ended = user.run(&["use", wrong.to_str().unwrap()]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(default(), full.to_str().unwrap());
    }
    fs::remove_file(&model).unwrap();
    let gone = user.run(&ask);
    assert_eq!(gone.code, Some(66));
    assert!(gone.stderr.contains("is the default model by") && gone.stderr.contains("cachalot use"), "{}", gone.stderr);
    user.get(&["use", "--demo"]);
    assert_eq!(name(&ask), "demo");
    assert!(user.get(&["list", "--all"]).contains("deepseek-v3-0324"));
}

#[test]
fn shells_are_told_the_commands() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = user.get(&["completions", shell]);
        for word in ["perplexity", "json-schema", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        for hidden in ["template-check", "image"] {
            assert!(!script.contains(hidden), "{shell} is offered {hidden}");
        }
    }
    // Bash reads its own, where it is there.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("completions");
    fs::write(&path, user.get(&["completions", "bash"])).unwrap();
    let script = format!(
        "source {}; COMP_WORDS=(cachalot ru); COMP_CWORD=1; _cachalot cachalot ru cachalot; echo \"${{COMPREPLY[@]}}\"",
        path.display()
    );
    let completed = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "run", "{completed:?}");
    assert_eq!(user.run(&["completions", "tcl"]).code, Some(2));
    user.write("no such key = 1");
    assert_eq!(user.run(&["completions", "bash"]).code, Some(0), "a faulty file of settings does not matter here");
}

#[test]
fn there_are_manual_pages() {
    let user = User::new();
    assert!(user.get(&["man"]).contains(".TH cachalot"));
    assert!(user.get(&["man", "run"]).contains("json\\-schema"));
    assert_eq!(user.run(&["man", "nothing"]).code, Some(2));
    let folder = user.0.path().join("pages");
    user.get(&["man", "--all", folder.to_str().unwrap()]);
    let pages: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for page in ["cachalot.1", "cachalot-run.1", "cachalot-fim.1", "cachalot-config-set.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} is not among {pages:?}");
    }
    assert!(!pages.iter().any(|name| name.contains("template-check")), "{pages:?}");
    // Every command shows how it is used, with commands that there are.
    let help = user.get(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Long descriptions go on in a second line, further in.
    let listed = listed.filter(|line| !line.starts_with("   "));
    let names: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 15, "{names:?}");
    for command in names.iter().filter(|name| **name != "help") {
        let help = user.get(&[command, "--help"]);
        let examples = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command}: {help}")).1;
        let of_command = format!("cachalot {command}");
        assert!(examples.lines().filter(|line| line.contains(&of_command)).count() > 0, "{command}");
    }
}
