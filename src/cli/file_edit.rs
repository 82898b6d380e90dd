//! Changes to the user's file: a key set or taken away, everything else in its place, comments too.
//!
//! Knows no key.

use crate::exit::{BadInput, CannotWrite};
use crate::files::{Lock, Replacement, beside, make_shared_folder};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::Path;
use toml_edit::{DocumentMut, Item, TomlError, Value};

/// Sets a key, unless `check` has something against the text that would come of it.
pub(super) fn set(
    path: &Path,
    key: &str,
    value: Value,
    check: impl FnOnce(&str) -> Result<(), BadInput>,
) -> anyhow::Result<()> {
    let mut document = read(path)?;
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => document[key] = Item::Value(value),
    }
    let text = document.to_string();
    check(&text)?;
    Ok(write(path, &text)?)
}

/// Takes a key away; false where there is none. Comments above it stay.
pub(super) fn unset(path: &Path, key: &str) -> anyhow::Result<bool> {
    let mut document = read(path)?;
    let next = document.iter().map(|(name, _)| name.to_owned()).skip_while(|name| name != key).nth(1);
    let Some((removed, _)) = document.remove_entry(key) else { return Ok(false) };
    let comments = removed.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
    let following = next.and_then(|next| {
        document.as_table_mut().key_mut(&next).map(|mut key| {
            let rest = key.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
            key.leaf_decor_mut().set_prefix(format!("{comments}{rest}"));
        })
    });
    if following.is_none() {
        let rest = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!("{comments}{rest}"));
    }
    write(path, &document.to_string())?;
    Ok(true)
}

/// What is wrong with a text that is no TOML, and where, in one line.
pub(super) fn toml_fault(text: &str, error: &TomlError) -> String {
    let fault = error.message().lines().collect::<Vec<_>>().join("; ");
    format!("line {}: not TOML: {fault}", line_of(text, error.span()))
}

/// The line, from 1 on, that something begins in.
pub(super) fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

fn read(path: &Path) -> Result<DocumentMut, BadInput> {
    let name = || path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(BadInput::Unreadable { name: name(), error }),
    };
    text.parse().map_err(|error| BadInput::Faulty { name: name(), fault: toml_fault(&text, &error) })
}

/// Puts a new file in the place of the old one, which keeps its permissions and may be reached by a link.
fn write(path: &Path, text: &str) -> Result<(), CannotWrite> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    write_at(&target, text).map_err(|error| CannotWrite { path: path.to_owned(), error })
}

fn write_at(target: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        make_shared_folder(folder)?;
    }
    let is_taken = || io::Error::other("another process is changing it");
    let _lock = Lock::take(&beside(target, ".lock"))?.ok_or_else(is_taken)?;
    let mut file = Replacement::create_shared(target)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.finish(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: &str) -> Result<(), BadInput> {
        Ok(())
    }

    #[test]
    fn comments_stay_and_so_does_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        let text = || fs::read_to_string(&path).unwrap();
        set(&path, "threads", 4.into(), any).unwrap();
        assert_eq!(text(), "threads = 4\n");
        fs::write(&path, "# mine\nthreads = 4 # cores\n\n# warm\ntemp = 0.5\n# end\n").unwrap();
        set(&path, "threads", 8.into(), any).unwrap();
        set(&path, "model", "demo".into(), any).unwrap();
        assert_eq!(text(), "# mine\nthreads = 8 # cores\n\n# warm\ntemp = 0.5\nmodel = \"demo\"\n# end\n");
        assert!(unset(&path, "threads").unwrap());
        assert_eq!(text(), "# mine\n\n# warm\ntemp = 0.5\nmodel = \"demo\"\n# end\n");
        assert!(unset(&path, "model").unwrap() && unset(&path, "temp").unwrap() && !unset(&path, "temp").unwrap());
        assert_eq!(text(), "# mine\n\n# warm\n# end\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed_and_permissions_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("dotfile"), folder.path().join("config.toml"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        set(&link, "seed", 1.into(), any).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "seed = 1\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_toml_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "\nthreads = = 4").unwrap();
        assert!(set(&path, "seed", 1.into(), any).unwrap_err().to_string().contains("line 2: not TOML"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "\nthreads = = 4");
    }
}
