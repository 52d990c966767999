//! All releases in a store, in memory, with indexes so that no question scans the whole.
//! Never decides what is selected.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::spec::parse_variants;
use crate::{
    Arch, Category, CommandName, Need, PackageName, Pick, Release, ReleaseId, Soname, Spec,
    Variants, Version,
};

mod index;
mod similar;

use index::NameIndex;
pub(crate) use similar::nearest;

/// All releases in a store. Cheap to clone piecewise: releases are shared.
#[derive(Clone, Debug)]
pub struct Catalog {
    host: Arch,
    packages: BTreeMap<PackageName, Vec<Arc<Release>>>,
    releases: usize,
    unreadable: BTreeMap<PackageName, BTreeSet<ReleaseId>>,
    categories: BTreeMap<Category, usize>,
    commands: NameIndex<CommandName>,
    sonames: NameIndex<Soname>,
    needed_packages: NameIndex<PackageName>,
    needed_sonames: NameIndex<Soname>,
}

/// Why a release cannot enter the catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The same release is there with another object.
    #[error("{id} is already in the store with other content")]
    OtherContent {
        /// The release.
        id: ReleaseId,
    },
    /// The package lives in another category.
    #[error("{name} lives in the category {present}, not {given}")]
    OtherCategory {
        /// The package.
        name: PackageName,
        /// Where it lives.
        present: Category,
        /// What was asked for.
        given: Category,
    },
}

impl Catalog {
    /// An empty catalog of a machine of this architecture.
    #[must_use]
    pub fn new(host: Arch) -> Self {
        Self {
            host,
            packages: BTreeMap::new(),
            releases: 0,
            unreadable: BTreeMap::new(),
            categories: BTreeMap::new(),
            commands: NameIndex::default(),
            sonames: NameIndex::default(),
            needed_packages: NameIndex::default(),
            needed_sonames: NameIndex::default(),
        }
    }

    /// The architecture of the machine.
    #[must_use]
    pub fn host(&self) -> &Arch {
        &self.host
    }

    /// Adds a release; the same one again is fine and answers `false`.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] when the name is taken by other content or the package lives elsewhere.
    pub fn insert(&mut self, release: Arc<Release>) -> Result<bool, CatalogError> {
        let id = &release.id;
        let present = self.releases(&id.name);
        if let Some(first) = present.first()
            && first.category != release.category
        {
            return Err(CatalogError::OtherCategory {
                name: id.name.clone(),
                present: first.category.clone(),
                given: release.category.clone(),
            });
        }
        let at = match present.binary_search_by(|other| place(&other.id).cmp(&place(id))) {
            Ok(at) if present[at].object == release.object => return Ok(false),
            Ok(_) => return Err(CatalogError::OtherContent { id: id.clone() }),
            Err(at) => at,
        };
        if present.is_empty() {
            *self.categories.entry(release.category.clone()).or_default() += 1;
        }
        self.index(&release, NameIndex::add, NameIndex::add, NameIndex::add);
        if let Some(unreadable) = self.unreadable.get_mut(&id.name) {
            unreadable.remove(id);
        }
        self.packages.entry(id.name.clone()).or_default().insert(at, release);
        self.releases += 1;
        Ok(true)
    }

    /// Takes a release out; `None` when it is not there.
    pub fn remove(&mut self, id: &ReleaseId) -> Option<Arc<Release>> {
        let releases = self.packages.get_mut(&id.name)?;
        let at = releases.binary_search_by(|other| place(&other.id).cmp(&place(id))).ok()?;
        let release = releases.remove(at);
        if releases.is_empty() {
            self.packages.remove(&id.name);
            if let Some(count) = self.categories.get_mut(&release.category) {
                *count -= 1;
                if *count == 0 {
                    self.categories.remove(&release.category);
                }
            }
        }
        self.index(&release, NameIndex::take, NameIndex::take, NameIndex::take);
        self.releases -= 1;
        Some(release)
    }

    /// Notes a release that is in the store and of which nothing but its name can be read. It is
    /// in no list and no index; a choice in which it could have been chosen is refused, since
    /// another release in its place would be a silent step back.
    pub fn insert_unreadable(&mut self, id: ReleaseId) {
        if self.get(&id).is_none() {
            self.unreadable.entry(id.name.clone()).or_default().insert(id);
        }
    }

    /// Takes such a release out.
    pub fn forget_unreadable(&mut self, id: &ReleaseId) {
        if let Some(ids) = self.unreadable.get_mut(&id.name) {
            ids.remove(id);
        }
    }

