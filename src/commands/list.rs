//! `dynfs list`: the packages of the store, or the releases of one.

use std::sync::Arc;

use resolver::{
    Arch, Category, Need, ObjectId, Origin, PackageName, Refusal, Release, Selections, Variant,
    Version,
};
use serde::Serialize;

use crate::apply_file;
use crate::cli;
use crate::engine::State;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::render;
use crate::report::starred;

#[derive(Serialize)]
struct Document<'a> {
    generation: u64,
    releases: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    package: &'a PackageName,
    version: &'a Version,
    variants: Vec<&'a Variant>,
    object: ObjectId,
    /// Nothing when the newest generation is damaged.
    selected: Option<bool>,
    category: &'a Category,
    arch: &'a Arch,
    needs: &'a [Need],
    origin: &'a Origin,
}

impl<'a> Row<'a> {
    fn new(release: &'a Release, selections: Option<&Selections>) -> Self {
        Self {
            package: &release.id.name,
            version: &release.id.version,
            variants: release.id.variants.iter().collect(),
            object: release.object,
            selected: selections.map(|selections| is_selected(release, selections)),
            category: &release.category,
            arch: &release.id.arch,
            needs: &release.needs,
            origin: &release.origin,
        }
    }
}

/// Whether a release is the selected one of its package.
pub(super) fn is_selected(release: &Release, selections: &Selections) -> bool {
    let selection = selections.packages.get(&release.id.name);
    selection.is_some_and(|selection| selection.release == release.id)
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::List) -> Result<(), CommandError> {
    if arguments.toml && run.report.wants_json() {
        return Err(CommandError::usage("--toml and --json are two formats").hint("give one"));
    }
    let package = arguments.package.as_deref().map(PackageName::new).transpose()?;
    let store = run.open()?;
    let state = run.state(&store)?;
    if arguments.toml {
        state.whole()?;
        run.report.data(&apply_file::write(&state.current.system))?;
        return run.complain(&state);
    }
    let releases: Vec<Arc<Release>> = match &package {
        Some(name) => state.catalog.releases(name).to_vec(),
        None => state.catalog.packages().flat_map(|(_, all)| all.iter().cloned()).collect(),
    };
    if let Some(name) = package.as_ref().filter(|_| releases.is_empty()) {
        if let Some(id) = state.catalog.unreadable(name).next_back() {
            return Err(state.damage_to(&store, id).into());
        }
        let similar = state.catalog.similar(name.as_str());
        return Err(Refusal::UnknownPackage { name: name.clone(), similar }.into());
    }
    let system = state.whole().is_ok().then_some(&state.current.system);
    if run.report.wants_json() {
        let releases = releases.iter().map(|release| Row::new(release, system)).collect();
        let document = Document { generation: state.current.number.0, releases };
        run.report.document(run.command, &document)?;
    } else if package.is_some() {
        run.report.data(&starred(&one(&releases, system)))?;
    } else {
        run.report.data(&starred(&all(&state)))?;
        if state.catalog.packages().next().is_none() {
            run.report.note("the store is empty");
            run.report.hint("dynfs add DIR --name NAME --version VERSION");
        }
    }
    run.complain(&state)
}

/// A line a package.
fn all(state: &State) -> String {
    let mut rows =
        vec![["", "PACKAGE", "CATEGORY", "SELECTED", "RELEASES", "WHY"].map(str::to_owned)];
    for (name, releases) in state.catalog.packages() {
        let Some(first) = releases.first() else { continue };
        let selection = state.current.system.packages.get(name);
        let none = if state.whole().is_ok() { "-" } else { "?" };
        rows.push([
            if selection.is_some() { "*" } else { "" }.to_owned(),
            name.to_string(),
            first.category.to_string(),
            selection
                .map_or_else(|| none.to_owned(), |selection| render::version(&selection.release)),
            releases.len().to_string(),
            selection.map_or_else(String::new, |selection| render::why(&selection.why)),
        ]);
    }
    if rows.len() == 1 { String::new() } else { render::table(&rows) }
}

/// Before the line of a release.
fn mark(release: &Release, selections: Option<&Selections>) -> &'static str {
    match selections {
        Some(selections) if is_selected(release, selections) => "*",
        Some(_) => "",
        None => "?",
    }
}

/// Version and variants, and the architecture where that tells two apart.
fn build(release: &Release, all: &[Arc<Release>]) -> String {
    let text = render::version(&release.id);
    match all.iter().filter(|other| render::version(&other.id) == text).count() {
        1 => text,
        _ => format!("{text},{}", release.id.arch),
    }
}

/// A line a release, numbered.
fn one(releases: &[Arc<Release>], selections: Option<&Selections>) -> String {
    let rows: Vec<[String; 5]> = releases
        .iter()
        .enumerate()
        .map(|(index, release)| {
            [
                mark(release, selections).to_owned(),
                (index + 1).to_string(),
                build(release, releases),
                render::short(release.object),
                format!("{} {}", release.origin.kind, release.origin.name),
            ]
        })
        .collect();
    render::table(&rows)
}
