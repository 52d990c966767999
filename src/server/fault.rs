//! Faults on request, for tests of what a crash leaves behind. Not in release builds.
//!
//! ```text
//! DYNFS_TEST_CRASH=<point>:<token>   abort at the point; `any`: at the one that the token names
//! DYNFS_TEST_PANIC=<name>:<token>    panic at the lookup of the name, or the operation `=name`
//! DYNFS_TEST_STALL=<name>:<token>    never answer the lookup of the name, or the operation `=name`
//! DYNFS_TEST_LOSE=<name>:<token>     abort when it was read and before it is noted
//! DYNFS_TEST_KEEP_LOST=1             do not answer what dead servers have lost
//! DYNFS_TEST_STOP=server:<token>     stop before serving
//! DYNFS_TEST_STOP=adopt:<token>      the keeper that a server has started stops before it watches
//! DYNFS_TEST_POISON=<name>:          abort at each lookup of the name, token or not
//! DYNFS_TEST_DEAF=kernel:<token>     do not tell the kernel, and say that it failed
//! ```
//!
//! With a token once: if the file `<token>` could be removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;

use store_fs::Operation;

use crate::host;

/// Dies here when a test asked for it.
pub(super) fn point(name: &str) {
    if let Some((wanted, token)) = read("DYNFS_TEST_CRASH")
        && (wanted == name || (wanted == "any" && names(&token, name)))
        && used_up(&token)
    {
        std::process::abort();
    }
}

/// Stops this process when a test asked for it.
pub(crate) fn pause(role: &str) {
    if let Some((wanted, token)) = read("DYNFS_TEST_STOP")
        && wanted == role
        && used_up(&token)
    {
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::STOP).ok();
    }
}

/// Makes requests stall, crash or get lost when a test asked for it.
pub(super) fn install() {
    let lose = read("DYNFS_TEST_LOSE");
    let lose = move |operation: Operation, name: &[u8]| {
        if let Some((wanted, token)) = &lose
            && is_meant(wanted, operation, name)
            && used_up(token)
        {
            std::process::abort();
        }
    };
    let (stall, poison) = (read("DYNFS_TEST_STALL"), read("DYNFS_TEST_POISON"));
    let panic = read("DYNFS_TEST_PANIC");
    let before = move |operation: Operation, name: &[u8]| {
        if poison.as_ref().is_some_and(|(wanted, _)| name == wanted.as_bytes()) {
            std::process::abort();
        }
        if let Some((wanted, token)) = &panic
            && is_meant(wanted, operation, name)
            && used_up(token)
        {
            panic!("a test wants it so");
        }
        if let Some((wanted, token)) = &stall
            && is_meant(wanted, operation, name)
            && used_up(token)
        {
            loop {
                thread::park();
            }
        }
    };
    use store_fs::fuse::hook::{BEFORE_ANSWER, BEFORE_NOTE, KEEP_LOST};
    KEEP_LOST.store(host::variable("DYNFS_TEST_KEEP_LOST").is_some(), Ordering::Relaxed);
    if BEFORE_NOTE.set(Box::new(lose)).is_err() || BEFORE_ANSWER.set(Box::new(before)).is_err() {
        tracing::warn!("requests have a hook already");
    }
}

fn is_meant(wanted: &str, operation: Operation, name: &[u8]) -> bool {
    match wanted.strip_prefix('=') {
        Some(wanted) => operation.name() == wanted,
        None => operation == Operation::Lookup && name == wanted.as_bytes(),
    }
}

/// Fails instead of telling the kernel when a test asked for it.
pub(super) fn deaf() -> io::Result<()> {
    match read("DYNFS_TEST_DEAF") {
        Some((_, token)) if used_up(&token) => Err(io::Error::other("a test wants it so")),
        _ => Ok(()),
    }
}

fn read(variable: &str) -> Option<(String, PathBuf)> {
    let text = host::variable(variable)?;
    let (name, token) = text.split_once(':')?;
    Some((name.to_owned(), token.into()))
}

fn names(token: &Path, point: &str) -> bool {
    std::fs::read_to_string(token).is_ok_and(|text| text == point)
}

/// Whether the token was there; it is not any more.
fn used_up(token: &Path) -> bool {
    std::fs::remove_file(token).is_ok()
}
