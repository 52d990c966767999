//! Who provides a command or soname that several selected packages have. Looks only at names of
//! packages that changed, of requested providers, and at the records there are.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use super::{Change, Contested, Note, selected};
use crate::{Catalog, CommandName, PackageName, Providers, Release, Selections, Soname};

/// Whose word counts before that of the present provider.
pub(super) enum Preference<'a> {
    /// These packages win every contest that they are in, the first one first.
    Packages(&'a [PackageName]),
    /// These records do.
    Records(&'a Providers),
    /// These records do, and the present provider has no say.
    Restored(&'a Providers),
}

/// Records the winners of all contests in `next`; answers the contests that are new, and the wishes
/// that came to nothing.
pub(super) fn decide(
    catalog: &Catalog,
    current: &Selections,
    next: &mut Selections,
    changes: &[Change],
    preference: &Preference<'_>,
) -> Vec<Note> {
    let mut commands: BTreeSet<&CommandName> = current.providers.commands.keys().collect();
    let mut sonames: BTreeSet<&Soname> = current.providers.sonames.keys().collect();
    let mut touch = |release: &crate::ReleaseId| {
        if let Some(release) = catalog.get(release) {
            let release: &Release = release;
            commands.extend(&release.provides.commands);
            sonames.extend(release.provides.sonames.keys());
        }
    };
    changes.iter().flat_map(|c| [&c.from, &c.to]).flatten().for_each(&mut touch);
    let recorded = match preference {
        Preference::Packages(packages) => {
            let wanted = packages.iter().filter_map(|name| next.packages.get(name));
            wanted.for_each(|selection| touch(&selection.release));
            None
        }
        Preference::Records(records) | Preference::Restored(records) => Some(*records),
    };
    if let Some(records) = recorded {
        commands.extend(records.commands.keys());
        sonames.extend(records.sonames.keys());
    }
    let mut notes = Vec::new();
    for command in commands {
        let after = names(selected::with_command(&next.packages, catalog, command));
        let before = names(selected::with_command(&current.packages, catalog, command));
        let wish = recorded.and_then(|records| records.commands.get(command));
        let held = current.providers.commands.get(command).or(before.first());
        let winner = winner(&after, preference, wish, held);
        record(&mut next.providers.commands, command, &after, winner.as_ref());
        notes.extend(unheard(preference, "command", command, &after, wish));
        notes.extend(note("command", command, &before, after, winner, held));
    }
    for soname in sonames {
        let after = names(selected::with_soname(&next.packages, catalog, soname));
        let before = names(selected::with_soname(&current.packages, catalog, soname));
        let wish = recorded.and_then(|records| records.sonames.get(soname));
        let held = current.providers.sonames.get(soname).or(before.first());
        let winner = winner(&after, preference, wish, held);
        record(&mut next.providers.sonames, soname, &after, winner.as_ref());
        notes.extend(unheard(preference, "soname", soname, &after, wish));
        notes.extend(note("soname", soname, &before, after, winner, held));
    }
    if let Preference::Packages(packages) = preference {
        let Providers { commands, sonames } = &next.providers;
        let wins =
            |name: &PackageName| commands.values().chain(sonames.values()).any(|w| w == name);
        let idle = packages.iter().filter(|name| !wins(name)).cloned();
        notes.extend(idle.map(|package| Note::Uncontested { package }));
    }
    notes
}

/// A record in a file that names a package without that name.
fn unheard(
    preference: &Preference<'_>,
    kind: &'static str,
    name: &impl fmt::Display,
    after: &[PackageName],
    wish: Option<&PackageName>,
) -> Option<Note> {
    let wish = wish.filter(|wish| !after.contains(wish))?.clone();
    let asked = matches!(preference, Preference::Records(_));
    asked.then(|| Note::Unheard { kind, name: name.to_string(), package: wish })
}

fn names<'a>(chosen: impl Iterator<Item = selected::Chosen<'a>>) -> Vec<PackageName> {
    chosen.map(|(selection, _)| selection.release.name.clone()).collect()
}

fn winner(
    after: &[PackageName],
    preference: &Preference<'_>,
    wish: Option<&PackageName>,
    held: Option<&PackageName>,
) -> Option<PackageName> {
    let in_it = |name: &&PackageName| after.contains(name);
    let wish = match preference {
        Preference::Packages(packages) => packages.iter().find(in_it),
        Preference::Records(_) | Preference::Restored(_) => wish.filter(in_it),
    };
    let held = match preference {
        Preference::Restored(_) => None,
        Preference::Packages(_) | Preference::Records(_) => held.filter(in_it),
    };
    wish.or(held).or(after.first()).cloned()
}

fn record<K: Ord + Clone>(
    records: &mut BTreeMap<K, PackageName>,
    key: &K,
    after: &[PackageName],
    winner: Option<&PackageName>,
) {
    if let (Some(winner), true) = (winner, after.len() > 1) {
        records.insert(key.clone(), winner.clone());
    }
}

/// Worth a note: a package that was not in the contest before, or another winner.
fn note(
    kind: &'static str,
    name: &impl fmt::Display,
    before: &[PackageName],
    after: Vec<PackageName>,
    winner: Option<PackageName>,
    held: Option<&PackageName>,
) -> Option<Note> {
    let winner = winner.filter(|_| after.len() > 1)?;
    let new = before.len() < 2
        || held != Some(&winner)
        || after.iter().any(|name| !before.contains(name));
    let losers = after.into_iter().filter(|name| *name != winner).collect();
    new.then(|| Note::Contested(Contested { kind, name: name.to_string(), winner, losers }))
}
