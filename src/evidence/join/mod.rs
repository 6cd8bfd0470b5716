//! Profiles and a trace, joined: by goroutine id, and by stack where a profile has no ids.
//!
//! Data flows one way: files -> [`clusters`](super::clusters) and [`trace`](super::trace) -> [`same`] (one process?)
//! -> [`record`] (plain data) -> [`crate::report`].

mod align;
pub mod record;
mod same;

use hashbrown::HashMap;
use rustc_hash::FxHashMap;
use std::sync::Arc;

use super::clusters::{self, Row, Source, Survey};
use super::profile::{self, Note, StackId, Symbols, Text};
use super::trace::{self, GoState, StackRef, Trace};
use super::EvidenceFile;
use crate::goroutine::lookup::Verdict;
use crate::score::{self, of_cluster, of_goroutine, Facts, Missed, TraceFacts};
pub use crate::score::{Class, Clue, Score, Term};
use crate::{Error, Result};
pub use record::{
    Alignment, Cluster, Confidence, Evidence, Frame, Functions, Goroutine, Heat, Held, Identity, InProfile, InTrace,
    Input, InputKind, Limit, Link, Looked, MapView, MemorySite, NearKey, Now, Process, SameProcess, Site, Span,
    StateSource, Taken, Target, TargetGoroutine, Window,
};

/// Contradictions listed; the rest is counted.
const MAX_CONFLICTS: usize = 100;

/// Map entries named for one cluster.
const MAX_HELD: usize = 50;

/// What one profile, or memory, says of one goroutine.
struct Seen {
    /// Index of the source.
    input: usize,
    state: Text,
    minutes: Option<u64>,
    leaked: bool,
    labels: Vec<(Text, Text)>,
    parent: Option<u64>,
    /// Address of its runtime.g.
    g: Option<u64>,
    /// The outermost function, if the whole stack is there.
    start: Option<Text>,
    created_by: Option<Text>,
}

/// What one profile says of itself and of its program.
#[derive(Debug, Default)]
struct ProfileFacts {
    /// When it was taken, and when its file was last changed; ns since 1970.
    taken: Option<i64>,
    written: Option<i64>,
    build_id: Option<String>,
    /// It lists all goroutines, with ids.
    whole: bool,
    /// Names (hashed) of the functions at an address and of those around it; of profiles without ids.
    calls: FxHashMap<u64, Vec<u64>>,
}

/// Functions inlined into each other at one address that are kept in [`ProfileFacts::calls`].
const MAX_AROUND: usize = 16;

/// Joins profiles, in the order in which they were taken, and a trace given by name. Sources of different processes
/// or builds are refused unless `force`. `target` is a core or a live process.
pub fn join(
    files: &[EvidenceFile],
    trace: Option<(&str, &Trace)>,
    target: Option<Target>,
    force: bool,
) -> Result<Evidence> {
    let named: Vec<(&str, &[u8])> = files.iter().map(|file| (file.name.as_str(), file.bytes())).collect();
    let survey = clusters::survey(&named).map_err(|e| Error::Evidence(e.to_string()))?;
    // The survey may have put the profiles in another order.
    let ordered: Vec<Option<&EvidenceFile>> =
        survey.profiles.iter().map(|summary| files.iter().find(|file| file.name == summary.name)).collect();
    let mut symbols = Symbols::default();
    let (mut seen, facts) = scan_goroutines(&survey, &ordered, &mut symbols)?;
    if let Some(target) = &target {
        see_memory(target, survey.profiles.len(), &mut seen, &mut symbols);
    }
    let inputs = inputs(&survey, target.as_ref(), trace);
    let world = same::World { seen: &seen, symbols: &symbols };
    let compared = compare(&inputs, trace.map(|(_, trace)| trace), (&facts, target.as_ref()), &world, force)?;
    let profiles: Vec<(&Input, Option<i64>)> =
        inputs.iter().zip(&ordered).map(|(input, file)| (input, file.and_then(|file| file.written))).collect();
    let process = target.as_ref().map(|target| &target.process);
    let alignment = align::align(trace.map(|(_, trace)| trace), process, &profiles, compared.moments);
    let mut joiner = Joiner::new(survey, seen, symbols, trace.map(|(_, trace)| trace));
    joiner.ids = inputs.iter().map(|input| input.id.clone()).collect();
    joiner.compared = compared.conflicts;
    joiner.identities = compared.identities;
    joiner.add_rows();
    if let Some(target) = target {
        joiner.add_memory(target);
    }
    joiner.add_trace();
    Ok(joiner.finish(inputs, alignment))
}

/// Goroutines by id, each as every source has it.
type SeenById = FxHashMap<u64, Vec<Seen>>;

