//! Walking a stack from memory alone: frame sizes from the runtime's tables, across the stacks of a thread.

use super::code::{Code, PcInfo};
use super::runtime::Runtime;
use crate::layout::goroutine::{ucontext, INJECTED_CALLS, INJECTED_LR};
use crate::memory::MemoryError;
use crate::types::TypeSource;
use std::fmt;
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
    /// Where it executes; a return address unless `exact`.
    pub pc: u64,
    /// Whether `pc` executes next: the frame runs, or a signal interrupted it.
    pub exact: bool,
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
    /// Where the goroutine itself goes on below the system stack.
    pub saved: Option<Start>,
}

/// A walked stack, and why it ends early if it does.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    pub frames: Vec<Frame>,
    pub broken: Option<Broken>,
}

/// Why a stack ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It runs on a thread whose registers are not known.
    NoRegisters,
    /// There are more frames than a stack can have.
    Endless,
    /// The stack pointer is on none of the stacks.
    OffStack {
        sp: u64,
    },
    /// Code that is not Go's, and whose it is.
    Foreign {
        pc: u64,
        whose: Foreign,
    },
    /// The tables do not say how big the frame is.
    NoFrameSize {
        func: String,
        pc: u64,
    },
    /// The function sets the stack pointer to what the tables do not say.
    SetsStackPointer {
        func: String,
    },
    NoReturnAddress {
        func: String,
    },
    EmptyFrame {
        func: String,
    },
    /// A debugger made the goroutine call this function; where it was before is not said.
    CalledByDebugger {
        func: String,
    },
    Memory(MemoryError),
}

/// Whose code it is that is not Go's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A function of the program.
    Function(String),
    /// Of a file that is mapped there.
    File(String),
    Unknown,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NoRegisters => f.write_str("it is running, and its thread's registers are not known"),
            Broken::Endless => write!(f, "the stack goes on after {MAX_FRAMES} frames"),
            Broken::OffStack { sp } => write!(f, "its stack pointer {sp:#x} lies on none of its stacks"),
            Broken::Foreign { pc, whose } => write!(f, "the code at {pc:#x} is not Go's ({whose})"),
            Broken::NoFrameSize { func, pc } => {
                write!(f, "the size of the frame of {func} at {pc:#x} is not known")
            }
            Broken::SetsStackPointer { func } => write!(f, "{func} sets the stack pointer itself"),
            Broken::NoReturnAddress { func } => write!(f, "{func} has no return address"),
            Broken::EmptyFrame { func } => write!(f, "the frame of {func} has no size"),
            Broken::CalledByDebugger { func } => {
                write!(f, "a debugger called {func}, and what that interrupted is not followed")
            }
            Broken::Memory(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::Function(name) => write!(f, "{name}, C code of the program"),
            Foreign::File(path) => write!(f, "C code in {path}"),
            Foreign::Unknown => f.write_str("a signal handler, the vDSO or C"),
        }
    }
}

impl From<MemoryError> for Broken {
    fn from(error: MemoryError) -> Broken {
        Broken::Memory(error)
    }
}

/// Frames walked at most: the runtime's own limit on a stack is 1 GB, of frames of 16 bytes or more.
const MAX_FRAMES: usize = 1 << 20;