    /// Whether [`Catalog::insert_unreadable`] noted this release.
    #[must_use]
    pub fn is_unreadable(&self, id: &ReleaseId) -> bool {
        self.unreadable.get(&id.name).is_some_and(|ids| ids.contains(id))
    }

    /// The releases of a package that are there and cannot be read, oldest version first.
    pub fn unreadable(&self, name: &PackageName) -> impl DoubleEndedIterator<Item = &ReleaseId> {
        self.unreadable.get(name).into_iter().flatten()
    }

    /// All releases that are there and cannot be read.
    pub fn all_unreadable(&self) -> impl Iterator<Item = &ReleaseId> {
        self.unreadable.values().flatten()
    }

    /// The newest release that `spec` could mean if it could be read, where none of those that can
    /// be is newer.
    #[must_use]
    pub fn unreadable_match(&self, spec: &Spec) -> Option<&ReleaseId> {
        let best = self.matching(spec).first().map(|release| &release.id.version);
        if spec.object.is_some() && best.is_some() {
            return None;
        }
        let means = |id: &&ReleaseId| match &spec.pick {
            Pick::Any | Pick::Latest => true,
            Pick::Exact(version) => id.version == *version,
            Pick::Prefix(prefix) => {
                let proper = best.is_some_and(|best| prefix.matches(best));
                prefix.matches(&id.version) || !proper && prefix.matches_early(&id.version)
            }
            // What was selected before is known by its name.
            Pick::Prev => false,
        };
        // One for another machine is in nobody's way, unless nothing else is meant.
        let fits = |id: &&ReleaseId| best.is_none() || self.is_native_arch(&id.arch);
        self.unreadable(&spec.name)
            .rev()
            .filter(fits)
            .filter(|id| spec.means_build(id) && best.is_none_or(|best| *best <= id.version))
            .find(means)
    }

    /// Tells every index of this release: `add` or `take`, once for each kind of key.
    fn index(
        &mut self,
        release: &Release,
        command: fn(&mut NameIndex<CommandName>, &CommandName, &PackageName),
        soname: fn(&mut NameIndex<Soname>, &Soname, &PackageName),
        package: fn(&mut NameIndex<PackageName>, &PackageName, &PackageName),
    ) {
        let name = &release.id.name;
        for key in &release.provides.commands {
            command(&mut self.commands, key, name);
        }
        for key in release.provides.sonames.keys() {
            soname(&mut self.sonames, key, name);
        }
        for need in &release.needs {
            match need {
                Need::Package(key, _) => package(&mut self.needed_packages, key, name),
                Need::Soname(key) => soname(&mut self.needed_sonames, key, name),
            }
        }
    }

    /// The release of this name.
    #[must_use]
    pub fn get(&self, id: &ReleaseId) -> Option<&Arc<Release>> {
        let releases = self.packages.get(&id.name)?;
        let at = releases.binary_search_by(|other| place(&other.id).cmp(&place(id))).ok()?;
        releases.get(at)
    }

    /// The release that is seen as `<package>@<version>[,variant...]` below the mount, where the
    /// version is written as [`Version::file_name`] does. Host architecture or `all` only. Each
    /// release has one such name: variants in another order are another name, and not there.
    #[must_use]
    pub fn by_mount_name(&self, category: &Category, name: &str) -> Option<&Arc<Release>> {
        let (package, rest) = name.split_once('@')?;
        let (version, variants) = match rest.split_once(',') {
            Some((version, variants)) => (version, parse_variants(variants).ok()?),
            None => (rest, Variants::new()),
        };
        let version = Version::from_file_name(version).ok()?;
        self.packages
            .get(package)?
            .iter()
            .filter(|release| release.id.version == version && release.id.variants == variants)
            .filter(|release| release.category == *category && self.is_native(release))
            .filter(|release| release.id.mount_name() == name)
            .max_by_key(|release| release.id.arch == self.host)
    }

