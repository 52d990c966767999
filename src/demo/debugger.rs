//! Asks gdb where a program is when it reaches a function of liblzma. Never changes the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{self, Interrupt};
use super::stop::Stop;

/// Reached on every compression, four calls deep inside the library.
pub(super) const FUNCTION: &str = "lzma_crc64";

/// How the answer looks; nothing of what is asked. An old gdb ends reading at the last line, which
/// it does not know.
const SETTINGS: &str = "\
set width 0
set height 0
set confirm off
set breakpoint pending on
set disable-randomization off
set startup-with-shell off
set print address off
set filename-display absolute
set print frame-arguments none
set print frame-arguments presence
";

/// What gdb found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It stopped there.
    Stopped(Backtrace),
    /// It may not trace programs here; its own words.
    NotAllowed(String),
}

/// Where the program was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Backtrace {
    /// Innermost first, as gdb prints them.
    pub(super) frames: Vec<String>,
    /// The line of source that is next, if gdb found the file.
    pub(super) source: Option<String>,
}

/// The debugger, ready to be asked.
#[derive(Debug)]
pub(super) struct Debugger {
    directory: PathBuf,
}

impl Debugger {
    /// Writes the settings file.
    pub(super) fn prepare(directory: &Path) -> Result<Self, Stop> {
        fs::write(directory.join("look.gdb"), SETTINGS)
            .map_err(|source| Stop::io("cannot write the debugger's settings", source))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The question about `program`.
    pub(super) fn command(&self, program: &Command) -> Command {
        let mut command = Command::new("gdb");
        command.current_dir(&self.directory).args(["-nx", "-batch", "-ix", "look.gdb"]);
        command.args(["-ex", &format!("break {FUNCTION}"), "-ex", "run", "-ex", "backtrace"]);
        command.arg(program.get_program()).env("LC_ALL", "C").env_remove("DEBUGINFOD_URLS");
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
        command
    }

    /// Asks.
    pub(super) fn ask(&self, program: &Command, interrupt: &Interrupt) -> Result<Answer, Stop> {
        let mut command = self.command(program);
        let ended = process::run(&mut command, Some(interrupt))?;
        let (out, err) = (ended.text(), String::from_utf8_lossy(&ended.stderr).into_owned());
        if let Some(backtrace) = backtrace(&out) {
            return Ok(Answer::Stopped(backtrace));
        }
        let refused = ["ptrace", "not permitted", "Could not trace"];
        match err.lines().find(|line| refused.iter().any(|word| line.contains(word))) {
            Some(line) => Ok(Answer::NotAllowed(line.trim().to_owned())),
            None => Err(Stop::Unreadable {
                command: process::typed(&command),
                said: format!("{out}{err}"),
            }),
        }
    }
}

impl Backtrace {
    /// The frame in the library that the breakpoint is in.
    pub(super) fn innermost(&self) -> &str {
        self.frames.first().map_or("", String::as_str)
    }

    /// Does every frame before `main` have a file and a line, and the first one below `sources`?
    pub(super) fn is_complete(&self, sources: &Path) -> bool {
        let below = format!(" at {}/", sources.display());
        self.source.is_some()
            && self.innermost().contains(&below)
            && self.frames.iter().all(|frame| has_line(frame))
            && self.frames.last().is_some_and(|frame| frame.contains("main ("))
    }
}

/// A frame that ends in `at FILE:LINE`.
fn has_line(frame: &str) -> bool {
    let place = frame.rsplit_once(" at ").and_then(|(_, place)| place.rsplit_once(':'));
    place.is_some_and(|(file, line)| !file.is_empty() && line.parse::<u32>().is_ok())
}

/// ```text
/// Breakpoint 1, lzma_crc64 (...) at /dyn/lib/xz/src/liblzma/check/crc64_fast.c:123
/// 123        source
/// #0  lzma_crc64 (...) at /dyn/lib/xz/src/liblzma/check/crc64_fast.c:123
/// ```
fn backtrace(text: &str) -> Option<Backtrace> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Breakpoint 1, "));
    lines.next()?;
    let mut found = Backtrace::default();
    for line in lines {
        if line.starts_with('#') {
            found.frames.push(line.trim_end().to_owned());
        } else if line.split_once('\t').is_some_and(|(number, _)| number.parse::<u32>().is_ok()) {
            found.source = Some(line.replace('\t', "    "));
        }
    }
    (!found.frames.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH: &str = "\
Breakpoint 1 (lzma_crc64) pending.

Breakpoint 1, lzma_crc64 (buf=..., size=...) at /d/lib/xz/src/liblzma/check/crc64_fast.c:99
99\t\tcrc = ~crc;
#0  lzma_crc64 (buf=..., size=...) at /d/lib/xz/src/liblzma/check/crc64_fast.c:99
#1  pack () at /tmp/x/program.c:38
#2  main (argc=..., argv=...) at /tmp/x/program.c:77
";

    #[test]
    fn with_debug_information_it_is_complete() {
        let backtrace = backtrace(WITH).expect("it stopped");
        assert_eq!(backtrace.frames.len(), 3);
        assert_eq!(backtrace.source.as_deref(), Some("99        crc = ~crc;"));
        assert!(backtrace.is_complete(Path::new("/d/lib/xz/src")));
        assert!(!backtrace.is_complete(Path::new("/e/lib/xz/src")), "files of another place");
    }

    #[test]
    fn without_it_is_not() {
        let text = "Breakpoint 1, lzma_crc64 () from /d/lib/xz/lib/liblzma.so.5\n\
                    #0  lzma_crc64 () from /d/lib/xz/lib/liblzma.so.5\n\
                    #1  ?? () from /d/lib/xz/lib/liblzma.so.5\n\
                    #2  main (argc=..., argv=...) at /tmp/x/program.c:77\n";
        let backtrace = backtrace(text).expect("it stopped");
        assert!(!backtrace.is_complete(Path::new("/d/lib/xz/src")));
        assert_eq!(backtrace.source, None);
    }

    #[test]
    fn a_program_that_ran_through_has_no_backtrace() {
        assert_eq!(backtrace("program 1: fine\n[Inferior 1 exited normally]\n"), None);
        assert_eq!(backtrace("#0 a frame of something else\n"), None);
    }

    #[test]
    fn a_frame_without_a_line_number_is_seen() {
        for (frame, has) in [
            ("#0  f () at /a b/c.c:1", true),
            ("#0  f () at /a/c.c", false),
            ("#0  f () from /l.so", false),
            ("#0  f () at :1", false),
        ] {
            assert_eq!(has_line(frame), has, "{frame}");
        }
    }
}