/// Every goroutine of the profiles that know ids, and what each profile says of itself.
fn scan_goroutines(
    survey: &Survey,
    files: &[Option<&EvidenceFile>],
    symbols: &mut Symbols,
) -> Result<(SeenById, Vec<ProfileFacts>)> {
    let mut seen: SeenById = FxHashMap::default();
    let mut facts = Vec::new();
    for (input, (summary, file)) in survey.profiles.iter().zip(files).enumerate() {
        let mut own = ProfileFacts { taken: summary.taken, ..ProfileFacts::default() };
        let Some(file) = file else {
            facts.push(own);
            continue;
        };
        let mut each = |symbols: &Symbols, goroutine: profile::Goroutine| {
            // Every thread's own g0 has the id 0 in a crash.
            if goroutine.goid == 0 {
                return;
            }
            // A crash prints the outermost frames that other forms leave out.
            let mut calls = symbols.stack(goroutine.stack).iter().rev().skip_while(|&&id| {
                let name = symbols.function(id);
                name == "runtime.goexit" || clusters::is_go_wrapper(name)
            });
            let outermost = calls.next().filter(|_| goroutine.elided.is_none());
            // One that ends just now has returned from its own function already.
            let outermost = outermost.filter(|&&id| !symbols.function(id).starts_with("runtime."));
            // Nearly all are seen once: there may be very many.
            let known = seen.entry(goroutine.goid).or_insert_with(|| Vec::with_capacity(1));
            // A file may hold more than one dump: the last one counts.
            known.retain(|one| one.input != input);
            known.push(Seen {
                input,
                state: goroutine.reason.unwrap_or(goroutine.status),
                minutes: goroutine.minutes,
                leaked: goroutine.leaked,
                labels: goroutine.labels,
                parent: goroutine.parent,
                g: goroutine.g,
                // Without a creator below it, the stack may have been cut.
                start: outermost.filter(|_| goroutine.created_by.is_some()).map(|&id| symbols.frame(id).function),
                created_by: goroutine.created_by.map(|id| symbols.frame(id).function),
            });
        };
        let scanned = profile::scan(file.bytes(), symbols, &mut each)
            .map_err(|e| Error::Evidence(format!("{}: {e}", file.name)))?;
        own.written = file.written;
        own.build_id = scanned.build_id;
        for group in scanned.groups.iter().flatten() {
            add_calls(&mut own.calls, symbols, group.stack);
        }
        let of_input = |all: &&Vec<Seen>| all.iter().any(|one| one.input == input);
        let main = seen.get(&1).as_ref().is_some_and(of_input);
        // Of a crash only the goroutine at fault may be printed, and a part of a dump may be pasted; the main
        // goroutine, which nearly never ends, tells a whole one.
        own.whole = summary.kind.lists_all() && main && summary.held > 1 && !summary.truncated;
        facts.push(own);
    }
    Ok((seen, facts))
}

fn add_calls(calls: &mut FxHashMap<u64, Vec<u64>>, symbols: &Symbols, stack: StackId) {
    let frames = symbols.stack(stack);
    for (n, &id) in frames.iter().enumerate() {
        let Some(pc) = symbols.frame(id).pc.filter(|&pc| pc != 0) else { continue };
        let around = frames.iter().skip(n).take(MAX_AROUND).map(|&id| Functions::hash(symbols.function(id)));
        let known = calls.entry(pc).or_default();
        if known.is_empty() {
            known.extend(around);
        }
    }
}

/// Adds every goroutine in memory, as source number `input`.
fn see_memory(target: &Target, input: usize, seen: &mut FxHashMap<u64, Vec<Seen>>, symbols: &mut Symbols) {
    for goroutine in &target.goroutines {
        let wrapped = goroutine.start.as_deref().is_some_and(clusters::is_go_wrapper);
        // Other sources leave the compiler's wrapper of a `go` statement out.
        let inside = || {
            let frames = goroutine.frames.iter().map(|frame| frame.function.as_str()).rev();
            let mut frames = frames.skip_while(|name| *name == "runtime.goexit");
            frames.next().filter(|name| clusters::is_go_wrapper(name)).and_then(|_| frames.next())
        };
        let start = if wrapped { inside() } else { goroutine.start.as_deref().filter(|_| goroutine.goid != 1) };
        let intern = |symbols: &mut Symbols, text: &str| symbols.intern(text.as_bytes());
        let one = Seen {
            input,
            state: intern(symbols, &goroutine.state),
            minutes: None,
            leaked: false,
            labels: goroutine
                .labels
                .iter()
                .map(|(key, value)| (intern(symbols, key), intern(symbols, value)))
                .collect(),
            parent: goroutine.parent,
            g: Some(goroutine.g),
            start: start.map(|name| intern(symbols, name)),
            created_by: goroutine.created_by.as_ref().map(|frame| intern(symbols, &frame.function)),
        };
        seen.entry(goroutine.goid).or_default().push(one);
    }
}

fn inputs(survey: &Survey, target: Option<&Target>, trace: Option<(&str, &Trace)>) -> Vec<Input> {
    let profiles = survey.profiles.iter().enumerate().map(|(n, summary)| Input {
        id: format!("p{}", n + 1),
        name: summary.name.clone(),
        format: summary.kind.as_str().to_string(),
        kind: InputKind::Profile,
        goroutines: summary.held,
        taken: summary.taken,
        truncated: summary.truncated,
        notes: summary.causes.iter().cloned().chain(summary.notes.iter().map(Note::to_string)).collect(),
    });
    let memory = target.map(|target| Input {
        id: "d1".to_string(),
        name: "core or process".to_string(),
        format: format!("memory of {}", target.version.as_deref().unwrap_or("an unknown Go")),
        kind: InputKind::Memory,
        goroutines: target.goroutines.len() as u64,
        taken: None,
        truncated: !target.complete,
        notes: target.notes.iter().chain(&target.limits).cloned().collect(),
    });
    let trace = trace.map(|(name, trace)| Input {
        id: "t1".to_string(),
        name: name.to_string(),
        format: format!("execution trace, format go 1.{}", trace.version.0),
        kind: InputKind::Trace,
        goroutines: trace.counts.goroutines_seen,
        taken: None,
        truncated: trace.incomplete.is_some(),
        notes: trace.notes.clone(),
    });
    profiles.chain(memory).chain(trace).collect()
}

