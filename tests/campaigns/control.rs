//! A connection to the daemon, for calls without a process each.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use dynfs::protocol::{Answer, Call, Edit, LINE_LEN_MAX, PROTOCOL, Wire};
use resolver::RequestId;

use crate::rig::Rig;

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Control {
    store: PathBuf,
    wire: Option<Wire<UnixStream>>,
    calls: u64,
}

impl Control {
    pub(crate) fn of(rig: &Rig) -> Self {
        Self { store: rig.store(), wire: None, calls: 0 }
    }

    /// Calls after which a connection is made anew; the daemon allows ten times as many.
    const CALLS: u64 = 1_000;

    /// Selects, and returns when the daemon has answered that it is done.
    pub(crate) fn select(&mut self, spec: &str) {
        if self.calls.is_multiple_of(Self::CALLS) {
            let stream = dynfs::control::connect(&self.store).expect("a socket").expect("a daemon");
            let mut wire = Wire::new(stream);
            wire.send(&Call::Hello { protocol: PROTOCOL }).expect("sent");
            let hello: Option<Answer> = wire.receive(LINE_LEN_MAX).expect("received");
            assert!(matches!(hello, Some(Answer::Hello { .. })), "{hello:?}");
            self.wire = Some(wire);
        }
        self.calls += 1;
        let wire = self.wire.as_mut().expect("made above");
        let specs = vec![spec.parse().expect("a spec")];
        let call = Call::Edit {
            request: RequestId(format!("{:032x}", self.calls)),
            again: false,
            edit: Edit::Select { specs, providers: Vec::new() },
        };
        wire.send(&call).expect("sent");
        let answer: Option<Answer> = wire.receive(LINE_LEN_MAX).expect("received");
        assert!(matches!(answer, Some(Answer::Done(_))), "{answer:?}");
    }
}
