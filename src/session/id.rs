//! The names of sessions: short, readable, and safe as names of files.

use rand_chacha::rand_core::{OsRng, TryRngCore};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a session: when it began and a random word (`20261122-0519-k3f9`), or what its user chose.
///
/// Only letters a to z, digits, `-` and `_`: no name leads out of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SessionId(String);

/// What cannot be the name of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a session's name has 1 to {} characters, letters a to z, digits, '-' and '_', and begins with a letter or digit",
    SessionId::MAX_LEN
)]
pub struct BadId;

/// Digits and letters that are not taken for each other.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl SessionId {
    pub const MAX_LEN: usize = 64;

    /// A new name, of the present minute.
    pub fn generate() -> SessionId {
        let now = jiff::Zoned::now();
        // Without random bytes from the system the clock's fine part has to do: names are no secret, and a
        // name that is taken is not taken again.
        let random = OsRng.try_next_u32().unwrap_or(now.subsec_nanosecond().unsigned_abs());
        let word: String = (0..4).map(|n| char::from(LETTERS[(random >> (5 * n)) as usize % LETTERS.len()])).collect();
        SessionId(format!("{}-{word}", now.strftime("%Y%m%d-%H%M")))
    }

    pub fn parse(text: &str) -> Result<SessionId, BadId> {
        let is_fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        let begins = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        match begins && text.len() <= SessionId::MAX_LEN && text.bytes().all(is_fine) {
            true => Ok(SessionId(text.to_owned())),
            false => Err(BadId),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what a user typed may mean this name: its beginning, or the beginning of its last word.
    pub(super) fn is_meant_by(&self, typed: &str) -> bool {
        let last = self.0.rsplit('-').next().unwrap_or_default();
        !typed.is_empty() && (self.0.starts_with(typed) || last.starts_with(typed))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SessionId {
    type Error = BadId;

    fn try_from(text: String) -> Result<SessionId, BadId> {
        SessionId::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_names_and_differ() {
        let ids: std::collections::BTreeSet<SessionId> = (0..20).map(|_| SessionId::generate()).collect();
        assert!(ids.len() > 15);
        assert!(ids.iter().all(|id| SessionId::parse(id.as_str()) == Ok(id.clone()) && id.as_str().len() == 18));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for bad in ["", ".", "..", "../a", "a/b", "a\\b", "a.json", "-a", "_a", "A", "é", "a b", "a\0", &"a".repeat(65)]
        {
            assert_eq!(SessionId::parse(bad), Err(BadId), "{bad}");
            assert!(serde_json::from_value::<SessionId>(bad.into()).is_err());
        }
    }

    #[test]
    fn a_beginning_is_enough() {
        let id = SessionId::parse("20261122-0519-k3f9").unwrap();
        for typed in ["2026", "20261122-0519-k3f9", "k3", "k3f9"] {
            assert!(id.is_meant_by(typed), "{typed}");
        }
        for typed in ["", "0519", "3f9", "20261122-0519-k3f9x"] {
            assert!(!id.is_meant_by(typed), "{typed}");
        }
    }
}
