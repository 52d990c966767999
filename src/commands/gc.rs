//! `dynfs gc`: lets go of what nothing needs any more, and says why the rest stays.
//!
//! ```text
//! see who uses what -> names go -> see again until it stays the same -> empty the trash -> fill it
//! ```
//!
//! Every step is a bounded edit of its own, so that a select waits for none of them long, and the
//! command may be ended between any two: what is left is garbage for the next time.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resolver::{ObjectId, Timestamp};
use store_fs::{OsDisk, Store};

use self::report::Outcome;
use self::users::Users;
use super::change;
use crate::cli;
use crate::engine::{Forgettable, Keep};
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit};

mod report;
mod users;

/// Looks at all processes at most; then everything that was seen in any of them counts.
const LOOKS_MAX: usize = 20;
/// How often, and after which pause, it is looked whether an addition has ended.
const ADDING_LOOKS: usize = 20;
const ADDING_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn run(run: &mut Invocation, arguments: &cli::Gc) -> Result<(), CommandError> {
    let since = period(&arguments.keep_since)?;
    let since = since.map(|seconds| Timestamp(host::now().0.saturating_sub(seconds)));
    let keep = Keep { count: arguments.keep, since };
    let store = run.open()?;
    if !run.dry_run {
        host::writable(&run.store)?;
    }
    let users = Users::look(&run.store)?;
    let plan = run.state(&store)?.forgettable(&store, &keep, &users.used())?;
    let mut outcome = Outcome::of(&plan, &users);
    let done = match run.dry_run {
        true => rehearse(run, &store, &plan, &users, &mut outcome),
        false => collect(run, &store, &keep, users, &mut outcome),
    };
    // What was done is said also when the rest was not.
    outcome.report(run)?;
    done
}

/// What would be done.
fn rehearse(
    run: &Invocation,
    store: &Store<OsDisk>,
    plan: &Forgettable,
    users: &Users,
    outcome: &mut Outcome,
) -> Result<(), CommandError> {
    let mut state = run.state(store)?;
    state.let_go(plan);
    outcome.generations = plan.generations.clone();
    outcome.releases = plan.releases.iter().map(|release| release.id.clone()).collect();
    let needed = state.needed(store, &users.used().objects)?;
    outcome.deleted = store.would_empty(&needed, false)?.into();
    outcome.trashed = store.unneeded(&needed)?;
    outcome.held = users.of_objects(&unneeded(store, &state.needed(store, &[])?)?);
    let all = store.would_empty(&needed, true)?.bytes;
    outcome.waiting = all.saturating_sub(outcome.deleted.bytes);
    Ok(())
}

/// Every object that nothing but a process needs, in the trash or not.
fn unneeded(
    store: &Store<OsDisk>,
    needed: &HashSet<ObjectId>,
) -> Result<BTreeSet<ObjectId>, CommandError> {
    let mut unneeded: BTreeSet<ObjectId> = store.unneeded(needed)?.into_iter().collect();
    unneeded.extend(store.trash()?.into_iter().filter(|id| !needed.contains(id)));
    Ok(unneeded)
}

fn collect(
    run: &Invocation,
    store: &Arc<Store<OsDisk>>,
    keep: &Keep,
    users: Users,
    outcome: &mut Outcome,
) -> Result<(), CommandError> {
    let Keep { count, since } = *keep;
    loop {
        let edit = Edit::Forget { keep: count, since, used: users.used() };
        let Done::Forgotten(gone) = run.submit(store, &edit)?.done else { return Err(strange()) };
        outcome.generations.extend(gone.generations);
        outcome.releases.extend(gone.releases);
        // Names that the kernel knows can still be walked: it is too early to go on.
        change::shown(gone.unshown.as_deref())?;
        if !gone.more {
            break;
        }
    }
    // From here on nothing of this can come into use that is not in use already.
    let state = run.state(store)?;
    let candidates = unneeded(store, &state.needed(store, &[])?)?;
    let users = settle(&candidates, || Users::look(&run.store))?;
    outcome.held = users.of_objects(&candidates);
    let used = users.used().objects;
    loop {
        let edit = Edit::EmptyTrash { used: used.clone() };
        let Done::Emptied(deleted) = patiently(run, store, &edit)? else { return Err(strange()) };
        outcome.deleted.objects += deleted.objects;
        outcome.deleted.blobs += deleted.blobs;
        outcome.deleted.bytes += deleted.bytes;
        if !deleted.more {
            break;
        }
    }
    let edit = Edit::Trash { used: used.clone() };
    let Done::Trashed { objects } = patiently(run, store, &edit)? else { return Err(strange()) };
    outcome.trashed = objects;
    if !outcome.trashed.is_empty() {
        outcome.waiting = store.would_empty(&state.needed(store, &used)?, false)?.bytes;
    }
    Ok(())
}

