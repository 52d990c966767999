//! A temporary directory in which commands run with nothing of this machine's environment.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// The time at the first command; each further one is a minute later.
const FIRST_SECOND: i64 = 1_700_000_000;
/// The time of every file that is made.
const FILE_SECOND: u64 = 1_000_000_000;
/// Hexadecimal digits in a row that are a hash, or the beginning of one.
const HASH_DIGITS: usize = 12;

/// A place to run commands in.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
    clock: Cell<i64>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("dynfs-cli-").tempdir().unwrap();
        // A user other than the one who runs the tests must be able to come in.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, clock: Cell::new(FIRST_SECOND) }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// A command with a clean environment and a clock of its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let now = self.clock.get();
        self.clock.set(now + 60);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynfs"));
        command
            .args(arguments)
            .env_clear()
            .env("DYNFS_STORE", self.path("store"))
            .env("DYNFS_TEST_CLOCK", now.to_string())
            .env("HOME", self.directory.path())
            // Where the default prefix of an ordinary user is.
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("PWD", self.directory.path())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with a file as its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let input = File::open(self.path(input)).unwrap();
        self.command(arguments).stdin(input).output().unwrap()
    }

    /// Makes a file and the directories above it.
    pub(crate) fn file(&self, path: &str, text: &str, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(FILE_SECOND)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Two releases of one package and one of another, none selected.
    pub(crate) fn add_packages(&self) {
        for (name, version) in [("xz", "5.2.5"), ("xz", "5.8.1"), ("zlib", "1.3")] {
            let directory = format!("{name}-{version}");
            self.file(&format!("{directory}/bin/{name}"), version, 0o755);
            self.file(&format!("{directory}/include/{name}.h"), version, 0o644);
            let add = ["add", &directory, "--name", name, "--version", version];
            self.ok(&[add.as_slice(), &["--prefix", "/dyn"]].concat());
        }
    }

    /// Prepares something: a line of a transcript that starts with `%`.
    pub(crate) fn prepare(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["file", path, text @ ..] => self.file(path, &unescape(&text.join(" ")), 0o644),
            ["program", path, text @ ..] => self.file(path, &unescape(&text.join(" ")), 0o755),
            ["private", path] => self.file(path, "secret", 0o600),
            ["dir", path] => fs::create_dir_all(self.path(path)).unwrap(),
            ["link", path, target] => symlink(target, self.path(path)).unwrap(),
            ["fifo", path] => self.fifo(path),
            ["flip", path] => self.damage(path, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x20;
            }),
            ["truncate", path] => self.damage(path, |bytes| bytes.truncate(bytes.len() / 2)),
            ["delete", path] => fs::remove_file(self.only(path)).unwrap(),
            ["newer", path] => self.damage(path, |bytes| {
                let text = String::from_utf8(std::mem::take(bytes)).unwrap();
                let mut text = text.replace("\"version\":1", "\"version\":99");
                let trailer = text.find("{\"blake3\"").unwrap();
                text.truncate(trailer);
                let hash = store_fs::digest::digest(text.as_bytes()).id;
                *bytes = format!("{text}{{\"blake3\":\"{hash}\"}}\n").into_bytes();
            }),
            other => panic!("unknown preparation {other:?}"),
        }
    }

    fn fifo(&self, path: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        let (directory, mode) = (rustix::fs::CWD, rustix::fs::Mode::from_raw_mode(0o644));
        rustix::fs::mknodat(directory, self.path(path), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
    }

    /// Changes the bytes of a file of the store, which is read-only.
    fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.only(path);
        let mut bytes =
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        change(&mut bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    /// The file of this path; `dir/*` is the first one below `dir`.
    fn only(&self, path: &str) -> PathBuf {
        let Some(directory) = path.strip_suffix("/*") else { return self.path(path) };
        let mut files = Vec::new();
        collect(&self.path(directory), &mut files);
        files.sort();
        files.into_iter().next().unwrap_or_else(|| panic!("no file below {directory}"))
    }

    /// Text with everything that differs from run to run replaced.
    pub(crate) fn stable(&self, text: &str) -> String {
        let text = text.replace(&*self.directory.path().to_string_lossy(), "[TMP]");
        let user = dynfs::host::user_name(rustix::process::geteuid().as_raw());
        hide_times(&hide_hashes(&text))
            .replace(&format!("  {user}  "), "  [USER]  ")
            .replace(&format!(" by {user}\n"), " by [USER]\n")
            .replace(&format!("machine is {}\n", dynfs::host::arch()), "machine is [ARCH]\n")
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// `\n` and `\e` in a transcript.
fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\e", "\u{1b}")
}

fn hide_hashes(text: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\0']) {
        if matches!(character, '0'..='9' | 'a'..='f') {
            digits.push(character);
            continue;
        }
        shown.push_str(if digits.len() >= HASH_DIGITS { "[HASH]" } else { &digits });
        digits.clear();
        shown.push(character);
    }
    shown.truncate(shown.len() - 1);
    shown
}

/// `12.3 ms` and `1.20 s` become `[TIME]`.
fn hide_times(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let unit = word.split('\n').next().unwrap_or(word);
        let number = words.last().is_some_and(|last| last.contains('.'))
            && words.last().is_some_and(|last| last.parse::<f64>().is_ok());
        if number && (unit == "ms" || unit == "s") {
            words.pop();
            words.push(word.replacen(unit, "[TIME]", 1));
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}
