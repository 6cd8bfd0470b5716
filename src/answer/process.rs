//! What a core or a live process says of itself: its build, its threads, its clocks, where its code lies.

use crate::evidence::join::{Functions, Process};
use crate::memory::Memory;
use crate::session::{Origin, Session};
use crate::types::TypeSource;
use object::Object;

/// More threads than this is a broken list: ten times the runtime's own limit (`debug.SetMaxThreads`).
const MAX_THREADS: usize = 100_000;
/// More Ps than this is a broken list (GOMAXPROCS has no limit; nobody has as many processors).
const MAX_PROCS: u64 = 1 << 16;

/// Reads what there is; without DWARF the runtime's variables have no names, and most stays unknown.
pub fn process(session: &Session) -> Process {
    let facts = Facts { session };
    let modules = session.types.modules().iter();
    let functions = modules.flat_map(|module| module.functions.functions().map(|f| (f.entry, f.end, f.name(), f.id())));
    // Go's own linker leaves the GNU note out of the note segment, so the section is needed.
    let file = &session.types.program().file;
    let object = object::File::parse(&***file).ok();
    let build_id = object.as_ref().and_then(|object| object.build_id().ok().flatten());
    let (spare_goids, ticks) = facts.procs();
    let gc = facts.last_collection();
    let mut process = Process {
        build_id: build_id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
        live: session.origin == Origin::Process,
        started: facts.word("runtime.runtimeInitTime", "").and_then(positive),
        threads: facts.threads(),
        next_goid: facts.word("runtime.sched", "goidgen").map(|last| last.saturating_add(1)),
        spare_goids,
        clocks: gc.map(|(mono, wall)| (mono, wall, "memstats")),
        now: (None, None),
        functions: Functions::new(functions),
    };
    let polled = facts.word("runtime.sched", "lastpoll").and_then(positive);
    let seen = [
        (process.started, "the runtime's start"),
        (gc.map(|(mono, _)| mono), "the last garbage collection"),
        (polled, "the last poll of the network"),
        (ticks, "the monitor's last look at a P"),
    ];
    process.now.0 = seen.into_iter().filter_map(|(at, why)| Some((at?, why))).max();
    match session.origin {
        Origin::Process => read_clocks(&mut process),
        // The wall clock may have been set in between; a bound that contradicts the other is none.
        Origin::Core(Some(written)) => {
            let high = process.clocks.and_then(|(mono, wall, _)| mono.checked_add(written.checked_sub(wall)?));
            let high = high.filter(|&high| process.now.0.is_none_or(|(low, _)| low <= high));
            process.now.1 = high.map(|high| (high, "the time of the core file"));
        }
        _ => {}
    }
    process
}

/// The clocks of this machine are those of its processes, but for one in a time namespace of its own.
fn read_clocks(process: &mut Process) {
    let read = |clock| {
        let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec, which lives on our stack.
        let failed = unsafe { libc::clock_gettime(clock, &mut at) } != 0;
        (!failed).then(|| at.tv_sec.checked_mul(1_000_000_000)?.checked_add(at.tv_nsec)).flatten()
    };
    let Some((mono, wall)) = read(libc::CLOCK_MONOTONIC).zip(read(libc::CLOCK_REALTIME)) else { return };
    if process.now.0.is_some_and(|(low, _)| low > mono) {
        return;
    }
    process.clocks = Some((mono, wall, "this machine"));
    process.now = (Some((mono, "read now")), Some((mono, "read now")));
}

fn positive(word: u64) -> Option<i64> {
    i64::try_from(word).ok().filter(|&value| value > 0)
}

struct Facts<'s> {
    session: &'s Session,
}

impl Facts<'_> {
    fn memory(&self) -> &dyn Memory {
        &*self.session.memory
    }

    fn variable(&self, name: &str) -> Option<u64> {
        self.session.types.variable(name).ok().flatten().map(|(address, _)| address)
    }

    /// Offset of a field, which may be an atomic that wraps its value.
    fn offset(&self, ty: &str, path: &str) -> Option<u64> {
        let of = |path: &str| self.session.types.offset(ty, path).ok().flatten();
        of(&format!("{path}.value")).or_else(|| of(path))
    }

    /// A word of a variable of the runtime, or of a field of it.
    fn word(&self, name: &str, field: &str) -> Option<u64> {
        let (address, ty) = self.session.types.variable(name).ok().flatten()?;
        let offset = match field {
            "" => 0,
            field => {
                let ty = self.session.types.load(ty).ok()?.name.to_string();
                self.offset(&ty, field)?
            }
        };
        self.memory().u64(address.wrapping_add(offset)).ok()
    }

    /// The last garbage collection by the monotonic and by the wall clock, ns: the runtime reads both at one moment
    /// (`gcMarkTermination` in `src/runtime/mgc.go`, Go 1.19 to 1.27).
    fn last_collection(&self) -> Option<(i64, i64)> {
        let of = |field| self.word("runtime.memstats", field).and_then(positive);
        of("last_gc_nanotime").zip(of("last_gc_unix"))
    }

    fn threads(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let offsets = self.offset("runtime.m", "procid").zip(self.offset("runtime.m", "alllink"));
        let (Some((procid, link)), Some(first)) = (offsets, self.variable("runtime.allm")) else { return found };
        let mut m = self.memory().u64(first).unwrap_or(0);
        while m != 0 && found.len() < MAX_THREADS {
            let Ok(id) = self.memory().u64(m.wrapping_add(procid)) else { break };
            found.push(id);
            m = self.memory().u64(m.wrapping_add(link)).unwrap_or(0);
        }
        found.retain(|&id| id != 0);
        found.sort_unstable();
        found
    }

    /// The goroutine ids that each P keeps for later, and the last time the monitor noted.
    fn procs(&self) -> (Vec<(u64, u64)>, Option<i64>) {
        let (mut spare, mut last) = (Vec::new(), None);
        let Some(allp) = self.variable("runtime.allp") else { return (spare, last) };
        let header = self.memory().u64(allp).ok().zip(self.memory().u64(allp.wrapping_add(8)).ok());
        let (array, count) = header.unwrap_or_default();
        let fields = ["goidcache", "goidcacheend", "sysmontick.schedwhen", "sysmontick.syscallwhen"];
        let offsets = fields.map(|field| self.offset("runtime.p", field));
        for index in 0..count.min(MAX_PROCS) {
            let Ok(p) = self.memory().u64(array.wrapping_add(index * 8)) else { break };
            let [start, end, scheduled, syscall] =
                offsets.map(|offset| self.memory().u64(p.wrapping_add(offset?)).ok());
            if let Some((start, end)) = start.zip(end).filter(|(start, end)| start < end) {
                spare.push((start, end));
            }
            last = [scheduled, syscall].into_iter().flatten().filter_map(positive).chain(last).max();
        }
        (spare, last)
    }
}
