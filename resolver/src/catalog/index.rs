//! A name -> the packages of which some release has it. Never holds releases themselves.

use alloc::collections::BTreeMap;

use crate::PackageName;

/// Counts, for each name, the releases of each package that have it.
#[derive(Clone, Debug)]
pub(super) struct NameIndex<K>(BTreeMap<K, BTreeMap<PackageName, usize>>);

impl<K> Default for NameIndex<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone + Ord> NameIndex<K> {
    pub(super) fn add(&mut self, key: &K, package: &PackageName) {
        let packages = self.0.entry(key.clone()).or_default();
        *packages.entry(package.clone()).or_default() += 1;
    }

    pub(super) fn take(&mut self, key: &K, package: &PackageName) {
        let Some(packages) = self.0.get_mut(key) else { return };
        let Some(count) = packages.get_mut(package) else { return };
        *count -= 1;
        if *count == 0 {
            packages.remove(package);
        }
        if packages.is_empty() {
            self.0.remove(key);
        }
    }

    pub(super) fn packages(&self, key: &K) -> impl Iterator<Item = &PackageName> {
        self.0.get(key).into_iter().flat_map(BTreeMap::keys)
    }
}
