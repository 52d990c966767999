//! Who uses what is below a mount of a store: everything that `/proc` shows of every process, by
//! device and inode.
//!
//! ```text
//! maps            mapped files, by the device and inode in each line
//! fdinfo/N        the mount of an open file; fd/N is looked at when that is ours, or unknown
//! cwd root exe    directories and program of a process
//! mountinfo       our mounts in its mount namespace, and what is their root
//! ```
//!
//! The mount is never asked, so this ends also when its daemon is dead: the links below `/proc`
//! lead to the node without a path walk, and `statx` without synchronisation takes from it what the
//! kernel holds. A mount inside another of ours is reached within the kernel's caches or not at
//! all: they hold the way to it for as long as it is there. (A network file system that hangs may
//! stop it, as it stops whoever has it open.)
//!
//! Not seen is what no process holds by itself: files on their way through a socket, mounts of a
//! namespace without processes, loop devices. For these there is the trash.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, open, openat2, statx,
};
use rustix::io::Errno;
use serde::Serialize;

use crate::mountinfo::{self, FS_TYPE, Mount};

/// How often, and after which pause, a way within the caches is tried.
const CACHED_TRIES: usize = 20;
const CACHED_PAUSE: Duration = Duration::from_millis(1);

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Process {
    /// Its name, as it gives itself.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: u32,
}

/// What was seen in one pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// The mounts of the store, in all namespaces; empty when there is none.
    pub(crate) mounts: Vec<Mount>,
    /// Who holds each node.
    pub(crate) nodes: BTreeMap<u64, BTreeSet<Process>>,
    /// Processes of which not all could be seen.
    pub(crate) unseen: BTreeSet<Process>,
    /// Mounts of which it could not be seen which node is their root.
    pub(crate) hidden: Vec<Hidden>,
}

/// A mount that no way leads to.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    /// Somebody in its namespace.
    pub(crate) process: Process,
    /// Where it is.
    pub(crate) mountpoint: PathBuf,
    /// The name that its root had below the whole mount, when it was mounted.
    pub(crate) root: PathBuf,
}

/// Looks at every process.
///
/// # Errors
///
/// When there is no `/proc`.
pub(crate) fn look(store: &Path) -> io::Result<Usage> {
    let mut looking = Looking::default();
    let pids = numbers(Path::new("/proc"))?;
    for pid in &pids {
        looking.namespace(*pid);
    }
    looking.sort_mounts(store);
    if looking.usage.mounts.is_empty() {
        return Ok(looking.usage);
    }
    for pid in pids {
        looking.process(pid);
    }
    looking.mount_roots();
    Ok(looking.usage)
}

/// The user whose rights a process has; `None` when it is gone.
pub(crate) fn owner(process: &Process) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The names in a directory of `/proc` that are numbers.
fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let names = fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

#[derive(Default)]
struct Looking {
    usage: Usage,
    /// What each process that differs in namespace or root sees mounted.
    tables: HashMap<(OsString, OsString), (u32, Vec<Mount>)>,
    /// Mounts of other file systems.
    foreign: HashSet<u64>,
    /// Devices of ours.
    devices: BTreeSet<(u32, u32)>,
}

