//! The three trees, the threads that look at them, and what is done to dynfs meanwhile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{Gid, Uid, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::answer::Answer;
use super::call::Call;
use super::judge::Answers;
use super::side::Side;
use super::tree::{Tree, settle, unsettle};
use super::{Counts, Trouble};
use crate::rig::{Rig, on_path};
use crate::sys;

/// Links and paths may lead up out of the tree; so far, all sides are still the same.
const INSIDE: &str = "w/w/w/w/w/w/w/w/w/w/w/w/w/w/w/w";
/// Where the sides are, below the same directory and equally long, since paths are limited.
const PLAIN: &str = "plain-entries";
const IMAGE: &str = "erofs-entries";
const DYNFS: &str = "dyn/data/tree";
/// How often a call is repeated that should not have failed.
const TRIES: u64 = 20;
/// A user who owns nothing.
const NOBODY: u32 = 54_321;

/// The three trees.
pub(super) struct World<'a> {
    rig: &'a Rig,
    pub(super) tree: Tree,
    /// Whether the plain directory is mounted read-only.
    pub(super) sealed: bool,
    /// Where the image is mounted, or why it is not.
    pub(super) image: Result<PathBuf, &'static str>,
    /// Which release of the other package is selected.
    second: AtomicBool,
}

/// The same case on all of them.
#[derive(Debug)]
pub(super) struct Sides {
    plain: Side,
    image: Option<Side>,
    dynfs: Side,
}

impl<'a> World<'a> {
    /// Makes all three, and mounts in a namespace of this thread's own.
    pub(super) fn new(rig: &'a Rig) -> Self {
        let top = rig.scratch(PLAIN);
        let tree = Tree::grow(&top.join(INSIDE));
        let empty = rig.scratch("empty");
        std::fs::create_dir(&empty).expect("ours");
        for (source, version) in [(&top, "1.0"), (&empty, "0.0")] {
            let source = source.to_str().expect("UTF-8");
            let release = ["--name", "tree", "--version", version, "--category", "data"];
            rig.ok(["add", source, "--public"].into_iter().chain(release));
        }
        rig.ok(["select", "tree@1.0"]);
        ["1.0", "2.0"].into_iter().for_each(|version| rig.add_plain("other", version));
        settle(&top);
        sys::own_directory().expect("a directory of our own");
        let sealed = rustix::process::geteuid().is_root();
        let image = match sealed {
            true => {
                seal(&top);
                mount_image(rig, &top)
            }
            false => Err("not root"),
        };
        Self { rig, tree, sealed, image, second: AtomicBool::new(false) }
    }

    pub(super) fn sides(&self) -> Sides {
        let side = |path: &Path| Side::new(&path.join(INSIDE));
        Sides {
            plain: side(&self.rig.scratch(PLAIN)),
            image: self.image.as_deref().ok().map(side),
            dynfs: side(&self.rig.scratch(DYNFS)),
        }
    }

