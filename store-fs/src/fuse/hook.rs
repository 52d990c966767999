//! Hooks for tests: what runs before a request is noted, and before it is answered. They are not in
//! release builds.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use crate::Operation;

/// Called with the operation, and the name of a lookup, on the thread that handles the request.
pub type Hook = Box<dyn Fn(Operation, &[u8]) + Send + Sync>;

/// Before the request is noted: whoever dies here leaves no trace of it. Set at most once.
pub static BEFORE_NOTE: OnceLock<Hook> = OnceLock::new();

/// After the request was noted as in flight, and before it is answered. Set at most once.
pub static BEFORE_ANSWER: OnceLock<Hook> = OnceLock::new();

/// What dead servers have lost stays unanswered.
pub static KEEP_LOST: AtomicBool = AtomicBool::new(false);

pub(super) fn run(hook: &OnceLock<Hook>, operation: Operation, name: &[u8]) {
    if let Some(hook) = hook.get() {
        hook(operation, name);
    }
}
