//! The result as a table in Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::harness::ledger::{Ledger, Record};
use crate::harness::turn::Campaign;

/// One line for each campaign that ran or could not.
pub(crate) fn render(campaigns: &[Campaign], ledger: &Ledger) -> String {
    let mut text = String::from("| what | how often | violations | besides | took |\n");
    text.push_str("|---|---|---|---|---|\n");
    for campaign in campaigns {
        let Some(record) = ledger.record(campaign.name) else { continue };
        let what = campaign.what;
        if let Some(reason) = &record.skipped {
            writeln!(text, "| {what} | not run: {reason} | | | |").expect("memory");
            continue;
        }
        let often = format!("{} {}", grouped(record.done * campaign.per_case), campaign.unit);
        let wrong = record.violations.len();
        let (besides, took) = (besides(record), record.seconds);
        writeln!(text, "| {what} | {often} | {wrong} | {besides} | {took:.0} s |").expect("memory");
    }
    text
}

fn besides(record: &Record) -> String {
    let counts = record.counts.iter().map(|(what, count)| format!("{} {what}", grouped(*count)));
    let times = record.times.iter().map(|(what, times)| {
        let [half, most] = [500, 990].map(|share| millis(times.below(share)));
        let (count, worst) = (grouped(times.count()), millis(times.worst()));
        format!("{what}: p50 {half}, p99 {most}, worst {worst} ms of {count}")
    });
    counts.chain(times).collect::<Vec<_>>().join("; ")
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1_000.0)
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
