//! `chat` and what a terminal does to it: keys that come together, suspension, names and texts that would steer it,
//! and being killed.

mod support;

use std::fs;
use support::home::{Home, SIZE};
use support::parity::{Fixture, fixture};
use support::terminal::{Setup, Terminal};

fn model() -> Fixture {
    fixture("parity/v3.gguf")
}

/// Nothing that the screen was sent steers it, but for what the program sends itself.
fn assert_harmless(chat: &Terminal, forbidden: &str) {
    let raw = String::from_utf8_lossy(&chat.raw);
    assert!(!raw.contains(forbidden), "{}", raw.escape_debug());
}

#[test]
fn keys_that_come_with_ctrl_c_are_not_lost() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "100000"]);
    // While a line is edited: what stood in it goes, what comes behind stays.
    chat.send(b"nothing\x03/show session\r");
    chat.until("kept once something is said");
    chat.until_prompt();
    // On an empty line.
    chat.send(b"\x03/show files\r");
    chat.until("nothing goes with the next question");
    chat.until_prompt();
    // Before an answer comes, or while it does.
    chat.line("Hello");
    chat.until("Hello\n");
    chat.send(b"\x03/system\r");
    chat.until("the model is told nothing first");
    chat.until_prompt();
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
}

#[test]
fn a_suspended_chat_goes_on() {
    let (home, model) = (Home::new(), model());
    let args = ["--norc", "--noprofile", "-i"];
    let env = [("PS1", "shell$ "), ("HISTFILE", "")];
    let setup = Setup { args: &args, state: home.path(), env: &env, size: SIZE };
    let mut shell = Terminal::start_program("bash", &setup);
    shell.until("shell$ ");
    let (program, path) = (env!("CARGO_BIN_EXE_cachalot"), model.path.display());
    shell.line(&format!("clear; {program} chat {path} -t 1 -n 4 -v"));
    shell.until("Ctrl-D leaves");
    shell.until_prompt();
    for text in ["half a ", "question"] {
        shell.send(text.as_bytes());
        shell.until(text.trim());
        shell.send(b"\x1a");
        shell.until("Stopped");
        // The shell's line is its own.
        shell.line("clear; echo in the $((40 + 2))nd shell");
        shell.until("in the 42nd shell");
        shell.line("clear; fg");
        shell.until_it("the line again", |text| text.lines().last().is_some_and(|line| line.starts_with("> half a")));
    }
    shell.line("");
    shell.until("answer 4 tokens");
    shell.until_prompt();
    shell.send(b"\x04");
    shell.until_it("the shell", |text| text.trim_end().ends_with("shell$"));
    shell.line("echo ended with $?");
    shell.until("ended with 0");
    shell.line("exit");
    shell.end();
    assert_eq!(home.transcript()["turns"][0]["content"], "half a question");
}

#[test]
fn names_and_lines_cannot_steer_the_terminal() {
    let (home, model) = (Home::new(), model());
    let folder = home.path().join("files");
    fs::create_dir(&folder).unwrap();
    for name in ["evil\u{1b}[5mname", "evil\u{9b}5mname", "evil_good"] {
        fs::write(folder.join(name), "text").unwrap();
    }
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    // Of the names, one can be shown.
    chat.send(format!("/file {}/evil\t", folder.display()).as_bytes());
    chat.until("evil_good");
    assert_harmless(&chat, "\u{1b}[5m");
    chat.send(b"\x03");
    chat.until_prompt();
    // What is pasted is shown as it can be, and sent as it is.
    chat.send("\x1b[200~paste\x1b]0;owned\x07\u{9b}5m end\x1b[201~".as_bytes());
    chat.until("paste?]0;owned?");
    chat.line("");
    chat.until("answer 4 tokens");
    chat.until_prompt();
    // And so is a question that is edited.
    chat.line("/edit 1");
    chat.until("edit 1> paste?]0;owned?");
    chat.send(b"\x03\x03");
    chat.until_prompt();
    for forbidden in ["\u{1b}]0;owned", "\u{9b}5m"] {
        assert_harmless(&chat, forbidden);
    }
    chat.send(b"\x04");
    chat.end();
    assert_eq!(home.transcript()["turns"][0]["content"], "paste\u{1b}]0;owned\u{7}\u{9b}5m end");
}

