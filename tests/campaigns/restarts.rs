//! Many restarts cost nothing that stays: descriptors, threads and memory are what they were.

use std::fs;
use std::time::Duration;

use crate::harness::turn::{Campaign, Turn};
use crate::rig::{PATIENCE, Rig, read, wait_until};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "restarts",
    what: "restarts of the server: descriptors, threads and memory stay what they were",
    unit: "restarts",
    per_case: 1,
    short: 50,
    long: 1_000,
    run,
};

/// Restarts before it is noted what is usual.
const WARM_UP: u64 = 10;
/// How much more memory than then may be in use, in KiB: what an allocator keeps in reserve.
const GROWTH_MAX: u64 = 1_024;

/// What a process has.
#[derive(Clone, Copy, Debug)]
struct Owned {
    descriptors: usize,
    threads: usize,
    /// Resident memory in KiB.
    memory: u64,
}

fn run(turn: &mut Turn<'_>) {
    turn.begin_anew();
    let Some(rig) = Rig::mounted("campaign restarts") else {
        return turn.skip("nothing can be mounted");
    };
    ["1.0", "2.0"].iter().for_each(|version| rig.add_plain("demo", version));
    let mut usual = None;
    while let Some(case) = turn.next() {
        let version = ["1.0", "2.0"][usize::from(case.number % 2 == 1)];
        rig.ok(["select", &format!("demo@{version}")]);
        assert_eq!(read(&rig.at("lib/demo/share/version")), version);
        let server = rig.kill_server();
        rig.wait_for_other_server(server);
        if case.number < WARM_UP {
            continue;
        }
        let usual = *usual.get_or_insert_with(|| ["keeper", "server"].map(|role| rest(&rig, role)));
        for (role, usual) in ["keeper", "server"].into_iter().zip(usual) {
            let mut now = owned(&rig, role);
            // A connection that a command has just left is not closed at once.
            let begin = std::time::Instant::now();
            while now.is_more_than(&usual) && begin.elapsed() < PATIENCE / 3 {
                std::thread::sleep(Duration::from_millis(5));
                now = owned(&rig, role);
            }
            if now.is_more_than(&usual) {
                turn.violation(&format!("the {role} has {now:?} and had {usual:?}"));
            }
            turn.peak(&format!("descriptors of the {role}"), now.descriptors as u64);
            turn.peak(&format!("threads of the {role}"), now.threads as u64);
            turn.peak(&format!("KiB of the {role}"), now.memory);
        }
    }
}

impl Owned {
    fn is_more_than(&self, usual: &Self) -> bool {
        self.descriptors > usual.descriptors
            || self.threads > usual.threads
            || self.memory > usual.memory + GROWTH_MAX
    }
}

/// What a process has when nothing is asked of it.
fn rest(rig: &Rig, role: &str) -> Owned {
    let mut before = owned(rig, role);
    wait_until("nothing changes", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = owned(rig, role);
        let same = (now.descriptors, now.threads) == (before.descriptors, before.threads);
        before = now;
        same
    });
    before
}

fn owned(rig: &Rig, role: &str) -> Owned {
    let pid = rig.pid(role);
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("ours").count();
    Owned { descriptors: count("fd"), threads: count("task"), memory: resident(pid) }
}

/// Private and shared memory of a process that is in use, in KiB.
pub(crate) fn resident(pid: i32) -> u64 {
    let text = read(format!("/proc/{pid}/smaps_rollup").as_ref());
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("a field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
