//! What outlives a generation: texts, frames and stacks, each kept once.

use super::event::StackId;
use super::events::Around;
use super::model::{KeptFrame, StackRef, TextId};
use rustc_hash::FxHashMap;

/// The kept tables, and where this generation's stacks are in them.
pub(super) struct Keep {
    pub texts: Vec<Box<str>>,
    pub frames: Vec<KeptFrame>,
    pub stacks: Vec<Box<[u32]>>,
    text_of: FxHashMap<Box<[u8]>, TextId>,
    frame_of: FxHashMap<KeptFrame, u32>,
    stack_of: FxHashMap<Box<[u32]>, StackRef>,
    /// By the place in the generation.
    text_at: Vec<Option<TextId>>,
    stack_at: Vec<Option<StackRef>>,
    map_functions: FxHashMap<StackId, Option<TextId>>,
}

/// Sets the entry at `place`, which the list is made long enough for.
fn set<T: Copy>(list: &mut Vec<Option<T>>, place: usize, value: T) {
    if place >= list.len() {
        list.resize(place + 1, None);
    }
    if let Some(entry) = list.get_mut(place) {
        *entry = Some(value);
    }
}

impl Keep {
    pub fn new() -> Keep {
        Keep {
            texts: Vec::new(),
            frames: Vec::new(),
            stacks: Vec::new(),
            text_of: FxHashMap::default(),
            frame_of: FxHashMap::default(),
            stack_of: FxHashMap::default(),
            text_at: Vec::new(),
            stack_at: Vec::new(),
            map_functions: FxHashMap::default(),
        }
    }

    /// Places of texts and stacks mean something else from here on.
    pub fn new_generation(&mut self) {
        self.text_at.clear();
        self.stack_at.clear();
        self.map_functions.clear();
    }

    /// The text at a place of the current generation, None for the empty one.
    #[inline]
    pub fn text_at(&mut self, around: &Around, place: u32) -> Option<TextId> {
        match self.text_at.get(place as usize) {
            _ if place == 0 => None,
            Some(known @ Some(_)) => *known,
            _ => {
                let text = self.text(around.text(place));
                set(&mut self.text_at, place as usize, text);
                Some(text)
            }
        }
    }

    pub fn text(&mut self, bytes: &[u8]) -> TextId {
        if let Some(id) = self.text_of.get(bytes) {
            return *id;
        }
        let id = TextId::new(self.texts.len());
        self.texts.push(String::from_utf8_lossy(bytes).into());
        self.text_of.insert(bytes.into(), id);
        id
    }

    /// Keeps a stack of the current generation, but the empty one.
    #[inline]
    pub fn stack_at(&mut self, around: &Around, stack: Option<StackId>) -> Option<StackRef> {
        let stack = stack.filter(|stack| *stack != StackId::EMPTY)?;
        match self.stack_at.get(stack.place()) {
            Some(known @ Some(_)) => *known,
            _ => Some(self.stack(around, stack)),
        }
    }

    fn stack(&mut self, around: &Around, stack: StackId) -> StackRef {
        let mut frames = Vec::new();
        for frame in around.frames(stack) {
            let (function, file) = (self.text(frame.function), self.text(frame.file));
            let frame = KeptFrame { pc: frame.pc, function, file, line: frame.line };
            let next = self.frames.len() as u32;
            let at = *self.frame_of.entry(frame).or_insert(next);
            if at == next {
                self.frames.push(frame);
            }
            frames.push(at);
        }
        let kept = match self.stack_of.get(frames.as_slice()) {
            Some(kept) => *kept,
            None => {
                let kept = StackRef::new(self.stacks.len());
                let frames: Box<[u32]> = frames.into();
                self.stacks.push(frames.clone());
                self.stack_of.insert(frames, kept);
                kept
            }
        };
        set(&mut self.stack_at, stack.place(), kept);
        kept
    }

    /// The function of a kept stack's outermost frame; the runtime writes a nameless one where a
    /// preempted goroutine's stack cannot be walked.
    pub fn outermost(&self, stack: StackRef) -> Option<TextId> {
        let frame = *self.stacks.get(stack.place())?.last()?;
        let function = self.frames.get(frame as usize)?.function;
        self.texts.get(function.place()).filter(|name| !name.is_empty()).map(|_| function)
    }

    /// The map operation a stack of the current generation is in: the innermost frame that is one.
    pub fn map_function(&mut self, around: &Around, stack: StackId) -> Option<TextId> {
        if let Some(known) = self.map_functions.get(&stack) {
            return *known;
        }
        let name = around.frames(stack).map(|frame| frame.function).find(|name| is_map_function(name));
        let found = name.map(|name| self.text(name));
        self.map_functions.insert(stack, found);
        found
    }
}

/// Whether the function is a map operation of the runtime, or of `sync.Map`.
///
/// Go to 1.23: `runtime.map*`, `runtime.evacuate*`, `runtime.hashGrow`; from 1.24 also
/// `internal/runtime/maps`, to which `runtime.mapaccess1` and its kin are linked.
fn is_map_function(name: &[u8]) -> bool {
    const RUNTIME: [&[u8]; 9] = [
        b"mapaccess",
        b"mapassign",
        b"mapdelete",
        b"mapiter",
        b"mapclear",
        b"mapclone",
        b"evacuate",
        b"growWork",
        b"hashGrow",
    ];
    if let Some(rest) = name.strip_prefix(b"runtime.") {
        return RUNTIME.iter().any(|prefix| rest.starts_with(prefix));
    }
    const OTHERS: [&[u8]; 3] = [b"internal/runtime/maps.", b"sync.(*Map).", b"internal/sync.(*HashTrieMap["];
    OTHERS.iter().any(|prefix| name.starts_with(prefix))
}
