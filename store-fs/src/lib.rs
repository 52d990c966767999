//! Remembers and shows: blobs, objects and records on disk, and the file system in plain Rust.
//!
//! Two floors. The store ([`Store`] on a [`Disk`]) keeps immutable objects, release records and the
//! line of generations, and verifies whatever it reads. The file system ([`DynFs`]) answers a
//! kernel's questions from the store and a view; the module `fuse` alone names the FUSE library.
//! Nothing here knows the command line, the syntax of versions, or why a selection was made.
//!
//! Reading order: [`disk`], [`digest`], [`object`], [`store`], then [`memory`], [`slots`], [`fs`].

pub mod digest;
pub mod disk;
pub mod error;
pub mod fs;
pub mod fsck;
pub mod fuse;
pub mod fuzz;
pub mod memory;
pub mod object;
pub mod release_file;
pub mod slots;
pub mod store;
pub mod sync;
#[expect(
    unsafe_code,
    reason = "maps the memory file, replaces a descriptor; the one place that must"
)]
mod sys;
pub mod transfer;

pub use disk::{Disk, Loss, OsDisk, PowerCut, SimDisk};
pub use error::StoreError;
pub use fs::{
    Announcement, Attr, Damage, DirEntry, DynFs, Entry, FsError, Held, Ino, Kernel, Kind,
    RequestGuard, Shown, Statistics,
};
pub use fsck::{Finding, FsckOptions, FsckReport, Needed, fsck, fsck_disk};
pub use memory::{Blame, InFlight, InFlightRow, Memory, Operation, Suspicion};
pub use object::{Node, Row, Tree, TreeBuilder};
pub use release_file::{Received, ReleaseFile, Telling, Told};
pub use store::{Adding, Addition, BadFile, Emptied, Format, Prefix, Store, Unpublished, Writer};
