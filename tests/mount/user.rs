//! The same for an ordinary user, who mounts through `fusermount3`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::rig::on_path;

/// An ordinary user adds, mounts, selects, reads, loses a server, and unmounts.
#[test]
fn an_ordinary_user() {
    const TEST: &str = "an_ordinary_user";
    let needs = ["fusermount3", "setpriv"];
    if let Some(missing) = needs.iter().find(|program| !on_path(program)) {
        println!("SKIPPED {TEST}: {missing} is missing");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED {TEST}: all other tests run as an ordinary user already");
        return;
    }
    if !user_may_open_fuse() {
        println!("SKIPPED {TEST}: users may not open /dev/fuse here");
        return;
    }
    let place = tempfile::Builder::new().prefix("dynfs-user-").tempdir().expect("a place");
    // The program itself may be where others cannot reach it.
    let program = place.path().join("dynfs");
    fs::copy(env!("CARGO_BIN_EXE_dynfs"), &program).expect("copied");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-eu", "-c", SCRIPT])
        .current_dir(place.path())
        .env("DYNFS", &program)
        .env("PLACE", place.path())
        .env("NO_COLOR", "1")
        .output()
        .expect("setpriv starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.ends_with("1.0\n2.0\n2.0\nunmounted\n"), "{out}\n{err}");
    println!("MOUNTED {TEST}");
}

/// `fusermount3` opens the device with its caller's rights; udev makes it open to everybody.
fn user_may_open_fuse() -> bool {
    fs::metadata("/dev/fuse").is_ok_and(|data| data.permissions().mode() & 0o6 == 0o6)
}

const SCRIPT: &str = r#"
store="$PLACE/store" mount="$PLACE/dyn"
d() { "$DYNFS" --store "$store" "$@"; }
trap 'd umount --lazy >/dev/null 2>&1 || true' EXIT
for version in 1.0 2.0; do
    mkdir -p "$PLACE/source-$version/share"
    printf '%s\n' "$version" >"$PLACE/source-$version/share/version"
done
d mount "$mount" >&2
d add "$PLACE/source-1.0" --name demo --version 1.0 >&2
d add "$PLACE/source-2.0" --name demo --version 2.0 >&2
d select demo@1.0 >&2
cat "$mount/app/demo/share/version"
d select demo@2.0 >&2
cat "$mount/app/demo/share/version"
kill -9 "$(d --json status | sed -n 's/.*"server":\([0-9]*\).*/\1/p')"
cat "$mount/app/demo@2.0/share/version"
d umount >&2
trap - EXIT
echo unmounted
"#;
