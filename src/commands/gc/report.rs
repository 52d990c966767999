//! What a collection did, or would do: the numbers first, then why the rest stays.

use std::collections::BTreeSet;

use resolver::{GenerationNumber, ObjectId, ReleaseId, Timestamp};
use serde::Serialize;

use super::users::Users;
use crate::engine::Forgettable;
use crate::error::CommandError;
use crate::host;
use crate::invocation::Invocation;
use crate::protocol::Deleted;
use crate::render;
use crate::report::printable;
use crate::usage::Process;

/// Processes that are named in one line.
const PROCESSES_SHOWN: usize = 3;

/// The numbers, and the reasons.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) generations: Vec<GenerationNumber>,
    pub(super) releases: Vec<ReleaseId>,
    pub(super) deleted: Deleted,
    pub(super) trashed: Vec<ObjectId>,
    /// Bytes that emptying the trash will free.
    pub(super) waiting: u64,
    /// Objects that nothing but processes need.
    pub(super) held: Vec<(ObjectId, BTreeSet<Process>)>,
    used_generations: Vec<(GenerationNumber, BTreeSet<Process>)>,
    used_releases: Vec<(ReleaseId, BTreeSet<Process>)>,
    young: Vec<(ReleaseId, Timestamp)>,
    notes: BTreeSet<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    generations: &'a [GenerationNumber],
    releases: &'a [ReleaseId],
    deleted: Freed,
    trashed: Trashed<'a>,
    stays: Vec<Stay>,
    notes: &'a BTreeSet<String>,
}

#[derive(Serialize)]
struct Freed {
    objects: u64,
    blobs: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Trashed<'a> {
    objects: &'a [ObjectId],
    /// What the next collection will free unless something of it is asked for.
    bytes: u64,
}

/// Something that stays although no kept generation needs it.
#[derive(Serialize)]
struct Stay {
    kind: &'static str,
    name: String,
    reason: &'static str,
    processes: Vec<Process>,
    /// Seconds since 1970.
    at: Option<i64>,
}

impl Stay {
    fn used(kind: &'static str, name: String, processes: &BTreeSet<Process>) -> Self {
        let processes = processes.iter().cloned().collect();
        Self { kind, name, reason: "in use", processes, at: None }
    }

    fn line(&self, now: Timestamp) -> [String; 3] {
        let why = match self.at {
            Some(at) => format!("added {}", render::ago(Timestamp(at), now)),
            None => {
                let shown = self.processes.iter().take(PROCESSES_SHOWN);
                let mut words: Vec<String> = shown
                    .map(|process| format!("{} ({})", printable(&process.name), process.pid))
                    .collect();
                if self.processes.len() > PROCESSES_SHOWN {
                    words.push(format!("{} more", self.processes.len() - PROCESSES_SHOWN));
                }
                format!("in use by {}", words.join(", "))
            }
        };
        [self.kind.to_owned(), self.name.clone(), format!("stays: {why}")]
    }
}

impl Outcome {
    /// What stays is known beforehand.
    pub(super) fn of(plan: &Forgettable, users: &Users) -> Self {
        let generations = plan.used_generations.iter();
        let releases = plan.used_releases.iter();
        let used = |release: &resolver::Release| users.of_release(&release.id, &release.object);
        Self {
            used_generations: generations.map(|n| (*n, users.of_generation(*n))).collect(),
            used_releases: releases.map(|release| (release.id.clone(), used(release))).collect(),
            young: plan.young_releases.iter().map(|(one, at)| (one.id.clone(), *at)).collect(),
            notes: users.notes.clone(),
            ..Self::default()
        }
    }

    /// Says it.
    pub(super) fn report(&self, run: &mut Invocation) -> Result<(), CommandError> {
        if run.report.wants_json() {
            return self.document(run);
        }
        run.report.success(&self.numbers(run.dry_run))?;
        let now = host::now();
        let rows: Vec<[String; 3]> = self.stays().iter().map(|stay| stay.line(now)).collect();
        let table = render::table(&rows);
        if !rows.is_empty() {
            run.report.success(table.trim_end())?;
        }
        for note in &self.notes {
            run.report.note(note);
        }
        Ok(())
    }

    fn document(&self, run: &mut Invocation) -> Result<(), CommandError> {
        let Deleted { objects, blobs, bytes, .. } = self.deleted;
        let document = Document {
            dry_run: run.dry_run,
            generations: &self.generations,
            releases: &self.releases,
            deleted: Freed { objects, blobs, bytes },
            trashed: Trashed { objects: &self.trashed, bytes: self.waiting },
            stays: self.stays(),
            notes: &self.notes,
        };
        run.report.document(run.command, &document)
    }

    fn numbers(&self, dry_run: bool) -> String {
        let (remove, delete, put) = match dry_run {
            true => ("would remove", "would delete", "would put"),
            false => ("removed", "deleted", "put"),
        };
        let Deleted { objects, blobs, bytes, .. } = self.deleted;
        let mut text = format!(
            "{remove} {}, {}; {delete} {}, {}, {}",
            render::count(self.generations.len() as u64, "generation"),
            render::count(self.releases.len() as u64, "release"),
            render::count(objects, "object"),
            render::count(blobs, "blob"),
            render::bytes(bytes),
        );
        if !self.trashed.is_empty() {
            text.push_str(&format!(
                "\n{put} {}, {} into the trash: the next gc deletes what nobody has asked for",
                render::count(self.trashed.len() as u64, "object"),
                render::bytes(self.waiting),
            ));
        }
        text
    }

    fn stays(&self) -> Vec<Stay> {
        let generations = self.used_generations.iter();
        let releases = self.used_releases.iter();
        let mut stays: Vec<Stay> = generations
            .map(|(number, who)| Stay::used("generation", number.to_string(), who))
            .chain(releases.map(|(id, who)| Stay::used("release", id.to_string(), who)))
            .collect();
        stays.extend(self.young.iter().map(|(id, at)| Stay {
            kind: "release",
            name: id.to_string(),
            reason: "young",
            processes: Vec::new(),
            at: Some(at.0),
        }));
        let held = self.held.iter();
        stays.extend(held.map(|(id, who)| Stay::used("object", render::short(id), who)));
        stays
    }
}
