//! Which words of a stack are pointers that may still be used, by the maps that the compiler left for the garbage
//! collector (`getStackMap`, src/runtime/stkframe.go go1.21 to 1.27, src/runtime/stack.go before).

use super::stack::{Frame, On};
use super::Goroutine;
use crate::layout::goroutine::{RUNNING, SYSCALL};
use crate::layout::pclntab as layout;
use crate::memory::Memory;
use crate::session::Session;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Where a frame's pointers are while it is at one PC, as distances from its variables' end and its arguments' start.
#[derive(Default)]
struct Map {
    locals: Vec<i64>,
    arguments: Vec<u64>,
    /// Variables whose address is taken.
    objects: Vec<(i64, u64)>,
}

/// Words in one frame's bitmap, and variables in its list, at most.
const MAX_BITS: u32 = 1 << 20;
const MAX_OBJECTS: u64 = 1 << 12;

/// The maps of the PCs that goroutines are at.
pub struct Live {
    maps: FxHashMap<u64, Option<Map>>,
    arm: bool,
}

impl Live {
    pub fn of<'g>(session: &Session, goroutines: impl Iterator<Item = &'g Goroutine>) -> Live {
        let mut maps: FxHashMap<u64, Option<Map>> = FxHashMap::default();
        for goroutine in goroutines {
            for frame in &goroutine.stack.frames {
                maps.entry(frame.pc).or_insert_with(|| read(session, frame.pc));
            }
        }
        Live { maps, arm: session.types.program().is_arm() }
    }

    /// The parts of a goroutine's stack that may hold pointers in use; all of a frame where no map tells.
    pub fn parts(&self, goroutine: &Goroutine) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        // In a call of the kernel or of C nobody counts on the map at the call.
        let mut unmapped = matches!(goroutine.status, RUNNING | SYSCALL);
        for frame in goroutine.stack.frames.iter().filter(|frame| frame.on == On::Goroutine) {
            // The frame above all others has no variables; what is there is left of goroutines before (`TOPFRAME|NOFRAME,$0-0`,
            // src/runtime/asm_amd64.s and asm_arm64.s, go1.19 to 1.27).
            if frame.info.func() == "runtime.goexit" {
                continue;
            }
            match self.maps.get(&frame.pc) {
                Some(Some(map)) if !unmapped && !frame.exact => self.add(frame, map, &mut parts),
                _ => parts.push(frame.sp..frame.end),
            }
            unmapped = false;
        }
        parts
    }

    fn add(&self, frame: &Frame, map: &Map, parts: &mut Vec<Range<u64>>) {
        // Below the return address (amd64) lies the caller's frame pointer.
        let end = if self.arm { frame.end } else { frame.end.wrapping_sub(8) };
        let end = if end > frame.sp { end.wrapping_sub(8) } else { end };
        let arguments = if self.arm { frame.end.wrapping_add(8) } else { frame.end };
        let word = |at: u64| at..at.wrapping_add(8);
        parts.extend(map.locals.iter().map(|&by| word(end.wrapping_add_signed(by))));
        parts.extend(map.arguments.iter().map(|&by| word(arguments.wrapping_add(by))));
        parts.extend(map.objects.iter().map(|&(by, size)| {
            let at = if by < 0 { end.wrapping_add_signed(by) } else { arguments.wrapping_add_signed(by) };
            at..at.wrapping_add(size)
        }));
    }
}

/// The map of the call that returns to `pc`; `None` where the function has none.
fn read(session: &Session, pc: u64) -> Option<Map> {
    let module = session.types.modules().iter().find(|module| module.data.has_code(pc))?;
    let function = module.functions.function_at(pc)?;
    let (memory, gofunc) = (&*session.memory, module.data.gofunc);
    let called = if pc > function.entry { pc - 1 } else { pc };
    // At the entry, and before the first call, the first map holds.
    let index = function.pcdata(layout::PCDATA_STACK_MAP, called).filter(|&index| index >= 0).unwrap_or(0) as u64;
    let locals = bits(memory, function.funcdata(layout::FUNCDATA_LOCALS, gofunc)?, index)?;
    let arguments = match function.funcdata(layout::FUNCDATA_ARGUMENTS, gofunc) {
        Some(at) => bits(memory, at, index)?,
        None => (0, Vec::new()),
    };
    let mut map = Map::default();
    map.locals = locals.1.iter().map(|&bit| 8 * (i64::from(bit) - i64::from(locals.0))).collect();
    map.arguments = arguments.1.iter().map(|&bit| 8 * u64::from(bit)).collect();
    if let Some(at) = function.funcdata(layout::FUNCDATA_OBJECTS, gofunc) {
        map.objects = records(memory, at)?;
    }
    Some(map)
}

/// The variables with pointers whose address the function at `entry` takes: distance from the variables' end (negative) or
/// the arguments' start, and size.
pub fn objects(session: &Session, entry: u64) -> Vec<(i64, u64)> {
    let of = || {
        let module = session.types.modules().iter().find(|module| module.data.has_code(entry))?;
        let function = module.functions.function_at(entry)?;
        records(&*session.memory, function.funcdata(layout::FUNCDATA_OBJECTS, module.data.gofunc)?)
    };
    of().unwrap_or_default()
}

/// A count, then `stackObjectRecord`: off, size, ptrBytes, gcdataoff (src/runtime/stack.go, go1.19 to 1.27).
fn records(memory: &dyn Memory, at: u64) -> Option<Vec<(i64, u64)>> {
    let count = memory.u64(at).ok().filter(|&count| count <= MAX_OBJECTS)?;
    let record = |i: u64| {
        let record = memory.array::<8>(at.wrapping_add(8 + 16 * i)).ok()?;
        let [offset, size] = [0, 4].map(|at| record[at..at + 4].try_into().map_or(0, i32::from_le_bytes));
        Some((offset.into(), u64::try_from(size).ok()?))
    };
    (0..count).map(record).collect()
}

/// Length of bitmap number `index` of a `runtime.stackmap`, and the bits that are set in it.
fn bits(memory: &dyn Memory, at: u64, index: u64) -> Option<(u32, Vec<u32>)> {
    let (count, len) = (memory.u32(at).ok()?, memory.u32(at.wrapping_add(4)).ok()?);
    if len == 0 {
        return Some((0, Vec::new()));
    }
    let size = u64::from(len.div_ceil(8));
    let own = (index < count.into() && len <= MAX_BITS).then(|| at.wrapping_add(8 + index * size))?;
    let bytes = memory.bytes(own, size as usize).ok()?;
    let set = |&bit: &u32| bytes.get(bit as usize / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    Some((len, (0..len).filter(set).collect()))
}
