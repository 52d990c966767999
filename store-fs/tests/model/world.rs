//! The reference: the whole tree under the mount, built from first principles each time it is
//! asked for. It knows no inode, no cache and no view.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use resolver::{Category, ObjectId, Release, Selections};

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A directory, with the names that it lists and its link count.
    Dir { listed: BTreeSet<String>, links: u32 },
    /// A regular file.
    File { bytes: Vec<u8>, executable: bool, mtime: i64 },
    /// A symbolic link.
    Link(String),
}

/// A directory tree as the test made it: relative path -> file or link; directories end in `/`.
pub(crate) type Sketch = BTreeMap<String, Thing>;

/// Everything that the tree depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// All releases.
    pub(crate) releases: Vec<Release>,
    /// Every generation's selections.
    pub(crate) generations: BTreeMap<u64, Selections>,
    /// What objects hold.
    pub(crate) objects: BTreeMap<ObjectId, Sketch>,
}

/// Path below the mount (without a slash in front; the root is empty) -> what it stands for.
pub(crate) type Paths = BTreeMap<String, Thing>;

impl World {
    /// The whole tree.
    pub(crate) fn paths(&self) -> Paths {
        let mut paths = Paths::new();
        let live = self.generations.values().next_back().cloned().unwrap_or_default();
        self.tree(&mut paths, "", &live, true);
        for name in [".profiles", ".objects"] {
            directory(&mut paths, name, []);
        }
        for release in &self.releases {
            self.object(&mut paths, &format!(".objects/{}", release.object), &release.object);
        }
        let numbers = iter::once(0).chain(self.generations.keys().copied());
        directory(&mut paths, ".generations", numbers.map(|number| number.to_string()));
        self.tree(&mut paths, ".generations/0", &Selections::default(), false);
        for (number, selections) in &self.generations {
            self.tree(&mut paths, &format!(".generations/{number}"), selections, false);
        }
        // Of the generations with one release put in, those of the newest are enough.
        if let Some((number, selections)) = self.generations.last_key_value() {
            for release in &self.releases {
                let mut next = selections.clone();
                next.packages.insert(release.id.name.clone(), super::selection(release));
                let top = format!(".generations/{number};{}", release.id.mount_name());
                self.tree(&mut paths, &top, &next, false);
            }
        }
        paths
    }

    fn tree(&self, paths: &mut Paths, top: &str, selections: &Selections, live: bool) {
        let at = |name: &str| if top.is_empty() { name.into() } else { format!("{top}/{name}") };
        let mut packages: BTreeMap<Category, BTreeSet<String>> = BTreeMap::new();
        let known = self.releases.iter().map(|release| &release.category);
        for category in known {
            packages.entry(category.clone()).or_default();
        }
        for (name, selection) in &selections.packages {
            packages.entry(selection.category.clone()).or_default().insert(name.to_string());
        }
        let listed: Vec<String> = packages
            .iter()
            .filter(|(_, names)| live || !names.is_empty())
            .map(|(category, _)| category.to_string())
            .chain(["bin".into(), "so".into()])
            .collect();
        directory(paths, top, listed);
        if !live && let Some(Thing::Dir { links, .. }) = paths.get_mut(top) {
            *links = 1;
        }
        directory(paths, &at(".root"), []);
        for (category, names) in packages {
            directory(paths, &at(category.as_str()), names);
        }
        for selection in selections.packages.values() {
            let path = at(&format!("{}/{}", selection.category, selection.release.name));
            self.object(paths, &path, &selection.object);
        }
        for release in &self.releases {
            let path = at(&format!("{}/{}", release.category, release.id.mount_name()));
            self.object(paths, &path, &release.object);
        }
        for (union, entries) in [("bin", self.bin(selections)), ("so", self.so(selections))] {
            let names: Vec<String> = entries.keys().cloned().collect();
            directory(paths, &at(union), names);
            if let Some(Thing::Dir { links, .. }) = paths.get_mut(&at(union)) {
                *links = 2;
            }
            for (name, target) in entries {
                paths.insert(at(&format!("{union}/{name}")), Thing::Link(target));
            }
        }
    }

    /// A contested name goes to the package that the selections say; when that does not have it, to
    /// the first one by name.
    fn bin(&self, selections: &Selections) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for release in self.selected(selections) {
            for command in &release.provides.commands {
                let target = format!("../{}/{}/bin/{command}", release.category, release.id.name);
                let wins = selections.providers.commands.get(command) == Some(&release.id.name);
                enter(&mut entries, command.to_string(), target, wins);
            }
        }
        entries
    }

    fn so(&self, selections: &Selections) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for release in self.selected(selections) {
            for (soname, file) in &release.provides.sonames {
                let target = format!("../{}/{}/lib/{file}", release.category, release.id.name);
                let wins = selections.providers.sonames.get(soname) == Some(&release.id.name);
                enter(&mut entries, soname.to_string(), target, wins);
            }
        }
        entries
    }

    fn selected<'a>(&'a self, selections: &'a Selections) -> impl Iterator<Item = &'a Release> {
        let packages = selections.packages.values();
        packages
            .filter_map(|chosen| self.releases.iter().find(|release| release.id == chosen.release))
    }

    fn object(&self, paths: &mut Paths, top: &str, id: &ObjectId) {
        paths.insert(top.into(), Thing::Dir { listed: BTreeSet::new(), links: 2 });
        for (path, thing) in &self.objects[id] {
            let path = path.trim_end_matches('/');
            paths.insert(format!("{top}/{path}"), thing.clone());
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = if parent.is_empty() { top.into() } else { format!("{top}/{parent}") };
            if let Some(Thing::Dir { listed, links }) = paths.get_mut(&parent) {
                listed.insert(name.into());
                *links += u32::from(matches!(thing, Thing::Dir { .. }));
            }
        }
    }
}

/// An entry of a union.
fn enter(entries: &mut BTreeMap<String, String>, name: String, target: String, wins: bool) {
    if wins {
        entries.insert(name, target);
    } else {
        entries.entry(name).or_insert(target);
    }
}

/// A virtual directory whose names are all directories.
fn directory(paths: &mut Paths, path: &str, listed: impl IntoIterator<Item = String>) {
    let listed: BTreeSet<String> = listed.into_iter().collect();
    let links = 2 + u32::try_from(listed.len()).expect("the test's directories are small");
    paths.insert(path.into(), Thing::Dir { listed, links });
}
