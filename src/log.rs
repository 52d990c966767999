//! What the program says of itself while it works: a line an event, on standard error. That of a
//! daemon is the log of its store.
//!
//! ```text
//! 2026-11-25T01:28:11.123456Z ERROR server[311] cannot be read at="app/demo@1.0/share/x" ...
//! ```
//!
//! It is bounded in time and in space. The same words are said a few times a second, and then only
//! counted; so is what one place in the program says, after many times. A log that is full becomes
//! the old one, in place of the one before. And nobody ever waits for it: a line that cannot be
//! written now is lost.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{fstat, ftruncate};
use rustix::stdio::{dup2_stderr, stderr};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::host::{self, Stopwatch};
use crate::keeper::words_of;
use crate::report::printable;
use crate::rundir;

/// From this size on, in bytes, a log is full.
const LEN_MAX: i64 = 4 * 1024 * 1024;
/// Longest line, in bytes: what a pipe takes at once or not at all.
const LINE_LEN_MAX: usize = 4096;
/// Lines with the same words within [`PERIOD`].
const SAME_MAX: u64 = 20;
/// Lines of one place in the program within [`PERIOD`], whatever their words.
const LINES_MAX: u64 = 1_000;
/// Different words that are told apart.
const TEXTS_MAX: usize = 4_096;
/// How long a place that has said too much is silent.
const PERIOD: Duration = Duration::from_secs(1);
/// Tells a daemon how to speak: the level, and `color` where its standard error shows colours.
const VARIABLE: &str = "DYNFS_LOG";
/// Between the two.
const SEPARATOR: char = ',';
const COLOR: &str = "color";

/// How a process speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    level: LevelFilter,
    colors: bool,
}

impl Log {
    /// That of a command: nothing unless asked for.
    pub(crate) fn of_command(verbose: u8, color: ColorChoice) -> Self {
        let level = match verbose {
            0 => LevelFilter::OFF,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        Self { level, colors: shows(color) }
    }

    /// That of a daemon which a command starts.
    pub(crate) fn of_daemon(verbose: u8, color: ColorChoice) -> Self {
        let level = match verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        Self { level, colors: shows(color) }
    }

    /// The same into a file.
    pub(crate) fn plain(self) -> Self {
        Self { colors: false, ..self }
    }

    /// The same, but of what went wrong alone.
    pub(crate) fn quiet(self) -> Self {
        Self { level: LevelFilter::WARN, ..self }
    }

    /// As whoever started this process wants it.
    pub(crate) fn handed_over() -> Self {
        let words = host::variable(VARIABLE).and_then(|text| text.parse().ok());
        words.unwrap_or(Self { level: LevelFilter::INFO, colors: false })
    }

    /// Has `command` speak like this.
    pub(crate) fn hand_over(self, command: &mut Command) {
        command.env(VARIABLE, self.to_string());
    }

    /// From now on this process speaks, as `role`. With the store whose daemon it is, its standard
    /// error may be the store's log.
    pub(crate) fn start(self, role: &'static str, store: Option<&Path>) {
        if self.level == LevelFilter::OFF {
            return;
        }
        let lines = Lines {
            role,
            colors: self.colors,
            age: Stopwatch::start(),
            places: Mutex::default(),
            texts: Mutex::default(),
            out: Mutex::new(Out { log: store.map(rundir::log).filter(|log| is_log(log)) }),
        };
        // Only a second start in one process can fail, and then somebody speaks already.
        tracing_subscriber::registry().with(self.level).with(lines).try_init().ok();
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        if self.colors { write!(f, "{SEPARATOR}{COLOR}") } else { Ok(()) }
    }
}

impl FromStr for Log {
    type Err = tracing_subscriber::filter::LevelParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (level, rest) = text.split_once(SEPARATOR).unwrap_or((text, ""));
        Ok(Self { level: level.parse()?, colors: rest == COLOR })
    }
}

fn shows(color: ColorChoice) -> bool {
    AutoStream::new(io::stderr(), color).current_choice() != ColorChoice::Never
}

/// Opens the log of a store.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn open(log: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o644).open(log)?;
    rundir::open_to_all(&file);
    Ok(file)
}

/// Where a full log goes.
fn old(log: &Path) -> PathBuf {
    log.with_extension("1")
}

/// Whether standard error is this log, or was when another process of the daemon began a new one.
fn is_log(log: &Path) -> bool {
    [log, &old(log)].into_iter().any(is_stderr)
}

fn is_stderr(path: &Path) -> bool {
    let (Ok(there), Ok(ours)) = (host::identity(path), fstat(stderr())) else { return false };
    there == (ours.st_dev, ours.st_ino)
}

/// Writes events as lines.
struct Lines {
    role: &'static str,
    colors: bool,
    age: Stopwatch,
    places: Mutex<HashMap<Identifier, Counter>>,
    texts: Mutex<HashMap<blake3::Hash, Counter>>,
    out: Mutex<Out>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let place = event.metadata().callsite();
        let now = self.age.elapsed();
        let asked = self.places.lock().entry(place).or_default().ask(now, LINES_MAX);
        let Some(aside) = asked else { return };
        // Only now: what is not said costs nothing, however much work its words are.
        let mut words = Words::default();
        event.record(&mut words);
        let Some(again) = self.ask_for_text(&words.0, now) else { return };
        let line = self.line(*event.metadata().level(), &(words.0 + &again + &aside));
        self.out.lock().write(&line);
    }
}

