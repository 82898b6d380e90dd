//! The official clients of the protocols that `serve` speaks. `tools/clients/install.sh` fetches them from their
//! registries; where OFFICIAL_CLIENTS is 1 they must be there, elsewhere they are used if they are.

#![cfg(feature = "demo")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::server::Server;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients")
}

fn check(program: &Path, script: &Path) {
    if !program.exists() || !script.exists() {
        let is_wanted = std::env::var("OFFICIAL_CLIENTS").is_ok_and(|value| value == "1");
        assert!(!is_wanted, "{} is missing: run tools/clients/install.sh", script.display());
        eprintln!("not run: tools/clients/install.sh fetches the clients");
        return;
    }
    let server = Server::start(&["--parallel", "4"]);
    let output = Command::new(program).arg(script).arg(format!("http://127.0.0.1:{}", server.port)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" passed"), "{said}");
}

#[test]
fn for_python() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/clients/check.py");
    check(&folder().join("python/bin/python"), &script);
}

#[test]
fn for_node() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let node = std::env::split_paths(&path).map(|folder| folder.join("node")).find(|path| path.exists());
    let script = folder().join("node/check.mjs");
    check(&node.unwrap_or_default(), &script);
}
