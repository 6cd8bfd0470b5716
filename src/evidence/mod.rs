//! Evidence from outside the debugger, and its join.

pub mod trace;
