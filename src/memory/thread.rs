//! The registers of a thread that stands still, wherever they come from.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::OnceLock;

/// Registers of a thread at the moment of the dump or stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Kernel thread ID.
    pub tid: u64,
    /// General registers as the kernel lays them out: `user_regs_struct` (27 words) on amd64,
    /// `user_pt_regs` (34 words) on arm64.
    pub registers: Vec<u64>,
}

/// `user_regs_struct` of amd64 by the names that debuggers have for its words (linux/arch/x86/include/asm/user_64.h).
const AMD64: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];
/// The first words of it that a compiler leaves values in, and the others of that kind.
const AMD64_GENERAL: usize = 15;
const AMD64_RIP: usize = 16;
const AMD64_RSP: usize = 19;
/// `user_pt_regs` of arm64: x0 to x30, sp, pc, pstate.
const ARM64_WORDS: usize = 34;
const ARM64_SP: usize = 31;
const ARM64_PC: usize = 32;

/// Where DWARF's general registers of amd64 are in `user_regs_struct` (System V ABI, figure 3.36).
const AMD64_OF_DWARF: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];

impl Thread {
    /// A thread whose registers a debugger gave by name; `None` when one that code keeps values in is missing.
    pub fn named(tid: u64, values: &HashMap<String, u64>, arm: bool) -> Option<Thread> {
        let named = |name: &str| values.get(name).copied();
        let registers = match arm {
            true => {
                let word = |i: usize| match i {
                    29 => named("x29").or_else(|| named("fp")),
                    30 => named("x30").or_else(|| named("lr")),
                    ARM64_SP => named("sp"),
                    ARM64_PC => named("pc"),
                    33 => Some(named("cpsr").unwrap_or(0)),
                    _ => named(&format!("x{i}")),
                };
                (0..ARM64_WORDS).map(word).collect::<Option<Vec<u64>>>()?
            }
            false => {
                let is_needed = |i: usize| i < AMD64_GENERAL || i == AMD64_RIP || i == AMD64_RSP;
                let word = |(i, name): (usize, &&str)| named(name).or_else(|| (!is_needed(i)).then_some(0));
                AMD64.iter().enumerate().map(word).collect::<Option<Vec<u64>>>()?
            }
        };
        Some(Thread { tid, registers })
    }

    /// Program counter, stack pointer, frame pointer and g: rip, rsp, rbp and r14 on amd64; pc, sp, x29 and x28
    /// on arm64.
    pub fn pc_sp_bp_g(&self, arm: bool) -> Option<[u64; 4]> {
        let indices = if arm { [ARM64_PC, ARM64_SP, 29, 28] } else { [AMD64_RIP, AMD64_RSP, 4, 1] };
        let mut values = [0; 4];
        for (value, index) in values.iter_mut().zip(indices) {
            *value = *self.registers.get(index)?;
        }
        Some(values)
    }

    /// The link register, where the processor has one.
    pub fn link(&self, arm: bool) -> Option<u64> {
        self.registers.get(30).copied().filter(|_| arm)
    }

    /// A general register by DWARF's number of it (arm64: DWARF for the Arm 64-bit Architecture, 4.1).
    pub fn by_dwarf(&self, number: u16, arm: bool) -> Option<u64> {
        let index = match arm {
            true => Some(usize::from(number)).filter(|&number| number <= ARM64_SP)?,
            false => *AMD64_OF_DWARF.get(usize::from(number))?,
        };
        self.registers.get(index).copied()
    }
}

/// The threads of a target, as far as their registers are known. A debugger's are asked for when an answer needs them.
#[derive(Default)]
pub struct Threads(OnceLock<Vec<Thread>>);

impl Threads {
    /// Whether they were read, or there is nobody to ask.
    pub fn are_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// What was asked for; kept until [`Threads::forget`].
    pub fn set(&self, threads: Vec<Thread>) {
        // Whoever was first has read them too.
        let _ = self.0.set(threads);
    }

    /// Forgets them, because the target has run.
    pub fn forget(&mut self) {
        self.0.take();
    }
}

impl From<Vec<Thread>> for Threads {
    fn from(threads: Vec<Thread>) -> Threads {
        // None at all are not known yet.
        match threads.is_empty() {
            true => Threads::default(),
            false => Threads(OnceLock::from(threads)),
        }
    }
}

impl Deref for Threads {
    type Target = [Thread];

    fn deref(&self) -> &[Thread] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(names: impl Iterator<Item = String>) -> HashMap<String, u64> {
        names.enumerate().map(|(i, name)| (name, 100 + i as u64)).collect()
    }

    #[test]
    fn a_debuggers_names_become_the_kernels_order() {
        let all = values(AMD64.iter().map(|name| name.to_string()));
        let thread = Thread::named(7, &all, false).unwrap();
        assert_eq!(thread.registers, (100..127).collect::<Vec<u64>>());
        // Segments may be left out, what code computes with may not.
        let mut fewer = all.clone();
        let segments = ["orig_rax", "cs", "eflags", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"];
        fewer.retain(|name, _| !segments.contains(&name.as_str()));
        let thread = Thread::named(7, &fewer, false).unwrap();
        assert_eq!(thread.pc_sp_bp_g(false), Some([116, 119, 104, 101]));
        assert_eq!(thread.by_dwarf(0, false), Some(110));
        fewer.remove("r9");
        assert_eq!(Thread::named(7, &fewer, false), None);
    }

    #[test]
    fn arm64s_frame_pointer_and_link_register_have_two_names() {
        let others = (0..29).map(|i| format!("x{i}"));
        let all = values(others.chain(["fp", "lr", "sp", "pc"].map(str::to_string)));
        let thread = Thread::named(7, &all, true).unwrap();
        assert_eq!(thread.pc_sp_bp_g(true), Some([132, 131, 129, 128]));
        assert_eq!(
            (thread.link(true), thread.by_dwarf(31, true), thread.by_dwarf(32, true)),
            (Some(130), Some(131), None)
        );
    }
}
