//! Where in a JSON schema the fault is that it was refused for.
//!
//! Knows no fault: a part of the schema is at fault if the rest is no more refused for the same reason once that
//! part allows everything.

use serde_json::Value;

/// Keywords whose value is a schema, or a list of them.
const SCHEMAS: [&str; 14] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords whose value has a schema under each of its keys.
const MAPS: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// The JSON pointer to the smallest schema in `schema` that is at fault; `fault` says why a schema is refused, if it
/// is.
pub(super) fn place(schema: &Value, fault: impl Fn(&Value) -> Option<String>) -> String {
    let Some(why) = fault(schema) else { return String::new() };
    let is_innocent = |pointer: &String| {
        let mut without = schema.clone();
        let Some(part) = without.pointer_mut(pointer) else { return true };
        *part = Value::Bool(true);
        fault(&without).as_ref() == Some(&why)
    };
    let mut place = String::new();
    while let Some(part) = schema.pointer(&place) {
        let Some(deeper) = parts(part).into_iter().map(|part| format!("{place}{part}")).find(|part| !is_innocent(part))
        else {
            break;
        };
        place = deeper;
    }
    place
}

/// The pointers from a schema to those directly in it.
fn parts(schema: &Value) -> Vec<String> {
    let Value::Object(fields) = schema else { return Vec::new() };
    let of_field = |(key, value): (&String, &Value)| -> Vec<String> {
        let at = format!("/{}", escaped(key));
        match value {
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                map.keys().map(|name| format!("{at}/{}", escaped(name))).collect()
            }
            Value::Array(list) if SCHEMAS.contains(&key.as_str()) => {
                (0..list.len()).map(|number| format!("{at}/{number}")).collect()
            }
            _ if SCHEMAS.contains(&key.as_str()) => vec![at],
            _ => Vec::new(),
        }
    };
    fields.iter().flat_map(of_field).collect()
}

/// A key as a JSON pointer has it.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Refuses the type `int`, wherever it is.
    fn fault(schema: &Value) -> Option<String> {
        let is_refused = match schema {
            Value::Object(fields) => {
                fields.get("type") == Some(&json!("int")) || fields.values().any(|value| fault(value).is_some())
            }
            Value::Array(list) => list.iter().any(|value| fault(value).is_some()),
            _ => false,
        };
        is_refused.then(|| "int".to_owned())
    }

    #[test]
    fn the_smallest_schema_at_fault_is_found() {
        let bad = json!({"type": "int"});
        for (schema, at) in [
            (bad.clone(), ""),
            (json!({"type": "string"}), ""),
            (json!({"properties": {"a/b": bad, "c": {}}}), "/properties/a~1b"),
            (json!({"anyOf": [true, {"items": bad}]}), "/anyOf/1/items"),
            (json!({"$defs": {"n": bad}, "$ref": "#/$defs/n"}), "/$defs/n"),
            // Two: what has both in it.
            (json!({"properties": {"a": {"allOf": [bad, bad]}}}), "/properties/a"),
            // Not a schema, whatever it looks like.
            (json!({"properties": {"a": {"const": bad}}}), "/properties/a"),
        ] {
            assert_eq!(place(&schema, fault), at, "{schema}");
        }
    }
}
