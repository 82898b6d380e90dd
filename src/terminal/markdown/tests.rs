use super::*;
use insta::assert_snapshot;

fn look(columns: usize, styled: bool) -> Look {
    Look { columns, styled, base: Style::new() }
}

/// All lines of a text, in plain text.
fn shown(text: &str, columns: usize, styled: bool) -> String {
    let mut document = Document::new(look(columns, styled));
    let mut lines = document.push(text).done;
    lines.extend(document.finish().done);
    lines.iter().map(|line| line.text().trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// With the styles, as they are sent.
fn sent(text: &str) -> String {
    let mut document = Document::new(look(60, true));
    let mut lines = document.push(text).done;
    lines.extend(document.finish().done);
    let mut out = String::new();
    for line in lines {
        line.write(true, &mut out);
        out.push('\n');
    }
    out.replace('\u{1b}', "␛")
}

#[test]
fn blocks() {
    let text = "# Title\nText of the first\nparagraph, which is long enough to be broken.\n\n## Part\n\n---\n\n> quoted\n> > twice\n>\n> again\n\nEnd.";
    assert_snapshot!(shown(text, 40, true), @r"
    Title
    Text of the first paragraph, which is
    long enough to be broken.

    Part

    ────────────────────────────────────────

    │ quoted
    │ │ twice
    │
    │ again

    End.
    ");
}

#[test]
fn lists() {
    let text = "Before:\n- one\n- two, and more of it than fits\n  1. deep\n  2. deeper\n     - deepest\n\n- [x] done\n\n7. seven\n8.\n9. nine\n\n   still nine";
    assert_snapshot!(shown(text, 24, true), @r"
    Before:
    • one
    • two, and more of it
      than fits
      1. deep
      2. deeper
         • deepest

    • [x] done

    7. seven
    8.
    9. nine

       still nine
    ");
}

#[test]
fn code() {
    let text = "So:\n\n```rust\nfn f() {\n\tg(1);\n}\n\n```\n\n- item\n  ```\n  x\n  ```\n\n    indented";
    assert_snapshot!(shown(text, 30, true), @r"
    So:

    ─── rust
    fn f() {
        g(1);
    }

    ───

    • item
      ───
      x
      ───

      indented
    ");
}

#[test]
fn tables() {
    let text =
        "| name | depth in metres | note |\n|:-----|------:|:--:|\n| sperm whale | **2250** | a |\n| 鲸 | 1 | |\n";
    assert_snapshot!(shown(text, 60, true), @r"
    name        │ depth in metres │ note
    ────────────┼─────────────────┼─────
    sperm whale │            2250 │  a
    鲸          │               1 │
    ");
    assert_snapshot!(shown(text, 28, true), @r"
    name      │  depth in │ note
              │    metres │
    ──────────┼───────────┼─────
    sperm     │      2250 │  a
    whale     │           │
    鲸        │         1 │
    ");
}

#[test]
fn inline() {
    let text = "**Bold**, *slanted*, ***both***, `code`, ~~gone~~, [a page](https://a.example/x), <https://b.example>, \
        \\(x_1\\), $a_1*b*$, 2 * 3, snake_case, a\\*b, &amp; <b>.";
    assert_snapshot!(sent(text), @r#"
    ␛[1mBold␛[0m, ␛[3mslanted␛[0m, ␛[1m␛[3mboth␛[0m, ␛[36mcode␛[0m, ␛[9mgone␛[0m, ␛[4ma page␛[0m
    ␛[2m(https://a.example/x)␛[0m, ␛[4mhttps://b.example␛[0m, \(x_1\), $a_1*b*$,
    2 * 3, snake_case, a*b, & <b>.
    "#);
    assert_snapshot!(shown(text, 200, false), @r"**Bold**, *slanted*, ***both***, `code`, ~~gone~~, a page (https://a.example/x), https://b.example, \(x_1\), $a_1*b*$, 2 * 3, snake_case, a*b, & <b>.");
}

#[test]
fn code_in_colours() {
    assert_snapshot!(sent("```py\ndef f(x):  # why\n    return \"s\"\n```"), @r#"
    ␛[2m─── py␛[0m
    ␛[35mdef␛[0m ␛[34mf␛[0m(x):  ␛[90m# why␛[0m
        ␛[35mreturn␛[0m ␛[32m"s"␛[0m
    ␛[2m───␛[0m
    "#);
}

#[test]
fn what_steers_a_terminal_does_not() {
    let evil = "a\u{1b}]0;t\u{7} `\u{9b}31m` [l\u{202e}](http://\u{1b}[2J)\n\n```\u{1b}c\n\u{1b}[H\n```\n&#27;[1m &#x9b; <\u{1b}>";
    let styled = sent(evil);
    for (at, _) in styled.match_indices('␛') {
        let ours = ["␛[1m", "␛[2m", "␛[0m", "␛[4m", "␛[36m"];
        assert!(ours.iter().any(|ours| styled[at..].starts_with(ours)), "{}", &styled[at..]);
    }
    assert!(!styled.chars().any(|c| c != '\n' && crate::text::steers_terminal(c)), "{styled}");
    assert_snapshot!(shown(evil, 80, true), @r#"
    a\u{1b}]0;t\u{7} \u{9b}31m l\u{202e} (http://\u{1b}[2J)

    ─── \u
    \u{1b}[H
    ───
    \u{1b}[1m \u{9b} <\u{1b}>
    "#);
}

#[test]
fn line_ends_of_other_systems_are_line_ends() {
    assert_eq!(shown("- a\r\n- b\r\n", 20, true), "• a\n• b");
    let mut document = Document::new(look(20, true));
    for piece in ["- a\r", "\n- b", "\r", "c\r"] {
        document.push(piece);
    }
    let lines: Vec<String> = document.finish().done.iter().map(Line::text).collect();
    assert_eq!(lines, ["• a", "• b\\rc\\r"]);
}

#[test]
fn blocks_are_done_when_another_begins() {
    let mut document = Document::new(look(30, true));
    let mut steps = Vec::new();
    for piece in ["One **bo", "ld** word", ".\n", "\n", "- a", "\n- b\n", "\nTwo", "\n--", "- x"] {
        let view = document.push(piece);
        let text = |lines: &[Line]| lines.iter().map(Line::text).collect::<Vec<_>>().join("/");
        steps.push(format!("{} | {}", text(&view.done), text(&view.live)));
    }
    assert_snapshot!(steps.join("\n"), @r#"
     | One bo
     | One bold word
     | One bold word.
     | One bold word.
    One bold word. | /• a
     | /• a/• b
    /• a/• b | /Two
     | /Two
     | /Two --- x
    "#);
}

#[test]
fn plain_text_is_only_broken() {
    let lines = plain_lines("**a** b\u{1b}\n# c", look(8, true));
    assert_eq!(lines.iter().map(Line::text).collect::<Vec<_>>(), ["**a**", "b\\u{1b}", "# c"]);
}
