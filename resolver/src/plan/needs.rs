//! What releases need comes along. Settles until every need of what moved, and every need for
//! what moved, is met, or says in a sentence why that cannot be.

use alloc::format;
use alloc::vec::Vec;

use super::draft::Draft;
use super::{Refusal, selected, words};
use crate::{Need, PackageName, Release, ReleaseId, Soname, Variants, VersionRange, Why};

/// How often one package may be chosen anew in one plan; more means that needs chase each other.
const MOVES_MAX: u32 = 8;

impl<'a> Draft<'a> {
    /// Meets the needs of all that is open.
    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        while let Some(name) = self.open.pop_first() {
            if self.moves.get(&name).is_some_and(|moves| *moves > MOVES_MAX) {
                let explanation = format!("the needs around {name} cannot be met together");
                return Err(Refusal::Conflict { explanation });
            }
            let Some(release) = self.release(&name) else { continue };
            for need in &release.needs {
                self.meet(release, need)?;
            }
            self.meet_needers(&name, release)?;
        }
        Ok(())
    }

    /// Others that are selected must still find in `name` what they need.
    fn meet_needers(&mut self, name: &PackageName, release: &Release) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let mut needers: Vec<&PackageName> = catalog.package_needers(name).collect();
        let old = self.current.packages.get(name).and_then(|old| catalog.get(&old.release));
        for soname in old.iter().flat_map(|old| old.provides.sonames.keys()) {
            if !release.provides.sonames.contains_key(soname) {
                needers.extend(catalog.soname_needers(soname));
            }
        }
        for needer in needers {
            let Some(needing) = self.release(needer) else { continue };
            for need in &needing.needs {
                // Chosen anew, it is open and its needs are looked at then.
                if self.release(needer).is_some_and(|now| now.id == needing.id) {
                    self.meet(needing, need)?;
                }
            }
        }
        Ok(())
    }

    fn meet(&mut self, who: &'a Release, need: &'a Need) -> Result<(), Refusal> {
        if self.is_met(need) {
            return Ok(());
        }
        let found = match need {
            Need::Package(name, _) => self.candidate(name, need),
            Need::Soname(soname) => {
                let mut packages: Vec<&PackageName> = self
                    .catalog
                    .providers(soname)
                    .into_iter()
                    .filter(|r| self.catalog.is_native(r) && r.id.variants.is_empty())
                    .map(|release| &release.id.name)
                    .collect();
                packages.dedup();
                if packages.is_empty() && !self.was_provided(soname) {
                    // Then the system has it, as it has libc.
                    return Ok(());
                }
                packages.into_iter().find_map(|name| self.candidate(name, need))
            }
        };
        if let Some(release) = found {
            let why = match self.packages.get(&release.id.name).map(|s| &s.why) {
                Some(why @ Why::Asked(_)) => why.clone(),
                _ => Why::NeededBy(who.id.name.clone()),
            };
            self.set(release, why);
            return Ok(());
        }
        if let Some(other) = self.other_release(who) {
            let why = self.packages.get(&who.id.name).map(|s| s.why.clone());
            if let Some(why) = why {
                self.set(other, why);
                return Ok(());
            }
        }
        Err(Refusal::Conflict { explanation: words::unmet(self, who, need) })
    }

    fn was_provided(&self, soname: &Soname) -> bool {
        selected::with_soname(&self.current.packages, self.catalog, soname).next().is_some()
    }

    pub(super) fn is_met(&self, need: &Need) -> bool {
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
    /// it; `None` also when the package must stay as it is.
    fn candidate(&self, name: &PackageName, need: &Need) -> Option<&'a Release> {
        if self.fixed.contains(name) {
            return None;
        }
        let selection = self.packages.get(name);
        let spec = selection.and_then(|selection| match &selection.why {
            Why::Asked(spec) => Some(spec),
            Why::NeededBy(_) => None,
        });
        let plain = Variants::new();
        let mut found: Vec<&'a Release> = match spec {
            Some(spec) => self.catalog.matching(spec).into_iter().map(|r| &**r).collect(),
            None => self.newest_first(name, &plain),
        };
        found.retain(|r| self.catalog.is_native(r) && suits(r, need) && self.suits_all(r));
        // An early version only when nothing else is in the range.
        let early = |r: &&&Release| match need {
            Need::Package(_, range) => range.only_early(&r.id.version),
            Need::Soname(_) => false,
        };
        found.iter().find(|r| !early(r)).or_else(|| found.first()).copied()
    }

    fn newest_first(&self, name: &PackageName, variants: &Variants) -> Vec<&'a Release> {
        let host = self.catalog.host();
        let all = self.catalog.releases(name).iter().map(|release| &**release);
        let mut found: Vec<&'a Release> = all.filter(|r| r.id.variants == *variants).collect();
        let rank = |id: &ReleaseId| (id.version.clone(), id.arch == *host);
        found.sort_by_key(|release| core::cmp::Reverse(rank(&release.id)));
        found
    }

    /// Whether every selected package that needs this package can live with this release.
    fn suits_all(&self, release: &Release) -> bool {
        let name = &release.id.name;
        self.catalog.package_needers(name).filter_map(|needer| self.release(needer)).all(|needer| {
            needer.needs.iter().all(|need| match need {
                Need::Package(package, _) if package == name => suits(release, need),
                _ => true,
            })
        })
    }

    /// Another release of a package that came along only, with which its needs are met.
    fn other_release(&self, who: &Release) -> Option<&'a Release> {
        let name = &who.id.name;
        let selection = self.packages.get(name)?;
        if self.fixed.contains(name) || !matches!(selection.why, Why::NeededBy(_)) {
            return None;
        }
        let mut found = self.newest_first(name, &who.id.variants).into_iter();
        found.find(|r| {
            r.id != who.id
                && self.catalog.is_native(r)
                && self.suits_all(r)
                && r.needs.iter().all(|need| self.is_met(need) || self.can_bring(need))
        })
    }

    fn can_bring(&self, need: &Need) -> bool {
        match need {
            Need::Package(name, _) => self.candidate(name, need).is_some(),
            Need::Soname(soname) => self.catalog.soname_packages(soname).next().is_none(),
        }
    }

    /// A selected package that needs this one, the first by name.
    pub(super) fn needer(&self, name: &PackageName) -> Option<PackageName> {
        let provided = self.release(name).into_iter().flat_map(|r| r.provides.sonames.keys());
        let by_soname = provided.flat_map(|soname| self.catalog.soname_needers(soname));
        let all = self.catalog.package_needers(name).chain(by_soname);
        all.filter(|needer| *needer != name && self.packages.contains_key(*needer)).min().cloned()
    }
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
