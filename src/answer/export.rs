//! `gomap export`: all entries into a file.

use super::ordered::{all_entries, Formatter};
use super::{print, write_error, PrintOptions, Show, Tally, Values};
use crate::error::Watch;
use crate::map::{Entry, GoMap};
use crate::session::Note;
use crate::value::{CsvCell, Options};
use crate::{Error, Result};
use std::cell::RefCell;
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

/// Writes all entries of `map` to `out`; `values` says how far their pointers are followed.
pub fn export(
    map: &GoMap<'_>,
    format: Format,
    values: &Options,
    notes: &[Note],
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<Tally> {
    let values = Options { depth: values.depth, follow_limit: values.follow_limit, ..Options::default() };
    let show = Show { json: true, colour: false, values };
    if format == Format::Json {
        let options = PrintOptions { show, limit: 0, pattern: None, sort: None, raw: false };
        return print(map, &options, notes, watch, out);
    }
    if format == Format::Csv {
        out.write_all(b"key,elem\n").map_err(write_error)?;
    }
    all_entries(
        map,
        watch,
        &|map, watch| {
            let values = Values::of(map, &show, watch)?;
            Ok(Box::new(Line { values, csv: (format == Format::Csv).then(Default::default) }))
        },
        &mut |bytes| out.write_all(bytes).map_err(write_error),
    )
}

/// An entry as a line of a file.
struct Line<'a> {
    values: Values<'a>,
    csv: Option<RefCell<CsvCell>>,
}

impl Formatter for Line<'_> {
    fn entry(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Tally> {
        let tally = match &self.csv {
            None => self.values.entry(entry, out)?,
            Some(cell) => self.cells(entry, &mut cell.borrow_mut(), out)?,
        };
        out.push(b'\n');
        Ok(tally)
    }

    fn prefetch(&self, entry: &Entry<'_>, level: usize) {
        self.values.prefetch(entry, level);
    }

    fn levels(&self) -> usize {
        self.values.levels()
    }
}

impl Line<'_> {
    fn cells(&self, entry: &Entry<'_>, cell: &mut CsvCell, out: &mut Vec<u8>) -> Result<Tally> {
        let Values { context, key: key_plan, elem: elem_plan, .. } = &self.values;
        let cut = context.cut();
        match (&entry.key, &entry.elem) {
            (Ok(key), Ok(elem)) => {
                cell.write(key_plan, context, key, out)?;
                out.push(b',');
                cell.write(elem_plan, context, elem, out)?;
            }
            (key, elem) => {
                let problem = key.as_ref().err().or(elem.as_ref().err());
                write!(out, "<{}>,", problem.map(|e| e.to_string()).unwrap_or_default()).map_err(write_error)?;
            }
        }
        Ok(Tally { shown: 1, cut: (context.cut() > cut) as u64 })
    }
}
