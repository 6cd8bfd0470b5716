//! `gomap buckets`: the physical layout, bucket by bucket or group by group.

use super::{flush, flush_if_full, head, head_text, state, write_error, Show, Values};
use crate::error::Watch;
use crate::layout::{hmap, swiss, SLOTS};
use crate::map::{classic, sync, Cell, Findings, GoMap, Header, Place};
use crate::session::Note;
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use serde_json::{json, Value};
use std::io::Write;
use std::ops::RangeInclusive;

/// Shows the buckets (classic: by bucket index, old ones too) or groups (Swiss: counted over all tables)
/// whose number is in `range`.
pub fn buckets(
    map: &GoMap<'_>,
    range: RangeInclusive<u64>,
    show: &Show,
    notes: &[Note],
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    if let Header::Sync(header) = &map.header {
        return sync_buckets(map, header, range, show, notes, watch, out);
    }
    let values = Values::of(map, show, watch)?;
    let state = state(&map.survey(watch)?, notes);
    let mut buffer = Vec::new();
    match show.json {
        true => write!(buffer, "{{\"map\":{},\"buckets\":[", head(map, &state)).map_err(write_error)?,
        false => buffer.extend_from_slice(head_text(map, &state).as_bytes()),
    }
    let (mut groups, mut shown) = (0, 0);
    map.each_cell(watch, &mut Findings::default(), &mut |cell| {
        let number = match cell.place {
            Place::Bucket { index, .. } => index,
            Place::Group { .. } | Place::Node { .. } => groups,
        };
        groups += 1;
        if !range.contains(&number) {
            // Numbers rise, except that the current array follows the old one.
            let done = number > *range.end() && !matches!(cell.place, Place::Bucket { old: true, .. });
            return Ok(!done);
        }
        if show.json && shown > 0 {
            buffer.push(b',');
        }
        shown += 1;
        if show.json {
            cell_json(map, &values, cell, &mut buffer)?;
        } else {
            cell_text(map, &values, cell, number, &mut buffer)?;
        }
        flush_if_full(out, &mut buffer)?;
        Ok(true)
    })?;
    match show.json {
        true => buffer.extend_from_slice(b"]}\n"),
        false if shown == 0 => buffer.extend_from_slice(b"  no bucket with that number\n"),
        false => {}
    }
    flush(out, &mut buffer)
}

/// A `sync.Map`: the buckets of its inner maps, or the entries of its trie in the order of their hashes.
fn sync_buckets(
    map: &GoMap<'_>,
    header: &sync::Header,
    range: RangeInclusive<u64>,
    show: &Show,
    notes: &[Note],
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let state = state(&map.survey(watch)?, notes);
    let head = head(map, &state);
    let mut buffer = Vec::new();
    if let sync::Header::ReadDirty(maps) = header {
        let mut parts = Vec::new();
        for inner in maps.inner_maps(map.memory, map.types) {
            let name = if inner.address == maps.read { "read" } else { "dirty" };
            let mut part = Vec::new();
            buckets(&inner, range.clone(), show, &[], watch, &mut part)?;
            parts.push((name, String::from_utf8_lossy(&part).trim_end().to_string()));
        }
        match show.json {
            true => {
                let parts: Vec<String> = parts.iter().map(|(name, part)| format!(",\"{name}\":{part}")).collect();
                writeln!(buffer, "{{\"map\":{head}{}}}", parts.concat()).map_err(write_error)?;
            }
            false => {
                buffer.extend_from_slice(head_text(map, &state).as_bytes());
                for (name, part) in parts {
                    writeln!(buffer, "{name}: {part}").map_err(write_error)?;
                }
            }
        }
        return flush(out, &mut buffer);
    }
    let values = Values::of(map, show, watch)?;
    match show.json {
        true => write!(buffer, "{{\"map\":{head},\"nodes\":[").map_err(write_error)?,
        false => buffer.extend_from_slice(head_text(map, &state).as_bytes()),
    }
    let mut number = 0;
    map.each(watch, &mut |entry| {
        if range.contains(&number) {
            if show.json {
                let comma = if number > *range.start() { "," } else { "" };
                let place = super::place_json(entry.place, entry.slot);
                write!(buffer, "{comma}{{\"where\":{place},\"entry\":").map_err(write_error)?;
                values.entry(entry, &mut buffer)?;
                buffer.push(b'}');
            } else {
                write!(buffer, "  {}: ", super::place_text(entry.place)).map_err(write_error)?;
                values.entry(entry, &mut buffer)?;
                buffer.push(b'\n');
            }
        }
        number += 1;
        flush_if_full(out, &mut buffer)?;
        Ok(number <= *range.end())
    })?;
    if show.json {
        buffer.extend_from_slice(b"]}\n");
    }
    flush(out, &mut buffer)
}

