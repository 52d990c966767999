//! From specs to releases. Never looks at needs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::draft::Draft;
use super::{Note, Refusal};
use crate::{Pick, Release, ReleaseId, Spec, Why};

impl<'a> Draft<'a> {
    /// Selects what the specs name.
    pub(super) fn ask(&mut self, specs: &[Spec]) -> Result<(), Refusal> {
        let mut seen = BTreeMap::new();
        for spec in specs {
            match seen.insert(&spec.name, spec) {
                Some(other) if other == spec => continue,
                Some(_) => return Err(Refusal::Twice { name: spec.name.clone() }),
                None => {}
            }
            let release = self.resolve(spec)?;
            if self.current.packages.get(&spec.name).is_some_and(|s| s.release == release.id) {
                self.notes.push(Note::Already { release: release.id.clone() });
            }
            self.set(release, Why::Asked(spec.clone()));
            self.fixed.insert(spec.name.clone());
        }
        Ok(())
    }

    fn resolve(&self, spec: &Spec) -> Result<&'a Release, Refusal> {
        if let Some(release) = self.catalog.unreadable_match(spec) {
            return Err(Refusal::Unreadable { release: release.clone() });
        }
        if self.catalog.releases(&spec.name).is_empty() {
            let similar = self.catalog.similar(spec.name.as_str());
            return Err(Refusal::UnknownPackage { name: spec.name.clone(), similar });
        }
        let found: Vec<&'a Release> = match spec.pick {
            Pick::Prev => self.previous(spec)?,
            _ => self.catalog.matching(spec).into_iter().map(|release| &**release).collect(),
        };
        let native: Vec<_> =
            found.iter().copied().filter(|release| self.catalog.is_native(release)).collect();
        let Some(best) = native.first() else {
            return Err(match found.first() {
                Some(foreign) => Refusal::ForeignArch {
                    release: foreign.id.clone(),
                    host: self.catalog.host().clone(),
                },
                None => {
                    Refusal::NoRelease { spec: spec.clone(), available: self.catalog.nearest(spec) }
                }
            });
        };
        if spec.object.is_some() && native.iter().any(|release| release.object != best.object) {
            let candidates: Vec<ReleaseId> = native.iter().map(|r| r.id.clone()).collect();
            return Err(Refusal::Ambiguous { spec: spec.clone(), candidates });
        }
        Ok(best)
    }

    /// The release that was selected before the present one.
    fn previous(&self, spec: &Spec) -> Result<Vec<&'a Release>, Refusal> {
        let Some(selection) = self.current.packages.get(&spec.name) else {
            return Err(self.not_selected(&spec.name));
        };
        // A file that says `@prev` and is applied twice must not go back and forth.
        let applied = self.packages.is_empty() || !self.packages.contains_key(&spec.name);
        let (version, variants) = match &selection.previous {
            _ if applied && selection.why == Why::Asked(spec.clone()) => {
                (&selection.release.version, &selection.release.variants)
            }
            Some(previous) => (&previous.version, &previous.variants),
            None => return Ok(Vec::new()),
        };
        let unreadable = self.catalog.unreadable(&spec.name);
        if let Some(release) =
            unreadable.into_iter().find(|id| id.version == *version && id.variants == *variants)
        {
            return Err(Refusal::Unreadable { release: release.clone() });
        }
        let asked = |r: &Release| spec.variants.is_empty() || spec.means_build(&r.id);
        let found = self.catalog.releases(&spec.name).iter().map(|release| &**release);
        Ok(found
            .filter(|r| r.id.version == *version && r.id.variants == *variants && asked(r))
            .filter(|r| spec.object.as_ref().is_none_or(|object| object.matches(&r.object)))
            .collect())
    }
}
