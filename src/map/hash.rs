//! The runtime's hash functions over bytes, as the target computes them.
//!
//! Sources: src/runtime/asm_amd64.s, asm_arm64.s and hash64.go go1.19 to 1.26, the same under
//! src/internal/runtime/maps/ (memhash_*.s, runtime_hash64.go) go1.27. All are checked against vectors
//! made by the runtime itself (tests/hash_vectors.rs).

use byteorder::{ByteOrder, LittleEndian as LE};

/// The process-wide hash state: drawn once at start, the same for every map.
#[derive(Debug, Clone)]
pub struct HashState {
    algorithm: Algorithm,
    schedule: [u128; 8],
    keys: [u64; 4],
    go: (u32, u32),
    native: bool,
}

/// Which hash the target uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// AES instructions of amd64.
    AmdAes,
    /// AES instructions of arm64.
    ArmAes,
    /// Multiply and mix, on processors without AES or with `GODEBUG=cpu.aes=off`.
    Fallback,
}

/// Rounds of AES on a 16-byte state.
trait Round: Copy {
    /// ShiftRows, SubBytes, MixColumns, xor with `key` (amd64's AESENC).
    fn enc(self, state: u128, key: u128) -> u128;

    /// ShiftRows, SubBytes (amd64's AESENCLAST with a key of 0).
    fn enc_last(self, state: u128) -> u128;
}

/// Portable, on any processor.
#[derive(Clone, Copy)]
struct Soft;

impl Round for Soft {
    fn enc(self, state: u128, key: u128) -> u128 {
        let mut block = state.to_le_bytes().into();
        aes::hazmat::cipher_round(&mut block, &key.to_le_bytes().into());
        u128::from_le_bytes(block.into())
    }

    fn enc_last(self, state: u128) -> u128 {
        let mut block = self.enc(state, 0).to_le_bytes().into();
        aes::hazmat::inv_mix_columns(&mut block);
        u128::from_le_bytes(block.into())
    }
}

/// The processor's own instruction; made only where it was found to exist.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Native;

#[cfg(target_arch = "x86_64")]
impl Round for Native {
    #[inline(always)]
    fn enc(self, state: u128, key: u128) -> u128 {
        use std::arch::x86_64::{__m128i, _mm_aesenc_si128};
        // SAFETY: both types are 16 plain bytes; `native` guards every use of this type.
        unsafe {
            let (state, key) = (std::mem::transmute::<u128, __m128i>(state), std::mem::transmute::<u128, __m128i>(key));
            std::mem::transmute::<__m128i, u128>(_mm_aesenc_si128(state, key))
        }
    }

    #[inline(always)]
    fn enc_last(self, state: u128) -> u128 {
        use std::arch::x86_64::{__m128i, _mm_aesenclast_si128, _mm_setzero_si128};
        // SAFETY: as for `enc`.
        unsafe {
            let state = std::mem::transmute::<u128, __m128i>(state);
            std::mem::transmute::<__m128i, u128>(_mm_aesenclast_si128(state, _mm_setzero_si128()))
        }
    }
}

/// A hash that is to be computed with some kind of rounds.
trait Work {
    fn run<R: Round>(self, round: R) -> u64;
}

/// `memhash` of bytes.
struct Bytes<'w> {
    state: &'w HashState,
    data: &'w [u8],
    seed: u64,
}

impl Work for Bytes<'_> {
    #[inline(always)]
    fn run<R: Round>(self, round: R) -> u64 {
        let Bytes { state, data, seed } = self;
        match state.algorithm {
            Algorithm::ArmAes => arm::memhash(round, &state.schedule, data, seed, state.go),
            _ => amd::memhash(round, &state.schedule, data, seed),
        }
    }
}

/// `memhash32` or `memhash64` of a block in which seed and key are put together.
struct Block<'w> {
    state: &'w HashState,
    block: u128,
}

