//! Which return ends which call.
//!
//! A goroutine has at most one probed operation with an outcome in progress: none of them calls the program's code, and what
//! they call of each other is hidden. So the next thing that is seen of the goroutine decides: a return of that operation, a
//! panic, or another call, and then the return was not seen. A goroutine is told by its id, which is never used again,
//! whatever thread it goes on on and wherever its stack is moved to.
//!
//! Nothing is concluded across a gap, a time in which the engine may have lost records.

use super::functions::{Awaits, Operation, ProbePlan, Tells};
use super::record::{Hit, Return};
use rustc_hash::FxHashMap;

/// Calls in progress at most; a goroutine that ended within one leaves its call behind.
const MOST_OPEN: usize = 1 << 16;
/// Gaps remembered at most; older ones become one.
const MOST_GAPS: usize = 1 << 12;

/// Whether the key was in the map when the operation came to it, as the operation itself found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was.
    Found,
    /// It was not.
    Missing,
    /// The operation did not return, or not where it was seen, or what it returned does not say.
    Unknown,
}

impl Outcome {
    fn of(found: bool) -> Outcome {
        match found {
            true => Outcome::Found,
            false => Outcome::Missing,
        }
    }

    /// `None` when it is unknown.
    pub fn found(self) -> Option<bool> {
        match self {
            Outcome::Found => Some(true),
            Outcome::Missing => Some(false),
            Outcome::Unknown => None,
        }
    }
}

/// A goroutine, or a thread that runs on a stack of the runtime's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Runner {
    Goroutine(u64),
    Thread(u32),
}

impl Runner {
    fn of(goroutine: u64, thread: u32) -> Runner {
        match goroutine {
            0 => Runner::Thread(thread),
            id => Runner::Goroutine(id),
        }
    }
}

/// A call that has not returned yet.
#[derive(Debug)]
pub struct Open<T> {
    /// The call.
    pub hit: Hit,
    /// What its reader keeps with it.
    pub with: T,
}

/// The calls in progress.
#[derive(Debug)]
pub struct Pairs<T> {
    open: FxHashMap<Runner, Open<T>>,
    /// From when to when records may have been lost.
    gaps: Vec<(u64, u64)>,
}

impl<T> Default for Pairs<T> {
    fn default() -> Pairs<T> {
        Pairs { open: FxHashMap::default(), gaps: Vec::new() }
    }
}

impl<T> Pairs<T> {
    /// The outcome that a call has already when it begins.
    pub fn at_once(plan: &ProbePlan, hit: &Hit) -> Option<Outcome> {
        let point = plan.points.get(hit.point)?;
        match point.awaits {
            Awaits::Nothing => Some(Outcome::Unknown),
            Awaits::Count if point.ends_at_once_when_empty() && (hit.map == 0 || hit.count == 0) => {
                Some(Outcome::Missing)
            }
            _ => None,
        }
    }

    /// Takes the call that this goroutine has in progress, if any: with a new hit of it, its return was not seen.
    pub fn interrupted(&mut self, hit: &Hit) -> Option<Open<T>> {
        self.open.remove(&Runner::of(hit.goroutine, hit.thread))
    }

    /// A call begins; gives back one that was given up for it, when there are too many.
    pub fn begin(&mut self, hit: Hit, with: T) -> Option<Open<T>> {
        let oldest = (self.open.len() >= MOST_OPEN).then(|| {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.hit.ns).map(|(runner, _)| *runner)?;
            self.open.remove(&oldest)
        });
        self.open.insert(Runner::of(hit.goroutine, hit.thread), Open { hit, with });
        oldest.flatten()
    }

    /// The call that this return ends, and how; `None` when it ends none.
    pub fn end(&mut self, plan: &ProbePlan, of: &Return) -> Option<(Open<T>, Outcome)> {
        let runner = Runner::of(of.goroutine, of.thread);
        let outcome = ended(plan, &self.open.get(&runner)?.hit, of)?;
        let open = self.open.remove(&runner)?;
        let outcome = if self.is_gap_between(open.hit.ns, of.ns) { Outcome::Unknown } else { outcome };
        Some((open, outcome))
    }

    /// Records may have been lost after `from` and until `to`.
    pub fn gap(&mut self, from: u64, to: u64) {
        let at = self.gaps.partition_point(|gap| gap.1 <= to);
        self.gaps.insert(at, (from, to));
        if self.gaps.len() > MOST_GAPS {
            let old: Vec<(u64, u64)> = self.gaps.drain(..MOST_GAPS / 2).collect();
            let from = old.iter().map(|gap| gap.0).min();
            let to = old.last().map(|gap| gap.1);
            self.gaps.splice(..0, from.zip(to));
        }
    }

    /// The calls that are still in progress, the earliest first.
    pub fn rest(&mut self) -> Vec<Open<T>> {
        let mut rest: Vec<Open<T>> = self.open.drain().map(|(_, open)| open).collect();
        rest.sort_by_key(|open| open.hit.ns);
        rest
    }

    fn is_gap_between(&self, begun: u64, ended: u64) -> bool {
        let first = self.gaps.partition_point(|gap| gap.1 < begun);
        self.gaps[first..].iter().any(|gap| gap.0 <= ended)
    }
}

