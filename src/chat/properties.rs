//! What must hold for every conversation and every answer, tried on generated ones.
//!
//! The normal run tries 10,000 of each; `PROPTEST_CASES` asks for more.

use super::jinja::{FileTemplate, SpecialTokens};
use super::official::{File, with_files};
use super::search::{SearchResult, with_results};
use super::*;
use crate::tokenizer::Segment;
use proptest::collection::vec;
use proptest::prelude::*;

/// Texts that would be control tokens if anything here mistook them for such.
const TOKENS: [&str; 18] = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "<｜fim▁begin｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁end｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
];

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Text made to be mistaken: tokens, parts of tokens, markers of the Jinja path, quotes, white space.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(&TOKENS[..]).prop_map(str::to_owned),
        1 => prop::sample::select(&TOKENS[..]).prop_map(|token| token.chars().skip(1).collect()),
        1 => prop::sample::select(&TOKENS[..]).prop_map(|token| token.chars().take(4).collect()),
        1 => prop::sample::select(vec!["\u{f0000}", "\u{f0001}", "\u{f0000}0.0\u{f0001}", "{{ bos_token }}", "{% if %}", "\"", "\\"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["\n", " ", "\u{3000}", "\n\n", "```", "{}", "\u{0}"]).prop_map(str::to_owned),
        2 => "[a-z｜▁<>/é你]{0,6}",
    ];
    vec(part, 0..4).prop_map(|parts| parts.concat())
}

/// A conversation with every field hostile, and the same one with every field harmless.
///
/// Fields that are empty stay empty, for that may change the shape of a prompt.
#[derive(Debug, Clone)]
struct Pair {
    hostile: Conversation,
    harmless: Conversation,
}

fn harmless(text: &str) -> String {
    if text.is_empty() { String::new() } else { "x".to_owned() }
}

fn assistant(harm: bool, reasoning: &Option<String>, content: &str, calls: &[(String, String)]) -> Message {
    let text = |text: &str| if harm { text.to_owned() } else { harmless(text) };
    let call =
        |(name, arguments): &(String, String)| ToolCall { id: None, name: text(name), arguments: text(arguments) };
    Message::Assistant(Assistant {
        reasoning: reasoning.as_deref().map(text),
        content: text(content),
        tool_calls: calls.iter().map(call).collect(),
    })
}

fn tool(harm: bool, name: &str, description: &str, field: &str) -> Tool {
    let text = |text: &str| if harm { text.to_owned() } else { harmless(text) };
    let name = format!("f{}", text(name));
    let field = format!("f{}", text(field));
    let parameters = serde_json::json!({
        "type": "object", "properties": {&field: {"type": "string", "enum": [&field]}}, "required": [&field],
    });
    let definition = serde_json::json!({"name": name, "description": text(description), "parameters": parameters});
    serde_json::from_value(definition).expect("a well-formed tool")
}

type Turn = (u8, String, Option<String>, Vec<(String, String)>);

fn pair(tools_allowed: bool) -> impl Strategy<Value = Pair> {
    let turn = (0u8..4, hostile(), prop::option::of(hostile()), vec((hostile(), hostile()), 0..3));
    let tools = vec((hostile(), hostile(), hostile()), 0..3);
    (vec(turn, 1..6), tools).prop_map(move |(turns, tools)| {
        let build = |harm: bool| {
            let mut conversation = Conversation::default();
            turns.iter().for_each(|turn| add_turn(&mut conversation, turn, harm, tools_allowed));
            if tools_allowed {
                conversation.tools = tools.iter().map(|(a, b, c)| tool(harm, a, b, c)).collect();
            }
            conversation
        };
        Pair { hostile: build(true), harmless: build(false) }
    })
}

