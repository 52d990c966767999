//! `dynfs which`: from a path below the mount to package, release, object and blob.
//!
//! Computed from the store and the text of the path. The mount itself is never looked at, so this
//! works when it hangs, and when there is none.

use std::path::{Path, PathBuf};

use resolver::{BlobId, ObjectId, PackageName};
use serde::Serialize;
use store_fs::{OsDisk, Store};

use crate::cli;
use crate::client;
use crate::engine::State;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::mountinfo;
use crate::render;
use crate::report::printable;
use crate::trail::{Found, What, follow};

#[derive(Serialize)]
struct Document<'a> {
    paths: &'a [Row],
}

#[derive(Serialize)]
struct Row {
    path: String,
    /// Where it leads below the mount, symbolic links followed.
    resolved: String,
    kind: &'static str,
    package: Option<PackageName>,
    release: Option<String>,
    object: Option<ObjectId>,
    inside: Option<String>,
    blob: Option<BlobId>,
    size: Option<u64>,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Which) -> Result<(), CommandError> {
    let store = run.open()?;
    let state = run.state(&store)?;
    let roots = roots(run, &store)?;
    let mut rows = Vec::new();
    let mut last_error = None;
    for path in &arguments.paths {
        match row(path, &roots, &store, &state) {
            Ok(row) => rows.push(row),
            // The others are answered all the same.
            Err(error) => {
                if let Some(earlier) = last_error.replace(error) {
                    run.report.error(&earlier);
                }
            }
        }
    }
    if run.report.wants_json() {
        run.report.document(run.command, &Document { paths: &rows })?;
    } else {
        let texts: Vec<String> = rows.iter().map(text).collect();
        run.report.data(&texts.join("\n"))?;
    }
    match last_error {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The directories that a path may lie below: the mount point first, then the prefix.
fn roots(run: &Invocation, store: &Store<OsDisk>) -> Result<Vec<PathBuf>, CommandError> {
    let mounts = host::mounts()?;
    let mut roots: Vec<PathBuf> = Vec::new();
    match mountinfo::mountpoint_of(&mounts, &run.store) {
        Some(mountpoint) => roots.push(mountpoint.to_owned()),
        // Perhaps in another mount namespace.
        None => roots.extend(client::status(&run.store)?.map(|status| status.live.mountpoint)),
    }
    let prefix = store.format().prefix.as_path().to_owned();
    if !roots.contains(&prefix) {
        roots.push(prefix);
    }
    Ok(roots)
}

fn row(
    path: &Path,
    roots: &[PathBuf],
    store: &Store<OsDisk>,
    state: &State,
) -> Result<Row, CommandError> {
    let whole = host::working_directory()?.join(path);
    let Some(below) = below(&whole, roots) else {
        let message = format!("{} is not below {}", path.display(), roots[0].display());
        return Err(CommandError::new(Kind::NotFound, message)
            .hint("dynfs status shows where the store is mounted"));
    };
    let found = follow(store, state, roots, &below)?.ok_or_else(|| {
        CommandError::new(Kind::NotFound, format!("there is no {}", path.display()))
            .hint("dynfs list shows what is selected")
    })?;
    Ok(describe(path, roots, found))
}

/// The components behind the first root that the path goes through, by text alone.
fn below(path: &Path, roots: &[PathBuf]) -> Option<Vec<Vec<u8>>> {
    use std::os::unix::ffi::OsStrExt;
    let mut walked = PathBuf::new();
    let mut rest = path.components();
    loop {
        if roots.contains(&walked) {
            return Some(rest.map(|part| part.as_os_str().as_bytes().to_vec()).collect());
        }
        match rest.next()? {
            std::path::Component::ParentDir => {
                walked.pop();
            }
            std::path::Component::CurDir => {}
            other => walked.push(other),
        }
    }
}

fn describe(path: &Path, roots: &[PathBuf], found: Found) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut row = Row {
        path: path.display().to_string(),
        resolved: match found.path.is_empty() {
            true => roots[0].display().to_string(),
            false => roots[0].join(text(&found.path)).display().to_string(),
        },
        kind: "directory",
        package: None,
        release: None,
        object: None,
        inside: None,
        blob: None,
        size: None,
    };
    let (object, release, inside, file) = match found.what {
        What::Virtual => return row,
        What::Outside(target) => {
            row.kind = "outside";
            row.resolved = text(&target);
            return row;
        }
        What::Object { object, release, inside, file } => (object, release, inside, file),
    };
    row.package = release.as_ref().map(|release| release.name.clone());
    row.release = release.map(|release| release.to_string());
    row.object = Some(object);
    row.inside = Some(text(&inside));
    if let Some((blob, size)) = file {
        row.kind = "file";
        (row.blob, row.size) = (Some(blob), Some(size));
    }
    row
}

fn text(row: &Row) -> String {
    let mut rows = vec![["path".to_owned(), printable(&row.path)]];
    let mut push = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| [name.to_owned(), printable(&value)]));
    };
    push("leads to", (row.resolved != row.path).then(|| row.resolved.clone()));
    push("kind", Some(row.kind.to_owned()));
    push("package", row.package.as_ref().map(ToString::to_string));
    push("release", row.release.clone());
    push("object", row.object.map(|object| object.to_string()));
    push("inside", row.inside.clone().filter(|inside| !inside.is_empty()));
    push("blob", row.blob.map(|blob| blob.to_string()));
    push("size", row.size.map(render::bytes));
    render::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_at_the_mount_by_text() {
        let roots = [PathBuf::from("/mnt/dyn"), PathBuf::from("/dyn")];
        for (path, expected) in [
            ("/dyn/lib/xz", Some(vec!["lib", "xz"])),
            ("/dyn", Some(vec![])),
            ("/mnt/dyn/bin/../so", Some(vec!["bin", "..", "so"])),
            ("/home/u/../../dyn/./bin", Some(vec!["bin"])),
            ("/mnt/./dyn/x", Some(vec!["x"])),
            ("/dynamic/x", None),
            ("/mnt", None),
            ("/", None),
        ] {
            let found = below(Path::new(path), &roots);
            let expected: Option<Vec<Vec<u8>>> =
                expected.map(|parts| parts.iter().map(|part| part.as_bytes().to_vec()).collect());
            assert_eq!(found, expected, "{path}");
        }
    }
}
