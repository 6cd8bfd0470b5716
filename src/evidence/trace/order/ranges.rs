//! Ranges of time: stops of the world, garbage collection.

use super::super::event::{Edge, Kind, Range};
use super::super::wire::tag;
use super::{Advance, At, Broken, GcMark, Order, Step};

/// Most stops of the world a goroutine can have open; the runtime never has more than one.
const MAX_STOPS: usize = 16;

/// An open range: what it is and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RangeKey {
    Assist { goroutine: i64 },
    Sweep { proc: i64 },
}

const TWICE: &str = "a range begins that is already open";
const NOT_OPEN: &str = "a range ends or goes on that is not open";

impl<'a> Order<'a> {
    pub(super) fn forget_goroutine_ranges(&mut self, goid: i64) {
        if !self.ranges.is_empty() {
            self.ranges.remove(&RangeKey::Assist { goroutine: goid });
        }
        if !self.stops.is_empty() {
            self.stops.remove(&goid);
        }
    }

    fn open(&mut self, key: RangeKey, id: i64) -> Result<(), Broken> {
        if self.ranges.insert(key) {
            return Ok(());
        }
        Err(Broken(TWICE, id))
    }

    /// A range told as going on: new in the first generation, known in later ones.
    fn go_on(&mut self, at: &At, key: RangeKey, id: i64) -> Result<(), Broken> {
        if at.first {
            return self.open(key, id);
        }
        if self.ranges.contains(&key) {
            return Ok(());
        }
        Err(Broken(NOT_OPEN, id))
    }

    fn close(&mut self, key: RangeKey, id: i64) -> Result<(), Broken> {
        if self.ranges.remove(&key) {
            return Ok(());
        }
        Err(Broken(NOT_OPEN, id))
    }

    pub(super) fn goroutine_range_begin(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_goroutine(at)?;
        let goroutine = at.now.goroutine.id;
        if at.raw.tag == tag::STW_BEGIN {
            let reason = at.text(0)?;
            let open = self.stops.entry(goroutine).or_default();
            if open.len() >= MAX_STOPS || open.contains(&at.arg(0)) {
                return Err(Broken(TWICE, goroutine));
            }
            open.push(at.arg(0));
            let range = Range::StopTheWorld { reason, goroutine };
            return self.pass(at, Kind::Range { edge: Edge::Begin, range, swept: None }, at.stack_or_none(1)?);
        }
        self.open(RangeKey::Assist { goroutine }, goroutine)?;
        let range = Range::GcAssist { goroutine };
        self.pass(at, Kind::Range { edge: Edge::Begin, range, swept: None }, at.stack_or_none(0)?)
    }

    pub(super) fn goroutine_range_end(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_goroutine(at)?;
        let goroutine = at.now.goroutine.id;
        let range = if at.raw.tag == tag::STW_END {
            let reason = self.end_stop_the_world(goroutine)?;
            // The reason's string may be of an older generation, in which case its text is gone.
            let reason = at.generation.tables.string(reason).unwrap_or_default();
            Range::StopTheWorld { reason, goroutine }
        } else {
            self.close(RangeKey::Assist { goroutine }, goroutine)?;
            Range::GcAssist { goroutine }
        };
        self.pass(at, Kind::Range { edge: Edge::End, range, swept: None }, None)
    }

    /// Ends one of the goroutine's stops of the world, the first in the list, and says its reason's string id.
    fn end_stop_the_world(&mut self, goid: i64) -> Result<u64, Broken> {
        let open = self.stops.get_mut(&goid).filter(|open| !open.is_empty());
        let reason = open.ok_or(Broken(NOT_OPEN, goid))?.swap_remove(0);
        Ok(reason)
    }

    /// The goroutine named need not be the current one.
    pub(super) fn assist_active(&mut self, at: &At<'_, 'a>) -> Step {
        let goroutine = at.id(0);
        if self.goroutines.find(goroutine).is_none() {
            return Err(Broken("a goroutine that does not exist helps the collector", goroutine));
        }
        self.go_on(at, RangeKey::Assist { goroutine }, goroutine)?;
        let range = Range::GcAssist { goroutine };
        self.pass(at, Kind::Range { edge: Edge::Active, range, swept: None }, None)
    }

    pub(super) fn sweep_begin(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_proc()?;
        let proc = at.now.proc.id;
        self.open(RangeKey::Sweep { proc }, proc)?;
        let range = Range::GcSweep { proc };
        self.pass(at, Kind::Range { edge: Edge::Begin, range, swept: None }, at.stack_or_none(0)?)
    }

    pub(super) fn sweep_active(&mut self, at: &At<'_, 'a>) -> Step {
        let proc = at.id(0);
        if !self.proc_of.contains_key(&proc) {
            return Err(Broken("a P that does not exist sweeps", proc));
        }
        self.go_on(at, RangeKey::Sweep { proc }, proc)?;
        let range = Range::GcSweep { proc };
        self.pass(at, Kind::Range { edge: Edge::Active, range, swept: None }, None)
    }

    pub(super) fn sweep_end(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_proc()?;
        let proc = at.now.proc.id;
        self.close(RangeKey::Sweep { proc }, proc)?;
        let kind = Kind::Range { edge: Edge::End, range: Range::GcSweep { proc }, swept: Some((at.arg(0), at.arg(1))) };
        self.pass(at, kind, None)
    }

    fn gc(&mut self, at: &At<'_, 'a>, edge: Edge, mark: GcMark) -> Step {
        self.gc_seq = at.arg(0);
        self.gc_mark = mark;
        let stack = if edge == Edge::Begin { at.stack_or_none(1)? } else { None };
        self.pass(at, Kind::Range { edge, range: Range::GcMark, swept: None }, stack)
    }

    /// Begin and end of a cycle may be on different threads; their numbers say which cycle is meant.
    fn is_next_gc(&self, at: &At) -> bool {
        Some(at.arg(0)) == self.gc_seq.checked_add(1)
    }

    pub(super) fn gc_active(&mut self, at: &At<'_, 'a>) -> Step {
        if at.first {
            if self.gc_mark != GcMark::Undetermined {
                return Err(Broken("a collection goes on that was not running", at.id(0)));
            }
            return self.gc(at, Edge::Active, GcMark::Running);
        }
        if !self.is_next_gc(at) {
            return Ok(Advance::NotYet);
        }
        if self.gc_mark != GcMark::Running {
            return Err(Broken("a collection goes on that was not running", at.id(0)));
        }
        at.now.runs_user_code()?;
        self.gc(at, Edge::Active, GcMark::Running)
    }

    pub(super) fn gc_begin(&mut self, at: &At<'_, 'a>) -> Step {
        if self.gc_mark != GcMark::Undetermined {
            if !self.is_next_gc(at) {
                return Ok(Advance::NotYet);
            }
            if self.gc_mark == GcMark::Running {
                return Err(Broken("a collection begins inside another", at.id(0)));
            }
            at.now.runs_user_code()?;
        }
        self.gc(at, Edge::Begin, GcMark::Running)
    }

    pub(super) fn gc_end(&mut self, at: &At<'_, 'a>) -> Step {
        if !self.is_next_gc(at) {
            return Ok(Advance::NotYet);
        }
        if self.gc_mark != GcMark::Running {
            return Err(Broken("a collection ends that was not running", at.id(0)));
        }
        at.now.runs_user_code()?;
        self.gc(at, Edge::End, GcMark::NotRunning)
    }
}
