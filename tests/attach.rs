//! `run` and `fim` have their answers in a server that has the model open: what they print is the same.

#![cfg(feature = "demo")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use support::Ended;
use support::home::SIZE;
use support::server::Server;
use support::terminal::{Setup, Terminal};

const ATTACHED: &str = "the model is open in a server";

fn start(folder: &Path) -> Server {
    let mut command = support::program();
    command.env("XDG_RUNTIME_DIR", folder);
    Server::with(command, "demo", &[])
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

fn run(folder: &Path, args: &[&str]) -> Ended {
    support::run(support::program().env("XDG_RUNTIME_DIR", folder).args(args))
}

#[test]
fn answers_are_the_same_and_so_are_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path());
    let sockets = || std::fs::read_dir(folder.path().join("cachalot")).map_or(0, Iterator::count);
    // One, and its lock.
    assert_eq!(sockets(), 2);
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
    assert_eq!(server.figure("cachalot_requests_finished_total"), 6.0);
    assert!(server.figure("cachalot_generated_tokens_total") > 10.0);
    // Not where something else is wanted.
    for args in [&["-c", "64"][..], &["--cache-type", "q8_0"], &["--routing", "plain"], &["--no-mmap"]] {
        let ended = run(folder.path(), &[&["run", "-v", "-p", "What is 17 + 25?"], args].concat());
        assert!(ended.code == Some(0) && !ended.stderr.contains(ATTACHED), "{args:?}: {ended:?}");
    }
    // A second server leaves the first one's socket alone until that ends.
    let mut second = support::program();
    second.env("XDG_RUNTIME_DIR", folder.path()).args(["serve", "demo", "-v", "--port", "0"]).stderr(Stdio::piped());
    let mut second = second.spawn().unwrap();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let said: Vec<String> = lines.by_ref().take_while(|line| !line.ends_with(" answers")).collect();
    assert!(said.iter().any(|line| line.contains("another server of this user has the same model")), "{said:?}");
    let is_attached = || run(folder.path(), &["run", "-v", "-p", "Hi"]).stderr.contains(ATTACHED);
    assert!(is_attached());
    signal(&server.child, rustix::process::Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    // The second takes its place.
    assert!(lines.any(|line| line.contains("from now on")), "{said:?}");
    assert!(is_attached());
    signal(&second, rustix::process::Signal::TERM);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(sockets(), 0);
    let ended = run(folder.path(), &["run", "-p", "What is 17 + 25?"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"));
}

/// One that was killed leaves its socket, which is in nobody's way.
#[test]
fn a_dead_servers_socket_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    drop(start(folder.path()));
    assert_eq!(run(folder.path(), &["run", "-p", "What is 17 + 25?"]).stdout, "42\n");
    let _server = start(folder.path());
    assert!(run(folder.path(), &["run", "-v", "-p", "Hi"]).stderr.contains(ATTACHED));
}

#[test]
fn a_chat_is_answered_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let _server = start(folder.path());
    let args = ["chat", "demo", "-v", "--plain"];
    let env = [("XDG_RUNTIME_DIR", folder.path().to_str().unwrap())];
    let mut chat = Terminal::start(&Setup { args: &args, state: folder.path(), env: &env, size: SIZE });
    chat.until(ATTACHED);
    chat.until_prompt();
    chat.say("What is 17 + 25?", "42");
    // What is on the screen of an answer that was stopped is kept, and the next question is answered.
    chat.say("/set logit_bias 1:-inf", "> ");
    chat.line("Hello");
    chat.until("> Hello");
    std::thread::sleep(std::time::Duration::from_millis(200));
    chat.send(b"\x03");
    chat.until_prompt();
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
}

/// Whoever stops an answer stops it in the server, which computes one at a time here: the next is answered.
#[test]
fn an_interruption_reaches_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = support::program();
    command.env("XDG_RUNTIME_DIR", folder.path());
    let server = Server::with(command, "demo", &["--parallel", "1", "--context", "200000"]);
    let mut command = support::program();
    command.env("XDG_RUNTIME_DIR", folder.path());
    // In the context of the server it would go on for minutes.
    let endless = ["run", "-c", "200000", "-p", "Hello", "--set", "logit_bias=1:-inf"];
    let mut child = command.args(endless).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 4]).unwrap();
    signal(&child, rustix::process::Signal::INT);
    out.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": "What is 17 + 25?" }] });
    let answer = server.post("/v1/chat/completions", &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "42");
}

/// Answers that others have here are under way as those of HTTP are, and the end is one in good order.
#[test]
fn a_server_that_ends_lets_answers_end() {
    for (grace, n, code) in [("60", "300", 0), ("0", "200000", 69)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = support::program();
        command.env("XDG_RUNTIME_DIR", folder.path());
        let mut server = Server::with(command, "demo", &["--grace", grace, "--context", "200000"]);
        let mut command = support::program();
        command.env("XDG_RUNTIME_DIR", folder.path());
        let args = ["run", "-c", "200000", "-p", "Hello", "--set", "logit_bias=1:-inf", "-n", n];
        let mut run = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = run.stdout.take().unwrap();
        out.read_exact(&mut [0; 4]).unwrap();
        signal(&server.child, rustix::process::Signal::TERM);
        out.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(code), "--grace {grace}");
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "--grace {grace}");
        assert_eq!(std::fs::read_dir(folder.path().join("cachalot")).unwrap().count(), 0, "nothing is left");
    }
}
