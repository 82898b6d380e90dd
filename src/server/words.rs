//! What is said to who sent a value of the wrong kind: in JSON's words, and not in those of this program's types.
//!
//! Knows how `serde` puts it, and no field.

use crate::text::Clipped;

/// What `serde` says of a value, for people.
pub(super) fn of(message: &str) -> String {
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((found, expected)) if is_too_large(found, expected) => {
            format!("it must be {}, and {} is too large", kind(expected), Clipped(&value(found)))
        }
        Some((found, expected)) => format!("it must be {}, not {}", kind(expected), Clipped(&value(found))),
        None => message.to_owned(),
    }
}

/// A value of a kind, by the name of its type.
fn kind(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "an array",
        "a map" => "an object",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

fn value(found: &str) -> String {
    let quoted = |name: &str| found.strip_prefix(name).map(|rest| rest.trim_matches('`').to_owned());
    match found {
        "sequence" => "an array".to_owned(),
        "map" => "an object".to_owned(),
        found => quoted("integer ")
            .or_else(|| quoted("floating point "))
            .or_else(|| quoted("boolean "))
            .or_else(|| found.strip_prefix("string ").map(|text| format!("the text {text}")))
            .unwrap_or_else(|| found.to_owned()),
    }
}

/// A whole number is wanted, and this is one, but beyond what is counted here.
fn is_too_large(found: &str, expected: &str) -> bool {
    let number = |name: &str| found.strip_prefix(name)?.trim_matches('`').parse::<f64>().ok();
    // JSON's numbers become floating point where they are too large for anything else.
    let whole = number("integer ").or_else(|| number("floating point ").filter(|number| number.abs() >= 1e19));
    let is_within = |number: f64| number >= 0.0 || expected.starts_with('i');
    kind(expected).starts_with("a whole number") && whole.is_some_and(is_within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn says<T: DeserializeOwned>(value: Value) -> String {
        of(&serde_json::from_value::<T>(value).err().unwrap().to_string())
    }

    #[test]
    fn no_type_of_the_program_is_named() {
        for (said, expected) in [
            (says::<u32>(json!("x")), "it must be a whole number that is not negative, not the text \"x\""),
            (says::<usize>(json!(-5)), "it must be a whole number that is not negative, not -5"),
            (says::<u32>(json!(1.5)), "it must be a whole number that is not negative, not 1.5"),
            (says::<u32>(json!(16.0)), "it must be a whole number that is not negative, not 16.0"),
            (
                says::<u32>(json!(5_000_000_000_u64)),
                "it must be a whole number that is not negative, and 5000000000 is too large",
            ),
            (says::<i64>(json!(1e30)), "it must be a whole number, and 1e+30 is too large"),
            (says::<f32>(json!([])), "it must be a number, not an array"),
            (says::<bool>(json!(1)), "it must be true or false, not 1"),
            (says::<String>(json!(true)), "it must be a text, not true"),
            (says::<Vec<String>>(json!({})), "it must be an array, not an object"),
            (says::<serde_json::Map<String, Value>>(json!(3)), "it must be an object, not 3"),
            (says::<crate::chat::Conversation>(json!("x")), "it must be an object, not the text \"x\""),
        ] {
            assert_eq!(said, expected);
        }
        assert!(says::<u32>(json!("y".repeat(1 << 20))).len() < 1000);
        assert_eq!(of("missing field `role`"), "missing field `role`");
    }
}
