//! The one module with `unsafe`: a shared, sealed memory file as a slice of atomic words.
//!
//! Nothing but atomic words leaves this module, so no other code can read a byte while another
//! process writes it without saying so. Never a pointer, never a plain byte slice of the mapping.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::sync::Word;

/// Bytes of a word.
pub(crate) const WORD_LEN: usize = 8;

/// A memory file, mapped shared and writable until dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<Word>,
    words: usize,
}

// SAFETY: the mapping is reached only as a slice of atomics, which any thread may use, and the
// value owns the mapping, so it may be unmapped from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; `words` hands out nothing but `&[Word]`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole file, which must be `words` words long and sealed against any other size.
    ///
    /// # Errors
    ///
    /// `InvalidData` for another length or a missing seal; the operating system's.
    pub(crate) fn new(file: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(WORD_LEN).ok_or(io::ErrorKind::InvalidData)?;
        if !rustix::fs::fcntl_get_seals(file)?.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(invalid("the memory file is not sealed"));
        }
        let found = rustix::fs::fstat(file)?.st_size;
        if words == 0 || u64::try_from(found).ok() != u64::try_from(bytes).ok() {
            return Err(invalid("the memory file has another length"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or_else(|| invalid("mapped at address 0"))?;
        Ok(Self { base, words })
    }

    /// Every word of the file.
    pub(crate) fn words(&self) -> &[Word] {
        // SAFETY: `base` is page aligned and valid for `words` words as long as `self` lives: the
        // seals, checked before mapping, keep the file from shrinking below it. All bit patterns
        // are valid words, and all accesses here and in other processes are atomic.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; no borrow of it outlives `self`.
        let unmapped =
            unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.words * WORD_LEN) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped: {unmapped:?}");
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Makes the descriptor `target` stand for what `source` is.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn replace_descriptor(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the value lives only for the call and is never dropped, so the descriptor is closed
    // by nobody but its owner; `dup3` replaces what it stands for and keeps it open throughout.
    let mut borrowed = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target.as_raw_fd()) });
    rustix::io::dup3(source, &mut borrowed, rustix::io::DupFlags::CLOEXEC)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::atomic::Ordering;

    use rustix::fs::MemfdFlags;

    use super::*;

    fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
        let file =
            rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .unwrap();
        rustix::fs::ftruncate(&file, bytes).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn two_mappings_are_one_memory() {
        let file = memfd(8192, SealFlags::SHRINK | SealFlags::GROW);
        let one = Mapping::new(file.as_fd(), 1024).unwrap();
        let two = Mapping::new(file.as_fd(), 1024).unwrap();
        one.words()[1023].store(7, Ordering::Release);
        assert_eq!(two.words()[1023].load(Ordering::Acquire), 7);
        assert_eq!(two.words().len(), 1024);
    }

    #[test]
    fn other_lengths_and_unsealed_files_are_refused() {
        let sealed = SealFlags::SHRINK | SealFlags::GROW;
        for (bytes, seals, words) in [
            (4096, sealed, 1024),
            (8192, sealed, 512),
            (0, sealed, 0),
            (8192, SealFlags::empty(), 1024),
            (8192, SealFlags::GROW, 1024),
            (8192, sealed, usize::MAX),
        ] {
            let file = memfd(bytes, seals);
            let error = Mapping::new(file.as_fd(), words).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes} {seals:?} {words}");
        }
    }
}
