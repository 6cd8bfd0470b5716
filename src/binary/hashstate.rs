//! Where the process keeps its hash state, read from the code that uses it when there are no symbols.
//!
//! The runtime's hash functions are assembly (src/runtime/asm_{amd64,arm64}.s go1.19 to 1.26,
//! src/internal/runtime/maps/memhash_{amd64,arm64}.s go1.27) or small Go functions; each is found by name in
//! the function table, and the variables by the operands of its instructions.

use super::moduledata::Module;
use super::pclntab::Function;
use crate::memory::Memory;
use byteorder::{ByteOrder, LittleEndian as LE};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Code longer than this is not one of these functions.
const MAX_CODE: u64 = 1 << 12;

/// Functions that name the variables.
struct Functions {
    /// Reads the key schedule.
    with_aes: &'static str,
    /// Tests the flag.
    dispatch: &'static str,
    /// Reads `hashkey`.
    fallback: &'static str,
}

impl Functions {
    fn of(go: (u32, u32)) -> Functions {
        match go >= (1, 27) {
            true => Functions {
                with_aes: "internal/runtime/maps.memHash64AES",
                dispatch: "internal/runtime/maps.MemHash64",
                fallback: "internal/runtime/maps.memHashFallback",
            },
            false => Functions {
                with_aes: "runtime.memhash64",
                dispatch: "runtime.memhash64",
                fallback: "runtime.memhash64Fallback",
            },
        }
    }
}

/// Run-time addresses of the AES flag, the key schedule and `hashkey`.
pub fn locate(memory: &dyn Memory, module: &Module, go: (u32, u32), arm: bool) -> Option<[u64; 3]> {
    let functions = Functions::of(go);
    let code = |name| {
        let function = module.functions.function_named(name)?;
        let bytes = memory.bytes(function.entry, function.size().min(MAX_CODE) as usize).ok()?;
        Some((function, bytes))
    };
    let operands = |name, wanted: Wanted| -> Option<Vec<u64>> {
        let (function, bytes) = code(name)?;
        let found = match arm {
            true => arm_operands(&function, &bytes, wanted),
            false => amd_operands(&function, &bytes, wanted),
        };
        Some(found)
    };
    let writable = |address: &u64| {
        let ranges = [&module.data.noptrdata, &module.data.data, &module.data.bss, &module.data.noptrbss];
        ranges.iter().any(|range| range.contains(address))
    };
    let first = |name, wanted| operands(name, wanted)?.into_iter().find(writable);
    let schedule = first(functions.with_aes, Wanted::Schedule)?;
    let flag = first(functions.dispatch, Wanted::Flag)?;
    // The first of the four words has the lowest address.
    let hashkey = operands(functions.fallback, Wanted::Word)?.into_iter().filter(writable).min()?;
    Some([flag, schedule, hashkey])
}

/// How a variable is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A round of AES takes its key from there.
    Schedule,
    /// A byte is compared or loaded.
    Flag,
    /// A word of 8 bytes is loaded, or combined with a register.
    Word,
}

/// Addresses that the instructions of an amd64 function use in the wanted way.
fn amd_operands(function: &Function<'_>, code: &[u8], wanted: Wanted) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, code, function.entry, DecoderOptions::NONE);
    let mut found = Vec::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let absolute = instruction.memory_base() == Register::None && instruction.memory_index() == Register::None;
        let in_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
        if !in_memory || !(instruction.is_ip_rel_memory_operand() || absolute) {
            continue;
        }
        let fits = match wanted {
            Wanted::Schedule => instruction.mnemonic() == Mnemonic::Aesenc,
            Wanted::Flag => {
                use Code::*;
                matches!(instruction.code(), Cmp_rm8_imm8 | Movzx_r32_rm8 | Movzx_r64_rm8 | Mov_r8_rm8 | Test_rm8_imm8)
            }
            Wanted::Word => matches!(instruction.code(), Code::Mov_r64_rm64 | Code::Xor_r64_rm64),
        };
        if fits {
            found.push(instruction.memory_displacement64());
        }
    }
    found
}

/// Addresses that the instructions of an arm64 function use in the wanted way. The linker makes every address
/// of ADRP, which gives a page, and of an ADD or of the offset in a load.
fn arm_operands(function: &Function<'_>, code: &[u8], wanted: Wanted) -> Vec<u64> {
    let mut registers: [Option<u64>; 32] = [None; 32];
    let mut found = Vec::new();
    for (i, word) in code.chunks_exact(4).map(LE::read_u32).enumerate() {
        let pc = function.entry.wrapping_add(4 * i as u64);
        let register = |shift: u32| (word >> shift & 31) as usize;
        let base = registers[register(5)];
        let immediate = (word >> 10 & 0xfff) as u64;
        // The offset of a load is in units of its size.
        let (used, offset) = match word {
            _ if word & 0xffc0_0000 == 0x3940_0000 || word & 0xffc0_0000 == 0x3980_0000 => (Wanted::Flag, immediate),
            _ if word & 0xffc0_0000 == 0xf940_0000 => (Wanted::Word, 8 * immediate),
            // LDP: seven bits with a sign.
            _ if word & 0xffc0_0000 == 0xa940_0000 => (Wanted::Word, (((word << 10) as i32 >> 25) as i64 * 8) as u64),
            // LD1 of vectors, without and with an increment.
            _ if word & 0xbfff_0000 == 0x0c40_0000 || word & 0xbfff_0000 == 0x0cdf_0000 => (Wanted::Schedule, 0),
            _ => {
                registers[register(0)] = address(pc, word, base);
                continue;
            }
        };
        found.extend(base.filter(|_| used == wanted).map(|base| base.wrapping_add(offset)));
        if used != Wanted::Schedule {
            registers[register(0)] = None;
        }
    }
    found
}

/// What ADRP and ADD leave in their target; other instructions leave nothing that is known.
fn address(pc: u64, word: u32, base: Option<u64>) -> Option<u64> {
    if word & 0x9f00_0000 == 0x9000_0000 {
        let immediate = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
        let pages = ((immediate << 11) as i32 >> 11) as i64;
        return Some((pc & !0xfff).wrapping_add_signed(pages << 12));
    }
    let immediate = (word >> 10 & 0xfff) as u64;
    base.filter(|_| word & 0xffc0_0000 == 0x9100_0000).map(|base| base.wrapping_add(immediate))
}
