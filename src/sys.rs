//! All `unsafe` of this crate: descriptors that a parent process left open for us.
#![expect(unsafe_code, reason = "the one place for it")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes over the descriptor of this number, which must be open, and keeps it from our children.
/// Each number may be adopted once in the life of a process, before other threads run.
///
/// # Errors
///
/// `InvalidInput` for a number that is not an open descriptor above standard error.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only asked about; a number that is not open is an error, not a fault.
    let asked = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(asked).map_err(|_| io::ErrorKind::InvalidInput)?;
    fcntl_setfd(asked, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, as just seen, and the parent left it open for nobody but this call: it
    // was inherited across exec, so no value in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
