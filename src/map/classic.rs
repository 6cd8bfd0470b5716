//! Classic maps: buckets of 8 slots, overflow chains, incremental evacuation.
//!
//! Source: src/runtime/map.go go1.19 to 1.23, src/runtime/map_noswiss.go go1.24 and 1.25.

use super::lookup::Endless;
use super::{Cell, Findings, GoMap, Note, Part, Place, Slots, Survey};
use crate::error::Watch;
use crate::layout::{hmap, SLOTS};
use crate::memory::{each_block, Block, Memory};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::borrow::Cow;
use std::collections::HashSet;

/// What `runtime.hmap` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Live entries.
    pub count: u64,
    /// Bits of [`hmap`].
    pub flags: u8,
    /// log2 of the number of buckets.
    pub b: u8,
    /// Overflow buckets; approximate from B = 16 on.
    pub noverflow: u16,
    /// Hash seed.
    pub hash0: u32,
    /// Address of the buckets; 0 when none were allocated yet.
    pub buckets: u64,
    /// Address of the old buckets; 0 unless growing.
    pub oldbuckets: u64,
    /// Old buckets below this index are evacuated.
    pub nevacuate: u64,
}

/// More buckets than this no address space holds (a bucket has at least 16 bytes).
const MAX_B: u8 = 43;
/// Buckets of a chain that are remembered without a set.
const SHORT_CHAIN: usize = 8;
/// Buckets between two looks at the watch.
const TICK: u64 = 1 << 14;

impl Header {
    /// Reads and checks the header at `address`.
    pub fn read(memory: &dyn Memory, address: u64, slots: &Slots) -> Result<Header> {
        let bytes = memory.array::<{ hmap::SIZE }>(address)?;
        let header = Header {
            count: LE::read_u64(&bytes[hmap::COUNT..]),
            flags: bytes[hmap::FLAGS],
            b: bytes[hmap::B],
            noverflow: LE::read_u16(&bytes[hmap::NOVERFLOW..]),
            hash0: LE::read_u32(&bytes[hmap::HASH0..]),
            buckets: LE::read_u64(&bytes[hmap::BUCKETS..]),
            oldbuckets: LE::read_u64(&bytes[hmap::OLDBUCKETS..]),
            nevacuate: LE::read_u64(&bytes[hmap::NEVACUATE..]),
        };
        header.check(memory, address, slots)?;
        Ok(header)
    }

    fn check(&self, memory: &dyn Memory, address: u64, slots: &Slots) -> Result<()> {
        let refuse = |why: String| {
            Err(Error::Map(format!(
                "{address:#x} holds no sound map header ({why}); it was freed, overwritten or never a map"
            )))
        };
        if self.b > MAX_B {
            return refuse(format!("2^{} buckets", self.b));
        }
        if self.flags >= 16 {
            return refuse(format!("unknown flags {:#x}", self.flags));
        }
        if self.buckets == 0 {
            return match (self.count, self.oldbuckets) {
                (0, 0) => Ok(()),
                (0, _) => refuse("old buckets but no buckets".into()),
                (count, _) => refuse(format!("count {count} but no buckets")),
            };
        }
        if !self.buckets.is_multiple_of(8) || !self.oldbuckets.is_multiple_of(8) {
            return refuse(format!("buckets at {:#x} are not aligned", self.buckets | self.oldbuckets));
        }
        if memory.size().is_some_and(|size| self.bucket_count().saturating_mul(slots.size) > size) {
            return refuse(format!("2^{} buckets, more than the whole target has", self.b));
        }
        if memory.u64(self.buckets).is_err() {
            let last = self.buckets.saturating_add((self.bucket_count() - 1).saturating_mul(slots.size));
            if memory.u64(last).is_err() {
                let error = memory.u64(self.buckets).err().map(|e| e.to_string()).unwrap_or_default();
                return refuse(format!("its buckets cannot be read: {error}"));
            }
        }
        // 8 slots a bucket, plus overflow buckets that are each full when made: more than this is garbage.
        if self.count > self.bucket_count().saturating_mul(1 << 16) {
            return refuse(format!("count {} in 2^{} buckets", self.count, self.b));
        }
        Ok(())
    }