/// Looks until two looks in a row see the same of the candidates in use: what went from one
/// process to another meanwhile is seen then.
fn settle(
    candidates: &BTreeSet<ObjectId>,
    mut look: impl FnMut() -> Result<Users, CommandError>,
) -> Result<Users, CommandError> {
    let ids = |users: &Users| -> Vec<ObjectId> {
        users.of_objects(candidates).into_iter().map(|(id, _)| id).collect()
    };
    let mut before = look()?;
    let mut all = before.clone();
    for _ in 1..LOOKS_MAX {
        let now = look()?;
        if ids(&now) == ids(&before) {
            return Ok(now);
        }
        all.join(now.clone());
        before = now;
    }
    Ok(all)
}

/// Does an edit, when whoever adds something has ended.
fn patiently(
    run: &Invocation,
    store: &Arc<Store<OsDisk>>,
    edit: &Edit,
) -> Result<Done, CommandError> {
    for _ in 1..ADDING_LOOKS {
        match run.submit(store, edit) {
            Err(error) if error.kind == Kind::Unavailable => thread::sleep(ADDING_PAUSE),
            carried => return Ok(carried?.done),
        }
    }
    Ok(run.submit(store, edit)?.done)
}

fn strange() -> CommandError {
    CommandError::new(Kind::Failed, "the answer is not about garbage")
}

/// Seconds; `None` for no time at all.
fn period(text: &str) -> Result<Option<i64>, CommandError> {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let number = text.strip_suffix(unit).unwrap_or(text).parse::<i64>().ok();
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        "" if number == Some(0) => Some(1),
        _ => None,
    };
    match number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds)) {
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(seconds)),
        None => Err(CommandError::usage(format!("{text:?} is not a time"))
            .hint("write 90s, 30m, 36h, 14d, 2w, or 0 for no time at all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Process;

    /// What is settled when each look sees one of these in use, and how many looks that takes.
    fn settled(looks: &[&[u8]]) -> (Vec<u8>, usize) {
        let id = |byte: &u8| ObjectId::from_bytes([*byte; 32]);
        let candidates: BTreeSet<ObjectId> = (1..=4).map(|byte| id(&byte)).collect();
        let mut count = 0;
        let users = settle(&candidates, || {
            let seen = looks[count % looks.len()].iter().map(id);
            count += 1;
            let process = Process { name: "cat".to_owned(), pid: 7 };
            Ok(Users::of(seen.map(|id| (id, process.clone()))))
        });
        let found = users.unwrap().of_objects(&candidates);
        (found.into_iter().map(|(id, _)| id.as_bytes()[0]).collect(), count)
    }

    /// One look may miss what goes from one process to another: two in a row must say the same.
    #[test]
    fn processes_are_looked_at_until_two_looks_agree() {
        assert_eq!(settled(&[&[], &[]]), (vec![], 2));
        assert_eq!(settled(&[&[1], &[1]]), (vec![1], 2));
        assert_eq!(settled(&[&[], &[1], &[1]]), (vec![1], 3), "the first one missed it");
        assert_eq!(settled(&[&[1], &[], &[1], &[1]]), (vec![1], 4), "the second one did");
        assert_eq!(settled(&[&[1], &[2], &[2]]), (vec![2], 3), "it came out of use meanwhile");
        // What nobody can delete changes nothing.
        assert_eq!(settled(&[&[1, 8], &[1, 9]]), (vec![1], 2));
        // They never agree: all that any of them saw is in use.
        assert_eq!(settled(&[&[1], &[2], &[3]]), (vec![1, 2, 3], LOOKS_MAX));
    }

    #[test]
    fn a_look_that_fails_settles_nothing() {
        let mut left = 1;
        let failed = settle(&BTreeSet::new(), || {
            left -= 1;
            if left < 0 { Err(strange()) } else { Ok(Users::default()) }
        });
        assert_eq!(failed.unwrap_err(), strange());
    }

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, seconds) in [
            ("0", None),
            ("0d", None),
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("36h", Some(129_600)),
            ("14d", Some(1_209_600)),
            ("2w", Some(1_209_600)),
        ] {
            assert_eq!(period(text), Ok(seconds), "{text}");
        }
        for text in ["", "d", "14", "-1d", "1.5d", "14 d", "14days", "99999999999999999w"] {
            assert_eq!(period(text).unwrap_err().kind, Kind::Usage, "{text}");
        }
    }
}
