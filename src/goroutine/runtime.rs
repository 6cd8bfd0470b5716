//! Where the runtime keeps its goroutines: variables, field offsets, texts; from the program itself where it says them.

use super::locate;
use crate::layout::goroutine as layout;
use crate::memory::Memory;
use crate::session::Session;
use crate::types::{Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::sync::Arc;

/// Field offsets of `runtime.g`, in bytes.
pub struct GLayout {
    pub size: usize,
    pub stack_lo: usize,
    pub stack_hi: usize,
    pub m: usize,
    pub sched_sp: usize,
    pub sched_pc: usize,
    pub sched_lr: usize,
    pub sched_bp: usize,
    pub syscall_sp: usize,
    pub syscall_pc: usize,
    pub status: usize,
    pub goid: usize,
    pub waitsince: usize,
    pub waitreason: usize,
    /// Missing before Go 1.21.
    pub parent: Option<usize>,
    pub lockedm: usize,
    pub gopc: usize,
    pub ancestors: usize,
    pub startpc: usize,
    pub waiting: usize,
    pub labels: usize,
    pub timer: Option<usize>,
    /// Missing before Go 1.22.
    pub coroarg: Option<usize>,
}

/// Field offsets of `runtime.m` and `runtime.p`.
pub struct MLayout {
    pub g0: u64,
    pub gsignal: u64,
    pub procid: u64,
    pub p: u64,
    pub curg: u64,
    pub id: u64,
    pub vdso_sp: u64,
    pub vdso_pc: u64,
    pub p_id: u64,
}

/// Field offsets of `runtime.sudog`; `elem` and `c` already descend to the number inside newer Go's pairs.
pub struct SudogLayout {
    pub g: u64,
    pub next: u64,
    pub prev: u64,
    pub elem: u64,
    pub c: u64,
    pub waitlink: u64,
}

/// Field offsets of `runtime.hchan`.
pub struct ChanLayout {
    pub qcount: u64,
    pub dataqsiz: u64,
    pub closed: u64,
    pub elemtype: u64,
    pub recvq: u64,
    pub sendq: u64,
    /// Channels of timers, Go 1.23 and later.
    pub timer: Option<u64>,
}

/// An array of roots of semaphores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub address: u64,
    pub count: u64,
    /// Bytes from one root to the next.
    pub stride: u64,
}

/// All that is needed to read goroutines of one program.
pub struct Runtime<'a> {
    pub memory: &'a dyn Memory,
    pub session: &'a Session,
    pub g: GLayout,
    pub m: MLayout,
    pub sudog: SudogLayout,
    pub chan: ChanLayout,
    /// Address of `runtime.allgs`' array, and its length.
    pub allgs: (u64, u64),
    /// The target's own `waitReasonStrings`.
    pub reasons: Vec<Arc<str>>,
    pub go: (u32, u32),
    pub arm: bool,
}

/// Offset of a field of a runtime type by its path: as the program's DWARF or descriptors say, else as known of its
/// version. The size of the type if `path` is empty.
fn offset(session: &Session, ty: &str, path: &str) -> Result<Option<u64>> {
    // Since Go 1.26 some are pairs of a traced pointer, nil when hidden, and its number.
    let ways = [format!("{path}.vu"), format!("{path}.maybeTraceablePtr.vu"), path.to_string()];
    if session.types.program().dwarf.is_some() {
        if path.is_empty() {
            return Ok(Some(session.types.load(session.type_named(ty)?)?.size));
        }
        for way in &ways {
            if let Some(at) = session.types.offset(ty, way)? {
                return Ok(Some(at));
            }
        }
        return Ok(None);
    }
    Ok(layout::record(session.types.program().go(), ty, path))
}

/// More wait reasons than this is not that table (47 in Go 1.27).
const MAX_REASONS: u64 = 256;
const LONGEST_REASON: usize = 200;