/// The word for a tophash or control byte that is not of a live slot.
fn slot_state(classic: bool, byte: u8) -> &'static str {
    match (classic, byte) {
        (true, hmap::EMPTY_REST) => "emptyRest",
        (true, hmap::EMPTY_ONE) => "emptyOne",
        (true, hmap::EVACUATED_X) => "evacuatedX",
        (true, hmap::EVACUATED_Y) => "evacuatedY",
        (true, hmap::EVACUATED_EMPTY) => "evacuatedEmpty",
        (false, swiss::EMPTY) => "empty",
        (false, swiss::DELETED) => "deleted",
        (false, _) if byte & 0x80 != 0 => "invalid",
        _ => "live",
    }
}

/// The overflow pointer of a classic bucket.
fn overflow_of(map: &GoMap<'_>, cell: &Cell<'_>) -> Option<u64> {
    map.slots.classic.then(|| LE::read_u64(&cell.bytes[map.slots.size as usize - 8..]))
}

/// Where the entries of a current bucket still are: its old bucket, if that is not evacuated yet.
fn waiting_in_old(map: &GoMap<'_>, cell: &Cell<'_>) -> Option<u64> {
    let Header::Classic(header) = &map.header else { return None };
    let Place::Bucket { old: false, index, overflow: 0 } = cell.place else { return None };
    if !header.is_growing() {
        return None;
    }
    let old = index % header.old_bucket_count();
    let first = map.memory.u8(header.oldbuckets.checked_add(old.checked_mul(map.slots.size)?)?).ok()?;
    (!classic::is_evacuated(first)).then_some(old)
}

fn cell_json(map: &GoMap<'_>, values: &Values<'_>, cell: &Cell<'_>, out: &mut Vec<u8>) -> Result<()> {
    let control = cell.control();
    let mut members = match cell.place {
        Place::Bucket { old, index, overflow } => {
            json!({"bucket": index, "old": old, "overflow": overflow, "tophash": control})
        }
        place => {
            let mut members = super::place_json(place, 0);
            members["control"] = json!(control);
            members
        }
    };
    members["address"] = format!("{:#x}", cell.address).into();
    if let Some(next) = overflow_of(map, cell) {
        members["next"] = if next == 0 { Value::Null } else { format!("{next:#x}").into() };
    }
    if let Some(old) = waiting_in_old(map, cell) {
        members["in_old_bucket"] = old.into();
    }
    // The slots are streamed into the object, before its closing brace.
    let mut text = members.to_string();
    text.pop();
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b",\"slots\":[");
    for (slot, &byte) in control.iter().enumerate() {
        if slot > 0 {
            out.push(b',');
        }
        if cell.live & 1 << slot == 0 {
            out.extend_from_slice(json!({ "state": slot_state(map.slots.classic, byte) }).to_string().as_bytes());
        } else {
            map.with_entry(cell, slot, &mut |entry| values.entry(entry, out))?;
        }
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn cell_text(map: &GoMap<'_>, values: &Values<'_>, cell: &Cell<'_>, number: u64, out: &mut Vec<u8>) -> Result<()> {
    let control = cell.control();
    let bytes: Vec<String> = control.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = match cell.place {
        Place::Group { .. } => format!("group {number} ({})", super::place_text(cell.place)),
        place => super::place_text(place),
    };
    let kind = if map.slots.classic { "tophash" } else { "control" };
    let mut title = format!("  {name} at {:#x}  {kind} {}", cell.address, bytes.join(" "));
    if let Some(next) = overflow_of(map, cell).filter(|&next| next != 0) {
        title.push_str(&format!("  overflow -> {next:#x}"));
    }
    if let Some(old) = waiting_in_old(map, cell) {
        title.push_str(&format!("  (its entries are still in old bucket {old})"));
    }
    out.extend_from_slice(title.as_bytes());
    out.push(b'\n');
    for (slot, byte) in control.iter().enumerate().take(SLOTS) {
        out.extend_from_slice(format!("    {slot}  {byte:02x}  ").as_bytes());
        if cell.live & 1 << slot == 0 {
            out.extend_from_slice(slot_state(map.slots.classic, *byte).as_bytes());
        } else {
            map.with_entry(cell, slot, &mut |entry| values.entry(entry, out))?;
        }
        out.push(b'\n');
    }
    Ok(())
}
