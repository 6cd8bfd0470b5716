//! `gomap watch`: every map operation of a running program as one line, and what they come to.
//!
//! An engine hands in hits ([`crate::probe::Hit`]); whether a debugger stopped the program for each or the kernel
//! recorded them makes no difference here, but for what can still be read of the map.

mod event;
mod signal;

pub use event::{Event, Wanted};

use super::{line, write_error, Show};
use crate::layout::goroutine;
use crate::probe::pace::{Budget, Spent, Throttle};
use crate::probe::summary::{Row, Summary};
use crate::probe::{
    now_ns, plan, Arch, Filters, FunctionSymbol, Hit, Key, KeyPlace, Operation, Outcome, Pairs, PointedKey, ProbePlan,
    ProbePoint, Registers, Return, Seen, TypeFilter,
};
use crate::session::{MapRef, Session};
use crate::types::{Kind, Shape, TypeId, TypeSource};
use crate::value::{Demand, Filter};
use crate::{Error, Result};
use event::{KeyId, KeyOf, Teller, Told};
use object::{Object, ObjectSegment};
use rustc_hash::FxHashMap;
use serde_json::{json, Value};
use signal::Signals;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Keys and callers that are counted exactly.
const COUNTED: usize = 10_000;
/// Of each, so many are shown at the end.
const TOP: usize = 10;
/// Lines a second that a terminal gets, after a burst.
const LINES_A_SECOND: u32 = 50;
const BURST: u32 = 200;
/// Over how long a time the overhead is judged.
const WINDOW: Duration = Duration::from_secs(1);
/// The families of `--op`; it also takes the name of each operation.
pub const FAMILIES: [&str; 5] = ["access", "assign", "delete", "iterate", "clear"];

/// What to watch, and for how much.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// The only map, and what it is called.
    pub map: Option<(MapRef, String)>,
    /// Names of operations and of their families; all when empty.
    pub operations: Vec<String>,
    /// What must hold of a hit.
    pub wanted: Wanted,
    /// Only entries are probed: cheaper, and no outcome is known.
    pub entry: bool,
    /// Hits told before the watch ends; 0 is no limit.
    pub limit: u64,
    /// Percentage of the target's time that the watch may cost.
    pub max_overhead: Option<f64>,
    /// With the state of the map.
    pub snapshot: bool,
    /// Whether lines may be held back, because somebody reads along.
    pub paced: bool,
}

/// What became of a hit.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It was not wanted.
    Ignored,
    /// It was told.
    Told,
    /// It was told, and was the last one.
    Last(Spent),
}

/// What the debugger may want of the last hit.
#[derive(Debug, Clone)]
pub struct LastHit {
    /// The map, when its type is known.
    pub map: Option<MapRef>,
    /// The key as shown.
    pub key: Option<String>,
    /// The goroutine.
    pub goroutine: u64,
}

/// A call in progress.
type Pending = Box<Event>;

/// The last hit of a goroutine: what a repetition of it has in common with it.
type Previous = (usize, [u64; 4], Option<signal::Taken>);

/// A watch in progress.
pub struct MapWatch {
    teller: Teller,
    options: WatchOptions,
    goid_offset: u64,
    summary: Summary<KeyOf>,
    pairs: Pairs<Pending>,
    throttle: Throttle,
    budget: Budget,
    first_ns: Option<u64>,
    last: Option<LastHit>,
    /// Names of the maps whose keys are counted.
    names: FxHashMap<u64, Arc<str>>,
    /// Hits of which nobody could say any more whether they were asked for.
    lost: u64,
    /// Registers at the last hit of each goroutine.
    previous: FxHashMap<u64, Previous>,
    signals: Option<Signals>,
}

