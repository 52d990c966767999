//! What the targets share: how many inputs were understood and not only refused. A fuzzer that
//! never gets past a hash finds nothing, and this is where it would be seen.

use std::sync::atomic::{AtomicU64, Ordering};

/// Inputs between two lines in the log.
const EVERY: u64 = 256;

static TRIED: AtomicU64 = AtomicU64::new(0);
static UNDERSTOOD: AtomicU64 = AtomicU64::new(0);

/// Counts one input, and now and then says how many there were.
pub fn count(understood: bool) {
    let understood = u64::from(understood);
    let understood = UNDERSTOOD.fetch_add(understood, Ordering::Relaxed) + understood;
    let tried = TRIED.fetch_add(1, Ordering::Relaxed) + 1;
    if tried.is_multiple_of(EVERY) && (tried / EVERY).is_power_of_two() {
        eprintln!("understood: {understood} of {tried}");
    }
}
