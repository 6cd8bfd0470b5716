//! Walks a value's bytes by its plan and tells a sink what is there.
//!
//! Whatever cannot be read is told in place, so the only errors are those of the watch and of the sink.

use super::context::Context;
use super::plan::{Form, Plan, TimeOffsets};
use super::sink::Sink;
use super::time::{word_at, GoTime};
use crate::binary::rtype;
use crate::map::GoMap;
use crate::memory::{Memory, MemoryError};
use crate::types::TypeId;
use crate::{Error, Result};
use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

/// Values nested deeper than this end there, so that garbage cannot exhaust our stack, nor the nesting of
/// our JSON (at most two levels for one of ours) the 128 levels that common parsers allow.
const DEEPEST_VALUE: usize = 60;
/// Elements are read from memory in blocks of about this many bytes.
const BLOCK: usize = 1 << 20;
/// Unreadable elements told one by one; what follows is only counted.
const MOST_UNREADABLE: u64 = 64;
/// Bytes of strings and numbers that count as one value of [`Options::follow_limit`](super::Options::follow_limit).
const BYTES_PER_VALUE: u64 = 1024;
/// Elements of size 0 take no memory, so nothing bounds a corrupt length of theirs but this.
const MOST_ZERO_SIZED: u64 = 1 << 16;

impl Plan {
    /// Tells `sink` the value whose bytes are `value` (as many as the type's size).
    ///
    /// Missing memory, garbage and cycles are part of the answer; the only errors are an interrupt and a
    /// failing drain of the sink.
    pub fn write<S: Sink>(&self, context: &Context<'_>, value: &[u8], sink: &mut S) -> Result<()> {
        if self.write_number(value, sink) {
            return Ok(());
        }
        let allowance = match context.options.follow_limit {
            0 => u64::MAX,
            limit => (limit as u64).saturating_mul(BYTES_PER_VALUE),
        };
        let depth = context.options.depth;
        let mut walk = Walk { context, sink, depth, allowance, cut: false, nest: 0, open: Vec::new() };
        walk.value(self, value)?;
        if walk.cut {
            context.add_cut();
        }
        Ok(())
    }

    /// The shortest way for bools and numbers: whether the value was one.
    #[inline]
    fn write_number<S: Sink>(&self, value: &[u8], sink: &mut S) -> bool {
        if value.len() != self.size {
            return false;
        }
        match (&self.form, value) {
            (Form::Int, &[a, b, c, d, e, f, g, h]) => sink.int(self, i64::from_le_bytes([a, b, c, d, e, f, g, h])),
            (Form::Int, &[a, b, c, d]) => sink.int(self, i32::from_le_bytes([a, b, c, d]).into()),
            (Form::Int, &[a, b]) => sink.int(self, i16::from_le_bytes([a, b]).into()),
            (Form::Int, &[a]) => sink.int(self, (a as i8).into()),
            (Form::Uint, &[a, b, c, d, e, f, g, h]) => sink.uint(self, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            (Form::Uint, &[a, b, c, d]) => sink.uint(self, u32::from_le_bytes([a, b, c, d]).into()),
            (Form::Uint, &[a, b]) => sink.uint(self, u16::from_le_bytes([a, b]).into()),
            (Form::Uint, &[a]) => sink.uint(self, a.into()),
            (Form::Bool, &[a]) => sink.bool(self, a != 0),
            (Form::Float64, value) => sink.float64(self, double(value, 0)),
            (Form::Float32, value) => sink.float32(self, single(value, 0)),
            (Form::Complex128, value) => sink.complex128(self, double(value, 0), double(value, 8)),
            (Form::Complex64, value) => sink.complex64(self, single(value, 0), single(value, 4)),
            _ => return false,
        }
        true
    }
}

fn double(bytes: &[u8], offset: usize) -> f64 {
    f64::from_bits(word_at(bytes, offset))
}

fn single(bytes: &[u8], offset: usize) -> f32 {
    f32::from_le_bytes(bytes.get(offset..offset + 4).and_then(|b| b.try_into().ok()).unwrap_or_default())
}

/// A key or elem: its type, and its bytes or why they are missing.
type Part<'p, 'b> = (&'p Plan, &'p Result<&'b [u8], MemoryError>);

struct Walk<'c, 'a, 's, S> {
    context: &'c Context<'a>,
    sink: &'s mut S,
    /// Pointers that may still be followed.
    depth: usize,
    /// What may still be told behind pointers, in bytes of plain data; and whether something was not.
    allowance: u64,
    cut: bool,
    /// Values that the current one lies in.
    nest: usize,
    /// Slices and maps being told, by address and type: meeting one again is a cycle.
    open: Vec<(u64, TypeId, usize)>,
}

impl<S: Sink> Walk<'_, '_, '_, S> {
    fn value(&mut self, plan: &Plan, value: &[u8]) -> Result<()> {
        if plan.write_number(value, self.sink) {
            self.spend(plan.size as u64);
            return Ok(());
        }
        self.spend(BYTES_PER_VALUE);
        if value.len() < plan.size {
            self.unreadable(&format_args!("only {} of its {} bytes were read", value.len(), plan.size));
            return Ok(());
        }
        if self.nest >= DEEPEST_VALUE {
            self.unreadable(&"nested too deep to show");
            return Ok(());
        }
        self.context.step()?;
        self.nest += 1;
        let told = self.composite(plan, value);
        self.nest -= 1;
        told
    }

