//! The runtime's map functions, and where each takes its arguments.
//!
//! The linker drops what a program never calls, so every name is optional: [`plan`] looks for the known names
//! among those that the binary has. One operation of the program may pass through several of them
//! (`mapaccess1_fat` calls `mapaccess1`, `sync.(*Map).Store` calls `Swap`): the plan probes one function of each
//! chain, names the others as wrappers so that the hit can be told as what the program asked for, and hides
//! map operations that only serve another one (the map inside a classic `sync.Map`).
//!
//! Sources: src/runtime/map*.go go1.19 to 1.27, src/internal/runtime/maps/runtime*.go go1.24 to 1.27,
//! src/sync/map.go, src/sync/hashtriemap.go go1.24 and 1.25, src/internal/sync/hashtriemap.go go1.24 to 1.27,
//! argument registers: src/cmd/compile/abi-internal.md.

use super::{prologue, returns};
use std::ops::Range;

/// A target architecture whose Go functions take arguments in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// The debugger's name of the register that holds integer argument `arg` at entry (0 to 4).
    pub fn argument(self, arg: u8) -> &'static str {
        let names = match self {
            Arch::Amd64 => ["rax", "rbx", "rcx", "rdi", "rsi"],
            Arch::Arm64 => ["x0", "x1", "x2", "x3", "x4"],
        };
        names.get(arg as usize).copied().unwrap_or(names[4])
    }

    /// The register that holds the current `g` in Go code.
    pub fn goroutine(self) -> &'static str {
        match self {
            Arch::Amd64 => "r14",
            Arch::Arm64 => "x28",
        }
    }
}

/// A function of the binary, at link-time addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSymbol {
    /// Its name, as the symbol table or pclntab spells it.
    pub name: String,
    /// Address of its first instruction.
    pub entry: u64,
    /// One past its last instruction.
    pub end: u64,
}

/// What the program does to the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Access1,
    Access2,
    Assign,
    Delete,
    Iterate,
    Clear,
    Load,
    Store,
    SyncDelete,
    LoadOrStore,
    LoadAndDelete,
    Swap,
    CompareAndSwap,
    CompareAndDelete,
    Range,
    SyncClear,
}

impl Operation {
    /// Its name in the output: `access1`, `access2`, `assign`, …, and the method's name for `sync.Map`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Access1 => "access1",
            Operation::Access2 => "access2",
            Operation::Assign => "assign",
            Operation::Delete => "delete",
            Operation::Iterate => "iterate",
            Operation::Clear => "clear",
            Operation::SyncDelete => "Delete",
            method => SYNC_METHODS.iter().find(|m| m.1 == method).map_or("", |m| m.0),
        }
    }

    /// The word of `--op` that selects it: access, assign, delete, iterate or clear.
    ///
    /// `LoadOrStore`, `Swap` and `CompareAndSwap` may write, so they are assigns; `LoadAndDelete` and `CompareAndDelete` are deletes.
    pub fn family(self) -> &'static str {
        match self {
            Operation::Access1 | Operation::Access2 | Operation::Load => "access",
            Operation::Delete | Operation::SyncDelete | Operation::LoadAndDelete | Operation::CompareAndDelete => {
                "delete"
            }
            Operation::Iterate | Operation::Range => "iterate",
            Operation::Clear | Operation::SyncClear => "clear",
            _ => "assign",
        }
    }

    /// Whether it is a method of `sync.Map`.
    pub fn is_method(self) -> bool {
        SYNC_METHODS.iter().any(|m| m.1 == self)
    }

    /// All operations that have this name in the output, or are of this family.
    pub fn named(word: &str) -> Vec<Operation> {
        let all = OF_MAPS.into_iter().chain(SYNC_METHODS.iter().map(|m| m.1));
        all.filter(|operation| operation.name() == word || operation.family() == word).collect()
    }

    /// The operation of a `sync.Map` method that the compiler inlined into the caller.
    ///
    /// `Store` and `Delete` only call `Swap` and `LoadAndDelete` and nearly always are inlined: the hit then says
    /// `Swap`, and the inlined frames at its caller hold `sync.(*Map).Store`.
    pub fn of_inlined(function: &str) -> Option<Operation> {
        let method = function.strip_prefix("sync.(*Map).").or_else(|| trie_method(function))?;
        SYNC_METHODS.iter().find(|m| m.0 == method).map(|m| m.1)
    }
}

