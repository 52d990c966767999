//! One package is stuck: a lookup in it waits, and selects of another package do not.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::harness::turn::{Campaign, Turn};
use crate::rig::{Content, Rig, kill, wait_until};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "stuck",
    what: "a lookup stuck in one package while another is selected again and again",
    unit: "stuck lookups",
    per_case: 1,
    short: 1,
    long: 10,
    run,
};

/// How long it is stuck.
const STUCK: Duration = Duration::from_secs(10);

fn run(turn: &mut Turn<'_>) {
    if !cfg!(debug_assertions) {
        return turn.skip("only debug builds can be made to stall");
    }
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let stall = format!("stuck:{}", token.display());
    let Some(rig) = Rig::new("campaign stuck", &[("DYNFS_TEST_STALL", stall.as_str())]) else {
        return turn.skip("nothing can be mounted");
    };
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", "0"]);
    ["1.0", "2.0"].iter().for_each(|version| rig.add_plain("other", version));
    let mut line = Control::of(&rig);
    while let Some(case) = turn.next() {
        let name = format!("slow-{}", case.number);
        rig.add(&name, "1.0", &[("share/stuck", Content::File(b"free"))]);
        rig.ok(["select", &name]);
        let path = rig.at("app").join(&name).join("share/stuck");
        // Half of it before and half of it after, since each select makes the store larger.
        selects(&mut line, turn, "select", STUCK / 2);
        fs::write(&token, "").expect("ours");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| fs::read_to_string(&path));
            wait_until("the lookup is stuck", || !token.exists());
            selects(&mut line, turn, "select beside it", STUCK);
            if waiting.is_finished() {
                turn.violation("the lookup was not stuck");
            }
            let server = rig.pid("server");
            kill(server);
            let found = waiting.join().expect("no panic").expect("answered by the next server");
            assert_eq!(found, "free");
            rig.wait_for_other_server(server);
        });
        line = Control::of(&rig);
        selects(&mut line, turn, "select", STUCK / 2);
    }
}

/// Selects for so long.
fn selects(line: &mut Control, turn: &mut Turn<'_>, what: &str, lasts: Duration) {
    let begin = Instant::now();
    for version in ["1.0", "2.0"].iter().cycle() {
        let since = Instant::now();
        line.select(&format!("other@{version}"));
        turn.time(what, since.elapsed());
        if begin.elapsed() > lasts {
            return;
        }
    }
}
