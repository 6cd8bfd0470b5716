//! Events that have passed, in their order, until they are handed over.

use super::super::event::{Event, GoState, StackId};

/// A goroutine's change of state: what nearly all events are, in a cache line.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Moved {
    pub time: i64,
    /// Context as in [`Event`].
    pub thread: i64,
    pub proc: i64,
    pub goroutine: i64,
    pub goid: i64,
    /// Where the goroutine is among those that exist: another takes it over only when this one has ended.
    pub slot: u32,
    /// Place of the reason among the generation's strings.
    pub reason: u32,
    pub own: Option<StackId>,
    pub stack: Option<StackId>,
    pub from: GoState,
    pub to: GoState,
}

/// An event, or where it is.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Place {
    Moved(Moved),
    Other(u32),
}

/// Events of one generation in a row; times rise strictly.
#[derive(Debug, Default)]
pub(in super::super) struct Passed<'a> {
    pub places: Vec<Place>,
    pub others: Vec<Event<'a>>,
    last_time: i64,
}

impl<'a> Passed<'a> {
    pub fn last_time(&self) -> i64 {
        self.last_time
    }

    /// Two threads' clocks may tie or disagree; the order found holds, so time gives way.
    #[inline]
    fn later(&mut self, time: i64) -> i64 {
        self.last_time = time.max(self.last_time.saturating_add(1));
        self.last_time
    }

    #[inline(always)]
    pub fn push_moved(&mut self, moved: Moved) {
        let time = self.later(moved.time);
        self.places.push(Place::Moved(Moved { time, ..moved }));
    }

    pub fn push(&mut self, event: Event<'a>) {
        let time = self.later(event.time);
        self.places.push(Place::Other(self.others.len() as u32));
        self.others.push(Event { time, ..event });
    }

    /// Gives the events away, for an empty list.
    pub fn hand_over(&mut self, to: &mut Passed<'a>) {
        let last_time = self.last_time;
        std::mem::swap(self, to);
        self.last_time = last_time;
    }

    pub fn clear(&mut self) {
        self.places.clear();
        self.others.clear();
    }
}
