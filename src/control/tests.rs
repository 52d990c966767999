//! The socket against a store in memory: who may what, hostile clients, the end.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Instant;

use resolver::{Arch, GenerationNumber, RequestId};
use store_fs::{Prefix, SimDisk, Store};

use super::*;
use crate::engine::Unmounted;
use crate::protocol::Done;

const REQUEST: &str = "0123456789abcdef0123456789abcdef";

fn service(owner: u32) -> Control<SimDisk> {
    let prefix = Prefix::new(Path::new("/dyn")).unwrap();
    let store = Arc::new(Store::create(SimDisk::default(), &prefix).unwrap());
    let writer = store.writer().unwrap();
    let host = Arch::new("amd64").unwrap();
    let engine = Engine::open(store, writer, Box::new(Unmounted), host).unwrap();
    Control {
        engine: Arc::new(engine).into(),
        live: Arc::new(LiveStatus::default),
        held: Arc::new(|inodes| vec![None; inodes.len()]),
        owner,
        unmount: None,
        reexec: None,
    }
}

fn edit() -> Call {
    let edit = Edit::Restore { to: GenerationNumber(0) };
    Call::Edit { request: RequestId(REQUEST.to_owned()), again: false, edit }
}

fn kind(answer: Answer) -> Option<Kind> {
    match answer {
        Answer::Failed(error) => Some(error.kind),
        _ => None,
    }
}

#[test]
fn root_and_the_owner_may_change() {
    for (uid, owner, may) in
        [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1001, 1000, false)]
    {
        assert_eq!(may_change(uid, owner), may, "{uid} {owner}");
    }
}

#[test]
fn others_may_read_and_nothing_else() {
    let service = service(1000);
    let outcome = || Call::Outcome { request: RequestId(REQUEST.to_owned()) };
    assert_eq!(kind(service.answer(Call::Status, 1001, false)), None);
    for call in [edit(), outcome(), Call::Unmount { lazy: false }] {
        assert_eq!(kind(service.answer(call, 1001, false)), Some(Kind::Permission));
    }
    for uid in [0, 1000] {
        assert_eq!(kind(service.answer(edit(), uid, true)), None);
        assert_eq!(service.answer(outcome(), uid, true), Answer::Outcome { done: None });
    }
}

#[test]
fn a_request_id_of_another_shape_is_refused() {
    let service = service(0);
    for id in ["", "x", &"F".repeat(32), &"0".repeat(1_000_000)] {
        let request = RequestId(id.to_owned());
        let call = Call::Edit { request, again: false, edit: Edit::Undo };
        assert_eq!(kind(service.answer(call, 0, true)), Some(Kind::Usage));
    }
}

#[test]
fn another_protocol_is_refused() {
    let service = service(0);
    assert_eq!(
        kind(service.answer(Call::Hello { protocol: PROTOCOL + 1 }, 0, true)),
        Some(Kind::Unavailable)
    );
}

/// Runs `body` against a served socket in a directory of its own.
fn serving(body: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    // Deeper than the 108 bytes of a socket's address.
    let store = directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&store).unwrap();
    let listener = bind(&store).unwrap();
    let service = service(owner_of(&store).unwrap());
    let (stop, stopper): (OwnedFd, OwnedFd) =
        UnixStream::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b))).unwrap();
    thread::scope(|scope| {
        // Closed when the body ends or panics: the server stops either way.
        let stopper = stopper;
        let server = scope.spawn(|| serve(&listener, &service, stop.as_fd()));
        body(&store);
        drop(stopper);
        server.join().unwrap().unwrap();
    });
}

#[test]
fn calls_are_answered_over_the_socket() {
    serving(|store| {
        let mut wire = Wire::new(connect(store).unwrap().unwrap());
        wire.send(&Call::Hello { protocol: PROTOCOL }).unwrap();
        let answer = wire.receive::<Answer>(LINE_LEN_MAX).unwrap();
        assert_eq!(answer, Some(Answer::Hello { protocol: PROTOCOL }));
        wire.send(&edit()).unwrap();
        match wire.receive::<Answer>(LINE_LEN_MAX).unwrap() {
            Some(Answer::Done(Done::Switched(switched))) => {
                assert_eq!(switched.before, switched.after);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn hostile_clients_harm_only_themselves() {
    serving(|store| {
        // One that says nothing and one that goes away in the middle of a line.
        let silent = connect(store).unwrap().unwrap();
        connect(store).unwrap().unwrap().write_all(b"{\"call\"").unwrap();
        let mut garbage = connect(store).unwrap().unwrap();
        garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        garbage.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("{\"answer\":\"failed\""), "{answer}");
        let mut wire = Wire::new(connect(store).unwrap().unwrap());
        wire.send(&Call::Status).unwrap();
        let answer = wire.receive::<Answer>(LINE_LEN_MAX).unwrap();
        assert!(matches!(answer, Some(Answer::Status(_))), "{answer:?}");
        drop(silent);
    });
}

#[test]
fn connections_are_bounded() {
    serving(|store| {
        let mut crowd = Vec::new();
        for _ in 0..guests::CONNECTIONS_MAX {
            let mut wire = Wire::new(connect(store).unwrap().unwrap());
            wire.send(&Call::Status).unwrap();
            assert!(wire.receive::<Answer>(LINE_LEN_MAX).unwrap().is_some());
            crowd.push(wire);
        }
        let mut late = connect(store).unwrap().unwrap();
        assert_eq!(late.read(&mut [0; 16]).unwrap_or(0), 0, "the connection is closed unanswered");
    });
}

#[test]
fn nobody_listens_on_a_dead_socket() {
    let directory = tempfile::tempdir().unwrap();
    assert!(connect(directory.path()).unwrap().is_none());
    drop(bind(directory.path()).unwrap());
    assert!(connect(directory.path()).unwrap().is_none());
    drop(bind(directory.path()).unwrap());
    assert!(connect(&directory.path().join("absent")).unwrap().is_none());
}

/// A time limit that a test can wait for, and one that no test waits for.
const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(60);
/// Between the pieces of a client that is slow on purpose, and how long it goes on.
const DRIP: Duration = Duration::from_millis(20);
const DRIPS_MAX: usize = 100;

/// The client's end of a connection that is served in a thread until it ends.
fn talk<T>(
    standing: Standing,
    rooms: &Rooms,
    line_max: Duration,
    body: impl FnOnce(UnixStream) -> T,
) -> T {
    let (service, guests) = (service(1000), Guests::default());
    let (client, stream) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(LATE)).unwrap();
    let guest = guests.seat(stream, 1001, standing).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| converse(&service, guest, rooms, line_max));
        body(client)
    })
}

