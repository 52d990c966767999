//! Which virtual directory a place is: a function of the names on the way to it, and of nothing
//! else, so a number means the same directory before and after every swap.
//!
//! ```text
//! (root)                    Root of the live tree
//!   bin, so, <category>     directories of its view
//!   .generations            numbers, and numbers with releases put in
//!     <n>, <n>;<release>;.. Root of a frozen tree: bin, so, <category>, .root
//!   .objects                ids
//!   .profiles, .root        empty
//! ```
//!
//! Nothing here says whether a name exists now.

use std::sync::{Arc, OnceLock};

use resolver::{Category, GenerationNumber, VirtualDir};

use crate::slots::{ROOT_PLACE, SLOTS_MAX, Share, Slots};

/// Directories on the way to the deepest one: root, `.generations`, number, category.
const DEPTH_MAX: u32 = 4;
/// Cells that are made at once.
const CHUNK: usize = 1024;

/// A virtual directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// The slot of its place.
    pub(super) slot: u32,
    /// The slot of its parent's place; its own for the root.
    pub(super) parent: u32,
    /// Which tree it belongs to.
    pub(super) tree: TreeName,
    /// What it holds.
    pub(super) role: Role,
}

/// The tree that a directory belongs to.
#[derive(Clone, Debug)]
pub(super) enum TreeName {
    /// What is selected now.
    Live,
    /// A generation, for ever.
    Frozen(Arc<FrozenName>),
}

/// What a virtual directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A directory of the tree's view.
    View(VirtualDir),
    /// `.generations`.
    Generations,
    /// `.objects`.
    Objects,
    /// Nothing, for ever.
    Empty,
}

/// A name in `.generations`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrozenName {
    /// The slot of its place.
    pub(super) slot: u32,
    /// The generation.
    pub(super) number: GenerationNumber,
    /// What stands behind the first `;`, if there is one.
    pub(super) releases: Option<Box<str>>,
}

impl FrozenName {
    /// Takes a name apart; `None` for one that is not written as the number itself is.
    pub(super) fn parse(slot: u32, name: &str) -> Option<Self> {
        let (number, releases) = match name.split_once(';') {
            Some((number, releases)) => (number, Some(releases.into())),
            None => (name, None),
        };
        let parsed = GenerationNumber(number.parse().ok()?);
        let canonical = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        canonical.then_some(Self { slot, number: parsed, releases })
    }
}

impl Directory {
    /// On whose account names in it are remembered.
    pub(super) fn share(&self) -> Share {
        match (&self.tree, &self.role) {
            (TreeName::Live, Role::View(_)) => Share::Live,
            _ => Share::Dotted,
        }
    }

    /// The directory that `name` is in this one, if it is one whenever it is there.
    fn child(&self, slot: u32, name: &str) -> Option<Self> {
        let view = |dir| Some((self.tree.clone(), Role::View(dir)));
        let live = matches!(self.tree, TreeName::Live);
        let (tree, role) = match (&self.role, name) {
            (Role::View(VirtualDir::Root), "bin") => view(VirtualDir::Bin),
            (Role::View(VirtualDir::Root), "so") => view(VirtualDir::So),
            (Role::View(VirtualDir::Root), ".root") => Some((self.tree.clone(), Role::Empty)),
            (Role::View(VirtualDir::Root), ".profiles") if live => {
                Some((TreeName::Live, Role::Empty))
            }
            (Role::View(VirtualDir::Root), ".generations") if live => {
                Some((TreeName::Live, Role::Generations))
            }
            (Role::View(VirtualDir::Root), ".objects") if live => {
                Some((TreeName::Live, Role::Objects))
            }
            (Role::View(VirtualDir::Root), _) => {
                view(VirtualDir::Category(Category::new(name).ok()?))
            }
            (Role::Generations, _) => {
                let name = FrozenName::parse(slot, name)?;
                Some((TreeName::Frozen(Arc::new(name)), Role::View(VirtualDir::Root)))
            }
            _ => None,
        }?;
        Some(Self { slot, parent: self.slot, tree, role })
    }
}

/// The virtual directories by slot, each read from the slot table once. Readers take no lock.
#[derive(Debug)]
pub(super) struct Directories {
    slots: Slots,
    chunks: Box<[OnceLock<Chunk>]>,
}

/// The cells of [`CHUNK`] slots, made when one of them is a directory.
type Chunk = Box<[OnceLock<Box<Directory>>]>;

