//! What the demo needs of the machine, looked at before anything is begun. Never installs it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{self, Interrupt};
use super::stop::Stop;

/// The C compiler, by `$CC` or `cc`.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    words: Vec<String>,
    /// What it says of its version: part of the key of what it makes.
    pub(super) version: String,
}

impl Compiler {
    /// Finds it and asks for its version.
    pub(super) fn find(interrupt: &Interrupt) -> Result<Self, Stop> {
        let chosen = std::env::var("CC").unwrap_or_default();
        let mut words: Vec<String> = chosen.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            words.push("cc".into());
        }
        let mut compiler = Self { words, version: String::new() };
        match process::succeed(compiler.command().arg("--version"), Some(interrupt)) {
            Ok(ended) => compiler.version = ended.text(),
            Err(Stop::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(Stop::Missing(format!(
                    "The demo needs a C compiler and there is no `{}`: install one with \
                     `apt install gcc libc6-dev`.",
                    compiler.words[0]
                )));
            }
            Err(stop) => return Err(stop),
        }
        Ok(compiler)
    }

    /// One that was not asked for its version.
    #[cfg(test)]
    pub(super) fn named(program: &str, version: &str) -> Self {
        Self { words: vec![program.into()], version: version.into() }
    }

    /// A compiler's command without arguments; messages in English, whatever the locale.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("LC_ALL", "C");
        command
    }
}

/// Can this user mount? If not: one sentence that says what to do.
pub(super) fn fuse() -> Result<(), Stop> {
    fuse_with(
        Path::new("/dev/fuse"),
        rustix::process::geteuid().is_root(),
        std::env::var_os("PATH"),
    )
}

fn fuse_with(device: &Path, root: bool, path: Option<OsString>) -> Result<(), Stop> {
    let sentence = match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) if root || find("fusermount3", path).is_some() => return Ok(()),
        Ok(_) => "The demo mounts as an ordinary user with the program fusermount3: install it \
                  with `apt install fuse3`."
            .to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => format!(
            "There is no {}: install it with `apt install fuse3` and `modprobe fuse`; a container \
             must be started with `--device /dev/fuse --cap-add SYS_ADMIN`.",
            device.display()
        ),
        Err(error) => format!(
            "{0} cannot be opened ({error}): `chmod 666 {0}` gives ordinary users access to \
             it; a container must be started with `--device /dev/fuse --cap-add SYS_ADMIN`.",
            device.display()
        ),
    };
    Err(Stop::NoFuse(sentence))
}

/// The debugger, if there is one.
pub(super) fn debugger() -> Option<PathBuf> {
    find("gdb", std::env::var_os("PATH"))
}

/// The first executable file of that name in a search path.
fn find(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?)
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_the_package_that_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let device = directory.path().join("fuse");
        let said = |root| match fuse_with(&device, root, Some(directory.path().into())) {
            Err(Stop::NoFuse(sentence)) => sentence,
            other => panic!("{other:?}"),
        };
        assert!(said(true).starts_with("There is no "), "{}", said(true));
        std::fs::write(&device, "").expect("a file");
        fuse_with(&device, true, None).expect("root needs the device only");
        assert!(said(false).contains("fusermount3"), "{}", said(false));
        assert!(said(false).contains("apt install fuse3"));
    }

    #[test]
    fn a_user_with_fusermount3_can_mount() {
        let directory = tempfile::tempdir().expect("a directory");
        let device = directory.path().join("fuse");
        std::fs::write(&device, "").expect("a file");
        std::os::unix::fs::symlink("/bin/sh", directory.path().join("fusermount3")).expect("link");
        fuse_with(&device, false, Some(directory.path().into())).expect("all is there");
    }

    #[test]
    fn a_program_is_found_only_in_the_search_path() {
        assert!(find("sh", Some("/nowhere:/bin".into())).is_some());
        assert_eq!(find("sh", Some("/nowhere".into())), None);
        assert_eq!(find("sh", None), None);
    }
}
