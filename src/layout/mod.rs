//! Facts of the Go runtime that no binary states: header offsets, flag bits, control bytes.
//! Data, not logic; each with the source file and versions it was read from.

pub mod goroutine;
pub mod heap;
pub mod moduledata;
pub mod pclntab;

/// `runtime.hmap`, 48 bytes (src/runtime/map.go go1.19 to 1.23, src/runtime/map_noswiss.go go1.24 and 1.25).
pub mod hmap {
    /// Size in bytes.
    pub const SIZE: usize = 48;
    pub const COUNT: usize = 0;
    pub const FLAGS: usize = 8;
    pub const B: usize = 9;
    pub const NOVERFLOW: usize = 10;
    pub const HASH0: usize = 12;
    pub const BUCKETS: usize = 16;
    pub const OLDBUCKETS: usize = 24;
    pub const NEVACUATE: usize = 32;

    /// A goroutine is writing to the map.
    pub const HASH_WRITING: u8 = 4;
    /// The current growth is to a map of the same size.
    pub const SAME_SIZE_GROW: u8 = 8;

    /// This slot is empty, and so are all later ones of the bucket and its overflow chain.
    pub const EMPTY_REST: u8 = 0;
    /// This slot is empty.
    pub const EMPTY_ONE: u8 = 1;
    /// The entry moved to the first half of the new table.
    pub const EVACUATED_X: u8 = 2;
    /// The entry moved to the second half of the new table.
    pub const EVACUATED_Y: u8 = 3;
    /// The slot was empty when its bucket was evacuated.
    pub const EVACUATED_EMPTY: u8 = 4;
    /// Smallest tophash of a live entry.
    pub const MIN_TOP_HASH: u8 = 5;
}

/// `internal/runtime/maps.Map` (48 bytes) and `table` (32 bytes): src/internal/runtime/maps/map.go and
/// table.go, go1.24 to 1.27.
pub mod swiss {
    /// Size of `Map` in bytes.
    pub const SIZE: usize = 48;
    pub const USED: usize = 0;
    pub const SEED: usize = 8;
    pub const DIR_PTR: usize = 16;
    pub const DIR_LEN: usize = 24;
    pub const GLOBAL_DEPTH: usize = 32;
    pub const GLOBAL_SHIFT: usize = 33;
    pub const WRITING: usize = 34;

    /// Size of `table` in bytes.
    pub const TABLE_SIZE: usize = 32;
    pub const TABLE_USED: usize = 0;
    pub const TABLE_CAPACITY: usize = 2;
    pub const TABLE_GROWTH_LEFT: usize = 4;
    pub const TABLE_LOCAL_DEPTH: usize = 6;
    pub const TABLE_INDEX: usize = 8;
    pub const TABLE_GROUPS: usize = 16;
    pub const TABLE_LENGTH_MASK: usize = 24;

    /// Control byte of an empty slot.
    pub const EMPTY: u8 = 0x80;
    /// Control byte of a deleted slot (tombstone).
    pub const DELETED: u8 = 0xfe;
}

/// Slots in a classic bucket and in a Swiss group (`MapBucketCount`, `MapGroupSlots`, Go 1.19 to 1.27).
pub const SLOTS: usize = 8;

/// Where the process keeps its hash state: variables of src/runtime/alg.go go1.19 to 1.26, of
/// src/internal/runtime/maps/runtime_hash64.go and its neighbours go1.27.
pub mod hash_state {
    /// Name of the variables for a Go version: (AES usable, key schedule, hashkey).
    pub fn variables(go: (u32, u32)) -> [&'static str; 3] {
        match go >= (1, 27) {
            true => [
                "internal/runtime/maps.UseAeshash",
                "internal/runtime/maps.aeskeysched",
                "internal/runtime/maps.hashkey",
            ],
            false => ["runtime.useAeshash", "runtime.aeskeysched", "runtime.hashkey"],
        }
    }
}

/// Inside `sync.Map`: `readOnly` of src/sync/map.go go1.19 to 1.23 (`oldmap.go` later); nodes of
/// `HashTrieMap[any, any]`, src/internal/sync/hashtriemap.go go1.24 to 1.27.
pub mod sync_map {
    /// `readOnly.amended`; `readOnly.m` is at 0.
    pub const READ_ONLY_AMENDED: u64 = 8;

    /// Size of `indirect`, and where its children begin.
    pub const INDIRECT_SIZE: u64 = 152;
    pub const INDIRECT_CHILDREN: u64 = 24;
    /// Children of a node, four bits of the hash each.
    pub const CHILDREN: usize = 16;
    /// Levels that a 64-bit hash has.
    pub const MAX_LEVEL: u64 = 16;

    /// Size of `entry[any, any]`, and its fields.
    pub const ENTRY_SIZE: u64 = 48;
    pub const ENTRY_OVERFLOW: u64 = 8;
    pub const ENTRY_KEY: u64 = 16;
    pub const ENTRY_VALUE: u64 = 32;
}
