//! Taking packages out, and with them what only they needed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::draft::Draft;
use super::{Refusal, selected, words};
use crate::{Need, PackageName, Release, Why};

impl Draft<'_> {
    /// Takes `names` out, then what nobody needs any more.
    pub(super) fn unselect(&mut self, names: &[PackageName]) -> Result<(), Refusal> {
        for name in names {
            if !self.current.packages.contains_key(name) {
                return Err(self.not_selected(name));
            }
            self.packages.remove(name);
        }
        self.refuse_for_unknown(names)?;
        self.drop_unneeded()
    }

    /// A release that cannot be read may need what is taken out; of what came along for it, that
    /// is known.
    fn refuse_for_unknown(&self, names: &[PackageName]) -> Result<(), Refusal> {
        let unknown = self.unknown();
        for name in names {
            let why = self.current.packages.get(name).map(|selection| &selection.why);
            let Some(Why::NeededBy(needer)) = why else { continue };
            if let Some(id) = unknown.iter().find(|id| id.name == *needer) {
                let who = words::release(id);
                let explanation = format!("{who} needs {name}, so {name} cannot be unselected");
                return Err(Refusal::Conflict { explanation });
            }
        }
        Ok(())
    }

    /// Keeps what was asked for and what that needs, and nothing else. Where a record cannot be
    /// read nobody knows what its release needs, and then everything stays.
    pub(super) fn drop_unneeded(&mut self) -> Result<(), Refusal> {
        let mut kept: BTreeMap<PackageName, Option<PackageName>> = BTreeMap::new();
        let mut open: Vec<(PackageName, Option<PackageName>)> = self
            .packages
            .iter()
            .rev()
            .filter(|(_, selection)| matches!(selection.why, Why::Asked(_)))
            .map(|(name, _)| (name.clone(), None))
            .collect();
        while let Some((name, needer)) = open.pop() {
            if kept.contains_key(&name) {
                continue;
            }
            kept.insert(name.clone(), needer);
            let Some(release) = self.release(&name) else { continue };
            for need in &release.needs {
                let met_by = self.met_by(need);
                if met_by.is_empty() {
                    self.refuse_if_taken(release, need)?;
                }
                open.extend(met_by.into_iter().map(|found| (found, Some(name.clone()))));
            }
        }
        if self.unknown().is_empty() {
            self.packages.retain(|name, _| kept.contains_key(name));
        }
        let gone = |needer: &PackageName| !kept.contains_key(needer);
        for (name, needer) in &kept {
            if let (Some(selection), Some(needer)) = (self.packages.get_mut(name), needer)
                && matches!(&selection.why, Why::NeededBy(old) if gone(old))
            {
                selection.why = Why::NeededBy(needer.clone());
            }
        }
        Ok(())
    }

    fn met_by(&self, need: &Need) -> Vec<PackageName> {
        match need {
            Need::Package(name, _) => self
                .packages
                .get_key_value(name)
                .map(|(name, _)| name.clone())
                .into_iter()
                .collect(),
            Need::Soname(soname) => selected::with_soname(&self.packages, self.catalog, soname)
                .map(|(selection, _)| selection.release.name.clone())
                .collect(),
        }
    }

    /// A need that nobody meets now was met before: then it is what is taken out that met it.
    fn refuse_if_taken(&self, who: &Release, need: &Need) -> Result<(), Refusal> {
        if self.anew {
            // Nothing is taken out: what is not met by then is the system's.
            return Ok(());
        }
        let taken = match need {
            Need::Package(name, _) => self.current.packages.get(name).map(|s| &s.release.name),
            Need::Soname(soname) => {
                let mut before =
                    selected::with_soname(&self.current.packages, self.catalog, soname);
                before.next().map(|(selection, _)| &selection.release.name)
            }
        };
        let Some(taken) = taken else { return Ok(()) };
        let explanation = format!(
            "{} needs {}, so {taken} cannot be unselected",
            words::release(&who.id),
            words::need(need)
        );
        Err(Refusal::Conflict { explanation })
    }
}