/// What the comparison of all pairs of sources found.
#[derive(Default)]
struct Compared {
    conflicts: Vec<(Option<u64>, String)>,
    identities: Vec<Identity>,
    moments: Vec<Taken>,
}

impl Compared {
    fn take(&mut self, found: same::Comparison, a: &Input, b: &Input, force: bool) -> Result<()> {
        let (verdict, sign) = match (found.conflicts.first(), found.same) {
            (Some((_, sentence)), _) if !force => {
                return Err(Error::Evidence(format!(
                "{} and {} are of different processes or builds ({sentence}); give --force to join them all the same",
                a.name, b.name
            )))
            }
            (Some((_, sentence)), _) => (SameProcess::Different, sentence.clone()),
            (None, Some(sign)) => (SameProcess::Same, sign),
            (None, None) => {
                let common = found.common;
                (
                    SameProcess::NotTold,
                    format!("{common} goroutines are in both, none contradicts; another run may look alike"),
                )
            }
        };
        self.identities.push(Identity { a: a.id.clone(), b: b.id.clone(), verdict, sign });
        if !found.conflicts.is_empty() {
            self.conflicts.extend(found.conflicts);
            self.conflicts.push((None, format!("{} and {} are of different processes or builds", a.name, b.name)));
        }
        Ok(())
    }
}

/// Compares every pair of sources; an error where two are not of one process.
fn compare(
    inputs: &[Input],
    trace: Option<&Trace>,
    (facts, target): (&[ProfileFacts], Option<&Target>),
    world: &same::World,
    force: bool,
) -> Result<Compared> {
    let mut compared = Compared::default();
    let sides = inputs.iter().filter(|input| input.kind != InputKind::Trace).enumerate().map(|(n, input)| {
        let of_memory = target.filter(|_| input.kind == InputKind::Memory);
        let whole = match of_memory {
            Some(target) => target.complete,
            None => facts.get(n).is_some_and(|facts| facts.whole),
        };
        let process = of_memory.map(|target| &target.process);
        (input, same::Side { id: &input.id, input: n, whole, facts: facts.get(n), process })
    });
    let sides: Vec<(&Input, same::Side)> = sides.collect();
    let traced = trace.zip(inputs.iter().find(|input| input.kind == InputKind::Trace));
    for (n, (a, side)) in sides.iter().enumerate() {
        for (b, other) in sides.iter().skip(n + 1) {
            compared.take(same::sides(side, other, world), a, b, force)?;
        }
        if let Some((trace, b)) = traced {
            let (found, moment) = same::with_trace(side, (&b.id, trace), world);
            compared.take(found, a, b, force)?;
            let (low, high) = (moment.low.map(|(at, _)| at), moment.high.map(|(at, _)| at));
            compared.moments.push(Taken { id: a.id.clone(), kind: a.kind, low, high });
        }
    }
    Ok(compared)
}

/// A normalised stack: functions without type arguments, and lines.
type StackKey = Vec<(String, u32)>;

struct Joiner<'t> {
    survey: Survey,
    seen: SeenById,
    /// Whether any source knows goroutine ids.
    knows_ids: bool,
    /// Texts of `seen`.
    symbols: Symbols,
    states: FxHashMap<Text, Arc<str>>,
    trace: Option<&'t Trace>,
    clusters: Vec<Draft>,
    of_goid: FxHashMap<u64, usize>,
    /// Clusters of profiles without ids.
    of_stack: HashMap<StackKey, usize>,
    /// Clusters that only the trace knows, by state and stack.
    of_trace: HashMap<(String, StackKey), usize>,
    /// Normalised stacks of the trace.
    stacks: FxHashMap<StackRef, Vec<Frame>>,
    goroutines: Vec<Goroutine>,
    /// What the comparison of whole sources found; a few at most.
    compared: Vec<(Option<u64>, String)>,
    /// What single goroutines contradict.
    conflicts: Vec<String>,
    identities: Vec<Identity>,
    map: Option<MapView>,
    /// Ids of the inputs.
    ids: Vec<String>,
    memory: FxHashMap<u64, TargetGoroutine>,
    /// Whether memory was read, and whether all its maps were searched.
    searched: Option<bool>,
    /// Whether memory tells of no map operations before waits, because they were not read.
    calls_unread: bool,
}

/// A cluster while members are still found.
struct Draft {
    cluster: Cluster,
    growth: Option<u64>,
    base: Arc<Score>,
}

