//! Stop strings: an answer ends where it says one of them.
//!
//! Owns the search for them in text that comes in pieces, cut anywhere, and the text that cannot be shown
//! yet because a stop string may be on its way. Knows no tokens.
//!
//! # Which one stops
//!
//! The one that is complete first; of those that end at the same place, the longest. So an answer
//! stops as soon as it can, no token is generated only to choose between stop strings, and how the text
//! was cut makes no difference. Of `ab` and `abc`, the second can never stop anything: the text before it is
//! the same.

use aho_corasick::AhoCorasick;

/// Waits for one of several strings.
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<String>,
    automaton: AhoCorasick,
    /// The end of the text, while it is the beginning of a stop string.
    held: String,
    stopped: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    #[error("a stop string is empty")]
    Empty,
    #[error("a stop string has {0} bytes; {max} are allowed", max = StopStrings::MAX_BYTES)]
    TooLong(usize),
    #[error("there are {0} stop strings; {max} are allowed", max = StopStrings::MAX_STRINGS)]
    TooMany(usize),
}

impl StopStrings {
    pub const MAX_STRINGS: usize = 64;
    pub const MAX_BYTES: usize = 1024;

    pub fn new(strings: &[String]) -> Result<StopStrings, StopError> {
        if strings.len() > StopStrings::MAX_STRINGS {
            return Err(StopError::TooMany(strings.len()));
        }
        for string in strings {
            match string.len() {
                0 => return Err(StopError::Empty),
                1..=StopStrings::MAX_BYTES => {}
                bytes => return Err(StopError::TooLong(bytes)),
            }
        }
        // It can only be too large, which 64 KiB are not.
        let automaton = AhoCorasick::new(strings).map_err(|_| StopError::TooMany(strings.len()))?;
        Ok(StopStrings { strings: strings.to_vec(), automaton, held: String::new(), stopped: None })
    }

    /// Takes a piece of the answer and appends to `text` what can be shown. Where a stop string is complete,
    /// that is all the text before it, and the answer has ended: its number is given, now and from now on, and
    /// no more text comes.
    pub fn push(&mut self, piece: &str, text: &mut String) -> Option<usize> {
        if self.stopped.is_some() {
            return self.stopped;
        }
        self.held.push_str(piece);
        if let Some(found) = self.automaton.find(&self.held) {
            text.push_str(&self.held[..found.start()]);
            self.held.clear();
            self.stopped = Some(found.pattern().as_usize());
            return self.stopped;
        }
        let shown = self.held.len() - self.unsure();
        text.extend(self.held.drain(..shown));
        None
    }

    /// Appends what was held back: the answer has ended otherwise. It is then as new.
    pub fn finish(&mut self, text: &mut String) {
        text.push_str(&self.held);
        self.held.clear();
        self.stopped = None;
    }