impl Directories {
    pub(super) fn new(slots: Slots) -> Self {
        let chunks = (0..SLOTS_MAX.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self { slots, chunks }
    }

    /// The directory of a place; `None` when the slot is something else.
    pub(super) fn get(&self, slot: u32) -> Option<&Directory> {
        self.get_within(slot, DEPTH_MAX)
    }

    fn get_within(&self, slot: u32, depth: u32) -> Option<&Directory> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?;
        if let Some(known) = chunk.get().and_then(|cells| cells[slot as usize % CHUNK].get()) {
            return Some(known);
        }
        let directory = self.read(slot, depth)?;
        let cells = chunk.get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        Some(cells[slot as usize % CHUNK].get_or_init(|| Box::new(directory)))
    }

    fn read(&self, slot: u32, depth: u32) -> Option<Directory> {
        if slot == ROOT_PLACE {
            let role = Role::View(VirtualDir::Root);
            return Some(Directory { slot, parent: slot, tree: TreeName::Live, role });
        }
        let (parent, name) = self.slots.place(slot)?;
        let parent = self.get_within(parent, depth.checked_sub(1)?)?;
        parent.child(slot, std::str::from_utf8(&name).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;
    use crate::slots::Key;

    fn at(slots: &Slots, path: &str) -> u32 {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT_PLACE, |parent, name| {
            slots.intern(Key::Place { parent, name: name.as_bytes() }, Share::Live).unwrap()
        })
    }

    #[test]
    fn a_place_is_what_its_path_says() {
        let slots = Slots::new(Arc::new(Memory::create().unwrap()));
        let directories = Directories::new(slots.clone());
        let lib = || Role::View(VirtualDir::Category(Category::new("lib").unwrap()));
        for (path, role, share) in [
            ("", Some(Role::View(VirtualDir::Root)), Share::Live),
            ("lib", Some(lib()), Share::Live),
            ("bin", Some(Role::View(VirtualDir::Bin)), Share::Live),
            ("so", Some(Role::View(VirtualDir::So)), Share::Live),
            (".generations", Some(Role::Generations), Share::Dotted),
            (".objects", Some(Role::Objects), Share::Dotted),
            (".profiles", Some(Role::Empty), Share::Dotted),
            (".root", Some(Role::Empty), Share::Dotted),
            (".generations/7", Some(Role::View(VirtualDir::Root)), Share::Dotted),
            (".generations/7;a@1", Some(Role::View(VirtualDir::Root)), Share::Dotted),
            (".generations/7/lib", Some(lib()), Share::Dotted),
            (".generations/7/.root", Some(Role::Empty), Share::Dotted),
            (".generations/7/.generations", None, Share::Live),
            (".generations/07", None, Share::Live),
            (".generations/+7", None, Share::Live),
            (".generations/x", None, Share::Live),
            ("lib/xz", None, Share::Live),
            ("lib/xz/lib", None, Share::Live),
            ("bin/xz", None, Share::Live),
            ("pkgconfig", None, Share::Live),
            (".other", None, Share::Live),
            (".objects/00", None, Share::Live),
        ] {
            let slot = at(&slots, path);
            let found = directories.get(slot);
            assert_eq!(found.map(|directory| directory.role.clone()), role, "{path}");
            if let Some(directory) = found {
                assert_eq!((directory.slot, directory.share()), (slot, share), "{path}");
            }
        }
        assert!(directories.get(u32::MAX).is_none());
        let late = u32::try_from(slots.len()).unwrap();
        assert!(directories.get(late).is_none());
        assert_eq!(at(&slots, "late"), late);
        assert!(directories.get(late).is_some(), "a slot not yet in use was not remembered");
    }

    #[test]
    fn names_of_frozen_trees() {
        for (name, number, releases) in
            [("0", 0, None), ("12;a@1;b@2,debug", 12, Some("a@1;b@2,debug")), ("12;", 12, Some(""))]
        {
            let parsed = FrozenName::parse(3, name).unwrap();
            assert_eq!(parsed.number, GenerationNumber(number));
            assert_eq!(parsed.releases.as_deref(), releases, "{name}");
        }
        for name in ["", "00", "-1", " 1", "18446744073709551616", ";a@1", "1x"] {
            assert_eq!(FrozenName::parse(3, name), None, "{name}");
        }
    }
}
