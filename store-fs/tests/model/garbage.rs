//! Collecting garbage on the bench, in the engine's order: names go and are told of, then the trash
//! is emptied, then it is filled. I4 is asserted here.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use resolver::{Catalog, GenerationNumber, ObjectId, ReleaseId};
use store_fs::fs::catalog_names;
use store_fs::store::Emptied;
use store_fs::{Held, StoreError};

use crate::bench::Bench;

/// What is on its way out.
#[derive(Debug, Default)]
pub(crate) struct Going {
    pub(crate) generations: BTreeSet<GenerationNumber>,
    pub(crate) releases: BTreeSet<ReleaseId>,
}

impl Bench {
    /// Keeps so many generations and what is open. `again` is the next collection, right away.
    pub(crate) fn gc(&mut self, keep: usize, again: bool) {
        let used = self.used();
        self.going = self.forgettable(keep.max(1), &used);
        let mut next = Catalog::clone(&self.catalog);
        for id in &self.going.releases {
            next.remove(id).unwrap();
        }
        let mut names = catalog_names(&self.catalog, &next);
        names.extend(self.going.generations.iter().map(|number| format!(".generations/{number}")));
        self.memory.promise(&names).unwrap();
        self.begin_trouble();
        if self.forget().is_err() {
            return self.recover();
        }
        let Going { generations, releases } = std::mem::take(&mut self.going);
        self.world.generations.retain(|n, _| !generations.contains(&GenerationNumber(*n)));
        self.world.releases.retain(|release| !releases.contains(&release.id));
        self.finish(&Arc::new(next));
        // Whatever the trouble was, it is over: what comes now is tried at every step elsewhere.
        let writer = self.store.writer().unwrap();
        let needed: HashSet<ObjectId> = self.needed().union(&self.used()).copied().collect();
        for _ in 0..=usize::from(again) {
            self.store.empty_trash(&writer, &needed, usize::MAX).unwrap();
            self.store.trash_unneeded(&writer, &needed).unwrap();
        }
        for id in &needed {
            self.store.object(id).expect("I4: what is needed is there");
        }
        if again {
            let left = self.store.would_empty(&needed, true).unwrap();
            assert_eq!(left, Emptied::default(), "I4: what nobody can reach is gone");
        }
    }

    /// The objects of open files.
    fn used(&self) -> HashSet<ObjectId> {
        let open = self.kernel.open_nodes();
        let objects = open.into_iter().filter_map(|ino| match self.fs.held(ino) {
            Some(Held::Object(id)) => Some(id),
            _ => None,
        });
        objects.collect()
    }

    /// The objects of releases and generations.
    fn needed(&self) -> HashSet<ObjectId> {
        let selections = self.world.generations.values().flat_map(|s| s.packages.values());
        let releases = self.world.releases.iter().map(|release| release.object);
        selections.map(|selection| selection.object).chain(releases).collect()
    }

    fn forgettable(&self, keep: usize, used: &HashSet<ObjectId>) -> Going {
        let kept: Vec<_> = self.world.generations.iter().rev().take(keep).collect();
        let generations = self.world.generations.keys().rev().skip(keep);
        let is_selected = |id: &ReleaseId| {
            let mut selections = kept.iter().flat_map(|(_, system)| system.packages.values());
            selections.any(|selection| selection.release == *id)
        };
        let releases = self.world.releases.iter();
        let free = releases.filter(|one| !is_selected(&one.id) && !used.contains(&one.object));
        Going {
            generations: generations.copied().map(GenerationNumber).collect(),
            releases: free.map(|release| release.id.clone()).collect(),
        }
    }

    fn forget(&self) -> Result<(), StoreError> {
        let writer = self.store.writer()?;
        let generations: Vec<_> = self.going.generations.iter().copied().collect();
        self.store.remove_generations(&writer, &generations)?;
        self.going.releases.iter().try_for_each(|id| self.store.remove_release(&writer, id))
    }
}
