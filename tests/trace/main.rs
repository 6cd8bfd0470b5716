//! Execution traces against Go's own reader: `go tool trace -d=parsed` of the newest toolchain.
//!
//! `golden` compares committed traces with what the oracle said of them; `oracle` makes traces with the
//! pinned toolchains, and takes those of the toolchain's own test data: run it with
//! `cargo test --release --test trace -- --ignored` after `python3 core-samples/toolchains.py`.

mod compare;
mod facts;
mod golden;
mod hostile;
mod oracle;
mod toolchain;
mod wiretext;
