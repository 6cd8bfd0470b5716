//! What the executable says: ELF, DWARF.

pub mod elf;
