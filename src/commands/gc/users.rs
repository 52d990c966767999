//! Which objects and frozen trees processes use: what `/proc` shows, in the words of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use resolver::{GenerationNumber, ObjectId, ReleaseId};

use crate::client;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::protocol::{Held, Used};
use crate::report::printable;
use crate::usage::{self, Hidden, Process, Usage};

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
    /// mount itself cannot, or what somebody has made of a part of it; [`Kind::Unavailable`] when
    /// the daemon does not answer.
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
        hidden(&mut users, usage.hidden)?;
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

    /// These, as if they had been seen.
    #[cfg(test)]
    pub(super) fn of(objects: impl Iterator<Item = (ObjectId, Process)>) -> Self {
        let mut users = Self::default();
        for (id, process) in objects {
            users.objects.entry(id).or_default().insert(process);
        }
        users
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

/// The mounts of which nobody knows what they show: the node is not known, and the name that it had
/// may be another's by now. A fixed tree's name is its own for ever: so these are known.
fn hidden(users: &mut Users, hidden: Vec<Hidden>) -> Result<(), CommandError> {
    let (mut unknown, mut known) = (Vec::new(), Vec::new());
    for mount in hidden {
        match fixed(&mount.root) {
            Some(fixed) => known.push((fixed, mount.process)),
            None => unknown.push(mount),
        }
    }
    for (fixed, process) in known {
        _ = match fixed {
            Fixed::Generation(number) => {
                users.generations.entry(number).or_default().insert(process)
            }
            Fixed::Object(id) => users.objects.entry(id).or_default().insert(process),
        };
    }
    let Some(Hidden { process, mountpoint, .. }) = unknown.first() else { return Ok(()) };
    let place = printable(&mountpoint.display().to_string());
    let (name, pid) = (&process.name, process.pid);
    let more = match unknown.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    // It may be anything.
    let message =
        format!("what is mounted on {place} in {name}{more} cannot be seen, so nothing can go");
    let hint = format!("unmount it there: nsenter --mount --target {pid} umount {place}");
    Err(CommandError::new(Kind::Refused, message).hint(hint))
}

/// What a path below the whole mount is part of, where that never changes.
enum Fixed {
    Generation(GenerationNumber),
    Object(ObjectId),
}

fn fixed(root: &Path) -> Option<Fixed> {
    let mut parts = root.to_str()?.strip_prefix('/')?.split('/');
    match (parts.next()?, parts.next()?) {
        (".generations", number) => Some(Fixed::Generation(GenerationNumber(number.parse().ok()?))),
        (".objects", id) => Some(Fixed::Object(id.parse().ok()?)),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of fixed trees say what a mount shows that nothing leads to; any other says nothing.
    #[test]
    fn a_mount_that_nothing_leads_to_is_known_by_a_fixed_name_alone() {
        let process = Process { name: "the mount namespace of process 7".to_owned(), pid: 7 };
        let look = |roots: &[&str]| {
            let mounts = roots.iter().map(|root| Hidden {
                process: process.clone(),
                mountpoint: "/dyn/app/x".into(),
                root: root.into(),
            });
            let mut users = Users::default();
            hidden(&mut users, mounts.collect()).map(|()| users)
        };
        let id = "ab".repeat(32);
        let users = look(&["/.generations/5/lib/xz", &format!("/.objects/{id}")]).unwrap();
        assert_eq!(users.generations.keys().copied().collect::<Vec<_>>(), [GenerationNumber(5)]);
        assert_eq!(users.used().objects, [id.parse().unwrap()]);
        for root in [
            "/app/hello@1.0",
            "/app/hello",
            "/.profiles/x",
            "/.generations",
            "/.generations/5;other@7.0",
            "/.generations/5//deleted",
            "/.objects/abc",
        ] {
            let is_known = look(&[root]).is_ok();
            assert_eq!(is_known, root.ends_with("//deleted"), "{root}");
        }
        let error = look(&["/.generations/5", "/app/a@1", "/app/b@1"]).unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.message.contains("on /dyn/app/x in the mount namespace of process 7 (and 1"));
        assert!(error.hints[0].contains("nsenter --mount --target 7 umount /dyn/app/x"));
    }
}
