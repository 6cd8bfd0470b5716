//! Ps: start, stop, steal, status.

use super::super::event::{Kind, ProcState, NONE};
use super::{Advance, At, Broken, Context, Held, Order, Proc, ProcStatus, Step};

fn state_of(status: ProcStatus) -> ProcState {
    match status {
        ProcStatus::Running | ProcStatus::Syscall => ProcState::Running,
        ProcStatus::Idle | ProcStatus::Abandoned => ProcState::Idle,
    }
}

impl<'a> Order<'a> {
    pub(super) fn proc_status(&mut self, at: &At<'_, 'a>) -> Step {
        let proc = at.id(0);
        let told = match at.arg(1) {
            1 => ProcStatus::Running,
            2 => ProcStatus::Idle,
            3 => ProcStatus::Syscall,
            4 => ProcStatus::Abandoned,
            _ => return Err(Broken("a P has a status that does not exist", proc)),
        };
        let seq = at.start_of_generation();
        let (mut from, mut to, mut shown) = (state_of(told), state_of(told), at.now);
        let held = match self.proc(proc) {
            Some((held, known)) => {
                match (told, known.status) {
                    // A P told as abandoned that we still see in its syscall: nothing was lost, and the
                    // event belongs to the thread that has the P.
                    (ProcStatus::Abandoned, ProcStatus::Syscall) => {
                        (from, to) = (ProcState::Running, ProcState::Running)
                    }
                    (told, known) if told != known => {
                        return Err(Broken("a P's status contradicts the events before it", proc));
                    }
                    _ => {}
                }
                known.seq = seq;
                held
            }
            None => {
                let slot = self.procs.len() as u32;
                self.procs.push(Proc { id: proc, status: told, seq, owner: NONE });
                self.proc_of.insert(proc, slot);
                from = if at.first { ProcState::Undetermined } else { ProcState::NotExist };
                Held { id: proc, slot }
            }
        };
        if matches!(told, ProcStatus::Running | ProcStatus::Syscall) {
            self.give_proc(at, held);
        }
        if told == ProcStatus::Abandoned && from == ProcState::Running {
            let owner = self.procs.get(held.slot as usize).and_then(|p| self.thread_of.get(&p.owner));
            let owner = owner.and_then(|slot| self.threads.get(*slot)).filter(|t| t.proc.id == proc);
            let owner = owner.ok_or(Broken("no thread has the P that is about to be stolen", proc))?;
            shown = Context { thread: owner.id, proc: held, goroutine: owner.goroutine };
        }
        self.pass_in(shown, at, Kind::Proc { proc, from, to }, None)
    }

    fn give_proc(&mut self, at: &At, proc: Held) {
        self.bind(at, proc, at.now.goroutine);
        if let Some(state) = self.procs.get_mut(proc.slot as usize) {
            state.owner = at.now.thread;
        }
    }

    pub(super) fn proc_start(&mut self, at: &At<'_, 'a>) -> Step {
        let (proc, seq) = (at.id(0), at.seq(1));
        let Some((held, state)) = self.proc(proc) else { return Ok(Advance::NotYet) };
        if state.status != ProcStatus::Idle || !seq.follows(state.seq) || !at.now.proc.is_nothing() {
            return Ok(Advance::NotYet);
        }
        at.now.needs_thread()?;
        state.status = ProcStatus::Running;
        state.seq = seq;
        self.give_proc(at, held);
        self.pass(at, Kind::Proc { proc, from: ProcState::Idle, to: ProcState::Running }, None)
    }

    pub(super) fn proc_stop(&mut self, at: &At<'_, 'a>) -> Step {
        let proc = at.now.proc.id;
        let state = self.current_proc(at)?;
        if !matches!(state.status, ProcStatus::Running | ProcStatus::Syscall) {
            return Err(Broken("a P that does not run stops", proc));
        }
        state.status = ProcStatus::Idle;
        at.now.needs_proc()?;
        self.bind(at, Held::NOTHING, at.now.goroutine);
        self.pass(at, Kind::Proc { proc, from: ProcState::Running, to: ProcState::Idle }, None)
    }

    /// A thread takes the P of a thread in a syscall, perhaps its own.
    pub(super) fn proc_steal(&mut self, at: &At<'_, 'a>) -> Step {
        let (proc, seq, victim) = (at.id(0), at.seq(1), at.id(2));
        let Some((_, state)) = self.proc(proc) else { return Ok(Advance::NotYet) };
        if !matches!(state.status, ProcStatus::Syscall | ProcStatus::Abandoned) || !seq.follows(state.seq) {
            return Ok(Advance::NotYet);
        }
        at.now.needs_thread()?;
        let abandoned = state.status == ProcStatus::Abandoned;
        state.status = ProcStatus::Idle;
        state.seq = seq;
        if abandoned {
            return self.pass(at, Kind::Proc { proc, from: ProcState::Idle, to: ProcState::Idle }, None);
        }
        if victim == at.now.thread {
            if at.now.proc.id != proc {
                return Err(Broken("a thread takes a P from itself that it does not have", proc));
            }
            self.bind(at, Held::NOTHING, at.now.goroutine);
        } else {
            let slot = self.thread_of.get(&victim).copied();
            match slot.and_then(|slot| self.threads.get_mut(slot)).filter(|t| t.known) {
                Some(thread) if thread.proc.id == proc => thread.proc = Held::NOTHING,
                _ => return Err(Broken("a P is taken from a thread that does not have it", proc)),
            }
        }
        self.pass(at, Kind::Proc { proc, from: ProcState::Running, to: ProcState::Idle }, None)
    }
}
