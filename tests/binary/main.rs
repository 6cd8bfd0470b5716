//! What is read of binaries without DWARF, against what Go's tools and the programs themselves say.

mod functions;
mod hostile;
mod image;
mod layouts;
mod programs;
mod types;