impl Work for Block<'_> {
    #[inline(always)]
    fn run<R: Round>(self, round: R) -> u64 {
        match self.state.algorithm {
            Algorithm::ArmAes => arm::fixed(round, self.state.schedule[0], self.block),
            _ => amd::fixed(round, &self.state.schedule, self.block),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_native() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_native() -> bool {
    false
}

impl HashState {
    /// The state of a process: the 128-byte `aeskeysched`, the four words of `hashkey`, the Go version.
    pub fn new(algorithm: Algorithm, schedule: &[u8; 128], hashkey: [u64; 4], go: (u32, u32)) -> HashState {
        let mut blocks = [0; 8];
        for (block, bytes) in blocks.iter_mut().zip(schedule.chunks_exact(16)) {
            *block = LE::read_u128(bytes);
        }
        // Until 1.22 three of the four multipliers were constants (src/runtime/hash64.go).
        let keys = match go < (1, 23) {
            true => [
                hashkey[0] ^ 0xa076_1d64_78bd_642f,
                0xe703_7ed1_a0b4_28db,
                0x8ebc_6af0_9c88_c6e3,
                0x5899_65cc_7537_4cc3,
            ],
            false => hashkey,
        };
        HashState { algorithm, schedule: blocks, keys, go, native: has_native() }
    }

    /// The same state, computed without the processor's AES instructions.
    pub fn portable(mut self) -> HashState {
        self.native = false;
        self
    }

    /// Which algorithm the target uses.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The Go version of the target.
    pub fn go(&self) -> (u32, u32) {
        self.go
    }

    /// How the hash is made, in words.
    pub fn describe(&self) -> &'static str {
        match self.algorithm {
            Algorithm::AmdAes | Algorithm::ArmAes => "AES",
            Algorithm::Fallback => "the fallback for processors without AES",
        }
    }

    /// `memhash(data, seed, len(data))`, also the hash of a string.
    #[inline]
    pub fn memhash(&self, data: &[u8], seed: u64) -> u64 {
        match self.algorithm {
            Algorithm::Fallback => fallback(&self.keys, data, seed),
            _ => self.run(Bytes { state: self, data, seed }),
        }
    }

    /// `memhash32`: of 4 bytes.
    #[inline]
    pub fn memhash32(&self, key: u32, seed: u64) -> u64 {
        let block = match self.algorithm {
            Algorithm::Fallback => return fallback(&self.keys, &key.to_le_bytes(), seed),
            // Until 1.26 half of the seed is left out (src/runtime/asm_arm64.s).
            Algorithm::ArmAes if self.go < (1, 27) => (key as u128) << 32 | (seed as u32) as u128,
            _ => (key as u128) << 64 | seed as u128,
        };
        self.run(Block { state: self, block })
    }

    /// `memhash64`: of 8 bytes.
    #[inline]
    pub fn memhash64(&self, key: u64, seed: u64) -> u64 {
        match self.algorithm {
            Algorithm::Fallback => fallback(&self.keys, &key.to_le_bytes(), seed),
            _ => self.run(Block { state: self, block: (key as u128) << 64 | seed as u128 }),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn run(&self, work: impl Work) -> u64 {
        #[target_feature(enable = "aes")]
        fn native(work: impl Work) -> u64 {
            work.run(Native)
        }
        match self.native {
            // SAFETY: the processor was found to have AES.
            true => unsafe { native(work) },
            false => work.run(Soft),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn run(&self, work: impl Work) -> u64 {
        work.run(Soft)
    }
}

/// 16 bytes of `data` at `at`, which every caller has checked to be there.
#[inline(always)]
fn block_at(data: &[u8], at: usize) -> u128 {
    LE::read_u128(&data[at..at + 16])
}

/// The 16-byte blocks that inputs of 17 to 128 bytes are read as: half from the front, half from the back.
#[inline(always)]
fn lanes(data: &[u8], blocks: &mut [u128; 8]) -> usize {
    let n = data.len();
    let count = match n {
        0..=32 => 2,
        33..=64 => 4,
        _ => 8,
    };
    let half = count / 2;
    for i in 0..half {
        blocks[i] = block_at(data, 16 * i);
        blocks[half + i] = block_at(data, n - 16 * (half - i));
    }
    count
}

mod amd {
    use super::{block_at, lanes, Round};

    /// `memhash32` and `memhash64`: three rounds with three keys.
    #[inline(always)]
    pub fn fixed<R: Round>(round: R, schedule: &[u128; 8], block: u128) -> u64 {
        let state = round.enc(round.enc(round.enc(block, schedule[0]), schedule[1]), schedule[2]);
        state as u64
    }

    #[inline(always)]
    pub fn memhash<R: Round>(round: R, schedule: &[u128; 8], data: &[u8], seed: u64) -> u64 {
        let n = data.len();
        let itself = |state: u128| round.enc(state, state);
        let thrice = |state: u128| itself(itself(itself(state)));
        let length = (n as u16) as u128 * 0x0001_0001_0001_0001;
        let base = length << 64 | seed as u128;
        let start = |i: usize| itself(base ^ schedule[i]);
        if n == 0 {
            return itself(start(0)) as u64;
        }
        if n <= 16 {
            let mut block = [0; 16];
            block[..n].copy_from_slice(data);
            return thrice(u128::from_le_bytes(block) ^ start(0)) as u64;
        }
        if n <= 128 {
            let mut blocks = [0; 8];
            let count = lanes(data, &mut blocks);
            return (0..count).fold(0, |all, i| all ^ thrice(blocks[i] ^ start(i))) as u64;
        }
        let mut state: [u128; 8] = std::array::from_fn(|i| block_at(data, n - 128 + 16 * i) ^ start(i));
        for chunk in 0..(n - 1) >> 7 {
            for (i, lane) in state.iter_mut().enumerate() {
                *lane = round.enc(itself(*lane), block_at(data, 128 * chunk + 16 * i));
            }
        }
        state.iter().fold(0, |all, &lane| all ^ thrice(lane)) as u64
    }
}

mod arm {
    use super::{block_at, lanes, Round};

    /// AESE and AESMC together.
    #[inline(always)]
    fn mixed<R: Round>(round: R, state: u128, key: u128) -> u128 {
        round.enc(state ^ key, 0)
    }

    /// AESE alone.
    #[inline(always)]
    fn unmixed<R: Round>(round: R, state: u128, key: u128) -> u128 {
        round.enc_last(state ^ key)
    }

    /// `memhash32` and `memhash64`: three rounds with the first key.
    #[inline(always)]
    pub fn fixed<R: Round>(round: R, key: u128, block: u128) -> u64 {
        unmixed(round, mixed(round, mixed(round, block, key), key), key) as u64
    }

    #[inline(always)]
    pub fn memhash<R: Round>(round: R, schedule: &[u128; 8], data: &[u8], seed: u64, go: (u32, u32)) -> u64 {
        let n = data.len();
        let base = (n as u128) << 64 | seed as u128;
        let start = |i: usize| mixed(round, schedule[i], base);
        if n == 0 {
            return start(0) as u64;
        }
        if n <= 16 {
            let (block, key) = (short_block(data), start(0));
            let twice = mixed(round, mixed(round, block, key), key);
            // The third AESMC came between 1.19 and 1.21 (src/runtime/asm_arm64.s).
            return match go >= (1, 21) {
                true => mixed(round, twice, key) as u64,
                false => unmixed(round, twice, key) as u64,
            };
        }
        if n <= 128 {
            let mut blocks = [0; 8];
            let count = lanes(data, &mut blocks);
            let lane = |i: usize| {
                let key = start(i);
                unmixed(round, mixed(round, mixed(round, blocks[i], key), key), key)
            };
            return (0..count).fold(0, |all, i| all ^ lane(i)) as u64;
        }
        let mut state: [u128; 8] = std::array::from_fn(start);
        let mut keys: [u128; 8] = std::array::from_fn(|i| block_at(data, n - 128 + 16 * i));
        for chunk in 0..(n - 1) >> 7 {
            for i in 0..8 {
                state[i] = mixed(round, state[i], keys[i]);
                keys[i] = block_at(data, 128 * chunk + 16 * i);
                state[i] = mixed(round, state[i], keys[i]);
            }
        }
        let last = |i: usize| {
            let twice = mixed(round, mixed(round, state[i], keys[i]), keys[i]);
            unmixed(round, twice, keys[i])
        };
        (0..8).fold(0, |all, i| all ^ last(i)) as u64
    }

    /// Up to 16 bytes, placed by the bits of the length: 8 at 0, 4 at 8, 2 at 12, 1 at 14.
    fn short_block(data: &[u8]) -> u128 {
        let mut block = [0; 16];
        if data.len() == 16 {
            block.copy_from_slice(data);
        } else {
            let mut rest = data;
            for (size, at) in [(8, 0), (4, 8), (2, 12), (1, 14)] {
                if data.len() & size != 0 {
                    let (piece, after) = rest.split_at(size);
                    block[at..at + size].copy_from_slice(piece);
                    rest = after;
                }
            }
        }
        u128::from_le_bytes(block)
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

/// `memhashFallback` of 64-bit targets.
fn fallback(keys: &[u64; 4], data: &[u8], seed: u64) -> u64 {
    const M5: u64 = 0x1d8e_4e27_c47d_124f;
    let n = data.len();
    let (r4, r8) = (|at: usize| LE::read_u32(&data[at..]) as u64, |at: usize| LE::read_u64(&data[at..]));
    let mut seed = seed ^ keys[0];
    let (a, b) = match n {
        0 => return seed,
        1..=3 => (data[0] as u64 | (data[n >> 1] as u64) << 8 | (data[n - 1] as u64) << 16, 0),
        4 => (r4(0), r4(0)),
        5..=7 => (r4(0), r4(n - 4)),
        8 => (r8(0), r8(0)),
        9..=16 => (r8(0), r8(n - 8)),
        _ => {
            let (mut at, mut left) = (0, n);
            if left > 48 {
                let (mut seed1, mut seed2) = (seed, seed);
                while left > 48 {
                    seed = mix(r8(at) ^ keys[1], r8(at + 8) ^ seed);
                    seed1 = mix(r8(at + 16) ^ keys[2], r8(at + 24) ^ seed1);
                    seed2 = mix(r8(at + 32) ^ keys[3], r8(at + 40) ^ seed2);
                    (at, left) = (at + 48, left - 48);
                }
                seed ^= seed1 ^ seed2;
            }
            while left > 16 {
                seed = mix(r8(at) ^ keys[1], r8(at + 8) ^ seed);
                (at, left) = (at + 16, left - 16);
            }
            (r8(at + left - 16), r8(at + left - 8))
        }
    };
    mix(M5 ^ n as u64, mix(a ^ keys[1], b ^ seed))
}
