//! Code in colours: those of the terminal's own palette, so that they suit its background.
//!
//! The grammars take some milliseconds to unpack, which happens when code is shown for the first time. Lines that
//! were coloured before are kept, because code that is being written is asked for again with each word.

use super::line::Span;
use anstyle::{AnsiColor, Style};
use std::str::FromStr;
use std::sync::LazyLock;
use syntect::highlighting::{
    Color, HighlightIterator, HighlightState, Highlighter, ScopeSelectors, StyleModifier, Theme, ThemeItem,
};
use syntect::parsing::{ParseState, ScopeStack, SyntaxReference, SyntaxSet};

/// Longer lines are data; they stay as they are.
const MAX_LINE: usize = 2000;

static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(SyntaxSet::load_defaults_newlines);
static THEME: LazyLock<Theme> = LazyLock::new(theme);

/// What is a colour of its own, by the names that grammars give to parts of code.
const SCOPES: [(&str, AnsiColor); 8] = [
    ("comment", AnsiColor::BrightBlack),
    ("string, punctuation.definition.string", AnsiColor::Green),
    ("constant, support.constant", AnsiColor::Yellow),
    ("keyword, storage.modifier, storage.type.function, storage.type.class", AnsiColor::Magenta),
    ("storage.type, support.type, entity.name.type, entity.name.class, support.class", AnsiColor::Cyan),
    ("entity.name.function, support.function, variable.function, meta.function-call variable", AnsiColor::Blue),
    ("entity.name.tag, markup.deleted", AnsiColor::Red),
    ("entity.other.attribute-name, markup.inserted", AnsiColor::Green),
];

/// Languages that are near enough to one that there is a grammar for.
const ALIASES: [(&str, &str); 10] = [
    ("typescript", "js"),
    ("ts", "js"),
    ("tsx", "js"),
    ("jsx", "js"),
    ("console", "sh"),
    ("shell", "sh"),
    ("jsonc", "json"),
    ("c++", "cpp"),
    ("golang", "go"),
    ("cuda", "cpp"),
];

/// The colours of the pieces of code in one block of text.
#[derive(Debug, Default)]
pub struct Colours(Vec<Cached>);

#[derive(Debug)]
struct Cached {
    language: String,
    lines: Vec<String>,
    spans: Vec<Vec<Span>>,
    /// Behind all lines but the last, which may still be written.
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    parse: ParseState,
    highlight: HighlightState,
}

impl Colours {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The lines of the piece of code with this number, in colours.
    pub fn of(&mut self, number: usize, language: &str, lines: &[String]) -> &[Vec<Span>] {
        let fits = self.0.get(number).is_some_and(|cached| cached.is_beginning_of(language, lines));
        if !fits {
            self.0.truncate(number);
            self.0.push(Cached::new(language));
        }
        let last = self.0.len() - 1;
        let cached = &mut self.0[number.min(last)];
        cached.extend(lines);
        &cached.spans
    }
}

impl Cached {
    fn new(language: &str) -> Cached {
        let state = syntax(language).map(State::new);
        Cached { language: language.to_owned(), lines: Vec::new(), spans: Vec::new(), state }
    }

    /// Whether what is kept is right for these lines: all but the last line, which is coloured anew.
    fn is_beginning_of(&self, language: &str, lines: &[String]) -> bool {
        self.language == language
            && lines.len() > self.lines.len()
            && lines.iter().zip(&self.lines).all(|(a, b)| a == b)
    }

    fn extend(&mut self, lines: &[String]) {
        self.spans.truncate(self.lines.len());
        let Some((last, whole)) = lines.split_last() else { return };
        for line in whole.iter().skip(self.lines.len()) {
            let spans = colour(self.state.as_mut(), line);
            self.lines.push(line.clone());
            self.spans.push(spans);
        }
        let spans = colour(self.state.clone().as_mut(), last);
        self.spans.push(spans);
    }
}

impl State {
    fn new(syntax: &SyntaxReference) -> State {
        let highlighter = Highlighter::new(&THEME);
        State { parse: ParseState::new(syntax), highlight: HighlightState::new(&highlighter, ScopeStack::new()) }
    }
}

