//! Every invariant that the runtime keeps, checked over one map.
//!
//! That a key lies where its own hash says is near-perfect proof: the hash is computed by us from the target's
//! state, the place was chosen by the target.

use super::classic::{self, is_evacuated};
use super::hash::HashState;
use super::keys::{KeyHash, Keys, Recipe};
use super::lookup::{h2, tophash, Hasher};
use super::swiss::{self, Table};
use super::sync;
use super::{Cell, Findings, GoMap, Header, Place, MAX_FINDINGS};
use crate::error::Watch;
use crate::layout::{hmap, swiss as control, SLOTS};
use crate::memory::{each_block, Block};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    CountMismatch,
    MisplacedKey,
    DuplicateKey,
    NanKey,
    ChainCycle,
    BadPointer,
    BadControl,
    Writing,
    Growing,
}

impl FindingKind {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::CountMismatch => "count-mismatch",
            FindingKind::MisplacedKey => "misplaced-key",
            FindingKind::DuplicateKey => "duplicate-key",
            FindingKind::NanKey => "nan-key",
            FindingKind::ChainCycle => "chain-cycle",
            FindingKind::BadPointer => "bad-pointer",
            FindingKind::BadControl => "bad-control",
            FindingKind::Writing => "writing",
            FindingKind::Growing => "growing",
        }
    }

    /// What it means for the program.
    pub fn meaning(self) -> &'static str {
        match self {
            FindingKind::CountMismatch => "len(m) is wrong; a race or a stray write has torn the map",
            FindingKind::MisplacedKey => {
                "lookups do not find this entry though range shows it; the key was changed in place, or a race tore the map"
            }
            FindingKind::DuplicateKey => "one key has two entries; lookups see only the first, deletes leave the other",
            FindingKind::NanKey => "NaN is not equal to itself: such entries can never be found or deleted, only cleared",
            FindingKind::ChainCycle => "a lookup of an absent key never ends: a goroutine spins for ever",
            FindingKind::BadPointer => "the entries behind it are lost; the program crashes when it follows this pointer",
            FindingKind::BadControl => "the runtime never writes this byte; memory was overwritten",
            FindingKind::Writing => "a goroutine is inside a write; another access now is a fatal concurrent map error",
            FindingKind::Growing => "the runtime never leaves a growth in this state; memory was overwritten or torn",
        }
    }

    /// How serious it is.
    pub fn severity(self) -> Severity {
        match self {
            FindingKind::NanKey => Severity::Info,
            FindingKind::Writing => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// May be a passing state.
    Warning,
    /// The map is broken.
    Error,
}

impl Severity {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// What and where.
    pub detail: String,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// At most [`MAX_FINDINGS`] of each kind are kept.
    pub findings: Vec<Finding>,
    /// Keys checked against their hash.
    pub keys: u64,
    /// Keys that hold a NaN.
    pub nan_keys: u64,
    /// Why keys could not be checked against their hash.
    pub unchecked: Option<String>,
}

impl Report {
    fn add(&mut self, kind: FindingKind, detail: impl FnOnce() -> String) {
        if self.findings.iter().filter(|f| f.kind == kind).count() < MAX_FINDINGS {
            self.findings.push(Finding { kind, detail: detail() });
        }
    }

    /// Whether anything is worse than information.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind.severity() == Severity::Info)
    }
}

/// Checks `map`; `writer` says which goroutine is inside a write to it, when that is known.
pub fn check(map: &GoMap<'_>, hasher: &Hasher, writer: Option<&str>, watch: &dyn Watch) -> Result<Report> {
    if let Header::Sync(header) = &map.header {
        return check_sync(map, header, hasher, writer, watch);
    }
    let mut report = Report::default();
    let keys = Keys::new(map.memory, map.types);
    let hashing = match hasher {
        Hasher::Known { state, recipe, .. } => Some((&**state, recipe)),
        Hasher::Unknown(why) => {
            report.unchecked = Some(why.clone());
            None
        }
    };
    let mut checker = Checker { map, keys, hashing, report, live: 0, nan: 0, table: None, chain: Vec::new() };
    if let Header::Swiss(header) = &map.header {
        checker.directory(header)?;
    }
    let mut walked = Findings::default();
    map.each_cell(watch, &mut walked, &mut |cell| {
        checker.cell(cell)?;
        Ok(true)
    })?;
    for sentence in walked.into_sentences() {
        let kind = match sentence.contains("returns to itself") || sentence.contains("longer than the map can need") {
            true => FindingKind::ChainCycle,
            false => FindingKind::BadPointer,
        };
        checker.report.add(kind, || sentence);
    }
    if let Header::Classic(header) = &map.header {
        checker.growth(header)?;
    }
    checker.totals(writer);
    Ok(checker.report)
}

