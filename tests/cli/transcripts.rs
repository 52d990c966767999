//! Runs the transcripts.
//!
//! ```text
//! # a comment
//! % file path text          prepares something, see `Stage::prepare`
//! $ dynfs select xz@5.2     runs a command; 'quotes' keep words together; `< file` is its input
//! xz  none -> 5.2.5 ...     its standard output
//! ! note: ...               its standard error
//! [exit 3]                  its exit code, unless 0
//! ```

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::stage::Stage;

/// Makes a test of each transcript, and one that none was forgotten.
macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn no_transcript_is_forgotten() {
            let mut names: Vec<String> = fs::read_dir(directory())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

transcripts! {
    apply_a_file,
    bad_input,
    bad_sources,
    collecting,
    damaged_files,
    damaged_newest,
    damaged_releases,
    damaged_store,
    damaged_unselected,
    first_steps,
    release_files,
    removing,
    repair,
    several_packages,
    undo_and_redo,
    which_paths,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/transcripts")
}

fn check(name: &str) {
    let path = directory().join(format!("{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let found = replay(&expected);
    if std::env::var_os("DYNFS_BLESS").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    assert_eq!(found, expected, "{name}: what is printed differs from the transcript");
}

/// Runs every command of a transcript and writes it down anew.
fn replay(script: &str) -> String {
    let stage = Stage::new();
    let mut found = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(found, "{line}").unwrap();
        } else if let Some(preparation) = line.strip_prefix("% ") {
            writeln!(found, "{line}").unwrap();
            stage.prepare(preparation);
        } else if let Some(command) = line.strip_prefix("$ dynfs") {
            writeln!(found, "{line}").unwrap();
            found.push_str(&run(&stage, command));
        }
    }
    found
}

fn run(stage: &Stage, command: &str) -> String {
    let mut words = split(command);
    let input = words.iter().position(|word| word == "<").map(|at| {
        let input = words[at + 1].clone();
        words.truncate(at);
        input
    });
    let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = match input {
        Some(input) => stage.run_with_input(&arguments, &input),
        None => stage.run(&arguments),
    };
    let mut text = stage.stable(&String::from_utf8(output.stdout).unwrap());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("(no newline)\n");
    }
    let error = stage.stable(&String::from_utf8(output.stderr).unwrap());
    for line in error.lines() {
        writeln!(text, "! {line}").unwrap();
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => writeln!(text, "[exit {code}]").unwrap(),
        None => writeln!(text, "[{}]", output.status).unwrap(),
    }
    // Blank lines separate the steps of a transcript and cannot be told from a blank line that
    // was printed, so those are marked.
    text.split_inclusive('\n').map(|line| if line == "\n" { "~\n" } else { line }).collect()
}

/// Words at spaces; `'...'` keeps spaces, `\n`, `\e` and `N*x` (x repeated) are what they say.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.replace("\\n", "\n").replace("\\e", "\u{1b}")),
        }
    }
    words.into_iter().map(|word| repeat(&word).unwrap_or(word)).collect()
}

fn repeat(word: &str) -> Option<String> {
    let (count, text) = word.split_once('*')?;
    Some(text.repeat(count.parse().ok()?))
}
