//! What commands about pulled models have in common: the folder, and finding a model there by its name.

use crate::catalog::{Error, Pulled, Reference, Store, models};
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct FolderOption {
    /// The folder of models [default: $CACHALOT_MODELS, or cachalot/models in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl FolderOption {
    pub(super) fn store(&self) -> Result<Store, Error> {
        Store::open(self.dir.as_deref())
    }
}

/// A name of the catalogue or of the hub.
pub(super) fn reference(name: &str) -> Result<Reference, Error> {
    // A fault in the user's catalogue is told before a name that may be in there is called unknown.
    models()?;
    Reference::parse(name)?.ok_or_else(|| Error::UnknownModel(name.to_owned()))
}

pub(super) fn find(store: &Store, name: &str) -> Result<Pulled, Error> {
    store.find(&reference(name)?)
}