    /// Buckets in the current array.
    pub fn bucket_count(&self) -> u64 {
        1 << self.b
    }

    /// Whether entries are being moved from an old array.
    pub fn is_growing(&self) -> bool {
        self.oldbuckets != 0
    }

    /// Whether the growth keeps the number of buckets.
    pub fn is_same_size_growth(&self) -> bool {
        self.flags & hmap::SAME_SIZE_GROW != 0
    }

    /// Buckets in the old array.
    pub fn old_bucket_count(&self) -> u64 {
        if self.is_same_size_growth() || self.b == 0 {
            self.bucket_count()
        } else {
            self.bucket_count() / 2
        }
    }

    /// Calls `f` with every bucket of every chain: the old ones not yet evacuated, then the current ones.
    pub fn each_bucket(
        &self,
        map: &GoMap<'_>,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<()> {
        // A sound map grows before it has much more overflow than this; corrupt chains may cross and repeat.
        let mut allowance = self.count.saturating_add(4 * self.bucket_count()).saturating_add(1 << 18);
        let mut goes_on = true;
        if self.is_growing() {
            let array = Array { map, start: self.oldbuckets, count: self.old_bucket_count(), old: true };
            goes_on = array.each_chain(watch, findings, &mut allowance, f)?;
        }
        if goes_on && self.buckets != 0 {
            let array = Array { map, start: self.buckets, count: self.bucket_count(), old: false };
            array.each_chain(watch, findings, &mut allowance, f)?;
        }
        Ok(())
    }

    /// Counts occupancy, chains and growth.
    pub fn survey(&self, map: &GoMap<'_>, watch: &dyn Watch) -> Result<Survey> {
        let mut survey =
            Survey { buckets: Some(if self.buckets == 0 { 0 } else { self.bucket_count() }), ..Survey::default() };
        let mut findings = Findings::default();
        let (mut overflow, mut unevacuated, mut cells) = (0u64, 0u64, 0u64);
        let histogram = &mut survey.histogram;
        let live = &mut survey.live;
        self.each_bucket(map, watch, &mut findings, &mut |cell| {
            cells += 1;
            *live += cell.live.count_ones() as u64;
            if let Place::Bucket { old, overflow: depth, .. } = cell.place {
                let depth = depth as usize;
                overflow += (depth > 0) as u64;
                unevacuated += (old && depth == 0) as u64;
                if histogram.len() <= depth {
                    histogram.resize(depth + 1, 0);
                }
                histogram[depth] += 1;
                if depth > 0 {
                    histogram[depth - 1] -= 1;
                }
            }
            Ok(true)
        })?;
        survey.overflow_buckets = Some(overflow);
        survey.capacity = cells * SLOTS as u64;
        let arrays = survey.buckets.unwrap_or(0) + if self.is_growing() { self.old_bucket_count() } else { 0 };
        survey.bytes = (arrays + overflow).saturating_mul(map.slots.size).saturating_add(hmap::SIZE as u64);
        if self.is_growing() {
            let old = self.old_bucket_count();
            let evacuated = old.saturating_sub(unevacuated);
            survey.growth = Some((old, evacuated));
            survey.findings.add(|| Note::Growing { same_size: self.is_same_size_growth(), evacuated, old });
        }
        survey.findings.extend(findings);
        Ok(survey)
    }
}

/// Whether a bucket with this first tophash, and with it its chain, has been evacuated.
pub fn is_evacuated(first_tophash: u8) -> bool {
    (hmap::EVACUATED_X..=hmap::EVACUATED_EMPTY).contains(&first_tophash)
}

/// Bit `i` set when tophash byte `i` is that of a live entry.
pub fn live_mask(tophash: &[u8; SLOTS]) -> u8 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const BELOW: u64 = (0x80 - hmap::MIN_TOP_HASH as u64) * 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(*tophash);
    // All eight comparisons at once: the top bit of each byte tells.
    super::top_bits(((bytes & LOW) + BELOW) | bytes)
}

