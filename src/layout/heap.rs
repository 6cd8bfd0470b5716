//! Where `runtime.mspan` keeps what is read of it (src/runtime/mheap.go, go1.19 to 1.27), for 64-bit targets.
//! Programs with DWARF say it themselves; this is for those without.

/// Bytes of a page of the runtime (src/runtime/sizeclasses.go, every version).
pub const PAGE: u64 = 8192;
/// `mSpanInUse`: the span holds heap objects.
pub const IN_USE: u8 = 1;
/// `mSpanManual`, the last state: stacks and the like.
pub const LAST_STATE: u8 = 2;
/// Objects over this size whose type has pointers begin with a word that is their type; from Go 1.22
/// (`minSizeForMallocHeader`, src/runtime/mbitmap.go; src/internal/runtime/gc/malloc.go from 1.25).
pub const UNHEADED: u64 = 512;

/// Offsets in `runtime.mspan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLayout {
    pub start: usize,
    pub pages: usize,
    /// `freeindex` and `nelems`: 2 bytes each from Go 1.22, 8 before.
    pub free_index: usize,
    pub count: usize,
    pub short: bool,
    pub alloc_bits: usize,
    /// `sweepgen`, 4 bytes.
    pub sweep: usize,
    pub class: usize,
    pub state: usize,
    pub elem_size: usize,
    /// List of finalizers and the like.
    pub specials: usize,
    /// `largeType`, from Go 1.22.
    pub large_type: Option<usize>,
}

/// Bytes of the largest special; the first word of each is the next (`special`, `specialfinalizer`).
pub const SPECIAL: u64 = 48;

/// Bytes of `mspan` that are read.
pub const SIZE: usize = 160;

/// The layout of a Go version.
pub fn span(go: (u32, u32)) -> SpanLayout {
    let common = SpanLayout {
        start: 24,
        pages: 32,
        free_index: 48,
        count: 56,
        short: false,
        alloc_bits: 72,
        sweep: 88,
        class: 98,
        state: 99,
        elem_size: 104,
        specials: 128,
        large_type: None,
    };
    match go {
        (1, ..=20) => common,
        // `pinnerBits` came before `sweepgen`.
        (1, 21) => SpanLayout { sweep: 96, class: 106, state: 107, elem_size: 112, specials: 136, ..common },
        _ => SpanLayout { count: 50, short: true, alloc_bits: 64, large_type: Some(152), ..common },
    }
}
