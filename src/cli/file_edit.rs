//! Changes to the user's file: a key set or taken away, everything else in its place, comments too.
//!
//! Owns writing it so that it is the old one or the new one, whatever happens. Knows no key.

use crate::exit::{BadInput, CannotWrite};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, TomlError, Value};

/// Sets a key.
pub(super) fn set(path: &Path, key: &str, value: Value) -> anyhow::Result<()> {
    let mut document = read(path)?;
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => document[key] = Item::Value(value),
    }
    Ok(write(path, &document.to_string())?)
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

/// What is wrong with a file that is no TOML, in one line.
pub(super) fn toml_fault(error: &TomlError) -> String {
    format!("not TOML: {}", error.message().lines().collect::<Vec<_>>().join("; "))
}

fn read(path: &Path) -> Result<DocumentMut, BadInput> {
    let name = || path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(BadInput::Unreadable { name: name(), error }),
    };
    text.parse().map_err(|error| BadInput::Faulty { name: name(), fault: toml_fault(&error) })
}

/// Puts a new file in the place of the old one, which keeps its permissions and may be reached by a link.
fn write(path: &Path, text: &str) -> Result<(), CannotWrite> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let partial = PathBuf::from(format!("{}.{}.partial", target.display(), std::process::id()));
    let written = write_at(&target, &partial, text);
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.map_err(|error| CannotWrite { path: path.to_owned(), error })
}

fn write_at(target: &Path, partial: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(partial)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(partial, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_and_so_does_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        let text = || fs::read_to_string(&path).unwrap();
        set(&path, "threads", 4.into()).unwrap();
        assert_eq!(text(), "threads = 4\n");
        fs::write(&path, "# mine\nthreads = 4 # cores\n\n# warm\ntemp = 0.5\n# end\n").unwrap();
        set(&path, "threads", 8.into()).unwrap();
        set(&path, "model", "demo".into()).unwrap();
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
        set(&link, "seed", 1.into()).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "seed = 1\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_toml_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "threads = = 4").unwrap();
        assert!(set(&path, "seed", 1.into()).unwrap_err().to_string().contains("not TOML"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "threads = = 4");
    }
}
