//! Lost requests: what a dead server had read and not yet noted, on a kernel that does not hand it
//! out again. Nobody knows what they ask, but which numbers they can have: the kernel counts its
//! requests and hands them out in that order. So each such number is answered, and the kernel
//! refuses the answers that nobody waits for.
//!
//! ```text
//! swept                          read - NEAR            read          read + BEYOND
//!   |----- while this server serves ---|---- before it reads its first request ---|
//! ```
//!
//! Whatever is read from now on has a number above all that a dead server noted, so what was noted
//! bounds what may be answered late. A little beyond it only now is sure to be nobody else's.
//!
//! They are no rarity: a thread that waits for a request takes one along when it is killed.
//!
//! The answer is `ESTALE`: a path walk then begins again and asks everything anew, and what was to
//! be read ahead is read once more, so few programs ever see it. While what is selected is withheld
//! that would lose the names that the kernel still knows, so there it is `EIO`.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;

use super::orphans::message;
use crate::Memory;

/// Numbers below the last one noted that are answered first: there all lost ones are, but for what
/// a thread read and had no processor for, while others went on for long.
const NEAR: u64 = 1 << 16;
/// Numbers above it: one a thread, and what was forgotten or given up meanwhile.
const BEYOND: u64 = 1 << 12;
/// The kernel's distance between two numbers; the odd ones are interrupts.
const STEP: u64 = 2;

/// Answers what dead servers have lost. To be called before anything is read, and after the orphans
/// were answered, whose numbers are among these. What is far is answered on a thread of its own.
///
/// # Errors
///
/// The connection's, and that of starting the thread.
pub(super) fn answer_all(
    device: BorrowedFd<'_>,
    memory: &Arc<Memory>,
    errno: Errno,
) -> io::Result<usize> {
    #[cfg(debug_assertions)]
    if super::hook::KEEP_LOST.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(0);
    }
    let (swept, read) = (memory.swept(), memory.last_read());
    let near = read.saturating_sub(NEAR).max(swept);
    let answered = answer(device, near..=read + BEYOND, errno)?;
    if near == swept {
        memory.set_swept(read);
        return Ok(answered);
    }
    let (device, memory) = (device.try_clone_to_owned()?, Arc::clone(memory));
    let far = move || match answer(device.as_fd(), swept..=near, errno) {
        Ok(answered) => {
            memory.set_swept(read);
            tracing::info!(answered, "requests that a dead server had read long ago");
        }
        // The connection has ended, or the next server does it all again.
        Err(error) => tracing::debug!("answering what was lost: {error}"),
    };
    thread::Builder::new().name("lost".into()).spawn(far)?;
    Ok(answered)
}

/// Answers every number between these, the highest first; how many had waited for it.
fn answer(device: BorrowedFd<'_>, numbers: RangeInclusive<u64>, errno: Errno) -> io::Result<usize> {
    let mut answered = 0;
    let mut unique = numbers.end() - numbers.end() % STEP;
    while unique > *numbers.start() {
        match rustix::io::write(device, &message(unique, &Err(errno))) {
            Ok(_) => answered += 1,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        unique -= STEP;
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What is written into a pipe, as numbers of requests.
    fn answered(memory: &Arc<Memory>) -> Vec<u64> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            let number = |message: &[u8]| u64::from_ne_bytes(message[8..16].try_into().unwrap());
            bytes.chunks_exact(16).map(number).collect::<Vec<_>>()
        });
        let count = answer_all(writer.as_fd(), memory, Errno::STALE).unwrap();
        drop(writer);
        let numbers = reading.join().unwrap();
        assert!(numbers.len() >= count);
        numbers
    }

    #[test]
    fn every_number_that_may_be_lost_is_answered_once() {
        let memory = Arc::new(Memory::create().unwrap());
        for (read, after) in [(0, 0), (100, 0), (400_000, 100), (400_002, 400_000)] {
            memory.note_read(read);
            let mut numbers = answered(&memory);
            assert_eq!(numbers[0], read + BEYOND, "the latest first");
            numbers.sort_unstable();
            let expected: Vec<u64> = (after + STEP..=read + BEYOND).step_by(2).collect();
            assert_eq!(numbers, expected, "{read}");
            assert_eq!(memory.swept(), read);
        }
    }
}
