//! What releases need comes along. Settles until every need of what moved, and every need for
//! what moved, is met, or says in a sentence why that cannot be.
//!
//! Who may move, and who may not:
//!
//! * What this request names stays as it was resolved.
//! * What somebody asked for earlier moves within the words it was asked in, and only when
//!   somebody needs another release of it; it never moves to make room for another package. Who
//!   wants that names both in one request.
//! * What only came along moves freely, also to make room; it goes when nobody needs it any more
//!   and it cannot stay.
//! * What is selected and good enough stays, also an early version (`3.2~rc1` for `3.2`) when a
//!   proper one is there: a choice is made only when one is needed.
//!
//! This is no search of all combinations: each package is chosen at most [`MOVES_MAX`] times.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::draft::Draft;
use super::{Change, Note, Refusal, selected, words};
use crate::{Need, PackageName, Release, ReleaseId, Soname, Variants, VersionRange, Why};

/// How often one package may be chosen anew in one plan; more means that needs chase each other.
const MOVES_MAX: u32 = 8;

/// What can be done about a need.
enum Answer<'a> {
    /// It is met, or the system has it, as it has libc.
    Met,
    /// It is met when this release is selected.
    Bring(&'a Release),
    /// Nothing.
    Unmet,
}

impl<'a> Draft<'a> {
    /// Meets the needs of all that is open.
    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        while let Some(name) = self.open.pop_first() {
            if self.moves.get(&name).is_some_and(|moves| *moves > MOVES_MAX) {
                let explanation = format!("the needs around {name} cannot be met together");
                return Err(Refusal::Conflict { explanation });
            }
            if let Some(release) = self.release(&name) {
                self.meet_all(release)?;
            }
            // Also of one that went: it may have had what others need before it moved.
            self.meet_needers(&name)?;
        }
        Ok(())
    }

    /// Others that are selected must still find in `name` what they need.
    fn meet_needers(&mut self, name: &PackageName) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let lost = self.lost.remove(name).unwrap_or_default();
        let by_soname = lost.into_iter().flat_map(|soname| catalog.soname_needers(soname));
        let needers: BTreeSet<&PackageName> =
            catalog.package_needers(name).chain(by_soname).collect();
        for needer in needers {
            if let Some(needing) = self.release(needer) {
                self.meet_all(needing)?;
            }
        }
        Ok(())
    }

    fn meet_all(&mut self, who: &'a Release) -> Result<(), Refusal> {
        for need in &who.needs {
            self.meet(who, need)?;
            // Chosen anew, it is open, and its needs are looked at then.
            if self.release(&who.id.name).is_none_or(|now| now.id != who.id) {
                break;
            }
        }
        Ok(())
    }

    fn meet(&mut self, who: &'a Release, need: &'a Need) -> Result<(), Refusal> {
        match self.answer(need) {
            Answer::Met => Ok(()),
            Answer::Bring(release) => {
                self.refuse_if_damage_is_better(release, need)?;
                let why = match self.packages.get(&release.id.name).map(|s| &s.why) {
                    Some(why @ Why::Asked(_)) => why.clone(),
                    _ => Why::NeededBy(who.id.name.clone()),
                };
                self.set(release, why);
                Ok(())
            }
            Answer::Unmet => self.make_room(who, need),
        }
    }

    /// `who` cannot stay as it is: it moves, or goes when it came along and nobody needs it now.
    fn make_room(&mut self, who: &'a Release, need: &'a Need) -> Result<(), Refusal> {
        let name = &who.id.name;
        let why = self.packages.get(name).map(|selection| selection.why.clone());
        if matches!(why, Some(Why::NeededBy(_))) && self.needer(name).is_none() {
            self.packages.remove(name);
            self.open.insert(name.clone());
            *self.moves.entry(name.clone()).or_default() += 1;
            return Ok(());
        }
        match (self.other_release(who), why) {
            (Some(other), Some(why)) => {
                self.set(other, why);
                Ok(())
            }
            _ => Err(self.unmet(who, need)),
        }
    }

    /// A newer release of the same package that cannot be read could be the one to choose, and
    /// another one in its place would be a silent step back.
    fn refuse_if_damage_is_better(&self, chosen: &Release, need: &Need) -> Result<(), Refusal> {
        let name = &chosen.id.name;
        if self.packages.contains_key(name) {
            // It moves, within what can be read.
            return Ok(());
        }
        let in_range = |id: &&ReleaseId| match need {
            Need::Package(_, range) => range.contains(&id.version),
            // What it provides is not known.
            Need::Soname(_) => true,
        };
        let plain =
            |id: &&ReleaseId| self.catalog.is_native_arch(&id.arch) && id.variants.is_empty();
        let newer = |id: &&ReleaseId| id.version > chosen.id.version;
        let mut unreadable = self.catalog.unreadable(name).rev();
        match unreadable.find(|id| plain(id) && in_range(id) && newer(id)) {
            Some(release) => Err(Refusal::Unreadable { release: release.clone() }),
            None => Ok(()),
        }
    }

    /// Why a need cannot be met; damage comes first, since it may be the only reason.
    fn unmet(&self, who: &Release, need: &Need) -> Refusal {
        if let Need::Package(name, range) = need {
            let mut unreadable = self.catalog.unreadable(name);
            if let Some(release) = unreadable.find(|id| range.contains(&id.version)) {
                return Refusal::Unreadable { release: release.clone() };
            }
        }
        Refusal::Conflict { explanation: words::unmet(self, who, need) }
    }

    /// Whether every need of the selected release of `name` is met.
    pub(super) fn all_met(&self, name: &PackageName) -> bool {
        let release = self.release(name);
        release.is_none_or(|r| r.needs.iter().all(|n| matches!(self.answer(n), Answer::Met)))
    }

    fn answer(&self, need: &Need) -> Answer<'a> {
        if self.is_met(need) {
            return Answer::Met;
        }
        let found = match need {
            Need::Package(name, _) => self.candidate(name, need),
            Need::Soname(soname) => {
                let packages = self.plain_providers(soname);
                if packages.is_empty() && !self.was_provided(soname) {
                    return Answer::Met;
                }
                packages.into_iter().find_map(|name| self.candidate(name, need))
            }
        };
        found.map_or(Answer::Unmet, Answer::Bring)
    }

    /// Packages that have a release with this soname that a need may choose, by name.
    fn plain_providers(&self, soname: &Soname) -> Vec<&'a PackageName> {
        let plain = |r: &&Release| self.catalog.is_native(r) && r.id.variants.is_empty();
        let providers = self.catalog.providers(soname).into_iter().map(|r| &**r);
        let mut packages: Vec<_> = providers.filter(plain).map(|r| &r.id.name).collect();
        packages.dedup();
        packages
    }

    /// Sonames for which `chosen` came along for `who`, where others could have come instead.
    pub(super) fn choices_made(&self, chosen: &PackageName, who: &PackageName) -> Vec<Note> {
        let (Some(release), Some(who)) = (self.release(chosen), self.release(who)) else {
            return Vec::new();
        };
        let by_name = |need: &Need| matches!(need, Need::Package(name, _) if name == chosen);
        if who.needs.iter().any(by_name) {
            return Vec::new();
        }
        let note = |need: &Need| {
            let Need::Soname(soname) = need else { return None };
            release.provides.sonames.get(soname)?;
            let absent = |name: &&PackageName| !self.packages.contains_key(*name);
            let others = self.plain_providers(soname).into_iter().filter(absent);
            let others: Vec<PackageName> = others.cloned().collect();
            let (soname, chosen) = (soname.clone(), chosen.clone());
            (!others.is_empty()).then_some(Note::Chosen { soname, chosen, others })
        };
        who.needs.iter().filter_map(note).collect()
    }

    /// Sonames that a release which comes needs, and that only variants have which did not come.
    pub(super) fn left_to_the_system(&self, change: &Change) -> Vec<Note> {
        let release = change.to.as_ref().and_then(|id| self.catalog.get(id));
        let note = |need: &Need| {
            let Need::Soname(soname) = need else { return None };
            let variant = self.catalog.providers(soname).pop().filter(|_| !self.is_met(need))?;
            Some(Note::VariantOnly {
                release: change.to.clone()?,
                soname: soname.clone(),
                variant: variant.id.clone(),
            })
        };
        release.into_iter().flat_map(|release| &release.needs).filter_map(note).collect()
    }

    fn was_provided(&self, soname: &Soname) -> bool {
        let mut had = selected::with_soname(&self.current.packages, self.catalog, soname);
        !self.anew && had.next().is_some()
    }

    fn is_met(&self, need: &Need) -> bool {
        match need {
            Need::Package(name, range) => self
                .packages
                .get(name)
                .is_some_and(|selection| range.contains(&selection.release.version)),
            Need::Soname(soname) => {
                selected::with_soname(&self.packages, self.catalog, soname).next().is_some()
            }
        }
    }

    /// The best release of `name` that meets `need` and whatever else selected packages need of
    /// it, those aside that can make room; `None` also when the package must stay as it is.
    fn candidate(&self, name: &PackageName, need: &Need) -> Option<&'a Release> {
        if self.fixed.contains(name) {
            return None;
        }
        let mut found = self.choices(name);
        found.retain(|r| suits(r, need) && self.blocker(r, true).is_none());
        // An early version only when nothing else is in the range.
        let early = |r: &Release| match need {
            Need::Package(_, range) => range.only_early(&r.id.version),
            Need::Soname(_) => false,
        };
        let best = |r: &&&'a Release| !early(r) && self.blocker(r, false).is_none();
        let proper = |r: &&&'a Release| !early(r);
        found.iter().find(best).or_else(|| found.iter().find(proper)).or(found.first()).copied()
    }

    /// The native releases that a need may choose from, best first: those within the words that
    /// the package was asked for in, else its plain ones.
    fn choices(&self, name: &PackageName) -> Vec<&'a Release> {
        let asked = self.packages.get(name).and_then(|selection| match &selection.why {
            Why::Asked(spec) => Some(spec),
            Why::NeededBy(_) => None,
        });
        let mut found: Vec<&'a Release> = match asked {
            Some(spec) => self.catalog.matching(spec).into_iter().map(|r| &**r).collect(),
            None => self.newest_first(name),
        };
        found.retain(|release| self.catalog.is_native(release));
        found
    }

    fn newest_first(&self, name: &PackageName) -> Vec<&'a Release> {
        let host = self.catalog.host();
        let plain = Variants::new();
        let all = self.catalog.releases(name).iter().map(|release| &**release);
        let mut found: Vec<&'a Release> = all.filter(|r| r.id.variants == plain).collect();
        let rank = |id: &ReleaseId| (id.version.clone(), id.arch == *host);
        found.sort_by_key(|release| core::cmp::Reverse(rank(&release.id)));
        found
    }

    /// A selected package that cannot live with this release of another one, and what it needs
    /// of it; with `firm`, only one that cannot make room by moving itself.
    pub(super) fn blocker(&self, release: &Release, firm: bool) -> Option<(&'a Release, &'a Need)> {
        let name = &release.id.name;
        let catalog = self.catalog;
        let needers = catalog.package_needers(name).filter(|needer| *needer != name);
        needers.filter_map(|needer| self.release(needer)).find_map(|needer| {
            let need = broken(needer, release)?;
            let stays = !firm || !self.can_make_room(needer, release);
            stays.then_some((needer, need))
        })
    }

    /// Whether a package that only came along has a release that lives with `release`.
    fn can_make_room(&self, needer: &Release, release: &Release) -> bool {
        self.is_loose(&needer.id.name)
            && self.choices(&needer.id.name).iter().any(|other| {
                broken(other, release).is_none() && self.blocker(other, false).is_none()
            })
    }

    /// Whether a package may move to another release for its own needs' sake.
    fn is_loose(&self, name: &PackageName) -> bool {
        let Some(selection) = self.packages.get(name) else { return false };
        let moved = || {
            let before = self.current.packages.get(name);
            before.is_none_or(|before| before.release != selection.release)
        };
        !self.fixed.contains(name) && (matches!(selection.why, Why::NeededBy(_)) || moved())
    }

    /// Another release of a package that came along, or that a need moved, with which its own
    /// needs are met or can be.
    fn other_release(&self, who: &Release) -> Option<&'a Release> {
        let name = &who.id.name;
        if !self.is_loose(name) {
            return None;
        }
        self.choices(name).into_iter().find(|r| {
            let own = |need: &Need| match need {
                Need::Package(package, _) if package == name => suits(r, need),
                Need::Soname(soname) if r.provides.sonames.contains_key(soname) => true,
                _ => !matches!(self.answer(need), Answer::Unmet),
            };
            r.id != who.id && self.blocker(r, false).is_none() && r.needs.iter().all(own)
        })
    }
}

/// What `needer` needs of the package of `release` and would not find in it.
fn broken<'a>(needer: &'a Release, release: &Release) -> Option<&'a Need> {
    needer.needs.iter().find(|need| match need {
        Need::Package(package, _) if *package == release.id.name => !suits(release, need),
        _ => false,
    })
}

/// Whether this release alone meets `need`.
fn suits(release: &Release, need: &Need) -> bool {
    match need {
        Need::Package(_, range) => {
            range == &VersionRange::Any || range.contains(&release.id.version)
        }
        Need::Soname(soname) => release.provides.sonames.contains_key(soname),
    }
}