/// An array of buckets.
struct Array<'m, 'a> {
    map: &'m GoMap<'a>,
    start: u64,
    count: u64,
    old: bool,
}

impl Array<'_, '_> {
    /// Walks all chains; returns whether `f` wants to go on.
    fn each_chain(
        &self,
        watch: &dyn Watch,
        findings: &mut Findings,
        allowance: &mut u64,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let size = self.map.slots.size;
        let mut goes_on = true;
        each_block(self.map.memory, self.start, size, 0..self.count, &mut |block| {
            let (first, bytes) = match block {
                Block::Present(first, bytes) => (first, bytes),
                Block::Missing(range, error) => {
                    let part = Part::Buckets { old: self.old, first: range.start, last: range.end - 1 };
                    findings.add(|| Note::Lost { part, error: error.into() });
                    return Ok(true);
                }
            };
            for (i, bucket) in bytes.chunks_exact(size as usize).enumerate() {
                let index = first + i as u64;
                if index.is_multiple_of(TICK) {
                    watch.tick(index, self.count)?;
                }
                if self.old && is_evacuated(bucket[0]) {
                    continue;
                }
                let address = self.start + index * size;
                // Most chains are one bucket.
                goes_on = match LE::read_u64(&bucket[size as usize - 8..]) {
                    0 => f(&self.cell(index, 0, address, bucket))?,
                    _ => self.chain(index, address, bucket, findings, allowance, f)?,
                };
                if !goes_on {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(goes_on)
    }

    fn cell<'c>(&self, index: u64, overflow: u64, address: u64, bytes: &'c [u8]) -> Cell<'c> {
        let mut tophash = [0; SLOTS];
        tophash.copy_from_slice(&bytes[..SLOTS]);
        Cell { place: Place::Bucket { old: self.old, index, overflow }, address, bytes, live: live_mask(&tophash) }
    }

    /// Walks one chain from its first bucket.
    fn chain(
        &self,
        index: u64,
        start: u64,
        first: &[u8],
        findings: &mut Findings,
        allowance: &mut u64,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let size = self.map.slots.size;
        let mut address = start;
        let mut bucket = Cow::Borrowed(first);
        let mut overflow = 0;
        let mut near = [0; SHORT_CHAIN];
        let mut seen: Option<HashSet<u64>> = None;
        loop {
            if !f(&self.cell(index, overflow, address, &bucket))? {
                return Ok(false);
            }
            let next = LE::read_u64(&bucket[size as usize - 8..]);
            if next == 0 {
                return Ok(true);
            }
            // Sound chains are short; a set for each would cost more than the walk.
            let repeats = match near.get_mut(overflow as usize) {
                Some(slot) => {
                    *slot = address;
                    near.contains(&next)
                }
                None => !seen.get_or_insert_with(|| HashSet::from(near)).insert(next),
            };
            if repeats {
                findings.add(|| Note::Endless(Endless::Chain { old: self.old, index, address: next }));
                return Ok(true);
            }
            if *allowance == 0 {
                findings.add(|| Note::LongChain { old: self.old, index });
                return Ok(true);
            }
            *allowance -= 1;
            overflow += 1;
            bucket = match self.map.memory.bytes(next, size as usize) {
                Ok(bytes) => bytes,
                Err(error) => {
                    let part = Part::Overflow { old: self.old, index, overflow, address: next };
                    findings.add(|| Note::Lost { part, error: error.into() });
                    return Ok(true);
                }
            };
            address = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_mask_has_bit_i_for_tophash_byte_i() {
        for top in 0..=u8::MAX {
            for i in 0..SLOTS {
                let mut tops = [hmap::EMPTY_ONE; SLOTS];
                tops[i] = top;
                let live = top >= hmap::MIN_TOP_HASH;
                assert_eq!(live_mask(&tops), (live as u8) << i, "{top} {i}");
            }
        }
    }
}
