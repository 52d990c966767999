//! The engine on a simulated disk: order, idempotence, and a kernel that cannot be told.

use std::path::Path;

use resolver::{Origin, PackageName, Provides};
use store_fs::{Prefix, SimDisk, TreeBuilder};

use super::*;
use crate::protocol::{Forgotten, Used};

/// Writes down what it is asked, and whether it was durable by then.
struct Recorder {
    store: Arc<Store<SimDisk>>,
    log: Arc<Mutex<Vec<String>>>,
    broken: bool,
}

impl Show for Recorder {
    fn promise(&self, names: &[String]) -> io::Result<()> {
        let there = self.store.catalog(host()).unwrap().0.len();
        self.log.lock().push(format!("promise {} of {there}", names.get(1).unwrap_or(&names[0])));
        Ok(())
    }

    fn show(&self, next: Shown) -> io::Result<()> {
        let durable = self.store.generations().unwrap().len();
        let there = self.store.catalog(host()).unwrap().0.len();
        self.log.lock().push(format!("show {} of {durable}, {there}", next.generation));
        if self.broken { Err(io::Error::other("no kernel")) } else { Ok(()) }
    }
}

fn host() -> Arch {
    Arch::new("amd64").unwrap()
}

type Log = Arc<Mutex<Vec<String>>>;

fn engine(broken: bool) -> (Engine<SimDisk>, Log) {
    let prefix = Prefix::new(Path::new("/dyn")).unwrap();
    let store = Arc::new(Store::create(SimDisk::default(), &prefix).unwrap());
    let log = Log::default();
    let show = Recorder { store: Arc::clone(&store), log: Arc::clone(&log), broken };
    let writer = store.writer().unwrap();
    (Engine::open(store, writer, Box::new(show), host()).unwrap(), log)
}

/// An edit that publishes `a@<version>` with an empty tree.
fn publish(engine: &Engine<SimDisk>, version: &str) -> Edit {
    let object = engine.store.add().unwrap().finish(TreeBuilder::new()).unwrap().id();
    let id = ReleaseId {
        name: PackageName::new("a").unwrap(),
        version: version.parse().unwrap(),
        arch: host(),
        variants: std::collections::BTreeSet::new(),
    };
    let release = Release {
        id,
        category: resolver::Category::new("lib").unwrap(),
        object,
        needs: Vec::new(),
        provides: Provides::default(),
        build_ids: Vec::new(),
        origin: Origin::default(),
    };
    Edit::Publish { release: Box::new(release) }
}

fn select(spec: &str) -> Edit {
    Edit::Select { specs: vec![spec.parse().unwrap()], providers: Vec::new() }
}

fn by(digit: char, again: bool) -> Caller {
    let request = RequestId(digit.to_string().repeat(REQUEST_ID_LEN));
    Caller { uid: 0, request: Some(request), again, at: Timestamp(1) }
}

fn switched(done: Done) -> Switched {
    match done {
        Done::Switched(switched) => switched,
        other => panic!("{other:?}"),
    }
}

#[test]
fn durable_before_visible_and_promised_before_durable() {
    let (engine, log) = engine(false);
    engine.edit(&publish(&engine, "1"), &by('0', false)).unwrap();
    engine.edit(&select("a"), &by('1', false)).unwrap();
    assert_eq!(*log.lock(), ["promise lib/a@1 of 0", "show 0 of 0, 1", "show 1 of 1, 1"]);
    assert_eq!(engine.shown().generation, GenerationNumber(1));
}

/// Who reads after a change does not read every record again.
#[test]
fn the_index_knows_what_was_added_and_removed() {
    let (engine, _) = engine(false);
    let disk = engine.store.disk();
    for version in ["1", "2"] {
        engine.edit(&publish(&engine, version), &by('0', false)).unwrap();
    }
    let Edit::Publish { release } = publish(&engine, "1") else { unreachable!("as made") };
    engine.edit(&Edit::Remove { releases: vec![release.id] }, &by('1', false)).unwrap();
    let operations = |read: &dyn Fn()| {
        let before = disk.operations();
        read();
        disk.operations() - before
    };
    let indexed = operations(&|| drop(engine.store.catalog(host()).unwrap()));
    let from_files = operations(&|| drop(engine.store.catalog_from_files(host()).unwrap()));
    // To open, measure and read: the index, or the one record.
    assert_eq!(indexed, from_files);
    disk.remove(Path::new("index.redb")).unwrap();
    assert!(operations(&|| drop(engine.store.catalog(host()).unwrap())) > indexed);
}

