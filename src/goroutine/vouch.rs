//! Whether memory that a word of a parked goroutine leads to is still what it was when the goroutine used it. A word that
//! the goroutine will not use again keeps nothing alive: what it led to may have been freed and given to something else.

use super::live::Live;
use super::{Goroutine, Runtime};
use crate::binary::rtype::is_direct;
use crate::error::Watch;
use crate::heap::{Heap, Object};
use crate::layout::goroutine::WAITING;
use crate::map::keys::Keys;
use crate::session::Session;
use crate::types::{GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::ops::Range;

/// How sure it is that memory was not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vouched {
    /// It may have been.
    No,
    /// No collection has seen the goroutine wait, so nothing that it had when it parked was freed since; one may have run
    /// between the use and the wait.
    Inferred,
    /// It is part of the program, was never swept, is younger than every collection, or something that the goroutine still
    /// uses leads there.
    Proven,
}

impl Vouched {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Vouched::No => "none",
            Vouched::Inferred => "inferred",
            Vouched::Proven => "proven",
        }
    }
}

/// Bytes of an object that are searched for pointers, and objects.
const MAX_OBJECT: u64 = 1 << 12;
const MAX_OBJECTS: usize = 256;
/// Values nested in a key.
const MAX_NEST: usize = 16;

/// Vouches for one goroutine's words after the other.
pub struct Vouching<'s> {
    session: &'s Session,
    /// `None` where the runtime's list of spans was not found: then nothing in the heap is vouched for.
    heap: Option<Heap>,
    /// Where a `runtime.g` says that a collection has scanned it, as far as that can be told now.
    scanned: Option<u64>,
}

/// What a goroutine still uses.
struct Uses {
    goroutine: u64,
    parts: Vec<Range<u64>>,
    words: Vec<u64>,
}

impl<'s> Vouching<'s> {
    pub fn new(session: &'s Session, watch: &dyn Watch) -> Result<Vouching<'s>> {
        match Heap::of(session, watch) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            heap => Ok(Vouching { session, heap: heap.ok(), scanned: scanned_at(session) }),
        }
    }

    /// Vouches for all that the key of type `ty` leads to, as far as equality looks; with the first address that is least
    /// sure. What is behind an address that nothing vouches for is not read.
    pub fn key(&self, goroutine: &Goroutine, ty: TypeId, key: &[u8]) -> (Vouched, u64) {
        let mut least = (Vouched::Proven, 0);
        let mut uses = None;
        let Ok(ty) = self.session.types.load(ty) else { return (Vouched::No, 0) };
        self.value(goroutine, &ty, key, &mut uses, &mut least, MAX_NEST);
        least
    }

    /// Vouches for what a word leads to.
    pub fn word(&self, goroutine: &Goroutine, word: u64) -> Vouched {
        self.address(goroutine, word, &mut None)
    }

    fn value(
        &self,
        goroutine: &Goroutine,
        ty: &GoType,
        value: &[u8],
        uses: &mut Option<Uses>,
        least: &mut (Vouched, u64),
        nest: usize,
    ) {
        let word =
            |at: usize| value.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
        let Some(nest) = nest.checked_sub(1) else {
            *least = (Vouched::No, 0);
            return;
        };
        let mut note = |address: u64| {
            let vouched = self.address(goroutine, address, uses);
            if vouched < least.0 {
                *least = (vouched, address);
            }
        };
        match (&ty.shape, ty.kind) {
            (_, Kind::String) if word(8) > 0 => note(word(0)),
            (Shape::Pointer(_) | Shape::Chan(_), _) | (_, Kind::UnsafePointer) if word(0) != 0 => note(word(0)),
            (Shape::Interface { methods }, _) if word(0) != 0 => {
                let memory = &*self.session.memory;
                let descriptor = crate::binary::rtype::of_interface(memory, *methods, word(0)).unwrap_or(0);
                if !is_direct(memory, descriptor).unwrap_or(false) {
                    note(word(8));
                }
                let keys = Keys::new(memory, &self.session.types);
                if least.0 != Vouched::No {
                    if let Ok(Some((dynamic, value))) = keys.dynamic_of(ty, value) {
                        self.value(goroutine, &dynamic, &value, uses, least, nest);
                    }
                }
            }
            (Shape::Struct(fields), _) => {
                for field in fields.iter().filter(|field| &*field.name != "_") {
                    let Ok(inner) = self.session.types.load(field.ty) else { continue };
                    let part = value.get(field.offset as usize..).unwrap_or_default();
                    self.value(goroutine, &inner, part, uses, least, nest);
                }
            }
            (Shape::Array { elem, .. }, _) => {
                let Ok(inner) = self.session.types.load(*elem) else { return };
                let whole = value.get(..ty.size as usize).unwrap_or_default();
                for part in whole.chunks_exact((inner.size as usize).max(1)) {
                    self.value(goroutine, &inner, part, uses, least, nest);
                }
            }
            _ => {}
        }
    }

