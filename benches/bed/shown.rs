//! A file system in this process that shows what is selected, and a kernel that is told in vain.

use std::io;
use std::sync::Arc;

use dynfs::engine::{Show, State};
use dynfs::host;
use resolver::View;
use store_fs::fs::{Ino, Kernel, announce};
use store_fs::{Disk, DynFs, Memory, Shown, Store};

/// The file system. Every directory that a kernel could know is known.
#[derive(Debug)]
pub(crate) struct InProcess<D: Disk> {
    fs: DynFs<D>,
}

impl<D: Disk> InProcess<D> {
    pub(crate) fn new(store: &Arc<Store<D>>) -> Self {
        let state = State::load(store, &host::arch()).expect("all records are whole");
        let fs = file_system(store, shown(&state));
        Self { fs }
    }
}

impl<D: Disk> Show for InProcess<D> {
    fn promise(&self, _names: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn show(&self, next: Shown) -> io::Result<()> {
        announce(&Nobody, &self.fs.show(next))
    }
}

/// What is to be shown of a state.
pub(crate) fn shown(state: &State) -> Shown {
    Shown {
        generation: state.current.number,
        view: Arc::new(View::compile(&state.current.system, &state.catalog)),
        catalog: Arc::clone(&state.catalog),
        generations: Arc::clone(&state.generations),
    }
}

/// A file system in which somebody has listed every virtual directory of the live tree.
pub(crate) fn file_system<D: Disk>(store: &Arc<Store<D>>, shown: Shown) -> DynFs<D> {
    let memory = Arc::new(Memory::create().expect("memory"));
    let fs = DynFs::new(Arc::clone(store), memory, shown);
    for name in ["lib", "app", "bin", "so", ".generations"] {
        let entry = fs.lookup(Ino::ROOT, name.as_bytes()).expect("virtual");
        let dir = entry.expect("every package lives in one of them").attr.ino;
        fs.readdir(dir, 0, true, &mut |_| false).expect("virtual");
    }
    fs
}

struct Nobody;

impl Kernel for Nobody {
    fn drop_entry(&self, _parent: Ino, _name: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn drop_list(&self, _dir: Ino) -> io::Result<()> {
        Ok(())
    }
}
