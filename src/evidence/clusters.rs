//! Goroutines grouped by state, wait reason and normalised stack, in one profile or over several in a row.
//!
//! A goroutine that waits never has a map function on its stack: the lookup has returned before the wait. A map frame
//! therefore marks goroutines caught *inside* a map operation, and the trace of a lookup that missed is a wait on a
//! nil channel, not a frame.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::profile::{self, Goroutine, Group, Kind, Note, ProfileError, StackId, Symbols, Text};

/// A profile with more is not worth reading by cluster, and a hostile one could ask for any number.
const MAX_CLUSTERS: usize = 200_000;
/// Label pairs kept for each cluster.
const MAX_LABELS: usize = 32;
/// `gopark` of a nil channel stands 5 (`chansend`) or 12 (`chanrecv`) lines below the head of its function, that of
/// any other channel 94 or more (`src/runtime/chan.go`, Go 1.21 to 1.27).
const NIL_CHANNEL_LINES: u32 = 40;

/// How a cluster's state is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The profile says so.
    Header,
    /// Concluded from the runtime's functions on the stack.
    Frames,
    /// The form of the profile does not tell.
    Unknown,
}

/// One call of a normalised stack: the runtime's parking functions, `goexit` and recursion are taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    pub function: Text,
    pub file: Text,
    /// 0 where unknown.
    pub line: u32,
}

/// Goroutines of one profile that are in the same state at the same place.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `waiting`, `running`, `syscall`, …; `unknown` where the profile does not tell.
    pub status: Text,
    /// Wait reason in the runtime's words.
    pub reason: Option<Text>,
    pub source: Source,
    pub sites: Vec<Site>,
    pub count: u64,
    /// Ascending; empty for a profile without goroutine ids.
    pub goids: Vec<u64>,
    pub leaked: u64,
    pub locked: u64,
    pub durable: u64,
    /// Shortest and longest wait in whole minutes, of those that have one.
    pub minutes: Option<(u64, u64)>,
    /// Function that ran the `go` statement, of the first goroutine that has one.
    pub created_by: Option<Site>,
    /// Labels and the number of goroutines that carry them.
    pub labels: BTreeMap<(Text, Text), u64>,
    /// Waits on a nil channel: the mark of a lookup that found nothing.
    pub nil_channel: bool,
    /// Map functions on the stack: caught inside a map operation.
    pub map_functions: Vec<Text>,
    /// Goroutines whose stack was longer than the runtime prints, and the most frames it says it left out of one; 0 where
    /// it does not say how many.
    pub elided: (u64, u64),
    /// Fewest and most frames of a recursion that are shown as one, over its stacks.
    pub collapsed: (u64, u64),
}

impl Cluster {
    /// Takes in another cluster of the same profile and stack, whose state is another; its own state stays.
    fn absorb(&mut self, other: &Cluster) {
        self.count = self.count.saturating_add(other.count);
        self.goids.extend(&other.goids);
        self.goids.sort_unstable();
        self.leaked += other.leaked;
        self.locked += other.locked;
        self.durable += other.durable;
        self.minutes = match (self.minutes, other.minutes) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        self.created_by = self.created_by.or(other.created_by);
        self.nil_channel |= other.nil_channel;
        self.elided = (self.elided.0 + other.elided.0, self.elided.1.max(other.elided.1));
        self.collapsed = (self.collapsed.0.min(other.collapsed.0), self.collapsed.1.max(other.collapsed.1));
        for (&pair, &count) in &other.labels {
            add_labels(self, &[pair], count);
        }
    }
}

/// What one profile is.
#[derive(Debug, Clone)]
pub struct Summary {
    pub name: String,
    pub kind: Kind,
    /// Goroutines that the file says it is about.
    pub total: u64,
    /// Goroutines in it.
    pub held: u64,
    /// Nanoseconds since 1970, where the file says.
    pub taken: Option<i64>,
    pub causes: Vec<String>,
    pub notes: Vec<Note>,
    /// Goroutines or frames may be missing.
    pub truncated: bool,
}

/// A cluster over all profiles.
#[derive(Debug, Clone)]
pub struct Row {
    /// As in the last profile that has it and tells its state.
    pub cluster: Cluster,
    /// Goroutines in each profile.
    pub counts: Vec<u64>,
    /// Goroutines that are in it in every profile; `None` where a profile has no goroutine ids.
    pub persistent: Option<u64>,
}

impl Row {
    /// Goroutines more in the last profile than in the first.
    pub fn growth(&self) -> i64 {
        let at = |count: Option<&u64>| i64::try_from(count.copied().unwrap_or(0)).unwrap_or(i64::MAX);
        at(self.counts.last()) - at(self.counts.first())
    }

