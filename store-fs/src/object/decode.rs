//! Checks that bytes are the canonical encoding of some tree, in one pass and without allocating.
//!
//! It never changes or repairs anything, and never compares a hash: that is the caller's.

use super::layout as at;
use super::{
    DEPTH_MAX, FILE_SIZE_MAX, HEAP_LEN_MAX, NameFault, ROOT_ENTRY, ROWS_MAX, TargetFault,
    check_name, check_target,
};

/// In what way bytes are not a canonical encoding. `row` is where it was noticed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it does not begin like an object")]
    Magic,
    #[error("it has version {0} of the encoding, this program knows {known}", known = at::VERSION)]
    Version(u32),
    #[error("it has {0} rows, which is not from 1 to {ROWS_MAX}")]
    Rows(u32),
    #[error("it has {0} bytes of names, the limit is {HEAP_LEN_MAX}")]
    Heap(u32),
    #[error("it is {found} bytes long and says that it has {promised}")]
    Length { found: usize, promised: u64 },
    #[error("row {row} has a byte that must be zero and is not")]
    NotZero { row: u32 },
    #[error("row {row} is of the unknown kind {kind}")]
    Kind { row: u32, kind: u8 },
    #[error("row {row} has unknown flags")]
    Flags { row: u32 },
    #[error("row 1 is not a nameless directory that is its own parent")]
    Root,
    #[error("row {row} has {fault}")]
    Name { row: u32, fault: NameFault },
    #[error("row {row} has {fault}")]
    Target { row: u32, fault: TargetFault },
    #[error("the name or target of row {row} is not where it belongs in the heap")]
    Place { row: u32 },
    #[error("row {row} is not behind its sibling in order")]
    Order { row: u32 },
    #[error("row {row} does not have the directory as its parent that counts it as a child")]
    Parent { row: u32 },
    #[error("row {row} is in no directory")]
    Orphan { row: u32 },
    #[error("the children of row {row} are not where they belong")]
    Children { row: u32 },
    #[error("row {row} counts its subdirectories wrongly")]
    Subdirs { row: u32 },
    #[error("row {row} is deeper than {DEPTH_MAX}")]
    Depth { row: u32 },
    #[error("row {row} is a file of more than {FILE_SIZE_MAX} bytes")]
    Size { row: u32 },
    #[error("there are bytes behind the last name")]
    Rest,
}

/// The number of rows, when `bytes` are canonical.
pub(super) fn check(bytes: &[u8]) -> Result<u32, Fault> {
    let rows = check_header(bytes)?;
    let mut walk = Walk::new(bytes, rows);
    for row in ROOT_ENTRY..=rows {
        walk.row(row)?;
    }
    walk.end()?;
    Ok(rows)
}