    /// Runs a case in a thread of its own, with a working directory of its own; with no rights if
    /// that is wanted. What it tells is done here, where the rights are.
    pub(super) fn in_a_thread(
        &self,
        without_rights: bool,
        case: impl FnOnce(&dyn Fn(Trouble)) -> Result<Counts, String> + Send,
    ) -> Result<Counts, String> {
        let (told, hear) = mpsc::channel();
        let (answered, wait) = mpsc::channel();
        thread::scope(|scope| {
            let running = scope.spawn(move || {
                sys::own_directory().expect("a directory of our own");
                if self.sealed {
                    // Wherever a call may lead: nothing on this machine can be changed.
                    private_mounts();
                    sys::seal_everything().expect("we are root");
                    ["/", "/tmp"].into_iter().for_each(|path| sealed_at(Path::new(path)));
                }
                if without_rights {
                    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                    set_thread_groups(&[]).expect("we are root");
                    set_thread_res_gid(gid, gid, gid).expect("we are root");
                    set_thread_res_uid(uid, uid, uid).expect("we are root");
                }
                case(&|trouble| {
                    told.send(trouble).expect("it hears");
                    wait.recv().expect("it answers");
                })
            });
            let mut killed = None;
            for trouble in hear {
                killed = self.make(trouble);
                answered.send(()).expect("it waits");
            }
            if let Some(before) = killed {
                self.rig.wait_for_other_server(before);
            }
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The number of a server that was killed.
    fn make(&self, trouble: Trouble) -> Option<i32> {
        match trouble {
            Trouble::Kill(_) => return Some(self.rig.kill_server()),
            Trouble::Forget(_) => {
                std::fs::write("/proc/sys/vm/drop_caches", "2").expect("we are root");
            }
            Trouble::Select(_) => {
                let second = self.second.fetch_xor(true, Ordering::Relaxed);
                self.rig.ok(["select", if second { "other@1.0" } else { "other@2.0" }]);
            }
            Trouble::Nothing => {}
        }
        None
    }

    /// How often the kernel asked.
    pub(super) fn requests(&self) -> u64 {
        self.rig.requests().values().sum()
    }

    /// Makes the kernel forget all that it knows of the tree below the mount.
    pub(super) fn go_cold(&self) {
        self.rig.ok(["select", "tree@0.0"]);
        self.rig.ok(["select", "tree@1.0"]);
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if !self.sealed {
            unsettle(&self.rig.scratch(PLAIN));
        }
    }
}

impl Sides {
    /// Whether there is an image, and it was not asked.
    pub(super) fn passed_over(&self, answers: &Answers) -> bool {
        self.image.is_some() && answers.image.is_none()
    }

    /// Asks all of them, or dynfs alone.
    pub(super) fn ask(&mut self, call: &Call, everybody: bool) -> Answers {
        let plain = everybody.then_some(&mut self.plain);
        let asked = everybody && !call.is_beyond_an_image();
        let image = self.image.as_mut().filter(|_| asked);
        let mut asked = [plain, image, Some(&mut self.dynfs)];
        let mut again = 0;
        let mut answers = asked.each_mut().map(|side| side.as_mut().map(|side| call.run(side)));
        while again < TRIES && is_disturbed(&answers) {
            again += 1;
            for (side, answer) in asked.iter_mut().zip(&mut answers) {
                if let (Some(side), Some(true)) = (side, answer.as_ref().map(is_of_a_disturbance)) {
                    *answer = Some(call.run(side));
                }
            }
        }
        let [plain, image, dynfs] = answers;
        Answers { plain, image, dynfs: dynfs.expect("always asked"), again }
    }

    pub(super) fn each(&mut self, mut change: impl FnMut(&mut Side)) {
        change(&mut self.plain);
        self.image.iter_mut().for_each(&mut change);
        change(&mut self.dynfs);
    }
}

/// Whether sides differ, and one of them says what a disturbed walk gives.
fn is_disturbed(answers: &[Option<Answer>; 3]) -> bool {
    let mut given = answers.iter().flatten();
    let differ = given.next().is_some_and(|first| given.any(|other| other != first));
    differ && answers.iter().flatten().any(is_of_a_disturbance)
}

/// What Linux says, on any file system, of a walk during which something is mounted or unmounted
/// anywhere: it walks again and goes on counting links, so that more than 20 of them can be too
/// many; and `openat2` gives up on a `..` that must not lead out, and says that it be repeated.
/// So whoever says it and is alone with it is asked again; who means it says it again.
fn is_of_a_disturbance(answer: &Answer) -> bool {
    matches!(answer, Err(Errno::LOOP | Errno::AGAIN))
}

/// Binds a directory over itself, read-only, for this thread and those that it starts.
fn seal(top: &Path) {
    private_mounts();
    mount_bind(top, top).expect("we are root");
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(top, flags, "").expect("we are root");
    sealed_at(top);
}

/// Mounts of this thread's own. What is unmounted elsewhere is unmounted here too.
fn private_mounts() {
    sys::own_mounts().expect("mounts of our own");
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", downstream).expect("we are root");
}

/// Calls that would change something are only tried where nothing can be changed.
fn sealed_at(path: &Path) {
    let flags = statvfs(path).expect("mounted").f_flag;
    assert!(
        flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        "{} is writable",
        path.display()
    );
}

/// Makes an image of a directory and mounts it beside it.
fn mount_image(rig: &Rig, top: &Path) -> Result<PathBuf, &'static str> {
    if !on_path("mkfs.erofs") {
        return Err("mkfs.erofs is missing");
    }
    let (file, place) = (rig.scratch("tree.erofs"), rig.scratch(IMAGE));
    std::fs::create_dir(&place).expect("ours");
    let mut make = Command::new("mkfs.erofs");
    make.args(["-x-1", "--preserve-mtime", "--quiet", "--exclude-regex=/longest/"]);
    run(make.arg(&file).arg(top), "mkfs.erofs fails")?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "erofs", "-o", "loop,ro,nosuid,nodev"]).arg(&file).arg(&place);
    run(&mut mount, "it cannot be mounted")?;
    sealed_at(&place);
    Ok(place)
}

/// Why it fails is for who reads the output; that it does, for the table.
fn run(command: &mut Command, fault: &'static str) -> Result<(), &'static str> {
    let output = command.output().map_err(|_| fault)?;
    if output.status.success() {
        return Ok(());
    }
    println!("{fault}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Err(fault)
}