    /// It never shrinks and is larger in the end than at first.
    pub fn grows(&self) -> bool {
        self.growth() > 0 && self.counts.windows(2).all(|pair| pair[0] <= pair[1])
    }
}

/// All profiles and their clusters, the largest first (the fastest growing first for several profiles).
#[derive(Debug)]
pub struct Survey {
    pub profiles: Vec<Summary>,
    pub rows: Vec<Row>,
    /// Seconds from the first profile to the last, where all say when they were taken.
    pub seconds: Option<f64>,
    pub notes: Vec<Note>,
    pub symbols: Symbols,
}

/// A file that is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {source}")]
pub struct FileError {
    pub name: String,
    pub source: ProfileError,
}

/// Reads profiles, given as name and content in the order in which they were taken, and clusters their goroutines.
pub fn survey(files: &[(&str, &[u8])]) -> Result<Survey, FileError> {
    let mut symbols = Symbols::default();
    let mut stacks = Stacks::default();
    let mut profiles = Vec::new();
    for &(name, data) in files {
        let read = read_profile(name, data, &mut symbols, &mut stacks);
        profiles.push(read.map_err(|source| FileError { name: name.to_string(), source })?);
    }
    let mut notes = Vec::new();
    let times: Option<Vec<i64>> = profiles.iter().map(|(summary, _)| summary.taken).collect();
    let mut seconds = None;
    if let (Some(times), true) = (times, profiles.len() > 1) {
        if times.windows(2).any(|pair| pair[0] > pair[1]) {
            profiles.sort_by_key(|(summary, _)| summary.taken);
            notes.push(Note::Reordered);
        }
        let (first, last) = (times.iter().min(), times.iter().max());
        seconds = first.zip(last).map(|(first, last)| last.saturating_sub(*first) as f64 / 1e9);
    }
    let forms: Vec<bool> = profiles.iter().map(|(summary, _)| summary.kind.knows_goroutines()).collect();
    let by_stack = forms.windows(2).any(|pair| pair[0] != pair[1])
        || (profiles.len() > 1
            && profiles.iter().any(|(summary, _)| matches!(summary.kind, Kind::GoroutineText | Kind::LeakText)));
    if by_stack {
        notes.push(Note::MatchedByStack);
    }
    let rows = join(&profiles, by_stack, forms.iter().all(|&knows| knows));
    let profiles = profiles.into_iter().map(|(summary, _)| summary).collect();
    Ok(Survey { profiles, rows, seconds, notes, symbols })
}

/// The clusters of one profile, each with the number of its normalised stack.
type Clusters = Vec<(StackNumber, Cluster)>;

fn read_profile(
    name: &str,
    data: &[u8],
    symbols: &mut Symbols,
    stacks: &mut Stacks,
) -> Result<(Summary, Clusters), ProfileError> {
    let names = Names::new(symbols);
    let mut builder = Builder { names, stacks, clusters: Vec::new(), index: HashMap::new(), beyond: 0 };
    let scan = profile::scan(data, symbols, &mut |symbols, goroutine| builder.add_goroutine(symbols, goroutine))?;
    scan.groups.iter().flatten().for_each(|group| builder.add_group(symbols, group));
    let Builder { mut clusters, beyond, .. } = builder;
    let mut notes = scan.notes;
    notes.extend((beyond > 0).then_some(Note::BeyondClusters { most: MAX_CLUSTERS, goroutines: beyond }));
    let mut goids: Vec<u64> =
        clusters.iter().flat_map(|(_, cluster)| &cluster.goids).copied().filter(|&id| id != 0).collect();
    goids.sort_unstable();
    let ids = goids.len();
    goids.dedup();
    let repeated = (ids - goids.len()) as u64;
    notes.extend((repeated > 0).then_some(Note::RepeatedIds(repeated)));
    clusters.iter_mut().for_each(|(_, cluster)| cluster.goids.sort_unstable());
    let held = clusters.iter().fold(beyond, |sum, (_, cluster)| sum.saturating_add(cluster.count));
    let summary = Summary {
        name: name.to_string(),
        kind: scan.kind,
        total: scan.total,
        held,
        taken: scan.taken,
        causes: scan.causes,
        truncated: notes.iter().any(Note::is_loss),
        notes,
    };
    Ok((summary, clusters))
}

