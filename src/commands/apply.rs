//! `dynfs apply`: makes the system's selections equal to a file, as one generation.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::change;
use crate::apply_file;
use crate::cli;
use crate::error::{CommandError, Kind};
use crate::invocation::Invocation;
use crate::protocol::Edit;

/// Longest file, in bytes.
const FILE_LEN_MAX: u64 = 8 * 1024 * 1024;

pub(super) fn run(run: &mut Invocation, arguments: &cli::Apply) -> Result<(), CommandError> {
    let (specs, providers) = apply_file::read(&read(&arguments.file)?)?;
    change::run(run, &Edit::Apply { specs, providers })
}

fn read(path: &Path) -> Result<String, CommandError> {
    let mut text = String::new();
    let result = if path == Path::new("-") {
        io::stdin().take(FILE_LEN_MAX + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_string(&mut text))
    };
    match result {
        Ok(len) if len as u64 > FILE_LEN_MAX => Err(CommandError::usage(format!(
            "{} is longer than {FILE_LEN_MAX} bytes",
            path.display()
        ))),
        Ok(_) => Ok(text),
        Err(error) => {
            let failed = CommandError::io("reading", path, &error);
            Err(match error.kind() {
                io::ErrorKind::NotFound => CommandError { kind: Kind::NotFound, ..failed },
                io::ErrorKind::InvalidData => CommandError { kind: Kind::Usage, ..failed },
                _ => failed,
            }
            .hint("dynfs list --toml writes such a file"))
        }
    }
}
