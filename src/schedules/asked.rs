//! How much is explored: so much for every change, and more on request.

use store_fs::sync::explored::explore;

/// Explores `once`, in `schedules` orders unless `DYNFS_TEST_SCHEDULES` says otherwise.
pub(crate) fn check(what: &str, schedules: usize, once: impl Fn() + Send + Sync + 'static) {
    let seed = asked("DYNFS_TEST_SEED").unwrap_or(1);
    let asked = asked("DYNFS_TEST_SCHEDULES").and_then(|number| usize::try_from(number).ok());
    explore(what, seed, asked.unwrap_or(schedules), once);
}

fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}