/// A `sync.Map`: both inner maps, or each entry of the trie under the bits of its hash.
fn check_sync(
    map: &GoMap<'_>,
    header: &sync::Header,
    hasher: &Hasher,
    writer: Option<&str>,
    watch: &dyn Watch,
) -> Result<Report> {
    let mut report = Report::default();
    if let sync::Header::ReadDirty(maps) = header {
        for inner in maps.inner_maps(map.memory, map.types) {
            let part = check(&inner, hasher, writer, watch)?;
            report.keys += part.keys;
            report.unchecked = report.unchecked.or(part.unchecked);
            report.findings.extend(part.findings);
        }
        return Ok(report);
    }
    let Hasher::Known { state, recipe, .. } = hasher else {
        if let (Hasher::Unknown(why), true) = (hasher, map.count() > 0) {
            report.unchecked = Some(why.clone());
        }
        return Ok(report);
    };
    let keys = Keys::new(map.memory, map.types);
    let (mut walked, mut nan) = (Findings::default(), 0u64);
    header.each(map.memory, map.types, watch, &mut walked, &mut |entry| {
        let (Ok(key), Place::Node { level, prefix }) = (&entry.key, entry.place) else { return Ok(true) };
        match keys.hash(state, recipe, key, map.seed()) {
            Ok(KeyHash::Known(hash)) => {
                report.keys += 1;
                if level > 0 && hash >> (64 - 4 * level) != prefix {
                    report.add(FindingKind::MisplacedKey, || {
                        format!("{}: its hash is {hash:#x}", where_is(entry.place, entry.slot))
                    });
                }
            }
            Ok(_) => nan += 1,
            Err(error) => report.add(FindingKind::BadPointer, || format!("a key: {error}")),
        }
        Ok(true)
    })?;
    for sentence in walked.into_sentences() {
        report.add(FindingKind::BadPointer, || sentence);
    }
    report.nan_keys = nan;
    if nan > 0 {
        report.add(FindingKind::NanKey, || format!("{nan} keys hold a NaN"));
    }
    Ok(report)
}

struct Checker<'c, 'a> {
    map: &'c GoMap<'a>,
    keys: Keys<'c>,
    hashing: Option<(&'c HashState, &'c Recipe)>,
    report: Report,
    live: u64,
    nan: u64,
    /// Swiss: the table that the current cells belong to, and its live slots and tombstones so far.
    table: Option<(Table, u64, u64)>,
    /// Classic: the cells of the current chain so far, for duplicates and what follows emptyRest.
    chain: Vec<Link>,
}

/// A bucket of the current chain.
struct Link {
    address: u64,
    bytes: Vec<u8>,
    ends: bool,
}

impl Checker<'_, '_> {
    fn cell(&mut self, cell: &Cell<'_>) -> Result<()> {
        self.live += cell.live.count_ones() as u64;
        match cell.place {
            Place::Bucket { old, index, overflow } => self.bucket(cell, old, index, overflow),
            Place::Group { table, group } => self.group(cell, table, group),
            Place::Node { .. } => Ok(()),
        }
    }

