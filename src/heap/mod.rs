//! The runtime's heap: its spans, and which of their objects are allocated.

pub mod headers;
pub mod identify;

use crate::error::Watch;
use crate::layout::heap::{self as layout, SpanLayout};
use crate::memory::Memory;
use crate::session::Session;
use crate::types::TypeSource;
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::ops::Range;

/// A span that holds heap objects, all of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
// One line of the processor's cache, since every look-up of an object needs one of them.
#[repr(align(64))]
pub struct Span {
    /// Address of its first object.
    pub base: u64,
    /// Bytes of an object.
    pub elem_size: u64,
    /// Objects that can hold pointers in the spans before it.
    before: u64,
    /// Objects it has room for.
    pub count: u32,
    /// Objects below this index are allocated; the others are if their bit is set.
    free_index: u32,
    /// How often the heap had been swept when this span was, as the runtime counts.
    sweep: u32,
    /// Whether its objects hold no pointers.
    pub no_scan: bool,
    /// Whether it holds one large object.
    pub large: bool,
    /// Address of the descriptor of the large object's type, when the runtime keeps it; else 0.
    pub large_type: u64,
    alloc_bits: u64,
    specials: u64,
}

/// An object of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'h> {
    /// Its address.
    pub base: u64,
    /// Its span.
    pub span: &'h Span,
    /// Its index there.
    pub index: u64,
}

/// The spans in use, by address.
#[derive(Debug, Clone, Default)]
pub struct Heap {
    spans: Vec<Span>,
    headed: bool,
    pages: Pages,
}

/// Which span a page is in: 4 bytes for each page from the first span to the last.
#[derive(Debug, Clone, Default)]
struct Pages {
    first: u64,
    /// Numbers of spans, from 1; 0 for none. Empty when spans lie too far apart.
    spans: Vec<u32>,
}

/// Pages of the runtime that the table of a heap has at most: 256 MB of memory for 512 GB of addresses.
const MAX_PAGES: u64 = 1 << 26;

impl Pages {
    fn of(spans: &[Span]) -> Pages {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Pages::default() };
        let (first, end) = (first.base / layout::PAGE, last.end().div_ceil(layout::PAGE));
        let count = end.saturating_sub(first);
        if count > MAX_PAGES || spans.len() >= u32::MAX as usize {
            return Pages::default();
        }
        let mut pages = vec![0; count as usize];
        for (number, span) in (1..).zip(spans) {
            let range = span.base / layout::PAGE - first..span.end().div_ceil(layout::PAGE) - first;
            if let Some(own) = pages.get_mut(range.start as usize..range.end as usize) {
                own.fill(number);
            }
        }
        Pages { first, spans: pages }
    }
}

/// Spans of one process at most: one per page of 16 TB.
const MAX_SPANS: u64 = 1 << 31;
/// Spans read between two looks at the watch.
const SOME: u64 = 1 << 12;
/// Bytes of a heap at most, where the target does not tell how much memory it has.
const MAX_BYTES: u64 = 1 << 38;
/// Bytes of a program's variables that are searched for the list of spans.
const MAX_DATA: u64 = 1 << 30;
/// Of a list of spans that is only supposed to be one, so many are looked at.
const SAMPLES: u64 = 64;

impl Heap {
    /// Reads the spans of the session's process.
    pub fn of(session: &Session, watch: &dyn Watch) -> Result<Heap> {
        let memory = &*session.memory;
        let go = session.types.descriptors()?.version.number();
        let layout = declared_layout(session).unwrap_or_else(|| layout::span(go));
        let (list, count) = match declared_list(session) {
            Some(found) => found,
            None => search(session, &layout).ok_or_else(|| {
                Error::Binary(
                    "the runtime's list of heap spans was not found; the core may lack the program's data".into(),
                )
            })?,
        };
        let count = count.min(MAX_SPANS).min(memory.size().map_or(MAX_SPANS, |size| size / 8));
        let mut spans = Vec::new();
        for at in 0..count {
            if at % SOME == 0 {
                watch.tick(0, 0)?;
            }
            let Ok(address) = memory.u64(list.wrapping_add(8 * at)) else { continue };
            spans.extend(
                read(memory, address, &layout).and_then(|(state, span)| (state == layout::IN_USE).then_some(span)),
            );
        }
        spans.sort_unstable_by_key(|span: &Span| span.base);
        // Spans that were overwritten claim what they like, but not more than there is, and nothing twice.
        let (mut end, mut room) = (0, memory.size().unwrap_or(MAX_BYTES));
        spans.retain(|span| {
            let bytes = span.end().saturating_sub(span.base);
            let sound = span.base >= end && bytes <= room;
            if sound {
                (end, room) = (span.end(), room - bytes);
            }
            sound
        });
        if spans.is_empty() {
            let sentence = "the runtime's list of heap spans is empty; the core may lack what the runtime knows of it";
            return Err(Error::Binary(sentence.into()));
        }
        let mut before = 0u64;
        for span in &mut spans {
            span.before = before;
            before = before.saturating_add(if span.no_scan { 0 } else { span.count.into() });
        }
        let pages = Pages::of(&spans);
        Ok(Heap { spans, headed: go >= (1, 22), pages })
    }

