//! All that the demo prints, for a terminal of 100 columns; plain where colour is not wanted.
//! A closed output is ignored on purpose: the demo must reach its cleanup.

use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::stop::Stop;

const WIDTH: usize = 100;
const INDENT: &str = "   ";

const HEADLINE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const HOLDS: Style = AnsiColor::Green.on_default().bold();
const BROKEN: Style = AnsiColor::Red.on_default().bold();

/// The printer, which also counts what it has shown.
#[derive(Debug)]
pub(super) struct Screen<W> {
    out: W,
    steps: u32,
    checks: u32,
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, steps: 0, checks: 0 }
    }

    /// How many claims were checked and held.
    pub(super) fn checks(&self) -> u32 {
        self.checks
    }

    /// The first line.
    pub(super) fn title(&mut self, text: &str) {
        self.line(&format!("{HEADLINE}{text}{HEADLINE:#}"));
    }

    /// A numbered headline with a blank line before it.
    pub(super) fn step(&mut self, headline: &str) {
        self.steps += 1;
        let number = self.steps;
        self.line(&format!("\n{HEADLINE}{number:>2}. {headline}{HEADLINE:#}"));
    }

    /// A headline without a number.
    pub(super) fn heading(&mut self, headline: &str) {
        self.line(&format!("\n{INDENT}{HEADLINE}{headline}{HEADLINE:#}"));
    }

    /// A remark.
    pub(super) fn note(&mut self, text: &str) {
        let words: Vec<_> = text.split(' ').collect();
        for line in fill(&words, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{line}"));
        }
    }

    /// A command as it is typed, continued with backslashes where it is long.
    pub(super) fn command(&mut self, words: &[String]) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let lines = fill(&words, WIDTH - INDENT.len() - "    ".len() - " \\".len());
        let last = lines.len().saturating_sub(1);
        for (number, line) in lines.iter().enumerate() {
            let lead = if number == 0 { "$ " } else { "    " };
            let end = if number == last { "" } else { " \\" };
            self.line(&format!("{INDENT}{COMMAND}{lead}{line}{end}{COMMAND:#}"));
        }
    }

    /// What a command printed.
    pub(super) fn output(&mut self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("{INDENT}  {line}"));
        }
    }

    /// Shows `claim` if it `holds`; else the demo ends with `found`.
    pub(super) fn claim(
        &mut self,
        claim: &str,
        holds: bool,
        found: impl FnOnce() -> String,
    ) -> Result<(), Stop> {
        let (style, word) = if holds { (HOLDS, "ok") } else { (BROKEN, "FAILED") };
        self.checks += u32::from(holds);
        let words: Vec<_> = claim.split(' ').collect();
        for (number, line) in fill(&words, WIDTH - INDENT.len() * 2).iter().enumerate() {
            let lead = if number == 0 { format!("{style}{word}{style:#}") } else { "  ".into() };
            self.line(&format!("{INDENT}{lead} {line}"));
        }
        if holds { Ok(()) } else { Err(Stop::Wrong { claim: claim.into(), found: found() }) }
    }

    /// Two aligned columns.
    pub(super) fn rows(&mut self, rows: &[(&str, String)]) {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            self.line(&format!("{INDENT}{name:width$}   {value}"));
        }
    }

    fn line(&mut self, line: &str) {
        // See the head of the file. Flushed, because a person is watching.
        let _closed = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

/// Says on standard error why the demo ended.
pub(super) fn complain(stop: &Stop) {
    let mut err = anstream::stderr();
    let _closed = writeln!(err, "{BROKEN}dynfs demo:{BROKEN:#} {stop}");
}

/// `6.2 ms`, `1.8 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// Words in lines of at most `width` characters; a longer word has a line of its own.
fn fill(words: &[&str], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = 0;
    for word in words {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if room > length => {
                line.push(' ');
                line.push_str(word);
                room -= length + 1;
            }
            _ => {
                lines.push((*word).to_owned());
                room = width.saturating_sub(length);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Screen<Vec<u8>>)) -> String {
        let mut screen = Screen::new(Vec::new());
        print(&mut screen);
        let text = String::from_utf8(screen.out).expect("text");
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_step_reads_well() {
        let text = printed(|screen| {
            screen.step("Swap");
            screen.command(&["dynfs".into(), "undo".into()]);
            screen.output("xz 5.8.4 -> 5.2.5\n");
            screen.claim("all say 5.2.5", true, String::new).expect("it holds");
            screen.rows(&[("swaps", "3".into()), ("programs", "40".into())]);
        });
        assert_eq!(
            text,
            "\n 1. Swap\n   $ dynfs undo\n     xz 5.8.4 -> 5.2.5\n   ok all say 5.2.5\n   \
             swaps      3\n   programs   40\n"
        );
    }

    #[test]
    fn a_false_claim_is_shown_and_ends_the_demo() {
        let text = printed(|screen| {
            let stop = screen.claim("all say 5", false, || "p07 says 4".into()).expect_err("false");
            assert!(stop.to_string().contains("all say 5\np07 says 4"), "{stop}");
            assert_eq!(screen.checks(), 0);
        });
        assert_eq!(text, "   FAILED all say 5\n");
    }

    #[test]
    fn nothing_that_has_blanks_is_wider_than_the_terminal() {
        let words: Vec<String> = (0..80).map(|n| "x".repeat(n % 17 + 1)).collect();
        let text = printed(|screen| {
            screen.command(&words);
            screen.note(&words.join(" "));
            screen.claim(&words.join(" "), true, String::new).expect("it holds");
        });
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches('\\').count(), text.matches("\\\n").count());
    }

    #[test]
    fn lines_are_filled_to_the_last_column() {
        for (words, lines) in [
            (vec!["ab", "cd", "e"], vec!["ab cd", "e"]),
            (vec!["toolong", "a"], vec!["toolong", "a"]),
            (vec![], vec![]),
        ] {
            assert_eq!(fill(&words, 5), lines);
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (micros, text) in [(6_240, "6.2 ms"), (999, "1.0 ms"), (1_849_000, "1.8 s")] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }
}
