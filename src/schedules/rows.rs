//! What else the memory file holds: promised names, rows of requests in flight, and damage.

use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use store_fs::sync::channel;
use store_fs::sync::explored::{Ending, Process};
use store_fs::{InFlight, Memory, Operation};

use super::asked::check;

/// Steps of the process that is killed; it takes fewer in about half of the schedules.
const STEPS_MAX: u32 = 160;

fn map(memory: &Memory) -> Arc<Memory> {
    Arc::new(Memory::map(memory.try_clone_file().expect("a file")).expect("mapped"))
}

/// A request whose every part says which one it is.
fn request(number: u64) -> InFlight {
    let size = u32::try_from(number).expect("small");
    InFlight { unique: number, operation: Operation::Lookup, node: number, offset: number, size }
}

/// The keeper reads rows that threads write and clear; never half of one and half of another.
fn rows() {
    let memory = Arc::new(Memory::create().expect("memory"));
    let (ending, endings) = channel();
    let server = Process::doomed(thread_rng().gen_range(1..STEPS_MAX), ending.clone());
    for thread in 0..2 {
        let (memory, ending) = (map(&memory), ending.clone());
        server.spawn(move || {
            for round in 1..3 {
                let number = 10 * thread + round;
                let name = number.to_string().repeat(6);
                let row = usize::try_from(thread).expect("small");
                drop(memory.in_flight(row, 1, request(number), name.as_bytes()));
            }
            ending.send(Ending::Done).ok();
        });
    }
    let check = |memory: &Memory| {
        for row in memory.in_flight_rows() {
            assert_eq!(row.request, request(row.request.unique), "half a row");
            assert_eq!(row.name, row.request.unique.to_string().repeat(6).into_bytes());
        }
    };
    let keeper = thread::spawn({
        let memory = map(&memory);
        move || check(&memory)
    });
    if endings.recv() == Ok(Ending::Done) {
        endings.recv().ok();
    }
    server.kill();
    keeper.join().expect("the keeper reads on");
    // What the dead server was handling is whole too.
    check(&memory);
}

/// Names are promised by call: all of a call are there, or none, whenever the process dies.
fn promises() {
    let memory = Arc::new(Memory::create().expect("memory"));
    let (ending, endings) = channel();
    let server = Process::doomed(thread_rng().gen_range(1..STEPS_MAX), ending.clone());
    let names = |call: usize| [format!("lib/a long name@{call}"), format!(".objects/{call}")];
    server.spawn({
        let memory = map(&memory);
        move || {
            for call in 0..3 {
                memory.promise(&names(call)).expect("there is room");
            }
            memory.keep_promises();
            memory.promise(&names(3)).expect("there is room");
            ending.send(Ending::Done).ok();
        }
    });
    let is_whole = |memory: &Memory| {
        let found = memory.promised();
        let calls = |range: std::ops::Range<usize>| range.flat_map(names).collect::<Vec<_>>();
        let wholes = [calls(0..0), calls(0..1), calls(0..2), calls(0..3), calls(3..4)];
        assert!(wholes.contains(&found), "half a promise: {found:?}");
    };
    endings.recv().ok();
    server.kill();
    // Only a successor reads them, and it takes them over and goes on.
    let successor = map(&memory);
    is_whole(&successor);
    let before = successor.promised();
    successor.promise(&names(9)).expect("there is room");
    assert_eq!(successor.promised(), [before, names(9).to_vec()].concat());
}

/// Damage is noted by all threads, and asked about meanwhile: what a successor finds is whole, once
/// for each file, and what was noted at last is among it when nobody died.
fn damage() {
    let memory = Arc::new(Memory::create().expect("memory"));
    let (ending, endings) = channel();
    let server = Process::doomed(thread_rng().gen_range(1..2 * STEPS_MAX), ending.clone());
    let name = |number: u64| number.to_string().repeat(6);
    let check = move |memory: &Memory| {
        let mut files = Vec::new();
        for row in memory.damage() {
            let number = row.request.node;
            assert_eq!(InFlight { unique: number, ..row.request }, request(number), "half a row");
            assert_eq!(row.name, name(number).into_bytes());
            files.push(row.request.unique);
        }
        files.sort_unstable();
        assert!(files.windows(2).all(|two| two[0] != two[1]), "a file twice: {files:?}");
        files
    };
    for thread in 0..2 {
        let (memory, ending) = (Arc::clone(&memory), ending.clone());
        server.spawn(move || {
            for round in 1..3 {
                let number = 10 * thread + round;
                // The first is met by both, the other ones by one each.
                let file = if round == 1 { 1 } else { number };
                memory.note_damage(file, request(number), name(number).as_bytes());
                check(&memory);
            }
            ending.send(Ending::Done).ok();
        });
    }
    let both_are_done = endings.recv() == Ok(Ending::Done) && endings.recv() == Ok(Ending::Done);
    server.kill();
    let successor = map(&memory);
    let found = check(&successor);
    assert!(!both_are_done || found == [1, 2, 12], "{found:?}");
    successor.damage().iter().for_each(|met| successor.forget_damage(met));
    assert!(check(&successor).is_empty());
}

#[test]
fn damage_is_whole_whoever_dies() {
    check("damage", 1500, damage);
}

#[test]
fn rows_of_requests_are_whole_whoever_dies() {
    check("rows in flight", 1500, rows);
}

#[test]
fn promises_are_whole_whoever_dies() {
    check("promised names", 1500, promises);
}
