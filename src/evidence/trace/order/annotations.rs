//! Events that change no state of the scheduler: metrics, labels, tasks, regions, logs.

use super::super::event::{Kind, NONE};
use super::super::wire::tag;
use super::{At, Broken, Order, Step};

impl<'a> Order<'a> {
    pub(super) fn procs_change(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let kind = Kind::Metric { name: "/sched/gomaxprocs:threads", value: at.arg(0) };
        self.pass(at, kind, at.stack_or_none(1)?)
    }

    pub(super) fn heap_metric(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_proc()?;
        let name = match at.raw.tag {
            tag::HEAP_ALLOC => "/memory/classes/heap/objects:bytes",
            _ => "/gc/heap/goal:bytes",
        };
        self.pass(at, Kind::Metric { name, value: at.arg(0) }, None)
    }

    pub(super) fn label(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.pass(at, Kind::Label { label: at.text(0)? }, None)
    }

    /// Tasks may end without having begun in the trace, and their ids may come again.
    pub(super) fn task_begin(&mut self, at: &At<'_, 'a>) -> Step {
        let id = at.arg(0);
        let parent = match at.id(1) {
            0 => NONE,
            parent => parent,
        };
        let name = at.text(2)?;
        if self.tasks.insert(id, (name, parent)).is_some() {
            return Err(Broken("a task begins twice", id as i64));
        }
        at.now.runs_user_code()?;
        self.pass(at, Kind::TaskBegin { id, parent, name }, at.stack_or_none(3)?)
    }

    pub(super) fn task_end(&mut self, at: &At<'_, 'a>) -> Step {
        let id = at.arg(0);
        let (name, parent) = self.tasks.remove(&id).unwrap_or((&[], NONE));
        at.now.runs_user_code()?;
        self.pass(at, Kind::TaskEnd { id, parent, name }, at.stack_or_none(1)?)
    }

    pub(super) fn region_begin(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let (task, name) = (at.arg(0), at.text(1)?);
        self.current_goroutine(at)?;
        self.regions.entry(at.now.goroutine.id).or_default().push((task, name));
        self.pass(at, Kind::RegionBegin { task, name }, at.stack_or_none(2)?)
    }

    /// The region may have begun before the trace did.
    pub(super) fn region_end(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let (task, name) = (at.arg(0), at.text(1)?);
        self.current_goroutine(at)?;
        if let Some(innermost) = self.regions.get_mut(&at.now.goroutine.id).and_then(Vec::pop) {
            if innermost != (task, name) {
                return Err(Broken("a region ends that is not the innermost one", at.now.goroutine.id));
            }
        }
        self.pass(at, Kind::RegionEnd { task, name }, at.stack_or_none(2)?)
    }

    pub(super) fn log(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let kind = Kind::Log { task: at.arg(0), category: at.text(1)?, message: at.text(2)? };
        self.pass(at, kind, at.stack_or_none(3)?)
    }

    pub(super) fn experimental(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_thread()?;
        self.pass(at, Kind::Experimental { tag: at.raw.tag, args: at.raw.args }, None)
    }
}
