//! Which objects and frozen trees processes use: what `/proc` shows, in the words of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use resolver::{GenerationNumber, ObjectId, ReleaseId};

use crate::client;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::protocol::{Held, Used};
use crate::usage::{self, Process, Usage};

/// Who uses what.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    objects: BTreeMap<ObjectId, BTreeSet<Process>>,
    generations: BTreeMap<GenerationNumber, BTreeSet<Process>>,
    releases: BTreeMap<ReleaseId, BTreeSet<Process>>,
    /// What could not be seen, one sentence each.
    pub(super) notes: BTreeSet<String>,
}

impl Users {
    /// Looks at every process, and asks the daemon what is behind the nodes that they hold.
    ///
    /// # Errors
    ///
    /// [`Kind::Permission`] when somebody who may use the mount cannot be seen; refused when the
    /// mount itself cannot; [`Kind::Unavailable`] when the daemon does not answer.
    pub(super) fn look(store: &Path) -> Result<Self, CommandError> {
        let is_served = client::status(store)?.is_some();
        let usage = usage::look(store)
            .map_err(|error| CommandError::io("reading", Path::new("/proc"), &error))?;
        if !is_served {
            // Nobody answers any more: nothing can be read through what is left of a mount.
            return Ok(Self::default());
        }
        if usage.mounts.is_empty() {
            let message = "the mount is detached and still in use, so who uses what cannot be seen";
            return Err(CommandError::new(Kind::Refused, message)
                .hint("end what uses it, or dynfs mount again when its daemon has ended"));
        }
        let mut users = Self { notes: unseen(&usage)?, ..Self::default() };
        let inodes: Vec<u64> = usage.nodes.keys().copied().collect();
        // The daemon ended meanwhile: it was unmounted, so nobody uses anything.
        let held = client::held(store, &inodes)?.unwrap_or_default();
        for (held, processes) in held.into_iter().zip(usage.nodes.into_values()) {
            match held {
                None => {}
                Some(Held::Object { id }) => users.objects.entry(id).or_default().extend(processes),
                Some(Held::Tree { number, releases }) => {
                    for release in releases {
                        users.releases.entry(release).or_default().extend(processes.clone());
                    }
                    users.generations.entry(number).or_default().extend(processes);
                }
            }
        }
        Ok(users)
    }

    /// The same without names, for the engine.
    pub(super) fn used(&self) -> Used {
        Used {
            objects: self.objects.keys().copied().collect(),
            generations: self.generations.keys().copied().collect(),
            releases: self.releases.keys().cloned().collect(),
        }
    }

    /// Those of the objects that are used, with who does.
    pub(super) fn of_objects(
        &self,
        objects: &BTreeSet<ObjectId>,
    ) -> Vec<(ObjectId, BTreeSet<Process>)> {
        let used = objects.iter().filter_map(|id| Some((*id, self.objects.get(id)?.clone())));
        used.collect()
    }

    /// Who uses a generation's tree.
    pub(super) fn of_generation(&self, number: GenerationNumber) -> BTreeSet<Process> {
        self.generations.get(&number).cloned().unwrap_or_default()
    }

    /// Who uses a release, by its object or in a frozen tree.
    pub(super) fn of_release(&self, id: &ReleaseId, object: &ObjectId) -> BTreeSet<Process> {
        let processes = [self.releases.get(id), self.objects.get(object)].into_iter().flatten();
        processes.flatten().cloned().collect()
    }

    /// What was seen in another look, too.
    pub(super) fn join(&mut self, other: Self) {
        fn add<K: Ord>(
            to: &mut BTreeMap<K, BTreeSet<Process>>,
            from: BTreeMap<K, BTreeSet<Process>>,
        ) {
            for (key, processes) in from {
                to.entry(key).or_default().extend(processes);
            }
        }
        add(&mut self.objects, other.objects);
        add(&mut self.generations, other.generations);
        add(&mut self.releases, other.releases);
        self.notes.extend(other.notes);
    }
}

/// What is to be said of processes that could not be looked into. It is an error where whoever
/// calls cannot see those who may use the mount: others than root, or than its owner.
fn unseen(usage: &Usage) -> Result<BTreeSet<String>, CommandError> {
    let is_public = usage.mounts.iter().any(|mount| mount.is_public);
    let uid = host::uid();
    let refused =
        |message: &str, hint: &str| Err(CommandError::new(Kind::Permission, message).hint(hint));
    if is_public && uid != 0 {
        let message = "everybody may use this mount, and only root sees what all processes do";
        return refused(message, "run it as root");
    }
    let is_others = |owner: Option<u32>| owner.is_some_and(|owner| owner != uid);
    if !is_public && usage.mounts.iter().any(|mount| is_others(mount.owner)) {
        let message = "only the owner of this mount can look into it";
        return refused(message, "run it as the owner of the mount");
    }
    let mut notes = BTreeSet::new();
    if !is_public {
        notes.insert("only its owner's processes can use this mount, and count".into());
    }
    let hides = |process: &&Process| uid == 0 || usage::owner(process) == Some(uid);
    let hiding: Vec<&Process> = usage.unseen.iter().filter(hides).collect();
    if let Some(Process { name, pid }) = hiding.first() {
        let more = match hiding.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        notes.insert(format!(
            "{name} (process {pid}){more} cannot be looked into: it does not count"
        ));
    }
    Ok(notes)
}