    /// The spans, by address.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes of the objects that the spans have room for.
    pub fn bytes(&self) -> u64 {
        self.spans.iter().fold(0, |sum: u64, span| sum.saturating_add(span.elem_size.saturating_mul(span.count.into())))
    }

    /// The object that this address is in, allocated or not.
    pub fn object(&self, address: u64) -> Option<Object<'_>> {
        let span = match self.pages.spans.is_empty() {
            false => {
                let page = (address / layout::PAGE).checked_sub(self.pages.first)?;
                let number = *self.pages.spans.get(usize::try_from(page).ok()?)?;
                self.spans.get((number as usize).checked_sub(1)?)?
            }
            true => {
                let after = self.spans.partition_point(|span| span.base <= address);
                self.spans.get(after.checked_sub(1)?)?
            }
        };
        let offset = address.checked_sub(span.base)?;
        // Where 32 bits do, a division is much faster.
        let index = match (u32::try_from(offset), u32::try_from(span.elem_size)) {
            (Ok(offset), Ok(size)) => u64::from(offset / size),
            _ => offset / span.elem_size,
        };
        (index < span.count.into()).then(|| Object { base: span.base + index * span.elem_size, span, index })
    }

    /// How many objects that can hold pointers the spans have room for.
    pub fn objects(&self) -> u64 {
        let own = |span: &Span| if span.no_scan { 0 } else { span.count.into() };
        self.spans.last().map_or(0, |span| span.before.saturating_add(own(span)))
    }

    /// Bytes of a word before an object's value that holds its type.
    pub fn type_word(&self, span: &Span) -> u64 {
        let headed = self.headed && !span.no_scan && !span.large && span.elem_size > layout::UNHEADED;
        if headed {
            8
        } else {
            0
        }
    }

    /// Address of the descriptor that the runtime noted for an object: its own type, or its elements' if it is an array.
    pub fn noted_type(&self, memory: &dyn Memory, object: &Object<'_>) -> Option<u64> {
        match self.type_word(object.span) {
            0 => Some(object.span.large_type),
            _ => memory.u64(object.base).ok(),
        }
        .filter(|&ty| ty != 0)
    }
}

impl Object<'_> {
    /// Its number among all objects that can hold pointers, from 0; it must be one of them.
    pub fn number(&self) -> u64 {
        self.span.before.saturating_add(self.index)
    }

    /// Whether it is allocated.
    pub fn is_allocated(&self, memory: &dyn Memory) -> bool {
        let bits = || memory.u8(self.span.alloc_bits.wrapping_add(self.index / 8)).unwrap_or(0);
        self.index < self.span.free_index.into() || bits() >> (self.index % 8) & 1 == 1
    }
}

impl Span {
    /// One past its last object.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.elem_size.saturating_mul(self.count.into()))
    }

    /// Whether nothing in it was ever freed: `mheap.sweepgen` begins with 0 and grows by 2 with each collection; a span gets
    /// it when it is made or swept, and 3 more while a processor allocates from it (src/runtime/mheap.go, mcache.go and
    /// mgcsweep.go, go1.19 to 1.27).
    pub fn was_never_swept(&self) -> bool {
        matches!(self.sweep, 0 | 3)
    }

    /// Where the finalizers and other specials of its objects are; they lie outside of the heap.
    pub fn specials(&self, memory: &dyn Memory) -> Vec<Range<u64>> {
        let mut specials = Vec::new();
        let mut next = self.specials;
        // An object has a handful of them at most; a circle ends here too.
        while next != 0 && (specials.len() as u64) < u64::from(self.count) * 8 {
            specials.push(next..next.saturating_add(layout::SPECIAL));
            next = memory.u64(next).unwrap_or(0);
        }
        specials
    }

    /// The allocated objects.
    pub fn allocated(&self, memory: &dyn Memory) -> impl Iterator<Item = Object<'_>> {
        let bits = memory.bytes(self.alloc_bits, self.count.div_ceil(8) as usize).unwrap_or_default().into_owned();
        let set = move |i: u64| bits.get((i / 8) as usize).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
        let indices = (0..self.count.into()).filter(move |&i| i < self.free_index.into() || set(i));
        indices.map(|index| Object { base: self.base + index * self.elem_size, span: self, index })
    }
}

