//! Whether a thread was brought back to the instruction it had stopped at, by a signal that arrived there.
//!
//! A debugger that steps over its breakpoint lets a pending signal in first; the handler returns to the breakpoint,
//! which is then hit again. The Go runtime sends such signals all the time, to preempt goroutines
//! (`preemptM`, src/runtime/signal_unix.go). They leave traces: `m.preemptGen` counts them (`doSigPreempt`), the
//! handler's stack still holds the registers that the kernel saved there, and a goroutine that had to make way has the
//! return address of that call under its stack pointer (`sigctxt.pushCall`).

use crate::layout::goroutine;
use crate::memory::Memory;
use crate::session::Session;

/// Where the traces are: as DWARF says, else as known of the version.
#[derive(Debug, Clone, Copy)]
pub struct Signals {
    g_m: u64,
    g_stack_lo: u64,
    g_stack_hi: u64,
    m_gsignal: u64,
    m_preempt_gen: u64,
}

/// How many signals a thread had taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    m: u64,
    count: u32,
}

/// The stack of signal handlers is 32 KB (`malg(32 * 1024)`, src/runtime/os_linux.go).
const MAX_STACK: u64 = 1 << 20;

impl Taken {
    /// What [`Signals::taken`] is going to read of that thread.
    pub fn counter(&self, signals: &Signals) -> u64 {
        self.m.wrapping_add(signals.m_preempt_gen)
    }
}

impl Signals {
    pub fn of(session: &Session) -> Option<Signals> {
        let go = session.types.program().go();
        let offset = |ty: &str, path: &str| {
            let declared = session.types.offset(ty, path).ok().flatten();
            declared.or_else(|| goroutine::record(go, ty, path))
        };
        Some(Signals {
            g_m: offset("runtime.g", "m")?,
            g_stack_lo: offset("runtime.g", "stack.lo")?,
            g_stack_hi: offset("runtime.g", "stack.hi")?,
            m_gsignal: offset("runtime.m", "gsignal")?,
            m_preempt_gen: offset("runtime.m", "preemptGen")?,
        })
    }

    /// What the thread that runs goroutine `g` has taken so far.
    pub fn taken(&self, memory: &dyn Memory, g: u64) -> Option<Taken> {
        let m = memory.u64(g.wrapping_add(self.g_m)).ok()?;
        Some(Taken { m, count: self.count(memory, m)? })
    }

    fn count(&self, memory: &dyn Memory, m: u64) -> Option<u32> {
        memory.u32(m.wrapping_add(self.m_preempt_gen)).ok()
    }

    /// Whether the thread has since taken one that found it at `pc`, with RCX and the stack pointer as given.
    pub fn interrupted(&self, memory: &dyn Memory, since: Taken, rcx: u64, sp: u64, pc: u64) -> bool {
        let word = |at: u64| memory.u64(at).unwrap_or(0);
        // A goroutine that was preempted there was made to call `asyncPreempt`, which then returned; going on would
        // have put something else in the return address's place.
        if word(sp.wrapping_sub(8)) == pc {
            return true;
        }
        if self.count(memory, since.m) == Some(since.count) {
            return false;
        }
        let handler = word(since.m.wrapping_add(self.m_gsignal));
        let (low, high) = (word(handler.wrapping_add(self.g_stack_lo)), word(handler.wrapping_add(self.g_stack_hi)));
        if low >= high || high - low > MAX_STACK {
            return false;
        }
        let Ok(words) = memory.words(low, (high - low) as usize / 8) else { return false };
        // `sigcontext` has rcx, rsp and rip one behind the other (arch/x86/include/uapi/asm/sigcontext.h).
        words.windows(3).any(|saved| saved == [rcx, sp, pc])
    }
}
