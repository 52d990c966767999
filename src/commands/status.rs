//! `dynfs status`: mount, generation, objects, processes, request counters.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client;
use crate::engine::State;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::protocol::{Damaged, LiveStatus};
use crate::render;
use crate::report::printable;
use crate::{host, mountinfo};

#[derive(Serialize)]
struct Document {
    store: String,
    prefix: String,
    generation: u64,
    /// The mount point, when a daemon serves the store.
    mount: Option<String>,
    /// A mount of the store that nobody serves any more.
    dead: Option<String>,
    pids: Pids,
    /// Servers that the keeper has replaced.
    restarts: u64,
    /// What the kernel was last told of completely.
    announced: Option<u64>,
    requests: BTreeMap<String, u64>,
    generations: usize,
    packages: usize,
    /// Nothing when the newest generation is damaged.
    selected: Option<usize>,
    releases: usize,
    objects: usize,
    notes: Vec<String>,
    /// What programs have met and cannot be served.
    damaged: Vec<Damaged>,
}

#[derive(Default, Serialize)]
struct Pids {
    keeper: Option<u32>,
    server: Option<u32>,
}

pub(super) fn run(run: &mut Invocation) -> Result<(), CommandError> {
    let store = run.open()?;
    let daemon = client::status(&run.store)?;
    let state = run.state(&store)?;
    let mut document = counts(&state);
    document.store = run.store.display().to_string();
    document.prefix = store.format().prefix.as_path().display().to_string();
    document.notes.extend(store.index_note());
    let live = daemon.map(|daemon| {
        document.generation = daemon.generation.0;
        daemon.live
    });
    let mounts = host::mounts()?;
    let place = mountinfo::mountpoint_of(&mounts, &run.store);
    match (&live, place) {
        (Some(live), place) => {
            fill(&mut document, live);
            // Detached, and still in use: the daemon lives on without a place of its own.
            document.mount = document.mount.filter(|_| place.is_some());
        }
        (None, place) => document.dead = place.map(|place| place.display().to_string()),
    }
    if run.report.wants_json() {
        run.report.document(run.command, &document)?;
    } else {
        run.report.data(&text(&document, &state, live.as_ref()))?;
        for note in &document.notes {
            run.report.note(note);
        }
        if !document.damaged.is_empty() {
            run.report.hint("dynfs fsck --repair --from STORE|FILE");
        }
        if live.is_none() && state.whole().is_ok() {
            run.report.hint("dynfs mount");
        }
    }
    run.complain(&state)
}

/// What the files say.
fn counts(state: &State) -> Document {
    let releases = || state.catalog.packages().flat_map(|(_, releases)| releases);
    Document {
        store: String::new(),
        prefix: String::new(),
        generation: state.current.number.0,
        mount: None,
        dead: None,
        pids: Pids::default(),
        restarts: 0,
        announced: None,
        requests: BTreeMap::new(),
        generations: state.generations.len(),
        packages: state.catalog.packages().count(),
        selected: state.whole().is_ok().then_some(state.current.system.packages.len()),
        releases: releases().count(),
        objects: releases().map(|release| release.object).collect::<BTreeSet<_>>().len(),
        notes: Vec::new(),
        damaged: Vec::new(),
    }
}

/// What the daemon says.
fn fill(document: &mut Document, live: &LiveStatus) {
    document.mount = Some(live.mountpoint.display().to_string());
    document.pids = Pids { keeper: live.keeper_pid, server: Some(live.server_pid) };
    document.restarts = live.server_restarts;
    document.announced = Some(live.announced.0);
    document.requests = live.requests.iter().cloned().collect();
    document.notes.extend(live.notes.iter().cloned());
    document.damaged.clone_from(&live.damaged);
}

fn text(document: &Document, state: &State, live: Option<&LiveStatus>) -> String {
    let now = host::now();
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row(
        "mount",
        match live {
            Some(live) if document.mount.is_none() => {
                format!("detached from {}, and still in use", live.mountpoint.display())
            }
            Some(live) => {
                let since = render::ago(resolver::Timestamp(live.mounted_at), now);
                format!("{}, mounted {since}", live.mountpoint.display())
            }
            None => match &document.dead {
                Some(place) => format!("{place}, dead: whoever looks gets an error"),
                None => "not mounted: no daemon serves this store".to_owned(),
            },
        },
    );
    row("store", format!("{}, prefix {}", document.store, document.prefix));
    row(
        "generation",
        match state.generations.is_empty() {
            true => "0: nothing was ever selected".to_owned(),
            false if state.whole().is_err() => format!("{}, damaged", document.generation),
            false => format!(
                "{}, {}, {} by {}",
                document.generation,
                render::ago(state.current.at, now),
                render::action(&state.current.cause.action),
                host::user_name(state.current.cause.uid),
            ),
        },
    );
    row(
        "holds",
        format!(
            "{}, {} of them selected, {}, {}",
            render::count(document.packages as u64, "package"),
            document.selected.map_or_else(|| "?".to_owned(), |count| count.to_string()),
            render::count(document.releases as u64, "release"),
            render::count(document.objects as u64, "object"),
        ),
    );
    if let Some(live) = live {
        let replaced = match live.server_restarts {
            0 => String::new(),
            times => format!(", replaced {}", render::count(times, "time")),
        };
        let keeper =
            live.keeper_pid.map_or_else(|| "being started anew".to_owned(), |pid| pid.to_string());
        row("processes", format!("keeper {keeper}, server {}{replaced}", live.server_pid));
        let busy = live.requests.iter().filter(|(_, count)| *count > 0);
        let requests: Vec<String> = busy.map(|(name, count)| format!("{name} {count}")).collect();
        row("requests", if requests.is_empty() { "none".to_owned() } else { requests.join(", ") });
    }
    for Damaged { paths, reason, .. } in &document.damaged {
        row("damaged", printable(&format!("{}: {reason}", paths.join(" = "))));
    }
    render::table(&rows)
}
