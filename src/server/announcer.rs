//! Show and announce: the one thread that talks to the kernel on its own account.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resolver::{GenerationNumber, View};
use store_fs::fs::announce;
use store_fs::sync::{AtomicBool, Receiver, Sender, channel, spawn};
use store_fs::{Announcement, Disk, DynFs, Kernel, Memory, Shown, Store, StoreError};

use super::guardian::Line;
use crate::engine::Show;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

/// One thing to tell, and where to say that it was told.
type Order = (Announcement, Sender<io::Result<()>>);

/// The thread that tells the kernel. It holds no lock, because the kernel makes it wait for every
/// lookup that runs in the directory it speaks of.
#[derive(Debug)]
pub(super) struct Announcer {
    orders: Sender<Order>,
}

impl Announcer {
    pub(super) fn start(kernel: impl Kernel + Send + 'static, line: Arc<Line>) -> io::Result<Self> {
        let (orders, waiting) = channel();
        spawn("announcer", move || run(&kernel, &line, &waiting))?;
        Ok(Self { orders })
    }

    /// Returns when the kernel has been told.
    fn tell(&self, announcement: Announcement) -> io::Result<()> {
        let (told, answer) = channel();
        let gone = || io::Error::other("the announcing thread has ended");
        self.orders.send((announcement, told)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn run(kernel: &dyn Kernel, line: &Line, waiting: &Receiver<Order>) {
    for (announcement, told) in waiting {
        // Killed in here, this process looks alive to everybody who does not look closely.
        line.say(b"A");
        let result = tell(kernel, &announcement);
        line.say(b"a");
        if let Err(error) = &result {
            tracing::error!("the kernel could not be told of a change: {error}");
        }
        if told.send(result).is_err() {
            tracing::debug!("nobody waited for an announcement");
        }
    }
}

fn tell(kernel: &dyn Kernel, announcement: &Announcement) -> io::Result<()> {
    #[cfg(debug_assertions)]
    super::fault::deaf()?;
    announce(kernel, announcement)
}

/// The mounted file system: shows, then has the kernel told.
#[derive(Debug)]
pub(super) struct Mounted<D: Disk> {
    fs: Arc<DynFs<D>>,
    memory: Arc<Memory>,
    announcer: Announcer,
    /// An announcement failed, and nothing that was told since makes up for it.
    is_behind: AtomicBool,
}

impl<D: Disk> Mounted<D> {
    pub(super) fn new(fs: Arc<DynFs<D>>, memory: Arc<Memory>, announcer: Announcer) -> Self {
        Self { fs, memory, announcer, is_behind: AtomicBool::new(false) }
    }

    /// Whether what is selected cannot be read, and is an error therefore.
    pub(super) fn is_withheld(&self) -> bool {
        self.fs.is_withheld()
    }

    /// Shows `now`, and tells the kernel what it has not been told by servers before this one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn catch_up(&self, store: &Store<D>, now: Shown) -> io::Result<()> {
        let told = self.last_told(store, &now);
        let generation = now.generation;
        // What this server itself has answered since it began, should the store have changed.
        self.announcer.tell(self.fs.show(now))?;
        let promised = self.memory.promised();
        let announcement = match told {
            Ok(told) => self.fs.catch_up(&told, &promised),
            Err(error) => {
                tracing::error!("what the kernel knows cannot be read, so it forgets all: {error}");
                self.fs.catch_up_blindly(&promised)
            }
        };
        self.tell(announcement, generation)?;
        Ok(())
    }

    fn last_told(&self, store: &Store<D>, now: &Shown) -> Result<Shown, StoreError> {
        let generation = self.memory.announced();
        let view = if generation == GenerationNumber(0) {
            View::default()
        } else {
            View::compile(&store.generation(generation)?.system, &now.catalog)
        };
        let generations = now.generations.range(..=generation).copied().collect();
        Ok(Shown {
            generation,
            view: Arc::new(view),
            catalog: Arc::clone(&now.catalog),
            generations: Arc::new(generations),
        })
    }

    fn tell(&self, announcement: Announcement, generation: GenerationNumber) -> io::Result<()> {
        self.is_behind.store(true, Ordering::SeqCst);
        self.announcer.tell(announcement)?;
        self.is_behind.store(false, Ordering::SeqCst);
        self.memory.set_announced(generation);
        self.memory.keep_promises();
        Ok(())
    }
}

impl<D: Disk> Show for Arc<Mounted<D>> {
    fn promise(&self, names: &[String]) -> io::Result<()> {
        if self.fs.is_withheld() {
            // Showing the releases would show the selections with them, and those are unknown.
            return Err(io::Error::other(
                "the newest generation is damaged: dynfs restore N first",
            ));
        }
        self.memory.promise(names)
    }

    fn show(&self, next: Shown) -> io::Result<()> {
        #[cfg(debug_assertions)]
        super::fault::point("published");
        self.memory.count_change();
        let generation = next.generation;
        let is_unknown = self.fs.is_withheld() || self.is_behind.load(Ordering::SeqCst);
        let mut announcement = self.fs.show(next);
        if is_unknown {
            // What the kernel knows is not what was shown before this.
            announcement = self.fs.catch_up_blindly(&self.memory.promised());
        }
        #[cfg(debug_assertions)]
        super::fault::point("shown");
        self.tell(announcement, generation)?;
        #[cfg(debug_assertions)]
        super::fault::point("announced");
        Ok(())
    }
}
