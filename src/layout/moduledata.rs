//! `runtime.moduledata`: src/runtime/symtab.go go1.19 to 1.27. Byte offsets on 64-bit targets.

/// What stands before `types` has not moved, but for `end` and its neighbours.
pub const PC_HEADER: u64 = 0;
pub const FUNCNAMETAB: u64 = 8;
pub const PCLNTABLE: u64 = 104;
pub const FTAB: u64 = 128;
pub const MINPC: u64 = 160;
pub const MAXPC: u64 = 168;
pub const TEXT: u64 = 176;
pub const ETEXT: u64 = 184;
pub const NOPTRDATA: u64 = 192;
pub const DATA: u64 = 208;
pub const BSS: u64 = 224;
pub const NOPTRBSS: u64 = 240;

/// Where the rest is in one range of versions; `None` is what they do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// Size of the whole.
    pub size: u64,
    /// `types`.
    pub types: u64,
    /// `typedesclen`: descriptors fill so many bytes from `types` on; since 1.27.
    pub typedesclen: Option<u64>,
    /// `etypes`.
    pub etypes: u64,
    /// `itaboffset` (from `types`), followed by `itabsize` in bytes; since 1.27.
    pub itaboffset: Option<u64>,
    /// `rodata`.
    pub rodata: u64,
    /// `gofunc`: FUNCDATA are offsets from there.
    pub gofunc: u64,
    /// `epclntab`: end of the pclntab; since 1.26.
    pub epclntab: Option<u64>,
    /// `typelinks`, a slice of int32 offsets from `types`; to 1.26.
    pub typelinks: Option<u64>,
    /// `itablinks`, a slice of pointers to itabs; to 1.26.
    pub itablinks: Option<u64>,
    /// `modulename`, a string; empty but for plugins and shared libraries.
    pub modulename: u64,
    /// `gcdatamask`, a bitvector (`n` int32, padding, `bytedata` pointer); `gcbssmask` follows it.
    pub gcdatamask: u64,
    /// `next`: the next module, or nil.
    pub next: u64,
}

const GO_1_19: Offsets = Offsets {
    size: 552,
    types: 280,
    typedesclen: None,
    etypes: 288,
    itaboffset: None,
    rodata: 296,
    gofunc: 304,
    epclntab: None,
    typelinks: Some(336),
    itablinks: Some(360),
    modulename: 448,
    gcdatamask: 496,
    next: 544,
};

/// Coverage counters came before `end`.
const GO_1_20: Offsets = Offsets {
    size: 568,
    types: 296,
    etypes: 304,
    rodata: 312,
    gofunc: 320,
    typelinks: Some(352),
    itablinks: Some(376),
    modulename: 464,
    gcdatamask: 512,
    next: 560,
    ..GO_1_19
};

/// `inittasks` came before `modulename`.
const GO_1_21: Offsets = Offsets { size: 592, modulename: 488, gcdatamask: 536, next: 584, ..GO_1_20 };

/// `bad` moved beside `hasmain`.
const GO_1_23: Offsets = Offsets { size: 584, next: 576, ..GO_1_21 };

const GO_1_26: Offsets = Offsets {
    size: 592,
    epclntab: Some(328),
    typelinks: Some(360),
    itablinks: Some(384),
    modulename: 496,
    gcdatamask: 544,
    next: 584,
    ..GO_1_23
};

/// Typelinks and itablinks went: types and itabs lie one behind the other.
const GO_1_27: Offsets = Offsets {
    size: 568,
    typedesclen: Some(304),
    etypes: 312,
    itaboffset: Some(320),
    rodata: 336,
    gofunc: 344,
    epclntab: Some(352),
    typelinks: None,
    itablinks: None,
    modulename: 472,
    gcdatamask: 520,
    next: 560,
    ..GO_1_26
};

/// The offsets of a Go version; those of the nearest known one for versions outside 1.19 to 1.27.
pub fn offsets(go: (u32, u32)) -> &'static Offsets {
    match go {
        (1, ..=19) => &GO_1_19,
        (1, 20) => &GO_1_20,
        (1, 21..=22) => &GO_1_21,
        (1, 23..=25) => &GO_1_23,
        (1, 26) => &GO_1_26,
        _ => &GO_1_27,
    }
}
