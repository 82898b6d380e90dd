//! A JSON object that a client sent: read within bounds, its fields taken by name and type.
//!
//! What is not asked for is ignored, `null` is the same as nothing, and what has the wrong type is refused by its name.

use super::app::App;
use super::fault::{Fault, Kind};
use super::words;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    map: Map<String, Value>,
    /// What they are within, for messages.
    within: String,
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Fields, Fault> {
        // Clients of Ollama's need not say that it is JSON; the door has looked at where they come from.
        if !request.uri().path().starts_with("/api/") {
            check_type(request.headers())?;
        }
        let max = app.options.max_body;
        let too_large = || Fault::new(Kind::TooLarge, format!("the body is too large: at most {max} bytes are taken"));
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > max as u64) {
            return Err(too_large());
        }
        // However slowly its client sends it.
        let read = tokio::time::timeout(app.options.timeout, to_bytes(request.into_body(), max)).await;
        let slow = |_| Fault::new(Kind::Timeout, "the body did not come in time");
        let broken = |error: axum::Error| match is_limit(&error) {
            true => too_large(),
            false => Fault::invalid("the body broke off"),
        };
        Fields::parse(&read.map_err(slow)?.map_err(broken)?)
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn check_type(headers: &HeaderMap) -> Result<(), Fault> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind == "application/json" || kind.ends_with("+json") {
        true => Ok(()),
        false => Err(Fault::new(Kind::MediaType, "the body must be JSON, with 'Content-Type: application/json'")),
    }
}

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Fields, Fault> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Fields { map, within: String::new() }),
            Ok(_) => Err(Fault::invalid("the body must be a JSON object")),
            Err(error) if error.to_string().starts_with("recursion limit exceeded") => {
                Err(Fault::invalid("the body is nested too deeply: 127 levels are read"))
            }
            Err(error) => Err(Fault::invalid(format!("the body is not JSON: {error}"))),
        }
    }

    pub(super) fn of(map: Map<String, Value>, within: impl Into<String>) -> Fields {
        Fields { map, within: within.into() }
    }

    pub(super) fn path(&self, name: &str) -> String {
        match self.within.as_str() {
            "" => name.to_owned(),
            within => format!("{within}.{name}"),
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.value(name).map(|value| read(value, &self.path(name))).transpose()
    }

    /// The first of several names that is there.
    pub(super) fn name_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.value(name).is_some())
    }

    /// The same where others of them that are there have the same.
    pub(super) fn agreed_name_of<'a>(&self, names: &[&'a str]) -> Result<Option<&'a str>, Fault> {
        let Some(first) = self.name_of(names) else { return Ok(None) };
        let differs = |name: &&str| self.value(name).is_some_and(|value| !are_same(value, self.value(first)));
        match names.iter().copied().find(differs) {
            Some(other) => Err(self.fault(other, format!("'{}' says something else", self.path(first)))),
            None => Ok(Some(first)),
        }
    }

    /// What several names have, of which one is enough.
    pub(super) fn any<T: DeserializeOwned>(&self, names: &[&str]) -> Result<Option<T>, Fault> {
        self.agreed_name_of(names)?.map_or(Ok(None), |name| self.get(name))
    }

    pub(super) fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T, Fault> {
        self.get(name)?.ok_or_else(|| Fault::field(self.path(name), "it is missing"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        Ok(self.get(name)?.unwrap_or(false))
    }

    /// An object within this one; empty where there is none.
    pub(super) fn object(&self, name: &str) -> Result<Fields, Fault> {
        Ok(Fields { map: self.get(name)?.unwrap_or_default(), within: self.path(name) })
    }

    /// The objects of an array.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Fields>, Fault> {
        let values: Vec<Value> = self.get(name)?.unwrap_or_default();
        objects(values, &self.path(name))
    }

    pub(super) fn fault(&self, name: &str, fault: impl std::fmt::Display) -> Fault {
        Fault::field(self.path(name), fault)
    }
}

/// Numbers are the same however they are written.
fn are_same(value: &Value, other: Option<&Value>) -> bool {
    let number = value.as_f64();
    Some(value) == other || number.is_some() && number == other.and_then(Value::as_f64)
}

pub(super) fn objects(values: Vec<Value>, path: &str) -> Result<Vec<Fields>, Fault> {
    let object = |(n, value): (usize, Value)| match value {
        Value::Object(map) => Ok(Fields::of(map, format!("{path}[{n}]"))),
        _ => Err(Fault::field(format!("{path}[{n}]"), "it must be an object")),
    };
    values.into_iter().enumerate().map(object).collect()
}

/// A value as a type, or what of it is wrong, and where.
pub(super) fn read<T: DeserializeOwned>(value: &Value, path: &str) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let whole = match inner.as_str() {
            "." => path.to_owned(),
            inner if inner.starts_with('[') => format!("{path}{inner}"),
            inner => format!("{path}.{inner}"),
        };
        Fault::field(whole, words::of(&error.into_inner().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_wrong_type_is_refused_by_its_name() {
        let fields = fields(r#"{"a": {"b": "x"}, "c": [1, "y"], "d": null, "e": 1e300, "f": [{}, 3]}"#);
        let inner = fields.object("a").unwrap();
        assert_eq!(inner.get::<f32>("b").unwrap_err().field.as_deref(), Some("a.b"));
        let fault = fields.get::<Vec<u32>>("c").unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("c[1]"));
        assert!(fault.message.contains("it must be a whole number"), "{}", fault.message);
        assert_eq!(fields.get::<u32>("d").unwrap(), None);
        assert!(fields.get::<u32>("e").is_err());
        assert_eq!(fields.objects("f").unwrap_err().field.as_deref(), Some("f[1]"));
        assert_eq!(inner.need::<u32>("z").unwrap_err().message, "'a.z': it is missing");
    }

    #[test]
    fn names_of_the_same_agree() {
        let fields = fields(r#"{"a": 1, "b": 1.0, "c": 2, "d": null, "e": "1"}"#);
        assert_eq!(fields.any::<f64>(&["z", "d", "b", "a"]).unwrap(), Some(1.0));
        assert_eq!(fields.any::<f64>(&["d", "z"]).unwrap(), None);
        for other in ["c", "e"] {
            let fault = fields.any::<f64>(&["a", "b", other]).unwrap_err();
            assert_eq!(fault.message, format!("'{other}': 'a' says something else"));
        }
    }

    #[test]
    fn what_is_nested_too_deeply_is_json_all_the_same() {
        let nested = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n)).into_bytes();
        assert!(Fields::parse(&nested(127)).is_ok());
        let fault = Fields::parse(&nested(128)).unwrap_err();
        assert_eq!(fault.message, "the body is nested too deeply: 127 levels are read");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "{", "{\"a\": 1e999}", &"[".repeat(100_000), "{\"a\": \"\u{0}\"}"] {
            assert_eq!(Fields::parse(text.as_bytes()).unwrap_err().kind, Kind::Invalid);
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
    }
}
