//! The only writer to standard output, and with the log to standard error.
//!
//! Data goes to standard output, everything else to standard error. Control characters in texts
//! that came from outside are shown escaped, so that no name can talk to the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use store_fs::Told;

use crate::error::{CommandError, Kind};
use crate::host::{self, Stopwatch};
use crate::render;

/// For `error:`.
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// For `warning:` and `note:`.
const NOTE: Style = AnsiColor::Yellow.on_default().bold();
/// For `hint:` and `cause:`.
const HINT: Style = AnsiColor::Cyan.on_default();
/// For what is selected.
const SELECTED: Style = AnsiColor::Green.on_default().bold();

/// A bar of bytes.
const BAR: &str = "{msg} [{wide_bar}] {bytes} of {total_bytes}, {eta} left";

/// Standard output and standard error of one command.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    quiet: bool,
    out: AutoStream<io::Stdout>,
    err: AutoStream<io::Stderr>,
}

impl Report {
    /// With colours where they can be shown, or as chosen.
    pub(crate) fn new(json: bool, quiet: bool, color: ColorChoice) -> Self {
        Self {
            json,
            quiet,
            out: AutoStream::new(io::stdout(), color),
            err: AutoStream::new(io::stderr(), color),
        }
    }

    /// Whether a document is wanted in place of text.
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Data: as given, to standard output.
    ///
    /// # Errors
    ///
    /// [`Kind::BrokenPipe`] when nobody reads it any more.
    pub(crate) fn data(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(|error| {
            match error.kind() {
                io::ErrorKind::BrokenPipe => CommandError::new(Kind::BrokenPipe, "broken pipe"),
                _ => CommandError::new(Kind::Failed, "writing to standard output").because(&error),
            }
        })
    }

    /// The line that says that a command did what it was asked for.
    ///
    /// # Errors
    ///
    /// As [`Report::data`].
    pub(crate) fn success(&mut self, text: &str) -> Result<(), CommandError> {
        if self.quiet { Ok(()) } else { self.data(&format!("{text}\n")) }
    }

    /// Something to know beside that, one sentence.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(&format!("{NOTE}note{NOTE:#}: {}\n", printable(text)));
        }
    }

    /// A next command.
    pub(crate) fn hint(&mut self, text: &str) {
        if !self.quiet {
            self.say(&format!("{HINT}hint{HINT:#}: {}\n", printable(text)));
        }
    }

    /// What could not be done, why, and what to type next.
    pub(crate) fn error(&mut self, error: &CommandError) {
        let mut text = format!("{ERROR}error{ERROR:#}: {}\n", printable(&error.message));
        for cause in &error.causes {
            // Some causes, such as that of a TOML file, are drawings of several lines.
            for (index, line) in cause.trim_end().lines().enumerate() {
                let head =
                    if index == 0 { format!("{HINT}cause{HINT:#}: ") } else { "       ".into() };
                push_line(&mut text, &format!("{head}{}", printable(line)));
            }
        }
        for hint in &error.hints {
            push_line(&mut text, &format!("{HINT}hint{HINT:#}: {}", printable(hint)));
        }
        self.say(&text);
    }

    /// As given, to standard error.
    pub(crate) fn say(&mut self, text: &str) {
        // There is nowhere left to complain to.
        self.err.write_all(text.as_bytes()).ok();
    }

    /// A document of the schema `dynfs.<command>/1`.
    ///
    /// # Errors
    ///
    /// As [`Report::data`].
    pub(crate) fn document<T: Serialize>(
        &mut self,
        command: &str,
        body: &T,
    ) -> Result<(), CommandError> {
        let document = Document { schema: format!("dynfs.{command}/1"), body };
        let text = serde_json::to_string(&document)
            .map_err(|error| CommandError::new(Kind::Failed, "writing JSON").because(&error))?;
        self.data(&format!("{text}\n"))
    }

    /// A bar for something that may take long; nothing is drawn where nobody looks.
    pub(crate) fn progress(&self, what: &'static str) -> Progress {
        let draw = !self.quiet && !self.json && io::stderr().is_terminal();
        Progress::new(what, draw)
    }
}

fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing into a String cannot fail");
}

/// A JSON document: its schema comes first.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: String,
    #[serde(flatten)]
    body: &'a T,
}

/// The text with the star that begins the line of something selected in colour.
pub(crate) fn starred(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_prefix('*') {
            Some(rest) => format!("{SELECTED}*{SELECTED:#}{rest}"),
            None => line.to_owned(),
        })
        .collect()
}

/// The text with control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// A progress bar that appears when something takes longer than [`host::progress_after`].
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    draw: bool,
    after: Duration,
    started: Stopwatch,
    what: &'static str,
    files: AtomicU64,
    files_total: AtomicU64,
}

impl Progress {
    fn new(what: &'static str, draw: bool) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_style(ProgressStyle::default_spinner());
        let (files, files_total) = (AtomicU64::new(0), AtomicU64::new(0));
        let after = host::progress_after();
        Self { bar, draw, after, started: Stopwatch::start(), what, files, files_total }
    }

    /// `done` of `total` are done; a total of 0 is not known.
    pub(crate) fn step(&self, done: u64, total: u64) {
        if self.appears() {
            let of = if total > 0 { format!(" of {total}") } else { String::new() };
            self.bar.set_message(format!("{} {done}{of}", self.what));
            self.bar.tick();
        }
    }

    /// Draws how many files and bytes are done.
    fn redraw(&self) {
        if self.appears() {
            // What is done is still to be made durable.
            let is_done = self.bar.length().is_some_and(|bytes| self.bar.position() >= bytes);
            let what = if is_done { "finishing" } else { self.what };
            let files = self.files.load(Ordering::Relaxed);
            let total = render::count(self.files_total.load(Ordering::Relaxed), "file");
            self.bar.set_message(format!("{what} {files} of {total}"));
        }
    }

    /// Takes it away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Whether it is to be drawn by now.
    fn appears(&self) -> bool {
        if !self.draw || self.started.elapsed() < self.after {
            return false;
        }
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        true
    }
}

impl Progress {
    /// What the store tells of its work.
    pub(crate) fn tell(&self, told: Told) {
        use tools::directory::Progress as _;
        match told {
            Told::Total { files, bytes } => self.total(files, bytes),
            Told::Bytes(bytes) => self.bytes(bytes),
            Told::File => self.file(),
        }
    }
}

impl tools::directory::Progress for Progress {
    fn is_watched(&self) -> bool {
        self.draw
    }

    fn total(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Ordering::Relaxed);
        let style = ProgressStyle::with_template(BAR).expect("the template is well-formed");
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_length(bytes);
    }

    fn bytes(&self, bytes: u64) {
        if self.draw {
            self.bar.inc(bytes);
            self.redraw();
        }
    }

    fn file(&self) {
        if self.draw {
            self.files.fetch_add(1, Ordering::Relaxed);
            self.redraw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{9b}"), "a\\u{1b}[31mb\\nc\\u{9b}");
        assert_eq!(printable("plain -> text"), "plain -> text");
    }

    #[test]
    fn the_schema_comes_first() {
        #[derive(Serialize)]
        struct Body {
            a: u32,
        }
        let document = Document { schema: "dynfs.x/1".to_owned(), body: &Body { a: 1 } };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(text, r#"{"schema":"dynfs.x/1","a":1}"#);
    }
}
