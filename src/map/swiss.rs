//! Swiss maps: groups of 8 slots under a control word, in tables under an extendible directory.
//!
//! Source: src/internal/runtime/maps/map.go, table.go and group.go, go1.24 to 1.27.

use super::{Cell, Findings, GoMap, Note, Part, Place, Survey};
use crate::error::Watch;
use crate::layout::{swiss, SLOTS};
use crate::memory::{each_block, Block, Memory};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::collections::HashSet;

/// What `internal/runtime/maps.Map` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Live entries.
    pub used: u64,
    /// Hash seed.
    pub seed: u64,
    /// Address of the directory, or of the only group of a small map; 0 when nothing was allocated yet.
    pub dir_ptr: u64,
    /// Directory entries; 0 for a small map.
    pub dir_len: u64,
    /// log2 of `dir_len`.
    pub global_depth: u8,
    /// How far to shift a hash for the directory index (64 - depth).
    pub global_shift: u8,
    /// Not 0 while a goroutine writes.
    pub writing: u8,
}

/// What `internal/runtime/maps.table` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Address of the table.
    pub address: u64,
    /// Live entries.
    pub used: u16,
    /// Slots.
    pub capacity: u16,
    /// Empty slots that may still be filled before a rehash.
    pub growth_left: u16,
    /// Hash bits that select this table.
    pub local_depth: u8,
    /// Its first directory index; -1 when it has been replaced.
    pub index: i64,
    /// Address of the groups.
    pub groups: u64,
    /// Number of groups minus one.
    pub length_mask: u64,
}

/// A directory deeper than this would need more memory than there is.
const MAX_DEPTH: u8 = 44;
/// Slots of the largest table (`maxTableCapacity`, src/internal/runtime/maps/table.go, go1.24 to 1.27) are 1024;
/// newer versions may raise it, capacity being 16 bits.
const MAX_GROUPS: u64 = (1 << 16) / SLOTS as u64;

impl Header {
    /// Reads and checks the header at `address`.
    pub fn read(memory: &dyn Memory, address: u64) -> Result<Header> {
        let bytes = memory.array::<{ swiss::SIZE }>(address)?;
        let header = Header {
            used: LE::read_u64(&bytes[swiss::USED..]),
            seed: LE::read_u64(&bytes[swiss::SEED..]),
            dir_ptr: LE::read_u64(&bytes[swiss::DIR_PTR..]),
            dir_len: LE::read_u64(&bytes[swiss::DIR_LEN..]),
            global_depth: bytes[swiss::GLOBAL_DEPTH],
            global_shift: bytes[swiss::GLOBAL_SHIFT],
            writing: bytes[swiss::WRITING],
        };
        header.check(memory, address)?;
        Ok(header)
    }

    fn check(&self, memory: &dyn Memory, address: u64) -> Result<()> {
        let refuse = |why: String| {
            Err(Error::Map(format!(
                "{address:#x} holds no sound map header ({why}); it was freed, overwritten or never a map"
            )))
        };
        if self.global_depth > MAX_DEPTH || self.writing > 1 {
            return refuse(format!("directory depth {}, writing flag {}", self.global_depth, self.writing));
        }
        if self.is_small() {
            if self.used > SLOTS as u64 {
                return refuse(format!("{} entries in the one group of a small map", self.used));
            }
            if self.dir_ptr == 0 && self.used > 0 {
                return refuse(format!("{} entries but no group", self.used));
            }
            return Ok(());
        }
        if self.dir_len != 1 << self.global_depth {
            return refuse(format!("{} directory entries at depth {}", self.dir_len, self.global_depth));
        }
        if self.dir_ptr == 0 || !self.dir_ptr.is_multiple_of(8) {
            return refuse(format!("its directory is at {:#x}", self.dir_ptr));
        }
        if memory.size().is_some_and(|size| self.dir_len.saturating_mul(8) > size) {
            return refuse(format!("{} directory entries, more than the whole target has", self.dir_len));
        }
        if let (Err(error), Err(_)) = (memory.u64(self.dir_ptr), memory.u64(self.dir_ptr + 8 * (self.dir_len - 1))) {
            return refuse(format!("its directory cannot be read: {error}"));
        }
        if self.used > self.dir_len.saturating_mul(1 << 16) {
            return refuse(format!("{} entries in {} tables", self.used, self.dir_len));
        }
        Ok(())
    }

    /// Whether the map has one group and no table.
    pub fn is_small(&self) -> bool {
        self.dir_len == 0
    }

    /// Directory index for a hash.
    pub fn directory_index(&self, hash: u64) -> u64 {
        if self.dir_len == 1 {
            return 0;
        }
        hash >> (self.global_shift & 63)
    }

