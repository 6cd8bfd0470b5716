//! Goroutines: creation, running, blocking, syscalls, coroutine switches.

use super::super::event::{GoState, Kind, ProcState, NONE};
use super::super::wire::tag;
use super::{Advance, At, Broken, Change, Context, GoStatus, Goroutine, Held, Order, ProcStatus, Step, Thread};

fn state_of(status: GoStatus) -> GoState {
    match status {
        GoStatus::Runnable => GoState::Runnable,
        GoStatus::Running => GoState::Running,
        GoStatus::Syscall => GoState::Syscall,
        GoStatus::Waiting => GoState::Waiting,
    }
}

impl<'a> Order<'a> {
    pub(super) fn go_status(&mut self, at: &At<'_, 'a>) -> Step {
        let (goid, thread) = (at.id(0), at.id(1));
        let status = match at.arg(2) {
            1 => GoStatus::Runnable,
            2 => GoStatus::Running,
            3 => GoStatus::Syscall,
            4 => GoStatus::Waiting,
            _ => return Err(Broken("a goroutine has a status that does not exist", goid)),
        };
        let seq = at.start_of_generation();
        let mut from = state_of(status);
        let goroutine = match self.goroutines.get_mut(goid) {
            Some((_, known)) if known.status != status => {
                return Err(Broken("a goroutine's status contradicts the events before it", goid));
            }
            Some((held, known)) => {
                known.seq = seq;
                held
            }
            None if at.first => {
                from = GoState::Undetermined;
                self.add_goroutine(at, goid, status)?
            }
            None => return Err(Broken("a goroutine appears after the first generation without being created", goid)),
        };
        let mut shown = at.now;
        match status {
            GoStatus::Running => self.bind(at, at.now.proc, goroutine),
            GoStatus::Syscall => shown = self.bind_in_syscall(at, goroutine, thread)?,
            _ => {}
        }
        let stack = if at.raw.tag == tag::GO_STATUS_STACK { at.stack_or_none(3)? } else { None };
        self.moves(shown, at, goroutine, Change { own: stack, stack, ..Change::new(from, state_of(status)) })
    }

    /// A goroutine in a syscall belongs to a thread, which need not be the one that tells so.
    fn bind_in_syscall(&mut self, at: &At, goroutine: Held, thread: i64) -> Result<Context, Broken> {
        let goid = goroutine.id;
        if thread == NONE {
            return Err(Broken("a goroutine is in a syscall on no thread", goid));
        }
        if thread == at.now.thread {
            if !at.first && at.now.goroutine.id != goid {
                return Err(Broken("a goroutine's syscall is on a thread that runs another", goid));
            }
            self.bind(at, at.now.proc, goroutine);
            return Ok(at.now);
        }
        let mut shown = Context { thread, ..at.now };
        let slot = self.slot(thread);
        match slot.and_then(|slot| self.threads.get_mut(slot.0)) {
            Some(named) if named.known => {
                if named.goroutine.id != goid {
                    return Err(Broken("a goroutine's syscall is on a thread that runs another", goid));
                }
                shown.goroutine = goroutine;
            }
            Some(named) => *named = Thread { id: thread, known: true, goroutine, proc: Held::NOTHING },
            None => {}
        }
        Ok(shown)
    }

    pub(super) fn go_create(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_proc()?;
        if self.goroutines.held(at.now.goroutine).is_some_and(|g| g.status != GoStatus::Running) {
            return Err(Broken("a goroutine that does not run creates another", at.now.goroutine.id));
        }
        let goid = at.id(0);
        let (status, to) = match at.raw.tag {
            tag::GO_CREATE_BLOCKED => (GoStatus::Waiting, GoState::Waiting),
            _ => (GoStatus::Runnable, GoState::Runnable),
        };
        let created = self.add_goroutine(at, goid, status)?;
        let (own, stack) = (Some(at.stack(1)?), at.stack_or_none(2)?);
        self.moves(at.now, at, created, Change { own, stack, ..Change::new(GoState::NotExist, to) })
    }

    fn add_goroutine(&mut self, at: &At, goid: i64, status: GoStatus) -> Result<Held, Broken> {
        let state = Goroutine { id: goid, status, seq: at.start_of_generation() };
        self.goroutines.add(state).ok_or(Broken("a goroutine is created twice", goid))
    }

    /// A goroutine is born in a C thread's callback.
    pub(super) fn go_create_syscall(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_thread()?;
        at.now.needs_no_goroutine()?;
        let goid = at.id(0);
        let created = self.add_goroutine(at, goid, GoStatus::Syscall)?;
        self.bind(at, at.now.proc, created);
        self.moves(at.now, at, created, Change::new(GoState::NotExist, GoState::Syscall))
    }

    /// The callback is over. Its P, if it still has one, is lost to it.
    pub(super) fn go_destroy_syscall(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_goroutine()?;
        self.current_in(at, GoStatus::Syscall)?;
        let (goroutine, proc) = (at.now.goroutine, at.now.proc);
        self.forget_goroutine(goroutine.id);
        if !proc.is_nothing() {
            let state = self.current_proc(at)?;
            if state.status != ProcStatus::Syscall {
                return Err(Broken("a goroutine ends in a syscall on a P that is in none", proc.id));
            }
            state.status = ProcStatus::Abandoned;
            let stolen = Kind::Proc { proc: proc.id, from: ProcState::Running, to: ProcState::Idle };
            self.pass(at, stolen, None)?;
        }
        self.bind(at, Held::NOTHING, Held::NOTHING);
        self.moves(at.now, at, goroutine, Change::new(GoState::Syscall, GoState::NotExist))
    }

