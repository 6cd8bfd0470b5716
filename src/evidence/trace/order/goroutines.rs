//! Goroutines: creation, running, blocking, syscalls, coroutine switches.

use super::super::event::{GoState, Kind, ProcState, StackId, NONE};
use super::super::wire::tag;
use super::{Advance, At, Broken, Context, GoStatus, Goroutine, Order, ProcStatus, Step, Thread};

fn moves<'a>(goid: i64, from: GoState, to: GoState) -> Kind<'a> {
    moves_at(goid, from, to, None)
}

fn moves_at<'a>(goid: i64, from: GoState, to: GoState, stack: Option<StackId>) -> Kind<'a> {
    Kind::Goroutine { goid, from, to, reason: &[], stack }
}

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
        match self.goroutines.get_mut(&goid) {
            Some(known) if known.status != status => {
                return Err(Broken("a goroutine's status contradicts the events before it", goid));
            }
            Some(known) => known.seq = seq,
            None if at.first => {
                self.goroutines.insert(goid, Goroutine { status, seq });
                from = GoState::Undetermined;
            }
            None => return Err(Broken("a goroutine appears after the first generation without being created", goid)),
        }
        let mut shown = at.now;
        match status {
            GoStatus::Running => self.bind(at, at.now.proc, goid),
            GoStatus::Syscall => shown = self.bind_in_syscall(at, goid, thread)?,
            _ => {}
        }
        let stack = if at.raw.tag == tag::GO_STATUS_STACK { at.stack_or_none(3)? } else { None };
        self.pass_in(shown, at, moves_at(goid, from, state_of(status), stack), stack)
    }

    /// A goroutine in a syscall belongs to a thread, which need not be the one that tells so.
    fn bind_in_syscall(&mut self, at: &At, goid: i64, thread: i64) -> Result<Context, Broken> {
        if thread == NONE {
            return Err(Broken("a goroutine is in a syscall on no thread", goid));
        }
        if thread == at.now.thread {
            if !at.first && at.now.goroutine != goid {
                return Err(Broken("a goroutine's syscall is on a thread that runs another", goid));
            }
            self.bind(at, at.now.proc, goid);
            return Ok(at.now);
        }
        let mut shown = Context { thread, ..at.now };
        let slot = self.slot(thread);
        match slot.and_then(|slot| self.threads.get_mut(slot.0)) {
            Some(named) if named.known => {
                if named.goroutine != goid {
                    return Err(Broken("a goroutine's syscall is on a thread that runs another", goid));
                }
                shown.goroutine = goid;
            }
            Some(named) => *named = Thread { id: thread, known: true, goroutine: goid, proc: NONE },
            None => {}
        }
        Ok(shown)
    }

    pub(super) fn go_create(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_proc()?;
        if self.goroutines.get(&at.now.goroutine).is_some_and(|g| g.status != GoStatus::Running) {
            return Err(Broken("a goroutine that does not run creates another", at.now.goroutine));
        }
        let goid = at.id(0);
        let (status, to) = match at.raw.tag {
            tag::GO_CREATE_BLOCKED => (GoStatus::Waiting, GoState::Waiting),
            _ => (GoStatus::Runnable, GoState::Runnable),
        };
        self.add_goroutine(at, goid, status)?;
        let start = Some(at.stack(1)?);
        self.pass(at, moves_at(goid, GoState::NotExist, to, start), at.stack_or_none(2)?)
    }

    fn add_goroutine(&mut self, at: &At, goid: i64, status: GoStatus) -> Result<(), Broken> {
        let state = Goroutine { status, seq: at.start_of_generation() };
        match self.goroutines.insert(goid, state) {
            Some(_) => Err(Broken("a goroutine is created twice", goid)),
            None => Ok(()),
        }
    }

    /// A goroutine is born in a C thread's callback.
    pub(super) fn go_create_syscall(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_thread()?;
        at.now.needs_no_goroutine()?;
        let goid = at.id(0);
        self.add_goroutine(at, goid, GoStatus::Syscall)?;
        self.bind(at, at.now.proc, goid);
        self.pass(at, moves(goid, GoState::NotExist, GoState::Syscall), None)
    }

    /// The callback is over. Its P, if it still has one, is lost to it.
    pub(super) fn go_destroy_syscall(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.needs_goroutine()?;
        self.current_in(at, GoStatus::Syscall)?;
        let (goid, proc) = (at.now.goroutine, at.now.proc);
        self.forget_goroutine(goid);
        if proc != NONE {
            let state = self.current_proc(at)?;
            if state.status != ProcStatus::Syscall {
                return Err(Broken("a goroutine ends in a syscall on a P that is in none", proc));
            }
            state.status = ProcStatus::Abandoned;
            let stolen = Kind::Proc { proc, from: ProcState::Running, to: ProcState::Idle };
            self.pass(at, stolen, None)?;
        }
        self.bind(at, NONE, NONE);
        self.pass(at, moves(goid, GoState::Syscall, GoState::NotExist), None)
    }

    fn forget_goroutine(&mut self, goid: i64) {
        self.goroutines.remove(&goid);
        if !self.regions.is_empty() {
            self.regions.remove(&goid);
        }
        self.forget_goroutine_ranges(goid);
    }

    pub(super) fn go_start(&mut self, at: &At<'_, 'a>) -> Step {
        let (goid, seq) = (at.id(0), at.seq(1));
        let Some(state) = self.goroutines.get_mut(&goid) else { return Ok(Advance::NotYet) };
        if state.status != GoStatus::Runnable || !seq.follows(state.seq) {
            return Ok(Advance::NotYet);
        }
        at.now.needs_proc()?;
        at.now.needs_no_goroutine()?;
        *state = Goroutine { status: GoStatus::Running, seq };
        self.bind(at, at.now.proc, goid);
        self.pass(at, moves(goid, GoState::Runnable, GoState::Running), None)
    }

    /// The running goroutine ends, yields or blocks: its thread is free.
    pub(super) fn go_leave(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        let goid = at.now.goroutine;
        let state = self.current_in(at, GoStatus::Running)?;
        if at.raw.tag == tag::GO_DESTROY {
            self.forget_goroutine(goid);
            self.bind(at, at.now.proc, NONE);
            return self.pass(at, moves(goid, GoState::Running, GoState::NotExist), None);
        }
        let to = match at.raw.tag {
            tag::GO_STOP => GoStatus::Runnable,
            _ => GoStatus::Waiting,
        };
        state.status = to;
        self.bind(at, at.now.proc, NONE);
        let (reason, stack) = (at.text(0)?, at.stack_or_none(1)?);
        let kind = Kind::Goroutine { goid, from: GoState::Running, to: state_of(to), reason, stack };
        self.pass(at, kind, stack)
    }

    /// Anything can wake a goroutine, even a thread without a P.
    pub(super) fn go_unblock(&mut self, at: &At<'_, 'a>) -> Step {
        let (goid, seq) = (at.id(0), at.seq(1));
        let Some(state) = self.goroutines.get_mut(&goid) else { return Ok(Advance::NotYet) };
        if state.status != GoStatus::Waiting || !seq.follows(state.seq) {
            return Ok(Advance::NotYet);
        }
        *state = Goroutine { status: GoStatus::Runnable, seq };
        self.pass(at, moves(goid, GoState::Waiting, GoState::Runnable), at.stack_or_none(2)?)
    }

    /// A coroutine hands over: the next goroutine wakes, the current one blocks or ends, the next runs.
    pub(super) fn go_switch(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Running)?;
        let (current, next, seq) = (at.now.goroutine, at.id(0), at.seq(1));
        match self.goroutines.get(&next) {
            Some(state) if state.status == GoStatus::Waiting && seq.follows(state.seq) => {}
            _ => return Ok(Advance::NotYet),
        }
        self.pass(at, moves(next, GoState::Waiting, GoState::Runnable), None)?;
        if at.raw.tag == tag::GO_SWITCH {
            self.current_goroutine(at)?.status = GoStatus::Waiting;
            self.pass(at, moves(current, GoState::Running, GoState::Waiting), None)?;
        } else {
            self.forget_goroutine(current);
            self.pass(at, moves(current, GoState::Running, GoState::NotExist), None)?;
        }
        self.goroutines.insert(next, Goroutine { status: GoStatus::Running, seq });
        self.bind(at, at.now.proc, next);
        let free = Context { goroutine: NONE, ..at.now };
        self.pass_in(free, at, moves(next, GoState::Runnable, GoState::Running), None)
    }

    /// The P's number on a syscall tells which syscall a later steal means.
    pub(super) fn syscall_begin(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Running)?.status = GoStatus::Syscall;
        let (proc, seq) = (at.now.proc, at.seq(0));
        let state = self.current_proc(at)?;
        if !seq.follows(state.seq) {
            return Err(Broken("a syscall's number does not follow its P's", proc));
        }
        state.status = ProcStatus::Syscall;
        state.seq = seq;
        let stack = at.stack_or_none(1)?;
        self.pass(at, moves_at(at.now.goroutine, GoState::Running, GoState::Syscall, stack), stack)
    }

    pub(super) fn syscall_end(&mut self, at: &At<'_, 'a>) -> Step {
        at.now.runs_user_code()?;
        self.current_in(at, GoStatus::Syscall)?.status = GoStatus::Running;
        let proc = at.now.proc;
        let state = self.current_proc(at)?;
        if state.status != ProcStatus::Syscall {
            return Err(Broken("a syscall ends on a P that is in none", proc));
        }
        state.status = ProcStatus::Running;
        self.pass(at, moves(at.now.goroutine, GoState::Syscall, GoState::Running), None)
    }

    /// The syscall lost its P, so this cannot pass before the P is gone.
    pub(super) fn syscall_end_blocked(&mut self, at: &At<'_, 'a>) -> Step {
        if at.now.proc != NONE && self.current_proc(at)?.status == ProcStatus::Syscall {
            return Ok(Advance::NotYet);
        }
        at.now.needs_goroutine()?;
        self.current_in(at, GoStatus::Syscall)?.status = GoStatus::Runnable;
        self.bind(at, at.now.proc, NONE);
        self.pass(at, moves(at.now.goroutine, GoState::Syscall, GoState::Runnable), None)
    }
}
