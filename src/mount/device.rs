//! Opening `/dev/fuse`, mounting and unmounting: directly as root, else through `fusermount3`.

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use super::MountError;
use crate::mountinfo::FS_TYPE;

const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";
/// Where the administrator allows users to mount for others.
const FUSE_CONF: &str = "/etc/fuse.conf";
/// Kilobytes that the kernel reads ahead. `INIT` can only lower its default of 128.
const READ_AHEAD_KB: &str = "1024";

/// A fresh connection: mounted, and the kernel's `INIT` not yet answered.
#[derive(Debug)]
pub(crate) struct Mounting {
    /// `/dev/fuse`.
    pub(crate) device: OwnedFd,
    /// Whether other users may enter.
    pub(crate) allow_other: bool,
}

/// Mounts a new connection at `mountpoint`, with the store's path as what is mounted.
pub(crate) fn mount(store: &Path, mountpoint: &Path) -> Result<Mounting, MountError> {
    if rustix::process::geteuid().is_root() {
        return mount_directly(store, mountpoint);
    }
    let allow_other = std::fs::read_to_string(FUSE_CONF)
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    let device = mount_by_fusermount(store, mountpoint, allow_other)?;
    Ok(Mounting { device, allow_other })
}

/// Whether mounting can be tried. `fusermount3` opens the device with the rights of its caller
/// (measured), so a user must be able to, too.
pub(crate) fn available() -> Result<(), MountError> {
    open()?;
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    match Command::new(FUSERMOUNT).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) => Err(no_fusermount(error)),
    }
}

/// Ends the connection of a mount as far as this user can: whoever waits gets an error.
pub(crate) fn abort(mountpoint: &Path) {
    // A forced unmount aborts first, and may find the mount in use afterwards.
    let flags = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
    if let Err(error) = rustix::mount::unmount(mountpoint, flags) {
        tracing::debug!("a forced unmount of {}: {error}", mountpoint.display());
    }
}

/// Detaches the mount; `lazy` also when it is in use.
pub(crate) fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    if !rustix::process::geteuid().is_root() {
        return unmount_by_fusermount(mountpoint, lazy);
    }
    let mut flags = UnmountFlags::NOFOLLOW;
    if lazy {
        flags |= UnmountFlags::DETACH;
    }
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => {
            Err(MountError::InUse { mountpoint: mountpoint.to_owned() })
        }
        Err(error) => Err(failed(format!("unmounting {}", mountpoint.display()), error.into())),
    }
}

/// Lets the kernel read ahead further. It is an optimisation that only root may set.
pub(crate) fn raise_read_ahead(minor: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/class/bdi/0:{minor}/read_ahead_kb"), READ_AHEAD_KB)
}

fn open() -> Result<OwnedFd, MountError> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        use rustix::io::Errno;
        let (reason, remedy) = match error {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                (format!("{DEVICE} is missing"), "load the kernel module fuse")
            }
            Errno::ACCESS => (
                format!("{DEVICE} is closed to ordinary users"),
                "chmod 666 /dev/fuse as root, which udev does where it runs, or mount as root",
            ),
            _ => (
                format!("{DEVICE} cannot be opened: {error}"),
                "a container is started with --device /dev/fuse --cap-add SYS_ADMIN",
            ),
        };
        MountError::NoFuse { reason, remedy }
    })
}

fn mount_directly(store: &Path, mountpoint: &Path) -> Result<Mounting, MountError> {
    let device = open()?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options).map_err(|error| failed("mounting".into(), error.into()))?;
    // Read-only above all: on a read-write mount every cold read costs a GETATTR later.
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount(store, mountpoint, FS_TYPE, flags, Some(options.as_c_str()))
        .map_err(|error| failed(format!("mounting {}", mountpoint.display()), error.into()))?;
    Ok(Mounting { device, allow_other: true })
}

/// Speaks `fusermount3`'s handshake: it mounts, and sends the connection over the socket whose
/// number is in `_FUSE_COMMFD`.
fn mount_by_fusermount(
    store: &Path,
    mountpoint: &Path,
    allow_other: bool,
) -> Result<OwnedFd, MountError> {
    let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair().map_err(|error| failed("making a socket".into(), error.into()))?;
    fcntl_setfd(&theirs, FdFlags::empty())
        .map_err(|error| failed("handing over a socket".into(), error.into()))?;
    let source = escape_option(store.as_os_str().as_bytes());
    let mut options = b"ro,nodev,nosuid,default_permissions,subtype=dynfs,fsname=".to_vec();
    options.extend_from_slice(&source);
    if allow_other {
        options.extend_from_slice(b",allow_other");
    }
    let output = Command::new(FUSERMOUNT)
        .arg("-o")
        .arg(std::ffi::OsStr::from_bytes(&options))
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(no_fusermount)?;
    drop(theirs);
    if !output.status.success() {
        let action = format!("mounting {}", mountpoint.display());
        return Err(failed(action, io::Error::other(last_line(&output.stderr))));
    }
    receive_descriptor(&ours)
        .map_err(|error| failed(format!("receiving the connection from {FUSERMOUNT}"), error))
}

fn unmount_by_fusermount(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u").stdin(Stdio::null());
    if lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mountpoint).output().map_err(no_fusermount)?;
    if output.status.success() {
        return Ok(());
    }
    let words = last_line(&output.stderr);
    if words.contains("busy") {
        return Err(MountError::InUse { mountpoint: mountpoint.to_owned() });
    }
    Err(failed(format!("unmounting {}", mountpoint.display()), io::Error::other(words)))
}

/// Commas separate mount options and backslashes quote.
fn escape_option(value: &[u8]) -> Vec<u8> {
    let quoted = |byte: &u8| {
        let quote = matches!(byte, b',' | b'\\').then_some(b'\\');
        quote.into_iter().chain([*byte])
    };
    value.iter().flat_map(quoted).collect()
}

fn receive_descriptor(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptors = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))
}

fn no_fusermount(error: io::Error) -> MountError {
    if error.kind() == io::ErrorKind::NotFound {
        let reason = format!("{FUSERMOUNT} is missing");
        return MountError::NoFuse { reason, remedy: "install the package fuse3" };
    }
    failed(format!("running {FUSERMOUNT}"), error)
}

fn failed(action: String, source: io::Error) -> MountError {
    MountError::Io { action, source }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_quoted() {
        assert_eq!(escape_option(b"/a,b\\c"), b"/a\\,b\\\\c");
    }

    #[test]
    fn the_last_words_are_kept() {
        assert_eq!(last_line(b"one\ntwo\n\n"), "two");
        assert_eq!(last_line(b""), "it said nothing");
    }

    #[test]
    fn a_descriptor_comes_through_a_socket() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        use std::os::fd::AsFd;

        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a socket pair");
        let file = std::fs::File::open("/proc/self/status").expect("procfs");
        let descriptors = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let parts = [io::IoSlice::new(b"x")];
        sendmsg(&theirs, &parts, &mut ancillary, SendFlags::empty()).expect("sent");
        receive_descriptor(&ours).expect("received");
        drop(theirs);
        assert!(receive_descriptor(&ours).is_err(), "nothing more came");
    }
}
