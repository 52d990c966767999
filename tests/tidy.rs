//! The style law as a test: heads of files, lengths of files and lines, plain text, and who may
//! name what. What clippy checks (lengths of functions, missing documentation) is not here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of code in a file, tests at its end not counted.
const CODE_LINES_MAX: usize = 600;
/// Most characters in a line.
const LINE_LEN_MAX: usize = 100;
/// Words that say nothing about what a type is.
const EMPTY_WORDS: [&str; 7] = ["Manager", "Helper", "Util", "Info", "Data", "Context", "Service"];

/// Every Rust file of the workspace, with its path from the top.
fn sources() -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let folders = ["src", "tests", "benches", "fuzz", "resolver", "store-fs", "tools"];
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| top.join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path.strip_prefix(top).expect("below").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found.sort();
    found
}

/// Fails with every place at once.
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_file_says_what_it_is() {
    let missing = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! ") && !text.starts_with("#![cfg"))
        .map(|(path, _)| path.display().to_string());
    none("files without a head", missing.collect());
}

#[test]
fn files_and_lines_are_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > CODE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_LEN_MAX {
                long.push(format!("{}:{}: a long line", path.display(), number + 1));
            }
        }
    }
    none("too long", long);
}

/// A promise without a test is a wish.
#[test]
fn every_promise_names_tests_that_exist() {
    let sources = sources();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = |name: &str| {
        // Also one that is written for every kind of disk, and a campaign.
        let functions =
            [format!("fn {name}("), format!("fn {name}<"), format!("    name: \"{name}\",")];
        let transcript = top.join(format!("tests/cli/transcripts/{name}.txt"));
        transcript.is_file()
            || sources
                .iter()
                .any(|(_, text)| functions.iter().any(|function| text.contains(function)))
    };
    let text = fs::read_to_string(top.join("docs/SEMANTICS.md")).expect("UTF-8");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |"));
    let mut broken = Vec::new();
    let mut promises = 0;
    for row in rows {
        promises += 1;
        let column = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let quoted: Vec<&str> = column.split('`').skip(1).step_by(2).collect();
        let tests: Vec<&str> = quoted.into_iter().filter(|name| !name.contains('.')).collect();
        if tests.is_empty() || !tests.iter().all(|name| exists(name)) {
            broken.push(row.to_owned());
        }
    }
    assert!(promises > 20, "the promises were not found");
    none("promises without tests", broken);
}

/// What scripts see of `fsck` is written down where it is implemented and where users look.
#[test]
fn every_code_of_fsck_is_documented() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(top.join(path)).expect("UTF-8");
    let rows = |text: &str, prefix: &str| {
        let rows = text.lines().filter_map(|line| line.strip_prefix(prefix)?.split(" | ").next());
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    };
    let head: BTreeSet<String> = rows(&read("store-fs/src/fsck.rs"), "//! | ");
    let page: BTreeSet<String> = rows(&read("docs/FSCK.md"), "| ");
    let implementation: String = ["", "/records", "/content"]
        .iter()
        .map(|f| read(&format!("store-fs/src/fsck{f}.rs")))
        .collect();
    let unknown = |code: &&String| !implementation.contains(&format!("\"{code}\""));
    assert!(head.len() > 12 && head == page, "{head:?} {page:?}");
    none("codes that nothing has", head.iter().filter(unknown).cloned().collect());
}

#[test]
fn sources_are_plain_ascii() {
    let mut other = Vec::new();
    for (path, text) in sources() {
        if let Some(line) = text.lines().position(|line| !line.is_ascii()) {
            other.push(format!("{}:{}", path.display(), line + 1));
        }
    }
    none("not ASCII", other);
}

/// The library that speaks to the kernel is named in one module, the database in one file.
#[test]
fn libraries_stay_where_they_belong() {
    let mut strays = Vec::new();
    for (path, text) in sources() {
        let place = path.display().to_string();
        let uses = |name: &str| {
            text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && line.contains(&format!("{name}::"))
            })
        };
        if uses("fuser") && !place.starts_with("store-fs/src/fuse") && place != "tests/tidy.rs" {
            strays.push(format!("{place} names fuser"));
        }
        if uses("redb")
            && !place.starts_with("store-fs/src/store/index")
            && place != "tests/tidy.rs"
        {
            strays.push(format!("{place} names redb"));
        }
    }
    none("strays", strays);
}

#[test]
fn unsafe_has_one_place_in_a_crate() {
    let found = sources().into_iter().filter(|(path, text)| {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses =
            code.into_iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        uses && !path.ends_with("sys.rs") && !path.ends_with("tidy.rs")
    });
    none("unsafe outside of sys.rs", found.map(|(path, _)| path.display().to_string()).collect());
}

#[test]
fn types_have_names_that_say_something() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for line in text.lines().map(str::trim_start) {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            let line = line.trim_start_matches("pub ");
            let Some(rest) =
                ["struct ", "enum ", "trait "].iter().find_map(|w| line.strip_prefix(w))
            else {
                continue;
            };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if EMPTY_WORDS.iter().any(|word| name.ends_with(word)) {
                found.push(format!("{}: {name}", path.display()));
            }
        }
    }
    none("empty names", found);
}

/// What tests say of themselves is found in their output, also behind what the harness puts in
/// front of it when it has one thread.
#[test]
fn what_tests_say_is_found_in_their_output() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    let script = fs::read_to_string(script).expect("UTF-8");
    let said = |line: &str| Some(line.strip_prefix("said='")?.strip_suffix('\'')?.to_owned());
    let said = script.lines().find_map(said).expect("a pattern in .ci/run");
    assert!(script.contains(r#"grep -aqE "${said}MOUNTED ""#), "the pattern is used");
    let scratch = tempfile::tempdir().expect("a place");
    let log = scratch.path().join("log");
    for (line, found) in [
        ("MOUNTED a_select", true),
        ("test swap::a_select ... MOUNTED a_select", true),
        ("test swap::a_select ... ok", false),
        ("no test MOUNTED anything", false),
        ("test swap::a_select ... it was not MOUNTED at all", false),
    ] {
        fs::write(&log, format!("running 1 test\n{line}\nok\n")).expect("ours");
        let mut grep = std::process::Command::new("grep");
        grep.args(["-aqE", &format!("{said}MOUNTED ")]).arg(&log);
        assert_eq!(grep.status().expect("it starts").success(), found, "{line}");
    }
}
