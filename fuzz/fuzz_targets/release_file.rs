//! Any bytes, as `fuzz::release_file` takes them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dynfs_fuzz::count(store_fs::fuzz::release_file(bytes)));
