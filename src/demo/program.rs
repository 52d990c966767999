//! The programs of the demo: compiled once below the mount, run often, hashed between.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::needs::Compiler;
use super::process::{self, Interrupt};
use super::stop::Stop;

/// The one source of all programs.
const SOURCE: &str = include_str!("program.c");

/// A running program answers within this time, or it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The version whose headers it was compiled with.
    pub(super) built_with: String,
    /// What `lzma_version_string()` says.
    pub(super) runs_with: String,
    /// The whole line.
    pub(super) line: String,
}

impl Report {
    /// Reads a program's line; `None` if it is another line, or the work went wrong.
    fn read(line: &str) -> Option<Self> {
        let line = line.trim_end();
        let rest = line.strip_prefix("program ")?.split_once(": built with ")?.1;
        let (built_with, rest) = rest.split_once(", runs with ")?;
        let (runs_with, work) = rest.split_once(", packed ")?;
        work.ends_with(": equal").then(|| Self {
            built_with: built_with.into(),
            runs_with: runs_with.into(),
            line: line.into(),
        })
    }
}

/// All programs, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Programs {
    /// Where they are compiled and run.
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Programs {
    /// Writes the source and chooses the names.
    pub(super) fn prepare(directory: &Path, count: u32) -> Result<Self, Stop> {
        let at = |source| Stop::io(format!("cannot write to {}", directory.display()), source);
        fs::write(directory.join("program.c"), SOURCE).map_err(at)?;
        fs::create_dir(directory.join("programs")).map_err(at)?;
        let digits = count.to_string().len().max(2);
        let files = (1..=count).map(|number| format!("programs/p{number:0digits$}").into());
        Ok(Self { directory: directory.to_owned(), files: files.collect() })
    }

    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    /// The command that compiles the program at `index`, against the package as it is seen at
    /// `package`, the virtual path.
    pub(super) fn compilation(&self, index: usize, compiler: &Compiler, package: &Path) -> Command {
        let lib = package.join("lib");
        let mut include = std::ffi::OsString::from("-I");
        include.push(package.join("include"));
        let mut search = std::ffi::OsString::from("-L");
        search.push(&lib);
        let mut rpath = std::ffi::OsString::from("-Wl,--enable-new-dtags,-rpath,");
        rpath.push(&lib);
        let mut command = compiler.command();
        command.current_dir(&self.directory).args(["-std=gnu99", "-g", "-O1"]);
        command.arg(format!("-DNUMBER={}", index + 1)).arg("program.c").arg("-o");
        command.arg(&self.files[index]).arg(include).arg(search).arg("-llzma").arg(rpath);
        command
    }

    /// Compiles them all.
    pub(super) fn compile(
        &self,
        compiler: &Compiler,
        package: &Path,
        interrupt: &Interrupt,
    ) -> Result<(), Stop> {
        let all: Vec<usize> = (0..self.count()).collect();
        process::in_parallel(&all, |&index| {
            process::succeed(&mut self.compilation(index, compiler, package), Some(interrupt))
        })?;
        Ok(())
    }

    /// Runs them all once.
    pub(super) fn run(&self, interrupt: &Interrupt) -> Result<Vec<Report>, Stop> {
        let all: Vec<usize> = (0..self.count()).collect();
        process::in_parallel(&all, |&index| report(&mut self.command(index), interrupt))
    }

    /// The command that runs the program at `index`; its libraries are those it was linked with,
    /// whatever the demo's environment says.
    pub(super) fn command(&self, index: usize) -> Command {
        let mut command = Command::new(Path::new(".").join(&self.files[index]));
        command.current_dir(&self.directory);
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
        command
    }

    /// The BLAKE3 hash of each file.
    pub(super) fn hashes(&self) -> Result<Vec<blake3::Hash>, Stop> {
        process::in_parallel(&self.files, |file| {
            let path = self.directory.join(file);
            let bytes = fs::read(&path)
                .map_err(|source| Stop::io(format!("cannot read {}", path.display()), source))?;
            Ok(blake3::hash(&bytes))
        })
    }

    /// The names of those whose hash is not in `before`.
    pub(super) fn changed(&self, before: &[blake3::Hash], now: &[blake3::Hash]) -> Vec<String> {
        let pairs = self.files.iter().zip(before.iter().zip(now));
        pairs.filter(|(_, (a, b))| a != b).map(|(file, _)| file.display().to_string()).collect()
    }
}

