//! `gomap export`: all entries into a file.

use super::{flush, flush_if_full, print, write_error, PrintOptions, Show, Values};
use crate::error::Watch;
use crate::map::GoMap;
use crate::value::{CsvCell, Options};
use crate::{Error, Result};
use std::io::Write;
use std::path::Path;

/// The form of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One document, as `print --json --limit 0` gives it.
    Json,
    /// One `{"key":…,"elem":…}` a line.
    JsonLines,
    /// Two columns, `key` and `elem`; composite values as JSON.
    Csv,
}

impl Format {
    /// The format that a file's ending names.
    pub fn of(path: &Path) -> Result<Format> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Ok(Format::Json),
            Some("jsonl") => Ok(Format::JsonLines),
            Some("csv") => Ok(Format::Csv),
            _ => Err(Error::Usage(format!(
                "the ending of {} names no format; use .json, .jsonl or .csv",
                path.display()
            ))),
        }
    }
}

/// Writes all entries of `map` to `out`; returns how many.
pub fn export(
    map: &GoMap<'_>,
    format: Format,
    depth: usize,
    notes: &[String],
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<u64> {
    let show = Show { json: true, colour: false, values: Options { depth, ..Options::default() } };
    if format == Format::Json {
        let options = PrintOptions { show, limit: 0, pattern: None, sort: None, raw: false };
        print(map, &options, notes, watch, out)?;
        return Ok(map.count());
    }
    let values = Values::of(map, &show, watch)?;
    let mut cell = CsvCell::default();
    let mut buffer = Vec::with_capacity(2 * super::FLUSH);
    if format == Format::Csv {
        buffer.extend_from_slice(b"key,elem\n");
    }
    let mut count = 0;
    map.each(watch, &mut |entry| {
        count += 1;
        match (format, &entry.key, &entry.elem) {
            (Format::Csv, Ok(key), Ok(elem)) => {
                cell.write(&values.key, &values.context, key, &mut buffer)?;
                buffer.push(b',');
                cell.write(&values.elem, &values.context, elem, &mut buffer)?;
            }
            (Format::Csv, key, elem) => {
                let problem = key.as_ref().err().or(elem.as_ref().err());
                write!(buffer, "<{}>,", problem.map(|e| e.to_string()).unwrap_or_default()).map_err(write_error)?;
            }
            _ => values.entry(entry, &mut buffer)?,
        }
        buffer.push(b'\n');
        flush_if_full(out, &mut buffer)?;
        Ok(true)
    })?;
    flush(out, &mut buffer)?;
    Ok(count)
}
