//! What is answered when something is wrong, in the form of each protocol.

use crate::engine::{ConstraintError, Failure, Refused};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Something is wrong: with a request, or with the server.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: String,
    /// The field that is at fault.
    pub(super) field: Option<String>,
    /// Seconds until it is worth another try.
    pub(super) retry_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    ContextLength,
    NoKey,
    Forbidden,
    NotFound,
    NoModel,
    Method,
    Timeout,
    TooLarge,
    HeadersTooLarge,
    MediaType,
    Busy,
    Internal,
    NotImplemented,
    Unavailable,
}

impl Kind {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Kind::Invalid | Kind::ContextLength => StatusCode::BAD_REQUEST,
            Kind::NoKey => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound | Kind::NoModel => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Timeout => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Kind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn openai(self) -> (&'static str, Option<&'static str>) {
        match self {
            Kind::ContextLength => ("invalid_request_error", Some("context_length_exceeded")),
            Kind::NoKey => ("authentication_error", Some("invalid_api_key")),
            Kind::Forbidden => ("permission_error", None),
            Kind::NoModel => ("not_found_error", Some("model_not_found")),
            Kind::NotFound => ("not_found_error", None),
            Kind::Busy => ("rate_limit_error", Some("queue_full")),
            Kind::Internal => ("server_error", None),
            Kind::NotImplemented => ("not_implemented_error", None),
            Kind::Unavailable => ("unavailable_error", None),
            _ => ("invalid_request_error", None),
        }
    }

    fn anthropic(self) -> &'static str {
        match self {
            Kind::NoKey => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::NotFound | Kind::NoModel => "not_found_error",
            Kind::TooLarge => "request_too_large",
            Kind::Busy => "rate_limit_error",
            Kind::Unavailable => "overloaded_error",
            Kind::Internal | Kind::NotImplemented => "api_error",
            _ => "invalid_request_error",
        }
    }
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), field: None, retry_after: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Invalid, message)
    }

    /// A field is wrong.
    pub(super) fn field(field: impl Into<String>, fault: impl std::fmt::Display) -> Fault {
        let field = field.into();
        Fault { message: format!("'{field}': {fault}"), field: Some(field), ..Fault::invalid("") }
    }

    /// With the field that it is about, where it is the client's.
    pub(super) fn about(self, field: Option<&str>) -> Fault {
        match field {
            Some(field) if self.kind == Kind::Invalid => Fault::field(field, self.message),
            _ => self,
        }
    }

    pub(super) fn busy() -> Fault {
        let message = "all places are taken, in the queue too: try again in a moment";
        Fault { retry_after: Some(2), ..Fault::new(Kind::Busy, message) }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Fault {
        Fault { retry_after: Some(5), ..Fault::new(Kind::Unavailable, message) }
    }

    pub(super) fn openai(&self) -> Value {
        let (kind, code) = self.kind.openai();
        json!({ "error": { "message": self.message, "type": kind, "param": self.field, "code": code } })
    }

    pub(super) fn anthropic(&self) -> Value {
        json!({ "type": "error", "error": { "type": self.kind.anthropic(), "message": self.message } })
    }

    fn anthropic_of(&self, request: &str) -> Value {
        let mut value = self.anthropic();
        value["request_id"] = request.into();
        value
    }

    pub(super) fn ollama(&self) -> Value {
        json!({ "error": self.message })
    }

    /// In the form of the protocol whose path it is; Anthropic's says which request it is about.
    pub(super) fn in_form_of(&self, path: &str, request: &str) -> Value {
        match path {
            path if path.starts_with("/v1/messages") => self.anthropic_of(request),
            path if path.starts_with("/api/") => self.ollama(),
            _ => self.openai(),
        }
    }
}

/// The form of OpenAI's; the layer that knows the path gives it another one where that is spoken.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), Json(self.openai())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::NoKey {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        let message = refused.to_string();
        match refused {
            Refused::PromptTooLong { prompt, n_ctx } => {
                let message = format!("the prompt has {prompt} tokens, but the context only {n_ctx}: shorten it");
                Fault::new(Kind::ContextLength, message)
            }
            // Of texts neither can be.
            Refused::EmptyPrompt | Refused::Token { .. } => Fault::field("prompt", message),
            Refused::Gone => Fault::new(Kind::Internal, message),
            Refused::Constraint(ConstraintError::Vocabulary(_)) => Fault::new(Kind::Internal, message),
            _ => Fault::invalid(message),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        // What a client wants an answer to be is its own affair.
        let kind = if matches!(failure, Failure::Constraint(_)) { Kind::Invalid } else { Kind::Internal };
        Fault::new(kind, failure.to_string())
    }
}