impl MapWatch {
    /// Finds what to probe in the session's program. `stopped` says that the target stands still at each hit;
    /// `cost` is what one costs it.
    pub fn new(
        session: &Session,
        mut options: WatchOptions,
        stopped: bool,
        cost: Duration,
        show: Show,
    ) -> Result<MapWatch> {
        let mut plan = plan_of(session)?;
        options.wanted.operations = operations(&options)?;
        let wanted = options.wanted.operations.clone();
        if options.entry {
            plan.without_outcomes();
        }
        plan.retain(|point| wanted.is_empty() || wanted.iter().any(|operation| may_be(point, *operation)));
        if plan.points.is_empty() {
            return Err(Error::Usage(
                "there is nothing to probe: the program has no map function for these operations".into(),
            ));
        }
        if let Some(point) = plan.points.iter().find(|point| stopped && is_probed_already(session, point)) {
            return Err(Error::Usage(format!(
                "a kernel probe stands on {} already, perhaps another watch's, and gdb would not see its calls: end that first, \
                 or use --engine uprobe",
                point.function
            )));
        }
        let budget = Budget::new(options.max_overhead, Some(options.limit).filter(|&limit| limit > 0), cost, WINDOW);
        let mut teller = Teller::new(session, plan, stopped, show, options.snapshot);
        if let Some((map, name)) = &options.map {
            teller.name(map.address, name);
            options.wanted.map = Some(map.address);
        }
        Ok(MapWatch {
            teller,
            options,
            goid_offset: goid_offset(session),
            summary: Summary::new(COUNTED),
            pairs: Pairs::default(),
            throttle: Throttle::new(LINES_A_SECOND, BURST),
            budget,
            first_ns: None,
            last: None,
            names: FxHashMap::default(),
            lost: 0,
            previous: FxHashMap::default(),
            signals: Signals::of(session),
        })
    }

    /// What is probed.
    pub fn plan(&self) -> &ProbePlan {
        &self.teller.plan
    }

    /// The kernel engine may take fewer probes than were planned: its hits count in this plan.
    pub fn follow(&mut self, plan: &ProbePlan) {
        self.teller.plan = plan.clone();
    }

    /// Run-time addresses of the probes: calls in the plan's order, then returns.
    pub fn addresses(&self) -> Vec<u64> {
        (0..).map_while(|point| self.address(point)).collect()
    }

    /// Run-time address of probe `point` of those.
    pub fn address(&self, point: usize) -> Option<u64> {
        let plan = self.plan();
        let address = match point.checked_sub(plan.points.len()) {
            None => plan.points.get(point)?.address,
            Some(end) => plan.returns.get(end)?.address,
        };
        Some(address.wrapping_add(self.teller.bias))
    }

    /// Whether outcomes were asked for and cannot be told, since this machine's code is not read.
    pub fn lacks_outcomes(&self) -> bool {
        !self.options.entry && self.plan().returns.is_empty()
    }

    /// Run-time address that the program comes to before it executes another one.
    pub fn before_exec(&self) -> Option<u64> {
        Some(self.plan().before_exec?.wrapping_add(self.teller.bias))
    }

    /// Offset of `goid` in `runtime.g`.
    pub fn goid_offset(&self) -> u64 {
        self.goid_offset
    }

    /// What the kernel can decide by itself, and what it can fetch of the keys when all are of one type. The exact
    /// check of what it passes on is `take`'s.
    pub fn kernel_filters(&self, session: &Session) -> Filters {
        let wanted = &self.options.wanted;
        let mut filters = Filters {
            map: wanted.map,
            goroutine: wanted.goroutine,
            keyed: wanted.key.is_some() || wanted.misses,
            ..Filters::default()
        };
        if let Some((map, _)) = &self.options.map {
            filters.pointed = match session.open(*map).map(|map| map.key.kind) {
                Ok(Kind::String) => PointedKey::String,
                Ok(Kind::Interface) => PointedKey::Interface,
                _ => PointedKey::Bytes,
            };
            filters.key = self.demands(session, map.ty).unwrap_or_default();
        } else if wanted.type_name.is_some() || wanted.key.is_some() {
            filters.no_sync_map = !wanted.is_type("sync.Map");
            filters.types = self.type_filters(session);
        }
        filters
    }

    /// What the kernel has to know of each map type that the program lists, the wanted ones first.
    fn type_filters(&self, session: &Session) -> Vec<TypeFilter> {
        let types = &session.types;
        let (Ok(descriptors), Ok(index)) = (types.descriptors(), types.type_index()) else { return Vec::new() };
        let is_map = |address: &u64| descriptors.descriptor(*address).is_ok_and(|ty| ty.kind == Kind::Map);
        let mut filters: Vec<TypeFilter> = index
            .addresses()
            .filter(is_map)
            .filter_map(|descriptor| {
                let ty = types.by_descriptor(descriptor).ok()?;
                let wanted = self.options.wanted.is_type(&types.load(ty).ok()?.name);
                Some(TypeFilter { descriptor, keys: wanted.then(|| self.demands(session, ty)).flatten() })
            })
            .collect();
        filters.sort_by_key(|filter| (filter.keys.is_none(), filter.descriptor));
        filters
    }

