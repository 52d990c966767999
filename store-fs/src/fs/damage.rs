//! Damage that questions have met, for whoever wants to know of it later.
//!
//! A question that met a damaged file is remembered in the memory file. Whoever wants to know has
//! all of them asked again: what is answered now is forgotten, however it became good; what is not
//! answered has its reason. So nothing is said that is not true now, a part that reads well says
//! nothing of a part that does not, and a question that is answered costs nothing.

use super::answer::Answer;
use super::attr::{Inside, NodeAt};
use super::{DynFs, FsError, Ino};
use crate::memory::{InFlight, InFlightRow, Operation};
use crate::{Disk, StoreError};

/// Something that cannot be served.
#[derive(Debug)]
pub struct Damage {
    /// Where it was met: paths below the mount.
    pub paths: Vec<String>,
    /// What is wrong, with the file of the store.
    pub error: FsError,
}

impl<D: Disk> DynFs<D> {
    /// Remembers a question that was not answered, when that is for a file of the store.
    pub fn note_damage(&self, question: InFlight, name: &[u8], error: &FsError) {
        if let FsError::Store(error) = error
            && let Some(file) = number_of(error)
        {
            self.slots.memory().note_damage(file, question, name);
        }
    }

    /// What cannot be served of all that was met and is remembered. Waits for the disk, for as many
    /// questions as are remembered at most.
    pub fn damage(&self) -> Vec<Damage> {
        let memory = self.slots.memory();
        let mut damage = Vec::new();
        for met in memory.damage() {
            match self.ask_again(&met) {
                Err(error @ (FsError::Store(_) | FsError::Withheld(_))) => {
                    damage.push(Damage { paths: self.met_at(&met), error });
                }
                Ok(()) | Err(_) => memory.forget_damage(&met),
            }
        }
        damage.sort_by(|one, other| one.paths.cmp(&other.paths));
        damage
    }

    /// Releases by version also where it was the live tree that was asked: what is selected may be
    /// another one by the time that somebody reads this.
    fn met_at(&self, met: &InFlightRow) -> Vec<String> {
        let node = Ino(met.request.node);
        if let Ok(NodeAt::Directory(directory)) = self.stands_for(node)
            && let Ok(name) = std::str::from_utf8(&met.name)
            && let Ok(Some(Answer::Package(id))) =
                self.answer(&self.snapshot.load(), directory, name)
        {
            return self.ways_to(&id);
        }
        self.whereabouts(node, &met.name).paths()
    }

    fn ask_again(&self, met: &InFlightRow) -> Result<(), FsError> {
        let InFlight { operation, node, offset, size, .. } = met.request;
        let node = Ino(node);
        if let NodeAt::File { id, .. } | NodeAt::Inside(Inside { id, .. }) =
            self.stands_for(node)?
            && !self.snapshot.load().known.objects.contains(&id)
        {
            // No release has it any more. Asking would keep it from being collected.
            return Ok(());
        }
        match operation {
            Operation::Lookup => self.lookup(node, &met.name).map(drop),
            Operation::Getattr => self.attr(node).map(drop),
            Operation::Readlink => self.readlink(node).map(drop),
            Operation::Read => self.read(node, offset, size, &mut Vec::new()),
            Operation::Readdir => self.readdir(node, offset, false, &mut |_| false),
            Operation::Readdirplus => self.readdir(node, offset, true, &mut |_| false),
            _ => Ok(()),
        }
    }
}

/// A number for the file that an error is about, the same in every process.
fn number_of(error: &StoreError) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let hash = blake3::hash(error.path()?.as_os_str().as_bytes());
    hash.as_bytes().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
