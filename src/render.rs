//! Values as text for people: tables, sizes, times, releases. Pure functions; nothing is printed.

use std::time::Duration;

use resolver::{Action, ReleaseId, Timestamp, Variants, Why};

use crate::protocol::Swap;

/// Digits of an object's name that are shown in tables.
const SHORT_ID_LEN: usize = 12;

/// Rows as aligned columns, two spaces apart, without trailing space.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `3.2.1` or `3.2.1,debug`.
pub(crate) fn version(id: &ReleaseId) -> String {
    format!("{}{}", id.version, variants(&id.variants))
}

/// `,debug,static`, or nothing.
pub(crate) fn variants(variants: &Variants) -> String {
    variants.iter().map(|variant| format!(",{variant}")).collect()
}

/// `3.0.20 -> 3.2.1`.
pub(crate) fn swap(swap: &Swap) -> [String; 2] {
    let side = |id: &Option<ReleaseId>| id.as_ref().map_or_else(|| "none".to_owned(), version);
    [swap.package.to_string(), format!("{} -> {}", side(&swap.from), side(&swap.to))]
}

/// The first digits of a hash.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let mut text = id.to_string();
    text.truncate(SHORT_ID_LEN);
    text
}

/// `0.8 ms`, `1.20 s`.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// `17 B`, `4.5 KiB`, `1.9 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// `2 minutes ago`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0);
    let (number, unit) = match seconds {
        0..10 => return "just now".to_owned(),
        10..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", count(number, unit))
}

/// What made a generation, as one would type it.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Select { specs } => format!("select {}", words(specs)),
        Action::Unselect { packages } => format!("unselect {}", words(packages)),
        Action::Apply => "apply".to_owned(),
        Action::Undo { to } => format!("undo to {to}"),
        Action::Redo { to } => format!("redo to {to}"),
        Action::Restore { to } => format!("restore {to}"),
        _ => "something newer".to_owned(),
    }
}

/// The first few of them.
fn words<T: ToString>(items: &[T]) -> String {
    const WORDS_MAX: usize = 5;
    let mut text: Vec<String> = items.iter().take(WORDS_MAX).map(ToString::to_string).collect();
    if items.len() > WORDS_MAX {
        text.push(format!("and {} more", items.len() - WORDS_MAX));
    }
    text.join(" ")
}

/// Why a release is selected.
pub(crate) fn why(why: &Why) -> String {
    match why {
        Why::Asked(spec) => format!("asked for as {spec}"),
        Why::NeededBy(package) => format!("needed by {package}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_trimmed() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = table(&[row("PACKAGE", "SELECTED"), row("xz", "5.8.1"), row("curl", "")]);
        assert_eq!(text, "PACKAGE  SELECTED\nxz       5.8.1\ncurl\n");
    }

    #[test]
    fn sizes_and_times() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5_000_000_000, "4.7 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(duration(Duration::from_micros(840)), "0.8 ms");
        assert_eq!(duration(Duration::from_millis(1204)), "1.20 s");
        for (seconds, text) in [
            (-5, "just now"),
            (9, "just now"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7200, "2 hours ago"),
            (86_400 * 3, "3 days ago"),
        ] {
            assert_eq!(ago(Timestamp(0), Timestamp(seconds)), text);
        }
        assert_eq!(
            ago(Timestamp(i64::MIN), Timestamp(i64::MAX)),
            format!("{} days ago", i64::MAX / 86_400)
        );
    }
}