    /// What the pattern for keys demands of those of a map type; `None` when no key of such a map can match it.
    fn demands(&self, session: &Session, ty: TypeId) -> Option<Vec<Demand>> {
        let Some(pattern) = &self.options.wanted.key else { return Some(Vec::new()) };
        let loaded = session.types.load(ty).ok()?;
        let Shape::Map(map) = &loaded.shape else { return Some(Vec::new()) };
        let filter = Filter::compile(&session.types, map.key, map.elem, pattern).ok()?;
        Some(filter.demands().0)
    }

    /// The last hit that was told.
    pub fn last(&self) -> Option<&LastHit> {
        self.last.as_ref()
    }

    /// Operations told so far.
    pub fn hits(&self) -> u64 {
        self.summary.hits
    }

    /// Addresses that a hit with these registers makes us read, the surest first.
    fn looked_at(&self, point: usize, registers: &Registers) -> Vec<u64> {
        let Registers { arguments, stack, frame, goroutine: g, .. } = *registers;
        let mut addresses = vec![stack, g, g.wrapping_add(self.goid_offset)];
        if let (Some(signals), Some((_, _, Some(taken)))) = (&self.signals, self.previous.get(&g)) {
            addresses.push(taken.counter(signals));
        }
        if let Some(point) = self.plan().points.get(point) {
            let argument = |n: u8| arguments.get(n as usize).copied();
            addresses.extend(argument(point.map).filter(|&map| map != 0));
            addresses.extend(match point.key {
                KeyPlace::Pointer(key) | KeyPlace::String(key) => argument(key),
                KeyPlace::Interface(key) => argument(key + 1),
                KeyPlace::None | KeyPlace::Value32(_) | KeyPlace::Value64(_) => None,
            });
        }
        addresses.push(frame);
        addresses
    }

    /// Takes the hit of a stopped thread at probe `point`.
    pub fn stopped_at(
        &mut self,
        session: &Session,
        point: usize,
        thread: u32,
        registers: &Registers,
        out: &mut dyn Write,
    ) -> Result<Taken> {
        session.forget();
        let memory = &*session.memory;
        let Registers { arguments: [_, b, c, ..], stack, frame, goroutine: g, .. } = *registers;
        let now = [b, c, stack, frame];
        memory.expect(&self.looked_at(point, registers));
        if self.previous.len() > COUNTED {
            self.previous.clear();
        }
        let taken = self.signals.and_then(|signals| signals.taken(memory, g));
        let previous = self.previous.insert(g, (point, now, taken));
        // A loop over one key looks the same as a repetition, so that is not enough.
        if let Some((_, _, before)) = previous.filter(|(at, registers, _)| (*at, *registers) == (point, now)) {
            let pc = self.address(point).unwrap_or(0);
            if self
                .signals
                .zip(before)
                .is_some_and(|(signals, before)| signals.interrupted(memory, before, c, stack, pc))
            {
                return Ok(Taken::Ignored);
            }
        }
        let (bias, offset) = (self.teller.bias, self.goid_offset);
        let ns = now_ns();
        let seen = match point.checked_sub(self.plan().points.len()) {
            None => {
                let hit = registers.hit(self.plan(), point, bias, offset, &*session.memory);
                hit.map(|hit| Seen::Call(Hit { ns, thread, ..hit }))
            }
            Some(end) => {
                let of = registers.returned(self.plan(), end, bias, offset, &*session.memory);
                of.map(|of| Seen::Return(Return { ns, thread, ..of }))
            }
        };
        seen.map_or(Ok(Taken::Ignored), |seen| self.take(session, seen, out))
    }

    /// Takes what was seen: filters calls, and tells and counts them when they have returned.
    pub fn take(&mut self, session: &Session, seen: Seen, out: &mut dyn Write) -> Result<Taken> {
        if self.budget.left() == Some(0) {
            return Ok(Taken::Ignored);
        }
        match seen {
            Seen::Call(hit) => self.called(session, hit, out),
            Seen::Return(of) => match self.pairs.end(&self.teller.plan, &of) {
                Some((open, outcome)) => self.conclude(session, &open.hit, *open.with, outcome, out),
                None => Ok(Taken::Ignored),
            },
            Seen::Gap(from, to) => {
                self.pairs.gap(from, to);
                Ok(Taken::Ignored)
            }
        }
    }

