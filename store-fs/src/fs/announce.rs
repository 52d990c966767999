//! Telling the kernel, and the guard that keeps request handlers from it.
//!
//! A kernel that is told to forget a name waits for the lookups that run in its directory. A
//! handler that told it would wait for itself, and the whole mount with it, beyond any signal.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;

use super::{Announcement, Kernel};

thread_local! {
    static REQUESTS: Cell<u32> = const { Cell::new(0) };
}

/// This thread handles a request, until dropped.
#[derive(Debug)]
pub struct RequestGuard {
    /// Stays on its thread.
    _thread: PhantomData<*const ()>,
}

impl RequestGuard {
    /// Begins a request.
    #[must_use]
    pub fn enter() -> Self {
        REQUESTS.set(REQUESTS.get() + 1);
        Self { _thread: PhantomData }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        REQUESTS.set(REQUESTS.get() - 1);
    }
}

/// Tells the kernel. Called from the one announcing thread, which holds no lock; a debug assertion
/// makes it impossible from a request handler (see [`RequestGuard`]).
///
/// # Errors
///
/// The first error of the kernel; everything else has been told all the same.
pub fn announce(kernel: &dyn Kernel, announcement: &Announcement) -> io::Result<()> {
    debug_assert!(REQUESTS.get() == 0, "a request handler must never tell the kernel anything");
    let mut told = Ok(());
    for (parent, name) in &announcement.entries {
        told = told.and(kernel.drop_entry(*parent, name));
    }
    for dir in &announcement.waits {
        told = told.and(kernel.wait_for(*dir));
    }
    for dir in &announcement.lists {
        told = told.and(kernel.drop_list(*dir));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::panic;
    use std::sync::Mutex;

    use super::*;
    use crate::Ino;

    /// Notes what it is told, and fails at one name.
    #[derive(Default)]
    struct Noting {
        told: Mutex<Vec<String>>,
    }

    impl Noting {
        fn note(&self, what: String) -> io::Result<()> {
            let fails = what.contains("fails");
            self.told.lock().unwrap().push(what);
            if fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        }
    }

    impl Kernel for Noting {
        fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
            self.note(format!("{} {}", parent.0, String::from_utf8_lossy(name)))
        }

        fn drop_list(&self, dir: Ino) -> io::Result<()> {
            self.note(format!("list {}", dir.0))
        }
    }

    fn announcement() -> Announcement {
        Announcement {
            entries: vec![(Ino(5), b"fails".to_vec()), (Ino(5), b"xz".to_vec())],
            waits: vec![Ino(6)],
            lists: vec![Ino(7)],
        }
    }

    #[test]
    fn everything_is_told_in_order_whatever_fails() {
        let kernel = Noting::default();
        assert!(announce(&kernel, &announcement()).is_err());
        assert_eq!(*kernel.told.lock().unwrap(), ["5 fails", "5 xz", "6 .nothing", "list 7"]);
        let nothing = Announcement::default();
        announce(&kernel, &nothing).unwrap();
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_request_handler_cannot_tell() {
        let outer = RequestGuard::enter();
        drop(RequestGuard::enter());
        let told = panic::catch_unwind(|| announce(&Noting::default(), &Announcement::default()));
        assert!(told.is_err());
        drop(outer);
        announce(&Noting::default(), &Announcement::default()).unwrap();
    }
}
