//! Who is let in, and how many of each kind at once.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use parking_lot::Mutex;

use super::{GROUP, may_change};
use crate::{host, sys};

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Of these, for callers other than root and the owner, who always get through.
pub(super) const OTHERS_MAX: usize = 48;
/// Of these, for callers who may not change the store: the group gets through.
pub(super) const READERS_MAX: usize = 32;
/// Of these, for one user: the next one gets through.
pub(super) const USER_MAX: usize = 8;

/// What a caller is to the store. Each may do what the next one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Root, or the owner of the store.
    Owner,
    /// In the group that may change a store of root.
    Group,
    /// Anybody else.
    Reader,
}

impl Standing {
    fn of(stream: &UnixStream, uid: u32, gid: u32, owner: u32) -> Self {
        match may_change(uid, owner) {
            true => Self::Owner,
            false if owner == 0 && is_trusted(stream, gid) => Self::Group,
            false => Self::Reader,
        }
    }
}

/// Whether a caller is in the group that may change a store of root.
fn is_trusted(stream: &UnixStream, primary: u32) -> bool {
    let Some(trusted) = host::group_id(GROUP) else { return false };
    primary == trusted
        || sys::peer_groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&trusted))
}

/// A caller that was let in.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) stream: UnixStream,
    pub(super) uid: u32,
    pub(super) standing: Standing,
    /// Held as long as the guest is here.
    pub(super) _seat: Seat<'a>,
}

/// One open connection; it ends when this goes, whether or not a thread ever served it.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    guests: &'a Guests,
    id: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.guests.0.lock().seated.remove(&self.id);
    }
}

/// The connections that are open, to bound and to end them.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Seated>);

#[derive(Debug, Default)]
struct Seated {
    seated: BTreeMap<u64, (UnixStream, u32, Standing)>,
    next: u64,
}

impl Guests {
    /// Lets a caller in, or closes the connection when there are too many.
    pub(super) fn admit(&self, stream: UnixStream, owner: u32) -> Option<Guest<'_>> {
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        let uid = peer.uid.as_raw();
        let standing = Standing::of(&stream, uid, peer.gid.as_raw(), owner);
        self.seat(stream, uid, standing)
    }

    pub(super) fn seat(
        &self,
        stream: UnixStream,
        uid: u32,
        standing: Standing,
    ) -> Option<Guest<'_>> {
        let copy = stream.try_clone().ok()?;
        let mut inner = self.0.lock();
        if !inner.has_room(uid, standing) {
            tracing::debug!(uid, "too many control connections");
            return None;
        }
        let id = inner.next;
        inner.next += 1;
        inner.seated.insert(id, (copy, uid, standing));
        drop(inner);
        Some(Guest { stream, uid, standing, _seat: Seat { guests: self, id } })
    }

    /// Ends every connection.
    pub(super) fn end(&self) {
        for (stream, ..) in self.0.lock().seated.values() {
            // Already closed by the other side: nothing to end.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Seated {
    fn has_room(&self, uid: u32, standing: Standing) -> bool {
        let count = |is_counted: &dyn Fn(u32, Standing) -> bool| {
            self.seated.values().filter(|(_, uid, standing)| is_counted(*uid, *standing)).count()
        };
        if self.seated.len() >= CONNECTIONS_MAX {
            return false;
        }
        standing == Standing::Owner
            || count(&|_, other| other != Standing::Owner) < OTHERS_MAX
                && count(&|other, _| other == uid) < USER_MAX
                && (standing == Standing::Group
                    || count(&|_, other| other == Standing::Reader) < READERS_MAX)
    }
}

#[cfg(test)]
mod tests;
