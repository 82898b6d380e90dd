//! Tool definitions, calls and results as the model families write them.
//!
//! Owns the two forms: that of V2.5, V3 and R1 (a type, a name, fenced JSON; results in one
//! bracket) and that of V3.1 (a name, bare JSON; results one by one). Does not decide where in a
//! prompt they stand.

use super::message::{Tool, ToolCall, json_text};
use super::prompt::Prompt;
use crate::tokenizer::Segment;
use serde_json::Value;

pub(super) const CALLS_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub(super) const CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub(super) const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
pub(super) const CALL_END: &str = "<｜tool▁call▁end｜>";
pub(super) const SEP: &str = "<｜tool▁sep｜>";
const OUTPUTS_BEGIN: &str = "<｜tool▁outputs▁begin｜>";
const OUTPUTS_END: &str = "<｜tool▁outputs▁end｜>";
const OUTPUT_BEGIN: &str = "<｜tool▁output▁begin｜>";
const OUTPUT_END: &str = "<｜tool▁output▁end｜>";

/// What is left to the model of a call that was begun for it.
#[derive(Debug, Clone, PartialEq)]
pub enum CallRest {
    /// JSON by this schema.
    Arguments(Value),
    /// One of these texts, and behind it JSON by its schema.
    NameAndArguments(Vec<(String, Value)>),
}

/// Arguments are an object, also where a schema does not say so.
fn object(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(fields) = &mut schema {
        fields.entry("type").or_insert_with(|| "object".into());
    }
    schema
}

/// How a family writes tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `function⟨sep⟩name`, then the arguments in a fence.
    Fenced,
    /// `name⟨sep⟩arguments`.
    Bare,
}

impl Form {
    /// The part of the system text that offers the tools.
    pub(super) fn definitions(self, prompt: &mut Prompt, tools: &[Tool]) {
        if tools.is_empty() {
            return;
        }
        match self {
            Form::Fenced => fenced_definitions(prompt, tools),
            Form::Bare => bare_definitions(prompt, tools),
        }
    }

    pub(super) fn calls(self, prompt: &mut Prompt, calls: &[ToolCall]) {
        if calls.is_empty() {
            return;
        }
        prompt.control(CALLS_BEGIN);
        for (i, call) in calls.iter().enumerate() {
            match self {
                Form::Fenced => {
                    prompt.text(if i == 0 { "" } else { "\n" });
                    prompt.control(CALL_BEGIN);
                    prompt.text("function");
                    prompt.control(SEP);
                    prompt.text(&format!("{}\n```json\n{}\n```", call.name, call.arguments));
                }
                Form::Bare => {
                    prompt.control(CALL_BEGIN);
                    prompt.text(&call.name);
                    prompt.control(SEP);
                    prompt.text(&call.arguments);
                }
            }
            prompt.control(CALL_END);
        }
        prompt.control(CALLS_END);
    }

    /// Begins a call of one of the tools; the model writes the rest of it.
    pub(super) fn begin_call(self, prompt: &mut Prompt, tools: &[&Tool]) -> CallRest {
        let control = |token: &'static str| Segment::Control(token.into());
        let text = |text: &str| Segment::Content(text.to_owned());
        let mut opening = vec![control(CALLS_BEGIN), control(CALL_BEGIN)];
        if self == Form::Fenced {
            opening.extend([text("function"), control(SEP)]);
        }
        let head = |tool: &Tool| match self {
            Form::Fenced => format!("{}\n```json\n", tool.name),
            Form::Bare => tool.name.clone(),
        };
        let rest = match (tools, self) {
            ([tool], form) => {
                opening.push(text(&head(tool)));
                if form == Form::Bare {
                    opening.push(control(SEP));
                }
                CallRest::Arguments(object(&tool.parameters))
            }
            // Behind a name that is still open no marker can be put: the arguments follow it on a line of their own.
            (tools, form) => {
                let end = if form == Form::Bare { "\n" } else { "" };
                CallRest::NameAndArguments(
                    tools.iter().map(|tool| (head(tool) + end, object(&tool.parameters))).collect(),
                )
            }
        };
        prompt.open_answer(opening);
        rest
    }

    /// One result; `first` of those that follow the same calls.
    pub(super) fn result(self, prompt: &mut Prompt, content: &str, first: bool) {
        match (self, first) {
            (Form::Fenced, true) => prompt.control(OUTPUTS_BEGIN),
            (Form::Fenced, false) => prompt.text("\n"),
            (Form::Bare, _) => {}
        }
        prompt.control(OUTPUT_BEGIN);
        prompt.text(content);
        prompt.control(OUTPUT_END);
    }

    /// What follows the last result.
    pub(super) fn end_results(self, prompt: &mut Prompt) {
        if self == Form::Fenced {
            prompt.control(OUTPUTS_END);
        }
    }
}

