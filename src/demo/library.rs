//! liblzma as a package: upstream sources in, a directory for `dynfs add` out. Never a mount.
//!
//! ```text
//! include/lzma.h  include/lzma/*.h
//! lib/liblzma.so.5                      the library, soname liblzma.so.5
//! lib/liblzma.so, lib/liblzma.so.5.8.4  symlinks to it
//! lib/pkgconfig/liblzma.pc              relative to itself
//! share/doc/xz/COPYING
//! src/...                               debug variant only: the sources, where its DWARF says
//! ```
//!
//! The file has the soname as its name, and not the full version as `make install` would have it,
//! so that `realpath` of what programs load says nothing of a version.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::needs::Compiler;
use super::process::{self, Interrupt};
use super::sources::Upstream;
use super::stop::Stop;

/// Counts the ways in which this file has compiled, so that a cache of another way is not used.
const RECIPE: &str = "1";

const SONAME: &str = "liblzma.so.5";

/// As the `build.rs` of both crates have it; threads are on, so the programming interface is whole.
const DEFINES: &[&str] = &[
    "-std=gnu99",
    "-fPIC",
    "-pthread",
    "-w",
    "-DHAVE_CONFIG_H",
    "-DNDEBUG",
    "-DLZMA_SYS_ENABLE_THREADS",
];

/// Below `src`: directories whose `.c` files make the library.
const PARTS: &[&str] = &["check", "common", "delta", "lz", "lzma", "rangecoder", "simple"];

/// Sources that are programs of their own, or replace others where memory is short.
const NOT_PARTS: &[&str] = &["_small", "tablegen", "consts_gen"];

/// How a release is compiled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flavour<'a> {
    /// For use.
    Plain,
    /// For a debugger, which finds the sources at the package's virtual directory.
    Debug {
        /// `<prefix>/lib/xz`.
        package: &'a Path,
    },
}

impl Flavour<'_> {
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["-O1"],
            Self::Debug { .. } => &["-g", "-O0"],
        }
    }

    /// The directory that compiled files name as the place of their sources.
    fn sources(self) -> PathBuf {
        match self {
            Self::Plain => "xz".into(),
            Self::Debug { package } => package.join("src"),
        }
    }
}

/// A release that is ready to be added.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) directory: PathBuf,
    /// Number of C files and the time they took; `None` if it was compiled earlier.
    pub(super) compiled: Option<(usize, Duration)>,
}

/// The release from the cache, or compiled into it.
pub(super) fn cached(
    upstream: &Upstream,
    compiler: &Compiler,
    cache: &Path,
    interrupt: &Interrupt,
) -> Result<Library, Stop> {
    let key = key(upstream, compiler);
    let directory = cache.join(format!("xz-{}-{key}", upstream.version));
    if directory.is_dir() {
        return Ok(Library { directory, compiled: None });
    }
    let carrier = upstream.locate(cache, interrupt)?;
    compile(upstream, &carrier, compiler, Flavour::Plain, directory, interrupt)
}

/// Names everything that a plain release is made from.
fn key(upstream: &Upstream, compiler: &Compiler) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        let length = u64::try_from(part.len()).expect("a usize fits into 64 bits");
        hasher.update(&length.to_le_bytes()).update(part.as_bytes());
    };
    add(RECIPE);
    add(upstream.lock);
    add(&compiler.version);
    add(std::env::consts::ARCH);
    Flavour::Plain.flags().iter().chain(DEFINES).for_each(|flag| add(flag));
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Compiles into `directory`, which appears whole or not at all.
pub(super) fn compile(
    upstream: &Upstream,
    carrier: &Path,
    compiler: &Compiler,
    flavour: Flavour<'_>,
    directory: PathBuf,
    interrupt: &Interrupt,
) -> Result<Library, Stop> {
    let start = Instant::now();
    let at = |source| Stop::io(format!("cannot make {}", directory.display()), source);
    let parent = directory.parent().expect("it was joined to a directory");
    let work = tempfile::Builder::new().prefix("compile-").tempdir_in(parent).map_err(at)?;
    let room = work.path().canonicalize().map_err(at)?;
    let (sources, objects, release) = (room.join("src"), room.join("o"), room.join("release"));
    let files = lay_out(upstream, carrier, &sources).map_err(at)?;
    fs::create_dir(&objects).and_then(|()| furnish(upstream, carrier, &release)).map_err(at)?;

    let map = map_option(&sources, flavour);
    let objects = process::in_parallel(&files, |file| {
        let name = file.file_stem().expect("it ends in .c").to_string_lossy();
        let object = objects.join(format!("{name}.o"));
        let mut command = compiler.command();
        command.current_dir(&sources).args(flavour.flags()).args(DEFINES).arg(&map);
        command.args(["-I.", "-Icommon", "-Iliblzma/api"]);
        command.args(PARTS.iter().map(|part| format!("-Iliblzma/{part}")));
        command.arg("-c").arg(file).arg("-o").arg(&object);
        process::succeed(&mut command, Some(interrupt)).map(|_| object)
    })?;
    let mut link = compiler.command();
    link.current_dir(&sources).args(["-shared", "-pthread"]);
    link.arg(format!("-Wl,-soname,{SONAME},--version-script,{}", upstream.symbols));
    link.arg("-o").arg(release.join("lib").join(SONAME)).args(objects);
    process::succeed(&mut link, Some(interrupt))?;
    if let Flavour::Debug { .. } = flavour {
        fs::rename(&sources, release.join("src")).map_err(at)?;
    }
    publish(&release, &directory).map_err(at)?;
    Ok(Library { directory, compiled: Some((files.len(), start.elapsed())) })
}

