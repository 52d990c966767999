//! Every input that a fuzzer found worth keeping, through the function that it was found for: what
//! it taught is checked also where no fuzzer runs. Never looks for new ones: `fuzz/run` does.

use std::fs;
use std::path::{Path, PathBuf};

/// Most bytes and files of all inputs together.
const BYTES_MAX: usize = 1024 * 1024;
const FILES_MAX: usize = 900;

type Entry = fn(&[u8]) -> bool;

const TARGETS: [(&str, Entry); 9] = [
    ("format", store_fs::fuzz::format),
    ("generation", store_fs::fuzz::generation),
    ("index", store_fs::fuzz::index),
    ("object", store_fs::fuzz::object),
    ("outboard", store_fs::fuzz::outboard),
    ("protocol", dynfs::fuzz::protocol),
    ("release", store_fs::fuzz::release),
    ("release_file", store_fs::fuzz::release_file),
    ("spec", dynfs::fuzz::spec),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("listed").file_name().into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// A panic names the input by what is printed before it.
#[test]
fn every_input_of_the_corpus() {
    let (mut files, mut bytes) = (0, 0);
    for (target, entry) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let inputs = names(&folder);
        let mut understood = 0;
        for name in &inputs {
            println!("fuzz/corpus/{target}/{name}");
            let input = fs::read(folder.join(name)).expect("it was listed");
            bytes += input.len();
            understood += usize::from(entry(&input));
        }
        println!("{target}: {understood} of {} inputs are understood", inputs.len());
        // Of refusals there are many kinds, each with an input of its own.
        assert!(understood > 0, "no input of {target} is understood");
        files += inputs.len();
    }
    assert!(files <= FILES_MAX && bytes <= BYTES_MAX, "{files} files with {bytes} bytes");
}

/// No corpus is left behind, and no target is without a function here.
#[test]
fn every_target_has_a_corpus_and_a_place_here() {
    let targets: Vec<&str> = TARGETS.iter().map(|(target, _)| *target).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let sources = targets.iter().map(|target| format!("{target}.rs"));
    assert_eq!(names(&fuzz().join("fuzz_targets")), sources.collect::<Vec<_>>());
    let script = fs::read_to_string(fuzz().join("run")).expect("UTF-8");
    let listed = |line: &str| line.strip_prefix("all=(")?.strip_suffix(')').map(str::to_owned);
    let listed = script.lines().find_map(listed).expect("a list in fuzz/run");
    let mut listed: Vec<&str> = listed.split(' ').collect();
    listed.sort_unstable();
    assert_eq!(listed, targets, "fuzz/run knows every target");
}