    fn called(&mut self, session: &Session, hit: Hit, out: &mut dyn Write) -> Result<Taken> {
        if self.teller.plan.is_hidden(hit.callers[0]) {
            return Ok(Taken::Ignored);
        }
        let mut taken = Taken::Ignored;
        if let Some(open) = self.pairs.interrupted(&hit) {
            // The stack check came behind the probe, and the function began again on a larger stack.
            let at_entry = self.plan().points.get(hit.point).is_some_and(|point| point.at_entry);
            if at_entry && (open.hit.point, open.hit.map, open.hit.callers[0]) == (hit.point, hit.map, hit.callers[0]) {
                self.pairs.begin(open.hit, open.with);
                return Ok(Taken::Ignored);
            }
            taken = self.conclude(session, &open.hit, *open.with, Outcome::Unknown, out)?;
            if matches!(taken, Taken::Last(_)) {
                return Ok(taken);
            }
        }
        let event = match self.teller.tell(session, &hit, &self.options.wanted)? {
            Told::Event(event) => event,
            Told::Unwanted => return Ok(taken),
            Told::Lost => {
                self.lost += 1;
                return Ok(taken);
            }
        };
        let (hit, event, outcome) = match Pairs::<Pending>::at_once(&self.teller.plan, &hit) {
            Some(outcome) => (hit, event, outcome),
            None => match self.pairs.begin(hit, event) {
                Some(given_up) => (given_up.hit, given_up.with, Outcome::Unknown),
                None => return Ok(taken),
            },
        };
        match self.conclude(session, &hit, *event, outcome, out)? {
            Taken::Ignored => Ok(taken),
            more => Ok(more),
        }
    }

    /// Tells and counts an operation whose outcome is known, or never will be.
    fn conclude(
        &mut self,
        session: &Session,
        hit: &Hit,
        mut event: Event,
        outcome: Outcome,
        out: &mut dyn Write,
    ) -> Result<Taken> {
        if self.options.wanted.misses && outcome != Outcome::Missing {
            // Of these it is only said how many there were.
            self.summary.unknown += u64::from(outcome == Outcome::Unknown);
            return Ok(Taken::Ignored);
        }
        self.teller.conclude(session, hit, &mut event, outcome);
        let key = event.key.as_ref().map(|key| (&key.of, key.text.as_str()));
        let is_read = event.operation.family() == "access";
        let outcome = (hit.key != Key::None).then_some(outcome);
        self.summary.add(key, outcome, is_read, &event.caller.function);
        if let (Some(key), Some(name)) = (&event.key, &event.name) {
            if self.names.len() < COUNTED {
                self.names.entry(key.of.map).or_insert_with(|| name.clone());
            }
        }
        let first = *self.first_ns.get_or_insert(hit.ns);
        if self.teller.show.json {
            line(out, &self.document(hit, &event))?;
        } else if !self.options.paced || self.throttle.passes(hit.ns) {
            tell_held_back(&mut self.throttle, out)?;
            out.write_all(text(hit, &event, hit.ns.saturating_sub(first)).as_bytes()).map_err(write_error)?;
        }
        let key = event.key.map(|key| key.text);
        self.last = Some(LastHit { map: event.map, key, goroutine: hit.goroutine });
        Ok(self.budget.hit(1).map_or(Taken::Told, Taken::Last))
    }

    /// Judges what the watch costs: the target's CPU time so far, and hits that cost it, wanted or not.
    pub fn judge(&mut self, cpu: Duration, hits: u64) -> Option<Spent> {
        self.budget.judge(Duration::from_nanos(now_ns()), cpu, hits)
    }

    /// Judges a share of time, as a debugger that stops the target sees it.
    pub fn judge_share(&self, percent: f64) -> Option<Spent> {
        let allowed = self.options.max_overhead.filter(|&allowed| percent > allowed)?;
        Some(Spent::Overhead { percent, allowed })
    }

