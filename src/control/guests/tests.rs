//! Who is turned away, and for whom there is still room then.

use std::io::Read;

use super::*;

/// Sits down as many as may; whoever is turned away is not waited for.
fn crowd<'a>(
    guests: &'a Guests,
    users: impl Iterator<Item = u32>,
    standing: Standing,
) -> Vec<Guest<'a>> {
    let seat = |uid| guests.seat(UnixStream::pair().unwrap().0, uid, standing);
    users.filter_map(seat).collect()
}

#[test]
fn one_user_leaves_room_for_the_next() {
    for standing in [Standing::Reader, Standing::Group] {
        let guests = Guests::default();
        let greedy = crowd(&guests, [1001; CONNECTIONS_MAX].into_iter(), standing);
        assert_eq!(greedy.len(), USER_MAX);
        assert_eq!(crowd(&guests, [1002].into_iter(), standing).len(), 1);
    }
}

#[test]
fn each_standing_leaves_room_for_the_one_above() {
    let guests = Guests::default();
    let mut next = 1000..;
    let readers = crowd(&guests, next.by_ref().take(CONNECTIONS_MAX), Standing::Reader);
    assert_eq!(readers.len(), READERS_MAX);
    let group = crowd(&guests, next.by_ref().take(CONNECTIONS_MAX), Standing::Group);
    assert_eq!(group.len(), OTHERS_MAX - READERS_MAX);
    let owners = crowd(&guests, [0; CONNECTIONS_MAX + 1].into_iter(), Standing::Owner);
    assert_eq!(owners.len(), CONNECTIONS_MAX - OTHERS_MAX);
}

#[test]
fn the_group_alone_leaves_room_for_the_owner() {
    let guests = Guests::default();
    let group = crowd(&guests, 1000..1000 + 2 * CONNECTIONS_MAX as u32, Standing::Group);
    assert_eq!(group.len(), OTHERS_MAX);
    assert_eq!(crowd(&guests, [0].into_iter(), Standing::Owner).len(), 1);
}

/// As when there is no thread for it.
#[test]
fn a_guest_that_nobody_serves_hears_so_and_leaves_its_seat() {
    let guests = Guests::default();
    let (mut client, stream) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    drop(guests.seat(stream, 1001, Standing::Reader).unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "its connection has ended");
    assert!(guests.0.lock().seated.is_empty());
}
