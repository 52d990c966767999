//! `dynfs umount`: unmounts the store and ends its daemon.

use serde::Serialize;

use crate::cli;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::mount;

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    mountpoint: Option<String>,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Umount) -> Result<(), CommandError> {
    let mountpoint = match run.dry_run {
        true => mount::rehearse_umount(&run.store)?,
        false => mount::umount(&run.store, arguments.lazy)?,
    };
    if run.report.wants_json() {
        let mountpoint = Some(mountpoint.display().to_string());
        return run.report.document(run.command, &Document { dry_run: run.dry_run, mountpoint });
    }
    let verb = if run.dry_run { "would unmount" } else { "unmounted" };
    run.report.success(&format!("{verb} {}", mountpoint.display()))
}
