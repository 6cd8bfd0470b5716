//! What a traversal has been to: two bytes for each object of the heap that can hold pointers, zeroed memory that
//! costs nothing before it is used. A set holds only what is not an object: variables, and pointers into objects.

use crate::heap::{Heap, Object};
use crate::memory;
use rustc_hash::FxHashSet;

/// As what something is visited: numbers of types, and [`Tag::UNTYPED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u32);

impl Tag {
    /// As words of unknown type.
    pub const UNTYPED: Tag = Tag(1);

    /// As one value of a plan.
    pub fn value(plan: u32) -> Tag {
        Tag(2 + 2 * plan)
    }

    /// As an array of values of a plan.
    pub fn array(plan: u32) -> Tag {
        Tag(3 + 2 * plan)
    }

    /// Whether a visit as an array of the same values is this and more.
    fn as_array(self) -> Tag {
        Tag(self.0 | 1)
    }
}

/// Places outside of objects that are remembered at most.
const MAX_OTHERS: usize = 1 << 23;

/// See the module.
pub struct Visited {
    tags: Vec<u16>,
    others: FxHashSet<(u64, Tag)>,
    /// Whether more places were met than are remembered.
    pub full: bool,
}

/// Where an address is, for a visit.
#[derive(Debug, Clone, Copy)]
pub enum Spot {
    /// At the start of an object's value.
    Start(u32),
    /// Inside an object's value, so many bytes from its start.
    Inside(u32, u32),
    /// In an object without pointers.
    Barren,
    /// Not in the heap, or in an object that has no number.
    Outside,
}

impl Visited {
    /// Nothing visited.
    pub fn new(heap: Option<&Heap>) -> Visited {
        let objects = heap.map_or(0, |heap| heap.objects());
        Visited { tags: vec![0; objects as usize], others: FxHashSet::default(), full: false }
    }

    /// Where an address is.
    pub fn spot(heap: Option<&Heap>, address: u64) -> Spot {
        let Some((heap, object)) = heap.and_then(|heap| Some((heap, heap.object(address)?))) else {
            return Spot::Outside;
        };
        if object.span.no_scan {
            return Spot::Barren;
        }
        let inside = address.wrapping_sub(object.base.wrapping_add(heap.type_word(object.span)));
        match (u32::try_from(object.number()), u32::try_from(inside)) {
            (Ok(number), Ok(0)) => Spot::Start(number),
            (Ok(number), Ok(inside)) => Spot::Inside(number, inside),
            _ => Spot::Outside,
        }
    }

    /// Asks the processor for what [`Visited::claim`] will look at.
    pub fn ask(&self, spot: Spot) {
        if let Spot::Start(number) = spot {
            self.tags.get(number as usize).map(memory::ask);
        }
    }

    fn tag(&self, number: u32) -> u32 {
        self.tags.get(number as usize).copied().unwrap_or(0).into()
    }

    /// Whether a visit of `address` as `tag`, of values of `size` bytes, has nothing new to see.
    pub fn has(&self, spot: Spot, address: u64, tag: Tag, size: u64) -> bool {
        match spot {
            Spot::Barren => true,
            Spot::Start(number) => {
                let known = self.tag(number);
                known != 0
                    && (known == tag.0
                        || known == tag.as_array().0
                        || tag == Tag::UNTYPED
                        || (known != Tag::UNTYPED.0 && self.others.contains(&(address, tag))))
            }
            Spot::Inside(number, inside) => {
                let whole = self.tag(number) == tag.as_array().0 && size > 0 && u64::from(inside) % size == 0;
                whole || self.others.contains(&(address, tag))
            }
            Spot::Outside => self.others.contains(&(address, tag)),
        }
    }

    /// Notes a visit; returns whether it is one to something new.
    pub fn claim(&mut self, spot: Spot, address: u64, tag: Tag, size: u64) -> bool {
        if self.has(spot, address, tag, size) {
            return false;
        }
        if let Spot::Start(number) = spot {
            if let Some(known) = self.tags.get_mut(number as usize).filter(|known| **known <= Tag::UNTYPED.0 as u16) {
                if let Ok(small) = u16::try_from(tag.0) {
                    *known = small;
                    return true;
                }
                *known = Tag::UNTYPED.0 as u16;
            }
        }
        if self.others.len() >= MAX_OTHERS {
            self.full = true;
            return false;
        }
        self.others.insert((address, tag))
    }

    /// Notes a visit of an object as untyped words; returns whether it was never visited.
    pub fn claim_untyped(&mut self, object: &Object<'_>) -> bool {
        let tag = self.tags.get_mut(object.number() as usize).filter(|tag| **tag == 0);
        tag.map(|tag| *tag = Tag::UNTYPED.0 as u16).is_some()
    }

    /// Whether an object was visited as anything.
    pub fn has_object(&self, object: &Object<'_>) -> bool {
        self.tags.get(object.number() as usize).is_some_and(|&tag| tag != 0)
    }

    /// How many objects can hold pointers.
    pub fn objects(&self) -> u64 {
        self.tags.len() as u64
    }
}