fn add_turn(conversation: &mut Conversation, turn: &Turn, harm: bool, tools_allowed: bool) {
    let (kind, content, reasoning, calls) = turn;
    let text = |text: &str| if harm { text.to_owned() } else { harmless(text) };
    let calls = if tools_allowed { calls.as_slice() } else { &[] };
    let messages = &mut conversation.messages;
    match kind {
        0 => messages.push(Message::System(text(content))),
        1 => messages.push(Message::User(text(content))),
        2 => messages.push(assistant(harm, reasoning, content, &[])),
        _ => {
            messages.push(assistant(harm, reasoning, content, calls));
            // The results say what the calls did: hostile too.
            let result = |(_, arguments): &(String, String)| ToolResult { call_id: None, content: text(arguments) };
            messages.extend(calls.iter().map(result).map(Message::Tool));
        }
    }
}

fn controls(prompt: &Prompt) -> Vec<String> {
    let control = |segment: &Segment| match segment {
        Segment::Control(token) => Some(token.to_string()),
        Segment::Content(_) => None,
    };
    prompt.segments().iter().filter_map(control).collect()
}

/// In a reasoning model's history, the tags in its answers are its own.
fn has_tags_in_answers(conversation: &Conversation) -> bool {
    let has_tag = |text: &str| text.contains("<think>") || text.contains("</think>");
    conversation.messages.iter().any(|message| matches!(message, Message::Assistant(a) if has_tag(&a.content)))
}

fn without_tags(controls: Vec<String>) -> Vec<String> {
    controls.into_iter().filter(|token| token != "<think>" && token != "</think>").collect()
}

/// A client may hand back raw answers with `<think>`: what is continued there is the model's own.
fn continues_raw_reasoning(conversation: &Conversation) -> bool {
    matches!(conversation.messages.last(), Some(Message::Assistant(last)) if last.content.starts_with("<think>"))
}

/// A template that uses all that templates may do with content.
const TEMPLATE: &str = "{{ bos_token }}\
{% for tool in tools %}{{ tool | tojson }}{{ tool.function.name }}{% endfor %}\
{% for m in messages %}{{ '<｜User｜>' if m.role == 'user' else '<｜Assistant｜>' }}\
{% if m.content %}{{ m.content | trim }}{{ m.content + eos_token }}{% endif %}\
{% for call in m.tool_calls %}<｜tool▁call▁begin｜>{{ call.function.name }}<｜tool▁sep｜>{{ call.function.arguments }}\
{{ call | tojson }}<｜tool▁call▁end｜>{% endfor %}{% endfor %}";

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_family_lets_content_become_a_control_token(
        with_tools in pair(true), plain in pair(false), thinking: bool, go_on: bool,
    ) {
        let ending = if go_on { Ending::Continue } else { Ending::Answer };
        for family in Family::ALL {
            let pair = if family.has_tools() { &with_tools } else { &plain };
            let thinking = (family.thinking() == Thinking::OnRequest).then_some(thinking);
            let options = Options { thinking, ending };
            match (family.prompt(&pair.hostile, options), family.prompt(&pair.harmless, options)) {
                (Ok(_), Ok(_)) if go_on && family.thinking() != Thinking::Never && continues_raw_reasoning(&pair.hostile) => {}
                (Ok(hostile), Ok(harmless))
                    if family.thinking() != Thinking::Never && has_tags_in_answers(&pair.hostile) =>
                {
                    prop_assert_eq!(without_tags(controls(&hostile)), without_tags(controls(&harmless)), "{:?}", family);
                }
                // Dropping reasoning may leave an empty answer, which changes no control token.
                (Ok(hostile), Ok(harmless)) => prop_assert_eq!(controls(&hostile), controls(&harmless), "{:?}", family),
                (hostile, harmless) => prop_assert_eq!(hostile.is_err(), harmless.is_err()),
            }
        }
    }

    #[test]
    fn no_file_template_lets_content_become_a_control_token(pair in pair(true)) {
        let tokens = SpecialTokens { bos: TOKENS[0], eos: TOKENS[1], all: &TOKENS };
        let template = FileTemplate::new(TEMPLATE, tokens).expect("a template that parses");
        // White space is empty to a trimming template, so only the rest must be harmless alike.
        if let (Ok(hostile), Ok(harmless)) = (
            template.prompt(&pair.hostile, Options::default()),
            template.prompt(&pair.harmless, Options::default()),
        ) {
            prop_assert_eq!(controls(&hostile), controls(&harmless));
        } else {
            prop_assert!(false, "the template was refused");
        }
    }

    #[test]
    fn files_results_and_gaps_stay_content(a in hostile(), b in hostile(), c in hostile()) {
        let files = with_files(&[File { name: &a, content: &b }], &c);
        let result = SearchResult { title: Some(a.clone()), url: Some(b.clone()), date: None, content: c.clone() };
        let search = with_results(&[result], &a, jiff::civil::date(2025, 3, 24));
        for text in [files, search] {
            let prompt = Family::V3.prompt(&Conversation::new(vec![Message::User(text.clone())]), Options::default()).unwrap();
            prop_assert_eq!(controls(&prompt), ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]);
            prop_assert!(prompt.segments().contains(&Segment::Content(text)));
        }
        let fim = fim(&a, &b);
        prop_assert_eq!(controls(&fim), ["<｜begin▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]);
    }
}

