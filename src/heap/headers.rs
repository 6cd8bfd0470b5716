//! What memory tells of each object that can be a map header, found out when it is first asked for: 2 bytes each.

use super::identify::{Identified, Identifier, HEADER};
use super::{Heap, Object, Span};
use crate::error::Watch;
use crate::Result;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, RwLock};

/// Not asked for yet, and no map with entries; other numbers are of kinds, from 2.
const UNKNOWN: u16 = 0;
const NONE: u16 = 1;

/// See the module.
pub struct Headers<'i, 's> {
    identifier: &'i Identifier<'s>,
    /// Address of each span of such objects, and the number of its first.
    firsts: Vec<(u64, usize)>,
    told: Vec<AtomicU16>,
    kinds: RwLock<Kinds>,
}

/// All different answers; there are few, of many maps.
#[derive(Default)]
struct Kinds {
    all: Vec<Arc<Identified>>,
    numbers: FxHashMap<Arc<Identified>, u16>,
}

impl<'i, 's> Headers<'i, 's> {
    /// Nothing asked for yet.
    pub fn new(identifier: &'i Identifier<'s>) -> Headers<'i, 's> {
        let (mut firsts, mut count) = (Vec::new(), 0);
        for span in header_spans(identifier.heap()) {
            firsts.push((span.base, count));
            count += span.count as usize;
        }
        let told = (0..count).map(|_| AtomicU16::new(UNKNOWN)).collect();
        Headers { identifier, firsts, told, kinds: RwLock::default() }
    }

    /// Spans whose objects may be map headers.
    pub fn spans(&self) -> Vec<&'i Span> {
        header_spans(self.identifier.heap()).collect()
    }

    /// The type of the map whose header an object is; `None` when it is none, or without entries.
    pub fn of(&self, object: &Object<'_>, watch: &dyn Watch) -> Result<Option<Arc<Identified>>> {
        if !can_be_headers(object.span) {
            return Ok(None);
        }
        let span = self.firsts.binary_search_by_key(&object.span.base, |&(base, _)| base).ok();
        let told = span.and_then(|span| self.told.get(self.firsts[span].1 + object.index as usize));
        match told.map_or(UNKNOWN, |told| told.load(Ordering::Relaxed)) {
            UNKNOWN => {}
            NONE => return Ok(None),
            kind => {
                let kinds = self.kinds.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                return Ok(kinds.all.get(usize::from(kind - NONE - 1)).cloned());
            }
        }
        let found = self.identifier.identify(object.base, watch)?.map(Arc::new);
        let kind = found.as_ref().map_or(NONE, |found| self.kind(found));
        if let Some(told) = told {
            told.store(kind, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// The number of an answer; of those that there is no number for, memory is asked again.
    fn kind(&self, found: &Arc<Identified>) -> u16 {
        let kinds = self.kinds.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(&known) = kinds.numbers.get(found) {
            return known;
        }
        drop(kinds);
        let mut kinds = self.kinds.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Ok(next) = u16::try_from(kinds.all.len() + usize::from(NONE) + 1) else { return UNKNOWN };
        if let Some(&known) = kinds.numbers.get(found) {
            return known;
        }
        kinds.all.push(found.clone());
        kinds.numbers.insert(found.clone(), next);
        next
    }
}

fn header_spans(heap: &Heap) -> impl Iterator<Item = &Span> {
    heap.spans().iter().filter(|span| can_be_headers(span))
}

fn can_be_headers(span: &Span) -> bool {
    span.elem_size == HEADER && !span.no_scan
}
