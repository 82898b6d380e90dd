//! Text to the clipboard: through the terminal, which is where the user is, and through a program if there is one.

use super::terminal::{Abilities, aside};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::process::{Command, Stdio};

/// Terminals take no more, or less, by OSC 52.
const MAX_BYTES: usize = 74_994;

/// Programs that take text for the clipboard, and the variable that says that they can reach one.
const PROGRAMS: [(&str, &[&str], Option<&str>); 4] = [
    ("wl-copy", &[], Some("WAYLAND_DISPLAY")),
    ("xclip", &["-selection", "clipboard"], Some("DISPLAY")),
    ("xsel", &["--clipboard", "--input"], Some("DISPLAY")),
    ("pbcopy", &[], None),
];

/// Copies the text; says by which ways.
pub(super) fn copy(text: &str, abilities: Abilities) -> Result<String, String> {
    let by_program = PROGRAMS.iter().find(|(program, arguments, display)| {
        let has_display = display.is_none_or(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        has_display && give(program, arguments, text)
    });
    let by_terminal = abilities.moves && text.len() <= MAX_BYTES;
    if by_terminal {
        aside(&format!("\u{1b}]52;c;{}\u{7}", STANDARD.encode(text)));
    }
    match (by_program, by_terminal) {
        (Some((program, ..)), _) => Ok(format!("copied with {program}")),
        (None, true) => Ok("copied, if the terminal allows it (OSC 52)".to_owned()),
        (None, false) if abilities.moves => {
            Err(format!("{} bytes are too many for the terminal; /export writes them to a file", text.len()))
        }
        (None, false) => Err("this terminal has no clipboard, and no clipboard program is there".to_owned()),
    }
}

fn give(program: &str, arguments: &[&str], text: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let is_given = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(text.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| status.success()) && is_given
}

/// The last piece of fenced code in Markdown.
pub(super) fn last_code(markdown: &str) -> Option<String> {
    use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
    let mut last = None;
    let mut open: Option<String> = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => open = Some(String::new()),
            Event::Text(text) => open.iter_mut().for_each(|code| code.push_str(&text)),
            Event::End(TagEnd::CodeBlock) => last = open.take().or(last),
            _ => {}
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_code_is_found() {
        let text = "a\n```rust\none\n```\n- b\n  ```\n  two\n  three\n  ```\nend `x`";
        assert_eq!(last_code(text).as_deref(), Some("two\nthree\n"));
        assert_eq!(last_code("no code"), None);
    }
}
