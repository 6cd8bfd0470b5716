//! Coroutines (`iter.Pull`): which goroutine runs each one's function, and who is parked at its switch.

use super::{each_g, Blocked, Code, Runtime};
use crate::error::Watch;
use crate::Result;
use rustc_hash::FxHashMap;

/// The coroutines that a goroutine is parked at, by the address of its g.
#[derive(Default)]
pub struct Coroutines(FxHashMap<u64, Blocked>);

/// `runtime.coro` begins with the g that is parked there and its function (src/runtime/coro.go go1.22 to 1.27).
const FUNCTION: u64 = 8;
/// Bytes at the outer end of a goroutine's stack that hold the frame of `corostart`, which keeps its coro to the end.
const OUTERMOST: u64 = 512;
/// Goroutines between two looks at Ctrl-C.
const TICK: u64 = 256;

impl Coroutines {
    /// Looks at each goroutine that was started as a coroutine.
    pub fn read(runtime: &Runtime<'_>, code: &mut Code<'_>, watch: &dyn Watch) -> Result<Coroutines> {
        let (memory, at) = (runtime.memory, &runtime.g);
        let mut parked = FxHashMap::default();
        each_g(runtime, &mut |entry, g| {
            if entry.is_multiple_of(TICK) {
                watch.tick(entry, runtime.allgs.1)?;
            }
            let word = |at: usize| memory.u64(g.wrapping_add(at as u64)).unwrap_or(0);
            let start = code.at(word(at.startpc), false);
            if start.is_none_or(|start| start.func() != "runtime.corostart") {
                return Ok(());
            }
            // One that never ran has it in its g still.
            let unstarted = at.coroarg.map_or(0, word);
            let end = word(at.stack_hi);
            let first = end.saturating_sub(OUTERMOST).max(word(at.stack_lo));
            let words = memory.words(first, (end.saturating_sub(first) / 8).min(OUTERMOST / 8) as usize);
            let mut candidates = words.unwrap_or_default().into_iter().rev().chain([unstarted]);
            if let Some(address) = candidates.find(|&word| is_coro(runtime, code, word)) {
                let waiter = memory.u64(address).unwrap_or(0);
                let goroutine = (waiter != g).then_some(g);
                parked.insert(waiter, Blocked::Coroutine { address, goroutine });
            }
            Ok(())
        })?;
        Ok(Coroutines(parked))
    }

    /// What the goroutine whose g is at `g` is parked at.
    pub fn of(&self, g: u64) -> Option<Blocked> {
        self.0.get(&g).cloned()
    }
}

/// Whether a `runtime.coro` may lie at `address`: its second word leads to the start of a function.
fn is_coro(runtime: &Runtime<'_>, code: &mut Code<'_>, address: u64) -> bool {
    let word = |at: u64| runtime.memory.u64(at).ok().filter(|&word| word > 4096);
    let function = || word(word(address.checked_add(FUNCTION)?)?);
    if address <= 4096 || address % 8 != 0 {
        return false;
    }
    function().is_some_and(|pc| code.at(pc, false).is_some_and(|info| info.entry == pc)) && has_g(runtime, address)
}

/// Whether the first word is the address of a g, or nil.
fn has_g(runtime: &Runtime<'_>, address: u64) -> bool {
    let Ok(g) = runtime.memory.u64(address) else { return false };
    let word = |at: usize| runtime.memory.u64(g.checked_add(at as u64)?).ok();
    let within = || Some(word(runtime.g.stack_lo)? < word(runtime.g.stack_hi)? && word(runtime.g.goid)? != 0);
    g == 0 || g % 8 == 0 && within().unwrap_or(false)
}