impl Stacks {
    /// Which of them an address lies on.
    pub fn of(&self, sp: u64) -> Option<On> {
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
    if at.pc == 0 {
        match caller_of_nothing(runtime, at) {
            Ok(caller) => at = caller,
            Err(why) => return Stack { frames: Vec::new(), broken: Some(why.into()) },
        }
    }
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
    stack.broken = Some(Broken::Endless);
    stack
}

/// Who called the function at address 0: it has no frame (`unwinder.initAt`, src/runtime/traceback.go go1.21 to 1.27).
fn caller_of_nothing(runtime: &Runtime<'_>, at: Start) -> Result<Start, MemoryError> {
    let on_stack = || runtime.memory.u64(at.sp);
    Ok(match runtime.arm {
        true if at.lr != 0 => Start { pc: at.lr, lr: 0, exact: false, ..at },
        true => Start { pc: on_stack()?, exact: false, ..at },
        false => Start { pc: on_stack()?, sp: at.sp.wrapping_add(8), lr: 0, exact: false },
    })
}

/// Whose the code at `pc` is.
fn foreign(runtime: &Runtime<'_>, pc: u64) -> Foreign {
    let symbol = runtime.session.types.function_name(pc).map(Foreign::Function);
    let file = || {
        let region = runtime.memory.regions().into_iter().find(|region| region.start <= pc && pc < region.end)?;
        region.file.map(Foreign::File)
    };
    symbol.or_else(file).unwrap_or(Foreign::Unknown)
}

/// Adds the frame at `at`; returns where its caller goes on.
fn step(
    runtime: &Runtime<'_>,
    code: &mut Code<'_>,
    at: Start,
    stacks: &Stacks,
    frames: &mut Vec<Frame>,
) -> Result<Option<Start>, Broken> {
    let memory = runtime.memory;
    let innermost = frames.is_empty() || at.exact;
    let Some(on) = stacks.of(at.sp) else {
        return Err(Broken::OffStack { sp: at.sp });
    };
    let called_by_debugger = |frames: &[Frame]| Broken::CalledByDebugger {
        func: frames.last().map_or("", |frame| frame.info.func()).to_string(),
    };
    let Some(info) = code.at(at.pc, !at.exact) else {
        // gdb has the function return to an instruction on its stack.
        if !at.exact && stacks.of(at.pc).is_some() {
            return Err(called_by_debugger(frames));
        }
        return Err(Broken::Foreign { pc: at.pc, whose: foreign(runtime, at.pc) });
    };
    let lost = || Broken::NoFrameSize { func: info.func().into(), pc: at.pc };
    let delta = info.sp_delta.ok_or_else(lost)?;
    let local = at.sp.checked_add(delta).ok_or_else(lost)?;
    let end = if runtime.arm { local } else { local.checked_add(8).ok_or_else(lost)? };
    let func = info.func().to_string();
    // cgocallback leaves a frame on both stacks, so that one walks on to the Go that called C (src/runtime/asm_amd64.s).
    let writes_sp = info.writes_sp && func != "runtime.cgocallback";
    let top = info.top_frame;
    // lldb has it return to where the program began.
    if !at.exact && at.pc == info.entry && runtime.session.types.program().entry() == at.pc {
        return Err(called_by_debugger(frames));
    }
    frames.push(Frame { pc: at.pc, exact: at.exact, sp: at.sp, end, on, info });
    // The kernel put the interrupted registers right above the handler's frame.
    if on == On::Signal && matches!(func.as_str(), "runtime.sigtramp" | "runtime.sigreturn__sigaction") {
        let context = if runtime.arm { end.wrapping_add(128) } else { end };
        let word = |at: u64| memory.u64(context.wrapping_add(at));
        let interrupted = match runtime.arm {
            true => {
                let [pc, sp, lr] = ucontext::ARM64;
                Start { pc: word(pc)?, sp: word(sp)?, lr: word(lr)?, exact: true }
            }
            false => {
                let [pc, sp] = ucontext::AMD64;
                Start { pc: word(pc)?, sp: word(sp)?, lr: 0, exact: true }
            }
        };
        return match interrupted.pc {
            0 => Ok(Some(caller_of_nothing(runtime, interrupted)?)),
            _ => Ok(Some(interrupted)),
        };
    }
    let switches = matches!(func.as_str(), "runtime.systemstack" | "runtime.mcall" | "runtime.morestack");
    if on == On::System && (top || switches) {
        return Ok(stacks.saved.filter(|saved| stacks.of(saved.sp) == Some(On::Goroutine)));
    }
    if top {
        return Ok(None);
    }
    if writes_sp && !innermost {
        return Err(Broken::SetsStackPointer { func });
    }
    let return_at = if runtime.arm { at.sp } else { local };
    let caller = match runtime.arm && (innermost || at.lr != 0) && delta == 0 {
        true => at.lr,
        false => memory.u64(return_at)?,
    };
    if caller == 0 {
        return Err(Broken::NoReturnAddress { func });
    }
    if end <= at.sp && !runtime.arm {
        return Err(Broken::EmptyFrame { func });
    }
    if INJECTED_CALLS.contains(&func.as_str()) {
        let (sp, lr) = match runtime.arm {
            true => (end.wrapping_add(INJECTED_LR), memory.u64(end)?),
            false => (end, 0),
        };
        let has_code = !runtime.arm || code.at(caller, false).is_some();
        return Ok(Some(match has_code {
            true => Start { pc: caller, sp, lr, exact: true },
            // Code that is not Go's was jumped to: only who did so is known.
            false => Start { pc: lr, sp, lr: 0, exact: false },
        }));
    }
    Ok(Some(Start { pc: caller, sp: end, lr: 0, exact: false }))
}