const OF_MAPS: [Operation; 6] = [
    Operation::Access1,
    Operation::Access2,
    Operation::Assign,
    Operation::Delete,
    Operation::Iterate,
    Operation::Clear,
];

const SYNC_METHODS: [(&str, Operation); 10] = [
    ("Load", Operation::Load),
    ("Store", Operation::Store),
    ("Delete", Operation::SyncDelete),
    ("LoadOrStore", Operation::LoadOrStore),
    ("LoadAndDelete", Operation::LoadAndDelete),
    ("Swap", Operation::Swap),
    ("CompareAndSwap", Operation::CompareAndSwap),
    ("CompareAndDelete", Operation::CompareAndDelete),
    ("Range", Operation::Range),
    ("Clear", Operation::SyncClear),
];

/// Which of the specialised functions was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    Generic,
    Fast32,
    Fast64,
    Fast64Pointer,
    FastString,
    /// For elems over 1024 bytes; takes a pointer to the zero elem.
    Fat,
    /// A method of `sync.Map`.
    Sync,
}

/// Where the key is at entry; numbers are integer arguments (see [`Arch::argument`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// The operation has no key.
    None,
    /// The key itself, in the low 32 bits of the register.
    Value32(u8),
    /// The key itself.
    Value64(u8),
    /// A pointer to the key.
    Pointer(u8),
    /// A string's data pointer; its length is in the next argument.
    String(u8),
    /// The type word of an `any`; its data word is in the next argument.
    Interface(u8),
}

/// One place to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePoint {
    /// The function, as the binary names it.
    pub function: String,
    /// Link-time address of its entry.
    pub entry: u64,
    /// Link-time address to probe: behind the stack check, with every argument still in place.
    pub address: u64,
    /// The probe stands on the entry because no stack check was recognised there: a call may hit twice when
    /// there is one after all.
    pub at_entry: bool,
    /// What it does.
    pub operation: Operation,
    /// Which form of it.
    pub variant: Variant,
    /// The argument that holds the map's type descriptor.
    pub map_type: Option<u8>,
    /// The argument that holds the map's address.
    pub map: u8,
    /// Where the key is.
    pub key: KeyPlace,
    /// By which returns the outcome is told.
    pub awaits: Awaits,
}

/// What tells how an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// Nothing: it has no outcome, or returns where nobody sees it.
    Nothing,
    /// A return of the function itself.
    Return,
    /// The same, or before that the return of a function that it calls, and that says how many entries the map has then.
    Count,
}

/// A place where a function gives control back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReturnPoint {
    /// Link-time address of the instruction.
    pub address: u64,
    /// Link-time entry of its function.
    pub entry: u64,
    /// What is known there.
    pub tells: Tells,
}

/// What a return says of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// The first result points at the elem, or at [`ProbePlan::zero`] where the key is missing.
    Elem,
    /// The first result points at the elem, and is nil where the key is missing.
    ElemOrNil,
    /// Integer result `n` (0 to 2) is whether the key was there.
    Found(u8),
    /// The first result is whether something was done, for which the key had to be there; if not, that says nothing of it.
    Done,
    /// The map's number of entries then, by which a key that was put in or taken out shows. The map's address lies in
    /// the `slot`th word from the stack pointer: where the function kept that argument, unless it had no need to.
    Count { slot: u8 },
    /// It does not return: it panics.
    Panic,
}

