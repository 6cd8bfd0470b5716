//! Facts of goroutines that no binary states (src/runtime/runtime2.go, src/internal/abi/symtab.go, go1.19 to 1.27),
//! and those that a binary without DWARF no longer states.

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

/// Calls that the signal handler injects where it interrupts (`isInjectedCall`, src/runtime/traceback.go go1.19 to 1.27):
/// what they return to was at no call.
pub const INJECTED_CALLS: [&str; 3] = ["runtime.sigpanic", "runtime.asyncPreempt", "runtime.debugCallV2"];
/// Bytes below the interrupted frame on arm64, where the handler saved the link register (`sigctxt.pushCall`,
/// src/runtime/signal_arm64.go).
pub const INJECTED_LR: u64 = 16;

/// `abi.FuncFlagTopFrame`: nothing called this function.
pub const TOP_FRAME: u8 = 1;
/// `abi.FuncFlagSPWrite`: it sets SP to what the tables do not say.
pub const SP_WRITE: u8 = 2;

/// The columns of [`RECORDS`]: the first Go version that each holds for.
const SINCE: [(u32, u32); 8] = [(1, 19), (1, 21), (1, 22), (1, 23), (1, 24), (1, 25), (1, 26), (1, 27)];
/// What a version does not have.
const NONE: u16 = u16::MAX;

/// Offsets in bytes of fields of the runtime's records on 64-bit targets, or their sizes (an empty path), by Go version:
/// src/runtime/runtime2.go, chan.go, netpoll.go, sema.go, time.go, src/sync/cond.go. Tested against the DWARF of each
/// version; `syscallbp` came with 1.23, `gobuf.ret` went with 1.25, `sudog.elem` and `c` are pairs of a traced pointer
/// and its number since 1.26, of which the number is meant.
#[rustfmt::skip]
pub const RECORDS: &[(&str, &str, [u16; 8])] = &[
    ("runtime.g",        "",            [ 392,  408,  424,  432,  440,  440,  456,  456]),
    ("runtime.g",        "stack.lo",    [   0,    0,    0,    0,    0,    0,    0,    0]),
    ("runtime.g",        "stack.hi",    [   8,    8,    8,    8,    8,    8,    8,    8]),
    ("runtime.g",        "m",           [  48,   48,   48,   48,   48,   48,   48,   48]),
    ("runtime.g",        "sched.sp",    [  56,   56,   56,   56,   56,   56,   56,   56]),
    ("runtime.g",        "sched.pc",    [  64,   64,   64,   64,   64,   64,   64,   64]),
    ("runtime.g",        "sched.lr",    [  96,   96,   96,   96,   96,   88,   88,   88]),
    ("runtime.g",        "sched.bp",    [ 104,  104,  104,  104,  104,   96,   96,   96]),
    ("runtime.g",        "syscallsp",   [ 112,  112,  112,  112,  112,  104,  104,  104]),
    ("runtime.g",        "syscallpc",   [ 120,  120,  120,  120,  120,  112,  112,  112]),
    ("runtime.g",        "syscallbp",   [NONE, NONE, NONE,  128,  128,  120,  120,  120]),
    ("runtime.g",        "stktopsp",    [ 128,  128,  128,  136,  136,  128,  128,  128]),
    ("runtime.g",        "atomicstatus",[ 144,  144,  144,  152,  152,  144,  144,  144]),
    ("runtime.g",        "goid",        [ 152,  152,  152,  160,  160,  152,  152,  152]),
    ("runtime.g",        "waitsince",   [ 168,  168,  168,  176,  176,  168,  168,  168]),
    ("runtime.g",        "waitreason",  [ 176,  176,  176,  184,  184,  176,  176,  176]),
    ("runtime.g",        "parentGoid",  [NONE,  272,  272,  280,  280,  272,  280,  280]),
    ("runtime.g",        "lockedm",     [ 232,  208,  208,  216,  216,  208,  208,  208]),
    ("runtime.g",        "gopc",        [ 296,  280,  280,  288,  288,  280,  288,  288]),
    ("runtime.g",        "ancestors",   [ 304,  288,  288,  296,  296,  288,  296,  296]),
    ("runtime.g",        "startpc",     [ 312,  296,  296,  304,  304,  296,  304,  304]),
    ("runtime.g",        "waiting",     [ 328,  312,  312,  320,  320,  312,  320,  320]),
    ("runtime.g",        "labels",      [ 360,  344,  344,  352,  352,  344,  352,  352]),
    ("runtime.g",        "timer",       [ 368,  352,  352,  360,  360,  352,  360,  360]),
    ("runtime.g",        "coroarg",     [NONE, NONE,  368,  384,  384,  376,  384,  384]),
    ("runtime.m",        "g0",          [   0,    0,    0,    0,    0,    0,    0,    0]),
    ("runtime.m",        "gsignal",     [  80,   80,   80,   80,   80,   72,   72,   72]),
    ("runtime.m",        "procid",      [  72,   72,   72,   72,   72,   64,   64,   64]),
    ("runtime.m",        "p",           [ 208,  208,  208,  208,  208,  200,  208,  208]),
    ("runtime.m",        "curg",        [ 192,  192,  192,  192,  192,  184,  184,  184]),
    ("runtime.m",        "id",          [ 232,  232,  232,  232,  232,  224,  232,  232]),
    ("runtime.m",        "vdsoSP",      [ 800,  808, 1120,  856,  904,  896,  896,  896]),
    ("runtime.m",        "vdsoPC",      [ 808,  816, 1128,  864,  912,  904,  904,  904]),
    ("runtime.m",        "preemptGen",  [ 816,  824, 1136,  872,  920,  912,  912,  912]),
    ("runtime.m",        "incgo",       [ 280,  280,  280,  280,  280,  272,  280,  280]),
    ("runtime.p",        "id",          [   0,    0,    0,    0,    0,    0,    0,    0]),
    ("runtime.sudog",    "g",           [   0,    0,    0,    0,    0,    0,    0,    0]),
    ("runtime.sudog",    "next",        [   8,    8,    8,    8,    8,    8,    8,    8]),
    ("runtime.sudog",    "prev",        [  16,   16,   16,   16,   16,   16,   16,   16]),
    ("runtime.sudog",    "elem",        [  24,   24,   24,   24,   24,   24,   32,   32]),
    ("runtime.sudog",    "c",           [  80,   80,   80,   80,   80,   80,   96,   96]),
    ("runtime.sudog",    "waitlink",    [  64,   64,   64,   64,   64,   64,   72,   72]),
    ("runtime.hchan",    "qcount",      [   0,    0,    0,    0,    0,    0,    0,    0]),
    ("runtime.hchan",    "dataqsiz",    [   8,    8,    8,    8,    8,    8,    8,    8]),
    ("runtime.hchan",    "elemtype",    [  32,   32,   32,   40,   40,   40,   40,   40]),
    ("runtime.hchan",    "elemsize",    [  24,   24,   24,   24,   24,   24,   24,   24]),
    ("runtime.hchan",    "closed",      [  28,   28,   28,   28,   28,   28,   28,   28]),
    ("runtime.hchan",    "timer",       [NONE, NONE, NONE,   32,   32,   32,   32,   32]),
    ("runtime.hchan",    "recvq.first", [  56,   56,   56,   64,   64,   64,   64,   64]),
    ("runtime.hchan",    "sendq.first", [  72,   72,   72,   80,   80,   80,   80,   80]),
    ("runtime.pollDesc", "rg",          [  24,   32,   32,   32,   32,   32,   32,   32]),
    ("runtime.pollDesc", "wg",          [  32,   40,   40,   40,   40,   40,   40,   40]),
    ("runtime.pollDesc", "fd",          [   8,    8,    8,    8,    8,    8,    8,    8]),
    ("runtime.timer",    "when",        [   8,    8,    8,   16,   16,   24,   24,   24]),
    ("runtime.semaRoot", "treap",       [   8,    8,    8,    8,    8,    8,    8,    8]),
    ("sync.Cond",        "notify.head", [  32,   32,   32,   32,   32,   32,   32,   32]),
];

