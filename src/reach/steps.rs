//! Owner paths, as a tree of steps that share their beginnings: 16 bytes a step, put into words only when shown.

use super::plan::{Lead, LeadKind, Plans, UNTYPED_STEP};
use crate::error::Quiet;
use crate::memory::Memory;
use crate::types::{Kind, TypeId, TypeSource};
use crate::value::{Context, GoSyntax, Options};

/// No step: where a path begins.
pub const NONE: u32 = u32::MAX;
/// Set in a place's lead when its payload is the index of an element.
pub const INDEXED: u32 = 1 << 31;
/// Bytes of a key shown in an owner path.
const KEY_BYTES: usize = 40;
/// Steps of a path that are shown; the middle of a longer one is left out.
const MAX_STEPS: usize = 64;
/// The same step this often or less is written out.
const WRITTEN_OUT: u64 = 3;
/// Bytes of a key in a path that is an expression.
const EXPRESSION_KEY_BYTES: usize = 120;
/// Bytes of one string in a whole path.
const WHOLE_KEY_BYTES: usize = 1 << 16;
/// Bytes of a whole path; a longer one ends in a hash of all of it.
const MAX_WHOLE: usize = 1 << 16;

/// How much of a path is put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As much as people read: long keys and paths are cut.
    Shown,
    /// All of it: what tells one place from another.
    Whole,
    /// As Go writes it, to be evaluated again: pointers in keys are their addresses, and what is too long is cut.
    Expression,
}

impl Extent {
    fn steps(self) -> usize {
        match self {
            Extent::Whole => usize::MAX,
            Extent::Shown | Extent::Expression => MAX_STEPS,
        }
    }

    fn options(self) -> Options {
        let options = Options::default();
        match self {
            Extent::Shown => Options { depth: 1, string_limit: KEY_BYTES, elements_limit: 4, ..options },
            Extent::Whole => Options { string_limit: WHOLE_KEY_BYTES, ..options },
            Extent::Expression => {
                Options { depth: 0, string_limit: EXPRESSION_KEY_BYTES, elements_limit: 16, ..options }
            }
        }
    }

    /// Bytes of a key that is no string.
    fn key_bytes(self) -> usize {
        match self {
            Extent::Shown => 2 * KEY_BYTES,
            Extent::Whole => usize::MAX,
            Extent::Expression => 2 * EXPRESSION_KEY_BYTES,
        }
    }
}

/// Where something hangs: the step above, what leads there from it, and the index or the key's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub parent: u32,
    /// Number of a lead, and perhaps [`INDEXED`].
    pub lead: u32,
    /// Index of the element, address of the map's key or of the variable's word (0 for all of them), or how often the same
    /// lead was followed before.
    pub payload: u64,
}

/// All steps.
#[derive(Debug, Default)]
pub struct Steps(Vec<Place>);

impl Steps {
    /// The number of the step to this place.
    pub fn add(&mut self, plans: &Plans<'_>, place: Place) -> u32 {
        let info = plans.lead(place.lead & !INDEXED);
        let plain = place.lead & INDEXED == 0 && info.kind == LeadKind::Field;
        if plain && info.text.is_empty() || info.kind == LeadKind::Words && place.payload == 0 {
            return place.parent;
        }
        let above = self.0.get(place.parent as usize).copied().filter(|above| plain && above.lead == place.lead);
        let place = match above {
            // Lists are as long as they like; their paths are not.
            Some(above) => Place { payload: above.payload + 1, ..above },
            None => place,
        };
        self.0.push(place);
        (self.0.len() - 1) as u32
    }

    /// The path to a place, in words; the other is whether it can be an expression: whether it begins with a variable, and
    /// nothing on the way is left out or without a type.
    pub fn path(
        &self,
        plans: &Plans<'_>,
        types: &dyn TypeSource,
        memory: &dyn Memory,
        place: Place,
        extent: Extent,
    ) -> (String, bool) {
        let mut steps = vec![place];
        while let Some(&above) = steps.last().and_then(|last| self.0.get(last.parent as usize)) {
            steps.push(above);
            if steps.len() > extent.steps() {
                break;
            }
        }
        let (mut text, mut whole) = (String::new(), steps.len() <= extent.steps());
        if !whole {
            text.push('…');
        }
        let context = Context::new(memory, types, extent.options(), &Quiet);
        for step in steps.iter().rev() {
            let info: &Lead = plans.lead(step.lead & !INDEXED);
            let mut key = |of, ty| {
                let (shown, uncut) = key_text(&context, ty, step.payload, extent);
                whole &= uncut;
                format!("[{of}{shown}]")
            };
            let is_field = info.kind == LeadKind::Field && step.lead & INDEXED == 0;
            match info.kind {
                LeadKind::Entry(ty) => text += &key("", ty),
                LeadKind::Key(ty) => text += &key("key ", ty),
                LeadKind::Field if !is_field => text += &format!("[{}]", step.payload),
                // The words for other roots than variables have spaces.
                LeadKind::Root => whole &= !info.text.contains(' '),
                LeadKind::Words => whole = false,
                LeadKind::Field => {}
            }
            whole &= !info.text.ends_with(UNTYPED_STEP);
            match step.payload {
                more if is_field && more >= WRITTEN_OUT => text += &format!("({}×{})", info.text, more + 1),
                more if is_field => (0..=more).for_each(|_| text += &info.text),
                _ => text += &info.text,
            }
            if info.kind == LeadKind::Words {
                text += &format!("{:#x}", step.payload);
            }
        }
        match text.len() > MAX_WHOLE {
            true => (hashed(&text), false),
            false => (text, whole),
        }
    }
}

/// The beginning of a text and a hash of all of it, the same in every version (FNV-1a).
fn hashed(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let start = (0..=MAX_WHOLE / 2).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…#{hash:016x}", &text[..start])
}

/// A key in words, and whether all of it is there.
fn key_text(context: &Context<'_>, ty: TypeId, address: u64, extent: Extent) -> (String, bool) {
    let mut text = Vec::new();
    let mut sink = GoSyntax::new(&mut text, false);
    let written = context.types.load(ty).and_then(|loaded| {
        let (plan, bytes) = (context.plan(ty)?, context.memory.bytes(address, loaded.size as usize)?);
        plan.write(context, &bytes, &mut sink)
    });
    let cut = sink.is_cut();
    let is_string = context.types.load(ty).is_ok_and(|ty| ty.kind == Kind::String);
    match written {
        Ok(()) if is_string || text.len() <= extent.key_bytes() => (String::from_utf8_lossy(&text).into_owned(), !cut),
        _ => ("…".into(), false),
    }
}
