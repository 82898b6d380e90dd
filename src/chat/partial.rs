//! A JSON object that comes bit by bit: whether it can still become one, where it ends, and what of it is whole.
//!
//! Owns the grammar of JSON, one byte at a time, and nothing of values. Knows no calls.

/// Reads the text of an object, from its first brace on.
#[derive(Debug)]
pub(super) struct Partial {
    state: State,
    /// The brackets that are open, by what closes them.
    open: Vec<u8>,
    n_read: usize,
    n_members: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    /// Behind a value.
    Next,
    Text(Text),
    Escape(Text),
    Hex(Text, u8),
    /// What is left of `true`, `false` or `null`.
    Word(&'static [u8]),
    Number(Number),
    Whole,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Key,
    Value,
}

/// What came last of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Decimals,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Partial {
    pub(super) fn new() -> Partial {
        Partial { state: State::Value, open: Vec::new(), n_read: 0, n_members: 0 }
    }

    /// Reads on; what breaks the object is not read, nor is what follows its end.
    pub(super) fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            if matches!(self.state, State::Whole | State::Broken) {
                return;
            }
            self.state = self.next(byte);
            if self.state != State::Broken {
                self.n_read += 1;
            }
        }
    }

    /// Bytes of the object that were read.
    pub(super) fn n_read(&self) -> usize {
        self.n_read
    }

    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    fn next(&mut self, byte: u8) -> State {
        match self.state {
            State::Number(number) => match number.next(byte) {
                Some(number) => State::Number(number),
                None if number.may_end() => {
                    // The byte behind it tells that it is whole.
                    self.state = self.value_ended(self.n_read);
                    self.next(byte)
                }
                None => State::Broken,
            },
            State::Text(text) => match byte {
                b'"' if text == Text::Key => State::Colon,
                b'"' => self.value_ended(self.n_read + 1),
                b'\\' => State::Escape(text),
                0..0x20 => State::Broken,
                _ => State::Text(text),
            },
            State::Escape(text) => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text(text),
                b'u' => State::Hex(text, 4),
                _ => State::Broken,
            },
            State::Hex(text, left) => match (byte.is_ascii_hexdigit(), left) {
                (false, _) => State::Broken,
                (true, 1) => State::Text(text),
                (true, left) => State::Hex(text, left - 1),
            },
            State::Word(rest) => match rest.split_first() {
                Some((first, [])) if *first == byte => self.value_ended(self.n_read + 1),
                Some((first, rest)) if *first == byte => State::Word(rest),
                _ => State::Broken,
            },
            state if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') => state,
            State::Value => self.value(byte),
            State::ValueOrEnd if byte == b']' => self.close(byte),
            State::ValueOrEnd => self.value(byte),
            State::KeyOrEnd if byte == b'}' => self.close(byte),
            State::Key | State::KeyOrEnd if byte == b'"' => State::Text(Text::Key),
            State::Colon if byte == b':' => State::Value,
            State::Next => match (byte, self.open.last()) {
                (b',', Some(b'}')) => State::Key,
                (b',', _) => State::Value,
                _ => self.close(byte),
            },
            _ => State::Broken,
        }
    }

    fn value(&mut self, first: u8) -> State {
        match first {
            b'{' => {
                self.open.push(b'}');
                State::KeyOrEnd
            }
            b'[' => {
                self.open.push(b']');
                State::ValueOrEnd
            }
            b'"' => State::Text(Text::Value),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Digits),
            _ => State::Broken,
        }
    }

    fn close(&mut self, byte: u8) -> State {
        match self.open.pop() {
            Some(closing) if closing == byte => self.value_ended(self.n_read + 1),
            _ => State::Broken,
        }
    }

    fn value_ended(&mut self, at: usize) -> State {
        match self.open.len() {
            0 => return State::Whole,
            1 => self.n_members = at,
            _ => {}
        }
        State::Next
    }
}