impl Looking {
    /// Reads what is mounted for a process, unless another one sees the same.
    fn namespace(&mut self, pid: u32) {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}"));
        let (Ok(namespace), Ok(root)) = (link("ns/mnt"), link("root")) else { return };
        let key = (namespace.into_os_string(), root.into_os_string());
        if !self.tables.contains_key(&key)
            && let Ok(text) = fs::read(format!("/proc/{pid}/mountinfo"))
        {
            self.tables.insert(key, (pid, mountinfo::parse(&text)));
        }
    }

    /// Tells our mounts from all others.
    fn sort_mounts(&mut self, store: &Path) {
        let all = || self.tables.values().flat_map(|(_, mounts)| mounts);
        let is_ours = |mount: &&Mount| mount.kind == FS_TYPE && mount.source == store;
        self.devices = all().filter(is_ours).map(device).collect();
        let (ours, foreign): (Vec<_>, Vec<_>) =
            all().partition(|mount| self.devices.contains(&device(mount)));
        self.usage.mounts = ours.into_iter().cloned().collect();
        self.foreign = foreign.into_iter().map(|mount| mount.id).collect();
    }

    fn process(&mut self, pid: u32) {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let name = fs::read(dir.join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
        let process = Process { name, pid };
        // A leader that has ended shows nothing, and its threads go on.
        let threads = numbers(&dir.join("task")).unwrap_or_default();
        let threads = threads.into_iter().map(|thread| dir.join(format!("task/{thread}")));
        let mut is_mapped = false;
        for thread in threads {
            let seen = (|| {
                if !is_mapped {
                    is_mapped = self.maps(&process, &thread)?;
                    self.node(&process, &thread.join("exe"))?;
                }
                self.node(&process, &thread.join("cwd"))?;
                self.node(&process, &thread.join("root"))?;
                self.open_files(&process, &thread)
            })();
            if let Err(error) = seen
                && !is_gone(&error)
            {
                self.usage.unseen.insert(process.clone());
            }
        }
    }

    /// Mapped files; whether there is anything mapped at all.
    fn maps(&mut self, process: &Process, thread: &Path) -> io::Result<bool> {
        let maps = fs::read(thread.join("maps"))?;
        for line in maps.split(|byte| *byte == b'\n') {
            if let Some((device, inode)) = mapping(line)
                && self.devices.contains(&device)
            {
                self.holds(process, inode);
            }
        }
        Ok(!maps.is_empty())
    }

    fn open_files(&mut self, process: &Process, thread: &Path) -> io::Result<()> {
        for number in numbers(&thread.join("fdinfo"))? {
            let text = match fs::read_to_string(thread.join(format!("fdinfo/{number}"))) {
                Err(error) if is_gone(&error) => continue,
                text => text?,
            };
            let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
            let mount = mount.and_then(|id| id.trim().parse().ok());
            if mount.is_none_or(|id| !self.foreign.contains(&id)) {
                self.node(process, &thread.join(format!("fd/{number}")))?;
            }
        }
        Ok(())
    }

    /// Notes the node that a path below `/proc` leads to, when it is on our device; whether
    /// anything is there.
    fn node(&mut self, process: &Process, path: &Path) -> io::Result<bool> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        match statx(CWD, path, flags, StatxFlags::INO) {
            Ok(found) => {
                if self.devices.contains(&(found.stx_dev_major, found.stx_dev_minor)) {
                    self.holds(process, found.stx_ino);
                }
                Ok(true)
            }
            // A kernel thread has no program, and files are closed meanwhile.
            Err(Errno::NOENT | Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What our mounts have as their roots. A mount of the whole tree needs nothing.
    fn mount_roots(&mut self) {
        for (pid, mounts) in std::mem::take(&mut self.tables).into_values() {
            let is_ours = |mount: &&Mount| self.devices.contains(&device(mount));
            let ours: Vec<Mount> = mounts.iter().filter(is_ours).cloned().collect();
            let name = format!("the mount namespace of process {pid}");
            let process = Process { name, pid };
            for mount in ours.iter().filter(|mount| mount.root != Path::new("/")) {
                // Another process of the namespace is there in the next pass.
                let is_gone = || !Path::new("/proc").join(pid.to_string()).exists();
                match mount_root(pid, mount, &ours) {
                    Some(inode) => self.holds(&process, inode),
                    None if is_gone() => {}
                    None => self.usage.hidden.push(Hidden {
                        process: process.clone(),
                        mountpoint: mount.mountpoint.clone(),
                        root: mount.root.clone(),
                    }),
                }
            }
        }
    }

    fn holds(&mut self, process: &Process, inode: u64) {
        self.usage.nodes.entry(inode).or_default().insert(process.clone());
    }
}

/// The node that is the root of a mount, as a process of its namespace finds it; `None` when the
/// way there leads elsewhere, because something is mounted over it, or cannot be gone.
fn mount_root(pid: u32, mount: &Mount, ours: &[Mount]) -> Option<u64> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    let below = mount.mountpoint.strip_prefix("/").unwrap_or(&mount.mountpoint);
    let is_inside = ours.iter().any(|outer| {
        let (outer, inner) = (&outer.mountpoint, &mount.mountpoint);
        outer != inner && inner.starts_with(outer)
    });
    let found = match is_inside {
        // A walk that is not kept within the caches would ask the daemon.
        true => look_at(cached(&root, below)?, Path::new(""), AtFlags::EMPTY_PATH),
        false => look_at(root, below, AtFlags::NO_AUTOMOUNT),
    };
    let found = found.ok()?;
    let is_it = (found.stx_dev_major, found.stx_dev_minor) == device(mount)
        && found.stx_mask & StatxFlags::MNT_ID.bits() != 0
        && found.stx_mnt_id == mount.id;
    is_it.then_some(found.stx_ino)
}

/// What is at a path, as far as the caches of the kernel lead there.
fn cached(root: impl AsFd, below: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for _ in 0..CACHED_TRIES {
        match openat2(&root, below, flags, Mode::empty(), ResolveFlags::CACHED) {
            // Somebody renames or mounts something just now, anywhere.
            Err(Errno::AGAIN) => thread::sleep(CACHED_PAUSE),
            found => return found.ok(),
        }
    }
    None
}

fn look_at(dir: impl AsFd, path: &Path, flags: AtFlags) -> Result<Statx, Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    statx(dir, path, flags | AtFlags::STATX_DONT_SYNC, wanted)
}

