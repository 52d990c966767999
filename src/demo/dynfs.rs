//! The `dynfs` program, used as anybody uses it: arguments in, text and exit code out.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{self, Ended};
use super::requests::Requests;
use super::screen::Screen;
use super::stop::Stop;

/// The program, for one store.
#[derive(Clone, Debug)]
pub(super) struct Dynfs {
    program: PathBuf,
    store: PathBuf,
}

impl Dynfs {
    pub(super) fn new(program: PathBuf, store: PathBuf) -> Self {
        Self { program, store }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Runs a command in front of the user.
    pub(super) fn show<W: Write>(
        &self,
        screen: &mut Screen<W>,
        arguments: &[&str],
    ) -> Result<Ended, Stop> {
        let mut command = self.command(arguments);
        screen.command(&words(arguments));
        let ended = process::run(&mut command, None)?;
        screen.output(&ended.text());
        if !ended.status.success() {
            return Err(self.failed(arguments, &ended));
        }
        screen.output(&String::from_utf8_lossy(&ended.stderr));
        Ok(ended)
    }

    /// Runs a command unseen.
    pub(super) fn quietly(&self, arguments: &[&str]) -> Result<Ended, Stop> {
        let ended = process::run(&mut self.command(arguments), None)?;
        if ended.status.success() { Ok(ended) } else { Err(self.failed(arguments, &ended)) }
    }

    /// The document that `dynfs COMMAND --json` prints.
    pub(super) fn document(&self, command: &str) -> Result<Value, Stop> {
        let ended = self.quietly(&[command, "--json"])?;
        let document: Option<Value> = serde_json::from_slice(&ended.stdout).ok();
        let schema = format!("dynfs.{command}/1");
        document
            .filter(|document| document["schema"] == schema.as_str())
            .ok_or_else(|| unreadable(command, &ended.text()))
    }

    /// The request counters of the mount.
    pub(super) fn requests(&self) -> Result<Requests, Stop> {
        let status = self.document("status")?;
        Requests::read(&status).ok_or_else(|| unreadable("status", &status.to_string()))
    }

    /// The releases in the store, as a user writes them, and whether each is selected.
    pub(super) fn releases(&self) -> Result<Vec<(String, bool)>, Stop> {
        let list = self.document("list")?;
        releases(&list).ok_or_else(|| unreadable("list", &list.to_string()))
    }

    /// Commands are never disturbed: half a mount is worse than a moment's wait. In a group of
    /// its own a command does not get the terminal's interrupt either.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("DYNFS_STORE", &self.store).process_group(0);
        command
    }

    fn failed(&self, arguments: &[&str], ended: &Ended) -> Stop {
        let mut named = Command::new("dynfs");
        process::failed(named.args(arguments.iter().map(OsStr::new)), ended)
    }
}

fn unreadable(command: &str, said: &str) -> Stop {
    Stop::Unreadable { command: format!("dynfs {command} --json"), said: said.trim().to_owned() }
}

/// A command of dynfs as it is typed.
pub(super) fn words(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("dynfs");
    process::words(command.args(arguments))
}

fn releases(list: &Value) -> Option<Vec<(String, bool)>> {
    list.get("releases")?
        .as_array()?
        .iter()
        .map(|release| {
            let mut name =
                format!("{}@{}", release["package"].as_str()?, release["version"].as_str()?);
            for variant in release["variants"].as_array()? {
                name.push(',');
                name.push_str(variant.as_str()?);
            }
            Some((name, release["selected"].as_bool()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn releases_are_read_as_they_are_typed() {
        let list = json!({"schema": "dynfs.list/1", "releases": [
            {"package": "xz", "version": "5.2.5", "variants": [], "object": "a", "selected": true},
            {"package": "xz", "version": "5.8.4", "variants": ["debug"], "selected": false},
        ]});
        assert_eq!(
            releases(&list),
            Some(vec![("xz@5.2.5".into(), true), ("xz@5.8.4,debug".into(), false)])
        );
        for bad in [json!({}), json!({"releases": [{"package": "xz"}]}), json!({"releases": 1})] {
            assert_eq!(releases(&bad), None, "{bad}");
        }
    }

    #[test]
    fn what_another_program_says_is_not_taken_for_a_document() {
        let dynfs = Dynfs { program: "/bin/echo".into(), store: "/nowhere".into() };
        let stop = dynfs.document("status").expect_err("echo writes no JSON");
        assert!(matches!(stop, Stop::Unreadable { .. }), "{stop}");
    }

    #[test]
    fn a_failed_command_is_named_as_it_is_typed() {
        let dynfs = Dynfs { program: "/bin/false".into(), store: "/nowhere".into() };
        let stop = dynfs.quietly(&["select", "xz@5.2"]).expect_err("false fails");
        assert!(stop.to_string().starts_with("`dynfs select xz@5.2` failed"), "{stop}");
    }
}
