//! Plays the whole story in front of a dynfs that is made of directories: compiling, linking,
//! running, mapping and debugging are real, only the mount is not. Then in front of ones that
//! break a promise each, which the story must notice.

use super::super::debugger;
use super::*;

/// Packages are directories, releases share their files by hard links, so that one file has one
/// inode wherever it is seen, as in a mount.
const STAND_IN: &str = r#"#!/bin/sh
set -e
store=$DYNFS_STORE
lib=$store/../dyn/lib
show() {
    cp -al "$lib/$1" "$lib/new"
    [ ! -e "$lib/xz" ] || mv "$lib/xz" "$lib/old"
    mv "$lib/new" "$lib/xz"
    rm -rf "$lib/old"
    echo "xz -> $1"
}
go() {
    mv "$store/now" "$store/$2"
    mv "$store/$1" "$store/now"
    show "$(cat "$store/now")"
}
listed() {
    [ "$(cat "$store/now")" = "xz@$1$2" ] && selected=true || selected=false
    variants=${2:+\"${2#,}\"}
    echo "{\"package\":\"xz\",\"version\":\"$1\",\"variants\":[$variants],\"selected\":$selected}$3"
}
case "$1 $2" in
"mount "*) mkdir -p "$store" "$lib"; touch "$store/now"; echo "mounted $2" ;;
"add "*) cp -a "$2" "$lib/xz@$6${8:+,$8}"; echo "added xz@$6${8:+,$8}" ;;
"select xz@5.2") cp "$store/now" "$store/before"; echo xz@5.2.5 >"$store/now"; show xz@5.2.5 ;;
"select xz@5.8") cp "$store/now" "$store/before"; echo xz@5.8.4 >"$store/now"; show xz@5.8.4 ;;
"select xz@5.8,debug") echo xz@5.8.4,debug >"$store/now"; show xz@5.8.4,debug ;;
"undo ") go before after ;;
"redo ") go after before ;;
"which "*) echo "$2 xz@something" ;;
"status --json") echo '{"schema":"dynfs.status/1","requests":{"lookup":7,"open":0}}' ;;
"list --json")
    echo '{"schema":"dynfs.list/1","releases":['
    listed 5.2.5 "" ,; listed 5.8.4 "" ,; listed 5.8.4 ,debug
    echo ']}' ;;
*) echo "no such command: $*" >&2; exit 2 ;;
esac
"#;

/// A compiler and the plain releases, or the reason why there are none.
struct Stage {
    compiler: Compiler,
    cache: PathBuf,
    interrupt: Interrupt,
    _temporary: tempfile::TempDir,
}

impl Stage {
    fn set() -> Result<Self, Stop> {
        let interrupt = Interrupt::never().expect("a pair of sockets");
        let compiler = Compiler::find(&interrupt)?;
        let temporary = tempfile::tempdir().expect("a directory");
        let cache = library::cache_directory(temporary.path());
        OLD.locate(&cache, &interrupt)?;
        NEW.locate(&cache, &interrupt)?;
        Ok(Self { compiler, cache, interrupt, _temporary: temporary })
    }

    fn library(&self, upstream: &Upstream) -> Library {
        library::cached(upstream, &self.compiler, &self.cache, &self.interrupt)
            .expect("it compiles")
    }
}

/// Without a compiler or the sources there is nothing to rehearse.
fn stage() -> Option<Stage> {
    match Stage::set() {
        Ok(stage) => Some(stage),
        Err(stop) => {
            // Not by a macro: the test runner would swallow it.
            writeln!(std::io::stderr(), "SKIPPED: {stop}").expect("standard error");
            None
        }
    }
}

fn room(script: &str) -> Room {
    use std::os::unix::fs::PermissionsExt as _;
    let room = Room::make("unused".into()).expect("a room");
    let program = room.directory().join("stand-in");
    // Renamed into place: a file that a forked neighbour still has open cannot be executed.
    let written = room.directory().join("written");
    fs::write(&written, script).expect("a file");
    fs::set_permissions(&written, fs::Permissions::from_mode(0o700)).expect("chmod");
    assert!(Path::new("/bin/cp").exists(), "the stand-in needs cp");
    let mut copy = std::process::Command::new("/bin/cp");
    process::succeed(copy.arg(&written).arg(&program), None).expect("copied");
    room.with_program(program)
}