impl Number {
    fn next(self, byte: u8) -> Option<Number> {
        Some(match (self, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus, b'1'..=b'9') | (Number::Digits, b'0'..=b'9') => Number::Digits,
            (Number::Zero | Number::Digits, b'.') => Number::Point,
            (Number::Point | Number::Decimals, b'0'..=b'9') => Number::Decimals,
            (Number::Zero | Number::Digits | Number::Decimals, b'e' | b'E') => Number::Exponent,
            (Number::Exponent, b'+' | b'-') => Number::ExponentSign,
            (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => Number::ExponentDigits,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Number::Zero | Number::Digits | Number::Decimals | Number::ExponentDigits)
    }
}

/// The object that `text` begins, with those of its members that are whole: half a value could be taken for another one.
pub fn whole_members(text: &str) -> String {
    let mut object = Partial::new();
    object.read(text);
    match text.get(..object.n_members).filter(|members| !members.is_empty()) {
        _ if object.is_whole() => text.get(..object.n_read).unwrap_or_default().to_owned(),
        Some(members) => format!("{members}}}"),
        None => "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::{Deserializer, Value};

    fn read(text: &str) -> Partial {
        let mut object = Partial::new();
        object.read(text);
        object
    }

    #[test]
    fn members_that_are_not_whole_are_left_out() {
        for (text, expected) in [
            ("", "{}"),
            ("{", "{}"),
            (r#"{"a"#, "{}"),
            (r#"{"a": "b"#, "{}"),
            (r#"{"a": "b\""#, "{}"),
            (r#"{"a": "b""#, r#"{"a": "b"}"#),
            (r#"{"a": 12"#, "{}"),
            (r#"{"a": 12 "#, r#"{"a": 12}"#),
            (r#"{"a": -1.5e3, "b": tru"#, r#"{"a": -1.5e3}"#),
            (r#"{"a": true"#, r#"{"a": true}"#),
            (r#"{"a": [{}], "b": [1, {"c": 2}"#, r#"{"a": [{}]}"#),
            (r#"{"a": {"b": 1}} and more"#, r#"{"a": {"b": 1}}"#),
            ("{ } ", "{ }"),
            (r#"{"a": 1, "é": ü"#, r#"{"a": 1}"#),
        ] {
            let members = whole_members(text);
            assert_eq!(members, expected, "{text}");
            assert!(serde_json::from_str::<serde_json::Map<String, Value>>(&members).is_ok(), "{members}");
        }
    }

    #[test]
    fn depth_takes_no_stack() {
        assert!(!read(&"{\"a\":".repeat(100_000)).is_broken());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// As `serde_json` reads them.
        #[test]
        fn objects_end_and_break_where_they_do(text in r#"\{[ \n\[\]{}:,"\\u0019a\.eE+\-truefalsn\u{1}é]{0,24}"#) {
            agrees(&text)?;
        }

        #[test]
        fn so_do_those_that_are_nearly_objects(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\"a\": ", "\"\\u00e9\\n\"", "1", "-0.5e+3", "01", "true", "null", "nul", "{", "}", "[", "]", ", ", ":", "\"b\"", " ",
            ]), 0..12),
        ) {
            agrees(&format!("{{{}", parts.concat()))?;
            agrees(&format!("{{{}}}", parts.concat()))?;
        }
    }

    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let object = read(text);
        let mut values = Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let value = values.next();
        prop_assert_eq!(object.is_whole(), matches!(value, Some(Ok(_))), "{}", text);
        match value {
            Some(Ok(_)) => prop_assert_eq!(object.n_read(), values.byte_offset()),
            Some(Err(error)) if error.is_eof() => prop_assert!(!object.is_broken(), "{}", text),
            // To `serde_json` a number that ends with a sign or a point is no number, though more may come.
            _ if !object.is_broken() => prop_assert!(text.ends_with(['-', '+', '.', 'e', 'E']), "{}", text),
            _ => prop_assert!(text.is_char_boundary(object.n_read())),
        }
        Ok(())
    }
}