impl Tells {
    /// The result that a return with `raw` in its register has, in a program that lies `bias` above its link-time addresses.
    pub fn result(self, raw: u64, bias: u64) -> u64 {
        match self {
            Tells::Elem => raw.wrapping_sub(bias),
            _ => raw,
        }
    }
}

/// A function that always calls a probed one for the same operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    /// The function, as the binary names it.
    pub function: String,
    /// Its code, at link-time addresses.
    pub code: Range<u64>,
    /// What the program asked for by calling it.
    pub operation: Operation,
    /// Which form of it.
    pub variant: Variant,
}

/// What to probe in one binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    /// The binary's architecture.
    pub arch: Arch,
    /// The probes, sorted by address.
    pub points: Vec<ProbePoint>,
    /// Functions between the program and a probed one.
    pub wrappers: Vec<Wrapper>,
    /// Code whose calls of probed functions are no operations of the program; sorted and disjoint.
    pub hidden: Vec<Range<u64>>,
    /// Where operations end, sorted by address; none where outcomes are not asked for, or code is not read (arm64).
    pub returns: Vec<ReturnPoint>,
    /// Link-time address of `runtime.zeroVal`, which a lookup that finds nothing returns (Go 1.19 to 1.27).
    pub zero: Option<u64>,
    /// Link-time entry of the function that `syscall.Exec` calls before execve, where the program has it.
    pub before_exec: Option<u64>,
}

/// runtime/proc.go, `syscall_runtime_BeforeExec`, Go 1.9 to 1.27.
const BEFORE_EXEC: &str = "syscall.runtime_BeforeExec";

/// Who asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The outermost map function that was called.
    pub function: &'a str,
    /// What that function does.
    pub operation: Operation,
    /// Which form of it.
    pub variant: Variant,
    /// Return address in its caller.
    pub caller: u64,
}

/// Where all that panics passes (src/runtime/panic.go, go1.19 to 1.27).
const PANICS: &str = "runtime.gopanic";
/// What deletes from a Swiss map, and takes the map first (src/internal/runtime/maps/map.go, go1.24 to 1.27).
const SWISS_DELETE: &str = "internal/runtime/maps.(*Map).Delete";

impl ProbePlan {
    /// Takes out the probes that `keep` does not want, and the returns that only those have a use for.
    pub fn retain(&mut self, keep: impl FnMut(&ProbePoint) -> bool) {
        self.points.retain(keep);
        let points = &self.points;
        let of_function = |entry: u64| points.iter().any(|p| p.entry == entry && p.awaits != Awaits::Nothing);
        let any = |awaits: Awaits| points.iter().any(|p| p.awaits == awaits);
        self.returns.retain(|r| {
            of_function(r.entry)
                || match r.tells {
                    Tells::Count { .. } => any(Awaits::Count),
                    Tells::Panic => any(Awaits::Count) || any(Awaits::Return),
                    _ => false,
                }
        });
    }

    /// Leaves only the entries: no operation's outcome is then told.
    pub fn without_outcomes(&mut self) {
        self.returns.clear();
        self.points.iter_mut().for_each(|point| point.awaits = Awaits::Nothing);
    }

    /// The operation behind a hit, whose `callers` are the innermost return addresses, link-time, innermost first.
    pub fn asked<'a>(&'a self, point: &'a ProbePoint, callers: &[u64]) -> Asked<'a> {
        let mut asked = Asked {
            function: &point.function,
            operation: point.operation,
            variant: point.variant,
            caller: callers.first().copied().unwrap_or(0),
        };
        for pair in callers.windows(2) {
            let Some(wrapper) = self.wrappers.iter().find(|w| w.code.contains(&pair[0])) else { break };
            asked.function = &wrapper.function;
            asked.operation = wrapper.operation;
            asked.variant = wrapper.variant;
            asked.caller = pair[1];
        }
        asked
    }

    /// Whether a hit with this innermost return address only serves another operation.
    pub fn is_hidden(&self, caller: u64) -> bool {
        self.hidden.iter().any(|code| code.contains(&caller))
    }
}

