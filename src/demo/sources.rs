//! The upstream sources of xz, as cargo brings them. Never builds anything with cargo.
//!
//! Two crates carry the sources, and both link liblzma, so they cannot be in one dependency graph,
//! and not in that of dynfs. Each has a manifest and a lock file of its own in this directory,
//! which are written to the cache and given to `cargo metadata`: it downloads what is missing and
//! says where it is, by the user's own cargo configuration.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{self, Interrupt};
use super::stop::Stop;

/// A release of xz and the crate that carries its sources.
#[derive(Debug)]
pub(super) struct Upstream {
    /// What `lzma_version_string()` answers.
    pub(super) version: &'static str,
    pub(super) carrier: &'static str,
    pub(super) carrier_version: &'static str,
    /// The directory of xz in the crate.
    pub(super) tree: &'static str,
    /// The version script of the shared library, below `src`.
    pub(super) symbols: &'static str,
    manifest: &'static str,
    pub(super) lock: &'static str,
}

/// The older release.
pub(super) const OLD: Upstream = Upstream {
    version: "5.2.5",
    carrier: "lzma-sys",
    carrier_version: "0.1.20",
    tree: "xz-5.2",
    symbols: "liblzma/liblzma.map",
    manifest: include_str!("xz-5.2/Cargo.toml"),
    lock: include_str!("xz-5.2/Cargo.lock"),
};

/// The newer release.
pub(super) const NEW: Upstream = Upstream {
    version: "5.8.4",
    carrier: "liblzma-sys",
    carrier_version: "0.4.9",
    tree: "xz",
    symbols: "liblzma/liblzma_generic.map",
    manifest: include_str!("xz-5.8/Cargo.toml"),
    lock: include_str!("xz-5.8/Cargo.lock"),
};

impl Upstream {
    /// The directory of the crate on this machine, downloaded if it was not there.
    pub(super) fn locate(&self, cache: &Path, interrupt: &Interrupt) -> Result<PathBuf, Stop> {
        let directory = cache.join("fetch").join(self.version);
        self.write_manifest(&directory).map_err(|source| {
            Stop::io(format!("cannot write to {}", directory.display()), source)
        })?;
        let offline = process::run(&mut metadata(&directory, true), Some(interrupt));
        let found = match offline {
            Ok(found) if found.status.success() => found,
            Ok(_) => process::succeed(&mut metadata(&directory, false), Some(interrupt))?,
            Err(Stop::Io { source, .. }) if is_absent(source.kind()) => {
                return Err(Stop::Missing(NO_CARGO.into()));
            }
            Err(stop) => return Err(stop),
        };
        self.directory_in(&found.stdout).ok_or_else(|| Stop::Unreadable {
            command: process::typed(&metadata(&directory, false)),
            said: format!("no directory of {} {}", self.carrier, self.carrier_version),
        })
    }

    fn write_manifest(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        for (name, text) in [
            ("Cargo.toml", self.manifest),
            ("Cargo.lock", self.lock),
            ("lib.rs", include_str!("xz-5.2/lib.rs")),
        ] {
            // Another demo may be reading it: whole or not at all.
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(text.as_bytes())?;
            file.persist(directory.join(name))?;
        }
        Ok(())
    }

    /// Where the crate is, according to the answer of `cargo metadata`.
    fn directory_in(&self, metadata: &[u8]) -> Option<PathBuf> {
        let metadata: Value = serde_json::from_slice(metadata).ok()?;
        let package = metadata.get("packages")?.as_array()?.iter().find(|package| {
            package["name"] == self.carrier && package["version"] == self.carrier_version
        })?;
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())
    }
}

/// Somebody else's cargo, in a directory of the search path that is closed to us, is none.
fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

const NO_CARGO: &str = "The demo needs cargo once, to fetch the sources of xz: install it with \
                        `apt install cargo` or from https://rustup.rs.";

fn metadata(directory: &Path, offline: bool) -> Command {
    // When cargo runs the demo it says which cargo it is.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(directory);
    if offline {
        command.arg("--offline");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_pin_what_the_constants_say() {
        for upstream in [&OLD, &NEW] {
            let pin =
                format!("{} = {{ version = \"={}\"", upstream.carrier, upstream.carrier_version);
            assert!(upstream.manifest.contains(&pin), "{pin}");
            let lock = format!(
                "name = \"{}\"\nversion = \"{}\"\n",
                upstream.carrier, upstream.carrier_version
            );
            assert!(upstream.lock.contains(&lock), "{lock}");
            assert!(upstream.manifest.contains("\n[workspace]\n"), "it must stand alone");
        }
        assert_eq!(include_str!("xz-5.2/lib.rs"), include_str!("xz-5.8/lib.rs"));
    }

    #[test]
    fn the_right_version_of_the_crate_is_taken() {
        let metadata = br#"{"packages": [
            {"name": "lzma-sys", "version": "0.1.19", "manifest_path": "/r/old/Cargo.toml"},
            {"name": "cc", "version": "0.1.20", "manifest_path": "/r/cc/Cargo.toml"},
            {"name": "lzma-sys", "version": "0.1.20", "manifest_path": "/r/right/Cargo.toml"}]}"#;
        assert_eq!(OLD.directory_in(metadata), Some("/r/right".into()));
        for bad in [&b"{}"[..], b"not json", br#"{"packages": [{"name": "lzma-sys"}]}"#] {
            assert_eq!(OLD.directory_in(bad), None);
        }
    }
}
