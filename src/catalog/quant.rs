//! Which files of a repository are one quant of its model: by their names, which is all that a listing has.

use super::error::Error;
use super::reference::Repo;
use crate::gguf::MAX_SHARDS;
use std::collections::BTreeMap;

/// A file as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Within the repository.
    pub(super) path: String,
    pub(super) size: u64,
    /// In lower-case hexadecimal digits; only large files have one.
    pub(super) sha256: Option<String>,
}

impl Listed {
    /// Its name without its folders.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The files of one quant, in the order of the shards.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// As the files' names say it, `UD-Q2_K_XL`.
    pub(super) quant: String,
    pub(super) files: Vec<Listed>,
    /// All quants that are there whole, with their bytes; not those whose names mean several.
    pub(super) all: Vec<(String, u64)>,
}

/// Whether a quant that is there is the one that is wanted: `Q2_K_XL` means `UD-Q2_K_XL` too.
pub(super) fn is(there: &str, wanted: &str) -> bool {
    there.eq_ignore_ascii_case(wanted) || plain(there).eq_ignore_ascii_case(wanted)
}

fn plain(quant: &str) -> &str {
    match quant.split_at_checked(3) {
        Some((ud, plain)) if ud.eq_ignore_ascii_case("UD-") => plain,
        _ => quant,
    }
}

/// The quant that is wanted, whole.
pub(super) fn choose(repo: &Repo, name: &str, quant: Option<&str>, listing: Vec<Listed>) -> Result<Set, Error> {
    let sets = sets(listing);
    if sets.is_empty() {
        return Err(Error::NoGguf { repo: repo.to_string() });
    }
    let quants = || {
        let mut quants: Vec<String> = sets.values().map(|set| set.quant.clone()).collect();
        quants.sort();
        quants.dedup();
        quants
    };
    let mut found: Vec<(&String, &Shards)> = match quant {
        None if sets.len() > 1 => {
            let mut quants: Vec<(String, u64)> = sets.values().map(|set| (set.quant.clone(), set.bytes())).collect();
            quants.sort();
            quants.dedup_by(|a, b| a.0 == b.0);
            return Err(Error::NeedsQuant { name: name.to_owned(), repo: repo.to_string(), quants });
        }
        None => sets.iter().collect(),
        Some(quant) => {
            let exact = |(_, set): &(&String, &Shards)| set.quant.eq_ignore_ascii_case(quant);
            match sets.iter().filter(exact).collect::<Vec<_>>() {
                exact if !exact.is_empty() => exact,
                _ => sets.iter().filter(|(_, set)| is(&set.quant, quant)).collect(),
            }
        }
    };
    let wanted = quant.unwrap_or_default();
    let Some((_, set)) = found.pop() else {
        return Err(Error::NoQuant { repo: repo.to_string(), quant: wanted.to_owned(), there: quants() });
    };
    if !found.is_empty() {
        let sets = sets.iter().filter(|(_, other)| other.quant == set.quant).map(|(stem, _)| stem.clone()).collect();
        return Err(Error::Ambiguous { repo: repo.to_string(), quant: wanted.to_owned(), sets });
    }
    set.whole(repo).map(|set| Set { all: sizes(&sets), ..set })
}

fn sizes(sets: &BTreeMap<String, Shards>) -> Vec<(String, u64)> {
    let mut sizes: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for set in sets.values().filter(|set| set.is_whole()) {
        sizes.entry(&set.quant).and_modify(|known| *known = None).or_insert(Some(set.bytes()));
    }
    sizes.into_iter().filter_map(|(quant, bytes)| Some((quant.to_owned(), bytes?))).collect()
}

/// Files whose names differ by the number of the shard.
struct Shards {
    quant: String,
    /// 0 where the model is one file.
    count: u64,
    files: BTreeMap<u64, Listed>,
}

