//! What the executable says: ELF, DWARF, and what the Go linker leaves in every binary for the runtime.

pub mod buildinfo;
pub mod dwarf;
pub mod elf;
pub mod hashstate;
pub mod locals;
pub mod moduledata;
pub mod pclntab;
pub mod program;
pub mod rtype;
pub mod typeindex;
mod typename;
