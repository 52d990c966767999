//! Where a repair takes good copies from: another store, or a release file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use resolver::Release;
use store_fs::release_file::{Wanted, receive};
use store_fs::{Needed, OsDisk, Received, Store, Telling, transfer};

use crate::commands::{add, copy};
use crate::error::CommandError;
use crate::host;

/// Another store, or a release file.
pub(super) enum Source {
    Store { store: Box<Store<OsDisk>>, releases: Vec<Release> },
    File { path: PathBuf, found: PathBuf, releases: Vec<Release> },
}

impl Source {
    /// Opens it, and reads which releases it has.
    pub(super) fn open(own: &Path, path: &Path) -> Result<Self, CommandError> {
        let found = copy::other_store(own, path)?;
        if found.is_dir() {
            let store = Box::new(Store::open(OsDisk::open(&found)?)?);
            // What is damaged there cannot be taken, and stops nothing else.
            let (catalog, _) = store.catalog(host::arch())?;
            let all = catalog.packages().flat_map(|(_, releases)| releases);
            let releases = all.map(|release| Release::clone(release)).collect();
            return Ok(Self::Store { store, releases });
        }
        let releases = add::file::find(path, &found)?.releases().to_vec();
        Ok(Self::File { path: path.to_owned(), found, releases })
    }

    /// The releases that it has.
    pub(super) fn releases(&self) -> &[Release] {
        match self {
            Self::Store { releases, .. } | Self::File { releases, .. } => releases,
        }
    }

    /// Brings what it has of what is needed.
    pub(super) fn bring(
        &self,
        to: &Store<OsDisk>,
        needed: &Needed,
        telling: Telling<'_>,
    ) -> Result<Received, CommandError> {
        match self {
            Self::Store { store, .. } => Ok(transfer::fetch(store, to, needed, telling)?),
            Self::File { path, found, .. } => {
                let file = add::file::find(path, found)?;
                let blobs: BTreeSet<_> = needed.blobs.keys().copied().collect();
                let wanted = Wanted::These { objects: &needed.objects, blobs: &blobs };
                let done = receive(to, file, wanted, false, telling);
                done.map_err(|error| add::file::of_file(error, path))
            }
        }
    }
}
