//! The selection flips as fast as it can while readers look: whatever they see fits one order of
//! all flips and looks, and no look mixes two releases.

use std::path::Path;

use crate::control::Control;
use crate::harness::turn::{Campaign, Turn};
use crate::load::Load;
use crate::rig::Rig;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "flips",
    what: "flips of the selection with readers, checked for linearizability",
    unit: "flips",
    per_case: FLIPS,
    short: 20_000,
    long: 1_000_000,
    run,
};

/// Flips in one case.
const FLIPS: u64 = 1_000;

fn run(turn: &mut Turn<'_>) {
    // In memory, where a flip takes a tenth of the time.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let Some(rig) = Rig::new_below(&place, "campaign flips", &[]) else {
        return turn.skip("nothing can be mounted");
    };
    let load = Load::on(rig, "10");
    load.during_looks(|| {
        let mut line = Control::of(&load.rig);
        while turn.next().is_some() {
            for _ in 0..FLIPS {
                load.write(|spec| line.select(spec));
            }
            if let Err(words) = load.collect().and_then(|()| load.check()) {
                turn.violation(&words);
            }
            load.tally(turn);
        }
    });
    if let Err(words) = load.check() {
        turn.violation(&words);
    }
}