impl<'a> Runtime<'a> {
    /// Finds everything.
    pub fn of(session: &'a Session) -> Result<Runtime<'a>> {
        let memory = &*session.memory;
        let program = session.types.program();
        let of = |ty: &str, path: &str| offset(session, ty, path);
        let need = |ty: &str, path: &str| -> Result<u64> {
            of(ty, path)?.ok_or_else(|| Error::Type(format!("{ty} has no field {path} in this program")))
        };
        let at = |path: &str| -> Result<usize> { Ok(need("runtime.g", path)? as usize) };
        let maybe = |path: &str| -> Result<Option<usize>> { Ok(of("runtime.g", path)?.map(|at| at as usize)) };
        let g = GLayout {
            size: at("")?,
            stack_lo: at("stack.lo")?,
            stack_hi: at("stack.hi")?,
            m: at("m")?,
            sched_sp: at("sched.sp")?,
            sched_pc: at("sched.pc")?,
            sched_lr: at("sched.lr")?,
            sched_bp: at("sched.bp")?,
            syscall_sp: at("syscallsp")?,
            syscall_pc: at("syscallpc")?,
            status: at("atomicstatus")?,
            goid: at("goid")?,
            waitsince: at("waitsince")?,
            waitreason: at("waitreason")?,
            parent: maybe("parentGoid")?,
            lockedm: at("lockedm")?,
            gopc: at("gopc")?,
            ancestors: at("ancestors")?,
            startpc: at("startpc")?,
            waiting: at("waiting")?,
            labels: at("labels")?,
            timer: maybe("timer")?,
            coroarg: maybe("coroarg")?,
        };
        let m = MLayout {
            g0: need("runtime.m", "g0")?,
            gsignal: need("runtime.m", "gsignal")?,
            procid: need("runtime.m", "procid")?,
            p: need("runtime.m", "p")?,
            curg: need("runtime.m", "curg")?,
            id: need("runtime.m", "id")?,
            vdso_sp: need("runtime.m", "vdsoSP")?,
            vdso_pc: need("runtime.m", "vdsoPC")?,
            p_id: need("runtime.p", "id")?,
        };
        let sudog = SudogLayout {
            g: need("runtime.sudog", "g")?,
            next: need("runtime.sudog", "next")?,
            prev: need("runtime.sudog", "prev")?,
            elem: need("runtime.sudog", "elem")?,
            c: need("runtime.sudog", "c")?,
            waitlink: need("runtime.sudog", "waitlink")?,
        };
        let chan = ChanLayout {
            qcount: need("runtime.hchan", "qcount")?,
            dataqsiz: need("runtime.hchan", "dataqsiz")?,
            closed: need("runtime.hchan", "closed")?,
            elemtype: need("runtime.hchan", "elemtype")?,
            recvq: need("runtime.hchan", "recvq.first")?,
            sendq: need("runtime.hchan", "sendq.first")?,
            timer: of("runtime.hchan", "timer")?,
        };
        let go = program.go();
        let allgs = match variable(session, "runtime.allgs") {
            Ok((allgs, _)) => (memory.u64(allgs)?, memory.u64(allgs.wrapping_add(8))?),
            Err(_) => session.types.module().and_then(|module| locate::allgs(memory, module, &g)).ok_or_else(|| {
                Error::Binary(
                    "the runtime's list of goroutines was not found; the core may lack the program's data".into(),
                )
            })?,
        };
        let reasons = reasons(session)?;
        Ok(Runtime { memory, session, g, m, sudog, chan, allgs, reasons, go, arm: program.is_arm() })
    }

    /// Offset of a field of a runtime type by its path, or `None` when this program has no such type or field.
    pub fn offset(&self, ty: &str, path: &str) -> Option<u64> {
        offset(self.session, ty, path).ok().flatten()
    }

    /// The roots of the runtime's semaphores; `None` when there are none, or nobody waits on one.
    pub fn semaphores(&self) -> Option<Table> {
        let types = &self.session.types;
        if let Ok((address, ty)) = variable(self.session, "runtime.semtable") {
            let ty = types.load(ty).ok()?;
            let Shape::Array { elem, len } = ty.shape else { return None };
            return Some(Table { address, count: len, stride: types.load(elem).ok()?.size });
        }
        let treap = self.offset("runtime.semaRoot", "treap")?;
        locate::semaphores(self.memory, types.module()?, self.allgs, &self.sudog, treap, self.arm)
    }
}

/// The address and type of a variable of the runtime; an error without DWARF.
fn variable(session: &Session, name: &str) -> Result<(u64, TypeId)> {
    let found = session.types.variable(name)?;
    found.ok_or_else(|| Error::Type(format!("the program has no {name}; its goroutines cannot be found")))
}

/// Reads `runtime.waitReasonStrings`.
fn reasons(session: &Session) -> Result<Vec<Arc<str>>> {
    let memory: &dyn Memory = &*session.memory;
    let Ok((address, ty)) = variable(session, "runtime.waitReasonStrings") else {
        let module = session.types.module();
        let texts = module.and_then(|module| locate::reasons(memory, module, session.types.program().go()));
        return Ok(texts.unwrap_or_default().into_iter().map(Arc::from).collect());
    };
    let ty = session.types.load(ty)?;
    let Shape::Array { len, .. } = ty.shape else {
        return Err(Error::Type("runtime.waitReasonStrings is not an array in this program".into()));
    };
    (0..len.min(MAX_REASONS))
        .map(|i| {
            let header = address.wrapping_add(i * 16);
            let len = (memory.u64(header.wrapping_add(8))? as usize).min(LONGEST_REASON);
            let text = memory.bytes(memory.u64(header)?, len)?;
            Ok(String::from_utf8_lossy(&text).into())
        })
        .collect()
}
