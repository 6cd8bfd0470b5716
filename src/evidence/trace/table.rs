//! Tables by id: a generation's strings and stacks, and what is kept of them after it.

use super::error::TraceError;
use super::event::StackId;
use super::wire::{tag, Cursor};
use rustc_hash::FxHashMap;
use std::num::NonZeroU32;

/// Most frames a stack may have (`tracev2.MaxFramesPerStack`).
const MAX_FRAMES: u64 = 128;
/// Longest string, bytes (`tracev2.MaxEventTrailerDataSize`).
const MAX_STRING: u64 = 1 << 10;

/// Values by id, an array where ids are dense as the runtime's are, a hash map where they are not.
#[derive(Debug)]
pub(super) struct IdTable<T> {
    dense: Vec<Option<T>>,
    sparse: FxHashMap<u64, T>,
    len: usize,
}

impl<T: Copy> IdTable<T> {
    pub fn new() -> IdTable<T> {
        IdTable { dense: Vec::new(), sparse: FxHashMap::default(), len: 0 }
    }

    #[inline]
    pub fn get(&self, id: u64) -> Option<T> {
        match usize::try_from(id).ok().and_then(|at| self.dense.get(at)) {
            Some(Some(value)) => Some(*value),
            _ if self.sparse.is_empty() => None,
            _ => self.sparse.get(&id).copied(),
        }
    }

    /// Adds `value`; false when `id` is taken.
    pub fn insert(&mut self, id: u64, value: T) -> bool {
        if self.get(id).is_some() {
            return false;
        }
        self.len += 1;
        // The array stays within four times what was inserted: a hostile id cannot make it large.
        let room = 64 + 4 * self.len;
        match usize::try_from(id) {
            Ok(at) if at < room => {
                if at >= self.dense.len() {
                    self.dense.resize(at + 1, None);
                }
                if let Some(slot) = self.dense.get_mut(at) {
                    *slot = Some(value);
                }
            }
            _ => {
                self.sparse.insert(id, value);
            }
        }
        true
    }
}

/// One frame as a generation's tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The return address, or the very spot for the innermost frame.
    pub pc: u64,
    pub function: &'a [u8],
    pub file: &'a [u8],
    pub line: u64,
}

#[derive(Debug, Clone, Copy)]
struct RawFrame {
    pc: u64,
    function: u64,
    file: u64,
    line: u64,
}

/// The strings and stacks of one generation, each by its place: dense where the file's ids need not be.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    strings: IdTable<NonZeroU32>,
    /// By place; the first is the empty one.
    texts: Vec<&'a [u8]>,
    stacks: IdTable<NonZeroU32>,
    /// By place, which starts at 1: where its frames start in `frame_of`, and how many they are.
    spans: Vec<(u32, u8)>,
    frame_of: Vec<u32>,
    /// One frame a program counter, the first told, as Go's own reader has it.
    frames: Vec<RawFrame>,
    by_pc: FxHashMap<u64, u32>,
}

fn next_place(len: usize) -> Option<NonZeroU32> {
    u32::try_from(len).ok().and_then(NonZeroU32::new)
}

impl<'a> Tables<'a> {
    pub fn new() -> Tables<'a> {
        Tables {
            strings: IdTable::new(),
            texts: vec![&[]],
            stacks: IdTable::new(),
            // Nobody's, and the empty stack's.
            spans: vec![(0, 0), (0, 0)],
            frame_of: Vec::new(),
            frames: Vec::new(),
            by_pc: FxHashMap::default(),
        }
    }

    /// Reads a batch of strings: `tag, id, length, bytes` each.
    pub fn add_strings(&mut self, mut cursor: Cursor<'a>) -> Result<(), TraceError> {
        cursor.byte();
        while !cursor.is_empty() {
            if cursor.byte() != Some(tag::STRING) {
                return Err(cursor.damaged("a string was expected"));
            }
            let cut = cursor.damaged("a string is cut off");
            let id = cursor.number().ok_or(cut.clone())?;
            let len = cursor.number().ok_or(cut.clone())?;
            if len > MAX_STRING {
                return Err(cursor.damaged("a string is longer than 1 KiB"));
            }
            let text = cursor.take(len).ok_or(cut)?;
            let place = next_place(self.texts.len()).ok_or(cursor.damaged("too many strings"))?;
            if id == 0 || !self.strings.insert(id, place) {
                return Err(cursor.damaged("two strings have the same id"));
            }
            self.texts.push(text);
        }
        Ok(())
    }

    /// Reads a batch of stacks: `tag, id, count, count × (pc, function, file, line)` each.
    pub fn add_stacks(&mut self, mut cursor: Cursor<'a>) -> Result<(), TraceError> {
        cursor.byte();
        while !cursor.is_empty() {
            if cursor.byte() != Some(tag::STACK) {
                return Err(cursor.damaged("a stack was expected"));
            }
            let cut = cursor.damaged("a stack is cut off");
            let id = cursor.number().ok_or(cut.clone())?;
            let count = cursor.number().ok_or(cut.clone())?;
            if count > MAX_FRAMES {
                return Err(cursor.damaged("a stack has more than 128 frames"));
            }
            let start = u32::try_from(self.frame_of.len()).map_err(|_| cursor.damaged("too many stack frames"))?;
            for _ in 0..count {
                let mut number = || cursor.number().ok_or(cut.clone());
                let frame = RawFrame { pc: number()?, function: number()?, file: number()?, line: number()? };
                let next = self.frames.len() as u32;
                let at = *self.by_pc.entry(frame.pc).or_insert(next);
                if at == next {
                    self.frames.push(frame);
                }
                self.frame_of.push(at);
            }
            let place = next_place(self.spans.len()).ok_or(cursor.damaged("too many stacks"))?;
            if id == 0 || !self.stacks.insert(id, place) {
                return Err(cursor.damaged("two stacks have the same id"));
            }
            self.spans.push((start, count as u8));
        }
        Ok(())
    }

    /// Whether every frame's strings are there; strings may come after the stacks that use them.
    pub fn frames_have_strings(&self) -> bool {
        self.frames.iter().all(|f| self.string(f.function).is_some() && self.string(f.file).is_some())
    }

    /// A string; id 0 is the empty one.
    pub fn string(&self, id: u64) -> Option<&'a [u8]> {
        self.place_of(id).map(|place| self.text(place))
    }

    /// The place of a string.
    #[inline]
    pub fn place_of(&self, id: u64) -> Option<u32> {
        match id {
            0 => Some(0),
            _ => self.strings.get(id).map(NonZeroU32::get),
        }
    }

    /// The string at a place.
    #[inline]
    pub fn text(&self, place: u32) -> &'a [u8] {
        self.texts.get(place as usize).copied().unwrap_or_default()
    }

    /// The stack of an id; id 0 is the empty one.
    #[inline]
    pub fn stack(&self, id: u64) -> Option<StackId> {
        match id {
            0 => Some(StackId::EMPTY),
            _ => self.stacks.get(id).map(StackId),
        }
    }

    /// A stack's frames, innermost first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame<'a>> + '_ {
        let (start, count) = self.spans.get(stack.place()).copied().unwrap_or_default();
        let start = start as usize;
        let of = self.frame_of.get(start..start + usize::from(count)).unwrap_or_default();
        of.iter().filter_map(|at| self.frames.get(*at as usize)).map(|f| Frame {
            pc: f.pc,
            function: self.string(f.function).unwrap_or_default(),
            file: self.string(f.file).unwrap_or_default(),
            line: f.line,
        })
    }
}
