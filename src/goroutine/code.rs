//! What the runtime's own tables (pclntab) say of a PC: function, file and line, inlined calls, frame size. Every PC is
//! looked up once.

use crate::binary::moduledata::Module;
use crate::binary::pclntab::Function;
use crate::layout::goroutine::{SP_WRITE, TOP_FRAME};
use crate::memory::Memory;
use crate::session::Session;
use crate::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::sync::Arc;

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    /// Function name, as the runtime prints it.
    pub func: Arc<str>,
    /// File, as the compiler recorded it.
    pub file: Arc<str>,
    /// Line; 0 when unknown.
    pub line: u32,
    /// Whether this call was inlined into the next line's function.
    pub inlined: bool,
}

/// All that is said of one PC.
#[derive(Debug, PartialEq, Eq)]
pub struct PcInfo {
    /// Start of the function.
    pub entry: u64,
    /// The innermost inlined call first, the function itself last; never empty.
    pub lines: Vec<Line>,
    /// Distance from SP to the frame's end (without the return address of amd64); `None` when not said.
    pub sp_delta: Option<u64>,
    /// Whether nothing called this function.
    pub top_frame: bool,
    /// Whether the function sets SP to what the tables do not say.
    pub writes_sp: bool,
}

impl PcInfo {
    /// Name of the function whose frame this is.
    pub fn func(&self) -> &str {
        self.lines.last().map_or("", |line| &line.func)
    }
}

/// The tables of all modules, and what was looked up so far.
pub struct Code<'a> {
    memory: &'a dyn Memory,
    modules: &'a [Module],
    texts: FxHashSet<Arc<str>>,
    known: FxHashMap<(u64, bool), Option<Arc<PcInfo>>>,
}

/// PCs remembered; garbage must not fill our memory.
const MAX_KNOWN: usize = 1 << 20;

impl<'a> Code<'a> {
    /// The tables of a session's program and its plugins.
    pub fn of(session: &'a Session) -> Result<Code<'a>> {
        let modules = session.types.descriptors()?.modules;
        Ok(Code { memory: &*session.memory, modules, texts: FxHashSet::default(), known: FxHashMap::default() })
    }

    /// What is known of `pc`; of the call before it when `returned` (it is a return address).
    ///
    /// `None` when no Go function is there.
    pub fn at(&mut self, pc: u64, returned: bool) -> Option<Arc<PcInfo>> {
        if let Some(known) = self.known.get(&(pc, returned)) {
            return known.clone();
        }
        let found = self.find(pc, returned).map(Arc::new);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert((pc, returned), found.clone());
        found
    }

    fn find(&mut self, pc: u64, returned: bool) -> Option<PcInfo> {
        let module = self.modules.iter().find(|module| module.data.has_code(pc))?;
        let function = module.functions.function_at(pc)?;
        let called = if returned && pc > function.entry { pc - 1 } else { pc };
        Some(PcInfo {
            entry: function.entry,
            lines: self.lines(module, &function, called),
            sp_delta: function.stack_delta(pc).and_then(|delta| u64::try_from(delta).ok()),
            top_frame: function.flags() & TOP_FRAME != 0,
            writes_sp: function.flags() & SP_WRITE != 0,
        })
    }

    fn lines(&mut self, module: &Module, function: &Function<'_>, pc: u64) -> Vec<Line> {
        match module.functions.frames(pc, self.memory, module.data.gofunc) {
            Ok(frames) if !frames.is_empty() => frames
                .into_iter()
                .map(|frame| Line {
                    func: self.shared(&printed(&frame.function)),
                    file: self.shared(frame.file.as_deref().unwrap_or("?")),
                    line: frame.line.unwrap_or(0),
                    inlined: frame.inlined,
                })
                .collect(),
            // The tree of inlined calls cannot be read; the function itself is known all the same.
            _ => {
                let (file, line) = function.file_line(pc).unwrap_or(("?".into(), 0));
                let func = self.shared(&printed(&function.name()));
                vec![Line { func, file: self.shared(&file), line, inlined: false }]
            }
        }
    }

    /// This text, kept once.
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let made: Arc<str> = text.into();
        self.texts.insert(made.clone());
        made
    }
}

/// A function's name as tracebacks have it: type arguments left out (`funcNameForPrint`, src/runtime/symtab.go go1.21 to
/// 1.27).
fn printed(name: &str) -> Cow<'_, str> {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => {
            Cow::Owned(format!("{}[...]{}", &name[..open], &name[close + 1..]))
        }
        _ => Cow::Borrowed(name),
    }
}