    fn composite(&mut self, plan: &Plan, value: &[u8]) -> Result<()> {
        let first = word_at(value, 0);
        match &plan.form {
            Form::String => self.string(plan, first, word_at(value, 8)),
            Form::Bytes => self.bytes(plan, first, word_at(value, 8), word_at(value, 16)),
            Form::Struct(fields) => {
                self.sink.begin_struct(plan);
                for (index, field) in fields.iter().enumerate() {
                    self.sink.field(plan, field, index);
                    self.value(&field.plan, part(value, field.offset, field.plan.size))?;
                }
                self.sink.end_struct(plan);
            }
            Form::Array { elem, len } => return self.array(plan, elem, *len, value),
            Form::Slice { elem } => return self.slice(plan, *elem, first, word_at(value, 8), word_at(value, 16)),
            Form::Interface { methods } => return self.interface(plan, *methods, first, value),
            Form::Map => return self.map(plan, first),
            Form::SyncMap => return self.sync_map(plan, value),
            Form::Pointer(elem) => return self.pointer(plan, *elem, first),
            Form::UnsafePointer if first == 0 => self.sink.nil(plan),
            Form::UnsafePointer => self.sink.pointer(plan, first),
            Form::Func => self.func(plan, first),
            Form::Chan => self.chan(plan, first),
            Form::Time(offsets) => self.sink.time(plan, &time(self.context, offsets, value)),
            // Numbers were told by write_number; the plan has made sure that their size fits.
            _ => self.unreadable(&"its size contradicts its kind"),
        }
        Ok(())
    }

    fn unreadable(&mut self, why: &dyn Display) {
        self.sink.unreadable(why);
    }

    /// Whether the current value was come to by a pointer, so that it may be come to again.
    fn is_followed(&self) -> bool {
        self.depth < self.context.options.depth
    }

    fn spend(&mut self, bytes: u64) {
        if self.is_followed() {
            self.allowance = self.allowance.saturating_sub(bytes);
        }
    }

    /// Whether no more may be told of a list; then that is noted.
    fn is_spent(&mut self) -> bool {
        let spent = self.allowance == 0 && self.is_followed();
        self.cut |= spent;
        spent
    }

    /// How many bytes to show of a string or `[]byte`; 0 for all.
    fn string_limit(&mut self, len: u64) -> usize {
        let limit = self.context.options.string_limit;
        let shown = limited(len, limit);
        // The last value told may be a string, so it has some room of its own.
        let allowed = self.allowance.max(BYTES_PER_VALUE);
        if !self.is_followed() || shown <= allowed {
            self.spend(shown);
            return limit;
        }
        self.cut = true;
        self.allowance = 0;
        allowed as usize
    }

    fn string(&mut self, plan: &Plan, address: u64, len: u64) {
        let limit = self.string_limit(len);
        match text(self.context, address, len, limit) {
            Ok(bytes) => self.sink.string(plan, &bytes, len),
            Err(error) => self.sink.unreadable(&error),
        }
    }

