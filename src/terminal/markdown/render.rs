//! The events of a Markdown parser to styled lines.

use super::super::highlight::Colours;
use super::super::line::{Indent, Line, Span, expand_tabs, wrap, wrap_code};
use super::Look;
use super::table::Table;
use anstyle::{AnsiColor, Style};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::ops::Range;

pub(super) const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_MATH);

/// Rules are no longer than this.
const MAX_RULE: usize = 60;

pub(super) struct Renderer<'a> {
    source: &'a str,
    look: Look,
    colours: &'a mut Colours,
    /// The widths that a table must have.
    given_widths: Option<&'a [usize]>,
    widths: Option<Vec<usize>>,
    lines: Vec<Line>,
    /// What stands left of each line, from the outermost block inwards.
    indent: Vec<Indent>,
    /// The numbers of the lists around, where they have any.
    lists: Vec<Option<u64>>,
    styles: Vec<Style>,
    text: Vec<Span>,
    table: Option<Table>,
    code: Option<Code>,
    /// Where each link that is open leads.
    links: Vec<String>,
    n_code: usize,
}

struct Code {
    language: String,
    text: String,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(
        source: &'a str,
        look: Look,
        colours: &'a mut Colours,
        given_widths: Option<&'a [usize]>,
    ) -> Renderer<'a> {
        Renderer {
            source,
            look,
            colours,
            given_widths,
            widths: None,
            lines: Vec::new(),
            indent: Vec::new(),
            lists: Vec::new(),
            styles: vec![look.base],
            text: Vec::new(),
            table: None,
            code: None,
            links: Vec::new(),
            n_code: 0,
        }
    }

    pub(super) fn run(&mut self) {
        let source = self.source;
        for (event, range) in Parser::new_ext(source, OPTIONS).into_offset_iter() {
            match event {
                Event::Start(tag) => self.start(tag, range),
                Event::End(tag) => self.end(tag),
                Event::Text(text) => self.push_text(&text, &range),
                Event::Code(text) => self.marked("`", self.accent(AnsiColor::Cyan), &text),
                Event::InlineMath(text) => self.push(&format!("${text}$")),
                Event::DisplayMath(text) => self.push(&format!("$${text}$$")),
                Event::Html(text) => {
                    self.push(text.trim_end_matches('\n'));
                    self.flush();
                }
                Event::InlineHtml(text) => self.push(&text),
                Event::SoftBreak => self.push(" "),
                Event::HardBreak => self.push("\n"),
                Event::Rule => self.rule(&range),
                Event::TaskListMarker(done) => self.push(if done { "[x] " } else { "[ ] " }),
                Event::FootnoteReference(label) => self.push(&format!("[^{label}]")),
            }
        }
        self.flush();
    }

    pub(super) fn finish(self) -> (Vec<Line>, Option<Vec<usize>>) {
        (self.lines, self.widths)
    }

    fn start(&mut self, tag: Tag, range: Range<usize>) {
        match tag {
            Tag::Paragraph => self.begin(&range),
            Tag::Heading { level, .. } => self.start_heading(level, &range),
            Tag::BlockQuote(_) => {
                self.begin(&range);
                let bar = vec![Span::new("│ ", self.faint())];
                self.indent.push(Indent { first: bar.clone(), rest: bar });
            }
            Tag::CodeBlock(kind) => {
                self.begin(&range);
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.split([' ', ',', '{']).next().unwrap_or_default().to_owned(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some(Code { language, text: String::new() });
            }
            Tag::List(first) => {
                self.begin(&range);
                self.lists.push(first);
            }
            Tag::Item => self.start_item(&range),
            Tag::Table(alignments) => {
                self.begin(&range);
                self.table = Some(Table { alignments, rows: Vec::new() });
            }
            Tag::TableHead => {
                self.start_row();
                self.style(|style| style.bold());
            }
            Tag::TableRow => self.start_row(),
            Tag::TableCell => self.text.clear(),
            Tag::Emphasis => self.mark("*", |style| style.italic()),
            Tag::Strong => self.mark("**", |style| style.bold()),
            Tag::Strikethrough => self.mark("~~", |style| style.strikethrough()),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push(dest_url.into_string());
                self.style(|style| style.underline());
            }
            Tag::HtmlBlock => self.begin(&range),
            _ => self.style(|style| style),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph => self.flush(),
            TagEnd::Heading(_) => {
                self.styles.pop();
                self.flush();
            }
            TagEnd::BlockQuote(_) => {
                self.flush();
                self.indent.pop();
            }
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::List(_) => drop(self.lists.pop()),
            TagEnd::Item => {
                // An item with nothing in it has its mark all the same.
                if !self.text.is_empty() || self.indent.last().is_some_and(|indent| indent.first != indent.rest) {
                    self.flush_always();
                }
                self.indent.pop();
            }
            TagEnd::Table => self.end_table(),
            TagEnd::TableHead => drop(self.styles.pop()),
            TagEnd::TableRow | TagEnd::HtmlBlock => {}
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.text);
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Emphasis => self.unmark("*"),
            TagEnd::Strong => self.unmark("**"),
            TagEnd::Strikethrough => self.unmark("~~"),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            _ => drop(self.styles.pop()),
        }
    }

    /// Ends what came before a block, and leaves a line free where the author did.
    fn begin(&mut self, range: &Range<usize>) {
        self.flush();
        let is_free = self.lines.last().is_none_or(|line| line.text().trim_matches([' ', '│']).is_empty());
        if !is_free && blank_before(self.source, range.start) {
            let mut line = Line::default();
            for indent in &self.indent {
                line.extend(&indent.rest);
            }
            let is_quoted = !line.is_blank();
            self.lines.push(if is_quoted { line } else { Line::default() });
        }
    }

    fn start_heading(&mut self, level: HeadingLevel, range: &Range<usize>) {
        self.begin(range);
        if !self.look.styled {
            let marks = "#".repeat(level as usize);
            self.push(&format!("{marks} "));
        }
        self.style(|style| match level {
            HeadingLevel::H1 => style.bold().underline(),
            HeadingLevel::H2 => style.bold(),
            _ => style.bold().italic(),
        });
    }

    fn start_item(&mut self, range: &Range<usize>) {
        self.begin(range);
        let depth = self.lists.len();
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => if depth % 2 == 1 { "• " } else { "◦ " }.to_owned(),
        };
        let space = " ".repeat(mark.chars().count());
        let style = self.accent(AnsiColor::Blue);
        self.indent.push(Indent { first: vec![Span::new(mark, style)], rest: vec![Span::plain(space)] });
    }

    fn start_row(&mut self) {
        if let Some(table) = &mut self.table {
            table.rows.push(Vec::new());
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.table.take() else { return };
        let indent = self.take_indent();
        let taken: usize = indent.first.iter().map(|span| span.text.chars().count()).sum();
        let room = self.look.columns.saturating_sub(taken);
        let widths = match self.given_widths {
            Some(widths) if widths.len() == table.alignments.len() => widths.to_vec(),
            _ => table.widths(room),
        };
        let rule = self.faint();
        self.lines.extend(table.lines(&widths, room, &indent.rest, rule));
        self.widths = Some(widths);
    }

    fn end_code(&mut self) {
        let Some(code) = self.code.take() else { return };
        let mut indent = self.take_indent();
        let frame = self.faint();
        let mut head = Line::default();
        head.extend(&indent.first);
        let label = if self.look.styled { "───".to_owned() } else { "```".to_owned() };
        let space = if code.language.is_empty() || !self.look.styled { "" } else { " " };
        head.push(&format!("{label}{space}{}", code.language), frame);
        self.lines.push(head);
        indent.first = indent.rest.clone();

        let text = code.text.strip_suffix('\n').unwrap_or(&code.text);
        let lines: Vec<String> = text.split('\n').map(expand_tabs).collect();
        let coloured = self.look.styled.then(|| self.colours.of(self.n_code, &code.language, &lines));
        self.n_code += 1;
        for (number, line) in lines.iter().enumerate() {
            let plain = [Span::new(line.as_str(), self.look.base)];
            let spans = coloured.and_then(|lines| lines.get(number)).map_or(plain.as_slice(), Vec::as_slice);
            self.lines.extend(wrap_code(spans, self.look.columns, &indent));
        }
        let mut foot = Line::default();
        foot.extend(&indent.rest);
        foot.push(&label, frame);
        self.lines.push(foot);
    }

    fn rule(&mut self, range: &Range<usize>) {
        self.begin(range);
        let indent = self.take_indent();
        let mut line = Line::default();
        line.extend(&indent.first);
        let room = self.look.columns.saturating_sub(line.width()).min(MAX_RULE);
        line.push(&"─".repeat(room), self.faint());
        self.lines.push(line);
    }

    fn end_link(&mut self) {
        self.styles.pop();
        let Some(url) = self.links.pop() else { return };
        let shown: String = self.text.iter().map(|span| span.text.as_str()).collect();
        if !url.is_empty() && !shown.ends_with(&url) {
            let style = self.faint();
            self.text.push(Span::new(format!(" ({})", super::visible(&url)), style));
        }
    }

    fn push_text(&mut self, text: &str, range: &Range<usize>) {
        if let Some(code) = &mut self.code {
            code.text.push_str(text);
            return;
        }
        // `\(` and `\[` are formulas in what models write.
        let is_escaped = range.start.checked_sub(1).and_then(|at| self.source.as_bytes().get(at)) == Some(&b'\\');
        if is_escaped && text.starts_with(['(', ')', '[', ']']) {
            self.push("\\");
        }
        self.push(text);
    }

    fn push(&mut self, text: &str) {
        let style = self.styles.last().copied().unwrap_or_default();
        self.text.push(Span::new(super::visible(text), style));
    }

    /// Text of a style of its own.
    fn marked(&mut self, mark: &str, style: Style, text: &str) {
        match self.look.styled {
            true => self.text.push(Span::new(super::visible(text), style)),
            false => self.push(&format!("{mark}{text}{mark}")),
        }
    }

    fn mark(&mut self, mark: &str, change: impl Fn(Style) -> Style) {
        if !self.look.styled {
            self.push(mark);
        }
        self.style(change);
    }

    fn unmark(&mut self, mark: &str) {
        self.styles.pop();
        if !self.look.styled {
            self.push(mark);
        }
    }

    fn style(&mut self, change: impl Fn(Style) -> Style) {
        let style = self.styles.last().copied().unwrap_or_default();
        self.styles.push(change(style));
    }

    fn accent(&self, colour: AnsiColor) -> Style {
        self.look.base.fg_color(Some(colour.into()))
    }

    fn faint(&self) -> Style {
        self.look.base.dimmed()
    }

    /// Ends a paragraph.
    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.flush_always();
        }
    }

    fn flush_always(&mut self) {
        let text = std::mem::take(&mut self.text);
        let indent = self.take_indent();
        self.lines.extend(wrap(&text, self.look.columns, &indent));
    }

    /// What stands left of the next block. The mark of an item stands before its first line only.
    fn take_indent(&mut self) -> Indent {
        let mut all = Indent::default();
        for indent in &mut self.indent {
            all.first.extend(indent.first.iter().cloned());
            all.rest.extend(indent.rest.iter().cloned());
            indent.first = indent.rest.clone();
        }
        all
    }
}

/// Whether the line before the one at `offset` is blank; in a quotation, marks alone are blank too.
pub(super) fn blank_before(source: &str, offset: usize) -> bool {
    let before = source.get(..offset).unwrap_or(source);
    let Some((lines, _)) = before.rsplit_once('\n') else { return false };
    let last = lines.rsplit_once('\n').map_or(lines, |(_, last)| last);
    last.trim_matches([' ', '\t', '>']).is_empty()
}