    fn address(&self, goroutine: &Goroutine, address: u64, uses: &mut Option<Uses>) -> Vouched {
        // Code, constants and variables of the program lie in this order, and stay.
        let data = self.session.types.modules().iter().map(|module| &module.data);
        let mut images = data.map(|data| data.text.start..data.bss.end.max(data.noptrbss.end));
        let object = self.heap.as_ref().and_then(|heap| heap.object(address));
        if object.is_none() && images.any(|image| image.contains(&address)) {
            return Vouched::Proven;
        }
        if object.is_some_and(|object| object.span.was_never_swept()) {
            return Vouched::Proven;
        }
        let uses = match uses {
            Some(uses) if uses.goroutine == goroutine.g => uses,
            _ => uses.insert(self.uses(goroutine)),
        };
        let used = match &object {
            Some(object) => self.is_used(object, uses),
            None => uses.parts.iter().any(|part| part.contains(&address)),
        };
        let on_stack = || goroutine.stack.frames.iter().any(|frame| (frame.sp..frame.end).contains(&address));
        // markroot sets waitsince of each goroutine that it finds waiting, and execute clears it (src/runtime/mgcmark.go and
        // proc.go, go1.19 to 1.27). What a goroutine has when it parks survives a collection that scanned it before.
        let unseen = goroutine.status == WAITING && goroutine.seen_waiting_since.is_none();
        match (used || unseen && self.is_young(goroutine), unseen && (object.is_some() || on_stack())) {
            (true, _) => Vouched::Proven,
            (_, true) => Vouched::Inferred,
            _ => Vouched::No,
        }
    }

    /// Whether no collection has scanned a goroutine, so that all ended before it was made: what one of then left alive,
    /// nothing frees before the next.
    fn is_young(&self, goroutine: &Goroutine) -> bool {
        let scanned = self.scanned.and_then(|at| self.session.memory.u8(goroutine.g.checked_add(at)?).ok());
        scanned == Some(0)
    }

    fn uses(&self, goroutine: &Goroutine) -> Uses {
        let parts = Live::of(self.session, std::iter::once(goroutine)).parts(goroutine);
        let memory = &*self.session.memory;
        let words = |part: &Range<u64>| memory.words(part.start, (part.end.saturating_sub(part.start) / 8) as usize);
        let words = parts.iter().flat_map(|part| words(part).unwrap_or_default()).collect();
        Uses { goroutine: goroutine.g, parts, words }
    }

    /// Whether a word that the goroutine still uses leads to an object, or to an object that does.
    fn is_used(&self, object: &Object<'_>, uses: &Uses) -> bool {
        let Some(heap) = &self.heap else { return false };
        let leads = |word: u64| heap.object(word).is_some_and(|found| found.base == object.base);
        let memory = &*self.session.memory;
        let owners = || uses.words.iter().filter_map(|&word| heap.object(word)).filter(|owner| !owner.span.no_scan);
        let holds = |owner: Object<'_>| {
            let count = owner.span.elem_size.min(MAX_OBJECT) as usize / 8;
            memory.words(owner.base, count).unwrap_or_default().iter().any(|&word| leads(word))
        };
        uses.words.iter().any(|&word| leads(word)) || owners().take(MAX_OBJECTS).any(holds)
    }
}

/// Where a `runtime.g` has `gcscandone`; `None` while a collection marks or is about to, for which the flag is taken back
/// everywhere (`gcResetMarkState`, src/runtime/mgc.go go1.19 to 1.27), and without DWARF.
fn scanned_at(session: &Session) -> Option<u64> {
    const GC_OFF: u32 = 0;
    let memory = &*session.memory;
    let at = session.types.offset("runtime.g", "gcscandone").ok()??;
    let (phase, _) = session.types.variable("runtime.gcphase").ok()??;
    // The first goroutine, which every collection scans.
    let first = memory.u64(Runtime::of(session).ok()?.allgs.0).ok()?;
    let is_first_scanned = memory.u8(first.checked_add(at)?).ok()? == 1;
    (is_first_scanned && memory.u32(phase).ok()? == GC_OFF).then_some(at)
}