fn device(mount: &Mount) -> (u32, u32) {
    (mount.major, mount.minor)
}

/// It ended, or was closed, while this looked.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Device and inode of a line of `maps`.
///
/// ```text
/// 7f70a3ca0000-7f70a3ca3000 r--p 00000000 00:35 4294967301   /dyn/lib/xz/lib/liblzma.so.5
/// ```
fn mapping(line: &[u8]) -> Option<((u32, u32), u64)> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).skip(3);
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let inode = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = device.split_once(':')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    Some(((hex(major)?, hex(minor)?), inode))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let line = b"7f70a3ca0000-7f70a3ca3000 r--p 00000000 fd:1a 4294967301    /dyn/lib/x y";
        assert_eq!(mapping(line), Some(((0xfd, 0x1a), 4_294_967_301)));
        let anonymous = b"7f70a3cd0000-7f70a3cd2000 rw-p 00000000 00:00 0 ";
        assert_eq!(mapping(anonymous), Some(((0, 0), 0)));
        for line in ["", "a b c d", "1-2 r-- 0 zz:1 5 /x", "1-2 r-- 0 0:1 five /x"] {
            assert_eq!(mapping(line.as_bytes()), None, "{line}");
        }
    }

    /// This process, as if the file system of its own files were a mount of ours.
    #[test]
    fn what_a_process_holds_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        let found = statx(CWD, &path, AtFlags::empty(), StatxFlags::INO).unwrap();
        let mut looking = Looking::default();
        looking.devices.insert((found.stx_dev_major, found.stx_dev_minor));
        looking.process(std::process::id());
        let holders = |looking: &Looking| looking.usage.nodes.get(&found.stx_ino).cloned();
        let pids: Vec<u32> = holders(&looking).unwrap().into_iter().map(|one| one.pid).collect();
        assert_eq!(pids, [std::process::id()]);
        assert!(looking.usage.unseen.is_empty());
        drop(file);
        let exe = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let mut looking = Looking::default();
        looking.devices.insert((rustix::fs::major(exe.dev()), rustix::fs::minor(exe.dev())));
        looking.process(std::process::id());
        assert!(looking.usage.nodes.contains_key(&exe.ino()), "its program");
    }

    #[test]
    fn a_store_without_a_mount_is_not_used() {
        let usage = look(Path::new("/nowhere/at/all")).unwrap();
        assert!(usage.mounts.is_empty() && usage.nodes.is_empty());
    }

    #[test]
    fn processes_have_owners() {
        let own = Process { name: String::new(), pid: std::process::id() };
        assert_eq!(owner(&own), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(owner(&Process { name: String::new(), pid: u32::MAX }), None);
    }
}