fn check_header(bytes: &[u8]) -> Result<u32, Fault> {
    let header = at::slot(bytes, 0).ok_or(Fault::Magic)?;
    if !header.starts_with(&at::MAGIC) {
        return Err(Fault::Magic);
    }
    let version = at::get_u32(header, at::HEADER_VERSION);
    if version != at::VERSION {
        return Err(Fault::Version(version));
    }
    if !is_zero(&header[at::HEADER_ZERO]) {
        return Err(Fault::NotZero { row: 0 });
    }
    let rows = at::get_u32(header, at::HEADER_ROWS);
    if !(ROOT_ENTRY..=ROWS_MAX).contains(&rows) {
        return Err(Fault::Rows(rows));
    }
    let heap_len = at::get_u32(header, at::HEADER_HEAP_LEN);
    if heap_len > HEAP_LEN_MAX {
        return Err(Fault::Heap(heap_len));
    }
    let promised = (u64::from(rows) + 1) * at::ROW_LEN as u64 + u64::from(heap_len);
    if bytes.len() as u64 != promised {
        return Err(Fault::Length { found: bytes.len(), promised });
    }
    Ok(rows)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The pass over the rows. Breadth-first order means that the children of the directories follow
/// each other just as the directories do, so a few numbers say what each row has to be.
struct Walk<'a> {
    bytes: &'a [u8],
    rows: u32,
    /// How much of the heap the rows so far have taken.
    heap: u32,
    /// Where the children of the next directory begin.
    next_child: u32,
    /// Depth of the present row, and the first row of the next depth.
    depth: usize,
    depth_end: u32,
    /// The directory that the present row is in, where its children end, what it says of its
    /// subdirectories and how many were seen.
    parent: u32,
    parent_end: u32,
    parent_subdirs: u32,
    subdirs: u32,
    last_name: &'a [u8],
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], rows: u32) -> Self {
        Self {
            bytes,
            rows,
            heap: 0,
            next_child: ROOT_ENTRY + 1,
            depth: 0,
            depth_end: ROOT_ENTRY + 1,
            parent: 0,
            parent_end: ROOT_ENTRY + 1,
            parent_subdirs: 0,
            subdirs: 0,
            last_name: b"",
        }
    }

    fn row(&mut self, row: u32) -> Result<(), Fault> {
        let slot = at::slot(self.bytes, row).ok_or(Fault::Rows(self.rows))?;
        if !is_zero(&slot[at::ROW_ZERO]) {
            return Err(Fault::NotZero { row });
        }
        let name_len = u32::from(at::get_u16(slot, at::NAME_LEN));
        let name = self.take(row, at::get_u32(slot, at::NAME_AT), name_len)?;
        if row == ROOT_ENTRY {
            if !name.is_empty()
                || slot[at::KIND] != at::KIND_DIR
                || at::get_u32(slot, at::PARENT) != ROOT_ENTRY
            {
                return Err(Fault::Root);
            }
        } else {
            check_name(name).map_err(|fault| Fault::Name { row, fault })?;
            self.enter(row)?;
            self.sibling(row, slot, name)?;
        }
        match slot[at::KIND] {
            at::KIND_DIR => self.dir(row, slot),
            at::KIND_FILE => check_file(row, slot),
            at::KIND_LINK => self.link(row, slot),
            kind => Err(Fault::Kind { row, kind }),
        }
    }

    /// The next bytes of the heap, which is where a row must say that its text is.
    fn take(&mut self, row: u32, place: u32, len: u32) -> Result<&'a [u8], Fault> {
        let fault = Fault::Place { row };
        if place != self.heap {
            return Err(fault);
        }
        let Some(text) =
            usize::try_from(len).ok().and_then(|len| at::heap(self.bytes, self.rows, place, len))
        else {
            return Err(fault);
        };
        // The text is inside the heap, whose length is a u32.
        self.heap = place.checked_add(len).ok_or(fault)?;
        Ok(text)
    }

    /// Goes on to the directory that this row is in, and to its depth.
    fn enter(&mut self, row: u32) -> Result<(), Fault> {
        if row >= self.next_child {
            return Err(Fault::Orphan { row });
        }
        if row == self.depth_end {
            self.depth += 1;
            self.depth_end = self.next_child;
        }
        // The root is at depth 0 and was left with the first row behind it.
        if self.depth > DEPTH_MAX {
            return Err(Fault::Depth { row });
        }
        while row >= self.parent_end {
            self.leave()?;
            self.parent += 1;
            let slot = at::slot(self.bytes, self.parent).ok_or(Fault::Orphan { row })?;
            if self.parent >= row {
                return Err(Fault::Orphan { row });
            }
            if slot[at::KIND] == at::KIND_DIR {
                // Checked when that row was passed: its children end at `next_child` or before.
                let count = at::get_u32(slot, at::DIR_COUNT);
                self.parent_end = at::get_u32(slot, at::DIR_FIRST).saturating_add(count);
                self.parent_subdirs = at::get_u32(slot, at::DIR_SUBDIRS);
                self.last_name = b"";
            }
        }
        Ok(())
    }

    /// The directory at hand has no further children.
    fn leave(&mut self) -> Result<(), Fault> {
        if self.subdirs != self.parent_subdirs {
            return Err(Fault::Subdirs { row: self.parent });
        }
        self.subdirs = 0;
        self.parent_subdirs = 0;
        Ok(())
    }

    fn sibling(&mut self, row: u32, slot: &at::Slot, name: &'a [u8]) -> Result<(), Fault> {
        if at::get_u32(slot, at::PARENT) != self.parent {
            return Err(Fault::Parent { row });
        }
        // No name is empty, so the first child is behind this too.
        if name <= self.last_name {
            return Err(Fault::Order { row });
        }
        self.last_name = name;
        if slot[at::KIND] == at::KIND_DIR {
            self.subdirs += 1;
        }
        Ok(())
    }

    fn dir(&mut self, row: u32, slot: &at::Slot) -> Result<(), Fault> {
        check_flags(row, slot, 0)?;
        if !is_zero(&slot[at::DIR_ZERO]) {
            return Err(Fault::NotZero { row });
        }
        let count = at::get_u32(slot, at::DIR_COUNT);
        if at::get_u32(slot, at::DIR_FIRST) != self.next_child {
            return Err(Fault::Children { row });
        }
        let end = self.next_child.checked_add(count).ok_or(Fault::Children { row })?;
        if end > self.rows + 1 {
            return Err(Fault::Children { row });
        }
        // With no children there is no later moment to compare this.
        if at::get_u32(slot, at::DIR_SUBDIRS) > count {
            return Err(Fault::Subdirs { row });
        }
        self.next_child = end;
        Ok(())
    }

    fn link(&mut self, row: u32, slot: &at::Slot) -> Result<(), Fault> {
        check_flags(row, slot, 0)?;
        if !is_zero(&slot[at::LINK_ZERO]) {
            return Err(Fault::NotZero { row });
        }
        let len = at::get_u32(slot, at::LINK_LEN);
        let target = self.take(row, at::get_u32(slot, at::LINK_AT), len)?;
        check_target(target).map_err(|fault| Fault::Target { row, fault })
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.leave()?;
        if self.next_child != self.rows + 1 {
            return Err(Fault::Children { row: self.rows });
        }
        if at::heap_start(self.rows).map(|start| self.bytes.len() - start)
            != usize::try_from(self.heap).ok()
        {
            return Err(Fault::Rest);
        }
        Ok(())
    }
}

fn check_flags(row: u32, slot: &at::Slot, known: u8) -> Result<(), Fault> {
    if slot[at::FLAGS] & !known == 0 { Ok(()) } else { Err(Fault::Flags { row }) }
}

fn check_file(row: u32, slot: &at::Slot) -> Result<(), Fault> {
    check_flags(row, slot, at::FLAG_EXECUTABLE)?;
    if at::get_u64(slot, at::FILE_SIZE) > FILE_SIZE_MAX {
        return Err(Fault::Size { row });
    }
    Ok(())
}
