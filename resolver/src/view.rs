//! A generation compiled for serving: directory and name -> object or link. A pure value.
//!
//! The tree that it stands for (see `docs/ARCHITECTURE.md`):
//!
//! ```text
//! <category>/<package>      the selected object, whole
//! bin/<command>             -> ../<category>/<package>/bin/<command>
//! so/<soname>               -> ../<category>/<package>/lib/<file>
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::plan::selected;
use crate::{
    Catalog, Category, CommandName, FileName, ObjectId, PackageName, Plan, Selection, Selections,
    SharedMap, Soname,
};

/// A directory that no object holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualDir {
    /// The top of a tree: the categories and the unions.
    Root,
    /// The packages of one category.
    Category(Category),
    /// The union of commands.
    Bin,
    /// The union of sonames.
    So,
}

/// What a name in a virtual directory stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another virtual directory.
    Dir(VirtualDir),
    /// A package: its selected object.
    Package(ObjectId),
    /// A relative symbolic link of a union, with its text.
    Link(Arc<str>),
}

/// Selections compiled for serving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    categories: BTreeMap<Category, SharedMap<PackageName, ObjectId>>,
    bin: Union,
    so: Union,
}

/// The names and lists that differ between two views: what a kernel must be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Names that answer differently, also those that came or went, sorted.
    pub entries: Vec<(VirtualDir, String)>,
    /// Directories whose list of names differs, sorted.
    pub lists: Vec<VirtualDir>,
}

type Union = SharedMap<Arc<str>, Arc<str>>;

impl View {
    /// Compiles selections. Union entries come from the catalog's releases; a release that is not
    /// in the catalog provides nothing, but its package is shown, since the selection names its
    /// object. Contested names go to the recorded provider, else to the first package by name.
    #[must_use]
    pub fn compile(selections: &Selections, catalog: &Catalog) -> Self {
        let mut categories: BTreeMap<Category, SharedMap<PackageName, ObjectId>> = BTreeMap::new();
        let (mut bin, mut so) = (Union::new(), Union::new());
        for (name, selection) in &selections.packages {
            let packages = categories.entry(selection.category.clone()).or_default();
            packages.insert(name.clone(), selection.object);
            let Some(release) = catalog.get(&selection.release) else { continue };
            for command in &release.provides.commands {
                let chosen = selections.providers.commands.get(command);
                let text = || bin_link(selection, command);
                offer(&mut bin, command.shared(), chosen == Some(name), text);
            }
            for (soname, file) in &release.provides.sonames {
                let chosen = selections.providers.sonames.get(soname);
                let text = || so_link(selection, file);
                offer(&mut so, soname.shared(), chosen == Some(name), text);
            }
        }
        Self { categories, bin, so }
    }

    /// What `name` stands for in `dir`. The root holds `bin`, `so` and the categories that have a
    /// selected package.
    #[must_use]
    pub fn get(&self, dir: &VirtualDir, name: &str) -> Option<Target> {
        match dir {
            VirtualDir::Root => match name {
                "bin" => Some(Target::Dir(VirtualDir::Bin)),
                "so" => Some(Target::Dir(VirtualDir::So)),
                _ => {
                    let (category, _) = self.categories.get_key_value(name)?;
                    Some(Target::Dir(VirtualDir::Category(category.clone())))
                }
            },
            VirtualDir::Category(category) => {
                self.categories.get(category)?.get(name).copied().map(Target::Package)
            }
            VirtualDir::Bin => self.bin.get(name).cloned().map(Target::Link),
            VirtualDir::So => self.so.get(name).cloned().map(Target::Link),
        }
    }

    /// The names of `dir` with what they stand for, sorted by bytes; `None` when the view has no
    /// such directory.
    #[must_use]
    pub fn list(&self, dir: &VirtualDir) -> Option<Vec<(Arc<str>, Target)>> {
        let links = |union: &Union| {
            union.iter().map(|(name, text)| (name.clone(), Target::Link(text.clone()))).collect()
        };
        Some(match dir {
            VirtualDir::Root => {
                let mut names: Vec<(Arc<str>, Target)> = self
                    .categories
                    .keys()
                    .map(|c| (c.shared().clone(), Target::Dir(VirtualDir::Category(c.clone()))))
                    .collect();
                names.push(("bin".into(), Target::Dir(VirtualDir::Bin)));
                names.push(("so".into(), Target::Dir(VirtualDir::So)));
                names.sort_by(|a, b| a.0.cmp(&b.0));
                names
            }
            VirtualDir::Category(category) => {
                let packages = self.categories.get(category)?.iter();
                packages.map(|(name, id)| (name.shared().clone(), Target::Package(*id))).collect()
            }
            VirtualDir::Bin => links(&self.bin),
            VirtualDir::So => links(&self.so),
        })
    }

