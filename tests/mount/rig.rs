//! A store, a mount, and the program under test, with everything taken away at the end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// How long something that must happen may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One machine in small.
#[derive(Debug)]
pub(crate) struct Rig {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

/// What a source tree holds.
pub(crate) enum Content<'a> {
    File(&'a [u8]),
    Program(&'a [u8]),
    Link(&'a str),
}

impl Rig {
    /// A mounted, empty store; `None`, with the reason printed, where nothing can be mounted.
    pub(crate) fn mounted(test: &str) -> Option<Self> {
        Self::mounted_with(test, &[])
    }

    /// The same with environment variables for the daemon.
    pub(crate) fn mounted_with(test: &str, environment: &[(&str, &str)]) -> Option<Self> {
        Some(Self::new(test, environment)?.mount(test))
    }

    fn mount(self, test: &str) -> Self {
        self.ok(["mount", self.mountpoint().to_str().expect("UTF-8")]);
        println!("MOUNTED {test}");
        self
    }

    /// A store that is not mounted yet.
    pub(crate) fn new(test: &str, environment: &[(&str, &str)]) -> Option<Self> {
        Self::new_below(&std::env::temp_dir(), test, environment)
    }

    /// The same below another place than the usual one.
    pub(crate) fn new_below(
        place: &Path,
        test: &str,
        environment: &[(&str, &str)],
    ) -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        // Also for a user: `fusermount3` opens it with the rights of its caller.
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if let Err(error) = device {
            println!("SKIPPED {test}: /dev/fuse: {error}");
            return None;
        }
        if !is_root && !on_path("fusermount3") {
            println!("SKIPPED {test}: fusermount3 is missing");
            return None;
        }
        let builder = tempfile::Builder::new().prefix("dynfs-test-").tempdir_in(place);
        let directory = builder.expect("a place");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Some(Self { directory, environment: environment.iter().map(own).collect() })
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("dyn")
    }

    /// A path below the mount.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.mountpoint().join(path)
    }

    /// A path of the test's own, beside store and mount.
    pub(crate) fn scratch(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// The program under test, ready to run.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynfs"));
        command.arg("--store").arg(self.store()).args(arguments).stdin(Stdio::null());
        command.env("NO_COLOR", "1").envs(self.environment.iter().cloned());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}{}", output.status, self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What the daemon had to say.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.store().join("run/log")).unwrap_or_default()
    }

    /// Whether the kernel hands out again what a dead server had read, as they have agreed.
    pub(crate) fn kernel_can_resend(&self) -> bool {
        let words = self.log();
        let line = words.lines().rfind(|line| line.contains("kernel_can_resend"));
        line.expect("the keeper says it").contains("kernel_can_resend=true")
    }

    /// Adds a release made of these files.
    pub(crate) fn add(&self, name: &str, version: &str, files: &[(&str, Content<'_>)]) {
        let source = self.scratch(&format!("source-{name}-{version}"));
        for (path, content) in files {
            let path = source.join(path);
            fs::create_dir_all(path.parent().expect("below the source")).expect("ours");
            match content {
                Content::File(bytes) => write(&path, bytes, 0o644),
                Content::Program(bytes) => write(&path, bytes, 0o755),
                Content::Link(target) => symlink(target, &path).expect("ours"),
            }
        }
        let source = source.to_str().expect("UTF-8").to_owned();
        self.ok(["add", &source, "--name", name, "--version", version]);
    }

    /// A package of one file that holds its version, in `lib`.
    pub(crate) fn add_plain(&self, name: &str, version: &str) {
        let header = Content::File(b"header");
        self.add(
            name,
            version,
            &[("share/version", Content::File(version.as_bytes())), ("include/a.h", header)],
        );
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ok(["--json", "status"])).expect("JSON")
    }

    /// Requests since the mount, by operation.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        let status = self.status();
        let requests = status["requests"].as_object().expect("an object").clone();
        requests.into_iter().map(|(name, count)| (name, count.as_u64().expect("a count"))).collect()
    }