    /// The bytes of the longest end of the text that begins a stop string.
    fn unsure(&self) -> usize {
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        let ends = (from..self.held.len()).filter_map(|start| self.held.get(start..));
        let begins = |end: &&str| self.strings.iter().any(|string| string.starts_with(end));
        ends.filter(begins).map(str::len).next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stop(strings: &[&str]) -> StopStrings {
        StopStrings::new(&strings.iter().map(|string| (*string).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    /// What each piece shows, with the number of the stop string behind the last.
    fn shown(strings: &[&str], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
        let (mut stop, mut stopped) = (stop(strings), None);
        let mut shown: Vec<String> = Vec::new();
        for piece in pieces {
            let mut text = String::new();
            stopped = stop.push(piece, &mut text);
            shown.push(text);
        }
        let mut rest = String::new();
        stop.finish(&mut rest);
        shown.push(rest);
        (shown, stopped)
    }

    #[test]
    fn a_stop_string_ends_the_text_before_it() {
        assert_eq!(shown(&["\n\n"], &["a", "b\n\nc"]), (vec!["a".into(), "b".into(), "".into()], Some(0)));
        assert_eq!(shown(&["x", "\n"], &["a\nx"]), (vec!["a".into(), "".into()], Some(1)));
        assert_eq!(shown(&[], &["a", "b"]), (vec!["a".into(), "b".into(), "".into()], None));
    }

    #[test]
    fn no_more_is_held_back_than_must_be() {
        let pieces = ["ab", "User", ":", "x", "US", "User"];
        let (shown, stopped) = shown(&["User: "], &pieces);
        assert_eq!((shown, stopped), (["ab", "", "", "User:x", "US", "", "User"].map(str::to_owned).to_vec(), None));
    }

    #[test]
    fn a_failed_beginning_can_hold_another() {
        assert_eq!(shown(&["aab"], &["a", "a", "a", "b"]).0.concat(), "a");
        assert_eq!(shown(&["abcx", "bcd"], &["abc", "d"]), (vec!["".into(), "a".into(), "".into()], Some(1)));
    }

    #[test]
    fn the_first_complete_one_stops_and_of_those_the_longest() {
        assert_eq!(shown(&["abc", "ab"], &["xabc"]), (vec!["x".into(), "".into()], Some(1)));
        assert_eq!(shown(&["c", "bc", "abc"], &["xabc"]), (vec!["x".into(), "".into()], Some(2)));
        assert_eq!(shown(&["bc", "abcd"], &["xabcd"]), (vec!["xa".into(), "".into()], Some(0)));
    }

    #[test]
    fn characters_stay_whole() {
        let (shown, stopped) = shown(&["é｜"], &["é", "｜", "é｛", "ü"]);
        assert_eq!((shown.concat(), stopped), ("".into(), Some(0)));
        assert_eq!(self::shown(&["é｜"], &["é", "｛", "ü"]).0, ["", "é｛", "ü", ""]);
    }

    #[test]
    fn after_the_end_nothing_comes_until_it_begins_anew() {
        let (mut stop, mut text) = (stop(&["."]), String::new());
        assert_eq!(stop.push("a.b", &mut text), Some(0));
        assert_eq!(stop.push("c", &mut text), Some(0));
        stop.finish(&mut text);
        assert_eq!(text, "a");
        assert_eq!(stop.push("d", &mut text), None);
        assert_eq!(text, "ad");
    }

    #[test]
    fn what_cannot_stop_is_refused() {
        assert_eq!(StopStrings::new(&["a".into(), "".into()]).unwrap_err(), StopError::Empty);
        assert!(StopStrings::new(&vec!["a".into(); 64]).is_ok());
        let error = StopStrings::new(&vec!["a".into(); 65]).unwrap_err();
        assert_eq!(error.to_string(), "there are 65 stop strings; 64 are allowed");
        assert!(StopStrings::new(&vec!["a".repeat(1024); 64]).is_ok());
        let error = StopStrings::new(&["a".repeat(1025)]).unwrap_err();
        assert_eq!(error.to_string(), "a stop string has 1025 bytes; 1024 are allowed");
    }

    /// The text before the stop string that is complete first, by looking at every beginning of the text.
    fn naive(strings: &[String], text: &str) -> (String, Option<usize>) {
        for end in 0..=text.len() {
            let ending = |(_, string): &(usize, &String)| text.as_bytes()[..end].ends_with(string.as_bytes());
            let longest = strings.iter().enumerate().filter(ending).max_by_key(|(at, s)| (s.len(), usize::MAX - at));
            if let Some((at, string)) = longest {
                return (text[..end - string.len()].to_owned(), Some(at));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Each way of cutting gives the same, and what is held back could still stop.
        #[test]
        fn every_way_of_cutting_gives_the_naive_result(
            strings in prop::collection::vec("[abé]{1,4}", 0..4),
            text in "[abé]{0,8}",
        ) {
            let expected = naive(&strings, &text);
            let chars: Vec<String> = text.chars().map(String::from).collect();
            for cuts in 0..1u32 << chars.len().saturating_sub(1) {
                let (mut stop, mut shown, mut fed) = (StopStrings::new(&strings).unwrap(), String::new(), String::new());
                let (mut piece, mut stopped) = (String::new(), None);
                for (at, c) in chars.iter().enumerate() {
                    piece.push_str(c);
                    if cuts >> at & 1 == 0 && at + 1 < chars.len() {
                        continue;
                    }
                    fed.push_str(&piece);
                    stopped = stop.push(&std::mem::take(&mut piece), &mut shown);
                    if stopped.is_none() {
                        let mut ends = fed.char_indices().map(|(start, _)| &fed[start..]);
                        let begins = |end: &&str| strings.iter().any(|string| string.starts_with(end));
                        prop_assert_eq!(&fed[shown.len()..], ends.find(begins).unwrap_or(""));
                    }
                }
                stop.finish(&mut shown);
                prop_assert_eq!((&shown, stopped), (&expected.0, expected.1));
            }
        }
    }
}
