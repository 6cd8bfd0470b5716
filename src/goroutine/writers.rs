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
/// Where among them the map is: the second argument.
const SPILLED_MAP: u64 = 8;
/// Bytes of the frames of one write that are looked at.
const MAX_WORDS: u64 = 1 << 16;

/// A goroutine inside a write.
struct Inside {
    writer: Writer,
    /// The word where the call keeps its map, if it has spilled it.
    kept: Option<u64>,
    /// All words of the write's frames; some may be older than the call.
    words: FxHashSet<u64>,
}

/// Finds writers; the stacks are read once, when the first map asks.
pub struct Writers<'s> {
    session: &'s Session,
    found: OnceLock<Result<Found>>,
}

#[derive(Default)]
struct Found {
    inside: Vec<Inside>,
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
        let writers = |test: &dyn Fn(&&Inside) -> bool| -> Vec<Writer> {
            found.inside.iter().filter(test).map(|inside| inside.writer.clone()).collect()
        };
        let (sure, maybe) = (writers(&|one| one.kept == Some(map)), writers(&|one| one.words.contains(&map)));
        Ok(match found.unread {
            _ if !sure.is_empty() => Writing::Known(sure),
            _ if maybe.len() > 1 => Writing::OneOf(maybe),
            _ if !maybe.is_empty() => Writing::Known(maybe),
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
fn inside(session: &Session, goroutine: &Goroutine) -> Option<Inside> {
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
    let kept = memory.u64(frame.end.saturating_add(SPILLED_MAP)).ok();
    Some(Inside { writer: Writer { goid: goroutine.goid, thread, function, clears }, kept, words })
}
