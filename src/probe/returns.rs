//! Where a function returns, read out of its machine code.
//!
//! A probe on the return address (uretprobe) would write to the stack, which Go copies and unwinds: so each `ret` gets a
//! probe of its own. Go puts no data between its instructions (amd64), so reading them one after the other from the
//! entry finds each as the processor does.

use super::functions::Arch;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use rustc_hash::FxHashSet;

/// Functions longer than this are not looked at; the longest of ours has 2 KB.
pub(super) const LONGEST: usize = 1 << 16;

/// The addresses of all instructions by which the function with this code, which lies at `entry`, gives control back.
///
/// `None` when it may do so in another way too: by a jump out of its code or to an address that it computes, or by code
/// that is none we can read. Then its returns cannot all be seen.
pub(super) fn returns(arch: Arch, code: &[u8], entry: u64) -> Option<Vec<u64>> {
    let instructions = decoded(arch, code, entry)?;
    let starts: FxHashSet<u64> = instructions.iter().map(|instruction| instruction.ip()).collect();
    let mut found = Vec::new();
    for instruction in &instructions {
        match instruction.flow_control() {
            FlowControl::Return => found.push(instruction.ip()),
            FlowControl::IndirectBranch => return None,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if !starts.contains(&instruction.near_branch_target()) =>
            {
                return None
            }
            _ => {}
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Addresses of fixed places that the function returns a pointer to.
pub(super) fn fixed_results(arch: Arch, code: &[u8], entry: u64) -> Vec<u64> {
    let Some(instructions) = decoded(arch, code, entry) else { return Vec::new() };
    let mut found = Vec::new();
    // What the first result register holds, if that is a fixed address.
    let mut result = None;
    for instruction in &instructions {
        match instruction.flow_control() {
            FlowControl::Return => {
                found.extend(result.take());
                continue;
            }
            FlowControl::Next => {}
            _ => result = None,
        }
        let writes = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == Register::RAX
            && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push);
        if writes {
            let is_fixed = instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand();
            result = is_fixed.then(|| instruction.ip_rel_memory_address());
        }
    }
    found
}

fn decoded(arch: Arch, code: &[u8], entry: u64) -> Option<Vec<Instruction>> {
    if arch != Arch::Amd64 || code.is_empty() || code.len() > LONGEST {
        return None;
    }
    let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
    let mut instructions = Vec::with_capacity(code.len() / 4);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        instructions.push(instruction);
    }
    Some(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_return_is_found_and_no_byte_within_an_instruction() {
        // test rbx,rbx; je +7; mov eax,0xc3c3c3c3; pop rbp; ret; lea rax,[rip+0x10]; xor ebx,ebx; ret; int3; int3
        let code = [
            0x48, 0x85, 0xdb, 0x74, 0x07, 0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0x5d, 0xc3, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0,
            0x31, 0xdb, 0xc3, 0xcc, 0xcc,
        ];
        assert_eq!(returns(Arch::Amd64, &code, 0x1000), Some(vec![0x100b, 0x1015]));
        assert_eq!(fixed_results(Arch::Amd64, &code, 0x1000), [0x1023]);
        assert_eq!(returns(Arch::Arm64, &code, 0x1000), None);
    }

    #[test]
    fn a_function_that_goes_on_elsewhere_has_returns_that_are_not_seen() {
        let ways: [&[u8]; 4] = [
            &[0xeb, 0x40, 0xc3],             // jmp out of it; ret
            &[0x74, 0x40, 0xc3],             // je out of it; ret
            &[0xff, 0xe0, 0xc3],             // jmp rax; ret
            &[0xeb, 0x01, 0xb8, 0, 0, 0, 0], // jmp into an instruction
        ];
        for code in ways {
            assert_eq!(returns(Arch::Amd64, code, 0x1000), None, "{code:x?}");
        }
        assert_eq!(returns(Arch::Amd64, &[0x90, 0xcc], 0x1000), None, "one that never returns");
        assert_eq!(returns(Arch::Amd64, &[0x06, 0xc3], 0x1000), None, "no instruction");
        assert_eq!(returns(Arch::Amd64, &[], 0x1000), None);
    }
}
