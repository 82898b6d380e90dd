//! What was said in a chat: a tree of turns, and the place in it where the chat goes on.
//!
//! A turn is never changed or lost once it is there (but for an answer that is still being written): what is
//! asked anew becomes a branch beside the old one. Knows no file.

use super::id::SessionId;
use crate::chat::{self, Conversation, Message, ToolCall, ToolResult, official};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    pub id: SessionId,
    pub model: Model,
    /// What the model is told before everything else.
    pub system: Option<String>,
    /// How answers are sampled, as the user would write it: `temperature` → `0.3`.
    pub settings: BTreeMap<String, String>,
    pub created: Timestamp,
    /// When a turn was last added or a branch chosen.
    pub updated: Timestamp,
    /// Set by the user; else the first question is the title.
    pub(super) title: Option<String>,
    /// In the order in which they came, so that a parent stands before its children.
    pub(super) turns: Vec<Turn>,
    pub(super) current: Option<TurnId>,
    /// What a later version of the program has put into the file; kept as it is.
    pub(super) unknown: Map<String, Value>,
}

/// The model that a chat was had with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The path or name by which it was opened.
    pub path: String,
    /// What the file calls itself.
    pub name: Option<String>,
    /// As the engine writes its fingerprint.
    pub fingerprint: Option<String>,
}

/// A turn's number in its chat, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TurnId(pub(super) u32);

#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    pub id: TurnId,
    /// `None`: the chat begins with it, or with one of several.
    pub parent: Option<TurnId>,
    pub created: Timestamp,
    pub body: Body,
    pub(super) unknown: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A note to the model in the middle of a chat; what it is told at first is [`Transcript::system`].
    System(String),
    User(Question),
    Assistant(Answer),
    Tool(ToolResult),
}

/// What the user asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// As it was typed.
    pub text: String,
    pub attachments: Vec<Attachment>,
    /// What the model was given, where that is neither the text alone nor the text in DeepSeek's frame for files.
    pub framed: Option<String>,
}

/// A file that goes with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub content: String,
}

/// What the model answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub content: String,
    pub reasoning: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub finish: Finish,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    EndOfAnswer,
    StopString,
    /// As many tokens came as were asked for.
    Length,
    ContextFull,
    Failed,
    /// The user stopped it, or the program ended while it was written.
    #[default]
    Interrupted,
}

/// One way through the chat, from its first turn to a last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The last turn.
    pub leaf: TurnId,
    /// Where it parts from the current path; `None` if it shares nothing with it.
    pub forks_at: Option<TurnId>,
    /// Turns from the first to the last.
    pub n_turns: usize,
    pub is_current: bool,
    /// The last question on it, shortened to a line.
    pub last_question: Option<String>,
}

/// The chat has no such turn, or none of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chat has no {kind} {number}")]
pub struct NoTurn {
    pub kind: &'static str,
    pub number: usize,
}

/// Characters of a title.
const TITLE_CHARS: usize = 60;

impl TurnId {
    /// For a number that a user typed; whether there is such a turn is the chat's to say.
    pub fn new(number: u32) -> TurnId {
        TurnId(number)
    }

    pub fn number(self) -> u32 {
        self.0
    }
}

impl Question {
    pub fn new(text: impl Into<String>) -> Question {
        Question { text: text.into(), ..Question::default() }
    }

    /// What the model is given.
    pub fn for_model(&self) -> String {
        if let Some(framed) = &self.framed {
            return framed.clone();
        }
        if self.attachments.is_empty() {
            return self.text.clone();
        }
        let files = self.attachments.iter().map(|file| official::File { name: &file.name, content: &file.content });
        let files: Vec<_> = files.collect();
        official::with_files(&files, &self.text)
    }
}

impl Answer {
    pub fn is_interrupted(&self) -> bool {
        self.finish == Finish::Interrupted
    }
}

impl Turn {
    /// What the model is given.
    pub fn message(&self) -> Message {
        match &self.body {
            Body::System(text) => Message::System(text.clone()),
            Body::User(question) => Message::User(question.for_model()),
            Body::Tool(result) => Message::Tool(result.clone()),
            Body::Assistant(answer) => Message::Assistant(chat::Assistant {
                reasoning: answer.reasoning.clone(),
                content: answer.content.clone(),
                tool_calls: answer.tool_calls.clone(),
            }),
        }
    }

