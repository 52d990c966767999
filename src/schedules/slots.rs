//! The slot table between threads, processes and a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use resolver::ObjectId;
use resolver::hash::HASH_LEN;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use store_fs::Memory;
use store_fs::slots::{Key, Share, Slot, Slots};
use store_fs::sync::channel;
use store_fs::sync::explored::{Ending, Process};

use super::asked::check;

/// Threads of the process that is killed.
const THREADS: usize = 3;
/// Rows that each of them looks for.
const WANTED: usize = 4;
/// Steps of the process that is killed; it takes fewer in about half of the schedules.
const STEPS_MAX: u32 = 500;

/// Rows that threads look for; some refer to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Lib,
    /// In `lib`; its name fills more than one word.
    Package,
    Object,
    Shown,
    Link,
}

const ALL: [Wanted; 5] =
    [Wanted::Lib, Wanted::Package, Wanted::Object, Wanted::Shown, Wanted::Link];
const NAME: &[u8] = b"a name of more than two words";
const TARGET: &[u8] = b"../lib/a name of more/bin/x";

/// What threads were given, in whatever process.
type Given = Arc<Mutex<BTreeMap<Wanted, u32>>>;

fn id() -> ObjectId {
    ObjectId::from_bytes([0xab; HASH_LEN])
}

/// Looks a row up, and first what it refers to, as a lookup does; checks what it was given.
fn intern(slots: &Slots, wanted: Wanted, given: &Given) -> u32 {
    let other = |wanted| intern(slots, wanted, given);
    let intern = |key| slots.intern(key, Share::Live).expect("there is room");
    let (slot, stands_for) = match wanted {
        Wanted::Lib => {
            let slot = intern(Key::Place { parent: 0, name: b"lib" });
            (slot, Slot::Place { parent: 0, name: b"lib".to_vec() })
        }
        Wanted::Package => {
            let parent = other(Wanted::Lib);
            let slot = intern(Key::Place { parent, name: NAME });
            (slot, Slot::Place { parent, name: NAME.to_vec() })
        }
        Wanted::Object => (intern(Key::Object(&id())), Slot::Object(id())),
        Wanted::Shown => {
            let (place, object) = (other(Wanted::Package), other(Wanted::Object));
            (intern(Key::Shown { place, object }), Slot::Shown { place, object })
        }
        Wanted::Link => {
            let place = other(Wanted::Package);
            let slot = intern(Key::Link { place, target: TARGET });
            (slot, Slot::Link { place, target: TARGET.to_vec() })
        }
    };
    assert_eq!(slots.get(slot), Some(stands_for), "{wanted:?}");
    let mut given = given.lock().expect("nobody failed");
    let first = *given.entry(wanted).or_insert(slot);
    assert_eq!(first, slot, "{wanted:?} has two numbers");
    let numbers: BTreeSet<u32> = given.values().copied().collect();
    assert_eq!(numbers.len(), given.len(), "two rows have one number: {given:?}");
    slot
}

/// Every row in use is whole, and one of those that anybody wanted.
fn check_rows(slots: &Slots) -> usize {
    let len = slots.len();
    for slot in 0..u32::try_from(len).expect("small") {
        let is_known = match slots.get(slot) {
            Some(Slot::Place { parent: 0, name }) => name.is_empty() == (slot == 0),
            Some(Slot::Place { name, .. }) => name == NAME,
            Some(Slot::Object(found)) => found == id(),
            Some(Slot::Shown { place, object }) => place < slot && object < slot,
            Some(Slot::Link { target, .. }) => target == TARGET,
            None => false,
        };
        assert!(is_known, "row {slot} of {len} is {:?}", slots.get(slot));
    }
    len
}

/// Threads of one process look for rows, which another process reads meanwhile; the first is
/// killed anywhere, or not at all, and a third goes on with what it left.
fn once() {
    let memory = Arc::new(Memory::create().expect("memory"));
    let map = || Arc::new(Memory::map(memory.try_clone_file().expect("a file")).expect("mapped"));
    let given = Given::default();
    let (ending, endings) = channel();
    let server = Process::doomed(thread_rng().gen_range(1..STEPS_MAX), ending.clone());
    let slots = Slots::new(map());
    for _ in 0..THREADS {
        let (slots, given, ending) = (slots.clone(), Arc::clone(&given), ending.clone());
        server.spawn(move || {
            for _ in 0..WANTED {
                intern(&slots, ALL[thread_rng().gen_range(0..ALL.len())], &given);
            }
            ending.send(Ending::Done).ok();
        });
    }
    let keeper = thread::spawn({
        let slots = Slots::new(map());
        move || {
            let before = check_rows(&slots);
            assert!(before <= check_rows(&slots), "nothing is taken back");
        }
    });
    for _ in 0..THREADS {
        if endings.recv() == Ok(Ending::Killed) {
            break;
        }
    }
    server.kill();
    keeper.join().expect("the keeper reads on");
    let successor = Slots::new(map());
    let left = check_rows(&successor);
    for wanted in ALL {
        intern(&successor, wanted, &given);
    }
    // A thread that was killed between row and bucket leaves a row that nobody finds again.
    let rows = check_rows(&successor);
    assert!(rows <= 1 + ALL.len() + 1 && rows >= left, "{rows} rows, {left} were left");
}

#[test]
fn a_row_has_one_number_whoever_looks_and_whoever_dies() {
    check("slot table", 3000, once);
}
