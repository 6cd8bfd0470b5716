//! Asking for memory before it is needed. Where a map's entries lead is scattered, so each first look waits for
//! memory; looks made one after the other wait together.

use super::context::Context;
use super::plan::{Form, Plan};
use super::time::word_at;
use super::walk::part;
use crate::types::TypeId;

/// Levels beyond this gain nothing that would pay for the asking.
const MOST_LEVELS: usize = 3;
/// Elements of a slice that are looked behind.
const MOST_ELEMENTS: usize = 4;

impl Plan {
    /// How many levels of [`Plan::prefetch`] there are for values of this type.
    pub fn levels(&self, context: &Context<'_>) -> usize {
        self.levels_within(context, MOST_LEVELS)
    }

    fn levels_within(&self, context: &Context<'_>, most: usize) -> usize {
        let behind = |elem: TypeId| 1 + context.plan(elem).map_or(0, |elem| elem.levels_within(context, most - 1));
        match &self.form {
            _ if most == 0 => 0,
            Form::Struct(fields) => fields.iter().map(|f| f.plan.levels_within(context, most)).max().unwrap_or(0),
            Form::String | Form::Bytes | Form::Interface { .. } | Form::Map => 1,
            Form::Pointer(Some(elem)) if context.options.depth > 0 => behind(*elem),
            Form::Slice { elem } => behind(*elem),
            _ => 0,
        }
    }

    /// Asks for one byte of all that a value's words lead to, `level` pointers away; levels above 0 find what the level
    /// before asked for.
    pub fn prefetch(&self, context: &Context<'_>, value: &[u8], level: usize) {
        let address = word_at(value, 0);
        match &self.form {
            Form::Struct(fields) => {
                for field in fields {
                    field.plan.prefetch(context, part(value, field.offset, field.plan.size), level);
                }
            }
            Form::String | Form::Bytes | Form::Map | Form::Slice { .. } if level == 0 => context.memory.ask(address),
            Form::Pointer(Some(_)) if level == 0 && context.options.depth > 0 => context.memory.ask(address),
            Form::Interface { .. } if level == 0 => context.memory.ask(word_at(value, 8)),
            Form::Pointer(Some(elem)) if context.options.depth > 0 => behind(context, *elem, address, 1, level - 1),
            Form::Slice { elem } => behind(context, *elem, address, word_at(value, 8), level - 1),
            _ => {}
        }
    }
}

fn behind(context: &Context<'_>, elem: TypeId, address: u64, count: u64, level: usize) {
    let Ok(elem) = context.plan(elem) else { return };
    let count = count.min(MOST_ELEMENTS as u64) as usize;
    if let Some(bytes) = context.memory.mapped(address, elem.size * count) {
        bytes.chunks_exact(elem.size.max(1)).for_each(|value| elem.prefetch(context, value, level));
    }
}