/// Matches the clusters of several profiles.
fn join(profiles: &[(Summary, Clusters)], by_stack: bool, with_ids: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut always: Vec<Vec<u64>> = Vec::new();
    let mut latest: Vec<usize> = Vec::new();
    let mut index: HashMap<(StackNumber, Option<State>), usize> = HashMap::new();
    for (n, (_, clusters)) in profiles.iter().enumerate() {
        let mut here: HashMap<usize, Vec<u64>> = HashMap::new();
        for (stack, cluster) in clusters {
            let key = (*stack, (!by_stack).then_some((cluster.status, cluster.reason)));
            let row = *index.entry(key).or_insert(rows.len());
            if row == rows.len() {
                rows.push(Row { cluster: cluster.clone(), counts: vec![0; profiles.len()], persistent: None });
                always.push(Vec::new());
                latest.push(n);
            }
            let known = &mut rows[row];
            if latest[row] == n && known.counts[n] > 0 {
                known.cluster.absorb(cluster);
            } else if cluster.source != Source::Unknown || known.cluster.source == Source::Unknown {
                // A state that a profile tells is worth more than none, a later one more than an earlier.
                known.cluster = cluster.clone();
                latest[row] = n;
            }
            known.counts[n] = known.counts[n].saturating_add(cluster.count);
            here.entry(row).or_default().extend(&cluster.goids);
        }
        for (row, goids) in always.iter_mut().enumerate() {
            let mut now = here.remove(&row).unwrap_or_default();
            now.sort_unstable();
            if n == 0 {
                *goids = now;
            } else {
                goids.retain(|goid| now.binary_search(goid).is_ok());
            }
        }
    }
    for (row, goids) in rows.iter_mut().zip(&always) {
        row.persistent = (with_ids && profiles.len() > 1).then_some(goids.len() as u64);
    }
    let last = |row: &Row| row.counts.last().copied().unwrap_or(0);
    match profiles.len() {
        0 | 1 => rows.sort_by_key(|row| std::cmp::Reverse(last(row))),
        _ => rows.sort_by_key(|row| std::cmp::Reverse((row.grows(), row.growth(), last(row)))),
    }
    rows
}

/// Status and wait reason.
type State = (Text, Option<Text>);

/// The number of a normalised stack, the same over all profiles.
type StackNumber = usize;

/// Normalised stacks.
#[derive(Default)]
struct Stacks {
    /// Functions by name without type arguments: the forms do not agree on how they print those.
    functions: HashMap<String, u32>,
    numbers: HashMap<Vec<(u32, u32)>, StackNumber>,
    facts: HashMap<StackId, StackFacts>,
}

/// What follows from a stack alone.
#[derive(Clone)]
struct StackFacts {
    number: StackNumber,
    /// Frames of a recursion shown as one.
    collapsed: u64,
    sites: std::rc::Rc<[Site]>,
    map_functions: Vec<Text>,
}

impl Stacks {
    fn facts(&mut self, symbols: &Symbols, stack: StackId) -> StackFacts {
        if let Some(facts) = self.facts.get(&stack) {
            return facts.clone();
        }
        let (sites, collapsed) = normalised(symbols, stack);
        let key = sites.iter().map(|site| (self.function(symbols.text(site.function)), site.line)).collect();
        let next = self.numbers.len();
        let number = *self.numbers.entry(key).or_insert(next);
        let mut map_functions: Vec<Text> = Vec::new();
        for &id in symbols.stack(stack) {
            let function = symbols.frame(id).function;
            if !map_functions.contains(&function) && map_functions.len() < 8 && is_map_function(symbols.text(function))
            {
                map_functions.push(function);
            }
        }
        let facts = StackFacts { number, collapsed, sites: sites.into(), map_functions };
        self.facts.insert(stack, facts.clone());
        facts
    }

    fn function(&mut self, name: &str) -> u32 {
        let bare = without_type_arguments(name);
        if let Some(&known) = self.functions.get(bare.as_ref()) {
            return known;
        }
        let number = self.functions.len() as u32;
        self.functions.insert(bare.into_owned(), number);
        number
    }
}

/// The calls that tell one place from another.
pub(super) fn normalise(symbols: &Symbols, stack: StackId) -> Vec<Site> {
    normalised(symbols, stack).0
}