    pub fn question(&self) -> Option<&Question> {
        match &self.body {
            Body::User(question) => Some(question),
            _ => None,
        }
    }
}

impl Transcript {
    /// A chat in which nothing was said yet.
    pub fn new(model: Model) -> Transcript {
        Transcript::with_id(SessionId::generate(), model)
    }

    /// As [`Transcript::new`], under a name of the user's choice.
    pub fn with_id(id: SessionId, model: Model) -> Transcript {
        let now = now();
        Transcript {
            id,
            model,
            system: None,
            settings: BTreeMap::new(),
            created: now,
            updated: now,
            title: None,
            turns: Vec::new(),
            current: None,
            unknown: Map::new(),
        }
    }

    /// The title that was given, or the first question, shortened to a line.
    pub fn title(&self) -> String {
        let first = || self.turns.iter().find_map(Turn::question).map(|question| shortened(&question.text));
        self.title.clone().or_else(first).unwrap_or_default()
    }

    pub fn set_title(&mut self, title: &str) {
        self.title = Some(shortened(title)).filter(|title| !title.is_empty());
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// All turns of all branches, in the order in which they came.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    pub fn turn(&self, id: TurnId) -> Option<&Turn> {
        // Numbers are those of the places, which `format` has checked.
        self.turns.get((id.0 as usize).checked_sub(1)?)
    }

    /// Below which turn the next one comes; `None` for the beginning.
    pub fn current(&self) -> Option<TurnId> {
        self.current
    }

    /// From the first turn to the current one.
    pub fn path(&self) -> Vec<&Turn> {
        self.path_to(self.current)
    }

    /// The prompt's messages: the system prompt, and all turns to the current one.
    pub fn conversation(&self) -> Conversation {
        let system = self.system.iter().cloned().map(Message::System);
        Conversation::new(system.chain(self.path().into_iter().map(Turn::message)).collect())
    }

    /// Adds a turn below the current one, which it becomes.
    pub fn push(&mut self, body: Body) -> TurnId {
        // A chat of 2^32 turns is not had.
        let id = TurnId(u32::try_from(self.turns.len() + 1).unwrap_or(u32::MAX));
        let created = now();
        self.turns.push(Turn { id, parent: self.current, created, body, unknown: Map::new() });
        self.go_to(Some(id));
        id
    }

    /// Puts what has come of an answer by now in the place of what had come before: for an answer that is
    /// saved while it is written.
    pub fn amend(&mut self, id: TurnId, answer: Answer) -> Result<(), NoTurn> {
        let no_turn = NoTurn { kind: "answer in turn", number: id.0 as usize };
        let turn = (id.0 as usize).checked_sub(1).and_then(|place| self.turns.get_mut(place)).ok_or(no_turn)?;
        match &mut turn.body {
            Body::Assistant(old) => *old = answer,
            _ => return Err(no_turn),
        }
        self.updated = now();
        Ok(())
    }

    /// The n-th question of the current path, from 1 on.
    pub fn question(&self, number: usize) -> Result<TurnId, NoTurn> {
        let questions = self.path().into_iter().filter(|turn| turn.question().is_some());
        let found = number.checked_sub(1).and_then(|skipped| questions.map(|turn| turn.id).nth(skipped));
        found.ok_or(NoTurn { kind: "question", number })
    }

    /// Goes on below another turn; what comes next is a branch, if something came there before.
    pub fn fork(&mut self, at: TurnId) -> Result<(), NoTurn> {
        self.turn(at).ok_or(NoTurn { kind: "turn", number: at.0 as usize })?;
        self.go_to(Some(at));
        Ok(())
    }

    /// Asks the n-th question of the current path in another way: beside it, with nothing below yet.
    pub fn edit(&mut self, number: usize, question: Question) -> Result<TurnId, NoTurn> {
        let old = self.question(number)?;
        self.current = self.turn(old).and_then(|turn| turn.parent);
        Ok(self.push(Body::User(question)))
    }

