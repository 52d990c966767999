//! The same for an ordinary user, who mounts through `fusermount3`.
//!
//! Device and `/etc/fuse.conf` are such as a test wants them in a mount namespace of its own; the
//! machine's are never touched. What is mounted there is gone with the last process in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::rig::{on_path, write};

/// What a script ends with that cannot be run here.
const CANNOT: i32 = 77;

/// An ordinary user adds, mounts, selects, reads, loses a server, and unmounts.
#[test]
fn an_ordinary_user() {
    const TEST: &str = "an_ordinary_user";
    let Some(output) = run(TEST, 0o666, EVERYTHING) else { return };
    assert!(output.ends_with("1.0\n2.0\n2.0\nunmounted\n"), "{output}");
    println!("MOUNTED {TEST}");
}

const EVERYTHING: &str = r#"
d mount "$mount" >&2
add 1.0
add 2.0
d select demo@1.0 >&2
as 65534 cat "$mount/app/demo/share/version"
d select demo@2.0 >&2
as 65534 cat "$mount/app/demo/share/version"
kill -9 "$(d --json status | sed -n 's/.*"server":\([0-9]*\).*/\1/p')"
as 65534 cat "$mount/app/demo@2.0/share/version"
d umount >&2
echo unmounted
"#;

/// Others, root among them, cannot look into a user's mount, and `mount` says so, unless
/// `/etc/fuse.conf` allows it.
#[test]
fn who_may_look_into_a_users_mount() {
    const TEST: &str = "who_may_look_into_a_users_mount";
    let Some(output) = run(TEST, 0o666, LOOKING) else { return };
    assert!(
        output.ends_with("closed to 0\nclosed to 65533\nopen to 0\nopen to 65533\n"),
        "{output}"
    );
    println!("MOUNTED {TEST}");
}

const LOOKING: &str = r#"
version="$mount/app/demo/share/version"
add 1.0
d select demo >&2
d mount "$mount" 2>"$PLACE/words" >&2
grep -q 'note: other users, root among them, cannot look.* user_allow_other' "$PLACE/words"
as 65534 grep -q '^1.0$' "$version"
for user in 0 65533; do
    if as $user cat "$version" 2>"$PLACE/words"; then exit 1; fi
    grep -q 'Permission denied' "$PLACE/words"
    echo closed to $user
done
d umount >&2
echo user_allow_other >"$PLACE/fuse.conf"
d mount "$mount" 2>"$PLACE/words" >&2
if grep user_allow_other "$PLACE/words"; then exit 1; fi
for user in 0 65533; do
    as $user grep -q '^1.0$' "$version"
    echo open to $user
done
d umount >&2
"#;

/// Where users may not open the device, `mount` says what to do, and the tests say why they are
/// skipped.
#[test]
fn a_device_that_is_closed_to_users() {
    let Some(output) = run("a_device_that_is_closed_to_users", 0o600, CLOSED) else { return };
    let (words, tests) = output.split_once("---\n").expect("both were run");
    assert!(words.contains("exit 6\n"), "{output}");
    assert!(words.contains("hint: chmod 666 /dev/fuse"), "{output}");
    assert!(tests.contains("SKIPPED a_file_of_its_own: /dev/fuse: Permission denied"), "{output}");
}

const CLOSED: &str = r#"
status=0
d mount "$mount" 2>&1 || status=$?
echo exit $status
echo ---
as 65534 "$TESTS" --exact user::a_file_of_its_own --nocapture 2>&1
"#;

/// The least that needs a mount.
#[test]
fn a_file_of_its_own() {
    let Some(rig) = crate::rig::Rig::mounted("a_file_of_its_own") else { return };
    rig.add_plain("demo", "1.0");
    assert_eq!(crate::rig::read(&rig.at("lib/demo@1.0/share/version")), "1.0");
}

/// Before every script.
const BEFORE: &str = r#"
mount --bind "$PLACE/fuse" /dev/fuse || exit $CANNOT
mount --bind "$PLACE/fuse.conf" /etc/fuse.conf || exit $CANNOT
(exec 3<>/dev/fuse) || exit $CANNOT
mount="$PLACE/dyn"
as() { user=$1; shift; setpriv --reuid="$user" --regid="$user" --clear-groups "$@"; }
d() { as 65534 "$DYNFS" --store "$PLACE/store" "$@"; }
add() {
    mkdir -p "$PLACE/source-$1/share"
    printf '%s\n' "$1" >"$PLACE/source-$1/share/version"
    d add "$PLACE/source-$1" --name demo --version "$1" --prefix "$mount" >&2
}
trap 'd umount --lazy >/dev/null 2>&1 || true' EXIT
"#;

