//! The server is replaced by one of another program, now and then the keeper too, under load: no
//! program sees an error, a wrong byte or what was selected before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::turn::{Campaign, Case, Turn};
use crate::load::Load;
use crate::rig::Rig;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "upgrades",
    what: "upgrades under the same load",
    unit: "upgrades",
    per_case: 1,
    short: 30,
    long: 1_000,
    run,
};

/// Cases after which old generations are collected.
const COLLECT_EVERY: u64 = 50;

fn run(turn: &mut Turn<'_>) {
    let Some(rig) = Rig::new("campaign upgrades", &[]) else {
        return turn.skip("nothing can be mounted");
    };
    let programs = ["one", "two"].map(|name| other_program(&rig, name));
    let load = Load::on(rig, "10");
    load.during(|| {
        while let Some(case) = turn.next() {
            if let Err(words) = one(&load, case, turn, &programs) {
                turn.violation(&words);
            }
            load.tally(turn);
        }
    });
    if let Err(words) = load.check() {
        turn.violation(&words);
    }
}

fn one(
    load: &Load,
    mut case: Case,
    turn: &mut Turn<'_>,
    programs: &[PathBuf; 2],
) -> Result<(), String> {
    let of_keeper = case.dice.roll(10) == 0;
    let role = if of_keeper { "keeper" } else { "server" };
    let before = load.rig.pid(role);
    let program = &programs[usize::from(case.number % 2 == 1)];
    let output = match of_keeper {
        true => load.rig.run(["reexec", "--keeper"]),
        false => load.rig.run([Path::new("reexec"), Path::new("--exe"), program]),
    };
    if !output.status.success() {
        return Err(format!("reexec: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let after = load.rig.pid(role);
    if after == before {
        return Err(format!("the {role} {before} is still there"));
    }
    let runs = fs::read_link(format!("/proc/{after}/exe")).map_err(|error| error.to_string())?;
    if !of_keeper && &runs != program {
        return Err(format!("the server runs {}", runs.display()));
    }
    turn.count(&format!("of the {role}"), 1);
    load.goes_on()?;
    if case.number % COLLECT_EVERY == COLLECT_EVERY - 1 {
        load.collect()?;
    }
    load.check()
}

/// A copy of the program under test, as another version would be.
fn other_program(rig: &Rig, name: &str) -> PathBuf {
    let path = rig.scratch(name);
    fs::copy(env!("CARGO_BIN_EXE_dynfs"), &path).expect("copied");
    path
}