/// How one known function takes part.
enum Role {
    Probe,
    Wrap,
}

/// What is known about a map function from its name.
struct Known {
    operation: Operation,
    variant: Variant,
    map_type: Option<u8>,
    key: KeyPlace,
    role: Role,
    /// Its own calls of probed functions are hidden.
    hides: bool,
}

/// The plan for a binary made by Go `go` (major, minor) with these functions; `read_code` fills the buffer with
/// code at a link-time address and says whether it could.
pub fn plan(
    arch: Arch,
    go: (u32, u32),
    functions: &[FunctionSymbol],
    read_code: &dyn Fn(u64, &mut [u8]) -> bool,
) -> ProbePlan {
    let facts = Facts::of(go, functions);
    let before_exec = functions.iter().find(|function| function.name == BEFORE_EXEC).map(|function| function.entry);
    let mut plan = ProbePlan {
        arch,
        points: Vec::new(),
        wrappers: Vec::new(),
        hidden: Vec::new(),
        returns: Vec::new(),
        zero: None,
        before_exec,
    };
    for function in functions {
        let code = function.entry..function.end;
        if only_serves(&function.name, &facts) {
            plan.hidden.push(code.clone());
        }
        let Some(known) = known(&function.name, &facts) else { continue };
        if known.hides {
            plan.hidden.push(code.clone());
        }
        match known.role {
            Role::Probe => plan.points.push(point(arch, function, known, read_code)),
            Role::Wrap => plan.wrappers.push(Wrapper {
                function: function.name.clone(),
                code,
                operation: known.operation,
                variant: known.variant,
            }),
        }
    }
    plan.points.sort_by_key(|p| p.address);
    plan.points.dedup_by_key(|p| p.address);
    plan.hidden = merged(plan.hidden);
    plan_returns(&mut plan, functions, read_code);
    plan
}

/// Finds where the plan's operations end.
fn plan_returns(plan: &mut ProbePlan, functions: &[FunctionSymbol], read_code: &dyn Fn(u64, &mut [u8]) -> bool) {
    let code_of = |entry: u64, end: u64| {
        let mut code = vec![0; usize::try_from(end.checked_sub(entry)?).ok().filter(|&size| size <= returns::LONGEST)?];
        read_code(entry, &mut code).then_some(code)
    };
    let named = |name: &str| functions.iter().find(|function| function.name == name);
    // Nothing is certain of what ends where a panic is not seen.
    let Some(panics) = named(PANICS) else { return };
    let mut head = [0; prologue::LONGEST];
    let checked = read_code(panics.entry, &mut head).then(|| prologue::after_stack_check(plan.arch, &head)).flatten();
    let Some(checked) = checked else { return };
    let ends = |entry: u64, end: u64, tells: Tells| -> Option<Vec<ReturnPoint>> {
        let found = returns::returns(plan.arch, &code_of(entry, end)?, entry)?;
        Some(found.into_iter().map(|address| ReturnPoint { address, entry, tells }).collect())
    };
    // Arguments in registers have their places above the return address (src/cmd/compile/abi-internal.md).
    let swiss = named(SWISS_DELETE).and_then(|f| ends(f.entry, f.end, Tells::Count { slot: 1 }));
    let mut all =
        vec![ReturnPoint { address: panics.entry + checked as u64, entry: panics.entry, tells: Tells::Panic }];
    let mut zeros = Vec::new();
    for point in &mut plan.points {
        let Some(tells) = tells(point) else { continue };
        let Some(function) = functions.iter().find(|function| function.entry == point.entry) else { continue };
        let counts = matches!(tells, Tells::Count { .. });
        let awaits = if counts { Awaits::Count } else { Awaits::Return };
        if counts && swiss.is_some() && point.ends_at_once_when_empty() {
            point.awaits = awaits;
        } else if let Some(ends) = ends(point.entry, function.end, tells) {
            point.awaits = awaits;
            all.extend(ends);
        }
        if tells == Tells::Elem {
            let code = code_of(point.entry, function.end).unwrap_or_default();
            zeros.extend(returns::fixed_results(plan.arch, &code, point.entry));
        }
    }
    if plan.points.iter().any(|point| point.awaits == Awaits::Count) {
        all.extend(swiss.unwrap_or_default());
    }
    zeros.sort_unstable();
    zeros.dedup();
    plan.zero = <[u64; 1]>::try_from(zeros).ok().map(|[zero]| zero);
    all.sort_by_key(|r| r.address);
    all.dedup_by_key(|r| r.address);
    plan.returns = all;
}