    /// Tells what it all came to. `dropped` hits were lost by the engine; one cost `cost`.
    pub fn finish(
        &mut self,
        session: &Session,
        dropped: u64,
        cost: Option<Duration>,
        out: &mut dyn Write,
    ) -> Result<()> {
        for open in self.pairs.rest() {
            if self.budget.left() != Some(0) {
                self.conclude(session, &open.hit, *open.with, Outcome::Unknown, out)?;
            }
        }
        let dropped = dropped + self.lost;
        let Summary { hits, found, missed, unknown, keyless, keys, missing, callers } = &self.summary;
        let micros = cost.map(|cost| (cost.as_secs_f64() * 1e7).round() / 10.0);
        let ([keys, missing], callers) = ([keys, missing].map(|frequent| frequent.top(TOP)), callers.top(TOP));
        if self.teller.show.json {
            let of_callers: Vec<Value> =
                callers.into_iter().map(|row| json!({"func": row.shown, "count": row.count})).collect();
            let of_keys = |rows: Vec<Row<'_, KeyOf>>| -> Vec<Value> {
                let row = |row: Row<'_, KeyOf>| json!({"key": parsed(row.shown), "count": row.count, "map": format!("{:#x}", row.of.map)});
                rows.into_iter().map(row).collect()
            };
            let summary = json!({
                "hits": hits, "found": found, "missed": missed, "unknown": unknown, "keyless": keyless, "dropped": dropped,
                "us_per_hit": micros, "keys": of_keys(keys), "missing": of_keys(missing), "callers": of_callers,
            });
            return line(out, &json!({ "summary": summary }));
        }
        tell_held_back(&mut self.throttle, out)?;
        let mut text = format!("{hits} operations, {found} found, {missed} missed");
        if *unknown > 0 {
            text += &format!(", {unknown} unknown");
        }
        if *keyless > 0 {
            text += &format!(", {keyless} without a key");
        }
        text += &format!(", {dropped} dropped");
        if let Some(micros) = micros {
            text += &format!(", {micros} us each");
        }
        text.push('\n');
        let keys = [("keys", keys), ("missing keys", missing)].map(|(title, rows)| (title, self.shown_apart(&rows)));
        let callers = callers.iter().map(|row| (row.count, row.shown.to_string())).collect();
        for (title, rows) in keys.into_iter().chain([("callers", callers)]) {
            if !rows.is_empty() {
                text += &format!("  most frequent {title}:\n");
            }
            for (count, row) in rows {
                text += &format!("  {count:>10}  {row}\n");
            }
        }
        out.write_all(text.as_bytes()).map_err(write_error)
    }

    /// Keys as they are shown, with their map where there may be several, and told apart where they look the same.
    fn shown_apart(&self, rows: &[Row<'_, KeyOf>]) -> Vec<(u64, String)> {
        let place = |row: &Row<'_, KeyOf>| match self.names.get(&row.of.map) {
            _ if self.options.map.is_some() => row.shown.to_string(),
            Some(name) => format!("{name}[{}]", row.shown),
            None => format!("({:#x})[{}]", row.of.map, row.shown),
        };
        let shown: Vec<String> = rows.iter().map(place).collect();
        let alike = |text: &String| shown.iter().filter(|other| *other == text).count() > 1;
        let apart = |(row, text): (&Row<'_, KeyOf>, &String)| match &row.of.key {
            KeyId::Whole(key) if alike(text) => (row.count, format!("{text}  (identity {})", key.digest())),
            _ => (row.count, text.clone()),
        };
        rows.iter().zip(&shown).map(apart).collect()
    }

    fn document(&self, hit: &Hit, event: &Event) -> Value {
        let mut document = json!({
            "n": self.summary.hits,
            "ns": hit.ns,
            "goid": hit.goroutine,
            "thread": hit.thread,
            "op": event.operation.name(),
            "function": event.function,
            "type": &*event.type_name,
            "map": format!("{:#x}", hit.map),
            "key": event.key.as_ref().map(|key| parsed(&key.text)),
            "found": event.outcome.found(),
            "caller": {
                "func": event.caller.function,
                "file": event.caller.place.as_ref().map(|place| &place.0),
                "line": event.caller.place.as_ref().map(|place| place.1),
            },
        });
        if let Some(name) = &event.name {
            document["name"] = (**name).into();
        }
        if let Some(near) = &event.near {
            let mut like = json!({"key": parsed(&near.key), "relation": near.relation, "detail": near.detail});
            if near.changed {
                like["changed"] = true.into();
            }
            document["near"] = json!([like]);
        }
        if let Some(state) = &event.state {
            document["state"] = state.clone();
        }
        document
    }
}

/// A key that was written as JSON.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn tell_held_back(throttle: &mut Throttle, out: &mut dyn Write) -> Result<()> {
    match throttle.take_held_back() {
        0 => Ok(()),
        n => writeln!(out, "  … {n} more, not shown").map_err(write_error),
    }
}

