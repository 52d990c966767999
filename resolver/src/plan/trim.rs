//! Takes back what settling moved and what in the end nobody needs. Never breaks a need.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::draft::Draft;
use crate::{Need, PackageName, Selection, SharedMap, Why};

impl Draft<'_> {
    /// Puts every package that a need moved back to where `before` has it, when no need is broken
    /// by that, and says of the others who needs them.
    pub(super) fn trim(&mut self, before: &SharedMap<PackageName, Selection>) {
        let moved: Vec<PackageName> =
            self.moves.keys().filter(|name| !self.fixed.contains(*name)).cloned().collect();
        self.drop_unreached(before, &moved);
        while moved.iter().any(|name| self.put_back(before, name)) {}
        for name in &moved {
            // What came back to where it was is as it was, the reason included.
            if let (Some(now), Some(old)) = (self.packages.get(name), before.get(name))
                && now.release == old.release
            {
                self.packages.insert(name.clone(), old.clone());
                continue;
            }
            let needed_by = match self.packages.get(name).map(|selection| &selection.why) {
                Some(Why::NeededBy(who)) if !self.needs(who, name) => self.needer(name),
                _ => None,
            };
            if let (Some(who), Some(selection)) = (needed_by, self.packages.get_mut(name)) {
                selection.why = Why::NeededBy(who);
            }
        }
    }

    /// Packages that came along, or came along once and had to move, and that need only each other
    /// go together. One that was there before is put back where that breaks nothing.
    fn drop_unreached(
        &mut self,
        before: &SharedMap<PackageName, Selection>,
        moved: &[PackageName],
    ) {
        let stayed = |name: &&PackageName| {
            let (now, old) = (self.packages.get(*name), before.get(*name));
            old.is_some_and(|old| {
                now.is_none_or(|now| now.release == old.release || matches!(now.why, Why::Asked(_)))
            })
        };
        let mut doubtful: BTreeSet<&PackageName> =
            moved.iter().filter(|name| !stayed(name)).collect();
        loop {
            let held = doubtful.iter().copied().find(|name| {
                self.needers(name).any(|needer| needer != *name && !doubtful.contains(needer))
            });
            match held {
                Some(name) => doubtful.remove(name),
                None => break,
            };
        }
        for name in doubtful {
            self.packages.remove(name);
        }
    }

    /// Whether `name` was put back, since nobody needs it to be where it is.
    fn put_back(&mut self, before: &SharedMap<PackageName, Selection>, name: &PackageName) -> bool {
        let (now, old) = (self.packages.get(name).cloned(), before.get(name));
        if now.as_ref().map(|now| &now.release) == old.map(|old| &old.release) {
            return false;
        }
        let needers: Vec<PackageName> = self.needers(name).cloned().collect();
        self.put(name, old.cloned());
        let fine = [name].into_iter().chain(&needers).all(|name| self.all_met(name));
        if !fine {
            self.put(name, now);
        }
        fine
    }

    fn put(&mut self, name: &PackageName, selection: Option<Selection>) {
        match selection {
            Some(selection) => self.packages.insert(name.clone(), selection),
            None => self.packages.remove(name),
        };
    }

    /// A selected package that needs this one, the first by name.
    pub(super) fn needer(&self, name: &PackageName) -> Option<PackageName> {
        self.needers(name).filter(|needer| *needer != name).min().cloned()
    }

    /// Selected packages that need this one, itself or a soname of it.
    fn needers(&self, name: &PackageName) -> impl Iterator<Item = &PackageName> {
        let provided = self.release(name).into_iter().flat_map(|r| r.provides.sonames.keys());
        let by_soname = provided.flat_map(|soname| self.catalog.soname_needers(soname));
        let all = self.catalog.package_needers(name).chain(by_soname);
        all.filter(move |needer| self.needs(needer, name))
    }

    fn needs(&self, who: &PackageName, name: &PackageName) -> bool {
        let (Some(who), Some(release)) = (self.release(who), self.release(name)) else {
            return false;
        };
        who.needs.iter().any(|need| match need {
            Need::Package(package, _) => package == name,
            Need::Soname(soname) => release.provides.sonames.contains_key(soname),
        })
    }
}
