//! A server that knows a million files, each of which somebody has looked at, needs little memory.

use std::fs;
use std::path::Path;

use crate::harness::turn::{Campaign, Turn};
use crate::restarts::resident;
use crate::rig::Rig;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "files",
    what: "files that were all looked at: memory of the server",
    unit: "files",
    per_case: FILES,
    short: 20_000,
    long: 1_000_000,
    run,
};

/// Files in one package, which is one case.
const FILES: u64 = 10_000;
/// Of these in one directory.
const IN_DIRECTORY: u64 = 500;
/// Most memory, in KiB.
const MEMORY_MAX: u64 = 64 * 1_024;

fn run(turn: &mut Turn<'_>) {
    turn.begin_anew();
    let Some(rig) = Rig::mounted("campaign files") else {
        return turn.skip("nothing can be mounted");
    };
    let source = rig.scratch("source");
    for file in 0..FILES {
        let directory = source.join(format!("share/{}", file / IN_DIRECTORY));
        fs::create_dir_all(&directory).expect("ours");
        fs::write(directory.join(format!("file-{file}")), file.to_string()).expect("ours");
    }
    let place = source.to_str().expect("UTF-8");
    let empty = resident(rig.pid("server"));
    turn.peak("KiB before", empty);
    while let Some(case) = turn.next() {
        // No two packages are the same object.
        fs::write(source.join("share/which"), case.number.to_string()).expect("ours");
        let name = format!("package-{}", case.number);
        rig.ok(["add", place, "--name", &name, "--version", "1.0"]);
        rig.ok(["select", &name]);
        let looked_at = look(&rig.at("app").join(&name));
        assert_eq!(looked_at, FILES + 1, "files and the one more");
        let now = resident(rig.pid("server"));
        turn.peak("KiB at most", now);
        if now > MEMORY_MAX {
            let files = (case.number + 1) * FILES;
            turn.violation(&format!("{now} KiB with {files} files, and {empty} KiB before"));
        }
    }
}

/// Looks at everything below a place; how many files there are.
fn look(place: &Path) -> u64 {
    let mut files = 0;
    for entry in fs::read_dir(place).expect("there") {
        let entry = entry.expect("listed");
        let about = entry.metadata().expect("there");
        files += if about.is_dir() { look(&entry.path()) } else { 1 };
    }
    files
}