#[test]
fn the_same_request_again_is_answered_and_not_repeated() {
    let (engine, _) = engine(false);
    for version in ["1", "2"] {
        engine.edit(&publish(&engine, version), &by('0', false)).unwrap();
    }
    engine.edit(&select("a@1"), &by('1', false)).unwrap();
    let first = switched(engine.edit(&select("a@2"), &by('2', false)).unwrap());
    engine.edit(&Edit::Undo, &by('3', false)).unwrap();
    let again = switched(engine.edit(&select("a@2"), &by('2', true)).unwrap());
    assert_eq!(
        (again.before, again.after, again.changes),
        (first.before, first.after, first.changes)
    );
    assert_eq!(engine.shown().generation, GenerationNumber(3));
    let undone = engine.outcome(&by('3', true).request.unwrap()).unwrap().unwrap();
    assert_eq!(switched(undone).after, GenerationNumber(3));
    assert_eq!(engine.outcome(&by('9', true).request.unwrap()).unwrap(), None);
}

#[test]
fn removal_is_done_once_however_often_it_is_sent() {
    let (engine, _) = engine(false);
    let Edit::Publish { release } = publish(&engine, "1") else { unreachable!("as made") };
    let edit = Edit::Publish { release: release.clone() };
    engine.edit(&edit, &by('0', false)).unwrap();
    let remove = Edit::Remove { releases: vec![release.id.clone()] };
    let first = engine.edit(&remove, &by('1', false)).unwrap();
    assert_eq!(engine.edit(&remove, &by('1', true)).unwrap(), first);
    let refused = engine.edit(&remove, &by('2', false)).unwrap_err();
    assert!(matches!(refused, EngineError::NotThere { .. }), "{refused}");
}

#[test]
fn what_the_kernel_could_not_be_told_is_durable_all_the_same() {
    let (engine, _) = engine(true);
    engine.edit(&publish(&engine, "1"), &by('0', false)).unwrap();
    let done = switched(engine.edit(&select("a"), &by('1', false)).unwrap());
    assert_eq!(done.unshown.as_deref(), Some("no kernel"));
    assert_eq!(engine.store.newest().unwrap().unwrap().number, GenerationNumber(1));
}

#[test]
fn the_view_after_every_edit_is_the_compiled_one() {
    let (engine, _) = engine(false);
    for version in ["1", "2"] {
        engine.edit(&publish(&engine, version), &by('0', false)).unwrap();
    }
    for edit in [select("a@1"), select("a@2"), Edit::Undo, Edit::Redo, select("a@prev")] {
        engine.edit(&edit, &by('1', false)).unwrap();
        let shown = engine.shown();
        let newest = engine.store.newest().unwrap().unwrap();
        assert_eq!(*shown.view, View::compile(&newest.system, &shown.catalog), "{edit:?}");
        assert_eq!(shown.generations.len() as u64, newest.number.0);
    }
}