/// The answer to a status call on a line of this length; `None` when there is none.
fn answer_to(len: usize, mut client: UnixStream) -> Option<Answer> {
    let mut line = b"{\"call\":\"status\"}".to_vec();
    line.resize(len, b' ');
    line.push(b'\n');
    // It may be closed in the middle.
    client.write_all(&line).ok();
    Wire::new(client).receive(LINE_LEN_MAX).ok().flatten()
}

#[test]
fn the_longest_line_is_what_the_caller_may_need() {
    for (standing, limit) in [
        (Standing::Reader, READER_LINE_LEN_MAX),
        (Standing::Group, LINE_LEN_MAX),
        (Standing::Owner, LINE_LEN_MAX),
    ] {
        let ask = |len| talk(standing, &Rooms::default(), LATE, |client| answer_to(len, client));
        let fits = ask(limit);
        assert!(matches!(fits, Some(Answer::Status(_))), "{standing:?}: {fits:?}");
        match ask(limit + 1) {
            Some(Answer::Failed(error)) => {
                assert!(error.message.contains(&limit.to_string()), "{standing:?}: {error}");
            }
            other => panic!("{standing:?}: {other:?}"),
        }
    }
}

#[test]
fn few_long_lines_are_in_memory_at_once() {
    let rooms = Rooms::default();
    let deadline = Instant::now();
    let taken: Vec<_> = (0..LONG_LINES_MAX).map(|_| rooms.group.take(deadline).unwrap()).collect();
    let long = READER_LINE_LEN_MAX + 1;
    let ask = |standing, len| talk(standing, &rooms, SOON, |client| answer_to(len, client));
    assert_eq!(ask(Standing::Group, long), None, "there was no room until the deadline");
    assert!(ask(Standing::Group, long - 1).is_some(), "a short one needs none");
    assert!(ask(Standing::Owner, long).is_some(), "the owner has room of its own");
    drop(taken);
    for _ in 0..=LONG_LINES_MAX {
        assert!(ask(Standing::Group, long).is_some(), "what was taken is given back");
    }
}

/// Does `act` again and again, slowly, until it says that the connection has ended; whether it did.
fn drips(mut act: impl FnMut() -> bool) -> bool {
    (0..DRIPS_MAX).any(|_| {
        thread::sleep(DRIP);
        act()
    })
}

#[test]
fn a_line_that_comes_in_drops_is_not_waited_for() {
    let begin = Instant::now();
    let has_ended = talk(Standing::Reader, &Rooms::default(), SOON, |mut client| {
        drips(|| client.write(b" ").is_err())
    });
    assert!(has_ended, "a byte now and then keeps it open");
    assert!(begin.elapsed() >= SOON);
}

#[test]
fn a_silent_client_is_not_waited_for() {
    let begin = Instant::now();
    talk(Standing::Reader, &Rooms::default(), SOON, |mut client| {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
    assert!(begin.elapsed() >= SOON);
}

/// Whoever says a line now and then is not silent.
#[test]
fn each_line_has_the_time_anew() {
    // Far from the end of each, since this thread may have to wait for a processor.
    let limit = SOON * 8;
    talk(Standing::Reader, &Rooms::default(), limit, |client| {
        let mut wire = Wire::new(client);
        for _ in 0..5 {
            thread::sleep(limit / 4);
            wire.send(&Call::Status).unwrap();
            assert!(wire.receive::<Answer>(LINE_LEN_MAX).unwrap().is_some());
        }
    });
}

#[test]
fn an_answer_that_is_read_in_drops_is_not_waited_for() {
    let (mut client, stream) = UnixStream::pair().unwrap();
    let mut timed = Timed::new(stream, SOON).unwrap();
    let mut piece = [0; 64 * 1024];
    // Longer than all drops together.
    let answer = vec![0; LINE_LEN_MAX];
    assert!(answer.len() > piece.len() * DRIPS_MAX);
    thread::scope(|scope| {
        let reader = scope.spawn(move || drips(|| client.read(&mut piece).unwrap() == 0));
        let error = timed.write_all(&answer).unwrap_err();
        drop(timed);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(reader.join().unwrap(), "a drop now and then keeps it open");
    });
}
