//! The daemon's own directory in a store. Nothing in it is part of the store's state.
//!
//! ```text
//! <store>/run/keeper     who serves the store and where; locked while the keeper lives
//! <store>/run/server     locked, shared, while a server lives
//! <store>/run/control    the control socket
//! <store>/run/log        what the daemon had to say; log.1: before that
//! ```

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use store_fs::disk::create_public_dir;
use store_fs::store::RUN_DIR;

/// Name of the claim.
const CLAIM: &str = "keeper";
/// Name of the file that says a server lives.
const SERVER: &str = "server";
/// Name of the control socket.
pub(crate) const SOCKET: &str = "control";
/// Name of the log.
const LOG: &str = "log";

/// The directory.
pub(crate) fn path(store: &Path) -> PathBuf {
    store.join(RUN_DIR)
}

/// The keeper's claim on the store.
pub(crate) fn claim(store: &Path) -> PathBuf {
    path(store).join(CLAIM)
}

/// The file that a living server has locked.
pub(crate) fn server(store: &Path) -> PathBuf {
    path(store).join(SERVER)
}

/// The control socket.
pub(crate) fn socket(store: &Path) -> PathBuf {
    path(store).join(SOCKET)
}

/// The daemon's log.
pub(crate) fn log(store: &Path) -> PathBuf {
    path(store).join(LOG)
}

/// Makes the directory when it is missing.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn make(store: &Path) -> io::Result<()> {
    create_public_dir(CWD, &path(store)).map(drop)
}

/// Lets everybody read the log, whatever the umask was: how a store fares is no secret. Only its
/// owner can, and only the first time it changes anything.
pub(crate) fn open_to_all(file: &std::fs::File) {
    let readable = std::fs::Permissions::from_mode(0o644);
    if let Err(error) = file.set_permissions(readable) {
        tracing::debug!("a file of the daemon stays as it is: {error}");
    }
}
