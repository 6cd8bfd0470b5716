//! What a parked goroutine waits on: channels, objects of package sync, descriptors, timers.

use super::runtime::Runtime;
use super::semaphores::Semaphores;
use super::Goroutine;
use crate::layout::goroutine::sema;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::sync::Arc;

/// The object that a goroutine waits on.
#[derive(Debug, Clone)]
pub enum Blocked {
    /// A nil channel: nothing can ever wake it.
    NilChan,
    /// A channel.
    Chan { channel: Arc<Channel>, direction: Direction },
    /// A select with its cases; cases on nil channels are not recorded by the runtime.
    Select(Vec<Case>),
    /// A mutex, wait group or bare semaphore, by its semaphore word.
    Semaphore(Sync),
    /// A condition variable.
    Cond { address: u64 },
    /// A descriptor that the network poller watches.
    Poll { desc: u64, fd: Option<u64> },
    /// A coroutine's switch: who asked it for more waits for its goroutine, by the address of that g; that one itself
    /// waits until somebody asks.
    Coroutine { address: u64, goroutine: Option<u64> },
    /// A timer, with its due time on the runtime's clock in ns.
    Timer { due: Option<i64> },
}

/// Whether a goroutine wants to receive or to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Send,
}

/// One case of a select.
#[derive(Debug, Clone)]
pub struct Case {
    pub channel: Arc<Channel>,
    pub direction: Direction,
}

/// A channel; waiters by the address of their g, at most [`SHOWN_WAITERS`] of each kind.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    pub address: u64,
    pub len: u64,
    pub cap: u64,
    pub closed: bool,
    /// Address of the descriptor of its elements' type.
    pub elem_type: u64,
    /// Whether a timer or ticker feeds it (Go 1.23 and later).
    pub timer: bool,
    /// When that timer fires next, on the runtime's clock in ns.
    pub due: Option<i64>,
    pub receivers: Queue,
    pub senders: Queue,
}

/// A queue of waiters.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub count: u64,
    /// The first of them, as addresses of `runtime.g`.
    pub first: Vec<u64>,
    /// Whether the count is only what was walked of a longer or broken queue.
    pub cut: bool,
}

/// Waiters of a queue that are named one by one.
pub const SHOWN_WAITERS: usize = 16;

/// An object of package sync.
#[derive(Debug, Clone)]
pub struct Sync {
    pub kind: SyncKind,
    /// Address of the semaphore word.
    pub sema: u64,
    /// Address of the object around it; equal to `sema` when its kind is not known.
    pub address: u64,
    /// Goroutines that wait on this word.
    pub waiters: u64,
    /// What the object's state says.
    pub state: Option<SyncState>,
}

/// What the state of an object of package sync says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    Mutex { locked: bool, waiting: u32 },
    RwMutex { readers: i32, writer: bool },
    WaitGroup { counter: i32 },
}

impl SyncState {
    /// Whether somebody holds it; `None` for what nobody can hold.
    pub fn is_held(self) -> Option<bool> {
        match self {
            SyncState::Mutex { locked, .. } => Some(locked),
            SyncState::RwMutex { readers, writer } => Some(readers != 0 || writer),
            SyncState::WaitGroup { .. } => None,
        }
    }
}

impl fmt::Display for SyncState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SyncState::Mutex { locked, waiting } => {
                write!(f, "{}, {waiting} waiting", if locked { "locked" } else { "not locked" })
            }
            SyncState::RwMutex { readers, writer } => {
                write!(f, "{readers} readers, {}", if writer { "a writer" } else { "no writer" })
            }
            SyncState::WaitGroup { counter } => write!(f, "counter {counter}"),
        }
    }
}

/// The kind of an object of package sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    Mutex,
    RwMutexRead,
    RwMutexWrite,
    WaitGroup,
    Semaphore,
}

