//! Chats that are kept: what was saved is there whatever happens to the program, and `cachalot sessions` shows it.

mod support;

use cachalot::session::{Answer, Body, Finish, Model, Question, Session, SessionId, Store, StoreError, Transcript};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use support::Ended;

/// Where the child that saves finds its folder.
const FOLDER: &str = "CACHALOT_TEST_SESSIONS";
const NAME: &str = "grows";

/// What the n-th turn says.
fn text(n: usize) -> String {
    format!("{n} ").repeat(40 + n % 17)
}

fn open(store: &Store) -> Session {
    match store.resume(NAME) {
        Ok((session, None)) => session,
        Ok((_, Some(note))) => panic!("{note}"),
        Err(StoreError::Unknown(_)) => {
            store.create(Transcript::with_id(SessionId::parse(NAME).unwrap(), Model::default())).unwrap()
        }
        Err(error) => panic!("{error}"),
    }
}

/// Turns of the session, all of which must be as they were written.
fn n_whole_turns(session: &Session) -> usize {
    for (n, turn) in session.transcript.turns().iter().enumerate() {
        assert_eq!(turn.question().map(|question| question.text.clone()), Some(text(n)));
    }
    assert_eq!(session.transcript.path().len(), session.transcript.turns().len());
    session.transcript.turns().len()
}

/// The child of the tests below: saves a session that grows, and says so each time, until it is killed or fails.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn saves_until_it_ends() {
    let folder = std::env::var_os(FOLDER).expect("the test that runs this one names a folder");
    let store = Store::open(Some(Path::new(&folder))).unwrap();
    let mut session = open(&store);
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    loop {
        let n = session.transcript.turns().len();
        session.transcript.push(Body::User(Question::new(text(n))));
        match session.save() {
            Ok(()) => writeln!(out, "saved {}", n + 1).unwrap(),
            Err(error) => return writeln!(out, "failed {error}").unwrap(),
        }
    }
}

/// Starts the child; `limit` is what a shell does first.
fn start(folder: &Path, limit: &str) -> (Child, BufReader<ChildStdout>) {
    let script = format!("{limit}\nexec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["saves_until_it_ends", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended before it began");
    }
    (child, out)
}

/// What the child said to the end: turns that were saved last, and its failure.
fn said(out: BufReader<ChildStdout>) -> (usize, Option<String>) {
    let (mut n_saved, mut failure) = (0, None);
    for line in out.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        if let Some(n) = line.strip_prefix("saved ") {
            n_saved = n.parse().unwrap();
        } else if let Some(text) = line.strip_prefix("failed ") {
            failure = Some(text.to_owned());
        }
    }
    (n_saved, failure)
}

/// Kills processes that save one session, and looks after each that nothing which was reported as saved is lost.
fn kill(n_kills: u64, seed: u64) -> Killed {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let (mut n_before, mut n_cut) = (0, 0);
    for n in 0..n_kills {
        let (mut child, out) = start(folder.path(), "");
        // Spread over some saves, whatever the speed of the disk: the system's own timing does the rest.
        std::thread::sleep(Duration::from_micros((seed + n) * 7919 % 4000));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let n_saved = said(out).0.max(n_before);
        n_cut += usize::from(folder.path().join("grows.json.partial").exists());
        let session = open(&store);
        let n_turns = n_whole_turns(&session);
        // One more may be on the disk than there was time to report.
        assert!(n_turns == n_saved || n_turns == n_saved + 1, "{n_turns} turns, {n_saved} saved");
        n_before = n_turns;
    }
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert!(left <= 4, "{left} files are left: killed processes leave more and more");
    Killed { n_saved: n_before, n_cut }
}

#[derive(Debug)]
struct Killed {
    n_saved: usize,
    /// Processes that were killed in the middle of a save.
    n_cut: usize,
}