/// One line: time since the first hit, goroutine, operation, map and key, outcome, caller.
fn text(hit: &Hit, event: &Event, since: u64) -> String {
    let map = match &event.name {
        Some(name) => name.to_string(),
        None => format!("({} {:#x})", event.type_name, hit.map),
    };
    let key = event.key.as_ref().map_or(String::new(), |key| format!("[{}]", key.text));
    let outcome = match (event.outcome, &event.key) {
        (Outcome::Found, _) => "  found",
        (Outcome::Missing, _) => "  missing",
        (Outcome::Unknown, _) => "",
    };
    let mut text = format!(
        "+{:.6}  g{}  {}  {map}{key}{outcome}  {}",
        since as f64 * 1e-9,
        hit.goroutine,
        event.operation.name(),
        event.caller.function
    );
    if let Some((file, line)) = &event.caller.place {
        let file = file.rsplit('/').next().unwrap_or(file);
        text += &format!(" {file}:{line}");
    }
    text.push('\n');
    if let Some(near) = &event.near {
        let changed = if near.changed { "; the map has changed since" } else { "" };
        text += &format!("      like {}  {}: {}{changed}\n", near.key, near.relation, near.detail);
    }
    if let Some(state) = &event.state {
        text += &format!("      {state}\n");
    }
    text
}

/// The operations that are wanted, none for any.
fn operations(options: &WatchOptions) -> Result<Vec<Operation>> {
    let mut wanted = Vec::new();
    for word in &options.operations {
        let named = Operation::named(word);
        if named.is_empty() {
            return Err(Error::Usage(format!(
                "--op knows {}, and each operation by its name, not {word:?}",
                FAMILIES.join(", ")
            )));
        }
        wanted.extend(named);
    }
    if !options.wanted.misses {
        return Ok(wanted);
    }
    if options.entry {
        return Err(Error::Usage(
            "--misses asks what lookups found, and --entry leaves that out: give one of them".into(),
        ));
    }
    let is_read = |operation: &Operation| operation.family() == "access";
    let reads: Vec<Operation> = match wanted.is_empty() {
        true => Operation::named("access"),
        false => wanted.into_iter().filter(is_read).collect(),
    };
    match reads.is_empty() {
        true => Err(Error::Usage("--misses shows reads that missed their key, and --op leaves no reads".into())),
        false => Ok(reads),
    }
}

/// Whether a hit of this probe may turn out to be this operation: callers tell wrappers and inlined methods.
fn may_be(point: &ProbePoint, operation: Operation) -> bool {
    point.operation.family() == operation.family() && point.operation.is_method() == operation.is_method()
}

/// The plan for the session's program, from its function table or, where there is none, its symbols.
fn plan_of(session: &Session) -> Result<ProbePlan> {
    let program = session.types.program();
    let bias = program.bias;
    let mut functions: Vec<FunctionSymbol> = Vec::new();
    if let Some(module) = session.types.module() {
        functions.extend(module.functions.functions().map(|function| FunctionSymbol {
            name: function.name().into_owned(),
            entry: function.entry.wrapping_sub(bias),
            end: function.end.wrapping_sub(bias),
        }));
    }
    if functions.is_empty() {
        functions.extend(program.functions().iter().map(|function| FunctionSymbol {
            name: function.name.clone(),
            entry: function.address,
            end: function.address + function.size,
        }));
    }
    let arch = if program.is_arm() { Arch::Arm64 } else { Arch::Amd64 };
    // Memory may hold breakpoints; the file does not.
    let elf = object::File::parse(&program.file[..])
        .map_err(|e| Error::Binary(format!("{} is no ELF file: {e}", program.path.display())))?;
    Ok(plan(arch, program.go(), &functions, &|address, buf| {
        let found = elf.segments().find_map(|s| s.data_range(address, buf.len() as u64).ok().flatten());
        found.map(|bytes| buf.copy_from_slice(bytes)).is_some()
    }))
}

/// Whether there is a breakpoint in memory; the debugger's own are not in while the program stands still.
fn is_probed_already(session: &Session, point: &ProbePoint) -> bool {
    const INT3: u8 = 0xcc;
    let program = session.types.program();
    let mut code = [0];
    !program.is_arm()
        && session.memory.read(point.address.wrapping_add(program.bias), &mut code).is_ok()
        && code == [INT3]
}

/// Offset of `goid`: what DWARF says, else what is known of the version.
fn goid_offset(session: &Session) -> u64 {
    let declared = session.types.offset("runtime.g", "goid").ok().flatten();
    declared.unwrap_or_else(|| goroutine::goid(session.types.program().go()))
}
