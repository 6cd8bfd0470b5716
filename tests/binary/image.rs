//! A program as the loader would lay it out, without running it.

use mapscope::binary::buildinfo::{BuildInfo, GoVersion};
use mapscope::binary::moduledata::{self, Module};
use mapscope::binary::rtype::Descriptors;
use mapscope::files::Mapped;
use mapscope::memory::{Memory, MemoryError, Place, Region};
use object::{Object, ObjectSection, ObjectSegment, RelocationFlags, RelocationTarget};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Segments at their run-time addresses, relocated.
pub struct FileMemory {
    pub segments: Vec<(u64, Vec<u8>)>,
}

impl FileMemory {
    /// The loadable segments of `file`, moved by `bias`.
    pub fn load(file: &[u8], bias: u64) -> FileMemory {
        let object = object::File::parse(file).expect("an ELF file");
        let segments = object.segments().map(|segment| {
            let mut bytes = segment.data().expect("the segment's bytes").to_vec();
            bytes.resize(segment.size() as usize, 0);
            (segment.address() + bias, bytes)
        });
        let mut memory = FileMemory { segments: segments.collect() };
        for (offset, relocation) in object.dynamic_relocations().into_iter().flatten() {
            let RelocationFlags::Elf { .. } = relocation.flags() else { continue };
            // A relocation without symbol is R_X86_64_RELATIVE.
            if relocation.target() == RelocationTarget::Absolute {
                let value = bias.wrapping_add(relocation.addend() as u64);
                memory.at(offset + bias, 8).expect("a relocated word").copy_from_slice(&value.to_le_bytes());
            }
        }
        memory
    }

    pub fn at(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        let (start, bytes) = self.segments.iter_mut().rfind(|(start, _)| *start <= address)?;
        let within = (address - *start) as usize;
        bytes.get_mut(within..within.checked_add(len)?)
    }
}

impl Memory for FileMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let missing = MemoryError { address, place: Place::Core };
        buf.copy_from_slice(self.mapped(address, buf.len()).ok_or(missing)?);
        Ok(())
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (start, bytes) = self.segments.iter().rfind(|(start, _)| *start <= address)?;
        let within = (address - start) as usize;
        bytes.get(within..within.checked_add(len)?)
    }

    fn regions(&self) -> Vec<Region> {
        Vec::new()
    }

    fn place(&self) -> Place {
        Place::Core
    }
}

/// A program with its modules.
pub struct Image {
    pub memory: FileMemory,
    pub modules: Vec<Module>,
    pub version: GoVersion,
}

impl Image {
    /// `program` with its first page at `base`.
    pub fn load(program: &Path, base: u64) -> Image {
        let file = Arc::new(Mapped::open(program).expect("the program"));
        let bias = base - first_page(&file);
        let memory = FileMemory::load(&file, bias);
        let version = BuildInfo::of_file(&file).expect("build info").go;
        let modules = moduledata::find(&file, &memory, bias, &version).expect("module data");
        Image { memory, modules, version }
    }

    /// The same at its link-time address or, if it is position-independent, far from it.
    pub fn open(program: &Path) -> Image {
        let file = Mapped::open(program).expect("the program");
        let moved = object::File::parse(&file[..]).expect("an ELF file").kind() == object::ObjectKind::Dynamic;
        Image::load(program, if moved { 0x5555_5555_0000 } else { first_page(&file) })
    }

    pub fn module(&self) -> &Module {
        &self.modules[0]
    }

    pub fn descriptors(&self) -> Descriptors<'_> {
        Descriptors { memory: &self.memory, modules: &self.modules, version: &self.version }
    }
}

fn first_page(file: &[u8]) -> u64 {
    let object = object::File::parse(file).expect("an ELF file");
    let first = object.segments().map(|segment| segment.address()).min();
    first.expect("a segment")
}

/// The debug sections of a file, inflated.
pub fn debug_sections(file: &[u8]) -> gimli::DwarfSections<Cow<'_, [u8]>> {
    let object = object::File::parse(file).expect("an ELF file");
    let load = |id: gimli::SectionId| -> std::result::Result<Cow<'_, [u8]>, gimli::Error> {
        let section = object.section_by_name(id.name());
        Ok(section.map_or(Cow::Borrowed(&[]), |section| section.uncompressed_data().expect("a section")))
    };
    gimli::DwarfSections::load(load).expect("sections")
}
