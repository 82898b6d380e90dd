//! The prompt of base models: text to be continued, without roles.

use super::message::{Assistant, Message};
use super::prompt::{Prompt, completion};

/// `None` where the conversation is more than one text.
pub(super) fn prompt(messages: &[Message], continued: Option<&Assistant>) -> Option<Prompt> {
    let [Message::User(text)] = messages else {
        return None;
    };
    let mut prompt = completion(text);
    if let Some(assistant) = continued {
        prompt.text(&assistant.content);
    }
    Some(prompt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Conversation, Family, Options, TemplateError};

    #[test]
    fn one_text_is_continued_and_nothing_else() {
        let user = || Message::User("Once".into());
        let prompt = |messages| Family::Base.prompt(&Conversation::new(messages), Options::default());
        assert_eq!(prompt(vec![user()]).unwrap().to_text(), "<｜begin▁of▁sentence｜>Once");
        assert_eq!(prompt(vec![user(), user()]), Err(TemplateError::Base));
        assert_eq!(prompt(vec![Message::System("s".into()), user()]), Err(TemplateError::Base));
    }
}
