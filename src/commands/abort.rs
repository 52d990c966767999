//! `dynfs abort`: the last resort for a mount that hangs. Never looks into the mount.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;

use crate::error::{CommandError, Kind};
use crate::invocation::Invocation;
use crate::{host, mount};

/// What it costs.
const COST: &str = "every program that uses the mount gets errors from now on, and must be started \
                    again; dynfs mount begins anew";

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    mountpoint: String,
}

pub(super) fn run(run: &mut Invocation) -> Result<(), CommandError> {
    let mountpoint = mount::mountpoint(&run.store)?;
    let place = mountpoint.display().to_string();
    if run.dry_run {
        return done(run, &mountpoint, &format!("would abort {place}: {COST}"));
    }
    let asked = || host::agrees(&format!("abort {place}: {COST}"));
    let agreed = run.yes || std::io::stdin().is_terminal() && asked();
    if !agreed {
        return Err(CommandError::new(Kind::Refused, format!("{place} is not aborted: {COST}"))
            .hint("dynfs -y abort"));
    }
    mount::abort(&run.store, &mountpoint)?;
    done(run, &mountpoint, &format!("aborted {place}: {COST}"))
}

fn done(run: &mut Invocation, mountpoint: &Path, line: &str) -> Result<(), CommandError> {
    if run.report.wants_json() {
        let mountpoint = mountpoint.display().to_string();
        return run.report.document(run.command, &Document { dry_run: run.dry_run, mountpoint });
    }
    run.report.success(line)
}
