//! A hook for tests: what runs before a lookup is answered. It is not in release builds.

use std::sync::OnceLock;

/// Called with the name that is looked up, on the thread that handles the request.
pub type BeforeLookup = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The hook, set at most once.
pub static BEFORE_LOOKUP: OnceLock<BeforeLookup> = OnceLock::new();

pub(super) fn before_lookup(name: &[u8]) {
    if let Some(hook) = BEFORE_LOOKUP.get() {
        hook(name);
    }
}
