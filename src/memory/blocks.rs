//! Arrays in target memory, read in big blocks with the holes skipped.

use super::{Memory, MemoryError};
use crate::Result;
use std::ops::Range;

/// Bytes read at once where memory is not mapped.
const BLOCK: u64 = 256 << 10;
/// Unreadable elements in a row after which an array is given up, where the target does not list its regions.
const PATIENCE: u64 = 1 << 16;

/// A piece of an array.
pub enum Block<'b> {
    /// Elements that could be read: index of the first, and their bytes (a whole number of elements).
    Present(u64, &'b [u8]),
    /// Elements that could not: their indices, and the first missing address.
    Missing(Range<u64>, MemoryError),
}

/// Calls `f` with the elements `range` of the array of `size`-byte elements at `start`, in order, in as
/// large blocks as can be had. `f` returns whether to go on. The work is bounded by the memory that is
/// there, whatever the range claims.
pub fn each_block(
    memory: &dyn Memory,
    start: u64,
    size: u64,
    range: Range<u64>,
    f: &mut dyn FnMut(Block<'_>) -> Result<bool>,
) -> Result<()> {
    let address_of = |index: u64| index.checked_mul(size).and_then(|offset| start.checked_add(offset));
    let missing = |address| MemoryError { address, place: memory.place() };
    if size == 0 || address_of(range.end).is_none() {
        f(Block::Missing(range, missing(start)))?;
        return Ok(());
    }
    let whole = (range.end - range.start).checked_mul(size).and_then(|len| usize::try_from(len).ok());
    if let Some(bytes) = whole.and_then(|len| memory.mapped(start + range.start * size, len)) {
        f(Block::Present(range.start, bytes))?;
        return Ok(());
    }
    let mut regions = None;
    let per_block = (BLOCK / size).max(1);
    let mut buffer = Vec::new();
    let mut at = range.start;
    let mut gap = 0;
    while at < range.end {
        let mut count = per_block.min(range.end - at);
        let address = start + at * size;
        let error = loop {
            let len = (count * size) as usize;
            let bytes = match memory.mapped(address, len) {
                Some(bytes) => Ok(bytes),
                None => {
                    buffer.resize(len, 0);
                    memory.read(address, &mut buffer).map(|()| &buffer[..])
                }
            };
            match bytes {
                Ok(bytes) => match f(Block::Present(at, bytes))? {
                    true => break None,
                    false => return Ok(()),
                },
                Err(error) if count == 1 => break Some(error),
                // Read what lies before the hole first.
                Err(error) => count = (error.address.saturating_sub(address) / size).clamp(1, count - 1),
            }
        };
        let Some(error) = error else {
            at += count;
            gap = 0;
            continue;
        };
        let regions = regions.get_or_insert_with(|| memory.regions());
        let hole_end = next_readable(regions, error.address);
        let resume = match hole_end {
            Some(end) => end.saturating_sub(start).div_ceil(size).clamp(at + 1, range.end),
            None if regions.is_empty() && gap < PATIENCE => at + 1,
            None => range.end,
        };
        gap += 1;
        if !f(Block::Missing(at..resume, error))? {
            return Ok(());
        }
        at = resume;
    }
    Ok(())
}

/// Start of the first region after the hole at `address`.
fn next_readable(regions: &[super::Region], address: u64) -> Option<u64> {
    regions.iter().map(|r| r.start).find(|&start| start > address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Place, Region};

    /// Two pages with a hole of one between them; every byte is its address's low byte.
    struct Holes;

    impl Memory for Holes {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            for (i, byte) in buf.iter_mut().enumerate() {
                let at = address + i as u64;
                if !(0x1000..0x2000).contains(&at) && !(0x3000..0x4000).contains(&at) {
                    return Err(MemoryError { address: at, place: Place::Core });
                }
                *byte = at as u8;
            }
            Ok(())
        }

        fn regions(&self) -> Vec<Region> {
            let region = |start, end| Region { start, end, writable: true, executable: false, file: None };
            vec![region(0x1000, 0x2000), region(0x3000, 0x4000)]
        }

        fn place(&self) -> Place {
            Place::Core
        }
    }

    fn walk(size: u64, count: u64) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
        let (mut present, mut missing) = (Vec::new(), Vec::new());
        each_block(&Holes, 0x1000, size, 0..count, &mut |block| {
            match block {
                Block::Present(first, bytes) => {
                    assert_eq!(bytes[0], (0x1000 + first * size) as u8);
                    present.push(first..first + bytes.len() as u64 / size)
                }
                Block::Missing(range, _) => missing.push(range),
            }
            Ok(true)
        })
        .unwrap();
        (present, missing)
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn holes_are_skipped_and_elements_on_their_edge_are_missing() {
        assert_eq!(walk(0x100, 0x30), (vec![0..0x10, 0x20..0x30], vec![0x10..0x20]));
        // Element 5 (0x1f00..0x2200) reaches into the hole; the next whole one starts at 0x3100.
        assert_eq!(walk(0x300, 17), (vec![0..5, 11..16], vec![5..11, 16..17]));
    }

    #[test]
    fn an_absurd_range_is_one_hole() {
        assert_eq!(walk(0x100, 1 << 50), (vec![0..0x10, 0x20..0x30], vec![0x10..0x20, 0x30..1 << 50]));
        assert_eq!(walk(0x100, u64::MAX).1.len(), 1);
    }
}
