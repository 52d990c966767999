//! A real mount of the built program, asked over its control socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dynfs::control;
use dynfs::host;
use dynfs::protocol::{Answer, Call, Done, Edit, LINE_LEN_MAX, PROTOCOL, Wire};

use crate::releases::{category, package};
use crate::store::{Bed, VERSION_FILE};

/// A mounted store; unmounted when dropped.
pub(crate) struct Mounted {
    store: PathBuf,
    mountpoint: PathBuf,
    wire: Option<Wire<UnixStream>>,
}

impl Mounted {
    /// Mounts; the reason when that cannot be done here.
    pub(crate) fn new(bed: &Bed) -> Result<Self, String> {
        let mut device = fs::OpenOptions::new();
        device.read(true).write(true);
        device.open("/dev/fuse").map_err(|error| format!("/dev/fuse: {error}"))?;
        let mut mounted = Self { store: bed.root(), mountpoint: bed.mountpoint(), wire: None };
        let output = mounted.run(&["mount", mounted.mountpoint.to_str().expect("UTF-8")]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let stream = control::connect(&mounted.store).expect("ours").expect("somebody listens");
        mounted.wire = Some(Wire::new(stream));
        let hello = mounted.ask(&Call::Hello { protocol: PROTOCOL });
        assert_eq!(hello, Answer::Hello { protocol: PROTOCOL });
        Ok(mounted)
    }

    /// Has an edit carried out.
    pub(crate) fn edit(&mut self, edit: Edit) -> Done {
        let request = host::request_id().expect("random bits");
        match self.ask(&Call::Edit { request, again: false, edit }) {
            Answer::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    /// What a program sees of a package: read below the mount.
    pub(crate) fn content(&self, number: usize) -> String {
        let package = format!("{}/{}", category(number), package(number));
        let path = self.mountpoint.join(package).join(VERSION_FILE);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn ask(&mut self, call: &Call) -> Answer {
        let wire = self.wire.as_mut().expect("connected");
        wire.send(call).expect("somebody listens");
        wire.receive(LINE_LEN_MAX).expect("somebody answers").expect("somebody answers")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynfs"));
        command.arg("--store").arg(&self.store).args(arguments).stdin(Stdio::null());
        command.output().expect("the program was built with this one")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.wire = None;
        if !self.run(&["umount"]).status.success() {
            self.run(&["umount", "--lazy"]);
        }
    }
}