impl Blocked {
    /// The kind, as the JSON record names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Blocked::NilChan => "nil_chan",
            Blocked::Chan { .. } => "chan",
            Blocked::Select(_) => "select",
            Blocked::Semaphore(sync) => match sync.kind {
                SyncKind::Mutex => "mutex",
                SyncKind::RwMutexRead | SyncKind::RwMutexWrite => "rwmutex",
                SyncKind::WaitGroup => "waitgroup",
                SyncKind::Semaphore => "semaphore",
            },
            Blocked::Cond { .. } => "cond",
            Blocked::Poll { .. } => "netpoll",
            Blocked::Coroutine { .. } => "coroutine",
            Blocked::Timer { .. } => "timer",
        }
    }

    /// Addresses of the objects waited on.
    pub fn addresses(&self) -> Vec<u64> {
        match self {
            Blocked::NilChan | Blocked::Timer { .. } => Vec::new(),
            Blocked::Chan { channel, .. } => vec![channel.address],
            Blocked::Select(cases) => cases.iter().map(|case| case.channel.address).collect(),
            Blocked::Semaphore(sync) => vec![sync.address],
            Blocked::Cond { address } => vec![*address],
            Blocked::Poll { desc, .. } => vec![*desc],
            Blocked::Coroutine { address, .. } => vec![*address],
        }
    }
}

/// Finds what goroutines wait on; remembers channels and conds that many of them share.
pub struct Waits<'r> {
    runtime: &'r Runtime<'r>,
    semaphores: Semaphores,
    channels: FxHashMap<u64, Arc<Channel>>,
    /// Places in queues of senders (`runtime.sudog`).
    senders: FxHashSet<u64>,
    conds: FxHashMap<u64, FxHashSet<u64>>,
    cond_head: Option<u64>,
    poll: Option<[u64; 3]>,
    due: Option<u64>,
    /// Links of queues that may still be followed, so that corrupt queues cost no more than sound ones.
    budget: u64,
}

/// Cases of a select looked at; the language allows 65536.
const MAX_CASES: usize = 1 << 16;
/// Bytes of stack searched for the object that a runtime call was given.
const SEARCHED: usize = 4096;

