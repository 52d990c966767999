//! The last words: numbers, and how to go on or that everything is gone.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::super::cleanup::Room;
use super::super::screen::{self, Screen};
use super::super::stop::Stop;
use super::Story;

impl<W: Write> Story<'_, W> {
    /// Every number here was measured or counted in this run.
    pub(super) fn summary(&mut self) {
        let count = self.programs.count();
        let times: Vec<_> = self.swaps.iter().map(|(_, took)| *took).collect();
        let mut rows = vec![
            ("programs", format!("{count}, built once in {}", screen::duration(self.built))),
            ("rebuilt, rewritten or copied for a swap", "0".to_owned()),
            (
                "swaps",
                format!("{}, {} each, as typed and until visible", times.len(), range(&times)),
            ),
        ];
        if let Some(stay) = &self.stay {
            let swaps = times.len() - 1;
            let line = format!("{} still, after {swaps} swaps below it", stay.version);
            rows.push(("the program that kept running has", line));
        }
        if let Some(total) = self.requests {
            rows.push(("requests of a warm start", "0".to_owned()));
            rows.push(("requests of everything before", total.to_string()));
        }
        rows.push(("checked", format!("{} claims, all hold", self.screen.checks())));
        self.screen.heading("In numbers");
        self.screen.rows(&rows);
    }
}

/// The shortest and the longest.
fn range(times: &[Duration]) -> String {
    match (times.iter().min(), times.iter().max()) {
        (Some(least), Some(most)) => {
            format!("{} to {}", screen::duration(*least), screen::duration(*most))
        }
        _ => "none".to_owned(),
    }
}

/// Unmounts and deletes, and says so if the demo went well.
pub(super) fn clear<W: Write>(
    screen: &mut Screen<W>,
    room: Room,
    went_well: bool,
) -> Result<(), Stop> {
    let directory = room.directory().display().to_string();
    room.clear()?;
    if went_well {
        screen.heading("Unmounted and deleted; `dynfs demo --keep` leaves it for you to play with");
    } else {
        screen.note(&format!("(unmounted, and {directory} deleted)"));
    }
    Ok(())
}

/// For `--keep`.
pub(super) fn what_next<W: Write>(screen: &mut Screen<W>, room: &Room) {
    let directory = room.directory().display();
    let path =
        room.dynfs().program().parent().map_or_else(String::new, |p| p.display().to_string());
    screen.heading("It is still mounted. To go on:");
    for line in [
        format!("cd {directory}"),
        format!("export DYNFS_STORE={}", room.dynfs().store().display()),
        format!("export PATH={path}:$PATH"),
        "dynfs select xz@5.2 && programs/p01".to_owned(),
        "dynfs history".to_owned(),
        "dynfs status".to_owned(),
    ] {
        screen.command(&[line]);
    }
    screen.heading("To end it:");
    screen.command(&[the_end(room.directory())]);
}

/// What ends it. A store is write-protected, and without `-f` a user is asked for every file.
fn the_end(directory: &Path) -> String {
    format!("cd / && dynfs umount && rm -rf {}", directory.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_at_the_end() {
        assert_eq!(the_end(Path::new("/tmp/x")), "cd / && dynfs umount && rm -rf /tmp/x");
    }

    #[test]
    fn a_range_is_from_the_shortest_to_the_longest() {
        let times = [7, 3, 12].map(Duration::from_millis);
        assert_eq!(range(&times), "3.0 ms to 12.0 ms");
        assert_eq!(range(&[]), "none");
    }
}