    /// The releases of a package: oldest version first, plain builds before variants.
    #[must_use]
    pub fn releases(&self, name: &PackageName) -> &[Arc<Release>] {
        self.packages.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages, by name.
    pub fn packages(&self) -> impl Iterator<Item = (&PackageName, &[Arc<Release>])> {
        self.packages.iter().map(|(name, releases)| (name, releases.as_slice()))
    }

    /// The category of a package, once it has a release.
    #[must_use]
    pub fn category(&self, name: &PackageName) -> Option<&Category> {
        self.releases(name).first().map(|release| &release.category)
    }

    /// Whether any release lives in this category.
    #[must_use]
    pub fn has_category(&self, category: &Category) -> bool {
        self.categories.contains_key(category)
    }

    /// Releases that provide this soname, in the order of package names.
    #[must_use]
    pub fn providers(&self, soname: &Soname) -> Vec<&Arc<Release>> {
        self.sonames
            .packages(soname)
            .flat_map(|name| self.releases(name))
            .filter(|release| release.provides.sonames.contains_key(soname))
            .collect()
    }

    /// Packages of which some release has this command, by name.
    pub fn command_packages(&self, command: &CommandName) -> impl Iterator<Item = &PackageName> {
        self.commands.packages(command)
    }

    /// Packages of which some release provides this soname, by name.
    pub fn soname_packages(&self, soname: &Soname) -> impl Iterator<Item = &PackageName> {
        self.sonames.packages(soname)
    }

    /// Packages of which some release needs this package, by name.
    pub fn package_needers(&self, name: &PackageName) -> impl Iterator<Item = &PackageName> {
        self.needed_packages.packages(name)
    }

    /// Packages of which some release needs this soname, by name.
    pub fn soname_needers(&self, soname: &Soname) -> impl Iterator<Item = &PackageName> {
        self.needed_sonames.packages(soname)
    }

    /// Whether a release is built for this machine, or for all.
    #[must_use]
    pub fn is_native(&self, release: &Release) -> bool {
        self.is_native_arch(&release.id.arch)
    }

    /// Whether this machine runs what is built for this architecture.
    #[must_use]
    pub fn is_native_arch(&self, arch: &Arch) -> bool {
        *arch == self.host || arch.is_all()
    }

    /// Names of packages that look like `name`, nearest first, at most three.
    #[must_use]
    pub fn similar(&self, name: &str) -> Vec<PackageName> {
        similar::nearest(name, self.packages.keys())
    }

    /// Every release that `spec` could mean, ignoring what is selected (`@prev` matches all),
    /// best first: what is built for this machine, newest version.
    /// For `show`, `remove` and completion; a choice for serving is made by `plan`.
    #[must_use]
    pub fn matching(&self, spec: &Spec) -> Vec<&Arc<Release>> {
        let (native, foreign): (Vec<_>, Vec<_>) = self
            .releases(&spec.name)
            .iter()
            .filter(|release| spec.means_build(&release.id))
            .filter(|release| spec.object.as_ref().is_none_or(|o| o.matches(&release.object)))
            .partition(|release| self.is_native(release));
        let mut best = self.picked(&spec.pick, native);
        best.extend(self.picked(&spec.pick, foreign));
        best
    }

    fn picked<'a>(&self, pick: &Pick, mut from: Vec<&'a Arc<Release>>) -> Vec<&'a Arc<Release>> {
        match pick {
            Pick::Any | Pick::Latest | Pick::Prev => {}
            Pick::Exact(version) => from.retain(|release| release.id.version == *version),
            Pick::Prefix(prefix) => {
                let early = !from.iter().any(|release| prefix.matches(&release.id.version));
                from.retain(|release| match early {
                    true => prefix.matches_early(&release.id.version),
                    false => prefix.matches(&release.id.version),
                });
            }
        }
        from.sort_by(|a, b| {
            let rank = |r: &Release| (r.id.arch == self.host, r.id.arch.clone());
            b.id.version.cmp(&a.id.version).then_with(|| rank(b).cmp(&rank(a)))
        });
        from
    }

    /// All releases of the package, those of the versions nearest to the one in `spec` first; the
    /// newest first when it names none.
    #[must_use]
    pub fn nearest(&self, spec: &Spec) -> Vec<ReleaseId> {
        let releases = self.releases(&spec.name);
        let wanted = match &spec.pick {
            Pick::Exact(version) => Some(version.clone()),
            Pick::Prefix(prefix) => prefix.to_string().parse().ok(),
            Pick::Any | Pick::Latest | Pick::Prev => None,
        };
        let newer = wanted.map_or(releases.len(), |wanted| {
            releases.partition_point(|release| release.id.version < wanted)
        });
        let (below, above) = releases.split_at(newer);
        let (mut below, mut above) = (below.iter().rev(), above.iter());
        let mut found = Vec::with_capacity(releases.len());
        while found.len() < releases.len() {
            found.extend(below.next().map(|release| release.id.clone()));
            found.extend(above.next().map(|release| release.id.clone()));
        }
        found
    }

    /// How many releases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.releases
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a release stands among those of its package.
fn place(id: &ReleaseId) -> (&Version, &Variants, &Arch) {
    (&id.version, &id.variants, &id.arch)
}

#[cfg(test)]
mod tests;
