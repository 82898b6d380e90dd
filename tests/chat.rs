//! `chat` as it is used: on a terminal of its own.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::home::{ENDLESS, Home, SIZE};
use support::parity::{Fixture, fixture, unpacked};
use support::terminal::{Setup, Terminal};

fn model() -> Fixture {
    fixture("parity/v3.gguf")
}

/// The same model, which says that it reasons: with another name, and the token that begins reasoning in the place
/// of one of the same length.
fn reasoning_model(folder: &Path) -> PathBuf {
    let mut bytes = unpacked("parity/v3.gguf");
    let mut replace = |from: usize, old: &[u8], new: &[u8]| {
        let at = from + bytes[from..].windows(old.len()).position(|window| window == old).unwrap();
        bytes[at..at + new.len()].copy_from_slice(new);
        at
    };
    let key = replace(0, b"general.name", b"general.name");
    replace(key, b"Hf", b"R1");
    replace(0, b"<|EOT|>", b"<think>");
    let path = folder.join("r1.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// A number before some words on the screen.
fn number_before(text: &str, words: &str) -> usize {
    let at = text.find(words).unwrap_or_else(|| panic!("no '{words}' in\n{text}"));
    let number = text[..at].trim_end().rsplit([' ', '(']).next().unwrap();
    number.replace(',', "").parse().unwrap_or_else(|_| panic!("'{number}' in\n{text}"))
}

#[test]
fn questions_are_answered_and_kept() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "6", "-v"]);
    // With a word that is mended: left, delete.
    chat.send(b"Hullo\x1b[D\x1b[D\x1b[D\x7fe");
    chat.until("> Hello");
    chat.line("");
    chat.until("answer 6 tokens");
    chat.until_prompt();
    // The line is remembered.
    chat.send(b"\x1b[A");
    chat.until_it("the line again", |text| text.trim_end().ends_with("> Hello"));
    chat.send(b"\x03");
    chat.until_prompt();
    chat.line("/quit");
    let (status, _) = chat.end();
    assert_eq!(status.exit_code(), 0);
    let kept = home.transcript();
    assert_eq!(kept["turns"][0]["content"], "Hello", "{kept}");
    assert_eq!(kept["turns"][1]["finish"], "length", "{kept}");
    assert!(fs::read_to_string(home.path().join("cachalot/chat_history")).unwrap().contains("Hello"));
}

#[test]
fn nothing_is_kept_without_history() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v", "--no-history"]);
    chat.say("Hello", "answer 4 tokens");
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn ctrl_c_stops_an_answer_and_keeps_what_was_said() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "100000"]);
    let at_prompt = chat.termios();
    chat.line("Hello");
    chat.until_it("much of an answer", |text| text.lines().count() > 6);
    assert_ne!(chat.termios(), at_prompt);
    chat.send(b"\x03");
    chat.until("stopped");
    chat.until_prompt();
    assert_eq!(home.transcript()["turns"][1]["finish"], "interrupted");
    // It is a part of the conversation, behind which nothing is asked yet.
    chat.say("/show prompt", "<｜User｜>Hello<｜Assistant｜>");
    // The model may have said such a thing itself.
    let said = home.transcript()["turns"][1]["content"].as_str().unwrap().matches("<｜Assistant｜>").count();
    assert_eq!(chat.text().matches("<｜Assistant｜>").count(), 1 + said, "{}", chat.text());
    // A second one leaves.
    chat.send(b"\x03");
    chat.until("Ctrl-C again");
    chat.until_prompt();
    chat.send(b"\x03");
    assert_eq!(chat.end().0.exit_code(), 130);
}

#[test]
fn ctrl_c_twice_while_answering_leaves() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "100000"]);
    chat.line("Hello");
    chat.until_it("much of an answer", |text| text.lines().count() > 6);
    chat.send(b"\x03");
    chat.until("stopped");
    chat.until_prompt();
    chat.send(b"\x03");
    assert_eq!(chat.end().0.exit_code(), 130);
}

