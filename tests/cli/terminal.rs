//! What only a terminal sees: the progress bar. A terminal is made by `script` of util-linux.

use std::process::{Command, Output, Stdio};

use super::stage::Stage;

/// Erases the line.
const WIPE: &str = "\u{1b}[2K";

/// Runs a command on a terminal, with a bar after so many milliseconds; `None`, with the reason
/// printed, where there is no way to make a terminal.
fn on_terminal(test: &str, stage: &Stage, arguments: &[&str], after: &str) -> Option<String> {
    on_terminal_with(test, stage, arguments, after, "1")
}

/// The same with this value of `NO_COLOR`.
#[expect(clippy::print_stdout, reason = "SKIPPED is for who reads the output")]
fn on_terminal_with(
    test: &str,
    stage: &Stage,
    arguments: &[&str],
    after: &str,
    no_color: &str,
) -> Option<String> {
    let command = stage.command(arguments);
    let words: Vec<String> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null());
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("DYNFS_TEST_PROGRESS", after).env("TERM", "xterm").env("SHELL", "/bin/sh");
    script.env("NO_COLOR", no_color);
    match script.current_dir(stage.path("")).output() {
        Ok(Output { status, stdout, .. }) => {
            let text = String::from_utf8(stdout).unwrap();
            assert!(status.success(), "{text}");
            Some(text)
        }
        Err(error) => {
            println!("SKIPPED {test}: script cannot be run: {error}");
            None
        }
    }
}

/// What stays on a terminal: each line from where it was last wiped.
fn left(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.map(|line| line.rfind(WIPE).map_or(line, |at| &line[at + WIPE.len()..])).collect()
}

#[test]
fn a_bar_is_shown_when_it_takes_long_and_wiped_away() {
    const TEST: &str = "a_bar_is_shown_when_it_takes_long_and_wiped_away";
    let stage = Stage::new();
    stage.add_packages();
    let fsck = ["--color", "never", "fsck"];
    let Some(text) = on_terminal(TEST, &stage, &fsck, "0") else { return };
    assert!(text.contains("checking 1 of "), "{text:?}");
    let plain = stage.ok(&fsck).replace('\n', "\r\n");
    assert_eq!(left(&text), plain, "{text:?}");
    let add = ["--color", "never", "add", "xz-5.8.1", "--name", "b", "--version", "1"];
    let Some(text) = on_terminal(TEST, &stage, &add, "0") else { return };
    // Both files may have been read when the first one is counted.
    assert!(text.contains(" 1 of 2 files ["), "{text:?}");
    assert!(text.contains(" of 10 B, "), "{text:?}");
    assert!(left(&text).starts_with("b  1  lib/b   2 files, 10 B"), "{text:?}");
    assert!(!left(&text).contains("adding"), "{text:?}");
}

#[test]
fn a_bar_moves_inside_of_a_large_file() {
    const TEST: &str = "a_bar_moves_inside_of_a_large_file";
    let stage = Stage::new();
    stage.file("large/file", "", 0o644);
    let large = std::fs::File::options().write(true).open(stage.path("large/file")).unwrap();
    large.set_len(24 << 20).unwrap();
    let add = ["--color", "never", "add", "large", "--name", "large", "--version", "1"];
    let Some(text) = on_terminal(TEST, &stage, &add, "0") else { return };
    let drawn: Vec<&str> = text.split(" of 24.00 MiB, ").collect();
    let done: std::collections::BTreeSet<&str> =
        drawn[..drawn.len() - 1].iter().filter_map(|before| before.rsplit("] ").next()).collect();
    assert!(done.len() > 5, "{text:?}");
    assert!(left(&text).starts_with("large  1  app/large   1 file, 24.0 MiB"), "{text:?}");
}

#[test]
fn no_bar_is_shown_where_it_would_disturb() {
    const TEST: &str = "no_bar_is_shown_where_it_would_disturb";
    let stage = Stage::new();
    stage.add_packages();
    let plain = stage.ok(&["--color", "never", "fsck"]);
    for (arguments, after) in [
        // It does not take long.
        (["--color", "never", "fsck"].as_slice(), "3600000"),
        (&["--color", "never", "--quiet", "fsck"], "0"),
        (&["--color", "never", "--json", "fsck"], "0"),
        (&["--quiet", "-n", "add", "xz-5.8.1", "--name", "b", "--version", "1"], "0"),
    ] {
        let Some(text) = on_terminal(TEST, &stage, arguments, after) else { return };
        assert!(!text.contains("checking") && !text.contains("adding"), "{arguments:?}: {text:?}");
        assert!(!text.contains(WIPE), "{arguments:?}: {text:?}");
    }
    let mut piped = stage.command(&["fsck"]);
    let output = piped.env("DYNFS_TEST_PROGRESS", "0").output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), plain);
}

/// What `-v` says is coloured on a terminal or when asked for, and nowhere else.
#[test]
fn colours_where_they_are_wanted() {
    const TEST: &str = "colours_where_they_are_wanted";
    let stage = Stage::new();
    stage.add_packages();
    for (arguments, colored) in [
        (["-v", "list"].as_slice(), false),
        (&["-v", "--color", "never", "list"], false),
        (&["-v", "--color", "always", "list"], true),
    ] {
        let output = stage.command(arguments).env_remove("NO_COLOR").output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains(" command["), "{arguments:?}: {words:?}");
        assert_eq!(words.contains('\u{1b}'), colored, "{arguments:?}: {words:?}");
    }
    for (no_color, colored) in [("", true), ("1", false)] {
        let list = ["-v", "list"];
        let Some(text) = on_terminal_with(TEST, &stage, &list, "3600000", no_color) else { return };
        let said = text.lines().find(|line| line.contains(" command[")).unwrap();
        assert_eq!(said.contains('\u{1b}'), colored, "{said:?}");
    }
}