/// The offset of a field of a runtime record in Go version `go` by [`RECORDS`]; its size if `path` is empty.
pub fn record(go: (u32, u32), ty: &str, path: &str) -> Option<u64> {
    let column = SINCE.iter().rposition(|&since| since <= go)?;
    let row = RECORDS.iter().find(|(known, field, _)| (*known, *field) == (ty, path))?;
    row.2.get(column).filter(|&&at| at != NONE).map(|&at| u64::from(at))
}

/// Offset of `goid` in `runtime.g`, for programs without DWARF.
pub fn goid(go: (u32, u32)) -> u64 {
    record(go, "runtime.g", "goid").unwrap_or(152)
}

/// `runtime.waitReasonCoroutine`, in the target's own texts (src/runtime/runtime2.go go1.23 to 1.27).
pub const WAITS_FOR_COROUTINE: &str = "coroutine";

/// The first texts of `runtime.waitReasonStrings` in every version, and how many there are.
pub const FIRST_REASONS: [&str; 2] = ["", "GC assist marking"];
pub fn reasons(go: (u32, u32)) -> usize {
    // Go 1.20 has 1.21's texts, and 1.19's records.
    let column = SINCE.iter().rposition(|&since| since <= go).unwrap_or(0).max(usize::from(go == (1, 20)));
    [27, 32, 37, 38, 44, 47, 47, 47][column]
}

/// `runtime.semtable` (src/runtime/sema.go): roots, each in a cache line of its own; a semaphore's root is number
/// `(address >> 3) % ROOTS`.
pub mod semtable {
    pub const ROOTS: u64 = 251;
    /// Bytes of a cache line (`internal/cpu.CacheLinePadSize`) on amd64 and on arm64.
    pub const STRIDE: u64 = 64;
    pub const STRIDE_ARM: u64 = 128;
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

/// Semaphore words inside the objects of package sync (src/sync, go1.20 to 1.27; tested against each).
pub mod sema {
    /// `Mutex.sema`.
    pub const MUTEX: u64 = 4;
    /// `RWMutex.writerSem`.
    pub const RW_WRITER: u64 = 8;
    /// `RWMutex.readerSem`.
    pub const RW_READER: u64 = 12;
    /// `RWMutex.readerCount`.
    pub const RW_READERS: u64 = 16;
    /// `WaitGroup.sema`.
    pub const WAIT_GROUP: u64 = 8;
}

/// `ucontext_t.uc_mcontext` of Linux: where the interrupted PC, SP and link register are, from the ucontext.
pub mod ucontext {
    /// rip, rsp on amd64.
    pub const AMD64: [u64; 2] = [168, 160];
    /// pc, sp, x30 on arm64.
    pub const ARM64: [u64; 3] = [440, 432, 424];
}