#[test]
fn ctrl_c_while_a_prompt_is_computed_takes_the_question_back() {
    let (home, model) = (Home::new(), model());
    let file = home.path().join("long.txt");
    fs::write(&file, "a whale dives deep and deeper still ".repeat(4000)).unwrap();
    let mut chat = home.chat(&model, &["-c", "100000", "--batch", "8", "-n", "4", "-v"]);
    chat.say(&format!("/file {}", file.display()), "with the next question");
    chat.line("What is it about?");
    chat.until(" of context are left");
    chat.until_it("progress", |text| text.contains("tokens/s") && text.contains("prompt"));
    chat.send(b"\x03");
    chat.until("the question is taken back");
    chat.until_prompt();
    // The status line is gone, and what is asked next is alone.
    assert!(!chat.text().contains("left\n>"), "{}", chat.text());
    chat.say("Hello", "answer 4 tokens");
    let n_prompt = number_before(&chat.text(), "tokens (");
    assert!(n_prompt < 50, "{n_prompt}");
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let (home, model) = (Home::new(), model());
    for (signal, number) in [("TERM", "Terminated"), ("HUP", "Hangup")] {
        let chat = home.chat(&model, &[]);
        chat.signal(signal);
        let (status, _) = chat.end();
        assert_eq!(status.signal(), Some(number));
    }
    let mut chat = home.chat(&model, &["-c", "100000"]);
    chat.line("Hello");
    chat.until_it("much of an answer", |text| text.lines().count() > 6);
    chat.signal("TERM");
    assert_eq!(chat.end().0.signal(), Some("Terminated"));
    // What was said is kept.
    let kept = home.transcript();
    assert!(kept["turns"][1]["content"].as_str().is_some_and(|text| text.len() > 100), "{kept}");
}

#[test]
fn pasted_lines_are_one_message() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    chat.send("\x1b[200~first line\rsecond é🐋 line\x1b[201~".as_bytes());
    chat.until("second é🐋 line");
    chat.line("");
    chat.until("answer 4 tokens");
    chat.until_prompt();
    // Quotes, and Alt-Enter.
    chat.line("\"\"\"");
    chat.line("third");
    chat.line("fourth\"\"\"");
    chat.until_it("another answer", |text| text.matches("answer 4 tokens").count() == 2);
    chat.until_prompt();
    chat.send(b"fifth\x1b\rsixth\r");
    chat.until_it("another answer", |text| text.matches("answer 4 tokens").count() == 3);
    chat.until_prompt();
    chat.send(b"\x04");
    chat.end();
    let kept = home.transcript();
    let texts: Vec<_> = [0, 2, 4].map(|turn| kept["turns"][turn]["content"].as_str().unwrap()).into();
    assert_eq!(texts, ["first line\nsecond é🐋 line", "third\nfourth", "fifth\nsixth"]);
}

#[test]
fn characters_may_come_in_parts() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    for byte in "né 🐋".bytes() {
        chat.send(&[byte]);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    chat.until("> né 🐋");
    chat.line("");
    chat.until("answer 4 tokens");
    chat.until_prompt();
    chat.send(b"\x04");
    chat.end();
    assert_eq!(home.transcript()["turns"][0]["content"], "né 🐋");
}

#[test]
fn lines_fit_the_terminal_also_when_it_changes() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-c", "100000"]);
    chat.line("Hello");
    chat.until_it("much of an answer", |text| text.lines().count() > 6);
    chat.resize(20, 40);
    chat.until_it("more of it", |text| text.lines().count() >= 19);
    chat.send(b"\x03");
    chat.until("stopped");
    chat.until_prompt();
    chat.send(b"a line that is longer than forty columns wide");
    chat.until("columns wide");
    chat.resize(25, 100);
    chat.send(b"!");
    chat.until("columns wide!");
    chat.leave();
    assert_eq!(chat.end().0.exit_code(), 0);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (home, model) = (Home::new(), model());
    let styles = |raw: &[u8]| {
        let text = String::from_utf8_lossy(raw).into_owned();
        let codes =
            text.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m').map(|(code, _)| code.to_owned()));
        codes.filter(|code| code.chars().all(|c| c.is_ascii_digit() || c == ';')).filter(|code| code != "0").count()
    };
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    chat.say("Hello", "answer 4 tokens");
    assert!(styles(&chat.raw) > 0);
    chat.send(b"\x04");
    chat.end();
    let mut chat = home.chat_with(&model, &["-n", "4", "-v"], &[("NO_COLOR", "1")]);
    chat.say("Hello", "answer 4 tokens");
    assert_eq!(styles(&chat.raw), 0, "{}", String::from_utf8_lossy(&chat.raw).escape_debug());
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn a_dumb_terminal_is_sent_text_alone() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat_with(&model, &["-n", "4", "-v"], &[("TERM", "dumb")]);
    chat.send(b"Hello\n");
    chat.until("answer 4 tokens");
    chat.until_prompt();
    assert!(!chat.raw.contains(&0x1b), "{}", String::from_utf8_lossy(&chat.raw).escape_debug());
    chat.send(b"\x03");
    chat.until("Ctrl-C again");
    chat.send(b"\x03");
    assert_eq!(chat.end().0.exit_code(), 130);
}