/// A piece of an answer: text, or a control token.
#[derive(Debug, Clone)]
enum Generated {
    Text(String),
    Control(&'static str),
}

fn generated() -> impl Strategy<Value = Vec<Generated>> {
    let control = prop::sample::select(vec![
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁sep｜>",
        "<think>",
        "</think>",
        "<｜User｜>",
    ]);
    let text = prop::sample::select(vec![
        "WORD",
        "WORD",
        "WORD\n{\"a\": \"WORD\"}",
        "WORD\n```json\n{\"WORD\": 1}\n```",
        "{}",
        "{\"a\": \"}`\"",
        "function",
        "\n",
        "\n\n",
        " ",
        "<think>",
        "</think>",
        "</thi",
        "<",
        "```",
        "{\"b\": {\"WORD\": \"\\\"\"}}",
        "\"}",
    ]);
    let piece =
        prop_oneof![control.prop_map(Generated::Control), text.prop_map(|text| Generated::Text(text.to_owned()))];
    vec(piece, 0..16).prop_map(|mut pieces| {
        // Numbered words, so that a loss, a repetition and a change of order all show.
        let mut number = 0;
        for piece in &mut pieces {
            while let Generated::Text(text) = piece
                && text.contains("WORD")
            {
                *text = text.replacen("WORD", &format!("w{number}w"), 1);
                number += 1;
            }
        }
        pieces
    })
}

fn expects() -> impl Strategy<Value = Expects> {
    prop::sample::select(vec![Expects::Answer, Expects::Reasoning, Expects::MoreReasoning, Expects::Either])
}

/// The numbers of the words in a text. Words may touch where a marker between them was dropped.
fn words(text: &str) -> Vec<&str> {
    text.split('w').filter(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit())).collect()
}

/// Neighbours joined, as a client does that shows text as it comes.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Reasoning(last)), Event::Reasoning(text)) => last.push_str(&text),
            (Some(Event::Content(last)), Event::Content(text)) => last.push_str(&text),
            (Some(Event::Arguments(last)), Event::Arguments(text)) => last.push_str(&text),
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn parse<'a>(expects: Expects, pieces: impl IntoIterator<Item = Piece<'a>>) -> Vec<Event> {
    let mut parser = Parser::new(expects);
    let mut events: Vec<Event> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish());
    joined(events)
}

/// Neighbouring texts as one, so that a cut at a piece's end is a cut like any other.
fn whole(pieces: &[Generated]) -> Vec<Generated> {
    let mut whole: Vec<Generated> = Vec::new();
    for piece in pieces {
        match (whole.last_mut(), piece) {
            (Some(Generated::Text(last)), Generated::Text(text)) => last.push_str(text),
            _ => whole.push(piece.clone()),
        }
    }
    whole
}

