//! What the executable says: ELF, DWARF.

pub mod dwarf;
pub mod elf;
pub mod program;
