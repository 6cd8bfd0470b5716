//! The stack check at a Go function's entry.
//!
//! A probe on the entry itself fires twice when the check calls `runtime.morestack` (the stack grows, or the
//! goroutine is asked to yield), because the function then starts again. Just behind the check every argument
//! register and SP still are as at entry, and each call passes once. On amd64 the instruction there is
//! `push %rbp`, which the kernel emulates instead of single-stepping it.

use super::Arch;

/// Bytes that [`after_stack_check`] needs to see.
pub(super) const LONGEST: usize = 24;

/// Length in bytes of the stack check that `code`, a function's first bytes, starts with; `None` when it
/// starts with none that we know (a NOSPLIT function has none).
///
/// Source: `stacksplit` in src/cmd/internal/obj/x86/obj6.go and src/cmd/internal/obj/arm64/obj7.go, go1.19 to 1.27.
pub(super) fn after_stack_check(arch: Arch, code: &[u8]) -> Option<usize> {
    match arch {
        Arch::Amd64 => amd64(code),
        Arch::Arm64 => arm64(code),
    }
}

/// `cmp 16(r14), rsp` or `lea -n(rsp), r12; cmp 16(r14), r12`, then `jbe`.
fn amd64(code: &[u8]) -> Option<usize> {
    const COMPARE_SP: &[u8] = &[0x49, 0x3b, 0x66, 0x10];
    const COMPARE_R12: &[u8] = &[0x4d, 0x3b, 0x66, 0x10];
    const LEA_SHORT: &[u8] = &[0x4c, 0x8d, 0x64, 0x24];
    const LEA_LONG: &[u8] = &[0x4c, 0x8d, 0xa4, 0x24];
    let compared = if code.starts_with(COMPARE_SP) {
        4
    } else if code.starts_with(LEA_SHORT) && code.get(5..)?.starts_with(COMPARE_R12) {
        9
    } else if code.starts_with(LEA_LONG) && code.get(8..)?.starts_with(COMPARE_R12) {
        12
    } else {
        return None;
    };
    match code.get(compared..)? {
        [0x76, _, _, ..] => Some(compared + 2),
        [0x0f, 0x86, _, _, _, _, _, ..] => Some(compared + 6),
        _ => None,
    }
}

/// `ldr x16, [x28, #16]`, then `cmp sp, x16` or `sub x17, sp, #n; cmp x17, x16`, then `b.ls`.
fn arm64(code: &[u8]) -> Option<usize> {
    const LOAD_GUARD: u32 = 0xf940_0b90;
    const COMPARE_SP: u32 = 0xeb30_63ff;
    const COMPARE_X17: u32 = 0xeb10_023f;
    let word = |i: usize| Some(u32::from_le_bytes(code.get(i * 4..i * 4 + 4)?.try_into().ok()?));
    let is_sub_x17_sp = |w: u32| w & 0xff80_03ff == 0xd100_03f1;
    let is_branch_ls = |w: u32| w & 0xff00_001f == 0x5400_0009;
    if word(0)? != LOAD_GUARD {
        return None;
    }
    let compared = if word(1)? == COMPARE_SP {
        2
    } else if is_sub_x17_sp(word(1)?) && word(2)? == COMPARE_X17 {
        3
    } else {
        return None;
    };
    is_branch_ls(word(compared)?).then_some((compared + 1) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// Bytes of functions that Go 1.21.13 and 1.27.3 compiled for amd64, with what objdump says of them.
    #[test]
    fn amd64_checks_are_passed() {
        // cmp 0x10(%r14),%rsp; jbe (rel32); push %rbp
        let mapaccess1 = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0xd0, 0x01, 0x00, 0x00, 0x55, 0x48, 0x89, 0xe5];
        // cmp 0x10(%r14),%rsp; jbe (rel8); push %rbp
        let wrapper = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x13, 0x55, 0x48, 0x89, 0xe5];
        // lea -0x30(%rsp),%r12; cmp 0x10(%r14),%r12; jbe (rel32); push %rbp
        let mapassign = [
            0x4c, 0x8d, 0x64, 0x24, 0xd0, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x78, 0x05, 0x00, 0x00, 0x55, 0x48, 0x89,
        ];
        for (code, push) in [(&mapaccess1[..], 10), (&wrapper[..], 6), (&mapassign[..], 15)] {
            assert_eq!(after_stack_check(Arch::Amd64, code), Some(push));
            assert_eq!(code[push], 0x55);
        }
    }

    /// Words of `runtime.mapaccess2` and `runtime.mapassign` that Go 1.27.3 compiled for arm64.
    #[test]
    fn arm64_checks_are_passed() {
        let small = words(&[0xf9400b90, 0xeb3063ff, 0x54001489, 0xf8190ffe, 0xf81f83fd]);
        let large = words(&[0xf9400b90, 0xd10143f1, 0xeb10023f, 0x540026a9, 0xf8130ffe]);
        assert_eq!(after_stack_check(Arch::Arm64, &small), Some(12));
        assert_eq!(after_stack_check(Arch::Arm64, &large), Some(16));
    }

    #[test]
    fn anything_else_stays_at_the_entry() {
        for arch in [Arch::Amd64, Arch::Arm64] {
            assert_eq!(after_stack_check(arch, &[]), None);
            assert_eq!(after_stack_check(arch, &[0x55, 0x48, 0x89, 0xe5]), None);
            assert_eq!(after_stack_check(arch, &[0x49, 0x3b, 0x66, 0x10]), None);
            assert_eq!(after_stack_check(arch, &words(&[0xf9400b90, 0xeb3063ff, 0x1400_0000])), None);
        }
    }
}
