//! How DeepSeek itself uses V3-0324: the system prompt with the date, the temperature map, the
//! frame around an uploaded file.
//!
//! The texts are constants of the model, byte for byte what it was tuned on. Knows no clock: the
//! date is an argument, and [`today`] is there to make one.

use jiff::civil::{Date, Weekday};
use std::fmt::Write as _;

/// Today's date where the user is.
pub fn today() -> Date {
    jiff::Zoned::now().date()
}

/// The system prompt of a day.
pub fn system_prompt(date: Date) -> String {
    format!("该助手为DeepSeek Chat，由深度求索公司创造。\n今天是{}。", chinese_date(date))
}

/// A date as the system prompt writes it: `3月24日，星期一`.
pub(super) fn chinese_date(date: Date) -> String {
    let weekday = match date.weekday() {
        Weekday::Monday => "星期一",
        Weekday::Tuesday => "星期二",
        Weekday::Wednesday => "星期三",
        Weekday::Thursday => "星期四",
        Weekday::Friday => "星期五",
        Weekday::Saturday => "星期六",
        Weekday::Sunday => "星期日",
    };
    format!("{}月{}日，{weekday}", date.month(), date.day())
}

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("temperature {0} is out of range: give a value from 0 to 2")]
pub struct TemperatureError(pub f64);

/// The temperature to sample at, for a temperature that was asked for: 1.0 becomes 0.3.
pub fn temperature(asked: f64) -> Result<f64, TemperatureError> {
    match asked {
        t if (0.0..=1.0).contains(&t) => Ok(0.3 * t),
        t if t > 1.0 && t <= 2.0 => Ok(t - 0.7),
        t => Err(TemperatureError(t)),
    }
}

/// A file that goes with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    pub name: &'a str,
    pub content: &'a str,
}

/// The user message that asks `question` about files. Each file has its frame, in order.
pub fn with_files(files: &[File], question: &str) -> String {
    let mut message = String::new();
    for File { name, content } in files {
        // Writing to a String cannot fail.
        let _ = writeln!(message, "[file name]: {name}\n[file content begin]\n{content}\n[file content end]");
    }
    message + question
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn system_prompt_has_the_date_and_the_weekday() {
        let expected = "该助手为DeepSeek Chat，由深度求索公司创造。\n今天是3月24日，星期一。";
        assert_eq!(system_prompt(date(2025, 3, 24)), expected);
        let days = ["一", "二", "三", "四", "五", "六", "日"];
        for (i, day) in (24..=30).zip(days) {
            assert_eq!(chinese_date(date(2025, 3, i)), format!("3月{i}日，星期{day}"));
        }
        assert_eq!(chinese_date(date(2024, 2, 29)), "2月29日，星期四");
    }

    #[test]
    fn temperature_is_mapped_in_two_pieces() {
        for (asked, expected) in [(0.0, 0.0), (0.5, 0.15), (1.0, 0.3), (1.5, 0.8), (2.0, 1.3)] {
            let mapped = temperature(asked).unwrap();
            assert!((mapped - expected).abs() < 1e-12, "{asked} became {mapped}");
        }
        for bad in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            assert!(temperature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_framed_and_followed_by_the_question() {
        let file = |name, content| File { name, content };
        assert_eq!(
            with_files(&[file("a.txt", "one\ntwo")], "Why?"),
            "[file name]: a.txt\n[file content begin]\none\ntwo\n[file content end]\nWhy?"
        );
        let two = with_files(&[file("a", "1"), file("b", "2")], "q");
        assert!(two.contains("[file content end]\n[file name]: b\n"), "{two}");
        assert_eq!(with_files(&[], "q"), "q");
    }
}