/// What the returns of a probed function tell; `None` when that is nothing.
fn tells(point: &ProbePoint) -> Option<Tells> {
    let of_reflect = point.function.starts_with("reflect.");
    Some(match point.operation {
        Operation::Access1 => Tells::Elem,
        Operation::Access2 if of_reflect => Tells::ElemOrNil,
        Operation::Access2 => Tells::Found(1),
        Operation::Assign | Operation::Delete => Tells::Count { slot: 2 },
        Operation::Load | Operation::LoadOrStore | Operation::LoadAndDelete | Operation::Swap => Tells::Found(2),
        Operation::CompareAndSwap | Operation::CompareAndDelete => Tells::Done,
        // Delete is LoadAndDelete, and Store is Swap since Go 1.20; before, it tells its caller nothing.
        Operation::Store | Operation::SyncDelete => return None,
        Operation::Iterate | Operation::Range | Operation::Clear | Operation::SyncClear => return None,
    })
}

impl ProbePoint {
    /// Whether it returns without a look at the key when the map has no entries: `mapdelete_fast*`
    /// (src/runtime/map_fast*.go go1.19 to 1.23, src/internal/runtime/maps/runtime_fast*.go go1.24 to 1.27).
    pub fn ends_at_once_when_empty(&self) -> bool {
        let is_fast = !matches!(self.variant, Variant::Generic | Variant::Fat | Variant::Sync);
        self.operation == Operation::Delete && is_fast && self.function.starts_with("runtime.")
    }
}

fn point(
    arch: Arch,
    function: &FunctionSymbol,
    known: Known,
    read_code: &dyn Fn(u64, &mut [u8]) -> bool,
) -> ProbePoint {
    let mut code = [0; prologue::LONGEST];
    let size = function.end.saturating_sub(function.entry).min(code.len() as u64) as usize;
    let head = &mut code[..size];
    let checked = if read_code(function.entry, head) { prologue::after_stack_check(arch, head) } else { None };
    ProbePoint {
        function: function.name.clone(),
        entry: function.entry,
        address: function.entry + checked.unwrap_or(0) as u64,
        at_entry: checked.is_none(),
        operation: known.operation,
        variant: known.variant,
        map_type: known.map_type,
        map: if known.variant == Variant::Sync { 0 } else { 1 },
        key: known.key,
        awaits: Awaits::Nothing,
    }
}

/// Where a map function that the program calls takes its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    /// What it does.
    pub operation: Operation,
    /// The argument that holds the map's type descriptor.
    pub map_type: Option<u8>,
    /// The argument that holds the map's address.
    pub map: u8,
    /// Where the key is.
    pub key: KeyPlace,
    /// The method's name, of `sync.Map`.
    pub method: Option<&'static str>,
}

/// The arguments of the map function of this name; `None` when it is none.
pub fn operands(function: &str) -> Option<Operands> {
    let trie = trie_method(function).is_some();
    let facts = Facts { access1_wraps: false, trie, mapassign0: true, store_swaps: true };
    let Known { operation, variant, map_type, key, .. } = known(function, &facts)?;
    let is_sync = variant == Variant::Sync;
    let method = is_sync.then(|| SYNC_METHODS.iter().find(|m| m.1 == operation).map(|m| m.0)).flatten();
    Some(Operands { operation, map_type, map: if is_sync { 0 } else { 1 }, key, method })
}

