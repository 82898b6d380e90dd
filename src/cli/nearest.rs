//! The name that was meant, where one was typed that there is not.

/// The most similar of `names`, if one is similar enough to be meant.
pub(super) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.7;
    let alike = names.into_iter().map(|name| (strsim::jaro_winkler(name, typed), name));
    alike.filter(|(likeness, _)| *likeness > ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alike_are_meant_and_others_are_not() {
        let names = ["threads", "temp", "top_p"];
        assert_eq!(nearest("thread", names), Some("threads"));
        assert_eq!(nearest("tmep", names), Some("temp"));
        assert_eq!(nearest("colour", names), None);
    }
}
