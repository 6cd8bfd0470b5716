//! What outlives a generation: texts, frames and stacks, each kept once.

use super::event::StackId;
use super::events::Around;
use super::model::{KeptFrame, StackRef, TextId};
use super::table::IdTable;
use rustc_hash::FxHashMap;

/// The kept tables, and where this generation's stacks are in them.
pub(super) struct Keep {
    pub texts: Vec<Box<str>>,
    pub frames: Vec<KeptFrame>,
    pub stacks: Vec<Box<[u32]>>,
    text_of: FxHashMap<Box<[u8]>, TextId>,
    frame_of: FxHashMap<KeptFrame, u32>,
    stack_of: FxHashMap<Box<[u32]>, StackRef>,
    /// Place, length and id of texts asked for lately.
    recent: [(usize, usize, TextId); 64],
    /// By the generation's id.
    kept: IdTable<StackRef>,
    map_functions: IdTable<Option<TextId>>,
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
            recent: [(0, 0, TextId(0)); 64],
            kept: IdTable::new(),
            map_functions: IdTable::new(),
        }
    }

    /// Stack ids mean something else from here on.
    pub fn new_generation(&mut self) {
        self.kept = IdTable::new();
        self.map_functions = IdTable::new();
    }

    /// The id of a text that stays where it is in the file: few places hold the reasons of all waits.
    #[inline]
    pub fn text_at(&mut self, bytes: &[u8]) -> TextId {
        let place = bytes.as_ptr() as usize;
        let slot = (place ^ (place >> 6)) % self.recent.len();
        match self.recent.get(slot) {
            Some(&(known, len, id)) if (known, len) == (place, bytes.len()) => id,
            _ => {
                let id = self.text(bytes);
                if let Some(recent) = self.recent.get_mut(slot) {
                    *recent = (place, bytes.len(), id);
                }
                id
            }
        }
    }

    pub fn text(&mut self, bytes: &[u8]) -> TextId {
        if let Some(id) = self.text_of.get(bytes) {
            return *id;
        }
        let id = TextId(self.texts.len() as u32);
        self.texts.push(String::from_utf8_lossy(bytes).into());
        self.text_of.insert(bytes.into(), id);
        id
    }

    /// Keeps a stack of the current generation.
    pub fn stack(&mut self, around: &Around, stack: StackId) -> StackRef {
        if let Some(kept) = self.kept.get(stack.0) {
            return kept;
        }
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
                let kept = StackRef(self.stacks.len() as u32);
                let frames: Box<[u32]> = frames.into();
                self.stacks.push(frames.clone());
                self.stack_of.insert(frames, kept);
                kept
            }
        };
        self.kept.insert(stack.0, kept);
        kept
    }

    /// The function of a kept stack's outermost frame; the runtime writes a nameless one where a
    /// preempted goroutine's stack cannot be walked.
    pub fn outermost(&self, stack: StackRef) -> Option<TextId> {
        let frame = *self.stacks.get(stack.0 as usize)?.last()?;
        let function = self.frames.get(frame as usize)?.function;
        self.texts.get(function.0 as usize).filter(|name| !name.is_empty()).map(|_| function)
    }

    /// The map operation a stack of the current generation is in: the innermost frame that is one.
    pub fn map_function(&mut self, around: &Around, stack: StackId) -> Option<TextId> {
        if let Some(known) = self.map_functions.get(stack.0) {
            return known;
        }
        let name = around.frames(stack).map(|frame| frame.function).find(|name| is_map_function(name));
        let found = name.map(|name| self.text(name));
        self.map_functions.insert(stack.0, found);
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
