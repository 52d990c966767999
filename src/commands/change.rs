//! What all edits of the selections share, and `undo`, `redo` and `restore`, which are no more.

use std::time::Duration;

use resolver::GenerationNumber;
use serde::Serialize;
use store_fs::{OsDisk, Store, StoreError};

use crate::error::{CommandError, Kind};
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit, Swap, Switched};
use crate::render;

/// The document of every edit of the selections.
#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    generation: Step,
    changes: &'a [Swap],
    notes: &'a [String],
    /// Why the kernel could not be told, when it could not.
    unshown: &'a Option<String>,
    milliseconds: f64,
}

#[derive(Serialize)]
struct Step {
    before: u64,
    after: u64,
}

/// Carries out an edit of the selections and says how they changed.
pub(super) fn run(run: &mut Invocation, edit: &Edit) -> Result<(), CommandError> {
    let store = run.open()?;
    let carried = run.submit(&store, edit)?;
    let Done::Switched(switched) = carried.done else {
        return Err(CommandError::new(Kind::Failed, "the answer is not about selections"));
    };
    if run.report.wants_json() {
        let (before, after) = (switched.before.0, switched.after.0);
        run.report.document(
            run.command,
            &Document {
                dry_run: run.dry_run,
                generation: Step { before, after },
                changes: &switched.changes,
                notes: &switched.notes,
                unshown: &switched.unshown,
                milliseconds: carried.time.as_secs_f64() * 1e3,
            },
        )?;
    } else {
        let back = match edit {
            Edit::Undo => Some("redo"),
            // Over a damaged generation there is no way back.
            Edit::Restore { .. } if is_damaged(&store, switched.before) => None,
            _ => Some("undo"),
        };
        run.report.success(&lines(&switched, run.dry_run, carried.time, back))?;
        for note in &switched.notes {
            run.report.note(note);
        }
    }
    shown(switched.unshown.as_deref())
}

fn is_damaged(store: &Store<OsDisk>, number: GenerationNumber) -> bool {
    matches!(store.generation(number), Err(StoreError::Damaged { .. }))
}

/// An error when a change is durable but the kernel could not be told.
pub(super) fn shown(unshown: Option<&str>) -> Result<(), CommandError> {
    let Some(reason) = unshown else { return Ok(()) };
    let message = "the change is recorded, but the kernel could not be told of it";
    let mut error = CommandError::new(Kind::Failed, message);
    error.causes.push(reason.to_owned());
    Err(error
        .hint("programs may see the old selection until the same command, given again, succeeds"))
}

/// One line a package; the first one carries generation, time and the way back.
fn lines(switched: &Switched, dry_run: bool, time: Duration, back: Option<&str>) -> String {
    let (before, after) = (switched.before, switched.after);
    let tail = match (before == after, dry_run) {
        (true, _) => format!("nothing to do   generation {after}"),
        (false, true) => format!("would be generation {before} -> {after}"),
        (false, false) => format!(
            "generation {before} -> {after}   {}{}",
            render::duration(time),
            back.map_or_else(String::new, |back| format!("   {back}: dynfs {back}"))
        ),
    };
    if before == after {
        return tail;
    }
    let rows: Vec<[String; 2]> = switched.changes.iter().map(render::swap).collect();
    let table = render::table(&rows);
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    match lines.first_mut() {
        Some(first) => first.push_str(&format!("   {tail}")),
        None => lines.push(format!("no package changes   {tail}")),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switched(json: serde_json::Value, before: u64, after: u64) -> Switched {
        Switched {
            before: GenerationNumber(before),
            after: GenerationNumber(after),
            changes: serde_json::from_value(json).unwrap(),
            notes: Vec::new(),
            unshown: None,
        }
    }

    #[test]
    fn nothing_to_do_is_said() {
        let text = lines(&switched(serde_json::json!([]), 4, 4), false, Duration::ZERO, None);
        assert_eq!(text, "nothing to do   generation 4");
    }

    #[test]
    fn a_new_record_without_a_change_of_packages_is_said() {
        let text = lines(&switched(serde_json::json!([]), 4, 5), true, Duration::ZERO, None);
        assert_eq!(text, "no package changes   would be generation 4 -> 5");
    }

    #[test]
    fn a_change_that_the_kernel_does_not_know_is_a_failure() {
        assert_eq!(shown(None), Ok(()));
        assert_eq!(shown(Some("ENODEV")).unwrap_err().kind, Kind::Failed);
    }
}