    /// Steps back to before the last question of the current path, which is returned; nothing is lost.
    pub fn undo(&mut self) -> Option<TurnId> {
        let last = self.last_question()?;
        let parent = self.turn(last)?.parent;
        self.go_to(parent);
        Some(last)
    }

    /// Steps back to the last question of the current path, for another answer to it.
    pub fn retry(&mut self) -> Option<TurnId> {
        let last = self.last_question()?;
        self.go_to(Some(last));
        Some(last)
    }

    /// All ways through the chat, by the age of their last turns; the current one is among them, also where
    /// other turns follow it.
    pub fn branches(&self) -> Vec<Branch> {
        let parents: BTreeSet<TurnId> = self.turns.iter().filter_map(|turn| turn.parent).collect();
        let current: BTreeSet<TurnId> = self.path().into_iter().map(|turn| turn.id).collect();
        let is_end = |turn: &&Turn| !parents.contains(&turn.id) || self.current == Some(turn.id);
        self.turns.iter().filter(is_end).map(|turn| self.branch(turn.id, &current)).collect()
    }

    /// Goes on at the end of another branch, or anywhere else.
    pub fn switch(&mut self, leaf: TurnId) -> Result<(), NoTurn> {
        self.fork(leaf)
    }

    fn branch(&self, leaf: TurnId, current: &BTreeSet<TurnId>) -> Branch {
        let path = self.path_to(Some(leaf));
        Branch {
            leaf,
            forks_at: path.iter().rev().map(|turn| turn.id).find(|id| current.contains(id)),
            n_turns: path.len(),
            is_current: self.current == Some(leaf),
            last_question: path.iter().rev().find_map(|turn| turn.question()).map(|question| shortened(&question.text)),
        }
    }

    fn last_question(&self) -> Option<TurnId> {
        self.path().into_iter().rev().find(|turn| turn.question().is_some()).map(|turn| turn.id)
    }

    fn path_to(&self, end: Option<TurnId>) -> Vec<&Turn> {
        let above = |turn: &&Turn| turn.parent.and_then(|parent| self.turn(parent));
        let mut path: Vec<&Turn> = std::iter::successors(end.and_then(|end| self.turn(end)), above).collect();
        path.reverse();
        path
    }

    fn go_to(&mut self, turn: Option<TurnId>) {
        self.current = turn;
        self.updated = now();
    }
}