/// Runs a program to its end and reads what it said.
pub(super) fn report(command: &mut Command, interrupt: &Interrupt) -> Result<Report, Stop> {
    let ended = process::succeed(command, Some(interrupt))?;
    let said = ended.text();
    Report::read(&said).ok_or_else(|| Stop::Unreadable { command: process::typed(command), said })
}

/// One hash for many files, to be shown: any change of any of them changes it.
pub(super) fn together(hashes: &[blake3::Hash]) -> String {
    let mut hasher = blake3::Hasher::new();
    hashes.iter().for_each(|hash| {
        hasher.update(hash.as_bytes());
    });
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A program that stays. It ends with its standard input, so not even a killed demo leaves it.
#[derive(Debug)]
pub(super) struct Resident {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Resident {
    /// Starts it.
    pub(super) fn start(mut command: Command) -> Result<Self, Stop> {
        let mut child = command
            .arg("--stay")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Stop::io("cannot start the program that stays", source))?;
        let ask = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        Ok(Self { child, ask, answers })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it work once and report.
    pub(super) fn report(&mut self, interrupt: &Interrupt) -> Result<Report, Stop> {
        let failed = |source| Stop::io("the program that stays has gone", source);
        self.ask.write_all(b"\n").map_err(failed)?;
        if !process::wait_readable(self.answers.get_ref(), interrupt, PATIENCE)? {
            return Err(Stop::TooLong {
                command: "the program that stays".into(),
                seconds: PATIENCE.as_secs(),
            });
        }
        // It writes whole lines, so a readable pipe holds one.
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        Report::read(&line)
            .ok_or(Stop::Unreadable { command: "the program that stays".into(), said: line })
    }

    /// The text of its `/proc/PID/maps`.
    pub(super) fn maps(&self) -> Result<String, Stop> {
        let path = format!("/proc/{}/maps", self.pid());
        fs::read_to_string(&path).map_err(|source| Stop::io(format!("cannot read {path}"), source))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "program 7: built with 5.2.5, runs with 5.8.4, packed 65536 bytes to 26808 and back: equal";

    #[test]
    fn a_report_is_read() {
        let report = Report::read(&format!("{LINE}\n")).expect("a report");
        assert_eq!((report.built_with.as_str(), report.runs_with.as_str()), ("5.2.5", "5.8.4"));
        assert_eq!(report.line, LINE);
    }

    #[test]
    fn wrong_work_is_no_report() {
        for line in ["", "hello", &LINE.replace("equal", "DIFFERENT"), &LINE.replace("runs", "is")]
        {
            assert_eq!(Report::read(line), None, "{line}");
        }
    }

    #[test]
    fn a_changed_file_is_named() {
        let room = tempfile::tempdir().expect("a directory");
        let programs = Programs::prepare(room.path(), 12).expect("prepared");
        for file in &programs.files {
            fs::write(room.path().join(file), file.as_os_str().as_encoded_bytes()).expect("file");
        }
        let before = programs.hashes().expect("hashed");
        assert!(programs.changed(&before, &before).is_empty());
        fs::write(room.path().join("programs/p07"), "other").expect("a file");
        let now = programs.hashes().expect("hashed");
        assert_eq!(programs.changed(&before, &now), ["programs/p07"]);
        assert_ne!(together(&before), together(&now));
    }

    #[test]
    fn a_program_that_ends_early_is_noticed() {
        let interrupt = Interrupt::never().expect("a pair");
        let mut resident = Resident::start(Command::new("true")).expect("it starts");
        let stop = resident.report(&interrupt).expect_err("it says nothing");
        assert!(matches!(stop, Stop::Unreadable { .. } | Stop::Io { .. }), "{stop}");
    }
}
