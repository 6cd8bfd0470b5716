//! Where the process keeps its hash state, read from the code that uses it when there are no symbols.
//!
//! The runtime's hash functions are assembly (src/runtime/asm_amd64.s go1.19 to 1.26,
//! src/internal/runtime/maps/memhash_amd64.s go1.27) or small Go functions, so the few instructions that
//! name the variables have one encoding.

use super::module::Module;
use crate::memory::Memory;

/// Code longer than this is not one of these functions.
const MAX_CODE: u64 = 1 << 12;

/// Target addresses of the AES flag, the key schedule and `hashkey`; amd64 only.
pub fn locate(memory: &dyn Memory, module: &Module, go: (u32, u32)) -> Option<[u64; 3]> {
    let [with_aes, dispatch, fallback] = match go >= (1, 27) {
        true => [
            "internal/runtime/maps.memHash64AES",
            "internal/runtime/maps.MemHash64",
            "internal/runtime/maps.memHashFallback",
        ],
        false => ["runtime.memhash64", "runtime.memhash64", "runtime.memhash64Fallback"],
    };
    let code = |name| Code::of(memory, module, name);
    // AESENC schedule+0(SB), X0
    let schedule = code(with_aes)?.operands(&[0x66, 0x0f, 0x38, 0xdc, 0x05], 0).next()?;
    // CMPB flag(SB), $0
    let flag = code(dispatch)?.operands(&[0x80, 0x3d], 1).next()?;
    // MOVQ or XORQ hashkey(SB), REG: the first of the four words has the lowest address.
    let fallback = code(fallback)?;
    let words = (0..16u8).flat_map(|i| {
        let (rex, modrm) = (0x48 | (i >> 3) << 2, 0x05 | (i & 7) << 3);
        [[rex, 0x8b, modrm], [rex, 0x33, modrm]]
    });
    let hashkey = words.flat_map(|instruction| fallback.operands(&instruction, 0).collect::<Vec<_>>()).min()?;
    Some([flag, schedule, hashkey])
}

/// The machine code of a function.
struct Code {
    entry: u64,
    bytes: Vec<u8>,
}

impl Code {
    fn of(memory: &dyn Memory, module: &Module, name: &str) -> Option<Code> {
        let (function, size) = module.function_named(memory, name)?;
        let bytes = memory.bytes(function.entry, size.min(MAX_CODE) as usize).ok()?.into_owned();
        Some(Code { entry: function.entry, bytes })
    }

    /// Addresses that instructions starting with `opcode` name relative to RIP; `immediate` bytes follow the
    /// displacement.
    fn operands<'c>(&'c self, opcode: &'c [u8], immediate: usize) -> impl Iterator<Item = u64> + 'c {
        let windows = self.bytes.windows(opcode.len() + 4 + immediate).enumerate();
        windows.filter(|(_, window)| window.starts_with(opcode)).filter_map(move |(at, window)| {
            let displacement = i32::from_le_bytes(window[opcode.len()..opcode.len() + 4].try_into().ok()?);
            let next = self.entry.checked_add((at + window.len()) as u64)?;
            next.checked_add_signed(displacement as i64)
        })
    }
}
