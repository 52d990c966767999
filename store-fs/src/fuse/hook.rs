//! A hook for tests: what runs before a request is answered. It is not in release builds.

use std::sync::OnceLock;

use crate::Operation;

/// Called with the operation, and the name of a lookup, on the thread that handles the request and
/// after the request was noted as in flight.
pub type BeforeAnswer = Box<dyn Fn(Operation, &[u8]) + Send + Sync>;

/// The hook, set at most once.
pub static BEFORE_ANSWER: OnceLock<BeforeAnswer> = OnceLock::new();

pub(super) fn before_answer(operation: Operation, name: &[u8]) {
    if let Some(hook) = BEFORE_ANSWER.get() {
        hook(operation, name);
    }
}
