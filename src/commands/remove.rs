//! `dynfs remove`: takes release records out of the catalog.

use resolver::{Catalog, Pick, ReleaseId, Spec};
use serde::Serialize;

use super::change;
use crate::cli;
use crate::error::{CommandError, Kind};
use crate::invocation::{Invocation, specs};
use crate::protocol::{Done, Edit};

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    removed: &'a [ReleaseId],
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Remove) -> Result<(), CommandError> {
    let specs = specs(&arguments.specs)?;
    let store = run.open()?;
    let state = run.state(&store)?;
    let mut releases = Vec::new();
    for spec in &specs {
        let id = match state.catalog.unreadable_match(spec) {
            // Damage is taken away only when it is named exactly.
            Some(id) if matches!(spec.pick, Pick::Exact(_)) => id.clone(),
            Some(id) => return Err(state.damage_to(&store, id).into()),
            None => only(&state.catalog, spec)?,
        };
        if !releases.contains(&id) {
            releases.push(id);
        }
    }
    let carried = run.submit(&store, &Edit::Remove { releases })?;
    let Done::Removed { releases, unshown } = carried.done else {
        return Err(CommandError::new(Kind::Failed, "the answer is not about removal"));
    };
    if run.report.wants_json() {
        let document = Document { dry_run: run.dry_run, removed: &releases };
        run.report.document(run.command, &document)?;
    } else {
        let verb = if run.dry_run { "would remove" } else { "removed" };
        let names: Vec<String> = releases.iter().map(ToString::to_string).collect();
        run.report.success(&format!("{verb} {}", names.join(" ")))?;
        run.report.note("its files stay in the store until dynfs gc");
    }
    change::shown(unshown.as_deref())
}

/// The one release that a spec means. Removing the newest of several by accident would be worse
/// than asking.
fn only(catalog: &Catalog, spec: &Spec) -> Result<ReleaseId, CommandError> {
    let candidates = catalog.matching(spec);
    match candidates.as_slice() {
        [release] => Ok(release.id.clone()),
        [] => Err(super::show::unknown(catalog, spec)),
        several => {
            let ids = several.iter().map(|release| release.id.clone()).collect();
            Err(resolver::Refusal::Ambiguous { spec: spec.clone(), candidates: ids }.into())
        }
    }
}