#[test]
fn runs_of_numbers_are_joined() {
    let text =
        |list: &[u64]| numbers(&list.iter().copied().map(GenerationNumber).collect::<Vec<_>>());
    assert_eq!(text(&[1]), "1");
    assert_eq!(text(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
}

#[test]
fn over_a_damaged_newest_generation_only_restore_goes_on() {
    let (first, log) = engine(false);
    for version in ["1", "2"] {
        first.edit(&publish(&first, version), &by('0', false)).unwrap();
        first.edit(&select(&format!("a@{version}")), &by('1', false)).unwrap();
    }
    let store = Arc::clone(&first.store);
    drop(first);
    assert!(store.disk().damage(Path::new("generations/2"), |bytes| bytes.truncate(9)));
    // Nothing else may be shown in its place.
    let show = Recorder { store: Arc::clone(&store), log: Arc::clone(&log), broken: false };
    let writer = store.writer().unwrap();
    let refused = Engine::open(Arc::clone(&store), writer, Box::new(show), host());
    let Err(EngineError::Newest(damaged)) = refused else { panic!("{refused:?}") };
    assert_eq!((damaged.number.0, damaged.readable.0), (2, 1));

    let writer = store.writer().unwrap();
    let engine = Engine::open_unmounted(Arc::clone(&store), writer, host()).unwrap();
    let restore = |to| Edit::Restore { to: GenerationNumber(to) };
    for edit in [select("a"), Edit::Undo, Edit::Redo, restore(2)] {
        let refused = engine.edit(&edit, &by('3', false));
        assert!(matches!(refused, Err(EngineError::Newest(_))), "{edit:?}: {refused:?}");
    }
    let done = switched(engine.edit(&restore(1), &by('4', false)).unwrap());
    assert_eq!((done.before.0, done.after.0), (2, 3));
    let newest = store.newest().unwrap().unwrap();
    assert_eq!(newest.cause.action, Action::Restore { to: GenerationNumber(1) });
    assert_eq!(newest.system, store.generation(GenerationNumber(1)).unwrap().system);
    engine.edit(&select("a@2"), &by('5', false)).unwrap();
}

/// A bad file of the store's disk, as `fsck` finds it.
fn needed(engine: &Engine<SimDisk>) -> store_fs::Needed {
    let options = store_fs::FsckOptions { data: true };
    store_fs::fsck(&engine.store, &host(), options, &|_, _| {}).unwrap().needed
}

fn damage(engine: &Engine<SimDisk>, path: &str) {
    assert!(engine.store.disk().damage(Path::new(path), |bytes| bytes.truncate(20)));
}

fn repaired(done: Result<Done, EngineError>) -> (Vec<String>, Option<GenerationNumber>) {
    match done.unwrap() {
        Done::Repaired { aside, renewed, .. } => {
            (aside.iter().map(|path| path.display().to_string()).collect(), renewed)
        }
        other => panic!("{other:?}"),
    }
}

fn forget(keep: u64) -> Edit {
    Edit::Forget { keep, since: None, used: Used::default() }
}

fn forgotten(done: Done) -> Forgotten {
    match done {
        Done::Forgotten(forgotten) => forgotten,
        other => panic!("{other:?}"),
    }
}

fn repair(engine: &Engine<SimDisk>, newest: bool) -> (Vec<String>, Option<GenerationNumber>) {
    let needed = needed(engine);
    let aside = needed.bad.into_iter().chain(needed.newest).collect();
    let edit = Edit::Repair { aside, newest, index: needed.index };
    repaired(engine.edit(&edit, &by('9', false)))
}

#[test]
fn the_newest_generation_is_written_again_by_who_knows_it() {
    let (engine, log) = engine(false);
    for version in ["1", "2"] {
        engine.edit(&publish(&engine, version), &by('0', false)).unwrap();
        engine.edit(&select(&format!("a@{version}")), &by('1', false)).unwrap();
    }
    let good = engine.store.newest().unwrap();
    damage(&engine, "generations/2");
    for newest in [false, true] {
        assert!(engine.store.newest().is_err() || newest);
        let (aside, renewed) = repair(&engine, newest);
        assert_eq!(aside, [""; 0]);
        assert_eq!(renewed, (!newest).then_some(GenerationNumber(2)));
        assert_eq!(engine.store.newest().unwrap(), good);
    }
    let kept = engine.store.disk().files();
    assert!(kept.iter().any(|path| path.ends_with("19700101T000001Z/generations/2")), "{kept:?}");
    // An old one goes, and whoever looks is told.
    log.lock().clear();
    damage(&engine, "generations/1");
    assert_eq!(repair(&engine, false).0, ["aside/19700101T000001Z-2/generations/1"]);
    assert_eq!(*log.lock(), ["promise .generations/1 of 2", "show 2 of 1, 2"]);
    assert_eq!(engine.shown().generations.len(), 1);
    assert!(matches!(engine.edit(&Edit::Undo, &by('2', false)), Err(EngineError::NothingToUndo)));
    engine.edit(&select("a@1"), &by('3', false)).unwrap();
}

#[test]
fn nobody_steps_back_unless_told() {
    let (engine, _) = engine(false);
    engine.edit(&publish(&engine, "1"), &by('0', false)).unwrap();
    engine.edit(&select("a"), &by('1', false)).unwrap();
    damage(&engine, "generations/1");
    let store = Arc::clone(&engine.store);
    drop(engine);
    let writer = store.writer().unwrap();
    let engine = Engine::open_unmounted(store, writer, host()).unwrap();
    assert_eq!(repair(&engine, false), (Vec::new(), None));
    assert!(engine.store.newest().is_err());
    assert_eq!(repair(&engine, true).0.len(), 1);
    assert_eq!(engine.store.newest().unwrap(), None);
    assert_eq!(engine.shown().generation, GenerationNumber(0));
}

/// A record that cannot be read keeps its place until a good one takes it, and is kept then.
#[test]
fn a_damaged_record_gives_way_only_to_a_good_one() {
    let (engine, _) = engine(false);
    let edit = publish(&engine, "1");
    engine.edit(&edit, &by('0', false)).unwrap();
    damage(&engine, "releases/a/1,amd64");
    let stamp = r#"{"inode":1,"len":20,"changed_secs":0,"changed_nanos":0,"path":"PATH"}"#;
    let file = |path: &str| serde_json::from_str(&stamp.replace("PATH", path)).unwrap();
    let aside = vec![file("releases/a/1,amd64")];
    let asked = Edit::Repair { aside, newest: true, index: false };
    assert_eq!(repaired(engine.edit(&asked, &by('1', false))).0, [""; 0]);
    let (_, problems) = engine.store.catalog(host()).unwrap();
    assert_eq!(problems.len(), 1);
    engine.edit(&edit, &by('2', false)).unwrap();
    let (catalog, problems) = engine.store.catalog(host()).unwrap();
    assert_eq!((catalog.len(), problems.len()), (1, 0));
    let files = engine.store.disk().files();
    assert!(files.iter().any(|path| path.ends_with("releases/a/1,amd64")));
    assert_eq!(files.iter().filter(|path| path.starts_with("aside")).count(), 1);
    // Nor is anything moved that is no file of a store.
    for path in ["format", "lock", "../x", "blobs/ab/x", "/etc/passwd"] {
        let asked = Edit::Repair { aside: vec![file(path)], newest: true, index: false };
        let refused = engine.edit(&asked, &by('3', false));
        assert!(matches!(refused, Err(EngineError::Store(StoreError::Damaged { .. }))), "{path}");
    }
}

/// Four releases of different content, selected one after the other.
fn with_a_line() -> (Engine<SimDisk>, Log) {
    let (engine, log) = engine(false);
    for version in ["1", "2", "3", "4"] {
        let addition = engine.store.add().unwrap();
        let mut tree = TreeBuilder::new();
        let blob = addition.bytes(version.as_bytes()).unwrap();
        tree.file(b"version", blob, 1, 0, false).unwrap();
        let object = addition.finish(tree).unwrap().id();
        let Edit::Publish { mut release } = publish(&engine, version) else {
            unreachable!("as made")
        };
        release.object = object;
        engine.edit(&Edit::Publish { release }, &by('0', false)).unwrap();
        let digit = version.chars().next().unwrap();
        engine.edit(&select(&format!("a@{version}")), &by(digit, false)).unwrap();
    }
    (engine, log)
}

#[test]
fn names_go_before_what_they_name_and_the_kernel_is_told() {
    let (engine, log) = with_a_line();
    log.lock().clear();
    let gone = forgotten(engine.edit(&forget(2), &by('9', false)).unwrap());
    assert_eq!(gone.generations, [1, 2].map(GenerationNumber));
    let versions: Vec<String> = gone.releases.iter().map(|id| id.version.to_string()).collect();
    assert_eq!(versions, ["1", "2"]);
    // Promised while all was there, shown when it was gone.
    assert_eq!(*log.lock(), ["promise .generations/2 of 4", "show 4 of 2, 2"]);
    assert_eq!(engine.shown().generations.len(), 2);
    // The same again does nothing, and answers.
    assert_eq!(forgotten(engine.edit(&forget(2), &by('9', true)).unwrap()), Forgotten::default());
    // The empty object of `publish` was never named; two lost their names.
    let trash = Edit::Trash { used: Vec::new() };
    let Done::Trashed { objects } = engine.edit(&trash, &by('8', false)).unwrap() else {
        panic!("an answer about the trash")
    };
    assert_eq!(objects.len(), 3);
    let empty = Edit::EmptyTrash { used: vec![objects[0]] };
    let Done::Emptied(deleted) = engine.edit(&empty, &by('7', false)).unwrap() else {
        panic!("an answer about the trash")
    };
    assert_eq!(deleted.objects, 2, "one is used");
    engine.edit(&Edit::Undo, &by('6', false)).unwrap();
}

#[test]
fn undo_goes_no_further_than_what_is_kept_without_a_gap() {
    let (engine, _) = with_a_line();
    let used = Used { generations: vec![GenerationNumber(1)], ..Used::default() };
    let edit = Edit::Forget { keep: 2, since: None, used };
    let gone = forgotten(engine.edit(&edit, &by('9', false)).unwrap());
    assert_eq!(gone.generations, [GenerationNumber(2)]);
    let undone = switched(engine.edit(&Edit::Undo, &by('8', false)).unwrap());
    assert_eq!((undone.before.0, undone.after.0), (4, 5));
    let refused = engine.edit(&Edit::Undo, &by('7', false));
    assert!(matches!(refused, Err(EngineError::NothingToUndo)), "{refused:?}");
    engine.edit(&Edit::Redo, &by('6', false)).unwrap();
    // What is below the gap can be named.
    engine.edit(&Edit::Restore { to: GenerationNumber(1) }, &by('5', false)).unwrap();
}

/// The state that it was made from is gone.
#[test]
fn a_request_is_found_also_when_its_parent_was_collected() {
    let (engine, _) = with_a_line();
    engine.edit(&forget(1), &by('9', false)).unwrap();
    let done = engine.outcome(&by('4', true).request.unwrap()).unwrap().unwrap();
    assert_eq!(switched(done).after, GenerationNumber(4));
}

#[test]
fn what_is_young_stays() {
    let (engine, _) = with_a_line();
    // All were made at 1, and the records of a simulated disk are of 0.
    for (since, generations, releases) in [(0, 0, 0), (1, 0, 0), (2, 3, 3)] {
        let state = State::load(&engine.store, &host()).unwrap();
        let keep = Keep { count: 1, since: Some(Timestamp(since)) };
        let gone = state.forgettable(&engine.store, &keep, &Used::default()).unwrap();
        let counts = (gone.generations.len(), gone.releases.len());
        assert_eq!(counts, (generations, releases), "{since}");
    }
}

#[test]
fn nothing_goes_while_a_kept_generation_cannot_be_read() {
    let (engine, _) = with_a_line();
    let flip = |bytes: &mut Vec<u8>| bytes[0] ^= 1;
    assert!(engine.store.disk().damage(Path::new("generations/3"), flip));
    let refused = engine.edit(&forget(2), &by('9', false));
    assert!(matches!(refused, Err(EngineError::Store(_))), "{refused:?}");
    assert_eq!(engine.store.generations().unwrap().len(), 4);
    // One that is not kept may go.
    engine.edit(&forget(1), &by('8', false)).unwrap();
    assert_eq!(engine.store.generations().unwrap().len(), 1);
}