/// How this return ends that call of the same goroutine; `None` when it is another function's.
fn ended(plan: &ProbePlan, hit: &Hit, of: &Return) -> Option<Outcome> {
    let (point, end) = (plan.points.get(hit.point)?, plan.returns.get(of.point)?);
    let own = end.entry == point.entry;
    let bool_in = |word: u64| word & 0xff != 0;
    match end.tells {
        Tells::Panic => Some(Outcome::Unknown),
        Tells::Count { .. } if point.awaits == Awaits::Count => {
            let outcome = count_tells(point.operation, hit, of);
            (own || outcome != Outcome::Unknown && of.map == hit.map).then_some(outcome)
        }
        _ if !own => None,
        Tells::Elem => Some(plan.zero.map_or(Outcome::Unknown, |zero| Outcome::of(of.result != zero))),
        Tells::ElemOrNil => Some(Outcome::of(of.result != 0)),
        Tells::Found(_) => Some(Outcome::of(bool_in(of.result))),
        Tells::Done => Some(if bool_in(of.result) { Outcome::Found } else { Outcome::Unknown }),
        Tells::Count { .. } => Some(Outcome::Unknown),
    }
}

/// What the number of entries before and after says. Maps are no place for two writers at once: the runtime ends a
/// program in which it meets them, and Go says nothing of one in which it does not.
fn count_tells(operation: Operation, hit: &Hit, of: &Return) -> Outcome {
    let deletes = operation == Operation::Delete;
    match (hit.count, of.count) {
        _ if hit.map == 0 || hit.count == 0 => Outcome::Missing,
        _ if of.map != hit.map => Outcome::Unknown,
        (before, after) if before == after => Outcome::of(!deletes),
        (before, after) if deletes && before.checked_sub(1) == Some(after) => Outcome::Found,
        (before, after) if !deletes && before.checked_add(1) == Some(after) => Outcome::Missing,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::functions::{plan, Arch, FunctionSymbol, ReturnPoint};
    use super::super::record::Key;
    use super::*;

    const ZERO: u64 = 0x6000;
    const ACCESS: usize = 0;
    const ASSIGN: usize = 1;
    const DELETE: usize = 2;
    const LOAD: usize = 3;
    const SWAP_IF: usize = 4;
    /// Index of the panic among the returns; before it there is one of each function, in their order.
    const PANIC: usize = 5;

    fn example() -> ProbePlan {
        let names = [
            "runtime.mapaccess1_fast64",
            "runtime.mapassign_faststr",
            "runtime.mapdelete",
            "sync.(*Map).Load",
            "sync.(*Map).CompareAndSwap",
        ];
        let functions: Vec<FunctionSymbol> = (1u64..)
            .zip(names)
            .map(|(i, name)| FunctionSymbol { name: name.to_string(), entry: i << 12, end: (i << 12) + 64 })
            .collect();
        let mut plan = plan(Arch::Amd64, (1, 22), &functions, &|_, _| false);
        let tells = [Tells::Elem, Tells::Count { slot: 2 }, Tells::Count { slot: 2 }, Tells::Found(2), Tells::Done];
        for (point, tells) in plan.points.iter_mut().zip(tells) {
            point.awaits = if matches!(tells, Tells::Count { .. }) { Awaits::Count } else { Awaits::Return };
            plan.returns.push(ReturnPoint { address: point.entry + 32, entry: point.entry, tells });
        }
        plan.returns.push(ReturnPoint { address: 0x9000, entry: 0x9000, tells: Tells::Panic });
        plan.zero = Some(ZERO);
        plan
    }

    fn hit(ns: u64, goroutine: u64, point: usize) -> Hit {
        let key = Key::Value(vec![7]);
        Hit { ns, thread: 1, goroutine, point, map_type: 1, map: 0xc000, count: 5, key, callers: [0; 3] }
    }

    fn back(ns: u64, goroutine: u64, point: usize, result: u64) -> Return {
        Return { ns, thread: 2, goroutine, point, result, map: 0xc000, count: result }
    }

    fn outcome(point: usize, result: u64) -> Option<Outcome> {
        let mut pairs = Pairs::default();
        pairs.begin(hit(1, 9, point), ());
        pairs.end(&example(), &back(2, 9, point, result)).map(|(_, outcome)| outcome)
    }

    #[test]
    fn what_is_returned_tells_the_outcome() {
        use Outcome::*;
        let cases = [
            (ACCESS, 0xc010, Found),
            (ACCESS, ZERO, Missing),
            (ASSIGN, 5, Found),
            (ASSIGN, 6, Missing),
            (ASSIGN, 9, Unknown),
            (DELETE, 4, Found),
            (DELETE, 5, Missing),
            (DELETE, 0, Unknown),
            (LOAD, 0xaa01, Found),
            (LOAD, 0xaa00, Missing),
            (SWAP_IF, 1, Found),
            (SWAP_IF, 0, Unknown),
        ];
        for (point, result, expected) in cases {
            assert_eq!(outcome(point, result), Some(expected), "{point} {result:#x}");
        }
    }

    #[test]
    fn only_the_goroutine_s_own_return_of_that_function_ends_a_call() {
        let plan = example();
        let mut pairs = Pairs::default();
        pairs.begin(hit(1, 9, ACCESS), "first");
        pairs.begin(hit(2, 8, ACCESS), "second");
        assert!(pairs.end(&plan, &back(3, 7, ACCESS, ZERO)).is_none(), "another goroutine's");
        assert!(pairs.end(&plan, &back(3, 9, LOAD, 1)).is_none(), "another function's");
        assert_eq!(
            pairs.end(&plan, &back(4, 8, ACCESS, 1)).map(|(o, end)| (o.with, end)),
            Some(("second", Outcome::Found))
        );
        assert_eq!(
            pairs.interrupted(&hit(5, 9, ASSIGN)).map(|open| open.with),
            Some("first"),
            "its return was not seen"
        );
        assert!(pairs.end(&plan, &back(6, 9, ACCESS, 1)).is_none(), "nor does a later one count");
        pairs.begin(hit(7, 9, ACCESS), "panics");
        assert_eq!(pairs.end(&plan, &back(8, 9, PANIC, 0)).map(|(_, outcome)| outcome), Some(Outcome::Unknown));
        pairs.begin(hit(9, 9, ACCESS), "last");
        assert_eq!(pairs.rest().into_iter().map(|open| open.with).collect::<Vec<_>>(), ["last"]);
    }

    #[test]
    fn the_number_of_entries_is_that_of_the_map_or_of_none() {
        let plan = example();
        let mut pairs = Pairs::default();
        let mut other = back(2, 9, ASSIGN, 6);
        other.map = 0xd000;
        pairs.begin(hit(1, 9, ASSIGN), ());
        assert_eq!(pairs.end(&plan, &other).map(|(_, outcome)| outcome), Some(Outcome::Unknown));
        // The inner function of a delete is passed first, and knows the map.
        let mut through = plan.clone();
        through.returns.push(ReturnPoint { address: 0xa000, entry: 0xa000, tells: Tells::Count { slot: 1 } });
        pairs.begin(hit(3, 9, DELETE), ());
        assert!(pairs.end(&through, &Return { point: 6, ..other.clone() }).is_none());
        assert_eq!(pairs.end(&through, &back(4, 9, 6, 4)).map(|(_, outcome)| outcome), Some(Outcome::Found));
    }

    #[test]
    fn nothing_is_concluded_across_a_gap() {
        let plan = example();
        let across = |begun: u64, ended: u64, gaps: &[(u64, u64)]| {
            let mut pairs = Pairs::default();
            gaps.iter().for_each(|gap| pairs.gap(gap.0, gap.1));
            pairs.begin(hit(begun, 9, ACCESS), ());
            pairs.end(&plan, &back(ended, 9, ACCESS, ZERO)).map(|(_, outcome)| outcome)
        };
        let gaps = [(40, 60), (10, 20)];
        assert_eq!(across(25, 35, &gaps), Some(Outcome::Missing));
        for (begun, ended) in [(5, 15), (12, 18), (15, 30), (5, 70), (50, 70), (35, 40)] {
            assert_eq!(across(begun, ended, &gaps), Some(Outcome::Unknown), "{begun} to {ended}");
        }
        let many: Vec<(u64, u64)> = (0..10_000).map(|i| (100 * i, 100 * i + 10)).collect();
        assert_eq!(across(999_930, 999_950, &many), Some(Outcome::Missing));
        assert_eq!(across(50, 60, &many), Some(Outcome::Unknown), "what is forgotten counts as lost");
    }
}
