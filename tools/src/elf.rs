//! What an ELF file says of itself: machine, soname, needs, build-id.
//!
//! Only program headers, the dynamic table, notes and section headers are read, never code or
//! data. The bytes are not trusted: counts and lengths are bounded by the constants below, and what
//! can not be read is left out. Nothing here is ever executed or loaded.

use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::FileExt;

use object::elf::{
    DT_NEEDED, DT_NULL, DT_SONAME, DT_STRSZ, DT_STRTAB, ELFMAG, EM_386, EM_AARCH64, EM_ARM,
    EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, NoteIterator, ProgramHeader, SectionHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef, StringTable};

/// Most program headers, section headers, entries of a dynamic table and notes that are looked at.
const ENTRIES_MAX: usize = 64 * 1024;
/// Most notes sections and segments that are read, and most bytes of one.
const NOTES_MAX: usize = 32;
const NOTES_LEN_MAX: u64 = 1 << 20;
/// Most bytes of a dynamic table.
const DYNAMIC_LEN_MAX: u64 = 1 << 20;
/// Longest soname or needed name, and longest build-id, in bytes.
const TEXT_LEN_MAX: usize = 4096;
const BUILD_ID_LEN_MAX: usize = 64;

/// Facts of one ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfFacts {
    /// The machine as Debian names it (`amd64`), or `None` for one unknown here.
    pub arch: Option<&'static str>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// The GNU build-id, lower-case hexadecimal.
    pub build_id: Option<String>,
}

/// Reads the facts; `None` when it is not an ELF file or is damaged. Never panics on any bytes.
///
/// A fact whose own bytes are damaged or over a limit is left out; the others stay.
#[must_use]
pub fn facts(bytes: &[u8]) -> Option<ElfFacts> {
    read(bytes)
}

/// Reads the facts of an open file, and of it only the parts that hold them. Moves its offset.
///
/// `None` also when the file can not be read.
#[must_use]
pub fn facts_of_file(file: &File) -> Option<ElfFacts> {
    let mut magic = [0; ELFMAG.len()];
    if file.read_exact_at(&mut magic, 0).is_err() || magic != ELFMAG {
        return None;
    }
    let mut reader = file;
    reader.rewind().ok()?;
    read(&ReadCache::new(reader))
}

fn read<'data, R: ReadRef<'data>>(data: R) -> Option<ElfFacts> {
    match FileKind::parse(data).ok()? {
        FileKind::Elf32 => Image::<FileHeader32<Endianness>, R>::open(data).map(|it| it.facts()),
        FileKind::Elf64 => Image::<FileHeader64<Endianness>, R>::open(data).map(|it| it.facts()),
        _ => None,
    }
}

/// Tag and value of an entry of the dynamic table.
type Entry = (i64, u64);

/// A file whose header and program headers could be read.
struct Image<'data, Elf: FileHeader, R> {
    data: R,
    header: &'data Elf,
    endian: Elf::Endian,
    segments: &'data [Elf::ProgramHeader],
}

