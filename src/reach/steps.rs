//! Owner paths, as a tree of steps that share their beginnings: 16 bytes a step, put into words only when shown.

use super::plan::{Lead, LeadKind, Plans};
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
}

/// Where something hangs: the step above, what leads there from it, and the index or the key's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub parent: u32,
    /// Number of a lead, and perhaps [`INDEXED`].
    pub lead: u32,
    /// Index of the element, address of the map's key, or how often the same lead was followed before.
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
        if plain && info.text.is_empty() {
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

    /// The path to a place, in words.
    pub fn path(
        &self,
        plans: &Plans<'_>,
        types: &dyn TypeSource,
        memory: &dyn Memory,
        place: Place,
        extent: Extent,
    ) -> String {
        let most = if extent == Extent::Whole { usize::MAX } else { MAX_STEPS };
        let mut steps = vec![place];
        while let Some(&above) = steps.last().and_then(|last| self.0.get(last.parent as usize)) {
            steps.push(above);
            if steps.len() > most {
                break;
            }
        }
        let mut text = String::new();
        if steps.len() > most {
            text.push('…');
        }
        let options = match extent {
            Extent::Shown => Options { depth: 1, string_limit: KEY_BYTES, elements_limit: 4, ..Options::default() },
            Extent::Whole => Options { string_limit: WHOLE_KEY_BYTES, ..Options::default() },
        };
        let context = Context::new(memory, types, options, &Quiet);
        for step in steps.iter().rev() {
            let info: &Lead = plans.lead(step.lead & !INDEXED);
            match info.kind {
                LeadKind::Entry(key) => text += &format!("[{}]", key_text(&context, key, step.payload, extent)),
                LeadKind::Field if step.lead & INDEXED != 0 => text += &format!("[{}]", step.payload),
                _ => {}
            }
            text += &info.text;
            if info.kind == LeadKind::Field && step.lead & INDEXED == 0 {
                match step.payload {
                    0 => {}
                    more if more < WRITTEN_OUT => (0..more).for_each(|_| text += &info.text),
                    more => text += &format!("(×{})", more + 1),
                }
            }
        }
        match text.len() > MAX_WHOLE {
            true => hashed(&text),
            false => text,
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

fn key_text(context: &Context<'_>, ty: TypeId, address: u64, extent: Extent) -> String {
    let mut text = Vec::new();
    let written = context.types.load(ty).and_then(|loaded| {
        let (plan, bytes) = (context.plan(ty)?, context.memory.bytes(address, loaded.size as usize)?);
        plan.write(context, &bytes, &mut GoSyntax::new(&mut text, false))
    });
    let is_string = context.types.load(ty).is_ok_and(|ty| ty.kind == Kind::String);
    match written {
        Ok(()) if extent == Extent::Whole => String::from_utf8_lossy(&text).into_owned(),
        Ok(()) if is_string || text.len() <= 2 * KEY_BYTES => String::from_utf8_lossy(&text).into_owned(),
        _ => "…".into(),
    }
}
