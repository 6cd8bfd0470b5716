//! Walking a stack from memory alone: frame sizes from the runtime's tables, across the stacks of a thread.

use super::code::{Code, PcInfo};
use super::runtime::Runtime;
use crate::layout::goroutine::ucontext;
use crate::types::TypeSource;
use std::sync::Arc;

/// Whose stack a frame lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum On {
    /// The goroutine's own.
    Goroutine,
    /// The thread's system stack (g0).
    System,
    /// The thread's signal stack (gsignal).
    Signal,
}

/// One frame, with all calls inlined into it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where it executes; a return address in all but the innermost frame.
    pub pc: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// One past its end: SP of its caller, and the start of its arguments.
    pub end: u64,
    /// Whose stack it lies on.
    pub on: On,
    /// What the tables say of `pc`.
    pub info: Arc<PcInfo>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub pc: u64,
    pub sp: u64,
    /// Link register (arm64), 0 when not known.
    pub lr: u64,
    /// Whether `pc` executes next; else it is where a call returns to.
    pub exact: bool,
}

/// The stacks on which a goroutine's frames may lie, each `(low, high)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stacks {
    pub goroutine: (u64, u64),
    pub system: (u64, u64),
    pub signal: (u64, u64),
    /// Where the goroutine itself goes on below the system stack: its saved SP, PC.
    pub saved: Option<(u64, u64)>,
}

/// A walked stack, and why it ends early if it does.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    pub frames: Vec<Frame>,
    pub broken: Option<String>,
}

/// Frames walked at most: the runtime's own limit on a stack is 1 GB, of frames of 16 bytes or more.
const MAX_FRAMES: usize = 1 << 20;

impl Stacks {
    fn of(&self, sp: u64) -> Option<On> {
        let within = |(low, high): (u64, u64)| low <= sp && sp < high;
        [(self.goroutine, On::Goroutine), (self.system, On::System), (self.signal, On::Signal)]
            .into_iter()
            .find(|&(range, _)| within(range))
            .map(|(_, on)| on)
    }
}

/// Walks from `start` outwards.
pub fn walk(runtime: &Runtime<'_>, code: &mut Code<'_>, start: Start, stacks: &Stacks) -> Stack {
    let mut stack = Stack::default();
    let mut at = start;
    while stack.frames.len() < MAX_FRAMES {
        match step(runtime, code, at, stacks, &mut stack.frames) {
            Ok(Some(next)) => at = next,
            Ok(None) => return stack,
            Err(why) => {
                stack.broken = Some(why);
                return stack;
            }
        }
    }
    stack.broken = Some(format!("the stack goes on after {MAX_FRAMES} frames"));
    stack
}

/// What is known of code that is not Go's, in words.
fn foreign(runtime: &Runtime<'_>, pc: u64) -> String {
    let symbol = runtime.session.types.function_name(pc).map(|name| format!(" ({name}, C code of the program)"));
    let file = || {
        let region = runtime.memory.regions().into_iter().find(|region| region.start <= pc && pc < region.end)?;
        Some(format!(" (C code in {})", region.file?))
    };
    symbol.or_else(file).unwrap_or_else(|| " (a signal handler, the vDSO or C)".into())
}

/// Adds the frame at `at`; returns where its caller goes on.
fn step(
    runtime: &Runtime<'_>,
    code: &mut Code<'_>,
    at: Start,
    stacks: &Stacks,
    frames: &mut Vec<Frame>,
) -> Result<Option<Start>, String> {
    let memory = runtime.memory;
    let innermost = frames.is_empty() || at.exact;
    let Some(on) = stacks.of(at.sp) else {
        return Err(format!("its stack pointer {:#x} lies on none of its stacks", at.sp));
    };
    let Some(info) = code.at(at.pc, !at.exact) else {
        return Err(format!("the code at {:#x} is not Go's{}", at.pc, foreign(runtime, at.pc)));
    };
    let lost = || format!("the size of the frame of {} at {:#x} is not known", info.func(), at.pc);
    let delta = info.sp_delta.ok_or_else(lost)?;
    let local = at.sp.checked_add(delta).ok_or_else(lost)?;
    let end = if runtime.arm { local } else { local.checked_add(8).ok_or_else(lost)? };
    let func = info.func().to_string();
    let (top, writes_sp) = (info.top_frame, info.writes_sp);
    frames.push(Frame { pc: at.pc, sp: at.sp, end, on, info });
    // The kernel put the interrupted registers right above the handler's frame.
    if on == On::Signal && matches!(func.as_str(), "runtime.sigtramp" | "runtime.sigreturn__sigaction") {
        let context = if runtime.arm { end.wrapping_add(128) } else { end };
        let words = if runtime.arm { ucontext::ARM64 } else { ucontext::AMD64 };
        let word = |i: usize| memory.u64(context.wrapping_add(words[i])).map_err(|e| e.to_string());
        return Ok(Some(Start { pc: word(0)?, sp: word(1)?, lr: 0, exact: true }));
    }
    let switches = matches!(func.as_str(), "runtime.systemstack" | "runtime.mcall" | "runtime.morestack");
    if on == On::System && (top || switches) {
        let own = stacks.saved.filter(|&(sp, _)| stacks.of(sp) == Some(On::Goroutine));
        return Ok(own.map(|(sp, pc)| Start { pc, sp, lr: 0, exact: false }));
    }
    if top {
        return Ok(None);
    }
    if writes_sp && !innermost {
        return Err(format!("{func} sets the stack pointer itself"));
    }
    let return_at = if runtime.arm { at.sp } else { local };
    let caller = match runtime.arm && innermost && delta == 0 {
        true => at.lr,
        false => memory.u64(return_at).map_err(|e| e.to_string())?,
    };
    if caller == 0 {
        return Err(format!("{func} has no return address"));
    }
    if end <= at.sp && !runtime.arm {
        return Err(format!("the frame of {func} has no size"));
    }
    Ok(Some(Start { pc: caller, sp: end, lr: 0, exact: false }))
}