#[test]
fn notes_are_broken_between_words() {
    let (home, model) = (Home::new(), model());
    let path = model.path.to_str().unwrap();
    let args = ["chat", path, "-t", "1", "-n", "4", "--no-history"];
    let mut chat = Terminal::start(&Setup { args: &args, state: home.path(), env: &[], size: (30, 44) });
    chat.until_prompt();
    // Short words in a line as wide as the terminal: none is cut.
    let words: Vec<String> = chat.text().split_whitespace().map(str::to_owned).collect();
    for word in ["context.", "commands,", "leaves."] {
        assert!(words.iter().any(|found| found == word), "{word} in\n{}", chat.text());
    }
    chat.line("/cleer");
    chat.until("sent as //...)");
    let message = chat.text();
    assert!(message.lines().any(|line| line.starts_with("cachalot: there is no command /cleer; did")), "{message}");
    assert!(message.contains("message that"), "{message}");
    chat.until_prompt();
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn commands_may_be_shortened_and_are_then_named() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4"]);
    chat.say("/hel regen", "/help\n/regen : answer the last question again");
    chat.say("/sy", "/system\n");
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn a_question_and_the_beginning_of_its_answer_survive_a_kill() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "100000"]);
    chat.line("Hello there");
    chat.until_it("some of an answer", |text| text.lines().count() > 6);
    chat.signal("KILL");
    chat.killed();
    let kept = home.transcript();
    assert_eq!(kept["turns"][0]["content"], "Hello there", "{kept}");
    assert_eq!(kept["turns"][1]["finish"], "interrupted", "{kept}");
    assert!(!kept["turns"][1]["content"].as_str().unwrap().is_empty(), "{kept}");
}

#[test]
fn a_question_without_an_answer_is_kept_and_shown() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "200", "-n", "8", "-v"]);
    let question = "Tell me about whales and what they do. ".repeat(3);
    for _ in 0..2 {
        chat.say(&question, "answer 8 tokens");
    }
    chat.line(&"Tell me about whales and what they do. ".repeat(8));
    chat.until("d, s or Enter:");
    // The menu waits: the question is on the disk.
    let kept = home.transcript();
    assert_eq!(kept["turns"].as_array().unwrap().len(), 5, "{kept}");
    chat.signal("KILL");
    chat.killed();
    let args = ["chat", "-t", "1", "-c", "200", "-n", "8", "--continue"];
    let mut chat = Terminal::start(&Setup { args: &args, state: home.path(), env: &[], size: SIZE });
    chat.until("this question has no answer: /regen asks it again");
    chat.until_prompt();
    // The last exchange, and the question behind it.
    let shown = chat.text();
    assert!(shown.contains("2> Tell me") && shown.contains("3> Tell me") && !shown.contains("1> Tell me"), "{shown}");
    chat.say("/show chat", "this question has no answer");
    assert!(chat.text().contains("1> Tell me") && chat.text().contains("3> Tell me"), "{}", chat.text());
    // Ctrl-D leaves where there is no room, also after Ctrl-C.
    chat.line("/regen");
    chat.until("d, s or Enter:");
    chat.send(b"\x03");
    chat.until("Ctrl-C again, or Ctrl-D, leaves");
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
}

#[test]
fn a_file_that_does_not_fit_is_refused_when_it_is_named() {
    let (home, model) = (Home::new(), model());
    let (long, short) = (home.path().join("long.txt"), home.path().join("short.txt"));
    fs::write(&long, "a whale dives deep ".repeat(100)).unwrap();
    fs::write(&short, "a whale").unwrap();
    let mut chat = home.chat(&model, &["-c", "200", "-n", "4"]);
    chat.say(&format!("/file {} {}", short.display(), long.display()), "do not fit into the context of 200");
    chat.say("/show files", "nothing goes with the next question");
    chat.say("/file -x -", "cannot be read");
    chat.say("/search -", "standard input is where you type");
    chat.send(b"\x04");
    chat.end();
}