impl<'t> Joiner<'t> {
    fn new(survey: Survey, seen: SeenById, symbols: Symbols, trace: Option<&'t Trace>) -> Joiner<'t> {
        Joiner {
            survey,
            knows_ids: !seen.is_empty(),
            seen,
            symbols,
            states: FxHashMap::default(),
            trace,
            clusters: Vec::new(),
            of_goid: FxHashMap::default(),
            of_stack: HashMap::new(),
            of_trace: HashMap::new(),
            stacks: FxHashMap::default(),
            goroutines: Vec::new(),
            compared: Vec::new(),
            conflicts: Vec::new(),
            identities: Vec::new(),
            map: None,
            ids: Vec::new(),
            memory: FxHashMap::default(),
            searched: None,
            calls_unread: false,
        }
    }

    /// Clusters of the profiles that are still there in the last.
    fn add_rows(&mut self) {
        let rows = std::mem::take(&mut self.survey.rows);
        for row in rows.iter().filter(|row| row.counts.last().is_some_and(|&count| count > 0)) {
            let at = self.clusters.len();
            let draft = self.draft(row);
            match draft.cluster.goids.is_empty() {
                true => {
                    self.of_stack.insert(stack_key(&draft.cluster.frames), at);
                }
                false => draft.cluster.goids.iter().filter(|&&goid| goid != 0).for_each(|&goid| {
                    self.of_goid.insert(goid, at);
                }),
            }
            self.clusters.push(draft);
        }
    }

    fn draft(&self, row: &Row) -> Draft {
        let (cluster, symbols) = (&row.cluster, &self.survey.symbols);
        let text = |id: Text| symbols.text(id).to_string();
        let frame =
            |site: &clusters::Site| Frame { function: text(site.function), file: text(site.file), line: site.line };
        let sources = row.counts.iter().enumerate().filter(|(_, &count)| count > 0);
        Draft {
            growth: row.grows().then(|| row.growth().unsigned_abs()),
            base: Arc::default(),
            cluster: Cluster {
                id: String::new(),
                count: row.counts.last().copied().unwrap_or_default(),
                counts: row.counts.clone(),
                grows: row.grows(),
                state: text(cluster.reason.unwrap_or(cluster.status)),
                state_source: match cluster.source {
                    Source::Header => StateSource::Header,
                    Source::Frames => StateSource::Frames,
                    Source::Unknown => StateSource::None,
                },
                frames: cluster.sites.iter().map(frame).collect(),
                created_by: cluster.created_by.as_ref().map(frame),
                goids: cluster.goids.clone(),
                leaked: cluster.leaked,
                minutes: cluster.minutes,
                labels: cluster.labels.iter().map(|(&(key, value), &n)| (text(key), text(value), n)).collect(),
                nil_channel: cluster.nil_channel,
                map_functions: cluster.map_functions.iter().map(|&name| text(name)).collect(),
                sources: sources.map(|(n, _)| format!("p{}", n + 1)).collect(),
                score: Score::default(),
                class: Class::Waiting,
                confidence: Confidence::Low,
                sites: Vec::new(),
                lookup: None,
                held: Vec::new(),
                clues: Vec::new(),
                idle: None,
                strongest: None,
            },
        }
    }

    /// Takes in a core or process: goroutines by id, those that no profile names by stack or on their own.
    fn add_memory(&mut self, target: Target) {
        self.map = target.map;
        self.calls_unread = target.calls_unread;
        self.searched = Some(target.whole_scan && target.maps_scanned > 0);
        for goroutine in target.goroutines {
            let goid = goroutine.goid;
            if let Some(&at) = self.of_goid.get(&goid) {
                self.mark(at, "d1");
            } else if goroutine.waits {
                let frames =
                    self.normalised(goroutine.frames.iter().map(|f| (f.function.as_str(), f.file.as_str(), f.line)));
                let (at, _) = self.place(
                    goid,
                    goroutine.state.clone(),
                    StateSource::Memory,
                    frames,
                    goroutine.created_by.clone(),
                );
                self.of_goid.insert(goid, at);
                self.mark(at, "d1");
            }
            self.memory.insert(goid, goroutine);
        }
        let memory = &self.memory;
        for draft in &mut self.clusters {
            let cluster = &mut draft.cluster;
            for goroutine in cluster.goids.iter().filter_map(|goid| memory.get(goid)) {
                if cluster.sites.is_empty() {
                    cluster.sites.clone_from(&goroutine.sites);
                }
                cluster.idle = cluster.idle.or(goroutine.idle);
                cluster.clues.extend(
                    goroutine.clues.iter().filter(|clue| !cluster.clues.contains(clue)).cloned().collect::<Vec<_>>(),
                );
                let names = |looked: &Option<Box<Looked>>| looked.as_ref().map(|looked| !looked.near.is_empty());
                if names(&goroutine.lookup) > names(&cluster.lookup) {
                    cluster.lookup.clone_from(&goroutine.lookup);
                }
                for held in &goroutine.held {
                    if cluster.held.len() < MAX_HELD && !cluster.held.contains(held) {
                        cluster.held.push(held.clone());
                    }
                }
            }
        }
    }

    /// Finds each living goroutine of the trace its cluster, then makes all records.
    fn add_trace(&mut self) {
        let mut links: FxHashMap<u64, Link> = FxHashMap::default();
        if let Some(trace) = self.trace {
            for goroutine in trace.goroutines.values().filter(|goroutine| goroutine.ended.is_none()) {
                if let Some(&at) = self.of_goid.get(&goroutine.goid) {
                    links.insert(goroutine.goid, Link::Id);
                    self.mark(at, "t1");
                } else if goroutine.state() == GoState::Waiting {
                    let (at, link) = self.place_traced(trace, goroutine);
                    links.insert(goroutine.goid, link);
                    self.of_goid.insert(goroutine.goid, at);
                    self.mark(at, "t1");
                }
            }
        }
        for draft in &mut self.clusters {
            let members = draft.cluster.goids.iter().filter_map(|goid| self.memory.get(goid));
            let waits_on_object =
                members.into_iter().any(|g| g.blocked_on.as_ref().is_some_and(|(_, at)| !at.is_empty()));
            let in_no_map = self.searched == Some(true) && waits_on_object && draft.cluster.held.is_empty();
            draft.base = Arc::new(base_score(draft, self.map.as_ref(), in_no_map));
        }
        let mut goids: Vec<(u64, usize)> = self.of_goid.iter().map(|(&goid, &at)| (goid, at)).collect();
        goids.sort_unstable();
        self.goroutines.reserve_exact(goids.len());
        for (goid, at) in goids {
            let link = links.get(&goid).copied().unwrap_or(Link::Alone);
            if let Some(goroutine) = self.record(goid, at, link) {
                self.goroutines.push(goroutine);
            }
        }
    }

    fn mark(&mut self, at: usize, source: &str) {
        if let Some(draft) = self.clusters.get_mut(at) {
            if draft.cluster.sources.last().is_none_or(|last| last != source) {
                draft.cluster.sources.push(source.to_string());
            }
        }
    }

    /// The cluster of a waiting goroutine that no other source names.
    fn place_traced(&mut self, trace: &Trace, goroutine: &trace::Goroutine) -> (usize, Link) {
        let frames = match wait_stack(goroutine) {
            Some(stack) => self.frames(trace, stack),
            None => goroutine.start_function.map_or_else(Vec::new, |id| {
                vec![Frame { function: trace.text(id).to_string(), file: String::new(), line: 0 }]
            }),
        };
        let (state, state_source) = trace_state(trace, goroutine);
        self.place(goroutine.goid, state, state_source, frames, created_by(trace, goroutine))
    }

    /// The cluster of equal stack of a profile without ids, else one of equal state and stack.
    fn place(
        &mut self,
        goid: u64,
        state: String,
        state_source: StateSource,
        frames: Vec<Frame>,
        created_by: Option<Frame>,
    ) -> (usize, Link) {
        let key = stack_key(&frames);
        if let Some(&at) = self.of_stack.get(&key) {
            if let Some(draft) = self.clusters.get_mut(at) {
                draft.cluster.goids.push(goid);
            }
            return (at, Link::Stack);
        }
        let next = self.clusters.len();
        let at = *self.of_trace.entry((state.clone(), key)).or_insert(next);
        if at == next {
            let cluster = Cluster {
                id: String::new(),
                count: 0,
                counts: Vec::new(),
                grows: false,
                nil_channel: state.ends_with("(nil chan)"),
                state,
                state_source,
                frames,
                created_by,
                goids: Vec::new(),
                leaked: 0,
                minutes: None,
                labels: Vec::new(),
                map_functions: Vec::new(),
                sources: Vec::new(),
                score: Score::default(),
                class: Class::Waiting,
                confidence: Confidence::Low,
                sites: Vec::new(),
                lookup: None,
                held: Vec::new(),
                clues: Vec::new(),
                idle: None,
                strongest: None,
            };
            self.clusters.push(Draft { cluster, growth: None, base: Arc::default() });
        }
        if let Some(draft) = self.clusters.get_mut(at) {
            draft.cluster.count += 1;
            draft.cluster.goids.push(goid);
        }
        (at, Link::Alone)
    }

    /// A stack of the trace without the runtime's parking functions and the compiler's wrapper.
    fn frames(&mut self, trace: &Trace, stack: StackRef) -> Vec<Frame> {
        if let Some(known) = self.stacks.get(&stack) {
            return known.clone();
        }
        let calls = trace.stack(stack).map(|f| (f.function, f.file, u32::try_from(f.line).unwrap_or_default()));
        let frames = self.normalised(calls);
        self.stacks.insert(stack, frames.clone());
        frames
    }

    /// Calls without the runtime's parking functions and the compiler's wrapper.
    fn normalised<'f>(&mut self, calls: impl Iterator<Item = (&'f str, &'f str, u32)>) -> Vec<Frame> {
        let symbols = &mut self.survey.symbols;
        let mut ids = Vec::new();
        for (function, file, line) in calls {
            let (function, file) = (symbols.intern(function.as_bytes()), symbols.intern(file.as_bytes()));
            ids.push(symbols.frame_id(profile::Frame { function, file, line, start_line: 0, offset: None, pc: None }));
        }
        let id: StackId = symbols.stack_id(&ids);
        let sites = clusters::normalise(symbols, id);
        let text = |id: Text| symbols.text(id).to_string();
        sites.iter().map(|s| Frame { function: text(s.function), file: text(s.file), line: s.line }).collect()
    }

