//! Sizes for people: GiB, and exact bytes with separators; and sizes and numbers that people type.

use crate::engine::logical_cores;

/// `233.18 GiB`; smaller ones in MiB, KiB or bytes.
pub(super) fn binary(bytes: u64) -> String {
    // A terabyte too is said in GiB, the unit of memory sizes.
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.2} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

/// `10.863 GB`, as speeds and the traffic they limit are counted.
pub(super) fn decimal(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.3} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// `250,380,123,456`.
pub(super) fn exact(n: u64) -> String {
    let digits = n.to_string();
    let head = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    if head > 0 {
        groups.push(&digits[..head]);
    }
    let tail = &digits.as_bytes()[head..];
    groups.extend(tail.chunks(3).filter_map(|chunk| std::str::from_utf8(chunk).ok()));
    groups.join(",")
}

/// `671.03 B` parameters.
pub(super) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}

/// A size as it is typed: `48G`, `500M`, `64K` in powers of 1000, or plain bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|size| *size > 0);
    size.ok_or_else(|| format!("'{text}' is no size, which is a number such as 48G, 500M, 64K or 1000000"))
}

/// A number of things of which there has to be one.
pub(super) fn at_least_one<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| "it must be a whole number of 1 or more".to_owned())
}

/// Threads as llama.cpp takes them: -1 is as many as the machine runs at once.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    if text == "-1" { Ok(logical_cores()) } else { at_least_one(text) }
}

/// How many tokens an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound(pub(super) Option<usize>);

/// A bound of an answer as llama.cpp takes it: -1 is none, and so is -2, which is the end of the context.
pub(super) fn bound(text: &str) -> Result<Bound, String> {
    if ["-1", "-2"].contains(&text) { Ok(Bound(None)) } else { at_least_one(text).map(|n| Bound(Some(n))) }
}

/// Tokens of context, as vLLM takes them: `4k` is 4000, `4K` is 4096. As llama.cpp has it, 0 is what the model was made for.
pub(super) fn context<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    const UNITS: [(char, u64); 4] = [('k', 1_000), ('K', 1 << 10), ('m', 1_000_000), ('M', 1 << 20)];
    let unit = UNITS.iter().find(|(letter, _)| text.ends_with(*letter));
    let (digits, unit) = unit.map_or((text, 1), |(letter, unit)| (text.strip_suffix(*letter).unwrap_or(text), *unit));
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        "it must be a number of tokens such as 32768, 32K, or 32k for 32000; 0 is what the model was made for"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(binary(0), "0 B");
        assert_eq!(binary(1023), "1023 B");
        assert_eq!(binary(1536), "1.50 KiB");
        assert_eq!(binary(250_380_000_000), "233.18 GiB");
        assert_eq!(decimal(999), "999 B");
        assert_eq!(decimal(70_272), "70.272 kB");
        assert_eq!(decimal(10_863_400_000), "10.863 GB");
        assert_eq!(exact(0), "0");
        assert_eq!(exact(123), "123");
        assert_eq!(exact(1234), "1,234");
        assert_eq!(exact(250_380_123_456), "250,380,123,456");
        assert_eq!(count(671_026_419_200), "671.03 B");
        assert_eq!(count(9_500_000), "9.50 M");
    }

    #[test]
    fn typed_numbers() {
        assert_eq!((at_least_one::<usize>("1"), at_least_one::<u32>("4294967295")), (Ok(1), Ok(u32::MAX)));
        for wrong in ["", "0", "-1", "1.5", "4294967296"] {
            assert!(at_least_one::<u32>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn typed_contexts() {
        for (text, n) in
            [("0", 0), ("1", 1), ("4096", 4096), ("4k", 4000), ("4K", 4096), ("1m", 1_000_000), ("1M", 1 << 20)]
        {
            assert_eq!(context::<usize>(text), Ok(n));
        }
        for wrong in ["", "k", "-1", "-4k", "4kk", "4 k", "1.5k", "4294967296", "4194304K", "99999999999999999999M"] {
            assert!(context::<u32>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_less_than_nothing() {
        assert_eq!((threads("-1"), threads("3")), (Ok(logical_cores()), Ok(3)));
        assert_eq!([bound("-1"), bound("-2"), bound("3")], [None, None, Some(3)].map(|n| Ok(Bound(n))));
        for wrong in ["0", "-3", "", "-1.0", "all"] {
            assert!(threads(wrong).is_err() && bound(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn typed_sizes() {
        assert_eq!(bytes("48G"), Ok(48_000_000_000));
        assert_eq!(bytes("5m"), Ok(5_000_000));
        assert_eq!(bytes("64K"), Ok(64_000));
        assert_eq!(bytes("123"), Ok(123));
        for wrong in ["", "G", "0", "-1", "1.5G", "99999999999G", "5 G", "5é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