/// Runs a script as root with a device of this mode and an empty `/etc/fuse.conf`; its standard
/// output. `None`, with the reason printed, where that cannot be.
fn run(test: &str, device: u32, script: &str) -> Option<String> {
    let place = match place(device) {
        Ok(place) => place,
        Err(reason) => {
            println!("SKIPPED {test}: {reason}");
            return None;
        }
    };
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-eu", "-c", &format!("{BEFORE}{script}")])
        .current_dir(place.path())
        .env("DYNFS", place.path().join("dynfs"))
        .env("TESTS", place.path().join("tests"))
        .env("PLACE", place.path())
        .env("CANNOT", CANNOT.to_string())
        .env("NO_COLOR", "1")
        .output()
        .expect("unshare starts");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.code() == Some(CANNOT) {
        println!("SKIPPED {test}: {}", err.lines().next_back().unwrap_or_default());
        return None;
    }
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    Some(out)
}

/// What a script finds; or why there cannot be one.
fn place(device: u32) -> Result<TempDir, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can have a device of its own; all other tests run as a user".into());
    }
    let needs = ["fusermount3", "setpriv", "unshare"];
    if let Some(missing) = needs.iter().find(|program| !on_path(program)) {
        return Err(format!("{missing} is missing"));
    }
    if !Path::new("/etc/fuse.conf").exists() {
        return Err("there is no /etc/fuse.conf".into());
    }
    let number = fs::metadata("/dev/fuse").map_err(|error| format!("/dev/fuse: {error}"))?.rdev();
    match Command::new("unshare").args(["--mount", "true"]).output() {
        Ok(output) if output.status.success() => {}
        _ => return Err("no mount namespace can be made".into()),
    }
    let place = tempfile::Builder::new().prefix("dynfs-user-").tempdir().expect("a place");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let fuse = place.path().join("fuse");
    mknodat(CWD, &fuse, FileType::CharacterDevice, Mode::empty(), number)
        .map_err(|error| format!("no device can be made: {error}"))?;
    fs::set_permissions(&fuse, fs::Permissions::from_mode(device)).expect("ours");
    write(&place.path().join("fuse.conf"), b"", 0o644);
    // The programs themselves may be where others cannot reach them.
    let tests = std::env::current_exe().expect("procfs");
    for (program, name) in [(Path::new(env!("CARGO_BIN_EXE_dynfs")), "dynfs"), (&tests, "tests")] {
        fs::copy(program, place.path().join(name)).expect("copied");
    }
    Ok(place)
}

/// Of a store of root, everybody may read the state and the group `dynfs` may change it, but only
/// root may replace the daemon.
#[test]
fn who_may_change_a_store_of_root() {
    const TEST: &str = "who_may_change_a_store_of_root";
    let Some(output) = run(TEST, 0o666, CHANGING) else { return };
    assert!(output.ends_with("0 5 5\n0 0 5\n0 0 5\n0 0 0\n"), "{output}");
    println!("MOUNTED {TEST}");
}

const CHANGING: &str = r#"
printf 'root:x:0:\ndynfs:x:4242:\n' >"$PLACE/group"
mount --bind "$PLACE/group" /etc/group || exit $CANNOT
d() { "$DYNFS" --store "$PLACE/roots" "$@"; }
d mount "$mount" >&2
add 1.0
add 2.0
try() {
    codes=
    for words in status 'select demo@'$1 reexec; do
        code=0
        setpriv $2 "$DYNFS" --store "$PLACE/roots" $words >&2 || code=$?
        codes="$codes $code"
    done
    echo $codes
}
try 1.0 '--reuid=65534 --regid=65534 --clear-groups'
try 2.0 '--reuid=65534 --regid=65534 --groups=4242'
try 1.0 '--reuid=65534 --regid=4242 --clear-groups'
try 2.0 '--reuid=0 --regid=0 --clear-groups'
d umount >&2
"#;
