//! `dynfs select` and `dynfs unselect`.

use super::change;
use crate::cli;
use crate::error::CommandError;
use crate::invocation::{Invocation, packages, specs};
use crate::protocol::Edit;

/// Selects releases, all in one generation.
pub(super) fn run(run: &mut Invocation, arguments: &cli::Select) -> Result<(), CommandError> {
    let specs = specs(&arguments.specs)?;
    let providers = packages(&arguments.providers)?;
    change::run(run, &Edit::Select { specs, providers })
}

/// Selects packages no more.
pub(super) fn unselect(
    run: &mut Invocation,
    arguments: &cli::Unselect,
) -> Result<(), CommandError> {
    change::run(run, &Edit::Unselect { packages: packages(&arguments.packages)? })
}
