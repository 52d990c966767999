//! The requests in hand: each is counted, noted in the memory file from before it is handled until
//! after it is answered, and suspects are taken one at a time. Never answers anything itself.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::{INodeNo, Request};
use parking_lot::{Mutex, MutexGuard};

use crate::fs::RequestGuard;
use crate::memory::{InFlight, InFlightGuard, Suspicion};
use crate::{Disk, DynFs, Ino, Memory, Operation};

thread_local! {
    /// This thread's row in the table of requests in flight, and the kernel's number of it.
    static ROW: Cell<Option<(usize, u32)>> = const { Cell::new(None) };
}

/// What this server has in hand.
#[derive(Debug)]
pub(super) struct InHand<D: Disk> {
    memory: Arc<Memory>,
    /// Says where a request was about, for the log.
    fs: Arc<DynFs<D>>,
    rows: AtomicUsize,
    /// Held while a request is handled that may have killed a server.
    suspects: Mutex<()>,
}

/// Held while a request is handled.
pub(super) struct Serving<'a> {
    _row: InFlightGuard<'a>,
    _handler: RequestGuard,
    _suspect: Option<Suspect<'a>>,
}

/// A request that was there when a server died: one at a time, and absolved once it is answered.
struct Suspect<'a> {
    memory: &'a Memory,
    unique: u64,
    _alone: MutexGuard<'a, ()>,
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        self.memory.absolve(self.unique);
    }
}

impl<D: Disk> InHand<D> {
    pub(super) fn new(memory: Arc<Memory>, fs: Arc<DynFs<D>>) -> Self {
        Self { memory, fs, rows: AtomicUsize::new(0), suspects: Mutex::new(()) }
    }

    /// As [`InHand::begin`], for what takes work; `None` when the request has killed servers and
    /// must be answered with an error.
    pub(super) fn admit(
        &self,
        request: &Request,
        operation: Operation,
        node: INodeNo,
        place: (u64, u32),
        name: &[u8],
    ) -> Option<Serving<'_>> {
        let unique = request.unique().0;
        let suspect = match self.memory.suspicion(unique) {
            Suspicion::None => None,
            suspicion => {
                let suspect =
                    Suspect { memory: &self.memory, unique, _alone: self.suspects.lock() };
                if suspicion == Suspicion::Deadly {
                    tracing::error!(
                        operation = operation.name(),
                        at = %self.fs.whereabouts(Ino(node.0), name),
                        "this request has killed servers, so it is answered with an error"
                    );
                    return None;
                }
                Some(suspect)
            }
        };
        Some(self.begin_as(request, operation, node, place, name, suspect))
    }

    /// Notes the number of what is neither counted nor answered.
    pub(super) fn pass(&self, request: &Request) {
        self.memory.note_read(request.unique().0);
    }

    /// Counts a request and notes it as in flight until the guard is dropped, which is after the
    /// answer.
    pub(super) fn begin(
        &self,
        request: &Request,
        operation: Operation,
        node: INodeNo,
        place: (u64, u32),
    ) -> Serving<'_> {
        self.begin_as(request, operation, node, place, b"", None)
    }

    fn begin_as<'a>(
        &'a self,
        request: &Request,
        operation: Operation,
        node: INodeNo,
        (offset, size): (u64, u32),
        name: &[u8],
        suspect: Option<Suspect<'a>>,
    ) -> Serving<'a> {
        let (row, tid) = ROW.with(|row| {
            row.get().unwrap_or_else(|| {
                let number = self.rows.fetch_add(1, Ordering::Relaxed);
                let tid = rustix::thread::gettid().as_raw_pid().unsigned_abs();
                row.set(Some((number, tid)));
                (number, tid)
            })
        });
        #[cfg(debug_assertions)]
        super::hook::run(&super::hook::BEFORE_NOTE, operation, name);
        self.memory.count(operation);
        let unique = request.unique().0;
        self.memory.note_read(unique);
        let in_flight = InFlight { unique, operation, node: node.0, offset, size };
        let row = self.memory.in_flight(row, tid, in_flight, name);
        #[cfg(debug_assertions)]
        super::hook::run(&super::hook::BEFORE_ANSWER, operation, name);
        Serving { _row: row, _handler: RequestGuard::enter(), _suspect: suspect }
    }
}
