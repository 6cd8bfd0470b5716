//! One hit, from the registers of a thread that a debugger has stopped at a probe.

use super::functions::{Arch, Awaits, KeyPlace, ProbePlan, Tells, Variant};
use super::record::{key, Hit, Return};
use super::tracefs::{usage, PointedKey};
use crate::memory::Memory;
use crate::Result;

/// What a hit is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Integer arguments ([`Arch::argument`]).
    pub arguments: [u64; 5],
    /// The current `g`.
    pub goroutine: u64,
    /// Stack pointer.
    pub stack: u64,
    /// Frame pointer; still the caller's.
    pub frame: u64,
    /// Return address, where a register holds it (arm64).
    pub link: u64,
}

impl Registers {
    /// Names of the registers in a debugger, in the order of [`Registers::new`].
    pub fn names(arch: Arch) -> [&'static str; 9] {
        let mut names = [""; 9];
        for (n, name) in names.iter_mut().take(5).enumerate() {
            *name = arch.argument(n as u8);
        }
        names[5] = arch.goroutine();
        let rest = match arch {
            Arch::Amd64 => ["rsp", "rbp", "rip"],
            Arch::Arm64 => ["sp", "x29", "x30"],
        };
        names[6..].copy_from_slice(&rest);
        names
    }

    /// From their values in the order of [`Registers::names`].
    pub fn new(values: [u64; 9]) -> Registers {
        let [a, b, c, d, e, goroutine, stack, frame, link] = values;
        Registers { arguments: [a, b, c, d, e], goroutine, stack, frame, link }
    }

    /// Of a thread that the calling thread traces; debuggers trace with their main thread.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub fn of_traced(thread: i32) -> Result<Registers> {
        // SAFETY: all bytes zero are a valid value of this plain struct.
        let mut r: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one such struct.
        let status = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, 0, &mut r) };
        if status != 0 {
            return Err(usage(format!("thread {thread} is not ours to look at ({})", std::io::Error::last_os_error())));
        }
        Ok(Registers::new([r.rax, r.rbx, r.rcx, r.rdi, r.rsi, r.r14, r.rsp, r.rbp, r.rip]))
    }

    /// Of a thread that the calling thread traces: elsewhere the debugger is asked.
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    pub fn of_traced(_thread: i32) -> Result<Registers> {
        Err(usage("registers are asked of the debugger here"))
    }

    /// The hit on point `point` of the plan, whose code lies `bias` above its link-time addresses. Keys behind
    /// pointers have no bytes: they lie in memory that stands still.
    pub fn hit(&self, plan: &ProbePlan, point: usize, bias: u64, goid_offset: u64, memory: &dyn Memory) -> Option<Hit> {
        let at = plan.points.get(point)?;
        let argument = |n: u8| self.arguments.get(n as usize).copied().unwrap_or(0);
        let word = |address: u64| memory.u64(address).unwrap_or(0);
        let caller = match plan.arch {
            Arch::Amd64 => word(self.stack),
            Arch::Arm64 => self.link,
        };
        let outer = word(self.frame);
        let callers = [caller, word(self.frame.wrapping_add(8)), word(outer.wrapping_add(8))];
        let (a, n) = match at.key {
            KeyPlace::None => (0, 0),
            KeyPlace::Value32(k)
            | KeyPlace::Value64(k)
            | KeyPlace::Pointer(k)
            | KeyPlace::String(k)
            | KeyPlace::Interface(k) => (argument(k), argument(k.saturating_add(1))),
        };
        let map = argument(at.map);
        let is_counted = at.awaits != Awaits::Nothing && at.variant != Variant::Sync && map != 0;
        Some(Hit {
            ns: 0,
            thread: 0,
            goroutine: word(self.goroutine.wrapping_add(goid_offset)),
            point,
            map_type: at.map_type.map_or(0, argument),
            map,
            count: if is_counted { word(map) } else { 0 },
            key: key(at.key, a, n, Vec::new(), PointedKey::Bytes),
            callers: callers.map(|caller| caller.wrapping_sub(bias)),
        })
    }

    /// The return at return `point` of the plan.
    pub fn returned(
        &self,
        plan: &ProbePlan,
        point: usize,
        bias: u64,
        goid_offset: u64,
        memory: &dyn Memory,
    ) -> Option<Return> {
        let at = plan.returns.get(point)?;
        let word = |address: u64| memory.u64(address).unwrap_or(0);
        let map = match at.tells {
            Tells::Count { slot } => word(self.stack.wrapping_add(8 * u64::from(slot))),
            _ => 0,
        };
        let register = match at.tells {
            Tells::Found(n) => n,
            _ => 0,
        };
        let raw = self.arguments.get(register as usize).copied().unwrap_or(0);
        Some(Return {
            ns: 0,
            thread: 0,
            goroutine: word(self.goroutine.wrapping_add(goid_offset)),
            point,
            result: at.tells.result(raw, bias),
            map,
            count: if map == 0 { 0 } else { word(map) },
        })
    }
}