    fn bytes(&mut self, plan: &Plan, address: u64, len: u64, cap: u64) {
        if address == 0 && len == 0 {
            return self.sink.nil(plan);
        }
        if len > cap {
            return self.unreadable(&format_args!("a slice cannot have length {len} and capacity {cap}"));
        }
        let limit = self.string_limit(len);
        match text(self.context, address, len, limit) {
            Ok(bytes) => self.sink.bytes(plan, &bytes, len),
            Err(error) => self.sink.unreadable(&error),
        }
    }

    fn array(&mut self, plan: &Plan, elem: &Arc<Plan>, len: u64, value: &[u8]) -> Result<()> {
        self.sink.begin_list(plan);
        let shown = shown(len, elem.size, self.context.options.elements_limit);
        let mut told = 0;
        while told < shown && !self.is_spent() {
            self.sink.item(told);
            self.pause()?;
            self.value(elem, part(value, told as usize * elem.size, elem.size))?;
            told += 1;
        }
        self.sink.end_list(told, len - told);
        Ok(())
    }

    fn slice(&mut self, plan: &Plan, elem: TypeId, address: u64, len: u64, cap: u64) -> Result<()> {
        if address == 0 && len == 0 {
            self.sink.nil(plan);
            return Ok(());
        }
        if len > cap {
            self.unreadable(&format_args!("a slice cannot have length {len} and capacity {cap}"));
            return Ok(());
        }
        let elem = match self.context.plan(elem) {
            Ok(elem) => elem,
            Err(error) => {
                self.unreadable(&error);
                return Ok(());
            }
        };
        let readable = match len.checked_mul(elem.size as u64) {
            Some(0) => Ok(()),
            Some(bytes) => check_last_byte(self.context.memory, address, bytes),
            None => Err(MemoryError { address, place: self.context.memory.place() }),
        };
        if let Err(error) = readable {
            self.unreadable(&error);
            return Ok(());
        }
        if len > 0 && !self.open(address, plan) {
            return Ok(());
        }
        self.sink.begin_list(plan);
        let shown = shown(len, elem.size, self.context.options.elements_limit);
        let told = self.elements(&elem, address, shown)?;
        self.sink.end_list(told, len - told);
        if len > 0 {
            self.open.pop();
        }
        Ok(())
    }

    /// Tells `count` elements from `address` on; returns how many, fewer when too many are unreadable or a limit is reached.
    fn elements(&mut self, elem: &Plan, address: u64, count: u64) -> Result<u64> {
        let memory = self.context.memory;
        let size = elem.size;
        let per_block = (BLOCK / size.max(1)).max(1) as u64;
        let mut unreadable = 0;
        let mut index = 0;
        // Once a block has failed, elements are read singly.
        let mut step = per_block;
        while index < count && unreadable < MOST_UNREADABLE {
            let wanted = step.min(count - index);
            // In bounds: the caller has checked the last byte's address.
            let from = address.wrapping_add(index * size as u64);
            match memory.bytes(from, wanted as usize * size) {
                Ok(block) => {
                    for at in 0..wanted as usize {
                        if self.is_spent() {
                            return Ok(index + at as u64);
                        }
                        self.sink.item(index + at as u64);
                        self.pause()?;
                        self.value(elem, part(&block, at * size, size))?;
                    }
                    index += wanted;
                }
                Err(_) if wanted > 1 => step = 1,
                Err(error) => {
                    self.sink.item(index);
                    self.sink.unreadable(&error);
                    unreadable += 1;
                    index += 1;
                }
            }
        }
        Ok(index)
    }

    /// Notes that a slice or map is being told; tells the cycle and returns false when it already is.
    fn open(&mut self, address: u64, plan: &Plan) -> bool {
        // Below a followed pointer it may come again: the depth ends that cycle.
        let this = (address, plan.ty().id, self.depth);
        if self.open.contains(&this) {
            self.unreadable(&format_args!("the {} at {address:#x} contains itself", plan.name()));
            return false;
        }
        self.open.push(this);
        true
    }