/// What the names alone leave open.
struct Facts {
    /// `mapaccess1*` call `mapaccess2*` (Go 1.27 and later).
    access1_wraps: bool,
    /// `sync.Map` is a hash trie (Go 1.24 and later, but for an experiment of 1.24 and 1.25).
    trie: bool,
    /// The runtime's half of `reflect.mapassign` is `reflect.mapassign0`.
    mapassign0: bool,
    /// `sync.(*Map).Store` only calls `Swap`, which Go 1.20 brought.
    store_swaps: bool,
}

impl Facts {
    fn of(go: (u32, u32), functions: &[FunctionSymbol]) -> Facts {
        Facts {
            access1_wraps: go >= (1, 27),
            trie: functions.iter().any(|f| trie_method(&f.name).is_some()),
            mapassign0: functions.iter().any(|f| f.name.starts_with("reflect.mapassign0")),
            store_swaps: go >= (1, 20),
        }
    }
}

/// The method's name when `function` is one of the trie behind `sync.Map`.
fn trie_method(function: &str) -> Option<&str> {
    let rest = function.strip_prefix("internal/sync.(*HashTrieMap[")?;
    ["go.shape.interface {},go.shape.interface {}]).", "interface {},interface {}]).", "...])."]
        .iter()
        .find_map(|types| rest.strip_prefix(types))
}

/// Whether the function's map calls are its own business: cloning, and the maps inside a classic `sync.Map`.
fn only_serves(function: &str, facts: &Facts) -> bool {
    if matches!(function, "runtime.mapclone2" | "runtime.mapclone" | "maps.clone") {
        return true;
    }
    let is_wrapper = match function {
        "sync.(*Map).Store" => facts.store_swaps,
        other => other == "sync.(*Map).Delete",
    };
    !facts.trie && !is_wrapper && function.starts_with("sync.(*Map).")
}

fn known(function: &str, facts: &Facts) -> Option<Known> {
    if let Some(rest) = function.strip_prefix("runtime.map") {
        return runtime(rest, facts);
    }
    if let Some(rest) = function.strip_prefix("reflect.map") {
        return reflect(rest, facts);
    }
    sync(function, facts)
}

/// `runtime.map…(type, map, key)`.
fn runtime(rest: &str, facts: &Facts) -> Option<Known> {
    let (stem, form) = rest.split_once('_').unwrap_or((rest, ""));
    let operation = match stem {
        "access1" => Operation::Access1,
        "access2" => Operation::Access2,
        "assign" => Operation::Assign,
        "delete" => Operation::Delete,
        "iterinit" | "IterStart" => Operation::Iterate,
        "clear" => Operation::Clear,
        _ => return None,
    };
    let (variant, key) = match form {
        "" if matches!(operation, Operation::Iterate | Operation::Clear) => (Variant::Generic, KeyPlace::None),
        "" => (Variant::Generic, KeyPlace::Pointer(2)),
        "fat" => (Variant::Fat, KeyPlace::Pointer(2)),
        "fast32" | "fast32ptr" => (Variant::Fast32, KeyPlace::Value32(2)),
        "fast64" => (Variant::Fast64, KeyPlace::Value64(2)),
        "fast64ptr" => (Variant::Fast64Pointer, KeyPlace::Value64(2)),
        "faststr" => (Variant::FastString, KeyPlace::String(2)),
        _ => return None,
    };
    let wraps = variant == Variant::Fat || (facts.access1_wraps && operation == Operation::Access1);
    let role = if wraps { Role::Wrap } else { Role::Probe };
    Some(Known { operation, variant, map_type: Some(0), key, role, hides: false })
}