/// Compiled files must not remember the temporary directory.
fn map_option(sources: &Path, flavour: Flavour<'_>) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from("-ffile-prefix-map=");
    option.push(sources);
    option.push("=");
    option.push(flavour.sources());
    option
}

/// Another demo that compiled the same at the same time was as good.
fn publish(release: &Path, directory: &Path) -> io::Result<()> {
    match fs::rename(release, directory) {
        Err(_) if directory.is_dir() => Ok(()),
        done => done,
    }
}

/// Copies the sources and returns the files to compile, relative and in order.
fn lay_out(upstream: &Upstream, carrier: &Path, sources: &Path) -> io::Result<Vec<PathBuf>> {
    let tree = carrier.join(upstream.tree).join("src");
    copy(&tree.join("liblzma"), &sources.join("liblzma"))?;
    copy(&tree.join("common"), &sources.join("common"))?;
    fs::copy(carrier.join("config.h"), sources.join("config.h"))?;
    let mut files =
        vec![PathBuf::from("common/tuklib_cpucores.c"), PathBuf::from("common/tuklib_physmem.c")];
    for part in PARTS {
        let part = Path::new("liblzma").join(part);
        for entry in fs::read_dir(sources.join(&part))? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(is_part) {
                files.push(part.join(name));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn is_part(name: &str) -> bool {
    name.strip_suffix(".c").is_some_and(|stem| !NOT_PARTS.iter().any(|end| stem.ends_with(end)))
}

/// Everything of a release but the library and the sources.
fn furnish(upstream: &Upstream, carrier: &Path, release: &Path) -> io::Result<()> {
    let tree = carrier.join(upstream.tree);
    let (lib, doc) = (release.join("lib"), release.join("share/doc/xz"));
    fs::create_dir_all(lib.join("pkgconfig"))?;
    fs::create_dir_all(&doc)?;
    fs::copy(tree.join("COPYING"), doc.join("COPYING"))?;
    let api = tree.join("src/liblzma/api");
    copy(&api.join("lzma"), &release.join("include/lzma"))?;
    fs::copy(api.join("lzma.h"), release.join("include/lzma.h"))?;
    symlink(SONAME, lib.join("liblzma.so"))?;
    symlink(SONAME, lib.join(format!("liblzma.so.{}", upstream.version)))?;
    fs::write(lib.join("pkgconfig/liblzma.pc"), pkg_config(upstream.version))
}

fn pkg_config(version: &str) -> String {
    format!(
        "prefix=${{pcfiledir}}/../..\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include\n\n\
         Name: liblzma\nDescription: General purpose data compression library\n\
         Version: {version}\nCflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -Wl,-rpath,${{libdir}} -llzma\n"
    )
}

/// Copies directories and regular files; there is nothing else in the sources.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// `$XDG_CACHE_HOME/dynfs-demo`, `~/.cache/dynfs-demo`, or else a part of `temporary`.
pub(super) fn cache_directory(temporary: &Path) -> PathBuf {
    let home = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let chosen = home("XDG_CACHE_HOME")
        .or_else(|| home("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("dynfs-demo"));
    match chosen {
        Some(cache) if is_writable(&cache) => cache,
        _ => temporary.join("cache"),
    }
}

fn is_writable(directory: &Path) -> bool {
    fs::create_dir_all(directory).is_ok() && tempfile::tempfile_in(directory).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::sources::{NEW, OLD};
    use super::*;

    fn compiler(version: &str) -> Compiler {
        Compiler::named("cc", version)
    }

    #[test]
    fn the_key_covers_sources_and_compiler() {
        let gcc = compiler("gcc 12");
        assert_eq!(key(&OLD, &gcc), key(&OLD, &gcc));
        assert_ne!(key(&OLD, &gcc), key(&NEW, &gcc));
        assert_ne!(key(&OLD, &gcc), key(&OLD, &compiler("gcc 13")));
        assert_eq!(key(&OLD, &gcc).len(), 16);
    }

    #[test]
    fn only_what_belongs_to_the_library_is_compiled() {
        for (name, part) in [
            ("crc32_fast.c", true),
            ("crc32_small.c", false),
            ("price_tablegen.c", false),
            ("crc_clmul_consts_gen.c", false),
            ("crc32_x86.S", false),
            ("check.h", false),
        ] {
            assert_eq!(is_part(name), part, "{name}");
        }
    }

    #[test]
    fn a_release_appears_whole_and_the_second_of_two_demos_keeps_the_first() {
        let room = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            let release = room.path().join(name);
            fs::create_dir(&release).expect("a directory");
            fs::write(release.join("made"), name).expect("a file");
            release
        };
        let place = room.path().join("place");
        for name in ["first", "second"] {
            publish(&make(name), &place).expect("published");
            assert_eq!(fs::read_to_string(place.join("made")).expect("a file"), "first");
        }
        let missing = publish(&room.path().join("missing"), &room.path().join("other"));
        assert_eq!(missing.expect_err("nothing there").kind(), io::ErrorKind::NotFound);
    }
}
