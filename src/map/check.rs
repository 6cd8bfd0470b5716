//! Every invariant that the runtime keeps, checked over one map.
//!
//! That a key lies where its own hash says is near-perfect proof: the hash is computed by us from the target's
//! state, the place was chosen by the target.

use super::classic::{self, is_evacuated};
use super::hash::HashState;
use super::keys::{KeyHash, Keys, Recipe};
use super::lookup::{h2, tophash, Endless, Hasher};
use super::swiss::{self, Table};
use super::sync;
use super::{Cell, Findings, GoMap, Header, Note, Part, Place, MAX_FINDINGS};
use crate::error::Watch;
use crate::layout::{hmap, swiss as control, SLOTS};
use crate::memory::{each_block, Block};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::collections::BTreeMap;
use std::fmt;

/// What kind of thing is wrong, or in motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    CountMismatch,
    GrowthLeft,
    MisplacedKey,
    DuplicateKey,
    NanKey,
    ChainCycle,
    EndlessProbe,
    TornHeader,
    BadPointer,
    BadControl,
    Writing,
    Growing,
    Unread,
}

impl FindingKind {
    /// What a note of a walk is; `None` for what is no finding.
    fn of(note: &Note) -> Option<FindingKind> {
        Some(match note {
            Note::Lost { part: Part::Inner { .. }, error } => FindingKind::of_error(error),
            Note::Lost { error: Error::Memory(error), .. } if error.is_left_out() => FindingKind::Unread,
            Note::Lost { .. } | Note::RepeatedTable { .. } | Note::TableIndex { .. } | Note::DeepNode { .. } => {
                FindingKind::BadPointer
            }
            Note::Endless(Endless::Table { .. }) => FindingKind::EndlessProbe,
            Note::Endless(Endless::Chain { .. } | Endless::Entries { .. })
            | Note::LongChain { .. }
            | Note::TrieCycle => FindingKind::ChainCycle,
            Note::Count { .. } => FindingKind::CountMismatch,
            Note::Nil | Note::Writing | Note::Growing { .. } | Note::More(_) => return None,
        })
    }

    /// What it is that something of a map cannot be read.
    pub fn of_error(error: &Error) -> FindingKind {
        match error {
            Error::Memory(error) if error.is_left_out() => FindingKind::Unread,
            Error::Map(_) => FindingKind::TornHeader,
            _ => FindingKind::BadPointer,
        }
    }

    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::CountMismatch => "count-mismatch",
            FindingKind::GrowthLeft => "growth-left",
            FindingKind::MisplacedKey => "misplaced-key",
            FindingKind::DuplicateKey => "duplicate-key",
            FindingKind::NanKey => "nan-key",
            FindingKind::ChainCycle => "chain-cycle",
            FindingKind::EndlessProbe => "endless-probe",
            FindingKind::TornHeader => "torn-header",
            FindingKind::BadPointer => "bad-pointer",
            FindingKind::BadControl => "bad-control",
            FindingKind::Writing => "writing",
            FindingKind::Growing => "growing",
            FindingKind::Unread => "unread",
        }
    }

    /// What it means for the program.
    pub fn meaning(self) -> &'static str {
        match self {
            FindingKind::CountMismatch => "len(m) is wrong; a race or a stray write has torn the map",
            FindingKind::GrowthLeft => {
                "the runtime counts the slots that it may still fill wrongly: the table grows too early, or fills up"
            }
            FindingKind::MisplacedKey => {
                "lookups may not find this entry though range shows it; the key was changed in place, or a race tore the map"
            }
            FindingKind::DuplicateKey => "one key has two entries; lookups see only the first, deletes leave the other",
            FindingKind::NanKey => "NaN is not equal to itself: such entries can never be found or deleted, only cleared",
            FindingKind::ChainCycle => {
                "a range over the map, and a lookup of an absent key of this chain, never ends: a goroutine spins for ever"
            }
            FindingKind::EndlessProbe => {
                "a lookup of an absent key never ends: a goroutine spins for ever in runtime.mapaccess or mapassign"
            }
            FindingKind::TornHeader => {
                "no entry can be told; the program crashes or spins when it uses the map, which a race or a stray write tore"
            }
            FindingKind::BadPointer => "the entries behind it are lost; the program crashes when it follows this pointer",
            FindingKind::BadControl => "the runtime never writes this byte; memory was overwritten",
            FindingKind::Writing => {
                "entries may be half updated; another access before the write ends is a fatal concurrent map error"
            }
            FindingKind::Unread => "this part was not checked",
            FindingKind::Growing => "the runtime never leaves a growth in this state; memory was overwritten or torn",
        }
    }

    /// How serious it is, unless more is known of the finding.
    fn severity(self) -> Severity {
        match self {
            FindingKind::NanKey => Severity::Info,
            FindingKind::Writing | FindingKind::Unread => Severity::Warning,
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
    /// How serious it is.
    pub severity: Severity,
    /// Whether the write that is in progress explains it: it passes.
    pub passing: bool,
    /// What and where.
    pub detail: String,
}

impl Finding {
    /// A finding as serious as its kind.
    pub fn new(kind: FindingKind, detail: String) -> Finding {
        Finding { kind, severity: kind.severity(), passing: false, detail }
    }
}

/// A goroutine that is inside a write to a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub goid: u64,
    /// The thread that it runs on; `None` when it was interrupted in the middle of the write and has none.
    pub thread: Option<u64>,
    /// The write, e.g. `runtime.mapassign_faststr`.
    pub function: String,
    /// Whether that empties the map.
    pub clears: bool,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thread {
            Some(thread) => write!(f, "goroutine {} (thread {thread}) is inside {}", self.goid, self.function),
            None => write!(f, "goroutine {}, which holds no thread, is inside {}", self.goid, self.function),
        }
    }
}