    fn record(&mut self, goid: u64, at: usize, link: Link) -> Option<Goroutine> {
        let traced = self.trace.and_then(|trace| Some((trace, trace.goroutines.get(&goid)?)));
        let in_trace = traced.map(|(trace, goroutine)| self.in_trace(trace, goroutine));
        let base = self.clusters.get(at)?.base.clone();
        let windows = traced.map_or_else(Vec::new, |(trace, goroutine)| {
            windows(trace, goroutine, in_trace.as_ref().map_or(&[][..], |told| &told.stack))
        });
        let text = |id: Text| self.symbols.text(id).to_string();
        // Taken out as the records are made: there may be very many.
        let mut profiles = Vec::new();
        for one in self.seen.remove(&goid).unwrap_or_default() {
            let state = self.states.entry(one.state).or_insert_with(|| self.symbols.text(one.state).into());
            profiles.reserve_exact(1);
            profiles.push(InProfile {
                input: one.input,
                state: state.clone(),
                minutes: one.minutes,
                leaked: one.leaked,
                labels: one.labels.iter().map(|&(key, value)| (text(key), text(value))).collect(),
            });
        }
        profiles.sort_by_key(|one| one.input);
        let mut conflicts: Vec<String> =
            self.compared.iter().filter(|(of, _)| *of == Some(goid)).map(|(_, sentence)| sentence.clone()).collect();
        let contradiction = profiles
            .last()
            .zip(traced)
            .and_then(|(ours, (trace, theirs))| contradiction(ours, self.id(ours.input), trace, theirs));
        if let Some(sentence) = contradiction {
            self.conflicts.push(sentence.clone());
            conflicts.push(sentence);
        }
        let leaked = profiles.last().is_some_and(|last| last.leaked);
        let score = match (traced, &in_trace) {
            (Some((trace, goroutine)), Some(told)) if goroutine.state() == GoState::Waiting => {
                let (first, last) = trace.window.unwrap_or_default();
                let facts = TraceFacts {
                    waits: last.saturating_sub(told.since.unwrap_or(first)),
                    window: last.saturating_sub(goroutine.created.map_or(first, |creation| creation.time)),
                    wakes: goroutine.wakes,
                    site: windows.iter().filter_map(|window| window.site.reach()).max(),
                };
                Arc::new(of_goroutine(&base, &facts))
            }
            _ => base,
        };
        let in_memory = self.memory.contains_key(&goid);
        let in_profile = profiles.len() > usize::from(in_memory) || link == Link::Stack;
        let sources = [in_profile, in_memory, in_trace.is_some(), leaked].into_iter().filter(|&told| told).count();
        let confidence = confidence(sources, conflicts.is_empty());
        let memory = self.memory.remove(&goid).map(Box::new);
        Some(Goroutine {
            goid,
            cluster: at,
            link,
            profiles,
            trace: in_trace.map(Box::new),
            memory,
            windows,
            score,
            conflicts,
            confidence,
        })
    }

