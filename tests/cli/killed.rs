//! Commands killed at any moment, without a daemon: the old state or the new one, nothing between,
//! and nothing that stands in the next command's way.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::stage::Stage;

/// How often each command is killed.
const KILLS: u32 = 40;

/// Starts a command and kills it after a part of the time that it usually takes, a bit later each
/// round and at last not before it has ended.
fn kill(stage: &Stage, arguments: &[&str], round: u32, usual: Duration) {
    let mut command = stage.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait(&mut child, usual * (round * 5 / 4) / KILLS);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits, and no longer than the child lives.
fn wait(child: &mut Child, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn usual(stage: &Stage, arguments: &[&str]) -> Duration {
    let start = Instant::now();
    stage.ok(arguments);
    start.elapsed()
}

/// The store is whole, also to the last byte, and nothing lies about.
fn is_whole(stage: &Stage) {
    stage.ok(&["fsck", "--data"]);
}

/// Names in a directory of the store.
fn count(stage: &Stage, path: &str) -> usize {
    fs::read_dir(stage.path(path)).unwrap().count()
}

/// The selected version of `xz`.
fn selected(stage: &Stage) -> String {
    let list = stage.ok(&["list", "xz"]);
    let line = list.lines().find(|line| line.starts_with('*')).unwrap();
    line.split_whitespace().nth(2).unwrap().to_owned()
}

#[test]
fn select_and_undo() {
    let stage = Stage::new();
    stage.add_packages();
    stage.ok(&["select", "xz@5.2"]);
    let usual = usual(&stage, &["select", "xz@5.8"]);
    let mut done = 0;
    for round in 0..KILLS {
        let before = selected(&stage);
        let other = if before == "5.8.1" { "5.2.5" } else { "5.8.1" };
        let generations = count(&stage, "store/generations");
        let undo = round % 2 == 1;
        let spec = format!("xz@={other}");
        let arguments = if undo { vec!["undo"] } else { vec!["select", &spec] };
        kill(&stage, &arguments, round, usual);
        let steps = count(&stage, "store/generations") - generations;
        assert!(steps <= 1, "one command, {steps} generations");
        let after = selected(&stage);
        match (steps, undo) {
            (0, _) => assert_eq!(after, before),
            (_, false) => assert_eq!(after, other),
            // Where an undo leads, the line of generations says.
            (_, true) => {}
        }
        done += steps;
        is_whole(&stage);
        // No lock is left, and the state is one to go on from.
        let on = if after == "5.8.1" { "xz@5.2" } else { "xz@5.8" };
        stage.ok(&["select", on]);
        assert_eq!(count(&stage, "store/tmp"), 0);
    }
    assert!(done > 0, "every command was killed before it had done anything");
}

#[test]
fn add() {
    let stage = Stage::new();
    stage.add_packages();
    for file in 0..40 {
        stage.file(&format!("many/share/{file}"), &format!("{file}").repeat(9_000), 0o644);
    }
    let add = ["add", "many", "--name", "many"];
    let usual = usual(&stage, &[add.as_slice(), &["--version", "0"]].concat());
    let mut done = 0;
    for round in 0..KILLS {
        // Other content each time, so that there is something to write.
        stage.file("many/share/0", &format!("round {round}").repeat(20_000), 0o644);
        let version = format!("1.{round}");
        let arguments = [add.as_slice(), &["--version", &version]].concat();
        kill(&stage, &arguments, round, usual);
        is_whole(&stage);
        done += usize::from(stage.path(&format!("store/releases/many/{version},all")).exists());
        stage.ok(&arguments);
        assert_eq!(count(&stage, "store/tmp"), 0);
    }
    is_whole(&stage);
    assert!(done > 0, "every command was killed before it had done anything");
    assert_eq!(count(&stage, "store/releases/many"), KILLS as usize + 1);
}

#[test]
fn the_first_add_of_all() {
    for round in 0..KILLS {
        let stage = Stage::new();
        stage.file("a/bin/a", "a", 0o755);
        let arguments = ["add", "a", "--name", "a", "--version", "1", "--prefix", "/dyn"];
        kill(&stage, &arguments, round, Duration::from_millis(40));
        stage.ok(&arguments);
        stage.ok(&["select", "a"]);
        is_whole(&stage);
    }
}

/// A copy is there whole or not at all, and so is each release of a file that is added.
#[test]
fn copy_and_add_of_a_file() {
    let stage = Stage::new();
    for file in 0..20 {
        stage.file(&format!("many/share/{file}"), &format!("{file}").repeat(30_000), 0o644);
    }
    stage.ok(&["add", "many", "--name", "many", "--version", "1", "--prefix", "/dyn"]);
    stage.ok(&["copy", "many", "--to", "good"]);
    let good = std::fs::read(stage.path("good")).unwrap();
    let usual_copy = usual(&stage, &["copy", "many", "--to", "usual"]);
    let usual_add = usual(&stage, &["--store", "usual-store", "add", "good"]);
    for round in 0..KILLS {
        let name = format!("copy{round}");
        kill(&stage, &["copy", "many", "--to", &name], round, usual_copy);
        if let Ok(copy) = std::fs::read(stage.path(&name)) {
            assert!(copy == good, "round {round}");
        }
        let other = format!("store{round}");
        let add = ["--store", &other, "add", "good"];
        kill(&stage, &add, round, usual_add);
        stage.ok(&add);
        stage.ok(&["--store", &other, "fsck", "--data"]);
        stage.ok(&["--store", &other, "show", "many"]);
    }
}
