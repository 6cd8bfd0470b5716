//! The pclntab: `runtime.pcHeader` and `functab` (src/runtime/symtab.go), `_func` (src/runtime/runtime2.go),
//! `inlinedCall` (src/runtime/symtab.go go1.19, symtabinl.go go1.20 to 1.27), indices (src/internal/abi/symtab.go).

/// Magic of Go 1.18 and 1.19, and of Go 1.20 to 1.27.
pub const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];

/// `pcHeader`: offsets of its fields and its size in bytes.
pub mod header {
    pub const PADDING: usize = 4;
    pub const QUANTUM: usize = 6;
    pub const POINTER_SIZE: usize = 7;
    pub const NFUNC: usize = 8;
    pub const FUNCNAME_OFFSET: usize = 32;
    pub const CU_OFFSET: usize = 40;
    pub const FILETAB_OFFSET: usize = 48;
    pub const PCTAB_OFFSET: usize = 56;
    pub const PCLN_OFFSET: usize = 64;
    pub const SIZE: usize = 72;
}

/// `_func`: what stands before `cuOffset` is the same in every version.
pub mod func {
    pub const NAME: usize = 4;
    pub const ARGS: usize = 8;
    pub const DEFER_RETURN: usize = 12;
    pub const PCSP: usize = 16;
    pub const PCFILE: usize = 20;
    pub const PCLN: usize = 24;
    pub const NPCDATA: usize = 28;
    pub const CU: usize = 32;
}

/// Where the rest is: Go 1.20 put `startLine` into `_func` and into `inlinedCall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// `_func.startLine`, an int32.
    pub start_line: Option<usize>,
    /// `_func.funcID`; the flags are in the next byte.
    pub func_id: usize,
    /// `_func.nfuncdata`.
    pub nfuncdata: usize,
    /// Size of `_func`; the PCDATA and FUNCDATA tables follow.
    pub func_size: usize,
    /// Size of `inlinedCall`.
    pub inlined_size: u64,
    /// `inlinedCall.nameOff` (`func_` in 1.19).
    pub inlined_name: u64,
    /// `inlinedCall.parentPc`.
    pub inlined_parent_pc: u64,
    /// `inlinedCall.funcID`.
    pub inlined_func_id: u64,
}

const GO_1_18: Offsets = Offsets {
    start_line: None,
    func_id: 36,
    nfuncdata: 39,
    func_size: 40,
    inlined_size: 20,
    inlined_name: 12,
    inlined_parent_pc: 16,
    inlined_func_id: 2,
};

const GO_1_20: Offsets = Offsets {
    start_line: Some(36),
    func_id: 40,
    nfuncdata: 43,
    func_size: 44,
    inlined_size: 16,
    inlined_name: 4,
    inlined_parent_pc: 8,
    inlined_func_id: 0,
};

/// The offsets of a Go version.
pub fn offsets(go: (u32, u32)) -> &'static Offsets {
    match go < (1, 20) {
        true => &GO_1_18,
        false => &GO_1_20,
    }
}

/// Index of the PCDATA table that says which bitmap of a frame's pointers holds, and of those bitmaps among FUNCDATA: of
/// arguments, of local variables; and of the list of variables whose address is taken (src/internal/abi/symtab.go).
pub const PCDATA_STACK_MAP: u32 = 1;
pub const FUNCDATA_ARGUMENTS: u32 = 0;
pub const FUNCDATA_LOCALS: u32 = 1;
pub const FUNCDATA_OBJECTS: u32 = 2;
/// Index of the inline tree's PCDATA table: which inlined call an instruction belongs to.
pub const PCDATA_INL_TREE: u32 = 2;
/// Index of the inline tree among FUNCDATA.
pub const FUNCDATA_INL_TREE: u32 = 3;
/// FUNCDATA offset of what a function does not have.
pub const NO_FUNCDATA: u32 = u32::MAX;
