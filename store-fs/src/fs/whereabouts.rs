//! Where a node is, for people who read a log: paths below the mount that lead to it whatever is
//! selected.
//!
//! It is worked out only when it is written, since a node knows neither its path nor its releases.

use std::fmt;

use resolver::ObjectId;

use super::attr::{Inside, NodeAt};
use super::{DynFs, Ino};
use crate::slots::ROOT_PLACE;
use crate::{Disk, Tree};

/// Releases of one object that are named; more would not be read.
const RELEASES_MAX: usize = 4;

/// A node, or a name in it.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts<'a, D: Disk> {
    fs: &'a DynFs<D>,
    ino: Ino,
    name: &'a [u8],
}

impl<D: Disk> DynFs<D> {
    /// Where a node is, or `name` in it when that is not empty: `lib/openssl@3.2.1/lib/libssl.so`.
    pub fn whereabouts<'a>(&'a self, ino: Ino, name: &'a [u8]) -> Whereabouts<'a, D> {
        Whereabouts { fs: self, ino, name }
    }

    /// Every way to an object: its releases, else its name.
    pub(super) fn ways_to(&self, id: &ObjectId) -> Vec<String> {
        let shown = self.shown();
        let releases = shown.catalog.packages().flat_map(|(_, releases)| releases);
        let ways: Vec<String> = releases
            .filter(|release| release.object == *id)
            .take(RELEASES_MAX)
            .map(|release| format!("{}/{}", release.category, release.id.mount_name()))
            .collect();
        if ways.is_empty() { vec![format!(".objects/{id}")] } else { ways }
    }

    /// The names on the way to a virtual directory.
    fn way_to_place(&self, mut slot: u32) -> String {
        let mut names = Vec::new();
        while slot != ROOT_PLACE
            && let Some((parent, name)) = self.slots.place(slot)
        {
            names.push(String::from_utf8_lossy(&name).into_owned());
            // A place is made after its parent: this ends also when the table is not what it was.
            if parent >= slot {
                break;
            }
            slot = parent;
        }
        names.reverse();
        names.join("/")
    }

    fn ways(&self, ino: Ino) -> Vec<String> {
        match self.stands_for(ino) {
            Ok(NodeAt::Directory(directory)) => vec![self.way_to_place(directory.slot)],
            Ok(NodeAt::File { id, row } | NodeAt::Inside(Inside { id, row, .. })) => {
                let tree = self.store.object(&id).ok();
                let below = tree.as_deref().and_then(|tree: &Tree| tree.path(row));
                let below = String::from_utf8_lossy(&below.unwrap_or_default()).into_owned();
                let ways = self.ways_to(&id).into_iter();
                ways.map(|way| join(&way, &below)).collect()
            }
            Ok(NodeAt::Link { .. }) | Err(_) => vec![format!("inode {}", ino.0)],
        }
    }
}

impl<D: Disk> Whereabouts<'_, D> {
    /// Each path.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let name = String::from_utf8_lossy(self.name);
        let ways = self.fs.ways(self.ino).into_iter();
        ways.map(|way| join(&way, &name)).collect()
    }
}

impl<D: Disk> fmt::Display for Whereabouts<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paths().join(" = "))
    }
}

fn join(way: &str, name: &str) -> String {
    match (way.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => way.to_owned(),
        _ => format!("{way}/{name}"),
    }
}