/// Who is inside a write to a map whose flag of a writer is set.
#[derive(Debug, Clone)]
pub enum Writing {
    /// These goroutines; more than one is a race.
    Known(Vec<Writer>),
    /// One of these: each has the map's address among the words of its write, and none where the call keeps its map.
    OneOf(Vec<Writer>),
    /// Nobody was found: no goroutine's stack shows a write to this map.
    Nobody,
    /// Nobody was found, but this goroutine's stack could not be read.
    Unread { goid: u64 },
    /// The goroutines could not be read.
    NoGoroutines(Error),
}

impl fmt::Display for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writing::Known(writers) => {
                let each: Vec<String> = writers.iter().map(Writer::to_string).collect();
                let race = if writers.len() > 1 { "a race: " } else { "being written: " };
                write!(f, "{race}{}", each.join("; "))
            }
            Writing::OneOf(writers) => {
                let each: Vec<String> = writers.iter().map(Writer::to_string).collect();
                write!(f, "being written by one of: {}", each.join("; "))
            }
            Writing::Nobody => {
                f.write_str("the flag of a writer is set, unknown who: no goroutine's stack shows a write to this map")
            }
            Writing::Unread { goid } => write!(
                f,
                "the flag of a writer is set, unknown who: the stack of goroutine {goid}, which runs, cannot be read here"
            ),
            Writing::NoGoroutines(error) => write!(f, "the flag of a writer is set, unknown who: {error}"),
        }
    }
}

/// Says who is inside a write to the map at an address.
pub type WhoWrites<'w> = dyn Fn(u64, &dyn Watch) -> Result<Writing> + Sync + 'w;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// At most [`MAX_FINDINGS`] of each kind are kept.
    pub findings: Vec<Finding>,
    /// How many more of a kind there are.
    pub more: BTreeMap<FindingKind, u64>,
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
            self.findings.push(Finding::new(kind, detail()));
        } else {
            *self.more.entry(kind).or_default() += 1;
        }
    }

    /// Adds what a walk met.
    fn met(&mut self, walked: Findings) {
        for note in walked.into_notes() {
            match (FindingKind::of(&note), note) {
                (Some(kind), note) => self.add(kind, || note.to_string()),
                (None, Note::More(more)) => *self.more.entry(FindingKind::BadPointer).or_default() += more,
                (None, _) => {}
            }
        }
    }

    /// Whether anything is worse than information.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Info)
    }
}

