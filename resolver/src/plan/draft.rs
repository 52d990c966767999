//! A plan in the making: the selections so far, and what has moved.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::contest::{self, Preference};
use super::{Change, Note, Plan, Refusal};
use crate::catalog::nearest;
use crate::generation::Previous;
use crate::{
    Catalog, PackageName, Release, ReleaseId, Selection, Selections, SharedMap, Soname, Why,
};

/// Selections on their way from `current` to the next ones.
pub(super) struct Draft<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) current: &'a Selections,
    pub(super) packages: SharedMap<PackageName, Selection>,
    /// Whether the next selections are made from nothing, so that what is selected now has no say.
    pub(super) anew: bool,
    /// Asked for in this request: no need moves them.
    pub(super) fixed: BTreeSet<PackageName>,
    /// Packages whose needs are still to be looked at.
    pub(super) open: BTreeSet<PackageName>,
    /// How often each package was set, so that settling ends.
    pub(super) moves: BTreeMap<PackageName, u32>,
    /// Sonames that an open package had before it was set, and has no more.
    pub(super) lost: BTreeMap<PackageName, BTreeSet<&'a Soname>>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(catalog: &'a Catalog, current: &'a Selections) -> Self {
        Self {
            catalog,
            current,
            packages: current.packages.clone(),
            anew: false,
            fixed: BTreeSet::new(),
            open: BTreeSet::new(),
            moves: BTreeMap::new(),
            lost: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Selects `release`, and opens its needs.
    pub(super) fn set(&mut self, release: &Release, why: Why) {
        let name = &release.id.name;
        let previous = match self.current.packages.get(name) {
            Some(old) if old.release == release.id => old.previous.clone(),
            Some(old) => Some(Previous {
                version: old.release.version.clone(),
                variants: old.release.variants.clone(),
            }),
            None => None,
        };
        if let Some(old) = self.release(name) {
            let had = old.provides.sonames.keys();
            let gone = had.filter(|soname| !release.provides.sonames.contains_key(*soname));
            self.lost.entry(name.clone()).or_default().extend(gone);
        }
        let selection = Selection {
            release: release.id.clone(),
            category: release.category.clone(),
            object: release.object,
            why,
            previous,
        };
        self.packages.insert(name.clone(), selection);
        self.open.insert(name.clone());
        *self.moves.entry(name.clone()).or_default() += 1;
    }

    /// The release that is selected of a package, as far as the catalog has it.
    pub(super) fn release(&self, name: &PackageName) -> Option<&'a Release> {
        let selection = self.packages.get(name)?;
        self.catalog.get(&selection.release).map(|release| &**release)
    }

    /// Selected releases of which only the name is known. Never scans what is selected.
    pub(super) fn unknown(&self) -> Vec<ReleaseId> {
        let selected = |id: &&ReleaseId| {
            self.packages.get(&id.name).is_some_and(|selection| selection.release == **id)
        };
        self.catalog.all_unreadable().filter(selected).cloned().collect()
    }

    pub(super) fn not_selected(&self, name: &PackageName) -> Refusal {
        let similar = nearest(name.as_str(), self.current.packages.keys());
        Refusal::NotSelected { name: name.clone(), similar }
    }

    /// Who shall provide contested names must be selected.
    pub(super) fn check_providers(&self, providers: &[PackageName]) -> Result<(), Refusal> {
        match providers.iter().find(|name| !self.packages.contains_key(*name)) {
            Some(name) => Err(self.not_selected(name)),
            None => Ok(()),
        }
    }

    pub(super) fn restore(&mut self, selections: &Selections) -> Result<(), Refusal> {
        // What stays as it is needs no record: damage to it must not stop anybody from going back.
        for (_, now, then) in self.current.packages.differences(&selections.packages) {
            let Some(then) = then else { continue };
            let same = |now: &Selection| now.release == then.release && now.object == then.object;
            let release = self.catalog.get(&then.release);
            if now.is_some_and(same) || release.is_some_and(|r| r.object == then.object) {
                continue;
            }
            let release = then.release.clone();
            return Err(match self.catalog.is_unreadable(&release) {
                true => Refusal::Unreadable { release },
                false => Refusal::Missing { release },
            });
        }
        self.packages = selections.packages.clone();
        Ok(())
    }

    /// Decides the contests, and says what differs.
    pub(super) fn finish(self, preference: Preference<'_>) -> Plan {
        let changes = self.changes();
        let mut notes = self.notes.clone();
        let releases = if changes.is_empty() { Vec::new() } else { self.unknown() };
        if !releases.is_empty() {
            notes.push(Note::Unknown { releases });
        }
        let restored = matches!(preference, Preference::Restored(_));
        for change in changes.iter().filter(|_| !restored) {
            match (&change.from, &change.to, &change.why) {
                (_, Some(to), Some(Why::NeededBy(who))) => {
                    notes.push(Note::Brought { release: to.clone(), needed_by: who.clone() });
                    if change.from.is_none() {
                        notes.extend(self.choices_made(&to.name, who));
                    }
                }
                (_, Some(to), Some(Why::Asked(_))) if !self.fixed.contains(&to.name) => {
                    if let Some(needed_by) = self.needer(&to.name) {
                        notes.push(Note::Brought { release: to.clone(), needed_by });
                    }
                }
                (Some(from), None, _) if self.was_needed(&change.package) => {
                    notes.push(Note::Dropped { release: from.clone() });
                }
                _ => {}
            }
        }
        notes.extend(changes.iter().flat_map(|change| self.left_to_the_system(change)));
        let (catalog, current) = (self.catalog, self.current);
        let mut next = Selections { packages: self.packages, providers: Default::default() };
        let contested = contest::decide(catalog, current, &mut next, &changes, &preference);
        notes.extend(contested);
        Plan { next, changes, notes }
    }

    fn was_needed(&self, name: &PackageName) -> bool {
        let why = self.current.packages.get(name).map(|selection| &selection.why);
        matches!(why, Some(Why::NeededBy(_)))
    }

    fn changes(&self) -> Vec<Change> {
        let shown = |s: &Selection| (s.release.clone(), s.object, s.category.clone());
        let differences = self.current.packages.differences(&self.packages);
        let changed =
            differences.into_iter().filter(|(_, from, to)| from.map(shown) != to.map(shown));
        let change = |(name, from, to): (&PackageName, Option<&Selection>, Option<&Selection>)| {
            Some(Change {
                package: name.clone(),
                category: to.or(from)?.category.clone(),
                from: from.map(|selection| selection.release.clone()),
                to: to.map(|selection| selection.release.clone()),
                why: to.map(|selection| selection.why.clone()),
            })
        };
        changed.filter_map(change).collect()
    }
}
