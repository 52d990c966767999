//! Random system calls, with equal arguments, on a package below the mount, on a plain directory
//! that holds the same tree, and on an EROFS image of it: attempts to change something too.
//!
//! ```text
//! plain directory   bound over itself, read-only     (root; else as it is, and nothing is changed)
//! EROFS image       mounted from a loop device       (root and `mkfs.erofs`)
//! dynfs             data/tree
//! ```
//!
//! Both mounts are in a mount namespace of one thread: they are gone with it, whatever happens. A
//! case is a thousand calls with descriptors and a working directory of its own. In some cases the
//! caller has no rights, the caches are cold, or the server is killed between two calls: nobody
//! may see any of that. What differs on purpose is in `syscalls/known.rs`.

#[path = "syscalls/answer.rs"]
mod answer;
#[path = "syscalls/call.rs"]
mod call;
#[path = "syscalls/change.rs"]
mod change;
#[path = "syscalls/descriptor.rs"]
mod descriptor;
#[path = "syscalls/judge.rs"]
mod judge;
#[path = "syscalls/known.rs"]
mod known;
#[path = "syscalls/listing.rs"]
mod listing;
#[path = "syscalls/mapping.rs"]
mod mapping;
#[path = "syscalls/name.rs"]
mod name;
#[path = "syscalls/side.rs"]
mod side;
#[path = "syscalls/tree.rs"]
mod tree;
#[path = "syscalls/watch.rs"]
mod watch;
#[path = "syscalls/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use self::call::{Board, Call, level};
use self::judge::{Answers, Verdict};
use self::world::{Sides, World};
use crate::harness::turn::{Campaign, Case, Turn};
use crate::rig::Rig;

/// Calls of a case.
const CALLS: u64 = 1_000;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "syscalls",
    what: "random system calls against a plain directory and an EROFS image of the same tree, \
           mutating calls included",
    unit: "system calls",
    per_case: CALLS,
    short: 100_000,
    long: 10_000_000,
    run: the_same_answers_as_a_plain_directory_and_an_image,
};

/// What is done to the file system while a case runs, before the call of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// The kernel forgets names and inodes that nobody holds.
    Forget(u64),
    /// The server is killed, and another one takes over.
    Kill(u64),
    /// Another package is selected.
    Select(u64),
}

/// What came of a case, to be counted.
type Counts = BTreeMap<&'static str, u64>;

fn the_same_answers_as_a_plain_directory_and_an_image(turn: &mut Turn<'_>) {
    let Some(rig) = Rig::mounted("campaign syscalls") else {
        return turn.skip("nothing can be mounted");
    };
    // Mounts and working directories are those of this thread and of the cases that it starts.
    thread::scope(|scope| {
        let ended = scope.spawn(|| World::new(&rig).play(turn)).join();
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

impl World<'_> {
    fn play(&self, turn: &mut Turn<'_>) {
        while let Some(mut case) = turn.next() {
            // Names are asked for anew, and nothing of the case before is in the way.
            if case.dice.roll(20) == 0 {
                self.go_cold();
            }
            let trouble = match case.dice.roll(300) {
                0 if self.sealed => Trouble::Forget(case.dice.roll(CALLS)),
                1..15 => Trouble::Kill(case.dice.roll(CALLS)),
                15..20 => Trouble::Select(case.dice.roll(CALLS)),
                _ => Trouble::Nothing,
            };
            let without_rights = self.sealed && case.dice.roll(4) == 0;
            let number = case.number;
            let start = Instant::now();
            let counts = self.in_a_thread(without_rights, |tell| self.case(case, trouble, tell));
            match counts {
                Ok(counts) => {
                    counts.iter().for_each(|(what, more)| turn.count(what, *more));
                    turn.time("a case", start.elapsed());
                    self.count_beside(turn, trouble, without_rights);
                }
                Err(words) => turn.violation(&format!("case {number} ({trouble:?}): {words}")),
            }
        }
        turn.count("requests to the daemon", self.requests());
    }

    fn count_beside(&self, turn: &mut Turn<'_>, trouble: Trouble, without_rights: bool) {
        match trouble {
            Trouble::Nothing => {}
            Trouble::Forget(_) => turn.count("times the kernel's caches dropped", 1),
            Trouble::Kill(_) => turn.count("kills of the server", 1),
            Trouble::Select(_) => turn.count("selects of another package", 1),
        }
        if without_rights {
            turn.count("calls of a user without rights", CALLS);
        }
        match &self.image {
            Ok(_) => turn.count("calls compared with EROFS", CALLS),
            Err(reason) => turn.count(&format!("calls with EROFS not compared: {reason}"), CALLS),
        }
    }

    /// One case; what differs, in words.
    fn case(&self, case: Case, trouble: Trouble, tell: &dyn Fn(Trouble)) -> Result<Counts, String> {
        let mut counts = Counts::new();
        let mut sides = self.sides();
        let mut board = Board::new(&self.tree, case.dice, self.sealed);
        for number in 0..CALLS {
            if [Trouble::Forget(number), Trouble::Kill(number), Trouble::Select(number)]
                .contains(&trouble)
            {
                tell(trouble);
            }
            let call = board.next();
            let answers = sides.ask(&call, self.sealed || !call.changes());
            let verdict = answers.judge(&call);
            if answers.again > 0 {
                *counts.entry("walks that mounts disturbed, repeated").or_default() +=
                    answers.again;
            }
            let mut count = |what| *counts.entry(what).or_default() += 1;
            match verdict {
                Verdict::Right => {}
                Verdict::Known(known) => known.iter().for_each(|known| count(known.what)),
                Verdict::Wrong(words) => return Err(format!("call {number}: {words}")),
            }
            count(call.kind());
            if answers.dynfs.is_ok() {
                count("successful");
            }
            if answers.others_differ() {
                count("calls on which plain directory and EROFS differ");
            }
            self.settle_down(&mut board, &mut sides, &call, &answers);
        }
        Ok(counts)
    }

    fn settle_down(
        &self,
        board: &mut Board<'_>,
        sides: &mut Sides,
        call: &Call,
        answers: &Answers,
    ) {
        let positions = matches!(call, Call::Descriptor { .. });
        let common = answers.agree() || answers.same_end() && !positions;
        let learned = (common && !sides.passed_over(answers)).then_some(&answers.dynfs);
        if board.learn(call, learned) {
            sides.each(|side| level(call, side));
        }
    }
}