impl Shards {
    fn is_whole(&self) -> bool {
        (1..=self.count).all(|number| self.files.contains_key(&number))
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).fold(0, u64::saturating_add)
    }

    fn whole(&self, repo: &Repo) -> Result<Set, Error> {
        let missing: Vec<u64> = (1..=self.count).filter(|number| !self.files.contains_key(number)).collect();
        if let (Some(number), Some(file)) = (missing.first(), self.files.values().next()) {
            let stem = shard(file.name()).map_or(file.name(), |(stem, _, _)| stem);
            return Err(Error::Incomplete {
                repo: repo.to_string(),
                quant: self.quant.clone(),
                missing: missing.len() as u64,
                count: self.count,
                first: format!("{stem}-{number:05}-of-{:05}.gguf", self.count),
            });
        }
        Ok(Set { quant: self.quant.clone(), files: self.files.values().cloned().collect(), all: Vec::new() })
    }
}

/// The models in a listing, by what their files' paths have in common.
fn sets(listing: Vec<Listed>) -> BTreeMap<String, Shards> {
    let mut sets: BTreeMap<String, Shards> = BTreeMap::new();
    for file in listing {
        let Some(stem) = file.path.strip_suffix(".gguf") else { continue };
        let (stem, number, count) = shard(&file.path).unwrap_or((stem, 1, 0));
        if is_other(stem) || count > MAX_SHARDS {
            continue;
        }
        // The same name with two counts are two sets.
        let key = if count > 0 { format!("{stem} ({count} shards)") } else { stem.to_owned() };
        let set = sets.entry(key).or_insert_with(|| Shards { quant: quant_of(stem), count, files: BTreeMap::new() });
        set.files.insert(number, file);
    }
    sets
}

/// GGUF files that are no model of their own.
fn is_other(stem: &str) -> bool {
    let name = stem.rsplit('/').next().unwrap_or(stem).to_lowercase();
    name.starts_with("mmproj") || name.contains("imatrix")
}

/// `STEM-00001-of-00006.gguf` in its parts.
fn shard(path: &str) -> Option<(&str, u64, u64)> {
    let rest = path.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| match digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    };
    let (number, count) = (parse(number)?, parse(count)?);
    (1..=count).contains(&number).then_some((stem, number, count))
}

/// What the name, or else the folder, says of the quant; where neither does, the name.
fn quant_of(stem: &str) -> String {
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let folder = folder.rsplit('/').next().unwrap_or(folder);
    label(name).or_else(|| label(folder)).unwrap_or(name).to_owned()
}

/// The end of a name from where it speaks of a quant: `UD-Q2_K_XL` of `DeepSeek-V3-0324-UD-Q2_K_XL`.
fn label(name: &str) -> Option<&str> {
    let starts = std::iter::once(0).chain(name.match_indices(['-', '.']).map(|(at, _)| at + 1));
    let mut found = starts.filter(|at| name.get(*at..).is_some_and(speaks_of_a_quant));
    let at = found.next()?;
    let before = name.get(..at)?;
    let with_ud = at.checked_sub(3).filter(|_| before.to_uppercase().ends_with("UD-"));
    name.get(with_ud.unwrap_or(at)..)
}

