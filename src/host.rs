//! The machine around the program: the only reader of clock, environment, user and random bits.
//!
//! Everything below takes these as values. It never changes anything, and never looks into a mount.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use resolver::{Arch, RequestId, Timestamp};
use rustix::fs::{Access, access};

use crate::error::{CommandError, Kind};
use crate::mountinfo::{self, Mount};

/// Bytes of `/etc/passwd` and `/etc/group` that are read; a larger one names nobody.
const PASSWD_LEN_MAX: u64 = 4 * 1024 * 1024;

/// The arguments of this process, the program's name first.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// The time. `DYNFS_TEST_CLOCK` (seconds since 1970) replaces it in tests.
#[must_use]
pub fn now() -> Timestamp {
    if let Some(seconds) = variable("DYNFS_TEST_CLOCK").and_then(|text| text.parse().ok()) {
        return Timestamp(seconds);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How long something may take before a progress bar appears. `DYNFS_TEST_PROGRESS` (milliseconds)
/// replaces it in tests.
#[must_use]
pub fn progress_after() -> Duration {
    let milliseconds = variable("DYNFS_TEST_PROGRESS").and_then(|text| text.parse().ok());
    Duration::from_millis(milliseconds.unwrap_or(500))
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The effective user id.
#[must_use]
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// This machine's architecture as Debian names it.
#[must_use]
pub fn arch() -> Arch {
    let name = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64el",
        "loongarch64" => "loong64",
        other => other,
    };
    Arch::new(name).expect("the names of architectures are valid names")
}

/// A new name for one call: 128 random bits.
///
/// # Errors
///
/// When there is no `/dev/urandom`.
pub fn request_id() -> Result<RequestId, CommandError> {
    let path = Path::new("/dev/urandom");
    let mut bits = [0; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bits))
        .map_err(|error| CommandError::io("reading", path, &error))?;
    Ok(RequestId(bits.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// An environment variable that is set, not empty and UTF-8.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the store is when nobody says: `DYNFS_STORE`, else by user.
///
/// # Errors
///
/// Usage, when neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn default_store() -> Result<PathBuf, CommandError> {
    if let Some(path) = variable("DYNFS_STORE") {
        return Ok(path.into());
    }
    if uid() == 0 {
        return Ok("/var/lib/dynfs".into());
    }
    let data = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/share")))
        .ok_or_else(|| CommandError::usage("no store was named").hint("give --store DIR"))?;
    Ok(data.join("dynfs"))
}

/// The prefix of a new store when nobody says: `/dyn`, or for a user who cannot write there a
/// directory of the session.
///
/// # Errors
///
/// Usage, when there is no such directory either.
pub fn default_prefix() -> Result<PathBuf, CommandError> {
    let root = Path::new("/dyn");
    let usable = access(root, Access::WRITE_OK).is_ok()
        || (!root.exists() && access("/", Access::WRITE_OK).is_ok());
    if uid() == 0 || usable {
        return Ok(root.to_owned());
    }
    match variable("XDG_RUNTIME_DIR") {
        Some(runtime) => Ok(Path::new(&runtime).join("dyn")),
        None => Err(CommandError::usage("/dyn is not writable and XDG_RUNTIME_DIR is not set")
            .hint("dynfs mount MOUNTPOINT, or dynfs add --prefix DIR")),
    }
}

/// The directory that relative paths start from, as the shell names it.
///
/// # Errors
///
/// The operating system's.
pub fn working_directory() -> Result<PathBuf, CommandError> {
    if let Some(path) = variable("PWD").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path);
    }
    std::env::current_dir().map_err(|error| {
        CommandError::io("looking for", Path::new("the working directory"), &error)
    })
}

/// The name of a user, from `/etc/passwd`.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let mut passwd = String::new();
    let read = File::open("/etc/passwd")
        .and_then(|file| file.take(PASSWD_LEN_MAX).read_to_string(&mut passwd));
    read.ok()
        .and_then(|_| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
            })
        })
        .unwrap_or_else(|| format!("uid {uid}"))
}

/// The number of a group, from `/etc/group`; `None` when there is none of this name.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    let mut groups = String::new();
    let file = File::open("/etc/group").ok()?;
    file.take(PASSWD_LEN_MAX).read_to_string(&mut groups).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        fields.nth(1)?.parse().ok().filter(|_| found)
    })
}

/// Whether this process is in a group, by its name.
#[must_use]
pub fn is_in(group: &str) -> bool {
    let Some(wanted) = group_id(group) else { return false };
    let groups = rustix::process::getgroups().unwrap_or_default();
    let primary = rustix::process::getegid();
    groups.into_iter().chain([primary]).any(|group| group.as_raw() == wanted)
}

/// The mounts that this process sees.
///
/// # Errors
///
/// The operating system's.
pub fn mounts() -> Result<Vec<Mount>, CommandError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).map_err(|error| CommandError::io("reading", path, &error))?;
    Ok(mountinfo::parse(&text))
}

/// Fails with [`Kind::Permission`] when nothing can be written into `dir`.
///
/// # Errors
///
/// Permission, with the owner's way out.
pub fn writable(dir: &Path) -> Result<(), CommandError> {
    match access(dir, Access::WRITE_OK) {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = io::Error::from(error);
            let message = format!("the store {} cannot be written", dir.display());
            Err(CommandError::new(Kind::of_io(&error), message)
                .because(&error)
                .hint(CommandError::way_in(&error)))
        }
    }
}

/// Which file is at a path: its device and inode.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Whether there is a process of this number, as far as this one can see.
pub(crate) fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Asks the kernel to spare this process, or to kill it sooner, when memory runs out: -1000 to
/// 1000, lower is safer. Only root may ask to be spared, and in a container often not even root;
/// whoever is no root expects nothing else.
pub fn spare_from_oom(score: i32) {
    let path = "/proc/self/oom_score_adj";
    if let Err(error) = fs::write(path, score.to_string()) {
        match uid() {
            0 => tracing::warn!(
                "the kernel may kill this process when memory runs out, since it cannot be asked \
                 to spare it: {path}: {error}"
            ),
            _ => tracing::debug!("{path}: {error}"),
        }
    }
}

/// Asks a question on the terminal; whether the answer is yes. Without one nobody agrees.
#[must_use]
pub fn agrees(question: &str) -> bool {
    let mut terminal = io::stderr();
    let asked =
        io::Write::write_all(&mut terminal, format!("{question}\nReally? [y/N] ").as_bytes());
    let mut answer = String::new();
    asked.is_ok()
        && io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}
