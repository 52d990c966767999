//! Which selected package has a name of a union. Asks the catalog's indexes: never scans.

use crate::{Catalog, CommandName, PackageName, Release, Selection, Selections, SharedMap, Soname};

/// A selection and its release.
pub(crate) type Chosen<'a> = (&'a Selection, &'a Release);

/// The selected packages that have this command, by name.
pub(crate) fn with_command<'a>(
    selections: &'a SharedMap<PackageName, Selection>,
    catalog: &'a Catalog,
    command: &'a CommandName,
) -> impl Iterator<Item = Chosen<'a>> {
    catalog
        .command_packages(command)
        .filter_map(|name| chosen(selections, catalog, name))
        .filter(|(_, release)| release.provides.commands.contains(command))
}

/// The selected packages that provide this soname, by name.
pub(crate) fn with_soname<'a>(
    selections: &'a SharedMap<PackageName, Selection>,
    catalog: &'a Catalog,
    soname: &'a Soname,
) -> impl Iterator<Item = Chosen<'a>> {
    catalog
        .soname_packages(soname)
        .filter_map(|name| chosen(selections, catalog, name))
        .filter(|(_, release)| release.provides.sonames.contains_key(soname))
}

/// The selected release of a package.
pub(crate) fn chosen<'a>(
    selections: &'a SharedMap<PackageName, Selection>,
    catalog: &'a Catalog,
    name: &PackageName,
) -> Option<Chosen<'a>> {
    let selection = selections.get(name)?;
    Some((selection, catalog.get(&selection.release)?))
}

/// Who provides this command: the recorded provider, else the first package by name.
pub(crate) fn command<'a>(
    selections: &'a Selections,
    catalog: &'a Catalog,
    command: &'a CommandName,
) -> Option<Chosen<'a>> {
    let recorded = selections.providers.commands.get(command);
    preferred(recorded, || with_command(&selections.packages, catalog, command))
}

/// Who provides this soname: the recorded provider, else the first package by name.
pub(crate) fn soname<'a>(
    selections: &'a Selections,
    catalog: &'a Catalog,
    soname: &'a Soname,
) -> Option<Chosen<'a>> {
    let recorded = selections.providers.sonames.get(soname);
    preferred(recorded, || with_soname(&selections.packages, catalog, soname))
}

fn preferred<'a, I: Iterator<Item = Chosen<'a>>>(
    recorded: Option<&PackageName>,
    all: impl Fn() -> I,
) -> Option<Chosen<'a>> {
    all().find(|(selection, _)| Some(&selection.release.name) == recorded).or_else(|| all().next())
}