fn as_piece(generated: &Generated) -> Piece<'_> {
    match generated {
        Generated::Text(text) => Piece::Text(text),
        Generated::Control(token) => Piece::Control(token),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_answer_does_not_depend_on_how_it_is_cut(pieces in generated(), expects in expects()) {
        let whole = whole(&pieces);
        let expected = parse(expects, whole.iter().map(as_piece));
        prop_assert_eq!(&parse(expects, pieces.iter().map(as_piece)), &expected);

        let mut parser = Parser::new(expects);
        let mut events = Vec::new();
        for piece in &pieces {
            match piece {
                Generated::Control(token) => events.extend(parser.push(Piece::Control(token))),
                Generated::Text(text) => {
                    for c in text.chars() {
                        events.extend(parser.push(Piece::Text(c.encode_utf8(&mut [0; 4]))));
                    }
                }
            }
        }
        events.extend(parser.finish());
        prop_assert_eq!(joined(events), expected);
    }

    #[test]
    fn an_answer_loses_no_text(pieces in generated(), expects in expects()) {
        let given: String = pieces.iter().map(|piece| match as_piece(piece) {
            Piece::Text(text) | Piece::Control(text) => text.to_owned(),
        }).collect();
        let mut returned = String::new();
        for event in parse(expects, pieces.iter().map(as_piece)) {
            match event {
                Event::CallBegun { .. } | Event::Arguments(_) => {}
                Event::Reasoning(text) | Event::Content(text) | Event::Malformed { text, .. } => returned.push_str(&text),
                Event::ToolCall { name, arguments } => {
                    prop_assert!(serde_json::from_str::<serde_json::Map<_, _>>(&arguments).is_ok(), "{}", arguments);
                    returned.push_str(&format!(" {name} {arguments} "));
                }
            }
        }
        prop_assert_eq!(words(&returned), words(&given), "{:?}", pieces);
        // All that may be missing is the frame: markers, tags, fences, types, white space.
        let mut frame = given.clone();
        for part in TOKENS.iter().filter(|token| !returned.contains(**token)).copied().chain(["json", "function", "```"]) {
            frame = frame.replace(part, "");
        }
        let bare = |text: &str| text.chars().filter(|c| matches!(c, '{' | '}' | '"' | ':')).count();
        prop_assert_eq!(bare(&returned), bare(&frame));
    }

    /// Whoever is told of a call as it grows has the same in the end; and nothing that looks whole where it becomes none.
    #[test]
    fn calls_grow_into_what_they_are(pieces in generated(), expects in expects(), limit in 0_usize..40) {
        let mut begun: Option<(String, String)> = None;
        for event in parse(expects, pieces.iter().map(as_piece)) {
            match event {
                Event::CallBegun { name } => prop_assert_eq!(begun.replace((name, String::new())), None),
                Event::Arguments(text) => begun.as_mut().unwrap().1.push_str(&text),
                Event::ToolCall { name, arguments } => prop_assert_eq!(begun.take(), Some((name, arguments))),
                Event::Malformed { text, .. } => if let Some((name, arguments)) = begun.take() {
                    prop_assert!(text.contains(&name) && text.contains(&arguments), "{} {}", text, arguments);
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&arguments).is_err(), "{}", arguments);
                },
                Event::Reasoning(_) | Event::Content(_) => prop_assert_eq!(&begun, &None),
            }
        }
        prop_assert_eq!(&begun, &None);

        let mut parser = Parser::new(expects);
        let mut events: Vec<Event> = pieces.iter().take(limit).flat_map(|piece| parser.push(as_piece(piece))).collect();
        let (last, cut) = parser.cut();
        events.extend(last);
        let n = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        let n_begun = n(|event| matches!(event, Event::CallBegun { .. }));
        let n_whole = n(|event| matches!(event, Event::ToolCall { .. }));
        match cut {
            None => prop_assert!(n_begun >= n_whole),
            Some(call) => {
                prop_assert!(n_begun > n_whole && serde_json::from_str::<serde_json::Value>(&call.arguments).is_err());
                let told = joined(events).pop();
                prop_assert_eq!(told, Some(Event::Arguments(call.arguments)));
            }
        }
    }
}