/// The same, and how many frames of a recursion were taken out.
fn normalised(symbols: &Symbols, stack: StackId) -> (Vec<Site>, u64) {
    let frames = symbols.stack(stack);
    let name = |n: usize| frames.get(n).map(|&id| symbols.function(id)).unwrap_or_default();
    let mut start = 0;
    while start < frames.len() && is_parking(name(start)) && !is_map_function(name(start)) {
        start += 1;
    }
    let mut end = frames.len();
    while end > start && matches!(name(end - 1), "runtime.goexit" | "runtime.main") {
        end -= 1;
    }
    if start >= end {
        (start, end) = (0, frames.len());
    }
    let (mut sites, mut collapsed): (Vec<Site>, u64) = (Vec::new(), 0);
    for (n, &id) in frames.iter().enumerate().take(end).skip(start) {
        let frame = symbols.frame(id);
        let site = Site { function: frame.function, file: frame.file, line: frame.line };
        let same = |last: &Site| (last.function, last.line) == (site.function, site.line);
        // The compiler's wrapper of a `go` statement is printed by some versions and forms only.
        let wrapper = n + 1 == end && n > start && is_go_wrapper(name(n));
        match sites.last().is_some_and(same) {
            _ if wrapper => {}
            true => collapsed += 1,
            false => sites.push(site),
        }
    }
    (sites, collapsed)
}

/// `main.F[go.shape.int]` as tracebacks print it: `main.F[...]`.
pub(super) fn without_type_arguments(name: &str) -> Cow<'_, str> {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => {
            Cow::Owned(format!("{}[...]{}", &name[..open], &name[close + 1..]))
        }
        _ => Cow::Borrowed(name),
    }
}

/// The runtime's own functions at the inner end of a waiting goroutine's stack; debug=1 leaves them out.
fn is_parking(function: &str) -> bool {
    ["runtime.", "internal/runtime/", "sync.runtime_", "internal/sync.runtime_", "internal/poll.runtime_"]
        .iter()
        .any(|start| function.starts_with(start))
}

/// `main.main.gowrap1`.
pub(super) fn is_go_wrapper(function: &str) -> bool {
    let digits = function.trim_end_matches(|c: char| c.is_ascii_digit());
    digits.len() < function.len() && digits.ends_with(".gowrap")
}

/// Functions that work on a map: of the runtime (`runtime.mapaccess1_faststr`, `internal/runtime/maps.(*Map).…`) and
/// of `sync.Map`.
pub fn is_map_function(function: &str) -> bool {
    const STARTS: [&str; 9] = [
        "runtime.mapaccess",
        "runtime.mapassign",
        "runtime.mapdelete",
        "runtime.mapiter",
        "runtime.mapclear",
        "runtime.mapclone",
        "internal/runtime/maps.",
        "sync.(*Map).",
        "internal/sync.(*HashTrieMap",
    ];
    STARTS.iter().any(|start| function.starts_with(start))
}

/// Words that states are made of.
struct Names {
    waiting: Text,
    unknown: Text,
    /// Reasons that can be concluded from a function that parks, in the order of [`PARKING`].
    reasons: Vec<Text>,
    nil_receive: Text,
    nil_send: Text,
}

/// Functions below `gopark` and the wait reason they stand for (`waitReasonStrings` in `src/runtime/runtime2.go`).
const PARKING: [(&str, &str); 15] = [
    ("runtime.chanrecv", "chan receive"),
    ("runtime.chansend", "chan send"),
    ("runtime.selectgo", "select"),
    ("runtime.block", "select (no cases)"),
    ("sync.runtime_SemacquireMutex", "sync.Mutex.Lock"),
    ("internal/sync.runtime_SemacquireMutex", "sync.Mutex.Lock"),
    ("sync.runtime_SemacquireRWMutexR", "sync.RWMutex.RLock"),
    ("sync.runtime_SemacquireRWMutex", "sync.RWMutex.Lock"),
    ("sync.runtime_SemacquireWaitGroup", "sync.WaitGroup.Wait"),
    ("sync.runtime_Semacquire", "semacquire"),
    ("sync.runtime_notifyListWait", "sync.Cond.Wait"),
    ("time.Sleep", "sleep"),
    ("internal/poll.runtime_pollWait", "IO wait"),
    ("runtime.coroswitch_m", "coroutine"),
    ("runtime.(*scavengerState).park", "GC scavenge wait"),
];

impl Names {
    fn new(symbols: &mut Symbols) -> Names {
        let mut intern = |text: &str| symbols.intern(text.as_bytes());
        Names {
            waiting: intern("waiting"),
            unknown: intern("unknown"),
            reasons: PARKING.iter().map(|(_, reason)| intern(reason)).collect(),
            nil_receive: intern("chan receive (nil chan)"),
            nil_send: intern("chan send (nil chan)"),
        }
    }