/// `reflect.map…(type, map, key)`: the runtime's halves, with the same arguments.
///
/// Some contain a copy of the runtime's function and some call it, by version: so each is probed, and what it calls is hidden.
fn reflect(rest: &str, facts: &Facts) -> Option<Known> {
    let (stem, form) = rest.split_once('_').unwrap_or((rest, ""));
    let (operation, role) = match stem {
        "access" => (Operation::Access2, Role::Probe),
        "delete" => (Operation::Delete, Role::Probe),
        "iterinit" | "IterStart" => (Operation::Iterate, Role::Probe),
        "clear" => (Operation::Clear, Role::Probe),
        "assign0" => (Operation::Assign, Role::Probe),
        "assign" if form == "faststr0" || !facts.mapassign0 => (Operation::Assign, Role::Probe),
        "assign" => (Operation::Assign, Role::Wrap),
        _ => return None,
    };
    let (variant, key) = match form {
        "" if matches!(operation, Operation::Iterate | Operation::Clear) => (Variant::Generic, KeyPlace::None),
        "" => (Variant::Generic, KeyPlace::Pointer(2)),
        "faststr" | "faststr0" => (Variant::FastString, KeyPlace::String(2)),
        _ => return None,
    };
    let hides = matches!(role, Role::Probe);
    Some(Known { operation, variant, map_type: Some(0), key, role, hides })
}

/// `sync.(*Map).M(map, key any)` and the trie's `M(map, dictionary, key any)`.
fn sync(function: &str, facts: &Facts) -> Option<Known> {
    let trie = trie_method(function);
    let method = trie.or_else(|| function.strip_prefix("sync.(*Map)."))?;
    let &(_, operation) = SYNC_METHODS.iter().find(|m| m.0 == method)?;
    let innermost = trie.is_some() == facts.trie;
    let calls_twin = match operation {
        Operation::Store => facts.store_swaps,
        other => other == Operation::SyncDelete,
    };
    let role = if innermost && !calls_twin { Role::Probe } else { Role::Wrap };
    let key = match operation {
        Operation::Range | Operation::SyncClear => KeyPlace::None,
        _ => KeyPlace::Interface(if trie.is_some() { 2 } else { 1 }),
    };
    Some(Known { operation, variant: Variant::Sync, map_type: None, key, role, hides: false })
}

/// The ranges sorted, and one where only padding lies between them.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    const PADDING: u64 = 32;
    ranges.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(PADDING) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// A probe behind the stack check of `runtime.mapaccess2`, with its key in some other place.
