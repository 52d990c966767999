//! A store with a few releases, and the states that it goes through: packages swapped, added and
//! removed; a generation that goes; a release that comes back with other content.

use std::path::Path;
use std::sync::Arc;

use resolver::{
    Action, Arch, Catalog, Cause, Generation, GenerationNumber, Selection, Selections, Timestamp,
    View, Why,
};
use store_fs::{Prefix, Shown, SimDisk, Store};

use super::world::release;

/// What is shown at one time, by names: `+` is selected, `-` only in the catalog. `x@1'` is
/// another content under the name `x@1`.
struct Sketch {
    releases: &'static [(&'static str, char)],
    generations: &'static [u64],
}

const STATES: [Sketch; 6] = [
    Sketch { releases: &[("x@1", '+'), ("x@2", '-'), ("y@1", '+')], generations: &[1] },
    Sketch { releases: &[("x@1", '-'), ("x@2", '+')], generations: &[1, 2] },
    Sketch {
        releases: &[("x@1", '-'), ("x@2", '+'), ("y@1", '+'), ("z@1", '+')],
        generations: &[2, 3],
    },
    Sketch { releases: &[("x@2", '+'), ("y@1", '-'), ("z@1", '-')], generations: &[2, 3, 4] },
    Sketch { releases: &[("x@1'", '+'), ("x@2", '-')], generations: &[2, 3, 4, 5] },
    Sketch { releases: &[("x@1'", '-'), ("x@2", '+')], generations: &[5, 6] },
];

/// The store, with everything that is ever shown.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Arc<Store<SimDisk>>,
    pub(crate) states: Vec<Shown>,
}

impl World {
    pub(crate) fn new() -> Self {
        let prefix = Prefix::new(Path::new("/dyn")).expect("a prefix");
        let store = Arc::new(Store::create(SimDisk::default(), &prefix).expect("an empty disk"));
        let mut states: Vec<Shown> = Vec::new();
        for (number, sketch) in (1..).zip(&STATES) {
            let before = states.last().map(|shown| Arc::clone(&shown.catalog));
            states.push(state(&store, number, sketch, before));
        }
        Self { store, states }
    }
}

/// Makes a generation and what is shown with it.
fn state(
    store: &Store<SimDisk>,
    number: u64,
    sketch: &Sketch,
    before: Option<Arc<Catalog>>,
) -> Shown {
    let mut catalog = Catalog::new(Arch::new("amd64").expect("a name"));
    let mut system = Selections::default();
    for (name, selected) in sketch.releases {
        let release = Arc::new(release(store, name));
        catalog.insert(Arc::clone(&release)).expect("no other has its name");
        if *selected == '+' {
            let selection = Selection {
                release: release.id.clone(),
                category: release.category.clone(),
                object: release.object,
                why: Why::NeededBy(release.id.name.clone()),
                previous: None,
            };
            system.packages.insert(release.id.name.clone(), selection);
        }
    }
    let view = Arc::new(View::compile(&system, &catalog));
    let generation = GenerationNumber(number);
    let record = Generation {
        number: generation,
        parent: (number > 1).then(|| GenerationNumber(number - 1)),
        at: Timestamp(0),
        cause: Cause { action: Action::Apply, uid: 0, request: None },
        system,
    };
    let writer = store.writer().expect("nobody else writes");
    store.write_generation(&writer, &record).expect("written").publish().expect("published");
    let same = |before: &Arc<Catalog>| {
        let all = |catalog: &Catalog| -> Vec<_> {
            catalog.packages().map(|(name, releases)| (name.clone(), releases.to_vec())).collect()
        };
        all(before) == all(&catalog)
    };
    let catalog = before.filter(same).unwrap_or_else(|| Arc::new(catalog));
    let generations = sketch.generations.iter().copied().map(GenerationNumber).collect();
    Shown { generation, view, catalog, generations: Arc::new(generations) }
}
