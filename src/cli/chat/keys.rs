//! Keys that come in one piece with Ctrl-C or Ctrl-Z: the line editor stops at those, and would drop what came behind
//! them.
//!
//! Owns holding these keys until they can be played to the next line; what they do there is the editor's.

use reedline::{EditMode, Emacs, PromptEditMode, ReedlineEvent, ReedlineRawEvent};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The keys of Emacs, but for those behind a command that makes the editor return.
pub(super) struct Keys {
    emacs: Emacs,
    late: Late,
}

/// What came too late for a line.
#[derive(Clone, Default)]
pub(super) struct Late(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// Whether the editor is about to return.
    is_over: bool,
    events: VecDeque<ReedlineEvent>,
}

impl Keys {
    pub(super) fn new(emacs: Emacs, late: Late) -> Keys {
        Keys { emacs, late }
    }
}

impl Late {
    /// All of it, for a line that begins.
    pub(super) fn take(&self) -> VecDeque<ReedlineEvent> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_over = false;
        std::mem::take(&mut held.events)
    }

    /// The event, unless the editor would not see to it any more.
    fn pass(&self, event: ReedlineEvent) -> ReedlineEvent {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_over {
            held.events.push_back(event);
            return ReedlineEvent::None;
        }
        held.is_over = matches!(event, ReedlineEvent::ExecuteHostCommand(_));
        event
    }
}

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        self.late.pass(self.emacs.parse_event(event))
    }

    fn edit_mode(&self) -> PromptEditMode {
        self.emacs.edit_mode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reedline::EditCommand;

    #[test]
    fn what_comes_behind_a_command_waits() {
        let late = Late::default();
        let typed = |c| ReedlineEvent::Edit(vec![EditCommand::InsertChar(c)]);
        let command = ReedlineEvent::ExecuteHostCommand("interrupt".to_owned());
        assert_eq!(late.pass(typed('a')), typed('a'));
        assert_eq!(late.pass(command.clone()), command);
        assert_eq!(late.pass(typed('b')), ReedlineEvent::None);
        assert_eq!(late.pass(ReedlineEvent::Enter), ReedlineEvent::None);
        assert_eq!(late.take(), [typed('b'), ReedlineEvent::Enter]);
        assert_eq!((late.pass(typed('c')), late.take().len()), (typed('c'), 0));
    }
}