#[test]
fn what_was_saved_survives_a_thousand_kills() {
    let killed: Vec<Killed> = std::thread::scope(|scope| {
        let threads = [0, 1].map(|half| {
            // A session each, in a new folder from time to time: a long one takes long to save.
            scope.spawn(move || (0..10).map(|round| kill(50, half * 500 + round * 50)).collect::<Vec<_>>())
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (n_saved, n_cut) = killed.iter().fold((0, 0), |(saved, cut), one| (saved + one.n_saved, cut + one.n_cut));
    assert!(n_saved > 100 && n_cut > 20, "the kills came too early: {n_saved} saves, {n_cut} cut short");
}

#[test]
fn a_full_disk_leaves_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    // No file may grow beyond 16 blocks; instead of a signal, writing fails.
    let (mut child, out) = start(folder.path(), "trap '' XFSZ; ulimit -f 16");
    assert!(child.wait().unwrap().success());
    let (n_saved, failure) = said(out);
    let failure = failure.unwrap();
    assert!(n_saved > 3 && failure.contains("grows.json: cannot be written: File too large"), "{n_saved}: {failure}");
    let store = Store::open(Some(folder.path())).unwrap();
    let mut session = open(&store);
    assert_eq!(n_whole_turns(&session), n_saved);
    // With room again, it goes on.
    session.transcript.push(Body::User(Question::new(text(n_saved))));
    session.save().unwrap();
    assert_eq!(n_whole_turns(&session), n_saved + 1);
    drop(session);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the session and its previous generation");
}

/// `cachalot sessions` on a folder.
fn sessions(folder: &Path, args: &[&str]) -> Ended {
    support::cachalot(&[&["sessions", "--folder", folder.to_str().unwrap()], args].concat())
}

/// Saves a session with a question and an answer.
fn keep(folder: &Path, name: &str, question: &str, content: &str) {
    let store = Store::open(Some(folder)).unwrap();
    let model = Model { path: "m.gguf".into(), name: Some("Model".into()), fingerprint: None };
    let mut session = store.create(Transcript::with_id(SessionId::parse(name).unwrap(), model)).unwrap();
    session.transcript.push(Body::User(Question::new(question)));
    let answer = Answer { content: content.into(), finish: Finish::EndOfAnswer, ..Answer::default() };
    session.transcript.push(Body::Assistant(answer));
    session.save().unwrap();
}

#[test]
fn sessions_are_listed_shown_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keep(folder, "20260101-1200-aaaa", "Why is \u{1b}[31mthe sky blue?", "It scatters.");
    keep(folder, "20260102-1200-bbbb", "And red?", "Dusk.");
    let list = sessions(folder, &["list"]);
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines[0].starts_with("session") && lines[1].starts_with("20260102-1200-bbbb"), "{}", list.stdout);
    assert!(lines[2].ends_with("Why is \\u{1b}[31mthe sky blue?"), "{}", list.stdout);
    let json: serde_json::Value = serde_json::from_str(&sessions(folder, &["list", "--json"]).stdout).unwrap();
    assert_eq!((&json[0]["id"], &json[0]["messages"]), (&"20260102-1200-bbbb".into(), &2.into()));

    let shown = sessions(folder, &["show", "latest"]);
    assert!(shown.stdout.ends_with("\n## User\n\nAnd red?\n\n## Assistant\n\nDusk.\n"), "{}", shown.stdout);
    assert_eq!(sessions(folder, &["show", "bb", "--markdown"]).stdout, shown.stdout);
    let json: serde_json::Value = serde_json::from_str(&sessions(folder, &["show", "bbbb", "--json"]).stdout).unwrap();
    assert_eq!(json["messages"][1]["content"], "Dusk.");

    assert_eq!(sessions(folder, &["path"]).stdout, format!("{}\n", folder.display()));
    for (args, code, says) in [
        (&["show", "nobody"][..], 66, "there is no session 'nobody'"),
        (&["show", "../x\u{7}"], 66, "there is no session '../x\\u{7}'"),
        (&["show", "2026"], 2, "'2026' may be 20260101-1200-aaaa or 20260102-1200-bbbb"),
        (&["rm", "aaaa", "nobody"], 66, "there is no session 'nobody'"),
        (&["rm"], 2, "required"),
        (&["rm", "--all", "aaaa"], 2, "cannot be used"),
    ] {
        let ended = sessions(folder, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{args:?}");
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(sessions(folder, &["rm", "aaaa"]).code, Some(0));
    assert_eq!(sessions(folder, &["list"]).stdout.lines().count(), 2);
    let store = Store::open(Some(folder)).unwrap();
    let held = store.resume("bbbb").unwrap();
    let ended = sessions(folder, &["rm", "--all"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is open in another process"), "{}", ended.stderr);
    drop(held);
    assert_eq!(sessions(folder, &["rm", "--all"]).code, Some(0));
    let empty = sessions(folder, &["list"]);
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), ""));
    assert_eq!(sessions(folder, &["show", "latest"]).code, Some(66));
}

#[test]
fn a_damaged_session_is_named_and_the_others_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keep(folder, "good", "x", "y");
    keep(folder, "bad", "x", "y");
    fs::write(folder.join("bad.json"), "{").unwrap();
    let list = sessions(folder, &["list"]);
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 2));
    assert!(list.stderr.contains("bad.json: damaged"), "{}", list.stderr);
    assert_eq!(sessions(folder, &["show", "bad"]).code, Some(65));
    assert_eq!(sessions(folder, &["rm", "bad"]).code, Some(0));
    assert_eq!(sessions(folder, &["list"]).stderr, "");
}

#[test]
fn the_folder_is_the_users_state() {
    let home = tempfile::tempdir().unwrap();
    let path = |state: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
        command.args(["sessions", "path"]).env("HOME", home.path()).env_remove("XDG_STATE_HOME");
        state.map(|state| command.env("XDG_STATE_HOME", state));
        support::run(&mut command).stdout
    };
    let expected = |folder: &Path| format!("{}\n", folder.join("cachalot/sessions").display());
    assert_eq!(path(None), expected(&home.path().join(".local/state")));
    let state = home.path().join("state");
    assert_eq!(path(Some(&state)), expected(&state));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "looking makes no folder");
}