/// Checks `map`; `who` says which goroutines are inside a write to it.
pub fn check(map: &GoMap<'_>, hasher: &Hasher, who: &WhoWrites<'_>, watch: &dyn Watch) -> Result<Report> {
    if let Header::Sync(header) = &map.header {
        return check_sync(map, header, hasher, who, watch);
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
    let mut checker =
        Checker { map, keys, hashing, report, live: 0, nan: 0, off: 0, table: None, full: true, chain: Vec::new() };
    if let Header::Swiss(header) = &map.header {
        checker.directory(header)?;
    }
    let mut walked = Findings::default();
    map.each_cell(watch, &mut walked, &mut |cell| {
        checker.cell(cell)?;
        Ok(true)
    })?;
    checker.report.met(walked);
    if let Header::Classic(header) = &map.header {
        checker.growth(header)?;
    }
    checker.totals();
    if map.is_being_written() {
        checker.being_written(who(map.address, watch)?);
    }
    Ok(checker.report)
}

/// A `sync.Map`: both inner maps, or each entry of the trie under the bits of its hash.
fn check_sync(
    map: &GoMap<'_>,
    header: &sync::Header,
    hasher: &Hasher,
    who: &WhoWrites<'_>,
    watch: &dyn Watch,
) -> Result<Report> {
    let mut report = Report::default();
    if let sync::Header::ReadDirty(maps) = header {
        for inner in maps.inner_maps(map.memory, map.types) {
            let part = check(&inner, hasher, who, watch)?;
            report.keys += part.keys;
            report.unchecked = report.unchecked.or(part.unchecked);
            report.findings.extend(part.findings);
            part.more.into_iter().for_each(|(kind, more)| *report.more.entry(kind).or_default() += more);
        }
        // What of them cannot be opened, and values that cannot be read.
        let mut walked = Findings::default();
        header.each(map.memory, map.types, watch, &mut walked, &mut |_| Ok(true))?;
        report.met(walked);
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
            Err(error) => report.add(FindingKind::of_error(&error), || format!("a key: {error}")),
        }
        Ok(true)
    })?;
    report.met(walked);
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
    /// By how much a count is off at most.
    off: u64,
    /// Swiss: the table that the current cells belong to, and its live slots and tombstones so far.
    table: Option<(Table, u64, u64)>,
    /// Whether it has no empty slot so far.
    full: bool,
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
                self.report
                    .add(FindingKind::of_error(&error), || format!("{}: key: {error}", where_is(cell.place, slot)));
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
            self.off = self.off.max(used.abs_diff(header.used));
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
            self.full = true;
        }
        let controls = cell.control();
        self.full &= !controls.contains(&control::EMPTY);
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
        // Groups that could not be read may have one.
        if self.full && live + tombstones >= u64::from(table.capacity) {
            let endless = Endless::Table { index: index.max(0) as u64 };
            self.report.add(FindingKind::EndlessProbe, || endless.to_string());
        }
        if live != table.used as u64 {
            let used = table.used;
            self.off = self.off.max(live.abs_diff(used.into()));
            self.report.add(FindingKind::CountMismatch, || {
                format!("table {index} says {used} entries, but {live} slots are live")
            });
        }
        let capacity = table.capacity as u64;
        // `maxAvgGroupLoad` is 7; a table of one group keeps one slot free.
        let most = if capacity <= SLOTS as u64 { capacity - 1 } else { capacity * 7 / 8 };
        if table.growth_left as u64 + live + tombstones != most && live == table.used as u64 {
            let left = table.growth_left;
            self.off = self.off.max((u64::from(left) + live + tombstones).abs_diff(most));
            self.report.add(FindingKind::GrowthLeft, || {
                format!("table {index}: growthLeft is {left} with {live} entries and {tombstones} tombstones of {most}")
            });
        }
    }

    fn totals(&mut self) {
        self.finish_table();
        let (count, live, nan) = (self.map.count(), self.live, self.nan);
        // Live slots may be among those that could not be read.
        let unread = live < count && self.report.findings.iter().any(|finding| finding.kind == FindingKind::Unread);
        if count != live && !unread {
            self.off = self.off.max(count.abs_diff(live));
            self.report
                .add(FindingKind::CountMismatch, || format!("count says {count}, but {live} live slots were found"));
        }
        self.report.nan_keys = nan;
        if nan > 0 {
            self.report.add(FindingKind::NanKey, || format!("{nan} keys hold a NaN"));
        }
    }

    /// Says who writes. A map in the middle of one write is no broken one, and what that write leaves for a moment
    /// passes: a count that is off by the one entry, what is being cleared, and (classic) what a growth has moved by
    /// half (`evacuate`, src/runtime/map.go: it marks slots of the old bucket and of the new before it moves the keys).
    fn being_written(&mut self, writing: Writing) {
        let mut finding = Finding::new(FindingKind::Writing, writing.to_string());
        match &writing {
            Writing::Known(writers) if writers.len() > 1 => finding.severity = Severity::Error,
            Writing::Known(writers) | Writing::OneOf(writers) => {
                finding.severity = Severity::Info;
                self.pass(writers.iter().any(|writer| writer.clears));
            }
            Writing::Nobody | Writing::Unread { .. } | Writing::NoGoroutines(_) => {}
        }
        self.report.findings.push(finding);
    }

    fn pass(&mut self, clears: bool) {
        let grows = matches!(&self.map.header, Header::Classic(header) if header.is_growing());
        let one_off = self.off <= 1;
        for finding in &mut self.report.findings {
            finding.passing = match finding.kind {
                FindingKind::CountMismatch => one_off || grows || clears,
                FindingKind::GrowthLeft => one_off || clears,
                FindingKind::MisplacedKey | FindingKind::DuplicateKey => grows || clears,
                FindingKind::BadControl | FindingKind::Growing => grows,
                _ => false,
            };
            if finding.passing {
                finding.severity = Severity::Info;
            }
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