    fn id(&self, input: usize) -> &str {
        self.ids.get(input).map_or("", |id| id)
    }

    fn in_trace(&mut self, trace: &Trace, goroutine: &trace::Goroutine) -> InTrace {
        let waiting = goroutine.state() == GoState::Waiting;
        let block = goroutine.last_block.filter(|block| waiting && block.woken.is_none());
        let last = trace.window.map_or(0, |(_, last)| last);
        let stack = wait_stack(goroutine).map_or_else(Vec::new, |stack| self.frames(trace, stack));
        InTrace {
            created: goroutine.created.map(|creation| creation.time),
            created_by: goroutine.created.and_then(|creation| creation.by),
            state: goroutine.state().name(),
            since: block.map(|block| block.time),
            reason: block.and_then(|block| block.reason).map(|id| trace.text(id).to_string()),
            proc: block.and_then(|block| block.proc),
            thread: block.and_then(|block| block.thread),
            stack,
            woken: goroutine.wakes,
            last_waker: goroutine.wakers.back().and_then(|wake| wake.by),
            cpu_samples: goroutine.cpu_samples,
            spans: goroutine
                .spans
                .iter()
                .map(|span| Span { start: span.start, end: span.end.unwrap_or(last), state: span.state.name() })
                .collect(),
        }
    }