    /// Asserts that warm work costs no request. The kernel may take from its caches at any time,
    /// for whoever wants memory, and says when it did: then the work was not warm, and is done
    /// again.
    pub(crate) fn costs_nothing(&self, when: &str, mut work: impl FnMut()) {
        for _ in 0..20 {
            (0..3).for_each(|_| work());
            let (reclaimed, before) = (reclaimed(), self.requests());
            (0..100).for_each(|_| work());
            let after = self.requests();
            if after == before {
                return;
            }
            assert_ne!(self::reclaimed(), reclaimed, "{when}: {before:?} -> {after:?}");
        }
        panic!("{when}: the kernel dropped its caches all the time");
    }

    /// Process id of `keeper` or `server`.
    pub(crate) fn pid(&self, role: &str) -> i32 {
        let status = self.status();
        let pid = status["pids"][role].as_i64().expect("a process id");
        i32::try_from(pid).expect("a process id")
    }

    /// The same where the daemon may not answer just now.
    pub(crate) fn pid_now(&self, role: &str) -> Option<i32> {
        let output = self.run(["--json", "status"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        i32::try_from(status["pids"][role].as_i64()?).ok()
    }

    pub(crate) fn kill_server(&self) -> i32 {
        let pid = self.pid("server");
        kill(pid);
        pid
    }

    /// Waits until a server other than `before` answers.
    pub(crate) fn wait_for_other_server(&self, before: i32) {
        wait_until("another server answers", || {
            self.pid_now("server").is_some_and(|pid| pid != before)
        });
    }

    fn connection(&self) -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let place = self.mountpoint();
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == place.to_str())?;
        Some(line.split(' ').nth(2)?.split_once(':')?.1.to_owned())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let pids = ["keeper", "server"].map(|role| self.pid_now(role));
        let connection = self.connection();
        if !self.run(["umount"]).status.success() {
            // Whatever a failed test left behind: an error for all who wait is better than a hang.
            if let Some(number) = connection {
                fs::write(format!("/sys/fs/fuse/connections/{number}/abort"), "1").ok();
            }
            self.run(["umount", "--lazy"]);
            end_together(&pids.into_iter().flatten().collect::<Vec<_>>());
        }
    }
}

/// What the kernel has taken from its caches since the machine was started.
fn reclaimed() -> String {
    let counters = ["drop_", "slabs_scanned", "pgsteal_", "pginodesteal", "kswapd_inodesteal"];
    let ours = |line: &&str| counters.iter().any(|counter| line.starts_with(counter));
    read(Path::new("/proc/vmstat")).lines().filter(ours).collect::<Vec<_>>().join(" ")
}

pub(crate) fn kill(pid: i32) {
    send(pid, Signal::KILL);
}

/// Kills processes of which none must see that another one dies: they would replace each other.
pub(crate) fn end_together(pids: &[i32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        pids.iter().for_each(|pid| send(*pid, signal));
    }
}

/// Stops processes, as if they hung.
pub(crate) fn stop(pids: &[i32]) {
    pids.iter().for_each(|pid| send(*pid, Signal::STOP));
}

pub(crate) fn send(pid: i32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, signal).ok();
}

pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).expect("ours");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Drops the page cache of a file, so that the next read asks the server.
pub(crate) fn forget(path: &Path) -> io::Result<()> {
    let file = fs::File::open(path)?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Changes a byte of the content of a file below the mount; the content's name.
pub(crate) fn damage(rig: &Rig, path: &Path) -> String {
    let shown = rig.ok([Path::new("--json"), Path::new("which"), path]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let blob = shown["paths"][0]["blob"].as_str().expect("a hash").to_owned();
    let content = rig.store().join("blobs").join(&blob[..2]).join(&blob);
    let mut bytes = fs::read(&content).expect("the blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&content, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(&content, bytes).expect("ours");
    blob
}

pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