    /// The hash of the key in a slot; `None` when it cannot be had or is random.
    fn hash(&mut self, cell: &Cell<'_>, slot: usize, seed: u64) -> Result<Option<u64>> {
        let Some((state, recipe)) = self.hashing else { return Ok(None) };
        let slots = &self.map.slots;
        // Most keys are one word in place: no need to go the long way for each.
        if !slots.indirect_key {
            let at = (slots.keys + slot as u64 * slots.key_stride) as usize;
            let hash = match recipe {
                Recipe::Memory64 => Some(state.memhash64(LE::read_u64(&cell.bytes[at..]), seed)),
                Recipe::Memory32 => Some(state.memhash32(LE::read_u32(&cell.bytes[at..]), seed)),
                _ => None,
            };
            if hash.is_some() {
                self.report.keys += 1;
                return Ok(hash);
            }
        }
        let keys = &self.keys;
        let hash = self.map.with_entry(cell, slot, &mut |entry| match entry.key.clone() {
            Ok(key) => keys.hash(state, recipe, key, seed),
            Err(error) => Err(error.into()),
        });
        match hash {
            Ok(KeyHash::Known(hash)) => {
                self.report.keys += 1;
                Ok(Some(hash))
            }
            Ok(KeyHash::Random) => {
                self.nan += 1;
                Ok(None)
            }
            Ok(KeyHash::Unhashable(name)) => {
                self.report.add(FindingKind::MisplacedKey, || {
                    format!("{}: a key of the unhashable type {name} is stored", where_is(cell.place, slot))
                });
                Ok(None)
            }
            Err(error) => {
                self.report.add(FindingKind::BadPointer, || format!("{}: key: {error}", where_is(cell.place, slot)));
                Ok(None)
            }
        }
    }

    fn equal_keys(&self, a: (&Cell<'_>, usize), b: (&Cell<'_>, usize)) -> bool {
        let (map, keys) = (self.map, &self.keys);
        map.with_entry(a.0, a.1, &mut |a| {
            map.with_entry(b.0, b.1, &mut |b| match (&a.key, &b.key) {
                (Ok(a), Ok(b)) => keys.equal(&map.key, a, b).unwrap_or(false),
                _ => false,
            })
        })
    }

    fn bucket(&mut self, cell: &Cell<'_>, old: bool, index: u64, overflow: u64) -> Result<()> {
        let map = self.map;
        let Header::Classic(header) = &map.header else { return Ok(()) };
        let tops = cell.control();
        let is_whole = LE::read_u64(&cell.bytes[map.slots.size as usize - 8..]) == 0;
        if overflow == 0 {
            self.chain.clear();
        }
        let ended = self.chain.last().is_some_and(|link| link.ends);
        let mut ends = ended;
        for (slot, &top) in tops.iter().enumerate() {
            let place = || where_is(cell.place, slot);
            if top < hmap::MIN_TOP_HASH {
                if (hmap::EVACUATED_X..=hmap::EVACUATED_EMPTY).contains(&top) {
                    self.report.add(FindingKind::BadControl, || format!("{}: an evacuated mark ({top})", place()));
                }
                ends |= top == hmap::EMPTY_REST;
                continue;
            }
            if ends {
                self.report.add(FindingKind::MisplacedKey, || {
                    format!("{}: a live entry after emptyRest, where lookups have stopped", place())
                });
            }
            let Some(hash) = self.hash(cell, slot, header.hash0 as u64)? else { continue };
            let buckets = if old { header.old_bucket_count() } else { header.bucket_count() };
            let home = hash & (buckets - 1);
            if home != index || tophash(hash) != top {
                self.report.add(FindingKind::MisplacedKey, || {
                    format!(
                        "{}: its hash {hash:#x} belongs in bucket {home} with tophash {:#x}",
                        place(),
                        tophash(hash)
                    )
                });
                continue;
            }
            let chain = std::mem::take(&mut self.chain);
            let earlier = chain.iter().map(|link| (link.address, &link.bytes[..], SLOTS));
            for (address, bytes, until) in earlier.chain([(cell.address, cell.bytes, slot)]) {
                let other = Cell { place: cell.place, address, bytes, live: u8::MAX };
                let twin = (0..until).find(|&i| bytes[i] == top && self.equal_keys((&other, i), (cell, slot)));
                if twin.is_some() {
                    self.report.add(FindingKind::DuplicateKey, || format!("{}: an equal key comes before it", place()));
                }
            }
            self.chain = chain;
        }
        // Most chains are one bucket: only longer ones need to be remembered.
        if !is_whole && self.chain.len() < 1 << 12 {
            self.chain.push(Link { address: cell.address, bytes: cell.bytes.to_vec(), ends });
        }
        Ok(())
    }

