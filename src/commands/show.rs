//! `dynfs show`: everything about one release.

use std::sync::Arc;

use resolver::{Catalog, GenerationNumber, Pick, Refusal, Release, Selection, Spec, Why};
use serde::Serialize;
use store_fs::{OsDisk, Store};

use super::fsck::is_damage;
use super::list::is_selected;
use crate::cli;
use crate::engine::{EngineError, State};
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::render;
use crate::report::printable;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    release: &'a Release,
    selected: Option<Selected>,
    /// How many other releases the spec could mean.
    others: usize,
}

#[derive(Serialize)]
struct Selected {
    since: GenerationNumber,
    /// The generation before that is damaged: perhaps it was selected there already.
    at_least: bool,
    why: Why,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Show) -> Result<(), CommandError> {
    let spec: Spec = arguments.spec.parse()?;
    let store = run.open()?;
    let state = run.state(&store)?;
    let matching = state.catalog.matching(&spec);
    let release = one(&store, &state, &spec)?;
    let selected = match state.current.system.packages.get(&release.id.name) {
        Some(selection) if selection.release == release.id => {
            let (since, at_least) = since(&state, &store, selection)?;
            Some(Selected { since, at_least, why: selection.why.clone() })
        }
        _ => None,
    };
    if run.report.wants_json() {
        let others = matching.len().saturating_sub(1);
        run.report.document(run.command, &Document { release, selected, others })?;
    } else {
        run.report.data(&text(release, selected.as_ref(), state.whole().is_ok()))?;
        if matching.len() > 1 {
            run.report.hint(&format!("dynfs list {} shows the other releases", release.id.name));
        }
    }
    run.complain(&state)
}

/// The release that a spec means: the one that is selected when it could be that, else the best.
pub(super) fn one<'a>(
    store: &Store<OsDisk>,
    state: &'a State,
    spec: &Spec,
) -> Result<&'a Arc<Release>, CommandError> {
    let matching = state.catalog.matching(spec);
    if let Some(id) = state.catalog.unreadable_match(spec) {
        return Err(state.damage_to(store, id).into());
    }
    if spec.object.is_some() && matching.iter().any(|release| release.object != matching[0].object)
    {
        let candidates = matching.iter().map(|release| release.id.clone()).collect();
        return Err(Refusal::Ambiguous { spec: spec.clone(), candidates }.into());
    }
    choose(&matching, spec, state).ok_or_else(|| unknown(&state.catalog, spec))
}

/// The release that is selected when the spec could mean it, else the best one.
fn choose<'a>(
    matching: &[&'a Arc<Release>],
    spec: &Spec,
    state: &'a State,
) -> Option<&'a Arc<Release>> {
    let selected = |release: &Arc<Release>| is_selected(release, &state.current.system);
    let bare = spec.pick == Pick::Any && spec.variants.is_empty() && spec.object.is_none();
    if !bare {
        return matching.first().copied();
    }
    // A bare name means what is selected, whatever variant that is.
    let all = state.catalog.releases(&spec.name);
    let chosen = all.iter().find(|release| selected(release));
    chosen.or(matching.first().copied())
}

/// The error for a spec that means nothing in the catalog.
pub(super) fn unknown(catalog: &Catalog, spec: &Spec) -> CommandError {
    let releases = catalog.releases(&spec.name);
    match releases.is_empty() {
        true => {
            let similar = catalog.similar(spec.name.as_str());
            Refusal::UnknownPackage { name: spec.name.clone(), similar }.into()
        }
        false => {
            let available = catalog.nearest(spec);
            Refusal::NoRelease { spec: spec.clone(), available }.into()
        }
    }
}

/// The first of the generations without a gap that select the same release, and whether damage to
/// an older one hides how it was before.
fn since(
    state: &State,
    store: &Store<OsDisk>,
    selection: &Selection,
) -> Result<(GenerationNumber, bool), CommandError> {
    let mut since = state.current.number;
    for number in state.generations.iter().rev().skip(1) {
        let system = match state.selections(store, *number) {
            Err(EngineError::Store(error)) if is_damage(&error) => return Ok((since, true)),
            system => system?,
        };
        match system.packages.get(&selection.release.name) {
            Some(earlier) if earlier.release == selection.release => since = *number,
            _ => break,
        }
    }
    Ok((since, false))
}

fn text(release: &Release, selected: Option<&Selected>, known: bool) -> String {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), printable(&value)]);
    row("package", release.id.name.to_string());
    row("version", render::version(&release.id));
    row("path", format!("{}/{}", release.category, release.id.name));
    row("arch", release.id.arch.to_string());
    row("object", release.object.to_string());
    row("origin", format!("{} {}", release.origin.kind, release.origin.name));
    row(
        "selected",
        match selected {
            Some(selected) => {
                let or = if selected.at_least { " or before" } else { "" };
                let (since, why) = (selected.since, render::why(&selected.why));
                format!("since generation {since}{or}, {why}")
            }
            None if known => "no".to_owned(),
            None => "not known".to_owned(),
        },
    );
    for need in &release.needs {
        row("needs", need.to_string());
    }
    for command in &release.provides.commands {
        row("command", command.to_string());
    }
    for (soname, file) in &release.provides.sonames {
        row("soname", format!("{soname} (lib/{file})"));
    }
    for build_id in &release.build_ids {
        row("build-id", build_id.clone());
    }
    render::table(&rows)
}