fn options() -> Options {
    Options { keep: false, programs: 3 }
}

#[test]
fn the_whole_story_is_told_and_leaves_nothing() {
    let Some(stage) = stage() else { return };
    let room = room(STAND_IN);
    let directory = room.directory().to_owned();
    let mut text = Vec::new();
    let mut screen = Screen::new(&mut text);
    let story = Story::begin(&options(), &mut screen, &stage.interrupt, &stage.compiler, &room);
    story.and_then(Story::tell).expect("everything holds");
    assert!(screen.checks() >= 20, "{} claims", screen.checks());
    ending::clear(&mut screen, room, true).expect("cleared");
    assert!(!directory.exists());

    let text = String::from_utf8(text).expect("text");
    println!("{text}");
    for wanted in [
        "dynfs select xz@5.8,debug",
        "runs with 5.8.4, packed 16384 bytes",
        "has 5.2.5 mapped, inode",
        "0 requests for 100 starts",
        "claims, all hold",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
    if needs::debugger().is_some() && !text.contains("may not trace") {
        let line = "lib/xz/src/liblzma/check/crc64_fast.c:";
        assert!(text.contains(line) && text.contains(debugger::FUNCTION), "{text}");
    }
}

/// Tells the story with a stand-in that differs in one place, and with a plain release in the
/// place of the debug variant: none of these comes so far. Returns why it ended.
fn told_by_a_liar(stage: &Stage, truth: &str, lie: &str) -> String {
    assert!(STAND_IN.contains(truth), "{truth}");
    let room = room(&STAND_IN.replace(truth, lie));
    let mut screen = Screen::new(Vec::new());
    let libraries = [stage.library(&OLD), stage.library(&NEW), stage.library(&NEW)];
    let story = Story::begin(&options(), &mut screen, &stage.interrupt, &stage.compiler, &room);
    let stop = story.and_then(|story| story.tell_with(&libraries)).expect_err("it is a lie");
    assert_eq!(stop.exit_code(), 1, "{stop}");
    stop.to_string()
}

#[test]
fn every_broken_promise_is_noticed_and_named() {
    let Some(stage) = stage() else { return };
    for (truth, lie, named) in [
        ("show xz@5.8.4 ;;", "echo done ;;", "all 3 programs work and say 5.8.4"),
        ("go after before", "echo done", "all 3 programs work and say 5.8.4"),
        (
            "show xz@5.8.4 ;;",
            "show xz@5.8.4; printf x >>\"$store/../programs/p02\" ;;",
            "program files are unchanged",
        ),
        ("cp -al", "cp -a", "has that release's file mapped"),
        ("cp -al \"$lib/$1\"", "ln -s \"$1\"", "the virtual path is the real path"),
        ("\"lookup\":7", "\"lookup\":'$$'", "0 requests for 100 starts"),
        ("listed 5.2.5 \"\" ,;", "", "has the three releases"),
    ] {
        let said = told_by_a_liar(&stage, truth, lie);
        assert!(said.contains(named), "expected: {named}\nsaid: {said}");
    }
}

#[test]
fn a_signal_ends_the_story_and_nothing_is_left() {
    let Some(stage) = stage() else { return };
    let room = room(STAND_IN);
    let directory = room.directory().to_owned();
    let interrupt = Interrupt::already().expect("a pair of sockets");
    let mut screen = Screen::new(Vec::new());
    let story = Story::begin(&options(), &mut screen, &interrupt, &stage.compiler, &room);
    let stop = story.and_then(Story::tell).expect_err("interrupted");
    assert_eq!(stop.exit_code(), 130, "{stop}");
    ending::clear(&mut screen, room, false).expect("cleared");
    assert!(!directory.exists());
}
