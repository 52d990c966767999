//! `dynfs fsck`: the state of the store, each bad thing with its code, and its repair.

use serde::Serialize;
use store_fs::fsck::fsck_disk;
use store_fs::{Finding, FsckOptions, FsckReport, OsDisk, StoreError};

use self::repair::Repaired;
use crate::cli;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::render;
use crate::report::printable;

mod again;
mod repair;
mod source;

#[derive(Serialize)]
struct Document<'a> {
    data: bool,
    #[serde(flatten)]
    report: &'a FsckReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: &'a Option<Repaired>,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Fsck) -> Result<(), CommandError> {
    // Damage that is not looked for cannot be repaired.
    let options = FsckOptions { data: arguments.data || arguments.repair };
    let mut found = look(run, options)?;
    let mut repaired = None;
    if arguments.repair {
        let done = repair::repair(run, arguments, &found)?;
        if done.has_changed() {
            // What was brought was verified on its way: that it is there is all there is to see.
            let data = done.is_unsure;
            found = FsckReport { bytes: found.bytes, ..look(run, FsckOptions { data })? };
        }
        repaired = Some(done);
    }
    if run.report.wants_json() {
        let document = Document { data: options.data, report: &found, repair: &repaired };
        run.report.document(run.command, &document)?;
    } else {
        let mut text = repaired.as_ref().map(repair::describe).unwrap_or_default();
        for finding in &found.findings {
            text.push_str(&describe(finding));
        }
        run.report.data(&text)?;
        run.report.success(&summary(&found, options.data))?;
    }
    let failures = repaired.map(|done| done.failures).unwrap_or_default();
    match found.findings.len() {
        0 if failures.is_empty() => Ok(()),
        0 => {
            let mut error =
                CommandError::new(Kind::Failed, "the store is good, and not all is well");
            error.causes = failures;
            Err(error.hint("dynfs status"))
        }
        count => Err(CommandError::new(
            Kind::Integrity,
            format!("{} in the store", render::count(count as u64, "bad thing")),
        )
        .hint("what is named above cannot be trusted; the rest can be used")),
    }
}

/// Looks at the store. One whose format record is damaged does not open, and is looked at all the
/// same.
fn look(run: &Invocation, options: FsckOptions) -> Result<FsckReport, CommandError> {
    let progress = run.report.progress("checking");
    let found = fsck_disk(OsDisk::open(&run.store)?, &host::arch(), options, &|done, total| {
        progress.step(done, total);
    });
    progress.finish();
    let mut found = found?;
    again::say_how(run, &mut found);
    Ok(found)
}

fn describe(finding: &Finding) -> String {
    let mut text = format!(
        "{}  {}  {}\n",
        finding.code,
        printable(&finding.path.display().to_string()),
        printable(&finding.message)
    );
    if !finding.releases.is_empty() {
        text.push_str(&format!("  touches {}\n", printable(&finding.releases.join(", "))));
    }
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("  hint: {}\n", printable(hint)));
    }
    text
}

fn summary(found: &FsckReport, data: bool) -> String {
    let hashed = match data {
        true => format!(", {} hashed", render::bytes(found.bytes)),
        false => "; --data hashes every file again".to_owned(),
    };
    format!(
        "{}, {}, {}, {} looked at{hashed}",
        render::count(found.generations, "generation"),
        render::count(found.releases, "release"),
        render::count(found.objects, "object"),
        render::count(found.blobs, "blob"),
    )
}

/// Whether an error says that a file of the store is not what it must be.
pub(super) fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged { .. } | StoreError::NoObject { .. })
}