impl<'r> Waits<'r> {
    pub fn new(runtime: &'r Runtime<'r>, semaphores: Semaphores) -> Waits<'r> {
        let offset = |ty: &str, path: &str| runtime.offset(ty, path);
        let poll = || {
            Some([
                offset("runtime.pollDesc", "rg")?,
                offset("runtime.pollDesc", "wg")?,
                offset("runtime.pollDesc", "fd")?,
            ])
        };
        Waits {
            runtime,
            semaphores,
            channels: FxHashMap::default(),
            senders: FxHashSet::default(),
            conds: FxHashMap::default(),
            cond_head: offset("sync.Cond", "notify.head"),
            poll: poll(),
            due: offset("runtime.timer", "when"),
            budget: runtime.allgs.1.saturating_mul(16).saturating_add(1 << 16).min(1 << 26),
        }
    }

    /// What this goroutine waits on, by its wait reason; `None` when that is no object.
    pub fn blocked_on(&mut self, goroutine: &Goroutine, waiting: u64, timer: u64) -> Option<Blocked> {
        let reason = goroutine.reason.clone()?;
        let direction = if reason.starts_with("chan send") { Direction::Send } else { Direction::Receive };
        match &*reason {
            r if r.contains("(nil chan)") => Some(Blocked::NilChan),
            r if r.starts_with("chan ") => {
                let c = self.sudog_word(waiting, self.runtime.sudog.c)?;
                Some(Blocked::Chan { channel: self.channel(c)?, direction })
            }
            r if r.starts_with("select") => Some(Blocked::Select(self.cases(waiting))),
            r if r.starts_with("sync.Cond") => self.cond(goroutine),
            "IO wait" => self.poll(goroutine),
            "sleep" => {
                let due = self.due.and_then(|at| self.runtime.memory.u64(timer.checked_add(at)?).ok());
                Some(Blocked::Timer { due: due.map(|due| due as i64).filter(|_| timer != 0) })
            }
            r => self.semaphore(goroutine, r),
        }
    }

    fn sudog_word(&self, sudog: u64, offset: u64) -> Option<u64> {
        self.runtime.memory.u64(sudog.checked_add(offset)?).ok().filter(|&word| word != 0)
    }

    /// The channel at `address`, read once.
    fn channel(&mut self, address: u64) -> Option<Arc<Channel>> {
        if let Some(known) = self.channels.get(&address) {
            return Some(known.clone());
        }
        let (memory, at) = (self.runtime.memory, &self.runtime.chan);
        let word = |offset: u64| memory.u64(address.checked_add(offset)?).ok();
        let (receivers, senders) = (word(at.recvq)?, word(at.sendq)?);
        let timer = at.timer.and_then(word).filter(|&timer| timer != 0);
        let due = timer.and_then(|timer| memory.u64(timer.checked_add(self.due?)?).ok());
        let channel = Arc::new(Channel {
            address,
            len: word(at.qcount)?,
            cap: word(at.dataqsiz)?,
            closed: memory.u32(address.checked_add(at.closed)?).ok()? != 0,
            elem_type: word(at.elemtype).unwrap_or(0),
            timer: timer.is_some(),
            due: due.map(|due| due as i64).filter(|&due| due > 0),
            receivers: self.queue(receivers, false),
            senders: self.queue(senders, true),
        });
        self.channels.insert(address, channel.clone());
        Some(channel)
    }

    fn queue(&mut self, first: u64, sends: bool) -> Queue {
        let (mut queue, mut seen) = (Queue::default(), FxHashSet::default());
        let mut sudog = first;
        while sudog != 0 {
            let g = self.sudog_word(sudog, self.runtime.sudog.g);
            let (Some(g), false) = (g, self.budget == 0 || !seen.insert(sudog)) else {
                queue.cut = true;
                return queue;
            };
            self.budget -= 1;
            queue.count += 1;
            if sends {
                self.senders.insert(sudog);
            }
            if queue.first.len() < SHOWN_WAITERS {
                queue.first.push(g);
            }
            sudog = self.sudog_word(sudog, self.runtime.sudog.next).unwrap_or(0);
        }
        queue
    }

    /// The cases of a select: one sudog each, linked by `waitlink`.
    fn cases(&mut self, waiting: u64) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut sudog = waiting;
        while sudog != 0 && cases.len() < MAX_CASES && self.budget > 0 {
            self.budget -= 1;
            let c = self.sudog_word(sudog, self.runtime.sudog.c);
            if let Some(channel) = c.and_then(|c| self.channel(c)) {
                let sends = self.senders.contains(&sudog);
                let direction = if sends { Direction::Send } else { Direction::Receive };
                cases.push(Case { channel, direction });
            }
            sudog = self.sudog_word(sudog, self.runtime.sudog.waitlink).unwrap_or(0);
        }
        cases
    }

    fn semaphore(&self, goroutine: &Goroutine, reason: &str) -> Option<Blocked> {
        let address = *self.semaphores.of_g.get(&goroutine.g)?;
        let kind = sync_kind(reason, goroutine);
        let back = match kind {
            SyncKind::Mutex => sema::MUTEX,
            SyncKind::RwMutexRead => sema::RW_READER,
            SyncKind::RwMutexWrite => sema::RW_WRITER,
            SyncKind::WaitGroup => sema::WAIT_GROUP,
            SyncKind::Semaphore => 0,
        };
        let object = address.checked_sub(back)?;
        Some(Blocked::Semaphore(Sync {
            kind,
            sema: address,
            address: object,
            waiters: self.semaphores.waiters.get(&address).map_or(0, |w| w.len() as u64),
            state: self.state(kind, object),
        }))
    }

    /// The state word (src/sync/mutex.go, waitgroup.go, go1.20 to 1.27).
    fn state(&self, kind: SyncKind, object: u64) -> Option<SyncState> {
        let memory = self.runtime.memory;
        match kind {
            SyncKind::Mutex => {
                let state = memory.u32(object).ok()?;
                Some(SyncState::Mutex { locked: state & 1 != 0, waiting: state >> 3 })
            }
            SyncKind::WaitGroup => {
                let state = memory.u64(object).ok()?;
                Some(SyncState::WaitGroup { counter: (state >> 32) as i32 })
            }
            SyncKind::RwMutexRead | SyncKind::RwMutexWrite => {
                // A waiting writer takes this from the count of readers.
                const MAX_READERS: i32 = 1 << 30;
                let count = memory.u32(object.checked_add(sema::RW_READERS)?).ok()? as i32;
                let writer = count < 0;
                let readers = if writer { count.wrapping_add(MAX_READERS) } else { count };
                Some(SyncState::RwMutex { readers, writer })
            }
            SyncKind::Semaphore => None,
        }
    }

    /// The cond whose list of waiters holds this goroutine, among the pointers in the frames of the wait.
    fn cond(&mut self, goroutine: &Goroutine) -> Option<Blocked> {
        let head = self.cond_head?;
        let words = self.words_up_to(goroutine, |func| func == "sync.(*Cond).Wait");
        words
            .into_iter()
            .find(|&word| self.cond_holds(word, head, goroutine.g))
            .map(|address| Blocked::Cond { address })
    }

    fn cond_holds(&mut self, cond: u64, head: u64, g: u64) -> bool {
        if let Some(known) = self.conds.get(&cond) {
            return known.contains(&g);
        }
        let Some(first) = cond.checked_add(head).and_then(|at| self.runtime.memory.u64(at).ok()) else { return false };
        let mut gs = FxHashSet::default();
        let (mut sudog, mut seen) = (first, FxHashSet::default());
        while sudog != 0 && self.budget > 0 && seen.insert(sudog) {
            self.budget -= 1;
            let Some(waiter) = self.sudog_word(sudog, self.runtime.sudog.g) else { break };
            gs.insert(waiter);
            sudog = self.sudog_word(sudog, self.runtime.sudog.next).unwrap_or(0);
        }
        let holds = gs.contains(&g);
        if holds {
            self.conds.insert(cond, gs);
        }
        holds
    }

    /// The poll descriptor that has this goroutine as its reader or writer.
    fn poll(&self, goroutine: &Goroutine) -> Option<Blocked> {
        let [rg, wg, fd] = self.poll?;
        let memory = self.runtime.memory;
        let words = self.words_up_to(goroutine, |func| func.starts_with("internal/poll."));
        let is = |word: u64, at: u64| word.checked_add(at).and_then(|at| memory.u64(at).ok()) == Some(goroutine.g);
        let desc = words.into_iter().find(|&word| is(word, rg) || is(word, wg))?;
        let fd = desc.checked_add(fd).and_then(|at| memory.u64(at).ok());
        Some(Blocked::Poll { desc, fd })
    }

    /// Distinct pointers on the stack, up to the arguments of the outermost frame of a wanted function.
    fn words_up_to(&self, goroutine: &Goroutine, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
        let frames = &goroutine.stack.frames;
        let last = frames.iter().rposition(|frame| frame.info.lines.iter().any(|line| wanted(&line.func)));
        let (Some(first), Some(last)) = (frames.first(), last.and_then(|last| frames.get(last))) else {
            return Vec::new();
        };
        let len = (last.end.saturating_sub(first.sp) as usize).saturating_add(16).min(SEARCHED);
        let Ok(words) = self.runtime.memory.words(first.sp, len / 8) else { return Vec::new() };
        let mut seen = FxHashSet::default();
        words.into_iter().filter(|&word| word > 4096 && word % 8 == 0 && seen.insert(word)).collect()
    }
}

/// The kind by the wait reason; where that only says "semacquire", by the function that waits.
fn sync_kind(reason: &str, goroutine: &Goroutine) -> SyncKind {
    let by_name = [
        ("sync.Mutex.Lock", "sync.(*Mutex).", SyncKind::Mutex),
        ("sync.RWMutex.RLock", "sync.(*RWMutex).RLock", SyncKind::RwMutexRead),
        ("sync.RWMutex.Lock", "sync.(*RWMutex).Lock", SyncKind::RwMutexWrite),
        ("sync.WaitGroup.Wait", "sync.(*WaitGroup).Wait", SyncKind::WaitGroup),
    ];
    if let Some(&(_, _, kind)) = by_name.iter().find(|(text, _, _)| reason.starts_with(text)) {
        return kind;
    }
    let func = goroutine.lines().map(|(_, line)| &*line.func).find(|func| func.starts_with("sync.(*"));
    let func = func.unwrap_or("");
    by_name.iter().find(|(_, start, _)| func.starts_with(start)).map_or(SyncKind::Semaphore, |&(_, _, kind)| kind)
}
