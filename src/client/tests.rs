//! What a command says when no server answers it any more.

use resolver::{Action, Cause, Generation, GenerationNumber, Selections, Timestamp};
use store_fs::{Prefix, SimDisk};

use super::*;

fn request(digit: &str) -> RequestId {
    RequestId(digit.repeat(32))
}

#[test]
fn the_files_say_what_became_of_an_unanswered_edit() {
    let prefix = Prefix::new(Path::new("/dyn")).unwrap();
    let store = Store::create(SimDisk::default(), &prefix).unwrap();
    let words = |digit: &str, edit: &Edit, waits| {
        let error = unanswered(&store, &request(digit), edit, waits);
        assert_eq!(error.kind, Kind::Unavailable);
        error.message
    };
    assert!(words("a", &Edit::Undo, false).contains("was not made"));
    assert!(words("a", &Edit::Undo, true).contains("has not been made so far"));
    let trash = words("a", &Edit::Trash { used: Vec::new() }, false);
    assert!(!trash.contains("made"), "no file names who puts things into the trash: {trash}");
    let generation = Generation {
        number: GenerationNumber(1),
        parent: None,
        at: Timestamp(0),
        cause: Cause { action: Action::Apply, uid: 0, request: Some(request("a")) },
        system: Selections::default(),
    };
    let writer = store.writer().unwrap();
    store.write_generation(&writer, &generation).unwrap().publish().unwrap();
    for waits in [false, true] {
        assert!(words("a", &Edit::Undo, waits).contains("was made (generation 1)"));
    }
    assert!(words("b", &Edit::Undo, false).contains("was not made"), "another request");
}