    /// Scores the clusters, sorts and numbers them.
    fn finish(mut self, inputs: Vec<Input>, alignment: Alignment) -> Evidence {
        let mut best: Vec<Option<usize>> = vec![None; self.clusters.len()];
        for (n, goroutine) in self.goroutines.iter().enumerate() {
            let Some(known) = best.get_mut(goroutine.cluster) else { continue };
            let total = |at: usize| self.goroutines.get(at).map_or(-1, |other| other.score.total());
            if known.is_none_or(|at| total(at) < goroutine.score.total()) {
                *known = Some(n);
            }
        }
        for (draft, best) in self.clusters.iter_mut().zip(&best) {
            let strongest = best.and_then(|at| self.goroutines.get(at));
            let cluster = &mut draft.cluster;
            cluster.score = Score::clone(strongest.map_or(&draft.base, |goroutine| &goroutine.score));
            cluster.class = cluster.score.class();
            cluster.confidence = strongest.map_or(Confidence::Low, |goroutine| goroutine.confidence);
            cluster.strongest = strongest.map(|goroutine| goroutine.goid);
        }
        let mut order: Vec<usize> = (0..self.clusters.len()).collect();
        order.sort_by_key(|&at| {
            let cluster = self.clusters.get(at).map(|draft| &draft.cluster);
            std::cmp::Reverse(cluster.map(|cluster| (cluster.score.total(), cluster.count)))
        });
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
        self.goroutines.iter_mut().for_each(|goroutine| goroutine.cluster = place[goroutine.cluster]);
        let mut drafts: Vec<(usize, Cluster)> =
            self.clusters.into_iter().map(|draft| draft.cluster).zip(&place).map(|(c, &new)| (new, c)).collect();
        drafts.sort_by_key(|(new, _)| *new);
        let clusters: Vec<Cluster> =
            drafts.into_iter().map(|(new, cluster)| Cluster { id: format!("c{}", new + 1), ..cluster }).collect();
        let looked = clusters.iter().any(|cluster| cluster.lookup.as_ref().is_some_and(|looked| looked.key.is_some()));
        let mut limits = limits(&inputs, self.trace, self.knows_ids, self.map.as_ref(), looked);
        if self.calls_unread {
            // It says why keys are not known, before all else.
            limits.retain(|limit| *limit != Limit::NoKeySurvives);
            limits.insert(0, Limit::CallsUnread);
        }
        let mut conflicts: Vec<String> = self.compared.into_iter().map(|(_, sentence)| sentence).collect();
        conflicts.append(&mut self.conflicts);
        if let Some(more) = conflicts.len().checked_sub(MAX_CONFLICTS).filter(|&more| more > 0) {
            conflicts.truncate(MAX_CONFLICTS);
            conflicts.push(format!("and {more} more"));
        }
        let (goroutines, identities, map) = (self.goroutines, self.identities, self.map);
        Evidence { inputs, alignment, clusters, goroutines, identities, conflicts, limits, map }
    }
}

fn stack_key(frames: &[Frame]) -> StackKey {
    frames.iter().map(|frame| (clusters::without_type_arguments(&frame.function).into_owned(), frame.line)).collect()
}

fn base_score(draft: &Draft, map: Option<&MapView>, in_no_map: bool) -> Score {
    let cluster = &draft.cluster;
    let functions: Vec<&str> = cluster.frames.iter().map(|frame| frame.function.as_str()).collect();
    let near = map.and_then(|map| map.missed_channel().map(|missed| (map, missed)));
    let near = near.filter(|_| cluster.nil_channel).map(|(map, (key, near))| {
        let (expression, detail) = (&map.expression, &near.detail);
        format!("{key}, the key given, is not in {expression}, which holds {}: {} ({detail})", near.key, near.relation)
    });
    // Keys that are only alike say something where a lookup is known to have missed.
    let lookup =
        cluster.lookup.as_deref().filter(|looked| looked.may_miss && (looked.confusable || cluster.nil_channel));
    let missed = lookup.and_then(|looked| {
        let (key, near) = looked.missed()?;
        let (map, stored, detail) = (&looked.map, &near.key, &near.detail);
        Some(Missed { map, key, stored, relation: near.relation, detail, inferred: looked.inferred })
    });
    let zero = cluster.lookup.as_deref().filter(|looked| looked.verdict == Some(Verdict::Zero));
    of_cluster(&Facts {
        near,
        held: cluster.held.first().map(Held::entry),
        in_no_map,
        odd_key: cluster.held.iter().find_map(|held| Some((held.entry(), held.odd?))),
        site: cluster.sites.iter().map(|site| (site.call.as_str(), site.reach)).max_by_key(|&(_, reach)| reach),
        missed,
        zero: zero.and_then(|looked| Some((looked.map.as_str(), looked.key.as_deref()?))),
        nil_channel: cluster.nil_channel,
        leaked: cluster.leaked,
        count: cluster.count,
        growth: draft.growth,
        minutes: cluster.minutes.map(|(_, most)| most),
        clues: &cluster.clues,
        idle: cluster.idle.or_else(|| score::idle_pattern(&cluster.state, &functions)),
    })
}

fn confidence(sources: usize, agree: bool) -> Confidence {
    match (sources, agree) {
        (3.., true) => Confidence::High,
        (2, true) | (3.., false) => Confidence::Medium,
        _ => Confidence::Low,
    }
}

/// Where a goroutine waits at the end of the trace.
fn wait_stack(goroutine: &trace::Goroutine) -> Option<StackRef> {
    let of_span = goroutine.spans.back().filter(|span| span.state == GoState::Waiting).and_then(|span| span.stack);
    of_span.or(goroutine.last_block.filter(|block| block.woken.is_none()).and_then(|block| block.stack))
}

fn created_by(trace: &Trace, goroutine: &trace::Goroutine) -> Option<Frame> {
    let frame = trace.stack(goroutine.created?.stack?).next()?;
    let line = u32::try_from(frame.line).unwrap_or_default();
    Some(Frame { function: frame.function.to_string(), file: frame.file.to_string(), line })
}