    fn pointer(&mut self, plan: &Plan, elem: Option<TypeId>, address: u64) -> Result<()> {
        if address == 0 {
            self.sink.nil(plan);
            return Ok(());
        }
        let elem = match elem {
            Some(elem) if self.depth > 0 => elem,
            _ => {
                self.sink.pointer(plan, address);
                return Ok(());
            }
        };
        let Ok(elem) = self.context.plan(elem) else {
            self.sink.pointer(plan, address);
            return Ok(());
        };
        if self.allowance == 0 {
            self.cut = true;
            self.sink.unfollowed(plan, address);
            return Ok(());
        }
        self.sink.begin_pointee(plan, &elem, address);
        self.depth -= 1;
        self.value_at(&elem, address)?;
        self.depth += 1;
        self.sink.end_pointee(plan, &elem);
        Ok(())
    }

    fn value_at(&mut self, plan: &Plan, address: u64) -> Result<()> {
        match self.context.memory.bytes(address, plan.size) {
            Ok(bytes) => self.value(plan, &bytes),
            Err(error) => {
                self.unreadable(&error);
                Ok(())
            }
        }
    }

    fn interface(&mut self, plan: &Plan, methods: bool, first: u64, value: &[u8]) -> Result<()> {
        if first == 0 {
            self.sink.nil(plan);
            return Ok(());
        }
        let context = self.context;
        let descriptor = rtype::of_interface(context.memory, methods, first).map_err(Error::from);
        let dynamic = match descriptor.and_then(|descriptor| context.dynamic(descriptor)) {
            Ok(dynamic) => dynamic,
            Err(error) => {
                self.unreadable(&error);
                return Ok(());
            }
        };
        let elem = &dynamic.plan;
        self.sink.begin_interface(plan, elem);
        if dynamic.direct {
            self.value(elem, part(value, 8, 8))?;
        } else if elem.size == 0 {
            self.value(elem, &[])?;
        } else {
            self.value_at(elem, word_at(value, 8))?;
        }
        self.sink.end_interface(plan, elem);
        Ok(())
    }

    fn func(&mut self, plan: &Plan, closure: u64) {
        if closure == 0 {
            return self.sink.nil(plan);
        }
        match self.context.memory.u64(closure) {
            Ok(pc) => match self.context.types.function_name(pc) {
                Some(name) => self.sink.func(plan, closure, &name),
                None => self.sink.func(plan, closure, &format!("{pc:#x}")),
            },
            Err(error) => self.unreadable(&error),
        }
    }

    fn chan(&mut self, plan: &Plan, address: u64) {
        if address == 0 {
            return self.sink.nil(plan);
        }
        let offsets = self.context.channel_offsets();
        let word = |offset: u64| self.context.memory.u64(address.wrapping_add(offset));
        match word(offsets.qcount).and_then(|len| Ok((len, word(offsets.dataqsiz)?))) {
            Ok((len, cap)) => self.sink.chan(plan, address, len, cap),
            Err(error) => self.unreadable(&error),
        }
    }

    fn map(&mut self, plan: &Plan, header: u64) -> Result<()> {
        if header == 0 {
            self.sink.nil(plan);
            return Ok(());
        }
        let context = self.context;
        let opened = GoMap::open(context.memory, context.types, plan.ty().id, header);
        match opened {
            Ok(map) if self.open(header, plan) => {
                let told = self.entries(plan, &map);
                self.open.pop();
                told
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.unreadable(&error);
                Ok(())
            }
        }
    }

    /// A `sync.Map` in place: it can lead back to itself by pointers only, which have an end of their own.
    fn sync_map(&mut self, plan: &Plan, value: &[u8]) -> Result<()> {
        match GoMap::sync_in(self.context.memory, self.context.types, plan.ty().clone(), value) {
            Ok(map) => self.entries(plan, &map),
            Err(error) => {
                self.unreadable(&error);
                Ok(())
            }
        }
    }

