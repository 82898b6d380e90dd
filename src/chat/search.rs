//! Questions with web search results, in DeepSeek's own templates.
//!
//! Owns the two templates, which of them a question gets, and the JSON format of results. Fetches
//! nothing.
//!
//! # Search results as JSON
//!
//! An array of results, or an object with that array under `results`:
//!
//! ```json
//! {"results": [
//!   {"content": "The text of the page.",
//!    "title": "Its title", "url": "https://example.org/page", "date": "2025-03-24"}
//! ]}
//! ```
//!
//! `content` is required and not empty; `title`, `url` and `date` are optional strings and stand
//! before the content, one a line. Other fields are ignored. Results are numbered from 1 in their
//! order; the model cites them as `[citation:1]`.

use super::official::chinese_date;
use jiff::civil::Date;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// One page that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    pub title: Option<String>,
    pub url: Option<String>,
    pub date: Option<String>,
    pub content: String,
}

/// What is wrong with search results; results are counted from 1, as the model sees them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    #[error("the search results are not JSON: {0}")]
    Json(String),
    #[error("the search results must be an array, or an object with an array 'results', not {0}")]
    NotAnArray(&'static str),
    #[error("there are no search results: give at least one, or ask without them")]
    Empty,
    #[error("search result {number} must be an object with 'content', not {found}")]
    NotAnObject { number: usize, found: &'static str },
    #[error("search result {number} has no 'content': give the text of the page as a string")]
    NoContent { number: usize },
    #[error("'{field}' of search result {number} must be a string, not {found}")]
    Field { number: usize, field: &'static str, found: &'static str },
}

/// The results in a JSON text, in their order.
pub fn read_results(json: &str) -> Result<Vec<SearchResult>, SearchError> {
    let value: Value = serde_json::from_str(json).map_err(|error| SearchError::Json(error.to_string()))?;
    let list = value.get("results").unwrap_or(&value);
    let list = list.as_array().ok_or(SearchError::NotAnArray(kind(list)))?;
    if list.is_empty() {
        return Err(SearchError::Empty);
    }
    list.iter().enumerate().map(|(i, value)| read_result(i + 1, value)).collect()
}

fn read_result(number: usize, value: &Value) -> Result<SearchResult, SearchError> {
    let fields = value.as_object().ok_or(SearchError::NotAnObject { number, found: kind(value) })?;
    let content = string(fields, "content", number)?.filter(|content| !content.trim().is_empty());
    Ok(SearchResult {
        title: string(fields, "title", number)?,
        url: string(fields, "url", number)?,
        date: string(fields, "date", number)?,
        content: content.ok_or(SearchError::NoContent { number })?,
    })
}

fn string(fields: &Map<String, Value>, field: &'static str, number: usize) -> Result<Option<String>, SearchError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(SearchError::Field { number, field, found: kind(other) }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The user message that asks `question` and gives the results to answer it from.
pub fn with_results(results: &[SearchResult], question: &str, date: Date) -> String {
    let (template, date) = match is_chinese(question) {
        true => (include_str!("search/zh.txt"), chinese_date(date)),
        false => (include_str!("search/en.txt"), date.strftime("%A, %B %-d, %Y").to_string()),
    };
    let pages = pages(results);
    let mut message = String::with_capacity(template.len() + pages.len() + question.len());
    // The values are put in from left to right, so that what they say is never taken for a field.
    let mut rest = template;
    for (field, value) in [("{search_results}", pages.as_str()), ("{cur_date}", &date), ("{question}", question)] {
        let (before, after) = rest.split_once(field).unwrap_or((rest, ""));
        message.push_str(before);
        message.push_str(value);
        rest = after;
    }
    message + rest
}

fn pages(results: &[SearchResult]) -> String {
    let mut pages = String::new();
    for (i, result) in results.iter().enumerate() {
        let number = i + 1;
        let head = [&result.title, &result.url, &result.date];
        let head: String = head.into_iter().flatten().map(|line| format!("{line}\n")).collect();
        let gap = if i == 0 { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = write!(pages, "{gap}[webpage {number} begin]{head}{}[webpage {number} end]", result.content);
    }
    pages
}

/// Whether a question is in Chinese: it has Han characters, no Japanese kana or Korean, and no more
/// words in other scripts than Han characters, for names and terms are often left in Latin script.
pub fn is_chinese(question: &str) -> bool {
    let (mut han, mut words, mut in_word) = (0usize, 0usize, false);
    for c in question.chars() {
        match c {
            '\u{3040}'..='\u{30ff}' | '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7a3}' => return false,
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => {
                han += 1;
                in_word = false;
            }
            c => {
                words += usize::from(c.is_alphabetic() && !in_word);
                in_word = c.is_alphanumeric() || (in_word && matches!(c, '\'' | '’' | '-' | '_'));
            }
        }
    }
    han > 0 && han >= words
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const DAY: Date = date(2025, 3, 24);

    fn result(content: &str) -> SearchResult {
        SearchResult { content: content.into(), ..SearchResult::default() }
    }

    #[test]
    fn reads_both_shapes() {
        let inner = r#"[{"content": "c", "title": "t", "url": "u", "date": null, "score": 1}, {"content": "d"}]"#;
        let first = SearchResult { title: Some("t".into()), url: Some("u".into()), ..result("c") };
        let expected = Ok(vec![first, result("d")]);
        assert_eq!(read_results(inner), expected);
        assert_eq!(read_results(&format!("{{\"results\": {inner}}}")), expected);
    }

    #[test]
    fn names_what_is_wrong() {
        for (json, expected) in [
            ("[", "not JSON: EOF"),
            ("\"x\"", "not a string"),
            ("{\"results\": {}}", "not an object"),
            ("[]", "no search results"),
            ("[{\"content\": \"c\"}, 1]", "search result 2 must be an object with 'content', not a number"),
            ("[{\"title\": \"t\"}]", "search result 1 has no 'content'"),
            ("[{\"content\": \" \"}]", "search result 1 has no 'content'"),
            ("[{\"content\": \"c\", \"url\": 1}]", "'url' of search result 1 must be a string, not a number"),
        ] {
            let error = read_results(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn the_language_of_the_question_chooses_the_template() {
        for chinese in ["今天天气怎么样？", "用Python写一个quicksort函数", "DeepSeek是什么"] {
            assert!(is_chinese(chinese), "{chinese}");
        }
        for other in ["What does 你好 mean?", "東京の天気は？", "서울 날씨", "How are you?", "", "42?", "Was heißt 是?"]
        {
            assert!(!is_chinese(other), "{other}");
        }
    }

    #[test]
    fn english_prompt_is_exact_at_its_seams() {
        let page = SearchResult { title: Some("T".into()), url: Some("http://u".into()), ..result("body {question}") };
        let prompt = with_results(&[page, result("two")], "Why {cur_date}?", DAY);
        let begin = "# The following contents are the search results related to the user's message:\n\
                     [webpage 1 begin]T\nhttp://u\nbody {question}[webpage 1 end]\n\
                     [webpage 2 begin]two[webpage 2 end]\nIn the search results I provide to you, each result";
        assert!(prompt.starts_with(begin), "{prompt}");
        assert!(prompt.contains("\n- Today is Monday, March 24, 2025.\n"), "{prompt}");
        assert!(prompt.ends_with("user's question.\n# The user's message is:\nWhy {cur_date}?"), "{prompt}");
    }

    #[test]
    fn chinese_prompt_is_exact_at_its_seams() {
        let prompt = with_results(&[result("内容")], "为什么？", DAY);
        assert!(
            prompt.starts_with("# 以下内容是基于用户发送的消息的搜索结果:\n[webpage 1 begin]内容[webpage 1 end]\n在我")
        );
        assert!(prompt.contains("\n- 今天是3月24日，星期一。\n"));
        assert!(prompt.ends_with("保持一致。\n# 用户消息为:\n为什么？"));
    }

    #[test]
    fn templates_have_each_field_once_and_in_order() {
        for template in [include_str!("search/zh.txt"), include_str!("search/en.txt")] {
            let places: Vec<_> = template.match_indices('{').map(|(at, _)| &template[at..]).collect();
            assert_eq!(places.len(), 3);
            for (place, field) in places.iter().zip(["{search_results}", "{cur_date}", "{question}"]) {
                assert!(place.starts_with(field));
            }
        }
    }
}