fn colour(state: Option<&mut State>, line: &str) -> Vec<Span> {
    let plain = || vec![Span::plain(line)];
    let Some(state) = state.filter(|_| line.len() <= MAX_LINE) else { return plain() };
    let with_end = format!("{line}\n");
    let Ok(ops) = state.parse.parse_line(&with_end, &SYNTAXES) else { return plain() };
    let highlighter = Highlighter::new(&THEME);
    HighlightIterator::new(&mut state.highlight, &ops, &with_end, &highlighter)
        .map(|(style, text)| Span::new(text.trim_end_matches('\n'), ansi(style.foreground)))
        .filter(|span| !span.text.is_empty())
        .collect()
}

fn syntax(language: &str) -> Option<&'static SyntaxReference> {
    if language.is_empty() {
        return None;
    }
    let language = language.to_ascii_lowercase();
    let name = ALIASES.iter().find(|(alias, _)| *alias == language).map_or(language.as_str(), |(_, name)| name);
    SYNTAXES.find_syntax_by_token(name)
}

/// A theme whose colours are numbers of the terminal's palette, kept in the red part.
fn theme() -> Theme {
    let item = |(scopes, colour): &(&str, AnsiColor)| {
        let foreground = Color { r: *colour as u8, g: 0, b: 0, a: 1 };
        let style = StyleModifier { foreground: Some(foreground), background: None, font_style: None };
        ScopeSelectors::from_str(scopes).ok().map(|scope| ThemeItem { scope, style })
    };
    let mut theme = Theme { scopes: SCOPES.iter().filter_map(item).collect(), ..Theme::default() };
    theme.settings.foreground = Some(Color { r: 0, g: 0, b: 0, a: 0 });
    theme
}

fn ansi(colour: Color) -> Style {
    let of_scope = SCOPES.iter().map(|(_, ansi)| *ansi).find(|ansi| colour.a == 1 && *ansi as u8 == colour.r);
    Style::new().fg_color(of_scope.map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coloured(language: &str, code: &str) -> Vec<Vec<Span>> {
        let lines: Vec<String> = code.split('\n').map(str::to_owned).collect();
        Colours::default().of(0, language, &lines).to_vec()
    }

    fn colour_of(lines: &[Vec<Span>], text: &str) -> Option<anstyle::Color> {
        lines.iter().flatten().find(|span| span.text.contains(text)).and_then(|span| span.style.get_fg_color())
    }

    #[test]
    fn every_part_has_its_colour() {
        assert_eq!(THEME.scopes.len(), SCOPES.len());
        let rust = coloured("rust", "fn main() {\n    let s = \"x\"; // why\n}");
        for (text, colour) in [("fn", AnsiColor::Magenta), ("x", AnsiColor::Green), ("why", AnsiColor::BrightBlack)] {
            assert_eq!(colour_of(&rust, text), Some(colour.into()), "{text}: {rust:?}");
        }
        assert_eq!(rust.iter().flatten().map(|span| span.text.len()).sum::<usize>(), 35);
    }

    #[test]
    fn languages_have_other_names() {
        for (alias, token) in ALIASES {
            assert!(SYNTAXES.find_syntax_by_token(token).is_some(), "{alias}");
        }
        for language in ["python", "py", "Rust", "bash", "sql", "html", "yaml", "java", "go"] {
            assert!(syntax(language).is_some(), "{language}");
        }
        assert!(syntax("no such language").is_none() && syntax("").is_none());
    }

    #[test]
    fn code_that_grows_is_coloured_as_if_it_came_whole() {
        let code = "/* a\n b */ let x = 1;\nlet y = \"open\nclosed\";\n";
        let whole = coloured("rust", code);
        let mut colours = Colours::default();
        for end in (0..=code.len()).chain([5, 12]) {
            let lines: Vec<String> = code[..end].split('\n').map(str::to_owned).collect();
            let grown = colours.of(0, "rust", &lines).to_vec();
            assert_eq!(grown, coloured("rust", &code[..end]), "{end}");
        }
        assert_eq!(whole.len(), 5);
    }
}
