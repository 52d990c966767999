//! What a power cut can leave of a simulated disk: each state that is possible, one by one.
//!
//! A piece is a name or the content of a file. One that is not durable is found in any of several
//! states, whatever is found of the others:
//!
//! ```text
//! name      what it stood for when its directory was synced, and everything since
//! content   as it was synced; whole; zeros of its length; cut in the middle; one half of zeros
//! ```
//!
//! Names whose directory is not found, and content that no name leads to, are no pieces: so two
//! different lists of choices are two different states, but for a name that has come back to what
//! it durably stands for.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Content, Inode, Node, SimDisk, State, same};

/// What a power cut at one moment may leave. It shares nothing with the disk that goes on.
#[derive(Clone, Debug)]
pub struct PowerCut {
    root: PathBuf,
    /// Sorted, so that a directory comes before what is in it.
    names: Vec<Name>,
    next_inode: u64,
}

#[derive(Clone, Debug)]
struct Name {
    path: PathBuf,
    /// Its directory's place among the names; `None` at the top.
    parent: Option<usize>,
    /// The path, hashed.
    hash: u64,
    /// The durable state first, and the newest last.
    states: Vec<Option<Found>>,
}

/// What a name may be found to stand for.
#[derive(Clone, Debug)]
enum Found {
    Dir,
    File(Arc<Candidates>),
}

/// A file and what may be found in it: the durable content first, and the newest last.
#[derive(Debug)]
struct Candidates {
    number: u64,
    contents: Vec<Arc<Vec<u8>>>,
}

/// Mixes words into a number: odd, with its bits well spread.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Chooses one of so many states.
type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

impl PowerCut {
    pub(super) fn of(root: &Path, state: &State) -> Self {
        let State { now, durable, between, next_inode, .. } = state;
        let mut files = BTreeMap::new();
        let mut found = |node: &Node| match node {
            Node::Dir => Found::Dir,
            Node::File(inode) => {
                let candidates = || Arc::new(Candidates::of(inode));
                Found::File(Arc::clone(files.entry(inode.number).or_insert_with(candidates)))
            }
        };
        let mut paths: Vec<&PathBuf> = now.keys().chain(durable.keys()).collect();
        paths.extend(between.keys());
        paths.sort_unstable();
        paths.dedup();
        let mut names: Vec<Name> = Vec::new();
        for path in paths {
            let (first, last) = (durable.get(path), now.get(path));
            let mut states: Vec<Option<&Node>> = vec![first];
            for node in between.get(path).into_iter().flatten().map(Option::as_ref) {
                if !same(node, last) && !states.iter().any(|known| same(*known, node)) {
                    states.push(node);
                }
            }
            if states.len() > 1 || !same(first, last) {
                states.push(last);
            }
            let states = states.into_iter().map(|node| node.map(&mut found)).collect();
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let parent = dir.map(|dir| {
                let at = names.binary_search_by(|name| name.path.as_path().cmp(dir));
                at.expect("a directory is named as long as something is in it")
            });
            let mut hasher = DefaultHasher::new();
            path.hash(&mut hasher);
            names.push(Name { path: path.clone(), parent, hash: hasher.finish(), states });
        }
        Self { root: root.to_owned(), names, next_inode: *next_inode }
    }

    /// The disk as it may be found. For each piece that is not durable, `choose` hears in how many
    /// states it may be found, and answers with one: 0 is what was durable, the last the newest.
    pub fn image(&self, choose: &mut dyn FnMut(usize) -> usize) -> SimDisk {
        let mut found: BTreeMap<PathBuf, Node> = BTreeMap::new();
        let mut files: BTreeMap<u64, Arc<Inode>> = BTreeMap::new();
        self.decide(choose, &mut |name, piece| {
            let node = match piece {
                None => Node::Dir,
                Some((file, chosen)) => {
                    let (number, content) = (file.number, &file.contents[chosen]);
                    let inode = files.entry(number).or_insert_with(|| {
                        let (now, durable) = (Arc::clone(content), Arc::clone(content));
                        Arc::new(Inode { number, content: Mutex::new(Content { now, durable }) })
                    });
                    Node::File(Arc::clone(inode))
                }
            };
            found.insert(name.path.clone(), node);
        });
        let (now, durable) = (found.clone(), found);
        let image = State { now, durable, next_inode: self.next_inode, ..State::default() };
        SimDisk { root: self.root.clone(), state: Arc::new(Mutex::new(image)) }
    }

