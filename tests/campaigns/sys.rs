//! The one place of the campaigns that needs `unsafe`: a mapping, which keeps pages in memory.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file that is open and mapped, with every page of it.
pub(crate) struct Mapping {
    address: *mut c_void,
    len: usize,
    _file: File,
}

impl Mapping {
    pub(crate) fn of(file: File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists,
        // and nobody reads through it.
        let address = unsafe { mmap(ptr::null_mut(), len, protection, flags, &file, 0)? };
        Ok(Self { address, len, _file: file })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `of`, with this length, and nobody has a reference into it.
        let unmapped = unsafe { munmap(self.address, self.len) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}
