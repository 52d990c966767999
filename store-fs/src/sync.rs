//! What threads share: locks, values that are swapped, words of the memory file, channels.
//!
//! A build for use has the real ones, under these names and at no cost. With the feature `shuttle`
//! each of them is a place at which a scheduler decides who goes on (`sync/explored.rs`), so that
//! the very code that is served from is run in thousands of orders; see `docs/TESTING.md`. Nothing
//! here decides anything.

#[cfg(feature = "shuttle")]
pub mod explored;

#[cfg(not(feature = "shuttle"))]
mod real {
    use std::io;
    use std::thread;

    pub use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::atomic::AtomicU64 as Word;

    pub use arc_swap::ArcSwap;
    pub use crossbeam_channel::{Receiver, Sender, unbounded as channel};
    pub use parking_lot::{Mutex, MutexGuard};

    /// A place at which another thread may go on: here, anywhere.
    pub(crate) const fn step() {}

    /// Starts a thread that nobody waits for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name(name.into()).spawn(run).map(drop)
    }
}

#[cfg(feature = "shuttle")]
pub use self::explored::{
    ArcSwap, AtomicBool, Mutex, MutexGuard, Receiver, Sender, channel, spawn,
};
#[cfg(feature = "shuttle")]
pub(crate) use self::explored::{Word, step};
#[cfg(not(feature = "shuttle"))]
pub use self::real::{ArcSwap, AtomicBool, Mutex, MutexGuard, Receiver, Sender, channel, spawn};
#[cfg(not(feature = "shuttle"))]
pub(crate) use self::real::{Word, step};
