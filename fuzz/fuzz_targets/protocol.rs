//! Any bytes, as `fuzz::protocol` takes them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dynfs_fuzz::count(dynfs::fuzz::protocol(bytes)));