impl Lines {
    fn ask_for_text(&self, words: &str, now: Duration) -> Option<String> {
        let mut texts = self.texts.lock();
        if texts.len() >= TEXTS_MAX {
            texts.clear();
        }
        texts.entry(blake3::hash(words.as_bytes())).or_default().ask(now, SAME_MAX)
    }

    fn line(&self, level: Level, words: &str) -> String {
        let mut line = String::new();
        SystemTime.format_time(&mut Writer::new(&mut line)).ok();
        let style = if self.colors { style(level) } else { Style::new() };
        let (role, pid) = (self.role, std::process::id());
        let words = printable(words);
        write!(line, " {style}{level:>5}{style:#} {role}[{pid}] {words}")
            .expect("writing into a String cannot fail");
        let mut end = line.len().min(LINE_LEN_MAX - 1);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('\n');
        line
    }
}

fn style(level: Level) -> Style {
    match level {
        Level::ERROR => AnsiColor::Red.on_default().bold(),
        Level::WARN => AnsiColor::Yellow.on_default().bold(),
        Level::INFO => AnsiColor::Green.on_default(),
        _ => AnsiColor::Cyan.on_default(),
    }
}

/// The message of an event, and behind it what belongs to it.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let done = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        done.expect("writing into a String cannot fail");
    }

    /// With all that stands behind it.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{}", words_of(value)));
    }
}

/// How often something was said: by one place in the program, or in the same words.
#[derive(Default)]
struct Counter {
    /// When it began to count, by the age of the process.
    since: Duration,
    /// How often it wanted to speak since then.
    count: u64,
}

impl Counter {
    /// Whether it may be said at `now`, `most` times in a period; what is to be added then.
    fn ask(&mut self, now: Duration, most: u64) -> Option<String> {
        if self.count > 0 && now.saturating_sub(self.since) < PERIOD {
            self.count += 1;
            return match self.count {
                count if count < most => Some(String::new()),
                count if count == most => Some(" (more like it are counted, not said)".to_owned()),
                _ => None,
            };
        }
        let unsaid = self.count.saturating_sub(most);
        *self = Self { since: now, count: 1 };
        let aside =
            if unsaid > 0 { format!(" (and {unsaid} more like it)") } else { String::new() };
        Some(aside)
    }
}

/// Standard error.
struct Out {
    /// The log's path, when that is where the lines go.
    log: Option<PathBuf>,
}

impl Out {
    fn write(&self, line: &str) {
        if let Some(log) = &self.log {
            turn(log);
        }
        let mut fds = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A terminal that was stopped or a pipe that nobody reads would make us wait.
        if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
            // A full disk: there is nowhere left to complain to.
            rustix::io::write(stderr(), line.as_bytes()).ok();
        }
    }
}

/// Begins a new log when the one at hand is full, or goes on in the one that another process of
/// the daemon has begun. Two that do it at once may lose the old one, and nothing else.
fn turn(log: &Path) {
    match fstat(stderr()) {
        Ok(ours) if ours.st_size >= LEN_MAX || ours.st_nlink == 0 => {}
        _ => return,
    }
    if is_stderr(log) && fs::rename(log, old(log)).is_err() {
        ftruncate(stderr(), 0).ok();
        return;
    }
    if let Ok(next) = open(log) {
        dup2_stderr(&next).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_says_too_much_counts() {
        let mut place = Counter::default();
        let at = Duration::from_millis;
        let said: Vec<String> = (0..1000).filter_map(|_| place.ask(at(5), SAME_MAX)).collect();
        assert_eq!(u64::try_from(said.len()).unwrap(), SAME_MAX);
        assert!(said.last().unwrap().contains("counted"), "{said:?}");
        assert!(said.iter().rev().skip(1).all(String::is_empty), "{said:?}");
        assert_eq!(place.ask(at(1004), SAME_MAX), None);
        let unsaid = format!(" (and {} more like it)", 1001 - SAME_MAX);
        assert_eq!(place.ask(at(1005), SAME_MAX), Some(unsaid));
        assert_eq!(
            place.ask(at(5000), SAME_MAX),
            Some(String::new()),
            "nothing was left out since"
        );
    }

    #[test]
    fn a_line_is_one_line_and_ends() {
        let lines = |colors| Lines {
            role: "server",
            colors,
            age: Stopwatch::start(),
            places: Mutex::default(),
            texts: Mutex::default(),
            out: Mutex::new(Out { log: None }),
        };
        let line = lines(false).line(Level::WARN, "a\nb \u{1b}[31m");
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        let pid = std::process::id();
        assert_eq!(rest, format!(" WARN server[{pid}] a\\nb \\u{{1b}}[31m\n"));
        assert!(lines(true).line(Level::WARN, "a").contains("\u{1b}["));
        let long = lines(false).line(Level::INFO, &"\u{e4}".repeat(LINE_LEN_MAX));
        assert!(long.len() <= LINE_LEN_MAX && long.ends_with("\u{e4}\n"), "{}", long.len());
    }

    #[test]
    fn what_is_handed_over_arrives() {
        for verbose in 0..4 {
            for color in [ColorChoice::AlwaysAnsi, ColorChoice::Never] {
                let log = Log::of_daemon(verbose, color);
                assert_eq!(log.to_string().parse::<Log>().unwrap(), log);
                assert!(!log.plain().colors);
            }
        }
        assert!("loud".parse::<Log>().is_err());
    }
}