impl<'data, Elf: FileHeader<Endian = Endianness>, R: ReadRef<'data>> Image<'data, Elf, R> {
    fn open(data: R) -> Option<Self> {
        let header = Elf::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.phnum(endian, data).ok()? > ENTRIES_MAX {
            return None;
        }
        let segments = header.program_headers(endian, data).ok()?;
        Some(Self { data, header, endian, segments })
    }

    fn facts(&self) -> ElfFacts {
        let mut facts = ElfFacts { arch: self.arch(), ..ElfFacts::default() };
        if let Some((entries, strings)) = self.dynamic() {
            let text = |value: u64| {
                let text = strings.get(u32::try_from(value).ok()?).ok()?;
                let fits = (1..=TEXT_LEN_MAX).contains(&text.len());
                fits.then(|| String::from_utf8(text.to_vec()).ok())?
            };
            for (tag, value) in entries {
                match tag {
                    DT_SONAME => facts.soname = text(value),
                    DT_NEEDED => facts.needed.extend(text(value)),
                    _ => {}
                }
            }
        }
        facts.build_id = self.build_id();
        facts
    }

    fn arch(&self) -> Option<&'static str> {
        let wide = self.header.is_class_64();
        let little = self.endian == Endianness::Little;
        match (self.header.e_machine(self.endian), wide, little) {
            (EM_X86_64, true, true) => Some("amd64"),
            (EM_X86_64, false, true) => Some("x32"),
            (EM_386, false, true) => Some("i386"),
            (EM_AARCH64, true, true) => Some("arm64"),
            (EM_ARM, false, true) => Some("armhf"),
            (EM_RISCV, true, true) => Some("riscv64"),
            (EM_PPC64, true, true) => Some("ppc64el"),
            (EM_S390, true, false) => Some("s390x"),
            _ => None,
        }
    }

    /// The entries of the dynamic table before its end, and the strings they point into.
    fn dynamic(&self) -> Option<(Vec<Entry>, StringTable<'data, R>)> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.p_type(self.endian) == object::elf::PT_DYNAMIC)?;
        if segment.p_filesz(self.endian).into() > DYNAMIC_LEN_MAX {
            return None;
        }
        let table = segment.dynamic(self.endian, self.data).ok()??;
        let entries: Vec<Entry> = table
            .iter()
            .map(|entry| (entry.d_tag(self.endian).into(), entry.d_val(self.endian).into()))
            .take_while(|(tag, _)| *tag != DT_NULL)
            .collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|entry| entry.1);
        let start = self.offset_of(value(DT_STRTAB)?)?;
        let end = start.checked_add(value(DT_STRSZ)?)?;
        Some((entries, StringTable::new(self.data, start, end)))
    }

    /// Where in the file the byte is that is loaded at this address.
    fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let start: u64 = segment.p_vaddr(self.endian).into();
            let len: u64 = segment.p_filesz(self.endian).into();
            let within = address.checked_sub(start).filter(|within| *within < len)?;
            let loaded = segment.p_type(self.endian) == PT_LOAD;
            loaded.then(|| within.checked_add(segment.p_offset(self.endian).into()))?
        })
    }

    /// From the segments, or, as in files that are not loaded, from the sections.
    fn build_id(&self) -> Option<String> {
        let segments = self.segments.iter().filter(|segment| {
            segment.p_type(self.endian) == object::elf::PT_NOTE
                && segment.p_filesz(self.endian).into() <= NOTES_LEN_MAX
        });
        let in_segments = segments
            .take(NOTES_MAX)
            .filter_map(|segment| segment.notes(self.endian, self.data).ok()?)
            .find_map(|notes| self.build_id_in(notes));
        in_segments.or_else(|| self.build_id_in_sections())
    }

    fn build_id_in_sections(&self) -> Option<String> {
        if self.header.shnum(self.endian, self.data).ok()? > ENTRIES_MAX {
            return None;
        }
        let sections = self.header.section_headers(self.endian, self.data).ok()?;
        let notes = sections.iter().filter(|section| {
            section.sh_type(self.endian) == object::elf::SHT_NOTE
                && section.sh_size(self.endian).into() <= NOTES_LEN_MAX
        });
        notes
            .take(NOTES_MAX)
            .filter_map(|section| section.notes(self.endian, self.data).ok()?)
            .find_map(|notes| self.build_id_in(notes))
    }

    fn build_id_in(&self, notes: NoteIterator<'data, Elf>) -> Option<String> {
        let id = notes.take(ENTRIES_MAX).map_while(Result::ok).find_map(|note| {
            let ours = note.name() == b"GNU" && note.n_type(self.endian) == NT_GNU_BUILD_ID;
            ours.then(|| note.desc())
        })?;
        let fits = (1..=BUILD_ID_LEN_MAX).contains(&id.len());
        fits.then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use object::elf::{ELFDATA2LSB, ELFDATA2MSB};
    use proptest::prelude::*;

    use super::*;

    fn own_bytes() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    /// The smallest shared object with all the facts, built by hand: one loaded segment over the
    /// whole file, a dynamic table and a note.
    pub(crate) fn library(soname: &str, needed: &[&str], build_id: &[u8]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut add = |text: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let mut entries = vec![(DT_SONAME, add(soname))];
        entries.extend(needed.iter().map(|name| (DT_NEEDED, add(name))));
        let dynamic_at = 64 + 3 * 56;
        let dynamic_len = (entries.len() as u64 + 3) * 16;
        let note_at = dynamic_at + dynamic_len;
        let note_len = 16 + build_id.len() as u64;
        let strings_at = note_at + note_len;
        entries.push((DT_STRTAB, 0x10000 + strings_at));
        entries.push((DT_STRSZ, strings.len() as u64));
        entries.push((DT_NULL, 0));
        let end = strings_at + strings.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0, 64, 0_u64] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 64, 0, 0, 0, 0, 0]);
        for (kind, at, len) in
            [(1_u32, 0, end), (2, dynamic_at, dynamic_len), (4, note_at, note_len)]
        {
            file.extend(kind.to_le_bytes());
            file.extend(4_u32.to_le_bytes());
            for word in [at, 0x10000 + at, 0x10000 + at, len, len, 4] {
                file.extend(word.to_le_bytes());
            }
        }
        for (tag, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend(4_u32.to_le_bytes());
        file.extend(u32::try_from(build_id.len()).unwrap().to_le_bytes());
        file.extend(3_u32.to_le_bytes());
        file.extend(b"GNU\0");
        file.extend(build_id);
        file.extend(strings);
        file
    }

    fn sample() -> Vec<u8> {
        library("libx.so.1", &["libc.so.6", "libm.so.6"], &[0xab, 0xcd, 0x01, 0x00])
    }

    #[test]
    fn all_facts_of_a_library() {
        let expected = ElfFacts {
            arch: Some("amd64"),
            soname: Some("libx.so.1".to_owned()),
            needed: vec!["libc.so.6".to_owned(), "libm.so.6".to_owned()],
            build_id: Some("abcd0100".to_owned()),
        };
        assert_eq!(facts(&sample()), Some(expected));
    }

    #[test]
    fn a_real_program_needs_the_c_library() {
        let facts = facts(&own_bytes()).unwrap();
        assert!(facts.arch.is_some());
        assert!(facts.needed.iter().any(|name| name.starts_with("libc.")), "{facts:?}");
        assert_eq!(facts.soname, None);
    }

    #[test]
    fn a_file_says_the_same_as_its_bytes() {
        for bytes in [sample(), own_bytes(), b"#!/bin/sh\n".to_vec(), Vec::new()] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            assert_eq!(facts_of_file(&file), facts(&bytes));
        }
    }

    #[test]
    fn what_is_no_elf_file_has_no_facts() {
        for bytes in [&b""[..], b"\x7fEL", b"\x7fELF", b"#!/bin/sh\n", b"!<arch>\n", &[0; 4096]] {
            assert_eq!(facts(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn machines_have_debians_names() {
        let cases = [
            (2, ELFDATA2LSB, EM_X86_64, Some("amd64")),
            (1, ELFDATA2LSB, EM_X86_64, Some("x32")),
            (1, ELFDATA2LSB, EM_386, Some("i386")),
            (2, ELFDATA2LSB, EM_AARCH64, Some("arm64")),
            (1, ELFDATA2LSB, EM_ARM, Some("armhf")),
            (2, ELFDATA2LSB, EM_RISCV, Some("riscv64")),
            (2, ELFDATA2LSB, EM_PPC64, Some("ppc64el")),
            (2, ELFDATA2MSB, EM_PPC64, None),
            (2, ELFDATA2MSB, EM_S390, Some("s390x")),
            (1, ELFDATA2LSB, EM_RISCV, None),
            (2, ELFDATA2LSB, 0xfeed, None),
        ];
        for (class, data, machine, arch) in cases {
            let mut header = b"\x7fELF".to_vec();
            header.extend([class, data, 1]);
            header.resize(if class == 2 { 64 } else { 52 }, 0);
            let machine: u16 = machine;
            let machine = match data {
                ELFDATA2LSB => machine.to_le_bytes(),
                _ => machine.to_be_bytes(),
            };
            header[18..20].copy_from_slice(&machine);
            assert_eq!(facts(&header).unwrap().arch, arch, "{class} {data} {machine:?}");
        }
    }

    #[test]
    fn a_damaged_part_is_left_out_and_the_rest_stays() {
        let mut bytes = sample();
        // The dynamic segment's offset, far behind the end.
        bytes[64 + 56 + 8 + 7] = 0x7f;
        let facts = facts(&bytes).unwrap();
        assert_eq!((facts.soname, facts.needed), (None, vec![]));
        assert_eq!(facts.build_id.as_deref(), Some("abcd0100"));
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_survived() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(len >= 64 || facts(&bytes[..len]).is_none(), "{len}");
        }
        let mut found = 0;
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                found += usize::from(facts(&changed).is_some());
            }
        }
        assert!(found > bytes.len(), "most changes leave something to read");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn mutations_of_a_real_program_are_survived(
            changes in prop::collection::vec((0..4096_usize, any::<u8>()), 1..16),
            far in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
            len in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = own_bytes();
            for (at, value) in changes {
                bytes[at] = value;
            }
            for (at, value) in far {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(len) = len {
                bytes.truncate(len.index(bytes.len()));
            }
            // A file and its bytes go through different readers: both survive and agree, except
            // that a file's strings are bounded sooner.
            let from_bytes = facts(&bytes);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes[..bytes.len().min(1 << 20)]).unwrap();
            let from_file = facts_of_file(&file);
            prop_assert!(from_file.is_none() || from_bytes.is_some());
        }

        #[test]
        fn arbitrary_bytes_behind_a_header_are_survived(
            tail in prop::collection::vec(any::<u8>(), 0..512),
            class in 1..=2_u8,
            data in 1..=2_u8,
        ) {
            let bytes = [b"\x7fELF", &[class, data, 1][..], &tail].concat();
            let whole = bytes.len() >= 64;
            prop_assert!(whole || class == 1 || facts(&bytes).is_none());
        }
    }
}