    /// What is particular to a growing classic map: the evacuated part of the old array.
    fn growth(&mut self, header: &classic::Header) -> Result<()> {
        let map = self.map;
        if !header.is_growing() {
            if header.is_same_size_growth() {
                self.report.add(FindingKind::Growing, || "sameSizeGrow is set, but no growth is on".into());
            }
            return Ok(());
        }
        let old = header.old_bucket_count();
        if header.nevacuate > old {
            self.report.add(FindingKind::Growing, || format!("nevacuate is {} of {old} old buckets", header.nevacuate));
        }
        let report = &mut self.report;
        each_block(map.memory, header.oldbuckets, map.slots.size, 0..old, &mut |block| {
            let Block::Present(first, bytes) = block else { return Ok(true) };
            for (i, bucket) in bytes.chunks_exact(map.slots.size as usize).enumerate() {
                let index = first + i as u64;
                if !is_evacuated(bucket[0]) {
                    if index < header.nevacuate {
                        report.add(FindingKind::Growing, || {
                            format!("old bucket {index} is below nevacuate ({}), but not evacuated", header.nevacuate)
                        });
                    }
                    continue;
                }
                let live = bucket[..SLOTS].iter().filter(|&&top| top >= hmap::MIN_TOP_HASH).count();
                if live > 0 {
                    report.add(FindingKind::MisplacedKey, || {
                        format!("evacuated old bucket {index} has {live} live keys")
                    });
                }
            }
            Ok(true)
        })
    }

    /// Depths and sharing of a Swiss directory.
    fn directory(&mut self, header: &swiss::Header) -> Result<()> {
        if header.is_small() {
            return Ok(());
        }
        let (depth, shift) = (header.global_depth, header.global_shift);
        if shift != 64 - depth {
            self.report.add(FindingKind::BadControl, || format!("globalShift is {shift} at globalDepth {depth}"));
        }
        let (mut used, mut expected) = (0u64, 0u64);
        let report = &mut self.report;
        header.each_table(self.map, &mut Findings::default(), &mut |index, table, _| {
            used += table.used as u64;
            let Some(span) = depth.checked_sub(table.local_depth).map(|d| 1u64 << d) else {
                report.add(FindingKind::BadControl, || {
                    format!("table {index}: localDepth {} is above globalDepth {depth}", table.local_depth)
                });
                return Ok(true);
            };
            if index != expected || index % span != 0 {
                report.add(FindingKind::BadPointer, || {
                    format!("table {index} stands where the directory should have the table of index {expected}")
                });
            }
            expected = index + span;
            Ok(true)
        })?;
        if used != header.used {
            self.report.add(FindingKind::CountMismatch, || {
                format!("count says {}, but the tables say {used} together", header.used)
            });
        }
        Ok(())
    }

    fn group(&mut self, cell: &Cell<'_>, table_index: u64, group: u64) -> Result<()> {
        let map = self.map;
        let Header::Swiss(header) = &map.header else { return Ok(()) };
        if !header.is_small() && group == 0 {
            self.finish_table();
            let address = map.memory.u64(header.dir_ptr.wrapping_add(8 * table_index))?;
            self.table = Some((Table::read(map.memory, address)?, 0, 0));
        }
        let controls = cell.control();
        for (slot, &byte) in controls.iter().enumerate() {
            if byte & 0x80 != 0 {
                let tombstone = byte == control::DELETED;
                if byte != control::EMPTY && (!tombstone || header.is_small()) {
                    self.report.add(FindingKind::BadControl, || {
                        format!("{}: control byte {byte:#04x}", where_is(cell.place, slot))
                    });
                }
                if let Some((_, _, tombstones)) = &mut self.table {
                    *tombstones += tombstone as u64;
                }
                continue;
            }
            if let Some((_, live, _)) = &mut self.table {
                *live += 1;
            }
            let Some(hash) = self.hash(cell, slot, header.seed)? else { continue };
            if h2(hash) != byte {
                self.report.add(FindingKind::MisplacedKey, || {
                    let place = where_is(cell.place, slot);
                    format!("{place}: its hash {hash:#x} belongs under control byte {:#04x}, not {byte:#04x}", h2(hash))
                });
                continue;
            }
            let twin = (0..slot).find(|&i| controls[i] == byte && self.equal_keys((cell, i), (cell, slot)));
            if twin.is_some() {
                self.report.add(FindingKind::DuplicateKey, || {
                    format!("{}: an equal key comes before it", where_is(cell.place, slot))
                });
            }
            self.on_its_path(header, cell, slot, group, hash)?;
        }
        Ok(())
    }