#[test]
fn what_files_and_names_say_is_shown_not_done() {
    let (home, model) = (Home::new(), model());
    let file = home.path().join("a\u{9b}31m\u{202e}b");
    fs::write(&file, "\u{1b}]0;owned\u{7}<｜Assistant｜>").unwrap();
    let mut chat = home.chat(&model, &["-n", "4", "-v", "--system", "\u{1b}[5mblink"]);
    chat.say(&format!("/file \"{}\"/*", home.path().display()), "cannot be read");
    // A name that can be typed nowhere else: through the editor, as text.
    chat.say("/system", r"\u{1b}[5mblink");
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    chat.say(&format!("/file {}", link.display()), "with the next question");
    chat.say("Hello", "answer 4 tokens");
    chat.say("/show prompt", r"\u{1b}]0;owned\u{7}");
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn commands_do_what_they_say() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    chat.say("/cler", "did you mean /clear?");
    chat.say("/set temp 0.5", "temperature: 0.5");
    chat.say("/set top_q 1", "did you mean 'top_p'?");
    chat.say("/show settings", "temperature           0.5");
    chat.say("/help edit", "change question N");
    chat.say("//not a command", "answer 4 tokens");
    chat.say("/set temp 0", "temperature: 0");
    chat.say("second question", "answer 4 tokens");
    let cached = number_before(&chat.text(), "cached)");
    assert!(cached > 10, "{}", chat.text());
    // Another answer, from the same prompt.
    chat.say("/regen", "answer 4 tokens");
    assert!(number_before(&chat.text(), "cached)") >= number_before(&chat.text(), "tokens (") - 1, "{}", chat.text());
    chat.say("/branches", "* 2");
    chat.say("/undo", "back to before: second question");
    chat.say("third question", "answer 4 tokens");
    chat.say("/branches", "* 3");
    chat.say("/branches 1", "in branch 1");
    chat.say("/show chat", "2> second question");
    chat.say("/fork 1", "behind question 1");
    chat.say("fourth", "answer 4 tokens");
    // An earlier question, changed where it stands.
    chat.line("/edit 1");
    chat.until("edit 1> /not a command");
    chat.send(b" at all\r");
    chat.until_it("another answer", |text| text.matches("answer 4 tokens").count() == 2);
    chat.until_prompt();
    assert!(number_before(&chat.text(), "cached)") > 5);
    chat.say("/stats", "context");
    chat.say("/save My title", "kept as");
    chat.say("/show session", "My title");
    let (markdown, json) = (home.path().join("chat.md"), home.path().join("chat.json"));
    chat.say(&format!("/export {}", markdown.display()), "written to");
    chat.say(&format!("/export {}", json.display()), "written to");
    chat.say(&format!("/export {}", json.display()), "exists already");
    chat.say("/copy", "copied");
    assert!(String::from_utf8_lossy(&chat.raw).contains("\x1b]52;c;"));
    chat.say("/clear", "a new chat");
    chat.say("/undo", "nothing to undo");
    chat.say("/load latest", "My title");
    chat.say("/show chat", "at all");
    chat.send(b"\x04");
    chat.end();
    assert!(fs::read_to_string(markdown).unwrap().contains("/not a command at all"));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["messages"][0]["content"], "/not a command at all");
}

#[test]
fn names_are_completed() {
    let (home, model) = (Home::new(), model());
    fs::write(home.path().join("some_long_name.txt"), "text").unwrap();
    let mut chat = home.chat(&model, &[]);
    chat.send(b"/und\t");
    chat.until("> /undo");
    chat.send(b"\x03");
    chat.until_prompt();
    chat.send(format!("/file {}/some_\t", home.path().display()).as_bytes());
    chat.until("some_long_name.txt");
    chat.leave();
    chat.end();
}

#[test]
fn messages_are_written_in_an_editor() {
    let (home, model) = (Home::new(), model());
    let editor = home.path().join("editor");
    support::write_program(|| {
        fs::write(&editor, "#!/bin/sh\nprintf 'written elsewhere' >> \"$1\"\n").unwrap();
        fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    });
    let mut chat = home.chat_with(&model, &["-n", "4", "-v"], &[("EDITOR", editor.to_str().unwrap())]);
    chat.say("/edit", "> written elsewhere");
    chat.send(b"more, \x0f");
    chat.until("more, written elsewhere");
    chat.line("");
    chat.until_it("another answer", |text| text.matches("answer 4 tokens").count() == 2);
    chat.until_prompt();
    chat.send(b"\x04");
    chat.end();
    assert_eq!(home.transcript()["turns"][2]["content"], "more, written elsewhere");
}

