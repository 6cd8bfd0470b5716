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
    pub fn path(&self, plans: &Plans<'_>, types: &dyn TypeSource, memory: &dyn Memory, place: Place) -> String {
        let mut steps = vec![place];
        while let Some(&above) = steps.last().and_then(|last| self.0.get(last.parent as usize)) {
            steps.push(above);
            if steps.len() > MAX_STEPS {
                break;
            }
        }
        let mut text = String::new();
        if steps.len() > MAX_STEPS {
            text.push('…');
        }
        let options = Options { depth: 1, string_limit: KEY_BYTES, elements_limit: 4, ..Options::default() };
        let context = Context::new(memory, types, options, &Quiet);
        for step in steps.iter().rev() {
            let info: &Lead = plans.lead(step.lead & !INDEXED);
            match info.kind {
                LeadKind::Entry(key) => text += &format!("[{}]", key_text(&context, key, step.payload)),
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
        text
    }
}

fn key_text(context: &Context<'_>, ty: TypeId, address: u64) -> String {
    let mut text = Vec::new();
    let written = context.types.load(ty).and_then(|loaded| {
        let (plan, bytes) = (context.plan(ty)?, context.memory.bytes(address, loaded.size as usize)?);
        plan.write(context, &bytes, &mut GoSyntax::new(&mut text, false))
    });
    let is_string = context.types.load(ty).is_ok_and(|ty| ty.kind == Kind::String);
    match written {
        Ok(()) if is_string || text.len() <= 2 * KEY_BYTES => String::from_utf8_lossy(&text).into_owned(),
        _ => "…".into(),
    }
}
