//! Decides: names, versions, the catalog, generations, [`plan()`] and [`View`].
//!
//! Everything here is a function of its arguments. This crate is `no_std`, so the compiler itself
//! keeps files, clocks, threads and the environment out. It never hashes, never prints, never asks
//! the time.
//!
//! Reading order: [`name`], [`version`], [`spec`], [`release`], [`catalog`], [`shared_map`],
//! [`generation`], [`mod@plan`], [`view`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod catalog;
pub mod generation;
pub mod hash;
pub mod history;
pub mod name;
pub mod plan;
pub mod release;
pub mod shared_map;
pub mod spec;
#[cfg(test)]
mod universe;
pub mod version;
pub mod view;

pub use catalog::Catalog;
pub use generation::{
    Action, Cause, Generation, GenerationNumber, Providers, RequestId, Selection, Selections,
    Timestamp, Why,
};
pub use hash::{BlobId, ObjectId};
pub use name::{
    Arch, Category, CommandName, FileName, NameError, PackageName, ProfileName, Soname, Variant,
};
pub use plan::{Change, Contested, Note, Plan, Refusal, Request, plan};
pub use release::{Need, Origin, Provides, Release, ReleaseId, Variants};
pub use shared_map::SharedMap;
pub use spec::{Pick, Spec, SpecError};
pub use version::{Version, VersionError, VersionPrefix, VersionRange};
pub use view::{Changed, Target, View, VirtualDir};