    fn forget_goroutine(&mut self, goid: i64) {
        self.goroutines.remove(goid);
        if !self.regions.is_empty() {
            self.regions.remove(&goid);
        }
        self.forget_goroutine_ranges(goid);
    }

    pub(super) fn go_start(&mut self, at: &At<'_, 'a>) -> Step {
        let (goid, seq) = (at.id(0), at.seq(1));
        let Some((started, state)) = self.goroutines.get_mut(goid) else { return Ok(Advance::NotYet) };
        if state.status != GoStatus::Runnable || !seq.follows(state.seq) {
            return Ok(Advance::NotYet);
        }
        at.now.needs_proc()?;
        at.now.needs_no_goroutine()?;
        (state.status, state.seq) = (GoStatus::Running, seq);
        self.bind(at, at.now.proc, started);
        self.moves(at.now, at, started, Change::new(GoState::Runnable, GoState::Running))
    }

    /// The running goroutine ends, yields or blocks: its thread is free.
    pub(super) fn go_leave(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let goroutine = at.now.goroutine;
        let state = self.current_in(at, GoStatus::Running)?;
        if at.raw.tag == tag::GO_DESTROY {
            self.forget_goroutine(goroutine.id);
            self.bind(at, at.now.proc, Held::NOTHING);
            return self.moves(at.now, at, goroutine, Change::new(GoState::Running, GoState::NotExist));
        }
        let to = match at.raw.tag {
            tag::GO_STOP => GoStatus::Runnable,
            _ => GoStatus::Waiting,
        };
        state.status = to;
        self.bind(at, at.now.proc, Held::NOTHING);
        let (reason, stack) = (at.place(0)?, at.stack_or_none(1)?);
        let change = Change { from: GoState::Running, to: state_of(to), reason, own: stack, stack };
        self.moves(at.now, at, goroutine, change)
    }

    /// Anything can wake a goroutine, even a thread without a P.
    pub(super) fn go_unblock(&mut self, at: &At<'_, 'a>) -> Step {
        let (goid, seq) = (at.id(0), at.seq(1));
        let Some((woken, state)) = self.goroutines.get_mut(goid) else { return Ok(Advance::NotYet) };
        if state.status != GoStatus::Waiting || !seq.follows(state.seq) {
            return Ok(Advance::NotYet);
        }
        (state.status, state.seq) = (GoStatus::Runnable, seq);
        let stack = at.stack_or_none(2)?;
        self.moves(at.now, at, woken, Change { stack, ..Change::new(GoState::Waiting, GoState::Runnable) })
    }

    /// A coroutine hands over: the next goroutine wakes, the current one blocks or ends, the next runs.
    pub(super) fn go_switch(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Running)?;
        let (current, seq) = (at.now.goroutine, at.seq(1));
        // The next one waits, so it is not the current one.
        let next = match self.goroutines.get_mut(at.id(0)) {
            Some((next, state)) if state.status == GoStatus::Waiting && seq.follows(state.seq) => {
                (state.status, state.seq) = (GoStatus::Running, seq);
                next
            }
            _ => return Ok(Advance::NotYet),
        };
        self.moves(at.now, at, next, Change::new(GoState::Waiting, GoState::Runnable))?;
        if at.raw.tag == tag::GO_SWITCH {
            self.current_goroutine(at)?.status = GoStatus::Waiting;
            self.moves(at.now, at, current, Change::new(GoState::Running, GoState::Waiting))?;
        } else {
            self.forget_goroutine(current.id);
            self.moves(at.now, at, current, Change::new(GoState::Running, GoState::NotExist))?;
        }
        self.bind(at, at.now.proc, next);
        let free = Context { goroutine: Held::NOTHING, ..at.now };
        self.moves(free, at, next, Change::new(GoState::Runnable, GoState::Running))
    }

    /// The P's number on a syscall tells which syscall a later steal means.
    pub(super) fn syscall_begin(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Running)?.status = GoStatus::Syscall;
        let (proc, seq) = (at.now.proc, at.seq(0));
        let state = self.current_proc(at)?;
        if !seq.follows(state.seq) {
            return Err(Broken("a syscall's number does not follow its P's", proc.id));
        }
        state.status = ProcStatus::Syscall;
        state.seq = seq;
        let stack = at.stack_or_none(1)?;
        let change = Change { own: stack, stack, ..Change::new(GoState::Running, GoState::Syscall) };
        self.moves(at.now, at, at.now.goroutine, change)
    }

    pub(super) fn syscall_end(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Syscall)?.status = GoStatus::Running;
        let proc = at.now.proc;
        let state = self.current_proc(at)?;
        if state.status != ProcStatus::Syscall {
            return Err(Broken("a syscall ends on a P that is in none", proc.id));
        }
        state.status = ProcStatus::Running;
        self.moves(at.now, at, at.now.goroutine, Change::new(GoState::Syscall, GoState::Running))
    }

    /// The syscall lost its P, so this cannot pass before the P is gone.
    pub(super) fn syscall_end_blocked(&mut self, at: &At<'_, 'a>) -> Step {
        if !at.now.proc.is_nothing() && self.current_proc(at)?.status == ProcStatus::Syscall {
            return Ok(Advance::NotYet);
        }
        at.now.needs_goroutine()?;
        self.current_in(at, GoStatus::Syscall)?.status = GoStatus::Runnable;
        self.bind(at, at.now.proc, Held::NOTHING);
        self.moves(at.now, at, at.now.goroutine, Change::new(GoState::Syscall, GoState::Runnable))
    }
}
