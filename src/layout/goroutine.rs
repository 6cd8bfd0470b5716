//! Facts of goroutines that no binary states (src/runtime/runtime2.go, src/internal/abi/symtab.go, go1.19 to 1.27).

/// Set in `g.atomicstatus` while the garbage collector scans the stack.
pub const SCAN: u32 = 0x1000;
pub const RUNNABLE: u32 = 1;
pub const RUNNING: u32 = 2;
pub const SYSCALL: u32 = 3;
pub const WAITING: u32 = 4;
pub const DEAD: u32 = 6;
pub const COPYSTACK: u32 = 8;
pub const PREEMPTED: u32 = 9;
/// Parked for ever, says the collector (Go 1.26 and later).
pub const LEAKED: u32 = 10;
/// A dead g of cgo's extra Ms (Go 1.26 and later).
pub const DEAD_EXTRA: u32 = 11;

/// Offset of `goid` in `runtime.g`, for programs without DWARF (measured on the DWARF of each version; `syscallbp`
/// came with Go 1.23, `gobuf.ret` went with Go 1.25).
pub fn goid(go: (u32, u32)) -> u64 {
    match go {
        (1, 23 | 24) => 160,
        _ => 152,
    }
}

/// The name of a status, scan bit off; `None` for one that no known version has.
pub fn status_name(status: u32) -> Option<&'static str> {
    Some(match status {
        0 => "idle",
        RUNNABLE => "runnable",
        RUNNING => "running",
        SYSCALL => "syscall",
        WAITING => "waiting",
        DEAD => "dead",
        COPYSTACK => "copystack",
        PREEMPTED => "preempted",
        LEAKED => "leaked",
        DEAD_EXTRA => "dead extra",
        _ => return None,
    })
}

/// `runtime._func` (src/runtime/runtime2.go): 44 bytes since Go 1.20, 40 without `startLine` before.
pub mod func {
    pub const NAME: usize = 4;
    pub const PCSP: usize = 16;
    pub const PCFILE: usize = 20;
    pub const PCLN: usize = 24;
    pub const NPCDATA: usize = 28;
    pub const CU_OFFSET: usize = 32;
    /// Size of the fixed part, for a Go version; the flag byte is 3 and `nfuncdata` 1 before its end.
    pub fn size(go: (u32, u32)) -> usize {
        if go >= (1, 20) {
            44
        } else {
            40
        }
    }
    /// `abi.FuncFlagTopFrame`: nothing called this function.
    pub const TOP_FRAME: u8 = 1;
    /// `abi.FuncFlagSPWrite`: it sets SP to what the tables do not say.
    pub const SP_WRITE: u8 = 2;
    /// `abi.PCDATA_InlTreeIndex`.
    pub const PCDATA_INLINE: u32 = 2;
    /// `abi.FUNCDATA_InlTree`.
    pub const FUNCDATA_INLINE: u32 = 3;
    /// `runtime.inlinedCall` since Go 1.20: size, offsets of `nameOff` and `parentPc`.
    pub const INLINED_SIZE: u64 = 16;
    pub const INLINED_NAME: usize = 4;
    pub const INLINED_PARENT_PC: usize = 8;
}

/// Semaphore words inside the objects of package sync (src/sync, go1.20 to 1.27; tested against each).
pub mod sema {
    /// `Mutex.sema`.
    pub const MUTEX: u64 = 4;
    /// `RWMutex.writerSem`.
    pub const RW_WRITER: u64 = 8;
    /// `RWMutex.readerSem`.
    pub const RW_READER: u64 = 12;
    /// `WaitGroup.sema`.
    pub const WAIT_GROUP: u64 = 8;
}

/// `ucontext_t.uc_mcontext` of Linux: where the interrupted PC, SP and frame pointer are, from the ucontext.
pub mod ucontext {
    /// rip, rsp, rbp on amd64.
    pub const AMD64: [u64; 3] = [168, 160, 120];
    /// pc, sp, x29 on arm64.
    pub const ARM64: [u64; 3] = [440, 432, 416];
}

/// Nodes of `internal/sync.HashTrieMap[any, any]` (src/internal/sync/hashtriemap.go go1.24 to 1.27): the programs'
/// DWARF does not always have these types.
pub mod trie {
    /// `indirect.children`, and how many there are.
    pub const CHILDREN: u64 = 24;
    pub const FANOUT: u64 = 16;
    /// `entry.overflow`, `entry.key` and `entry.value`.
    pub const OVERFLOW: u64 = 8;
    pub const KEY: u64 = 16;
    pub const VALUE: u64 = 32;
}
