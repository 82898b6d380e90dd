//! `run` and `fim` have their answers in a server that has the model open: what they print is the same.

#![cfg(feature = "demo")]

mod support;

use std::path::Path;
use support::Ended;
use support::server::Server;

const ATTACHED: &str = "the model is open in a server";

fn run(folder: &Path, args: &[&str]) -> Ended {
    support::run(support::program().env("XDG_RUNTIME_DIR", folder).args(args))
}

#[test]
fn answers_are_the_same_and_so_are_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = support::program();
    command.env("XDG_RUNTIME_DIR", folder.path());
    let mut server = Server::with(command, "demo", &[]);
    let sockets = || std::fs::read_dir(folder.path().join("cachalot")).map_or(0, Iterator::count);
    assert_eq!(sockets(), 1);
    let long = "word ".repeat(9000);
    for (args, code) in [
        (&["run", "-v", "-p", "What is 17 + 25?"][..], 0),
        (&["run", "-v", "-p", "Hello", "-n", "20", "--temp", "1", "--seed", "7"], 0),
        (&["run", "-v", "-p", "Hello", "-n", "20", "--temp", "1", "--seed", "7", "--stop", "a"], 0),
        (&["run", "-v", "-p", "Hello", "-n", "1", "--json-object"], 4),
        (&["run", "-v", "-p", &long], 3),
        (&["run", "-v", "-p", "x", "--temp", "-1"], 2),
        (&["run", "-v", "-p", "x", "--set", "logit_bias=1:-inf", "-n", "8"], 0),
        (&["fim", "-v", "--prefix", "def add(a, b):\n", "--suffix", "\nprint(1)", "-n", "8"], 0),
    ] {
        let attached = run(folder.path(), args);
        let alone = run(folder.path(), &[args, &["--no-attach"]].concat());
        assert!(attached.stderr.contains(ATTACHED) && !alone.stderr.contains(ATTACHED), "{args:?}: {attached:?}");
        assert_eq!((attached.code, &attached.stdout), (Some(code), &alone.stdout), "{args:?}: {attached:?}");
        assert_eq!(alone.code, Some(code), "{args:?}: {alone:?}");
    }
    // Not where something else is wanted.
    for args in [&["-c", "64"][..], &["--cache-type", "q8_0"], &["--routing", "plain"], &["--no-mmap"]] {
        let ended = run(folder.path(), &[&["run", "-v", "-p", "What is 17 + 25?"], args].concat());
        assert!(ended.code == Some(0) && !ended.stderr.contains(ATTACHED), "{args:?}: {ended:?}");
    }
    // A second server leaves the first one's socket alone, and the first takes it along.
    drop(Server::with(
        {
            let mut command = support::program();
            command.env("XDG_RUNTIME_DIR", folder.path());
            command
        },
        "demo",
        &[],
    ));
    assert!(run(folder.path(), &["run", "-v", "-p", "Hi"]).stderr.contains(ATTACHED));
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(sockets(), 0);
    let ended = run(folder.path(), &["run", "-p", "What is 17 + 25?"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"));
}

/// One that was killed leaves its socket, which is in nobody's way.
#[test]
fn a_dead_servers_socket_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = support::program();
        command.env("XDG_RUNTIME_DIR", folder.path());
        Server::with(command, "demo", &[])
    };
    drop(start());
    assert_eq!(run(folder.path(), &["run", "-p", "What is 17 + 25?"]).stdout, "42\n");
    let _server = start();
    assert!(run(folder.path(), &["run", "-v", "-p", "Hi"]).stderr.contains(ATTACHED));
}