    /// Whether a probe for the key's hash comes to its group without meeting an empty slot or an equal key.
    fn on_its_path(
        &mut self,
        header: &swiss::Header,
        cell: &Cell<'_>,
        slot: usize,
        group: u64,
        hash: u64,
    ) -> Result<()> {
        let map = self.map;
        let Some((table, ..)) = &self.table else { return Ok(()) };
        let place = || where_is(cell.place, slot);
        let span = 1u64 << header.global_depth.saturating_sub(table.local_depth);
        let index = header.directory_index(hash);
        if index / span != table.index.max(0) as u64 / span {
            self.report
                .add(FindingKind::MisplacedKey, || format!("{}: its hash {hash:#x} belongs in table {index}", place()));
            return Ok(());
        }
        let mut at = hash >> 7 & table.length_mask;
        for step in 1..=table.group_count() {
            if at == group {
                return Ok(());
            }
            let address = table.groups.wrapping_add(at.wrapping_mul(map.slots.size));
            let bytes = map.memory.bytes(address, map.slots.size as usize)?;
            let other = Cell { place: cell.place, address, bytes: &bytes, live: u8::MAX };
            let controls = other.control();
            if controls.contains(&control::EMPTY) {
                break;
            }
            if (0..SLOTS).any(|i| controls[i] == h2(hash) && self.equal_keys((&other, i), (cell, slot))) {
                self.report
                    .add(FindingKind::DuplicateKey, || format!("{}: group {at} has an equal key before it", place()));
                return Ok(());
            }
            at = (at + step) & table.length_mask;
        }
        self.report.add(FindingKind::MisplacedKey, || {
            format!("{}: the probe for its hash {hash:#x} ends before it comes to this group", place())
        });
        Ok(())
    }

    /// Counts of the table whose groups have all been seen.
    fn finish_table(&mut self) {
        let Some((table, live, tombstones)) = self.table.take() else { return };
        let index = table.index;
        if live != table.used as u64 {
            let used = table.used;
            self.report.add(FindingKind::CountMismatch, || {
                format!("table {index} says {used} entries, but {live} slots are live")
            });
        }
        let capacity = table.capacity as u64;
        // `maxAvgGroupLoad` is 7; a table of one group keeps one slot free.
        let most = if capacity <= SLOTS as u64 { capacity - 1 } else { capacity * 7 / 8 };
        if table.growth_left as u64 + live + tombstones != most && live == table.used as u64 {
            let left = table.growth_left;
            self.report.add(FindingKind::CountMismatch, || {
                format!("table {index}: growthLeft is {left} with {live} entries and {tombstones} tombstones of {most}")
            });
        }
    }

    fn totals(&mut self, writer: Option<&str>) {
        self.finish_table();
        let (count, live, nan) = (self.map.count(), self.live, self.nan);
        if count != live {
            self.report
                .add(FindingKind::CountMismatch, || format!("count says {count}, but {live} live slots were found"));
        }
        self.report.nan_keys = nan;
        if nan > 0 {
            self.report.add(FindingKind::NanKey, || format!("{nan} keys hold a NaN"));
        }
        if self.map.write_in_progress().is_some() {
            let who = writer.map_or("; its thread is not inside a map write here".into(), |who| format!(": {who}"));
            self.report.add(FindingKind::Writing, || format!("the flag of a writer is set{who}"));
        }
    }
}

fn where_is(place: Place, slot: usize) -> String {
    match place {
        Place::Bucket { old, index, overflow } => {
            let array = if old { "old bucket" } else { "bucket" };
            match overflow {
                0 => format!("{array} {index}, slot {slot}"),
                _ => format!("{array} {index}, overflow {overflow}, slot {slot}"),
            }
        }
        Place::Group { table, group } => format!("table {table}, group {group}, slot {slot}"),
        Place::Node { level, prefix } => format!("level {level}, hash prefix {prefix:#x}"),
    }
}
