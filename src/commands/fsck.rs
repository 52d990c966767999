//! `dynfs fsck`: the state of the store, each bad thing with its code.

use serde::Serialize;
use store_fs::fsck::fsck_disk;
use store_fs::{Finding, FsckOptions, FsckReport, OsDisk, StoreError};

use crate::cli;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::render;
use crate::report::printable;

#[derive(Serialize)]
struct Document<'a> {
    data: bool,
    #[serde(flatten)]
    report: &'a FsckReport,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Fsck) -> Result<(), CommandError> {
    let options = FsckOptions { data: arguments.data };
    let progress = run.report.progress("checking");
    // A store whose format record is damaged does not open, and is looked at all the same.
    let found = fsck_disk(OsDisk::open(&run.store)?, &host::arch(), options, &|done, total| {
        progress.step(done, total);
    });
    progress.finish();
    let found = found?;
    if run.report.wants_json() {
        let document = Document { data: options.data, report: &found };
        run.report.document(run.command, &document)?;
    } else {
        let mut text = String::new();
        for finding in &found.findings {
            text.push_str(&describe(finding));
        }
        run.report.data(&text)?;
        run.report.success(&summary(&found, options.data))?;
    }
    match found.findings.len() {
        0 => Ok(()),
        count => Err(CommandError::new(
            Kind::Integrity,
            format!("{} in the store", render::count(count as u64, "bad thing")),
        )
        .hint("what is named above cannot be trusted; the rest can be used")),
    }
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
