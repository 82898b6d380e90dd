//! Numbers and times as a person reads them.

use std::time::Duration;

/// `18,400`
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 token`, `2 tokens`
pub fn tokens(n: usize) -> String {
    format!("{} token{}", count(n), if n == 1 { "" } else { "s" })
}

/// A length of time, as exact as it matters: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..100 => format!("{whole} s"),
        100..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Tokens a second; none where nothing was measured.
pub fn rate(n: usize, time: Duration) -> Option<f64> {
    (n > 0 && !time.is_zero()).then(|| n as f64 / time.as_secs_f64())
}

/// How long `n` more tokens take at `rate` tokens a second.
pub fn time_left(n: usize, rate: f64) -> Duration {
    Duration::try_from_secs_f64(n as f64 / rate).unwrap_or(Duration::MAX)
}

/// How far a prompt is, and was a while ago: `prompt 512 of 18,400 tokens, 33.1 tokens/s, 9 min left`.
pub fn prompt(done: usize, total: usize, rate: Option<f64>, ago: Duration) -> String {
    let mut text = format!("prompt {} of {}", count(done), tokens(total));
    if let Some(rate) = rate {
        let left = time_left(total.saturating_sub(done), rate).saturating_sub(ago);
        text += &format!(", {rate:.1} tokens/s, {} left", time(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times() {
        assert_eq!([0, 999, 1000, 18_400, 1_234_567].map(count), ["0", "999", "1,000", "18,400", "1,234,567"]);
        assert_eq!([1, 2].map(tokens), ["1 token", "2 tokens"]);
        let times = [0.42, 12.4, 99.4, 200.0, 7_500.0].map(Duration::from_secs_f64).map(time);
        assert_eq!(times, ["0.4 s", "12 s", "99 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn prompts_say_what_is_known() {
        assert_eq!(prompt(0, 18_400, None, Duration::ZERO), "prompt 0 of 18,400 tokens");
        let ago = Duration::from_secs(30);
        assert_eq!(
            prompt(400, 18_400, Some(100.0), ago),
            "prompt 400 of 18,400 tokens, 100.0 tokens/s, 2 min 30 s left"
        );
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(time_left(usize::MAX, 1e-300), Duration::MAX);
    }
}