    fn entries(&mut self, plan: &Plan, map: &GoMap<'_>) -> Result<()> {
        let context = self.context;
        let (key, elem) = match context.plan(map.key.id).and_then(|key| Ok((key, context.plan(map.elem.id)?))) {
            Ok(plans) => plans,
            Err(error) => {
                self.unreadable(&error);
                return Ok(());
            }
        };
        self.sink.begin_map(plan);
        let limit = context.options.elements_limit as u64;
        let mut index = 0;
        let mut stopped = Ok(());
        let mut full = false;
        let walked = map.each(context.watch, &mut |entry| {
            full = limit != 0 && index >= limit || self.is_spent();
            if full {
                return Ok(false);
            }
            // Our own errors go around the map's: only those are part of the answer.
            stopped = self.entry(index, (&key, &entry.key), (&elem, &entry.elem));
            index += 1;
            Ok(stopped.is_ok())
        });
        stopped?;
        let problem = match walked {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => Some(error),
            Ok(()) => None,
        };
        let omitted = if full { map.count().saturating_sub(index) } else { 0 };
        self.sink.end_map(index, omitted, problem.as_ref().map(|error| error as &dyn Display));
        Ok(())
    }

    fn entry(&mut self, index: u64, key: Part<'_, '_>, elem: Part<'_, '_>) -> Result<()> {
        self.sink.key(index);
        self.pause()?;
        self.part_of_entry(key.0, key.1)?;
        self.sink.elem();
        self.part_of_entry(elem.0, elem.1)?;
        self.sink.end_entry();
        Ok(())
    }

    /// Lets the user interrupt and the sink flush.
    fn pause(&mut self) -> Result<()> {
        self.context.step()?;
        self.sink.pause()
    }

    fn part_of_entry(&mut self, plan: &Plan, bytes: &Result<&[u8], MemoryError>) -> Result<()> {
        match bytes {
            Ok(bytes) => self.value(plan, bytes),
            Err(error) => {
                self.unreadable(error);
                Ok(())
            }
        }
    }
}

/// The bytes of a string or `[]byte` up to `limit` (0: all); its last byte must be readable too.
pub(super) fn text<'c>(
    context: &'c Context<'_>,
    address: u64,
    len: u64,
    limit: usize,
) -> Result<Cow<'c, [u8]>, MemoryError> {
    if len == 0 {
        return Ok(Cow::Borrowed(b""));
    }
    let shown = limited(len, limit);
    if shown == len {
        // One read finds out whether all of it is there, unless the length is absurd.
        if let Some(bytes) = usize::try_from(len).ok().and_then(|len| context.memory.mapped(address, len)) {
            return Ok(Cow::Borrowed(bytes));
        }
    }
    check_last_byte(context.memory, address, len)?;
    context.memory.bytes(address, shown as usize)
}

/// A cheap test that refuses absurd lengths before anything is printed.
fn check_last_byte(memory: &dyn Memory, address: u64, len: u64) -> Result<(), MemoryError> {
    match len.checked_sub(1).and_then(|last| address.checked_add(last)) {
        Some(last) if len <= 1 << 47 => memory.u8(last).map(|_| ()),
        _ => Err(MemoryError { address, place: memory.place() }),
    }
}

/// The `time.Time` in `value`, with the offset that its location has at that instant.
pub(super) fn time(context: &Context<'_>, offsets: &TimeOffsets, value: &[u8]) -> GoTime {
    let mut time = GoTime::utc(word_at(value, offsets.wall), word_at(value, offsets.ext) as i64);
    let location = word_at(value, offsets.loc);
    if location != 0 {
        if let Some(location) = context.location(location) {
            time.offset = location.offset(time.unix);
            time.location = location.name().into();
        }
    }
    time
}

/// `size` bytes at `offset`, none when they are not all there.
pub(super) fn part(bytes: &[u8], offset: usize, size: usize) -> &[u8] {
    offset.checked_add(size).and_then(|end| bytes.get(offset..end)).unwrap_or_default()
}

fn limited(len: u64, limit: usize) -> u64 {
    if limit == 0 {
        len
    } else {
        len.min(limit as u64)
    }
}

/// How many of `len` elements to tell.
fn shown(len: u64, size: usize, limit: usize) -> u64 {
    let shown = limited(len, limit);
    if size == 0 {
        shown.min(MOST_ZERO_SIZED)
    } else {
        shown
    }
}
