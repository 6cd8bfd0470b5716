//! Names, frames and stacks, each stored once: a dump of 10^5 goroutines repeats a few hundred of them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

/// An interned text; read it with [`Symbols::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(u32);

/// An interned [`Frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(u32);

/// An interned list of frames, innermost call first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

/// One call site. The arguments of one call are with the goroutine, not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// As printed: `main.(*T).M`, `main.F[...]`, `panic`; `0x47e2bd` where the source had only an address, and
    /// `non-Go function at pc=0x47e2bd` where the runtime says so: what has no name is told apart by its address.
    pub function: Text,
    /// Empty where the source had none.
    pub file: Text,
    /// 0 where the source had none.
    pub line: u32,
    /// First line of the function; 0 unless the source is a debug=0 profile of Go 1.20 or later.
    pub start_line: u32,
    /// Bytes from the function's entry to the return address.
    pub offset: Option<u64>,
    /// Program counter.
    pub pc: Option<u64>,
}

impl Frame {
    /// The call at an address of which nothing more is known.
    pub(super) fn at(pc: u64, symbols: &mut Symbols) -> Frame {
        let function = symbols.intern(format!("{pc:#x}").as_bytes());
        Frame { function, file: symbols.intern(b""), line: 0, start_line: 0, offset: None, pc: Some(pc) }
    }

    /// A call of a function that is not Go's and has no name.
    pub(super) fn foreign(pc: u64, symbols: &mut Symbols) -> Frame {
        let function = symbols.intern(format!("non-Go function at pc={pc:#x}").as_bytes());
        Frame { function, ..Frame::at(pc, symbols) }
    }
}

/// The tables behind [`Text`], [`FrameId`] and [`StackId`].
#[derive(Debug, Default)]
pub struct Symbols {
    texts: Interner<u8>,
    frames: Vec<Frame>,
    frame_ids: HashMap<Frame, FrameId>,
    stacks: Interner<FrameId>,
}

impl Symbols {
    /// The id of `bytes`; invalid UTF-8 becomes U+FFFD.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> Text {
        Text(match self.texts.get(bytes) {
            Some(id) => id,
            None => self.texts.insert(String::from_utf8_lossy(bytes).as_bytes()),
        })
    }

    /// The ids of label keys and values.
    pub(crate) fn intern_pairs(&mut self, pairs: &[(String, String)]) -> Vec<(Text, Text)> {
        pairs.iter().map(|(key, value)| (self.intern(key.as_bytes()), self.intern(value.as_bytes()))).collect()
    }

    /// The id of `frame`.
    pub(crate) fn frame_id(&mut self, frame: Frame) -> FrameId {
        let next = FrameId(self.frames.len() as u32);
        let id = *self.frame_ids.entry(frame).or_insert(next);
        if id == next {
            self.frames.push(frame);
        }
        id
    }

    /// The id of a stack, innermost call first.
    pub(crate) fn stack_id(&mut self, frames: &[FrameId]) -> StackId {
        StackId(self.stacks.insert(frames))
    }

    /// The text behind an id of this table.
    pub fn text(&self, text: Text) -> &str {
        std::str::from_utf8(self.texts.slice(text.0)).unwrap_or_default()
    }

    /// The frame behind an id of this table.
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.0 as usize]
    }

    /// The frames of a stack, innermost call first.
    pub fn stack(&self, id: StackId) -> &[FrameId] {
        self.stacks.slice(id.0)
    }

    /// The function's name of a frame.
    pub fn function(&self, id: FrameId) -> &str {
        self.text(self.frame(id).function)
    }
}

/// Slices stored once, in one arena, under dense ids.
#[derive(Debug)]
pub(super) struct Interner<T> {
    arena: Vec<T>,
    ends: Vec<usize>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { arena: Vec::new(), ends: Vec::new(), ids: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Interner<T> {
    pub(super) fn get(&self, item: &[T]) -> Option<u32> {
        self.ids.find(self.hasher.hash_one(item), |&id| self.slice(id) == item).copied()
    }

    pub(super) fn insert(&mut self, item: &[T]) -> u32 {
        if let Some(id) = self.get(item) {
            return id;
        }
        let id = self.ends.len() as u32;
        self.arena.extend_from_slice(item);
        self.ends.push(self.arena.len());
        let Interner { arena, ends, ids, hasher } = self;
        ids.insert_unique(hasher.hash_one(item), id, |&id| hasher.hash_one(slice_of(arena, ends, id)));
        id
    }

    pub(super) fn slice(&self, id: u32) -> &[T] {
        slice_of(&self.arena, &self.ends, id)
    }
}

fn slice_of<'a, T>(arena: &'a [T], ends: &[usize], id: u32) -> &'a [T] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &arena[start..ends[id]]
}
