//! The demo's temporary directory, and that nothing of it is left behind. Deletes nothing while
//! something is still mounted in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::dynfs::Dynfs;
use super::maps;
use super::process;
use super::stop::Stop;

/// The temporary directory with store and mount point.
#[derive(Debug)]
pub(super) struct Room {
    directory: PathBuf,
    mountpoint: PathBuf,
    dynfs: Dynfs,
    over: bool,
}

impl Room {
    /// Makes it, for a demo of the dynfs at `program`.
    pub(super) fn make(program: PathBuf) -> Result<Self, Stop> {
        let failed = |source| Stop::io("cannot make a temporary directory", source);
        let directory = tempfile::Builder::new().prefix("dynfs.").tempdir().map_err(failed)?;
        // From here on it is removed by `clear` only, which knows of the mount.
        let directory = directory.keep();
        // `realpath` of something below must be able to be the identity.
        let directory = directory.canonicalize().map_err(failed)?;
        let mountpoint = directory.join("dyn");
        fs::create_dir(&mountpoint).map_err(failed)?;
        let dynfs = Dynfs::new(program, directory.join("store"));
        Ok(Self { directory, mountpoint, dynfs, over: false })
    }

    /// The same room for another dynfs.
    #[cfg(test)]
    pub(super) fn with_program(mut self, program: PathBuf) -> Self {
        self.dynfs = Dynfs::new(program, self.directory.join("store"));
        self
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    pub(super) fn dynfs(&self) -> &Dynfs {
        &self.dynfs
    }

    /// Leaves everything as it is.
    pub(super) fn keep(mut self) {
        self.over = true;
    }

    /// Unmounts and deletes.
    pub(super) fn clear(mut self) -> Result<(), Stop> {
        self.over = true;
        self.sweep()
    }

    fn sweep(&self) -> Result<(), Stop> {
        self.unmount()?;
        // A store may have made its files read-only; their directories are its own.
        remove(&self.directory).map_err(|source| {
            Stop::io(format!("cannot delete {}", self.directory.display()), source)
        })
    }

    /// The polite way first, then by force: a demo must not leave a mount behind.
    fn unmount(&self) -> Result<(), Stop> {
        let mut said = String::new();
        for attempt in ["politely", "lazily", "by force"] {
            if !self.is_mounted()? {
                return Ok(());
            }
            let done = match attempt {
                "politely" => self.dynfs.quietly(&["umount"]),
                "lazily" => self.dynfs.quietly(&["umount", "--lazy"]),
                _ => process::succeed(&mut forced(&self.mountpoint), None),
            };
            if let Err(stop) = done {
                said = stop.to_string();
            }
        }
        if !self.is_mounted()? {
            return Ok(());
        }
        Err(Stop::StillMounted {
            mountpoint: self.mountpoint.clone(),
            directory: self.directory.clone(),
            said,
        })
    }

    /// By the kernel's list: a look at the mount point itself could wait for a dead daemon.
    pub(super) fn is_mounted(&self) -> Result<bool, Stop> {
        fs::read_to_string("/proc/self/mountinfo")
            .map(|text| maps::is_mounted(&text, &self.mountpoint))
            .map_err(|source| Stop::io("cannot read /proc/self/mountinfo", source))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.over {
            // Only a panic comes here; it is reported by itself.
            let _swept = self.sweep();
        }
    }
}

fn forced(mountpoint: &Path) -> Command {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new("umount");
        command.arg("-l");
    } else {
        command = Command::new("fusermount3");
        command.args(["-u", "-z"]);
    }
    command.arg(mountpoint);
    command
}

/// Deletes a tree, also one whose directories may not be written to.
fn remove(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            open_up(directory)?;
            fs::remove_dir_all(directory)
        }
        done => done,
    }
}

fn open_up(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_room_is_gone_after_it_was_cleared_and_stays_when_it_is_kept() {
        let room = Room::make("/bin/false".into()).expect("a room");
        let directory = room.directory().to_owned();
        assert!(room.mountpoint().is_dir());
        room.clear().expect("nothing is mounted");
        assert!(!directory.exists());

        let room = Room::make("/bin/false".into()).expect("a room");
        let directory = room.directory().to_owned();
        room.keep();
        assert!(directory.is_dir());
        fs::remove_dir_all(directory).expect("it is empty");
    }

    #[test]
    fn a_room_that_is_forgotten_clears_itself() {
        let room = Room::make("/bin/false".into()).expect("a room");
        let directory = room.directory().to_owned();
        drop(room);
        assert!(!directory.exists());
    }

    #[test]
    fn directories_without_write_permission_are_deleted_too() {
        let room = tempfile::tempdir().expect("a directory");
        let inner = room.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        fs::write(inner.join("file"), "x").expect("a file");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).expect("chmod");
        remove(&room.path().join("a")).expect("deleted");
        assert!(!room.path().join("a").exists());
    }
}
