//! Where packages come from: each source is a small module that yields entries and metadata.

#![forbid(unsafe_code)]

pub mod directory;
pub mod elf;