    /// A number that is the same for the same state, also when another cut of the same disk leaves
    /// it, and almost certainly another for another state.
    pub fn mark(&self, choose: &mut dyn FnMut(usize) -> usize) -> u128 {
        let mut halves = [0_u64, 1];
        let mut add = |word: u64| {
            for (half, factor) in halves.iter_mut().zip([FACTOR, FACTOR.swap_bytes() | 1]) {
                *half = (half.rotate_left(29) ^ word).wrapping_mul(factor);
            }
        };
        self.decide(choose, &mut |name, piece| {
            add(name.hash);
            let Some((file, chosen)) = piece else { return };
            add(file.number);
            // Whole content is known by its file.
            if chosen + 1 < file.contents.len() {
                let mut hasher = DefaultHasher::new();
                file.contents[chosen].hash(&mut hasher);
                add(hasher.finish());
            }
        });
        u128::from(halves[0]) << 64 | u128::from(halves[1])
    }

    /// Every state, each as the list of its choices; `None` when there are more than `most`.
    #[must_use]
    pub fn states(&self, most: usize) -> Option<Vec<Vec<usize>>> {
        let mut all = Vec::new();
        let mut line: Vec<(usize, usize)> = Vec::new();
        loop {
            let mut at = 0;
            let mut choose = |states: usize| {
                if at == line.len() {
                    line.push((0, states));
                }
                at += 1;
                line[at - 1].0
            };
            self.decide(&mut choose, &mut |_, _| {});
            if all.len() == most {
                return None;
            }
            all.push(line.iter().map(|(choice, _)| *choice).collect());
            // On to the next: the last choice that has another one left takes it.
            loop {
                match line.pop() {
                    None => return Some(all),
                    Some((choice, states)) if choice + 1 < states => {
                        line.push((choice + 1, states));
                        break;
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Walks through all pieces, and tells `take` of everything that is found.
    fn decide(&self, choose: Choose<'_>, take: &mut dyn FnMut(&Name, Option<Piece<'_>>)) {
        let mut is_found = vec![false; self.names.len()];
        // Content that there is a choice of is chosen once, however many names it has.
        let mut chosen: Vec<(u64, usize)> = Vec::new();
        for (at, name) in self.names.iter().enumerate() {
            if name.parent.is_some_and(|parent| !is_found[parent]) {
                continue;
            }
            match &name.states[one_of(name.states.len(), choose)] {
                None => {}
                Some(Found::Dir) => {
                    is_found[at] = true;
                    take(name, None);
                }
                Some(Found::File(file)) => {
                    let known = chosen.iter().find(|(number, _)| *number == file.number);
                    let content = match (file.contents.len(), known) {
                        (1, _) => 0,
                        (_, Some((_, content))) => *content,
                        (contents, None) => {
                            let content = one_of(contents, choose);
                            chosen.push((file.number, content));
                            content
                        }
                    };
                    take(name, Some((file, content)));
                }
            }
        }
    }
}

/// A file, and which of its contents is found in it.
type Piece<'a> = (&'a Candidates, usize);

/// What is durable is no choice.
fn one_of(states: usize, choose: Choose<'_>) -> usize {
    if states == 1 { 0 } else { choose(states).min(states - 1) }
}

impl Candidates {
    fn of(inode: &Inode) -> Self {
        let Content { now, durable } = inode.content.lock().clone();
        let mut contents = vec![Arc::clone(&durable)];
        if *now != *durable {
            let half = now.len() / 2;
            let zeros = vec![0; now.len()];
            let mut head = zeros.clone();
            head[..half].copy_from_slice(&now[..half]);
            let mut tail = zeros.clone();
            tail[half..].copy_from_slice(&now[half..]);
            for content in [zeros, now[..half].to_vec(), head, tail] {
                if content != *now && contents.iter().all(|known| **known != content) {
                    contents.push(Arc::new(content));
                }
            }
            contents.push(now);
        }
        Self { number: inode.number, contents }
    }
}