#[cfg(test)]
pub(super) fn access_point(address: u64, key: KeyPlace) -> ProbePoint {
    let function = FunctionSymbol { name: "runtime.mapaccess2".to_string(), entry: address, end: address + 64 };
    let known = known(&function.name, &Facts::of((1, 27), &[])).expect("a known function");
    ProbePoint { key, ..point(Arch::Amd64, &function, known, &|_, _| false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of 64 bytes, one every 64, from 0x1000.
    fn planned(go: (u32, u32), names: &[&str]) -> ProbePlan {
        let functions: Vec<FunctionSymbol> = names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let entry = 0x1000 + 0x100 * i as u64;
                FunctionSymbol { name: name.to_string(), entry, end: entry + 0x40 }
            })
            .collect();
        plan(Arch::Amd64, go, &functions, &|_, _| false)
    }

    fn probed(plan: &ProbePlan) -> Vec<&str> {
        plan.points.iter().map(|p| p.function.as_str()).collect()
    }

    const ACCESS: [&str; 3] = ["runtime.mapaccess1_fast64", "runtime.mapaccess2_fast64", "runtime.mapaccess1_fat"];

    #[test]
    fn one_function_of_each_chain_is_probed() {
        assert_eq!(probed(&planned((1, 26), &ACCESS)), ACCESS[..2]);
        let plan = planned((1, 27), &ACCESS);
        assert_eq!(probed(&plan), ACCESS[1..2]);
        let direct = plan.asked(&plan.points[0], &[0x9000, 0x9100, 0]);
        assert_eq!((direct.function, direct.operation, direct.caller), (ACCESS[1], Operation::Access2, 0x9000));
        let wrapped = plan.asked(&plan.points[0], &[0x1010, 0x9100, 0]);
        assert_eq!((wrapped.function, wrapped.operation, wrapped.caller), (ACCESS[0], Operation::Access1, 0x9100));
    }

    #[test]
    fn a_classic_sync_map_hides_its_inner_maps() {
        let names = ["sync.(*Map).Load", "sync.(*Map).Store", "sync.(*Map).Swap", "runtime.mapaccess2", "main.main"];
        let plan = planned((1, 23), &names);
        assert_eq!(probed(&plan), [names[0], names[2], names[3]]);
        assert!(plan.is_hidden(0x1010), "the access inside Load");
        assert!(!plan.is_hidden(0x1110), "Swap called by Store");
        assert!(!plan.is_hidden(0x1410), "the program's own access");
        assert_eq!(plan.asked(&plan.points[1], &[0x1110, 0x1410, 0]).operation, Operation::Store);
    }

    #[test]
    fn store_stands_for_itself_before_swap() {
        let names = ["sync.(*Map).Store", "sync.(*Map).LoadAndDelete", "sync.(*Map).Delete", "runtime.mapassign"];
        let plan = planned((1, 19), &names);
        assert_eq!(probed(&plan), [names[0], names[1], names[3]]);
        assert!(plan.is_hidden(0x1010), "the assignment inside Store");
        assert!(!plan.is_hidden(0x1210), "LoadAndDelete called by Delete");
    }

    #[test]
    fn the_trie_is_probed_behind_the_methods_of_sync_map() {
        let trie = "internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).";
        let unique = "internal/sync.(*HashTrieMap[go.shape.string,go.shape.struct { p *int }]).Load";
        let (load, swap, store) = (format!("{trie}Load"), format!("{trie}Swap"), format!("{trie}Store"));
        let names = ["sync.(*Map).Load", "sync.(*Map).Store", &load, &swap, &store, unique];
        let plan = planned((1, 24), &names);
        assert_eq!(probed(&plan), [&load, &swap]);
        assert_eq!(plan.points[0].key, KeyPlace::Interface(2));
        assert_eq!(plan.points[0].map, 0);
        let asked = plan.asked(&plan.points[1], &[0x1410, 0x1110, 0x9000]);
        assert_eq!((asked.function, asked.operation, asked.caller), (names[1], Operation::Store, 0x9000));
        assert!(plan.hidden.is_empty());
    }

    #[test]
    fn keys_are_where_the_variant_has_them() {
        let plan = planned(
            (1, 22),
            &[
                "runtime.mapassign_fast32",
                "runtime.mapassign_fast64ptr",
                "runtime.mapdelete_faststr",
                "runtime.mapdelete",
                "runtime.mapiterinit",
                "runtime.mapiternext",
                "runtime.mapaccessK",
                "runtime.mapclear",
            ],
        );
        let keys: Vec<KeyPlace> = plan.points.iter().map(|p| p.key).collect();
        use KeyPlace::*;
        assert_eq!(keys, [Value32(2), Value64(2), String(2), Pointer(2), None, None]);
        assert!(plan.points.iter().all(|p| p.map_type == Some(0) && p.map == 1 && p.at_entry));
    }

    #[test]
    fn every_operation_has_its_name_and_family() {
        for (method, operation) in SYNC_METHODS {
            assert_eq!(operation.name(), method);
        }
        assert_eq!(Operation::Access1.name(), "access1");
        assert_eq!(Operation::LoadOrStore.family(), "assign");
        assert_eq!(Operation::SyncDelete.family(), "delete");
        assert_eq!(Operation::named("access"), [Operation::Access1, Operation::Access2, Operation::Load]);
        assert_eq!(Operation::named("Delete"), [Operation::SyncDelete]);
        assert_eq!(Operation::named("delete").len(), 4);
        assert_eq!(Operation::named("fly"), []);
    }
}
