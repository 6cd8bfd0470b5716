//! What the executable says: ELF, DWARF.

pub mod buildinfo;
pub mod dwarf;
pub mod elf;
pub mod hashstate;
pub mod module;
pub mod program;
pub mod rtype;