    /// Calls `f` with every installed table once.
    pub fn each_table(
        &self,
        map: &GoMap<'_>,
        findings: &mut Findings,
        f: &mut dyn FnMut(u64, &Table, &mut Findings) -> Result<bool>,
    ) -> Result<()> {
        let memory = map.memory;
        let mut seen = HashSet::new();
        let mut last = 0;
        each_block(memory, self.dir_ptr, 8, 0..self.dir_len, &mut |block| {
            let (first, bytes) = match block {
                Block::Present(first, bytes) => (first, bytes),
                Block::Missing(range, error) => {
                    let part = Part::Directory { first: range.start, last: range.end - 1 };
                    findings.add(|| Note::Lost { part, error: error.into() });
                    return Ok(true);
                }
            };
            for (i, entry) in bytes.chunks_exact(8).enumerate() {
                let index = first + i as u64;
                let address = LE::read_u64(entry);
                // Entries that share a table are neighbours.
                if address == last {
                    continue;
                }
                last = address;
                if !seen.insert(address) {
                    findings.add(|| Note::RepeatedTable { index, address });
                    continue;
                }
                let table = match Table::read(memory, address) {
                    Ok(table) => table,
                    Err(error) => {
                        findings.add(|| Note::Lost { part: Part::Table(index), error });
                        continue;
                    }
                };
                if table.index != index as i64 {
                    findings.add(|| Note::TableIndex { index, address, said: table.index });
                }
                if !f(index, &table, findings)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Calls `f` with every group of every table.
    pub fn each_group(
        &self,
        map: &GoMap<'_>,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<()> {
        watch.tick(0, self.used)?;
        if self.is_small() {
            if self.dir_ptr == 0 {
                return Ok(());
            }
            match map.memory.bytes(self.dir_ptr, map.slots.size as usize) {
                Ok(bytes) => {
                    let place = Place::Group { table: 0, group: 0 };
                    f(&Cell { place, address: self.dir_ptr, bytes: &bytes, live: live_mask(&bytes) })?;
                }
                Err(error) => findings.add(|| Note::Lost { part: Part::OnlyGroup, error: error.into() }),
            }
            return Ok(());
        }
        let mut done = 0;
        self.each_table(map, findings, &mut |index, table, findings| {
            // A table has at most 8192 groups, so this is often enough.
            if done & 15 == 0 {
                watch.tick(index, self.dir_len)?;
            }
            done += 1;
            table.each_group(map, index, findings, f)
        })
    }

    /// Counts occupancy, tables and tombstones.
    pub fn survey(&self, map: &GoMap<'_>, watch: &dyn Watch) -> Result<Survey> {
        let mut survey = Survey { histogram: vec![0; SLOTS + 1], ..Survey::default() };
        let (mut groups, mut tombstones, mut tables) = (0u64, 0u64, 0u64);
        let mut findings = Findings::default();
        self.each_group(map, watch, &mut findings, &mut |cell| {
            let full = cell.live.count_ones();
            groups += 1;
            tables += matches!(cell.place, Place::Group { group: 0, .. }) as u64;
            survey.live += full as u64;
            survey.histogram[full as usize] += 1;
            // Deleted is the only control byte with both top bits set.
            let control = u64::from_le_bytes(cell.control());
            tombstones += (control & (control << 1) & 0x8080808080808080).count_ones() as u64;
            Ok(true)
        })?;
        if self.is_small() {
            tables = 0;
        }
        survey.groups = Some(groups);
        survey.tombstones = Some(tombstones);
        survey.tables = Some(tables);
        survey.capacity = groups * SLOTS as u64;
        survey.bytes = groups
            .saturating_mul(map.slots.size)
            .saturating_add(tables * swiss::TABLE_SIZE as u64 + self.dir_len * 8 + swiss::SIZE as u64);
        survey.findings.extend(findings);
        Ok(survey)
    }
}

impl Table {
    /// Reads and checks the table at `address`.
    pub fn read(memory: &dyn Memory, address: u64) -> Result<Table> {
        let bytes = memory.array::<{ swiss::TABLE_SIZE }>(address)?;
        let table = Table {
            address,
            used: LE::read_u16(&bytes[swiss::TABLE_USED..]),
            capacity: LE::read_u16(&bytes[swiss::TABLE_CAPACITY..]),
            growth_left: LE::read_u16(&bytes[swiss::TABLE_GROWTH_LEFT..]),
            local_depth: bytes[swiss::TABLE_LOCAL_DEPTH],
            index: LE::read_i64(&bytes[swiss::TABLE_INDEX..]),
            groups: LE::read_u64(&bytes[swiss::TABLE_GROUPS..]),
            length_mask: LE::read_u64(&bytes[swiss::TABLE_LENGTH_MASK..]),
        };
        let groups = table.length_mask.wrapping_add(1);
        if !groups.is_power_of_two() || groups > MAX_GROUPS || groups * SLOTS as u64 != table.capacity as u64 {
            return Err(Error::Map(format!(
                "{address:#x} is not a table ({} slots, group mask {:#x})",
                table.capacity, table.length_mask
            )));
        }
        Ok(table)
    }

    /// Groups in this table.
    pub fn group_count(&self) -> u64 {
        self.length_mask + 1
    }

    fn each_group(
        &self,
        map: &GoMap<'_>,
        index: u64,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let size = map.slots.size;
        let mut goes_on = true;
        each_block(map.memory, self.groups, size, 0..self.group_count(), &mut |block| {
            match block {
                Block::Present(first, bytes) => {
                    for (i, group) in bytes.chunks_exact(size as usize).enumerate() {
                        let number = first + i as u64;
                        let place = Place::Group { table: index, group: number };
                        let address = self.groups + number * size;
                        goes_on = f(&Cell { place, address, bytes: group, live: live_mask(group) })?;
                        if !goes_on {
                            return Ok(false);
                        }
                    }
                }
                Block::Missing(range, error) => {
                    let part = Part::Groups { table: index, first: range.start, last: range.end - 1 };
                    findings.add(|| Note::Lost { part, error: error.into() })
                }
            }
            Ok(true)
        })?;
        Ok(goes_on)
    }
}

/// Bit `i` set when control byte `i` is that of a full slot (top bit clear).
fn live_mask(group: &[u8]) -> u8 {
    !super::top_bits(LE::read_u64(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_mask_has_bit_i_for_control_byte_i() {
        for i in 0..8 {
            let mut control = [swiss::EMPTY; 8];
            control[i] = 0x7f;
            control[(i + 3) % 8] = swiss::DELETED;
            assert_eq!(live_mask(&control), 1 << i);
        }
        assert_eq!(live_mask(&[0; 8]), 0xff);
    }
}
