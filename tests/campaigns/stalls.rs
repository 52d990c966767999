//! What one reader notices of a death and of an upgrade: its longest read in a window of time with
//! one of them, beside the longest in a window with neither, in turn.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::turn::{Campaign, Dice, Turn};
use crate::rig::{Content, Rig, forget, kill};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "stalls",
    what: "longest read of one reader in a fifth of a second, with a death, an upgrade, or neither",
    unit: "rounds",
    per_case: 1,
    short: 10,
    long: 1_000,
    run,
};

/// How long a window is at least.
const WINDOW: Duration = Duration::from_millis(200);
/// In which part of it something happens.
const MOMENT_MAX: u64 = 100_000;
/// Files that are read in turn, each from the server.
const FILES: u64 = 20;

fn run(turn: &mut Turn<'_>) {
    let Some(rig) = Rig::mounted("campaign stalls") else {
        return turn.skip("nothing can be mounted");
    };
    let bytes = vec![7; 40_000];
    let names: Vec<String> = (0..FILES).map(|file| format!("share/{file}")).collect();
    let files: Vec<_> =
        names.iter().map(|name| (name.as_str(), Content::File(bytes.as_slice()))).collect();
    rig.add("load", "1.0", &files);
    rig.ok(["select", "load"]);
    let paths: Vec<PathBuf> = names.iter().map(|name| rig.at("app/load").join(name)).collect();
    while let Some(mut case) = turn.next() {
        let mut window = |what: &str, act: &(dyn Fn() + Sync)| {
            turn.time(what, longest(&paths, &bytes, &mut case.dice, act));
        };
        window("nothing happens", &|| ());
        let server = rig.pid("server");
        window("the server is killed", &|| kill(server));
        rig.wait_for_other_server(server);
        // What a command costs beside the reader is not what an upgrade costs.
        window("status is asked", &|| _ = rig.run(["status"]));
        window("the server is upgraded", &|| _ = rig.ok(["reexec"]));
    }
}

/// The longest read while something is done at some moment.
fn longest(paths: &[PathBuf], bytes: &[u8], dice: &mut Dice, act: &(dyn Fn() + Sync)) -> Duration {
    let moment = Duration::from_micros(dice.roll(MOMENT_MAX));
    thread::scope(|scope| {
        let acting = scope.spawn(|| {
            thread::sleep(moment);
            act();
        });
        let (begin, mut longest) = (Instant::now(), Duration::ZERO);
        while begin.elapsed() < WINDOW || !acting.is_finished() {
            let path = dice.pick(paths);
            let since = Instant::now();
            let found = std::fs::read(path).expect("no program sees an error");
            longest = longest.max(since.elapsed());
            assert!(found == bytes, "wrong bytes");
            forget(path).expect("there");
        }
        longest
    })
}