/// The state that the trace shows, in the words of a traceback where the innermost function tells them.
fn trace_state(trace: &Trace, goroutine: &trace::Goroutine) -> (String, StateSource) {
    let reason = goroutine.last_block.filter(|block| block.woken.is_none()).and_then(|block| block.reason);
    let reason = reason.map(|id| trace.text(id)).unwrap_or_default();
    let top = wait_stack(goroutine).and_then(|stack| trace.stack(stack).next());
    match (reason, top.map(|frame| frame.function).unwrap_or_default()) {
        ("forever", "runtime.chanrecv1" | "runtime.chanrecv2") => {
            ("chan receive (nil chan)".to_string(), StateSource::Trace)
        }
        ("forever", "runtime.chansend1") => ("chan send (nil chan)".to_string(), StateSource::Trace),
        ("forever", "runtime.block") => ("select (no cases)".to_string(), StateSource::Trace),
        // It waits since before the trace, which tells no reason then.
        ("", "runtime.chanrecv1" | "runtime.chanrecv2") => ("chan receive".to_string(), StateSource::Frames),
        ("", "runtime.chansend1") => ("chan send".to_string(), StateSource::Frames),
        ("", "runtime.selectgo") => ("select".to_string(), StateSource::Frames),
        ("", _) => ("waiting".to_string(), StateSource::None),
        (reason, _) => (reason.to_string(), StateSource::Trace),
    }
}

/// The trace's word for a traceback's wait reason, where it has one (`traceBlockReasonStrings` in
/// `src/runtime/traceruntime.go`, Go 1.22 to 1.27).
fn coarse(state: &str) -> Option<&'static str> {
    Some(match state {
        "chan receive (nil chan)" | "chan send (nil chan)" | "select (no cases)" => "forever",
        "chan receive" => "chan receive",
        "chan send" => "chan send",
        "select" => "select",
        "sync.Cond.Wait" => "sync.(*Cond).Wait",
        "sync.Mutex.Lock" | "sync.RWMutex.Lock" | "sync.RWMutex.RLock" | "sync.WaitGroup.Wait" | "semacquire" => "sync",
        "IO wait" => "network",
        "sleep" => "sleep",
        _ => return None,
    })
}

/// Where the last profile and the trace do not fit together.
fn contradiction(ours: &InProfile, id: &str, trace: &Trace, theirs: &trace::Goroutine) -> Option<String> {
    let goid = theirs.goid;
    let expected = coarse(&ours.state)?;
    if theirs.ended.is_some() {
        return Some(format!(
            "goroutine {goid} waits in {id} ({}), but ends in t1: {id} is older than the end of t1",
            ours.state
        ));
    }
    let block = theirs.last_block.filter(|block| block.woken.is_none() && theirs.state() == GoState::Waiting)?;
    let reason = block.reason.map(|reason| trace.text(reason))?;
    (reason != expected).then(|| {
        format!(
            "goroutine {goid} waits for {} in {id}, but for {reason} at the end of t1: it moved on between the two",
            ours.state
        )
    })
}

/// Lookups that a CPU sample shows and that are followed by the wait that never ends.
fn windows(trace: &Trace, goroutine: &trace::Goroutine, waits_in: &[Frame]) -> Vec<Window> {
    let Some(last) = goroutine.last_block.filter(|block| block.woken.is_none()) else { return Vec::new() };
    if goroutine.state() != GoState::Waiting {
        return Vec::new();
    }
    let followed = |sample: &&trace::MapSample| sample.followed_by.is_some_and(|block| block.time == last.time);
    let own: Vec<&str> =
        waits_in.iter().map(|frame| frame.function.as_str()).filter(|name| !record::is_library(name)).collect();
    let samples = goroutine.map_samples.iter().filter(followed);
    samples
        .map(|sample| {
            // The outermost map function is the operation; those inside it are its steps.
            let operation = trace.stack(sample.stack).filter(|frame| clusters::is_map_function(frame.function)).last();
            let caller = trace.stack(sample.stack).find(|frame| !record::is_library(frame.function));
            let site = match caller.and_then(|frame| own.iter().position(|name| *name == frame.function)) {
                Some(0) => Site::SameFunction,
                Some(_) => Site::Caller,
                None => Site::Other,
            };
            Window {
                lookup: sample.time,
                function: operation.map_or(trace.text(sample.function), |frame| frame.function).to_string(),
                caller: caller.map(|frame| Frame {
                    function: frame.function.to_string(),
                    file: frame.file.to_string(),
                    line: u32::try_from(frame.line).unwrap_or_default(),
                }),
                block: last.time,
                reason: last.reason.map(|id| trace.text(id).to_string()),
                site,
            }
        })
        .collect()
}

fn limits(inputs: &[Input], trace: Option<&Trace>, ids: bool, map: Option<&MapView>, looked: bool) -> Vec<Limit> {
    let of_memory = inputs.iter().any(|input| input.kind == InputKind::Memory);
    let of_keys = match map {
        None if of_memory && !looked => Some(Limit::NoKeySurvives),
        _ if looked => None,
        None => Some(Limit::NoMemory),
        Some(map) if map.key.is_none() => Some(Limit::NoKeyGiven),
        Some(_) => Some(Limit::KeyOfUser),
    };
    let of_trace = match trace {
        None => Some(Limit::NoTrace),
        Some(trace) if trace.counts.cpu_samples == 0 => Some(Limit::NoCpuSamples),
        Some(_) => None,
    };
    let of_profiles = match inputs.iter().all(|input| input.kind == InputKind::Trace) {
        true => Some(Limit::NoProfile),
        false => (!ids).then_some(Limit::NoGoroutineIds),
    };
    [of_keys, of_trace, of_profiles].into_iter().flatten().collect()
}
