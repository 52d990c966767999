//! Campaigns: what `docs/RELIABILITY.md` promises, tried very often, with numbers.
//!
//! ```text
//! cargo test --test campaigns                                  each one, short
//! cargo test --test campaigns -- kills flips                   these
//! cargo test --test campaigns -- --long --state FILE [NAME...] long; goes on where FILE ends
//! cargo test --test campaigns -- --seed SEED --case N NAME     one case again
//! ```
//!
//! A campaign is a line of cases, each made from the seed and its own number alone, so a case that
//! failed can be played again, and a long run can be ended at any time and continued. The result is
//! a table in Markdown. A campaign that cannot run here says SKIPPED and why.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is for who runs it")]

#[path = "mount/rig.rs"]
#[allow(dead_code, reason = "the mount tests use the rest")]
mod rig;

#[path = "campaigns/absent.rs"]
mod absent;
#[path = "campaigns/control.rs"]
mod control;
#[path = "campaigns/crash_states.rs"]
mod crash_states;
#[path = "campaigns/faults.rs"]
mod faults;
#[path = "campaigns/files.rs"]
mod files;
#[path = "campaigns/flips.rs"]
mod flips;
#[path = "campaigns/harness.rs"]
mod harness;
#[path = "campaigns/kills.rs"]
mod kills;
#[path = "campaigns/load.rs"]
mod load;
#[path = "campaigns/parcel.rs"]
mod parcel;
#[path = "campaigns/register.rs"]
mod register;
#[path = "campaigns/restarts.rs"]
mod restarts;
#[path = "campaigns/seen.rs"]
mod seen;
#[path = "campaigns/stalls.rs"]
mod stalls;
#[path = "campaigns/stuck.rs"]
mod stuck;
#[path = "campaigns/sys.rs"]
mod sys;
#[path = "campaigns/syscalls.rs"]
mod syscalls;
#[path = "campaigns/upgrades.rs"]
mod upgrades;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::harness::ledger::Ledger;
use crate::harness::options::Options;
use crate::harness::turn::{Campaign, Turn};

/// In the order of the table.
const CAMPAIGNS: &[Campaign] = &[
    kills::CAMPAIGN,
    stalls::CAMPAIGN,
    upgrades::CAMPAIGN,
    absent::CAMPAIGN,
    flips::CAMPAIGN,
    crash_states::CAMPAIGN,
    crash_states::INDEX,
    faults::CAMPAIGN,
    syscalls::CAMPAIGN,
    stuck::CAMPAIGN,
    restarts::CAMPAIGN,
    files::CAMPAIGN,
];

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1), CAMPAIGNS) {
        Ok(options) => options,
        Err(words) => {
            eprintln!("{words}");
            return ExitCode::from(2);
        }
    };
    let mut ledger = match Ledger::open(&options) {
        Ok(ledger) => ledger,
        Err(words) => {
            eprintln!("{words}");
            return ExitCode::from(2);
        }
    };
    let wanted: Vec<_> = CAMPAIGNS.iter().filter(|campaign| options.wants(campaign)).collect();
    println!("{} campaigns with seed {}", wanted.len(), ledger.seed());
    for campaign in wanted {
        run(campaign, &options, &mut ledger);
    }
    println!("\n{}", harness::table::render(CAMPAIGNS, &ledger));
    match ledger.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn run(campaign: &Campaign, options: &Options, ledger: &mut Ledger) {
    let mut turn = Turn::new(campaign, options, ledger);
    let ended = catch_unwind(AssertUnwindSafe(|| (campaign.run)(&mut turn)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        turn.violation(&text.unwrap_or_else(|| "a panic without words".into()));
    }
    turn.end();
}