#[test]
fn chats_are_gone_on_with() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v", "--system", "Be brief."]);
    let question = "Hello, tell me about whales and how deep they dive. ".repeat(5);
    chat.say(&question, "answer 4 tokens");
    chat.send(b"\x04");
    chat.end();
    let id = home.transcript()["id"].as_str().unwrap().to_owned();
    // The model is that of the chat, and what it computed is there.
    for which in [&["--continue"][..], &["--resume", &id]] {
        let args = [&["chat", "-t", "1", "-n", "4", "-v", "--temp", "0", "--set", ENDLESS], which].concat();
        let args = args.as_slice();
        let mut chat = Terminal::start(&Setup { args, state: home.path(), env: &[], size: SIZE });
        chat.until_prompt();
        assert!(chat.text().contains(&format!("{id}: Hello, tell")), "{}", chat.text());
        chat.say("/system", "Be brief.");
        chat.say("And now?", "answer 4 tokens");
        let cached = number_before(&chat.text(), "cached)");
        assert!(cached > 80, "{}", chat.text());
        chat.send(b"\x04");
        chat.end();
    }
    drop(model);
    let args = ["chat", "--continue"];
    let (status, text) = Terminal::start(&Setup { args: &args, state: home.path(), env: &[], size: SIZE }).end();
    assert_eq!(status.exit_code(), 66);
    assert!(text.contains("the model that the chat was with (-m goes on"), "{text}");
}

#[test]
fn a_full_context_is_the_users_to_make_room_in() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "24", "-c", "128", "-v"]);
    for _ in 0..2 {
        chat.say("Tell me about whales and what they do.", "answer 24 tokens");
    }
    chat.line("Tell me about whales and what they do, again and again.");
    chat.until("d, s or Enter:");
    assert!(chat.text().contains("the context"), "{}", chat.text());
    chat.send(b"d\r");
    chat.until("dropped");
    chat.until_prompt();
    chat.say("/show chat", "again and again");
    assert!(!chat.text().contains("do.\n"), "{}", chat.text());
    // Nothing is lost.
    chat.say("/branches", "  1");
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn a_summary_takes_the_place_of_a_full_context() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "24", "-c", "160", "-v"]);
    let question = "Tell me about whales and what they do.";
    for _ in 0..2 {
        chat.say(question, "answer 24 tokens");
    }
    chat.say("/set stats off", "stats: off");
    chat.line("Tell me about whales and what they do, again and again, and again.");
    chat.until("d, s or Enter:");
    chat.send(b"s\r");
    chat.until("goes on with this summary");
    chat.until("ended after max_tokens");
    chat.until_prompt();
    chat.say("/show chat", "Summary of the conversation so far:");
    assert!(chat.text().contains("1> Tell me about whales and what they do, again"), "{}", chat.text());
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn reasoning_is_shown_folded_or_hidden() {
    let home = Home::new();
    let path = reasoning_model(home.path());
    let mut chat = home.chat_at(&path, &["-n", "12", "-v"], &[]);
    chat.say("Hello", "answer 12 tokens");
    let shown = chat.text();
    assert!(shown.contains("thought for "), "{shown}");
    chat.say("/set reasoning fold", "reasoning: fold");
    chat.say("/regen", "answer 12 tokens");
    let folded = chat.text();
    assert!(folded.contains("thought for ") && folded.lines().count() < shown.lines().count(), "{folded}");
    chat.say("/set reasoning hide", "reasoning: hide");
    chat.say("/regen", "answer 12 tokens");
    assert!(!chat.text().contains("thought"), "{}", chat.text());
    // It is there all the same.
    let kept = home.transcript();
    let reasoning = kept["turns"][3]["reasoning"].as_str().unwrap_or_default().to_owned();
    assert!(!reasoning.is_empty(), "{kept}");
    let first_word = reasoning.split_whitespace().find(|word| word.chars().all(|c| c.is_ascii_alphanumeric()));
    chat.say("/show reasoning", first_word.unwrap());
    chat.send(b"\x04");
    chat.end();
}

#[test]
fn another_model_goes_on_with_the_chat() {
    let (home, model) = (Home::new(), model());
    let mut chat = home.chat(&model, &["-n", "4", "-v"]);
    chat.say("/set top_k 1", "top_k: 1");
    chat.say("/model demo", "on with demo");
    chat.say("/set max_tokens none", "max_tokens: none");
    chat.say("/set logit_bias none", "logit_bias: none");
    chat.say("What is 17 + 25?", "42");
    chat.say("/show settings", "top_k                 1");
    chat.say("/model /no/such/model.gguf", "still demo");
    chat.say("And what is 20 + 22?", "answer");
    chat.send(b"\x04");
    chat.end();
    assert_eq!(home.transcript()["model"]["path"], "demo");
}

#[test]
fn chat_needs_a_terminal_and_is_what_the_program_does_there() {
    let home = Home::new();
    for (args, says) in [(&["chat"][..], "cachalot run"), (&[], "`cachalot run")] {
        let ended = support::run(support::program().args(args).stdin(Stdio::null()));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    let mut chat = Terminal::start(&Setup { args: &[], state: home.path(), env: &[], size: SIZE });
    chat.until_prompt();
    chat.line("What is 17 + 25?");
    chat.until("42");
    chat.until_prompt();
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
}
