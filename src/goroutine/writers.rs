//! Who is inside a write to a map: goroutines whose stack has a map write, with the map among that call's words.

use super::stack::On;
use super::{each, Goroutine, Runtime};
use crate::error::Watch;
use crate::layout::goroutine as layout;
use crate::map::check::{Writer, Writing};
use crate::session::Session;
use crate::{Error, Result};
use rustc_hash::FxHashSet;
use std::sync::OnceLock;

/// The runtime's functions that set a map's flag of a writer (src/runtime/map.go go1.19 to 1.23; go1.24 to 1.27 the same
/// names, by linkname, in src/internal/runtime/maps/runtime_fast*.go and src/runtime/map_swiss.go).
const WRITES: [&str; 3] = ["runtime.mapassign", "runtime.mapdelete", "runtime.mapclear"];
/// The one that empties a map.
const CLEAR: &str = "runtime.mapclear";
/// Bytes above a frame in which a call spills its three arguments in registers.
const SPILLED: u64 = 24;
/// Bytes of the frames of one write that are looked at.
const MAX_WORDS: u64 = 1 << 16;

/// Finds writers; the stacks are read once, when the first map asks.
pub struct Writers<'s> {
    session: &'s Session,
    found: OnceLock<Result<Found>>,
}

#[derive(Default)]
struct Found {
    inside: Vec<(Writer, FxHashSet<u64>)>,
    /// A goroutine that runs, and whose stack cannot be read.
    unread: Option<u64>,
}

impl<'s> Writers<'s> {
    pub fn new(session: &'s Session) -> Writers<'s> {
        Writers { session, found: OnceLock::new() }
    }

    /// Who is inside a write to the map whose header is at `map`.
    pub fn of(&self, map: u64, watch: &dyn Watch) -> Result<Writing> {
        let found = match self.found.get_or_init(|| find(self.session, watch)) {
            Ok(found) => found,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => return Ok(Writing::NoGoroutines(error.clone())),
        };
        let writes = found.inside.iter().filter(|(_, words)| words.contains(&map));
        let writers: Vec<Writer> = writes.map(|(writer, _)| writer.clone()).collect();
        Ok(match found.unread {
            _ if !writers.is_empty() => Writing::Known(writers),
            Some(goid) => Writing::Unread { goid },
            None => Writing::Nobody,
        })
    }
}

fn find(session: &Session, watch: &dyn Watch) -> Result<Found> {
    let runtime = Runtime::of(session)?;
    let mut found = Found::default();
    each(&runtime, watch, &mut |goroutine| {
        match inside(session, &goroutine) {
            Some(write) => found.inside.push(write),
            None if goroutine.stack.frames.is_empty() && goroutine.status == layout::RUNNING => {
                found.unread.get_or_insert(goroutine.goid);
            }
            None => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// The innermost map write on a goroutine's stack, and the words of its frames and of those that it calls.
fn inside(session: &Session, goroutine: &Goroutine) -> Option<(Writer, FxHashSet<u64>)> {
    let is_write = |func: &str| WRITES.iter().any(|write| func.starts_with(write));
    let (frame, line) = goroutine.lines().find(|(_, line)| is_write(&line.func))?;
    let memory = &*session.memory;
    let mut words = FxHashSet::default();
    let first = goroutine.stack.frames.iter().find(|frame| frame.on == On::Goroutine);
    if let Some(first) = first {
        let bytes = frame.end.saturating_add(SPILLED).saturating_sub(first.sp).min(MAX_WORDS);
        words.extend(memory.words(first.sp, bytes as usize / 8).unwrap_or_default());
    }
    // A function just entered has its arguments in registers.
    if goroutine.status == layout::RUNNING {
        let thread = session.threads.iter().find(|thread| Some(thread.tid) == goroutine.thread);
        words.extend(thread.into_iter().flat_map(|thread| thread.registers.iter().copied()));
    }
    let thread = goroutine.thread.filter(|_| matches!(goroutine.status, layout::RUNNING | layout::SYSCALL));
    let (function, clears) = (line.func.to_string(), line.func.starts_with(CLEAR));
    Some((Writer { goid: goroutine.goid, thread, function, clears }, words))
}