/// The time, in whole milliseconds: what a file keeps of it.
fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// The first words, on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE_CHARS) {
        None => line,
        Some((end, _)) => {
            let cut = line.get(..end).unwrap_or_default();
            // At a word, unless the text has none so long.
            let words = cut.rsplit_once(' ').map_or(cut, |(words, _)| words);
            let kept = if words.len() * 2 > cut.len() { words } else { cut };
            format!("{kept}…")
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn answer(content: &str) -> Body {
        Body::Assistant(Answer { content: content.to_owned(), finish: Finish::EndOfAnswer, ..Answer::default() })
    }

    fn ask(text: &str) -> Body {
        Body::User(Question::new(text))
    }

    /// A chat with everything in it: two questions, of which the second was edited; turn 5 is current.
    pub(in crate::session) fn branched() -> Transcript {
        let model = Model { path: "v3.gguf".into(), name: Some("V3".into()), fingerprint: Some("00ff".into()) };
        let mut chat = Transcript::with_id(SessionId::parse("test").unwrap(), model);
        chat.system = Some("Be brief.".into());
        chat.settings.insert("temperature".into(), "0.3".into());
        chat.push(ask("Why is the sky blue?"));
        let call = ToolCall { id: Some("1".into()), name: "look".into(), arguments: "{\"at\": \"sky\"}".into() };
        let reasoning = Some("Light.".to_owned());
        let tool_calls = vec![call];
        chat.push(Body::Assistant(Answer { content: String::new(), reasoning, tool_calls, finish: Finish::Length }));
        chat.push(Body::Tool(ToolResult { call_id: Some("1".into()), content: "blue".into() }));
        chat.push(answer("It scatters."));
        let attachments = vec![Attachment { name: "a.txt".into(), content: "text".into() }];
        chat.push(Body::User(Question { text: "And red?".into(), attachments, framed: None }));
        chat.push(answer("Dusk."));
        chat.edit(2, Question { framed: Some("[date] And green?".into()), ..Question::new("And green?") }).unwrap();
        chat.push(Body::System("Answer now.".into()));
        chat.switch(TurnId(5)).unwrap();
        chat
    }

    fn ids(turns: &[&Turn]) -> Vec<u32> {
        turns.iter().map(|turn| turn.id.0).collect()
    }

    #[test]
    fn a_prompt_has_the_current_path_only() {
        let mut chat = branched();
        assert_eq!(ids(&chat.path()), [1, 2, 3, 4, 5]);
        let messages = chat.conversation().messages;
        assert_eq!(messages.len(), 6);
        assert_eq!(messages[0], Message::System("Be brief.".into()));
        let framed = official::with_files(&[official::File { name: "a.txt", content: "text" }], "And red?");
        assert_eq!(messages[5], Message::User(framed));
        assert_eq!(chat.conversation().check(), Ok(()));
        chat.switch(TurnId(7)).unwrap();
        assert_eq!(chat.conversation().messages[5], Message::User("[date] And green?".into()));
    }

    #[test]
    fn an_edited_question_stands_beside_the_old_one() {
        let mut chat = branched();
        let leaves = |chat: &Transcript| chat.branches().iter().map(|branch| branch.leaf.0).collect::<Vec<_>>();
        assert_eq!(leaves(&chat), [5, 6, 8]);
        let green = &chat.branches()[2];
        assert_eq!((green.forks_at, green.n_turns, green.is_current), (Some(TurnId(4)), 6, false));
        assert_eq!(green.last_question.as_deref(), Some("And green?"));
        let new = chat.edit(1, Question::new("Why is grass green?")).unwrap();
        assert_eq!((chat.turn(new).unwrap().parent, ids(&chat.path())), (None, vec![9]));
        assert_eq!(leaves(&chat), [6, 8, 9]);
        assert_eq!(chat.branches()[0].forks_at, None);
        assert_eq!(chat.edit(2, Question::new("x")), Err(NoTurn { kind: "question", number: 2 }));
        assert_eq!(chat.question(0), Err(NoTurn { kind: "question", number: 0 }));
        assert_eq!(chat.title(), "Why is the sky blue?");
    }

    #[test]
    fn undo_goes_back_a_question_at_a_time_and_loses_nothing() {
        let mut chat = branched();
        chat.switch(TurnId(6)).unwrap();
        assert_eq!((chat.retry(), ids(&chat.path())), (Some(TurnId(5)), vec![1, 2, 3, 4, 5]));
        assert_eq!((chat.undo(), ids(&chat.path())), (Some(TurnId(5)), vec![1, 2, 3, 4]));
        assert_eq!((chat.undo(), ids(&chat.path())), (Some(TurnId(1)), vec![]));
        assert_eq!((chat.undo(), chat.retry(), chat.current()), (None, None, None));
        assert_eq!(chat.turns().len(), 8);
        assert_eq!(chat.push(ask("Again")), TurnId(9));
        assert_eq!(chat.turn(TurnId(9)).unwrap().parent, None);
    }

    #[test]
    fn only_an_answer_is_amended() {
        let mut chat = branched();
        let part = |content: &str| Answer { content: content.into(), ..Answer::default() };
        assert!(part("").is_interrupted());
        let id = chat.push(Body::Assistant(part("Du")));
        chat.amend(id, part("Dusk")).unwrap();
        assert_eq!(chat.turn(id).unwrap().message(), Message::assistant("Dusk"));
        for number in [0, 1, 99] {
            assert!(chat.amend(TurnId(number), part("x")).is_err(), "{number}");
            assert_eq!(chat.fork(TurnId(number)).is_ok(), number == 1);
        }
    }

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(shortened(" a\n\tb "), "a b");
        let long = shortened(&"word ".repeat(40));
        assert!(long.ends_with("word…") && long.chars().count() <= TITLE_CHARS + 1, "{long}");
        assert_eq!(shortened(&"é".repeat(61)), "é".repeat(60) + "…");
        let mut chat = branched();
        chat.set_title("Light\nand air");
        assert_eq!(chat.title(), "Light and air");
        chat.set_title(" ");
        assert_eq!(chat.title(), "Why is the sky blue?");
    }
}
