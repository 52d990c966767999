//! Where dynfs is like neither a plain directory nor an EROFS image, and why. `docs/SEMANTICS.md`
//! says the same; each time one of these is met it is counted.

use rustix::io::Errno;

use super::answer::Value;
use super::call::Call;
use super::judge::Answers;
use super::{change, descriptor, name};
use crate::sys;

/// A difference that is there on purpose.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is counted.
    pub(super) what: &'static str,
    /// Whether it is this one.
    covers: fn(&Call, &str, &Answers) -> bool,
}

impl Known {
    pub(super) fn covers(&self, call: &Call, field: &str, answers: &Answers) -> bool {
        (self.covers)(call, field, answers)
    }
}

/// All of them.
pub(super) const KNOWN: &[Known] = &[
    // Asked for before a program is run or a file is listed: an answer would cost a request each
    // time, since the kernel remembers nothing of them but that there are none.
    Known {
        what: "extended attributes are ENOTSUP",
        covers: |call, _, answers| asks_attributes(call) && answers.dynfs == Err(Errno::NOTSUP),
    },
    // FUSE has no such request.
    Known {
        what: "maps of extents are EOPNOTSUPP",
        covers: |call, _, answers| {
            let extents = asks_one_of(call, &[sys::Request::Extents]);
            extents && answers.dynfs == Err(Errno::NOTSUP)
        },
    },
    // Each file system has sizes and positions of its own; here they are 4,096 and numbers of rows.
    Known {
        what: "sizes of directories and positions in them",
        covers: |_, field, answers| {
            let behind = Some(&Value::Failed(Errno::NXIO));
            let done = answers.dynfs.as_ref().ok();
            ["size of a directory", "position in a directory"].contains(&field)
                && done.is_some_and(|f| f.number(field).is_some() || f.get(field) == behind)
        },
    },
    // There is no disk whose sectors anybody has to know of.
    Known {
        what: "O_DIRECT works at any place",
        covers: |_, field, answers| {
            let done = answers.dynfs.as_ref().ok();
            field == "direct from and to anywhere"
                && done.and_then(|fields| fields.number(field)) == Some(1)
        },
    },
    // A directory on a file system that can be written, also when it is bound read-only, looks at
    // permissions first. An image does not, but has not all the names.
    Known {
        what: "EROFS comes before EACCES, where no image was asked",
        covers: |_, _, answers| {
            answers.image.is_none()
                && answers.plain == Some(Err(Errno::ACCESS))
                && answers.dynfs == Err(Errno::ROFS)
        },
    },
];

/// What a plain directory may have of its own, since its file system is any one: where no image was
/// asked, nothing is learned from that.
pub(super) fn is_of_the_disk(call: &Call, field: &str) -> bool {
    const FIELDS: [&str; 7] =
        ["blocks", "ctime", "atime", "hole", "data", "mounted", "position in a directory"];
    let whole = match call {
        Call::Map { ask, .. } => ask.is_of_the_disk(),
        Call::Descriptor { ask: descriptor::Ask::Seek { whence, .. }, .. } => {
            [libc::SEEK_DATA, libc::SEEK_HOLE].contains(whence)
        }
        _ => asks_one_of(call, &[sys::Request::Flags, sys::Request::Generation]),
    };
    FIELDS.contains(&field) || field == "errno" && whole
}

fn asks_one_of(call: &Call, requests: &[sys::Request]) -> bool {
    match call {
        Call::Descriptor { ask: descriptor::Ask::Ioctl(request), .. } => requests.contains(request),
        _ => false,
    }
}

fn asks_attributes(call: &Call) -> bool {
    use change::{Ask, OpenAsk};
    match call {
        Call::Descriptor { ask, .. } => matches!(
            ask,
            descriptor::Ask::ListAttributes { .. } | descriptor::Ask::Attribute { .. }
        ),
        Call::Name { ask, .. } => {
            matches!(ask, name::Ask::ListAttributes { .. } | name::Ask::Attribute { .. })
        }
        Call::Change(Ask::SetAttribute { .. } | Ask::RemoveAttribute { .. }) => true,
        Call::Change(Ask::Open { ask, .. }) => {
            matches!(ask, OpenAsk::SetAttribute { .. } | OpenAsk::RemoveAttribute { .. })
        }
        _ => false,
    }
}