/// The models' own templates have no place for definitions. The list is written as servers of
/// these models agreed to, the instructions repeat the form of the calls.
fn fenced_definitions(prompt: &mut Prompt, tools: &[Tool]) {
    prompt.text(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>",
    );
    for tool in tools {
        prompt.text("\n");
        prompt.text(&json_text(&tool.definition));
    }
    prompt.text("\n</tools>\n\nTo call functions, print ");
    prompt.control(CALLS_BEGIN);
    prompt.text(" and then every call in this form:\n");
    prompt.control(CALL_BEGIN);
    prompt.text("function");
    prompt.control(SEP);
    prompt.text("{name of the function}\n```json\n{its arguments as a JSON object}\n```");
    prompt.control(CALL_END);
    prompt.text("\nAfter the last call, print ");
    prompt.control(CALLS_END);
    prompt.text(" and wait for the results.");
}

/// The text of the V3.1 model card.
fn bare_definitions(prompt: &mut Prompt, tools: &[Tool]) {
    prompt.text("\n\n## Tools\nYou have access to the following tools:\n");
    for tool in tools {
        let parameters = json_text(&tool.parameters);
        prompt.text(&format!("\n### {}\nDescription: {}\n\nParameters: {parameters}\n", tool.name, tool.description));
    }
    prompt.text("\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n");
    prompt.control(CALLS_BEGIN);
    prompt.control(CALL_BEGIN);
    prompt.text("tool_call_name");
    prompt.control(SEP);
    prompt.text("tool_call_arguments");
    prompt.control(CALL_END);
    prompt.text("{{additional_tool_calls}}");
    prompt.control(CALLS_END);
    prompt.text(
        "\n\nWhere:\n- `tool_call_name` must be an exact match to one of the available tools\n\
         - `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n\
         - For multiple tool calls, chain them directly without separators or spaces",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Event, Expects, Piece};
    use serde_json::json;

    fn tool() -> Tool {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        serde_json::from_value(json!({"name": "weather", "description": "Tells it.", "parameters": schema})).unwrap()
    }

    #[test]
    fn definitions_of_the_fenced_form() {
        let mut prompt = Prompt::default();
        Form::Fenced.definitions(&mut prompt, &[tool(), tool()]);
        let line = r#"{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}"#;
        let expected = format!(
            "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided \
             with function signatures within <tools></tools> XML tags:\n<tools>\n{line}\n{line}\n</tools>\n\nTo call \
             functions, print <｜tool▁calls▁begin｜> and then every call in this form:\n<｜tool▁call▁begin｜>function\
             <｜tool▁sep｜>{{name of the function}}\n```json\n{{its arguments as a JSON object}}\n```<｜tool▁call▁end｜>\n\
             After the last call, print <｜tool▁calls▁end｜> and wait for the results."
        );
        assert_eq!(prompt.to_text(), expected);
    }

    /// What a grammar lets the model write behind what was begun is a call again.
    #[test]
    fn a_call_that_was_begun_is_read() {
        let schema = json!({"properties": {"a": {"type": "integer"}}});
        let tools = ["f", "g"]
            .map(|name| serde_json::from_value::<Tool>(json!({"name": name, "parameters": schema.clone()})).unwrap());
        let (name, arguments) = ("g".to_owned(), r#"{"a": 1}"#.to_owned());
        let told = [r#"{"a": 1"#, "}"].map(|text| Event::Arguments(text.into()));
        let [begun, ended] = told;
        let expected = [Event::CallBegun { name: name.clone() }, begun, ended, Event::ToolCall { name, arguments }];
        for form in [Form::Fenced, Form::Bare] {
            let mut prompt = Prompt::default();
            prompt.expect(Expects::Reasoning);
            let CallRest::Arguments(rest) = form.begin_call(&mut prompt, &[&tools[1]]) else { panic!("{form:?}") };
            assert_eq!(rest["type"], "object");
            assert!(prompt.to_text().starts_with("</think><｜tool▁calls▁begin｜>"), "{}", prompt.to_text());
            let read = |prompt: &Prompt, text: &str| {
                let mut parser = prompt.parser();
                let mut events = parser.push(Piece::Text(text));
                events.extend(parser.finish());
                events
            };
            assert_eq!(read(&prompt, r#"{"a": 1}"#), expected);
            let mut prompt = Prompt::default();
            let rest = form.begin_call(&mut prompt, &[&tools[0], &tools[1]]);
            let CallRest::NameAndArguments(rest) = rest else { panic!("{form:?}") };
            assert_eq!(read(&prompt, &format!(r#"{}{{"a": 1}}"#, rest[1].0)), expected);
        }
    }

    #[test]
    fn definitions_of_the_bare_form() {
        let mut prompt = Prompt::default();
        Form::Bare.definitions(&mut prompt, &[tool()]);
        assert_eq!(
            prompt.to_text(),
            "\n\n## Tools\nYou have access to the following tools:\n\n### weather\nDescription: Tells it.\n\n\
             Parameters: {\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}}, \"required\": [\"city\"]}\n\n\
             IMPORTANT: ALWAYS adhere to this exact format for tool use:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>\
             tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>\n\n\
             Where:\n- `tool_call_name` must be an exact match to one of the available tools\n- `tool_call_arguments` must \
             be valid JSON that strictly follows the tool's Parameters Schema\n- For multiple tool calls, chain them \
             directly without separators or spaces"
        );
    }
}
