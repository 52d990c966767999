//! Any bytes, as `fuzz::spec` takes them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dynfs_fuzz::count(dynfs::fuzz::spec(bytes)));