fn speaks_of_a_quant(text: &str) -> bool {
    let text = text.to_uppercase();
    let digits = ["IQ", "TQ", "Q"].iter().find_map(|letter| text.strip_prefix(letter));
    let is_type = ["BF16", "F16", "F32", "MXFP4"].iter().any(|name| text.starts_with(name));
    is_type || digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Vec<Listed> {
        paths.iter().map(|path| Listed { path: (*path).to_owned(), size: 1, sha256: None }).collect()
    }

    fn chosen(quant: Option<&str>, paths: &[&str]) -> Result<(String, Vec<String>), Error> {
        let set = choose(&Repo::parse("a/b").unwrap(), "a", quant, listing(paths))?;
        Ok((set.quant, set.files.into_iter().map(|file| file.path).collect()))
    }

    #[test]
    fn quants_by_the_names_of_files() {
        for (stem, quant) in [
            ("DeepSeek-V3-0324-UD-Q2_K_XL", "UD-Q2_K_XL"),
            ("UD-IQ1_S/DeepSeek-V3-0324-UD-IQ1_S", "UD-IQ1_S"),
            ("DeepSeek-V2-Lite-Chat.Q8_0", "Q8_0"),
            ("DeepSeek-V3-0324-Q4_K_M-V2", "Q4_K_M-V2"),
            ("Q4_K_M/model", "Q4_K_M"),
            ("BF16/DeepSeek-R1-BF16", "BF16"),
            ("DeepSeek-V3.1-UD-TQ1_0", "UD-TQ1_0"),
            ("q8_0", "q8_0"),
            ("demo", "demo"),
            ("Qwen-like", "Qwen-like"),
        ] {
            assert_eq!(quant_of(stem), quant, "{stem}");
        }
    }

    #[test]
    fn shards_of_the_wanted_quant_in_their_order() {
        let paths = [
            "README.md",
            "UD-Q2_K_XL/m-UD-Q2_K_XL-00002-of-00002.gguf",
            "UD-Q2_K_XL/m-UD-Q2_K_XL-00001-of-00002.gguf",
            "m-Q8_0.gguf",
            "mmproj-Q8_0.gguf",
            "imatrix.gguf",
        ];
        let both = vec![paths[2].to_owned(), paths[1].to_owned()];
        for name in ["Q2_K_XL", "UD-Q2_K_XL", "ud-q2_k_xl"] {
            assert_eq!(chosen(Some(name), &paths).unwrap(), ("UD-Q2_K_XL".to_owned(), both.clone()), "{name}");
        }
        assert_eq!(chosen(Some("Q8_0"), &paths).unwrap().1, ["m-Q8_0.gguf"]);
        assert!(
            matches!(chosen(Some("Q2_K"), &paths), Err(Error::NoQuant { there, .. }) if there == ["Q8_0", "UD-Q2_K_XL"])
        );
        assert!(matches!(chosen(None, &paths), Err(Error::NeedsQuant { .. })));
        assert_eq!(chosen(None, &paths[..3]).unwrap().0, "UD-Q2_K_XL");
        assert!(matches!(chosen(None, &paths[..1]), Err(Error::NoGguf { .. })));
    }

    #[test]
    fn the_name_as_it_was_typed_goes_first() {
        let paths = ["m-UD-Q4_K_XL.gguf", "m-Q4_K_XL.gguf"];
        assert_eq!(chosen(Some("Q4_K_XL"), &paths).unwrap().1, ["m-Q4_K_XL.gguf"]);
        assert_eq!(chosen(Some("UD-Q4_K_XL"), &paths).unwrap().1, ["m-UD-Q4_K_XL.gguf"]);
        let two = chosen(Some("Q4_0"), &["a-Q4_0.gguf", "b-Q4_0.gguf"]);
        assert!(matches!(two, Err(Error::Ambiguous { sets, .. }) if sets == ["a-Q4_0", "b-Q4_0"]));
    }

    #[test]
    fn all_quants_that_are_whole_have_sizes() {
        let paths = ["m-Q8_0.gguf", "a-Q4_0.gguf", "b-Q4_0.gguf", "m-Q6_K-00001-of-00002.gguf"];
        let both = ["m-Q2_K-00002-of-00002.gguf", "m-Q2_K-00001-of-00002.gguf"];
        let set = choose(&Repo::parse("a/b").unwrap(), "a", Some("Q8_0"), listing(&[&paths[..], &both].concat()));
        assert_eq!(set.unwrap().all, [("Q2_K".to_owned(), 2), ("Q8_0".to_owned(), 1)]);
    }

    #[test]
    fn an_upload_that_is_not_complete() {
        let found = chosen(Some("Q8_0"), &["m-Q8_0-00003-of-00004.gguf", "m-Q8_0-00001-of-00004.gguf"]);
        match found {
            Err(Error::Incomplete { missing: 2, count: 4, first, .. }) => {
                assert_eq!(first, "m-Q8_0-00002-of-00004.gguf")
            }
            other => panic!("{other:?}"),
        }
        // Numbers that are none, or too many, are no shards.
        assert_eq!(shard("m-00005-of-00004.gguf"), None);
        assert_eq!(shard("m-00000-of-00004.gguf"), None);
        assert_eq!(shard("m-+0001-of-00004.gguf"), None);
        assert!(matches!(chosen(None, &["m-00001-of-99999.gguf"]), Err(Error::NoGguf { .. })));
    }
}
