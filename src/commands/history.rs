//! `dynfs history`: every generation, the newest first, with who made it and how.

use resolver::{Generation, GenerationNumber};
use serde::Serialize;
use store_fs::StoreError;

use super::fsck::is_damage;
use crate::error::CommandError;
use crate::host;
use crate::invocation::{Invocation, named};
use crate::render;

#[derive(Serialize)]
struct Document {
    current: GenerationNumber,
    generations: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    number: GenerationNumber,
    parent: Option<GenerationNumber>,
    at: i64,
    uid: u32,
    user: String,
    action: resolver::Action,
    packages: usize,
}

impl From<Generation> for Row {
    fn from(generation: Generation) -> Self {
        Self {
            number: generation.number,
            parent: generation.parent,
            at: generation.at.0,
            uid: generation.cause.uid,
            user: host::user_name(generation.cause.uid),
            action: generation.cause.action,
            packages: generation.system.packages.len(),
        }
    }
}

pub(super) fn run(run: &mut Invocation) -> Result<(), CommandError> {
    let store = run.open()?;
    let numbers = store.generations()?;
    let current = numbers.last().copied().unwrap_or_default();
    let mut generations = Vec::new();
    let mut damaged: Vec<StoreError> = Vec::new();
    for number in numbers.into_iter().rev() {
        match store.generation(number) {
            Ok(generation) => generations.push(Row::from(generation)),
            Err(error) if is_damage(&error) => damaged.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    if run.report.wants_json() {
        run.report.document(run.command, &Document { current, generations })?;
    } else {
        let now = host::now();
        let rows: Vec<[String; 5]> = generations
            .iter()
            .map(|row| {
                [
                    if row.number == current { "@" } else { "o" }.to_owned(),
                    row.number.to_string(),
                    render::ago(resolver::Timestamp(row.at), now),
                    row.user.clone(),
                    render::action(&row.action),
                ]
            })
            .collect();
        run.report.data(&render::table(&rows))?;
        if rows.is_empty() && damaged.is_empty() {
            run.report.note("there is no generation yet");
            run.report.hint("dynfs select PACKAGE");
        }
    }
    named(&damaged)
}