/// The offsets that DWARF states.
fn declared_layout(session: &Session) -> Option<SpanLayout> {
    let types = &session.types;
    types.program().dwarf.as_ref()?;
    let span = types.by_name("runtime.mspan").ok()??;
    let field = |name: &str| types.field(span, name).ok().flatten().map(|(offset, ty)| (offset as usize, ty));
    let at = |name: &str| field(name).map(|(offset, _)| offset).filter(|&offset| offset + 8 <= layout::SIZE);
    Some(SpanLayout {
        start: at("startAddr")?,
        pages: at("npages")?,
        free_index: at("freeindex")?,
        count: at("nelems")?,
        short: types.load(field("nelems")?.1).ok()?.size == 2,
        alloc_bits: at("allocBits")?,
        sweep: at("sweepgen")?,
        class: at("spanclass")?,
        state: at("state")?,
        elem_size: at("elemsize")?,
        specials: at("specials")?,
        large_type: at("largeType"),
    })
}

/// Address and length of `runtime.mheap_.allspans`, as DWARF states.
fn declared_list(session: &Session) -> Option<(u64, u64)> {
    let (heap, ty) = session.types.variable("runtime.mheap_").ok()??;
    let (offset, _) = session.types.field(ty, "allspans").ok()??;
    let at = heap.checked_add(offset)?;
    Some((session.memory.u64(at).ok()?, session.memory.u64(at.checked_add(8)?).ok()?))
}

/// The list of spans among the program's variables: the longest slice whose elements are spans.
fn search(session: &Session, layout: &SpanLayout) -> Option<(u64, u64)> {
    const BLOCK: u64 = 1 << 20;
    let memory = &*session.memory;
    let data = &session.types.module()?.data;
    let mut best: Option<(u64, u64)> = None;
    for range in [&data.noptrbss, &data.bss, &data.noptrdata, &data.data] {
        let end = range.end.min(range.start.saturating_add(MAX_DATA));
        let mut at = range.start.checked_next_multiple_of(8)?;
        while at < end {
            // A slice may lie across the edge of two blocks.
            let len = BLOCK.min(end - at);
            let words = memory.words(at, len as usize / 8).unwrap_or_default();
            at += if len == BLOCK { BLOCK - 16 } else { len };
            for slice in words.windows(3) {
                let &[list, len, cap] = slice else { continue };
                let plausible = len > best.map_or(0, |(_, len)| len) && len <= cap && cap < MAX_SPANS;
                if plausible && list != 0 && list % 8 == 0 && is_list(memory, list, len, layout) {
                    best = Some((list, len));
                }
            }
        }
    }
    best
}

fn is_list(memory: &dyn Memory, list: u64, len: u64, layout: &SpanLayout) -> bool {
    let step = (len / SAMPLES).max(1);
    let mut bases = Vec::new();
    let sampled = (0..len).step_by(step as usize).all(|at| {
        let address = memory.u64(list.wrapping_add(8 * at)).unwrap_or(0);
        let found = read(memory, address, layout);
        bases.extend(found.iter().filter(|(state, _)| *state == layout::IN_USE).map(|(_, span)| span.base));
        found.is_some()
    });
    sampled && !bases.is_empty()
}

/// A span and its state; `None` when this is none.
fn read(memory: &dyn Memory, address: u64, at: &SpanLayout) -> Option<(u8, Span)> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let bytes = memory.array::<{ layout::SIZE }>(address).ok()?;
    let word = |at: usize| bytes.get(at..at + 8).map(LE::read_u64);
    let short = |at: usize| bytes.get(at..at + 2).map(|bytes| LE::read_u16(bytes) as u64);
    let number = |offset: usize| if at.short { short(offset) } else { word(offset) };
    let (base, pages, elem_size) = (word(at.start)?, word(at.pages)?, word(at.elem_size)?);
    let (count, free_index) = (number(at.count)?, number(at.free_index)?);
    let (count, free_index) = (u32::try_from(count).ok()?, u32::try_from(free_index).ok()?);
    let (state, class) = (*bytes.get(at.state)?, *bytes.get(at.class)?);
    let size = pages.checked_mul(layout::PAGE)?;
    base.checked_add(size)?;
    let paged = base.is_multiple_of(layout::PAGE) && state <= layout::LAST_STATE;
    let used = base != 0 && elem_size > 0 && count > 0 && elem_size.checked_mul(count.into())? <= size;
    let sound = paged && (state != layout::IN_USE || (used && free_index <= count));
    sound.then(|| {
        let span = Span {
            base,
            elem_size,
            count,
            no_scan: class & 1 == 1,
            large: class >> 1 == 0,
            large_type: at.large_type.filter(|_| class >> 1 == 0).and_then(word).unwrap_or(0),
            free_index,
            sweep: bytes.get(at.sweep..at.sweep + 4).map_or(u32::MAX, LE::read_u32),
            alloc_bits: word(at.alloc_bits).unwrap_or(0),
            specials: word(at.specials).unwrap_or(0),
            before: 0,
        };
        (state, span)
    })
}
