//! `inotify`: what is told of what the other calls do.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::inotify::{Reader, WatchFlags, add_watch, remove_watch};
use rustix::io::Errno;

use super::answer::{Answer, Fields, done, gives};
use super::call::Board;
use super::side::{Place, Side};
use super::tree::beyond_an_image;

/// What is asked of a queue of events.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Add { place: Place, flags: u32 },
    Remove { watch: i32 },
    Events,
}

const FLAGS: [WatchFlags; 7] = [
    WatchFlags::ALL_EVENTS,
    WatchFlags::ALL_EVENTS,
    WatchFlags::ACCESS,
    WatchFlags::OPEN.union(WatchFlags::CLOSE),
    WatchFlags::ATTRIB.union(WatchFlags::MODIFY).union(WatchFlags::MOVE),
    WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF),
    WatchFlags::empty(),
];
const HOW: [WatchFlags; 5] = [
    WatchFlags::empty(),
    WatchFlags::ONLYDIR,
    WatchFlags::DONT_FOLLOW,
    WatchFlags::MASK_ADD,
    WatchFlags::MASK_CREATE,
];

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        match board.dice.roll(4) {
            0 => {
                let flags = *board.dice.pick(&FLAGS) | *board.dice.pick(&HOW);
                let place = board.place();
                // All queues number their watches in the same way.
                match beyond_an_image(&place.path) {
                    true => Self::Events,
                    false => Self::Add { place, flags: flags.bits() },
                }
            }
            1 if board.dice.roll(2) == 0 => {
                Self::Remove { watch: i32::try_from(board.dice.roll(20)).expect("small") }
            }
            _ => Self::Events,
        }
    }

    pub(super) fn run(&self, side: &Side) -> Answer {
        match self {
            Self::Add { place, flags } => {
                let flags = WatchFlags::from_bits_retain(*flags);
                gives("watch", side.by_name(place, |path| add_watch(&side.watches, path, flags)))
            }
            Self::Remove { watch } => done(remove_watch(&side.watches, *watch)),
            Self::Events => events(side),
        }
    }
}

/// Every event once: how often something is read depends on how much came at a time. Each is judged
/// on its own, since it is an earlier call that it tells of, and another one than its neighbour.
fn events(side: &Side) -> Answer {
    let mut room = [MaybeUninit::uninit(); 32_768];
    let mut reader = Reader::new(side.watches.as_fd(), &mut room);
    let mut seen = BTreeSet::new();
    loop {
        match reader.next() {
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_bytes().to_vec());
                seen.insert((event.wd(), event.events().bits(), name));
            }
        }
    }
    let lines: BTreeSet<String> = seen.iter().map(|event| format!("{event:?}")).collect();
    Ok(Fields::one("events", lines))
}