    /// What differs from `self` to `next`. Nothing unchanged is ever in it. Costs time in
    /// proportion to what differs where the maps share their chunks, else to the size of the maps.
    /// Everything in a category that came or went differs, and so does its list.
    #[must_use]
    pub fn changed(&self, next: &Self) -> Changed {
        let mut changed = Changed::default();
        let root = |view: &Self| view.categories.keys().map(|c| (c.clone(), ())).collect();
        let (old, new): (SharedMap<Category, ()>, _) = (root(self), root(next));
        changed.compare(&VirtualDir::Root, &old, &new);
        let all: BTreeSet<&Category> =
            self.categories.keys().chain(next.categories.keys()).collect();
        let none = SharedMap::new();
        for category in all {
            let before = self.categories.get(category).unwrap_or(&none);
            let after = next.categories.get(category).unwrap_or(&none);
            changed.compare(&VirtualDir::Category(category.clone()), before, after);
        }
        changed.compare(&VirtualDir::Bin, &self.bin, &next.bin);
        changed.compare(&VirtualDir::So, &self.so, &next.so);
        changed
    }

    /// The view after `changes` of one plan, sharing all that does not change. Equal to
    /// `View::compile(next, catalog)`; `self` must be the view of the selections planned from.
    #[must_use]
    pub fn advance(&self, plan: &Plan, catalog: &Catalog) -> Self {
        let mut view = self.clone();
        let mut commands: BTreeSet<&CommandName> = plan.next.providers.commands.keys().collect();
        let mut sonames: BTreeSet<&Soname> = plan.next.providers.sonames.keys().collect();
        for change in &plan.changes {
            for id in [&change.from, &change.to].into_iter().flatten() {
                let Some(release) = catalog.get(id) else {
                    // What it provided cannot be known any more.
                    return Self::compile(&plan.next, catalog);
                };
                commands.extend(&release.provides.commands);
                sonames.extend(release.provides.sonames.keys());
            }
            view.set_package(&change.package, plan.next.packages.get(&change.package));
        }
        for command in commands {
            let text = selected::command(&plan.next, catalog, command)
                .map(|(selection, _)| bin_link(selection, command));
            put(&mut view.bin, command.shared(), text);
        }
        for soname in sonames {
            let text = selected::soname(&plan.next, catalog, soname).and_then(|(selection, r)| {
                r.provides.sonames.get(soname).map(|file| so_link(selection, file))
            });
            put(&mut view.so, soname.shared(), text);
        }
        view
    }

    fn set_package(&mut self, name: &PackageName, selection: Option<&Selection>) {
        let keep = selection.map(|selection| &selection.category);
        self.categories.retain(|category, packages| {
            if Some(category) != keep && packages.contains_key(name) {
                packages.remove(name);
            }
            !packages.is_empty()
        });
        if let Some(selection) = selection {
            let packages = self.categories.entry(selection.category.clone()).or_default();
            if packages.get(name) != Some(&selection.object) {
                packages.insert(name.clone(), selection.object);
            }
        }
    }
}

impl Changed {
    fn compare<K, V>(&mut self, dir: &VirtualDir, before: &SharedMap<K, V>, after: &SharedMap<K, V>)
    where
        K: Ord + AsRef<str>,
        V: PartialEq,
    {
        let mut list = false;
        for (name, old, new) in before.differences(after) {
            list |= old.is_none() || new.is_none();
            self.entries.push((dir.clone(), name.as_ref().to_string()));
        }
        if list {
            self.lists.push(dir.clone());
        }
    }
}

fn offer(union: &mut Union, name: &Arc<str>, chosen: bool, text: impl Fn() -> Arc<str>) {
    if chosen || !union.contains_key(name) {
        union.insert(name.clone(), text());
    }
}

fn put(union: &mut Union, name: &Arc<str>, text: Option<Arc<str>>) {
    if union.get(name) == text.as_ref() {
        return;
    }
    match text {
        Some(text) => union.insert(name.clone(), text),
        None => union.remove(name),
    };
}

fn bin_link(selection: &Selection, command: &CommandName) -> Arc<str> {
    format!("../{}/{}/bin/{command}", selection.category, selection.release.name).into()
}

fn so_link(selection: &Selection, file: &FileName) -> Arc<str> {
    format!("../{}/{}/lib/{file}", selection.category, selection.release.name).into()
}

#[cfg(test)]
mod tests;