    /// The wait reason that a stack without a header shows.
    fn conclude(&self, symbols: &Symbols, stack: StackId) -> Option<Text> {
        for &id in symbols.stack(stack) {
            let function = symbols.function(id);
            if let Some(n) = PARKING.iter().position(|(name, _)| *name == function) {
                let frame = symbols.frame(id);
                let into = frame.line.checked_sub(frame.start_line);
                let nil = frame.start_line > 0 && into.is_some_and(|lines| lines < NIL_CHANNEL_LINES);
                return match n {
                    // Without the head of the function the two cannot be told apart.
                    0 | 1 if frame.start_line == 0 => None,
                    0 if nil => Some(self.nil_receive),
                    1 if nil => Some(self.nil_send),
                    _ => self.reasons.get(n).copied(),
                };
            }
            if !is_parking(function) {
                return None;
            }
        }
        None
    }
}

struct Builder<'a> {
    names: Names,
    stacks: &'a mut Stacks,
    clusters: Clusters,
    index: HashMap<(Text, Option<Text>, StackNumber), usize>,
    /// Goroutines of clusters over [`MAX_CLUSTERS`].
    beyond: u64,
}

impl Builder<'_> {
    fn add_goroutine(&mut self, symbols: &Symbols, goroutine: Goroutine) {
        let state = (goroutine.status, goroutine.reason);
        let Some(cluster) = self.cluster(symbols, state, Source::Header, goroutine.stack) else {
            self.beyond += 1;
            return;
        };
        cluster.count += 1;
        cluster.goids.push(goroutine.goid);
        cluster.leaked += u64::from(goroutine.leaked);
        cluster.locked += u64::from(goroutine.locked);
        cluster.durable += u64::from(goroutine.durable);
        if let Some(frames) = goroutine.elided {
            cluster.elided = (cluster.elided.0 + 1, cluster.elided.1.max(frames));
        }
        if let Some(minutes) = goroutine.minutes {
            let (low, high) = cluster.minutes.unwrap_or((minutes, minutes));
            cluster.minutes = Some((low.min(minutes), high.max(minutes)));
        }
        if let (None, Some(creator)) = (cluster.created_by, goroutine.created_by) {
            let frame = symbols.frame(creator);
            cluster.created_by = Some(Site { function: frame.function, file: frame.file, line: frame.line });
        }
        add_labels(cluster, &goroutine.labels, 1);
    }

    fn add_group(&mut self, symbols: &Symbols, group: &Group) {
        let reason = self.names.conclude(symbols, group.stack);
        let (status, source) = match reason {
            Some(_) => (self.names.waiting, Source::Frames),
            None => (self.names.unknown, Source::Unknown),
        };
        let Some(cluster) = self.cluster(symbols, (status, reason), source, group.stack) else {
            self.beyond = self.beyond.saturating_add(group.count);
            return;
        };
        cluster.count = cluster.count.saturating_add(group.count);
        add_labels(cluster, &group.labels, group.count);
    }

    /// The cluster of a state and stack; `None` where there are too many.
    fn cluster(
        &mut self,
        symbols: &Symbols,
        (status, reason): (Text, Option<Text>),
        source: Source,
        stack: StackId,
    ) -> Option<&mut Cluster> {
        let next = self.clusters.len();
        if next >= MAX_CLUSTERS && !self.stacks.facts.contains_key(&stack) {
            return None;
        }
        let facts = self.stacks.facts(symbols, stack);
        let key = (status, reason, facts.number);
        if next >= MAX_CLUSTERS && !self.index.contains_key(&key) {
            return None;
        }
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            let cluster = Cluster {
                status,
                reason,
                source,
                sites: facts.sites.to_vec(),
                count: 0,
                goids: Vec::new(),
                leaked: 0,
                locked: 0,
                durable: 0,
                minutes: None,
                created_by: None,
                labels: BTreeMap::new(),
                nil_channel: reason.is_some_and(|reason| symbols.text(reason).ends_with("(nil chan)")),
                map_functions: facts.map_functions,
                elided: (0, 0),
                collapsed: (facts.collapsed, facts.collapsed),
            };
            self.clusters.push((facts.number, cluster));
        }
        let (_, cluster) = self.clusters.get_mut(at)?;
        cluster.collapsed = (cluster.collapsed.0.min(facts.collapsed), cluster.collapsed.1.max(facts.collapsed));
        Some(cluster)
    }
}

fn add_labels(cluster: &mut Cluster, labels: &[(Text, Text)], count: u64) {
    for &pair in labels {
        if cluster.labels.len() < MAX_LABELS || cluster.labels.contains_key(&pair) {
            let known = cluster.labels.entry(pair).or_insert(0);
            *known = known.saturating_add(count);
        }
    }
}
