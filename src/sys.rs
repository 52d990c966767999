//! All `unsafe` of this crate: descriptors that a parent process left open for us, and the groups
//! of who is at the other end of a socket.
#![expect(unsafe_code, reason = "the one place for it")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Most supplementary groups of a process (`NGROUPS_MAX` of Linux).
const GROUPS_MAX: usize = 65_536;

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

/// The supplementary groups that the other end of a local socket had when it connected.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_MAX];
    let mut len = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the buffer is as long as `len` says, and the kernel writes whole group numbers into
    // it, at most so many bytes, and their number back into `len`.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(usize::try_from(len).unwrap_or(0) / size_of::<libc::gid_t>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_groups_of_a_peer_are_ours_when_the_peer_is() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut found = peer_groups(one.as_fd()).unwrap();
        let groups = rustix::process::getgroups().unwrap();
        let mut groups: Vec<_> = groups.into_iter().map(|group| group.as_raw()).collect();
        found.sort_unstable();
        groups.sort_unstable();
        assert_eq!(found, groups);
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(peer_groups(file.as_fd()).is_err(), "that is no socket");
    }
}
