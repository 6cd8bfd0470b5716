//! Variables and arguments of a goroutine's frames. Of a parked goroutine only PC, SP and BP were saved: what the
//! compiler left in any other register belongs to whatever ran there since, and is said to be lost.

use super::{Frame, Goroutine, Line};
use crate::binary::locals::{Lost, Machine, Place, Role, Scope};
use crate::binary::program::no_dwarf;
use crate::memory::Thread;
use crate::session::Session;
use crate::types::{Location, Shape, TypeId, TypeSource};
use crate::value::Arena;
use crate::{Error, Result};

/// A variable with its value's place.
#[derive(Debug, Clone)]
pub struct Local {
    pub name: String,
    pub ty: TypeId,
    pub role: Role,
    /// Line of its declaration; 0 when not said.
    pub line: u32,
    /// Whether it was moved to the heap.
    pub escaped: bool,
    pub place: Place,
}

/// The variables of one line of a stack.
#[derive(Debug, Clone)]
pub struct Level {
    /// Number in the stack, inlined calls counted, 0 innermost.
    pub number: usize,
    pub line: Line,
    /// Arguments first; of several with one name, the one that hides the others comes last.
    pub locals: Vec<Local>,
    /// Why they are not all known.
    pub note: Option<String>,
}

impl Local {
    /// Where the value lies, laid out in `arena` when it is in no memory of the target; why not, in words.
    pub fn location(&self, arena: &mut Arena) -> Result<Location, &'static str> {
        match &self.place {
            Place::Memory(address) => Ok(Location { address: *address, ty: self.ty }),
            Place::Bytes(bytes) => Ok(Location { address: arena.push(bytes), ty: self.ty }),
            Place::Part(_, why) | Place::Lost(why) => Err(why.words()),
        }
    }
}

impl Level {
    /// The variable of this name that code at this line means.
    pub fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rfind(|local| local.name == name)
    }
}

/// Variables of the frames of one goroutine, read when asked for.
pub struct Locals<'s> {
    session: &'s Session,
    goroutine: &'s Goroutine,
}

impl<'s> Locals<'s> {
    /// Fails without DWARF: only that knows variables.
    pub fn of(session: &'s Session, goroutine: &'s Goroutine) -> Result<Locals<'s>> {
        let program = session.types.program();
        if program.dwarf.is_none() {
            return Err(no_dwarf(&program.path));
        }
        Ok(Locals { session, goroutine })
    }

    /// How many lines the stack has, inlined calls counted.
    pub fn count(&self) -> usize {
        self.goroutine.lines().count()
    }

    /// The variables of line `number` of the stack.
    pub fn level(&self, number: usize) -> Result<Level> {
        let mut first = 0;
        for (index, frame) in self.goroutine.stack.frames.iter().enumerate() {
            if let Some(line) = frame.info.lines.get(number - first) {
                let (locals, note) = match self.scope(index, frame, number - first) {
                    Ok(Some((scope, pc))) => (self.visible(scope, line, frame, pc), None),
                    Ok(None) => (Vec::new(), Some("DWARF knows no variables of this function".to_string())),
                    Err(error) => (Vec::new(), Some(error.to_string())),
                };
                return Ok(Level { number, line: line.clone(), locals, note });
            }
            first += frame.info.lines.len();
        }
        Err(Error::Usage(format!(
            "goroutine {} has frames 0 to {}, not {number}",
            self.goroutine.goid,
            first.max(1) - 1
        )))
    }

    /// The scope that belongs to line `position` of a frame, and the link-time PC it was read at.
    fn scope(&self, index: usize, frame: &Frame, position: usize) -> Result<Option<(Scope, u64)>> {
        let program = self.session.types.program();
        let Some(dwarf) = &program.dwarf else { return Ok(None) };
        let stopped_here = self.registers_of(index, frame);
        let register = |number: u16| match (stopped_here, number) {
            (_, RSP) if !program.is_arm() => Some(frame.sp),
            (_, SP) if program.is_arm() => Some(frame.sp),
            (Some(thread), number) => thread.by_dwarf(number, program.is_arm()),
            _ => None,
        };
        // A return address may already belong to the next block.
        let pc = frame.pc.wrapping_sub(program.bias).wrapping_sub(u64::from(!frame.exact));
        let (memory, bias) = (&*self.session.memory, program.bias);
        let scopes = dwarf.scopes(&Machine { pc, cfa: frame.end, bias, register: &register, memory })?;
        let lines = &frame.info.lines;
        let scope = match scopes.len() == lines.len() {
            true => scopes.into_iter().nth(position),
            // The two tables may disagree where an inlined call begins: then only equal names count.
            false => scopes.into_iter().find(|scope| lines.get(position).is_some_and(|l| *l.func == scope.function)),
        };
        Ok(scope.map(|scope| (scope, pc)))
    }

    /// The registers of the thread, when it stopped in this very frame.
    fn registers_of(&self, index: usize, frame: &Frame) -> Option<&'s Thread> {
        let arm = self.session.types.program().is_arm();
        let is_here =
            |thread: &&Thread| thread.pc_sp_bp_g(arm).is_some_and(|[pc, sp, _, _]| pc == frame.pc && sp == frame.sp);
        // No two threads share a stack.
        self.session.threads.iter().find(is_here).filter(|_| index == 0 && frame.exact)
    }

    fn visible(&self, scope: Scope, line: &Line, frame: &Frame, pc: u64) -> Vec<Local> {
        let mut variables = scope.variables;
        variables.sort_by_key(|variable| (variable.role as u8, variable.depth, variable.line));
        let here = |line_of: u32| line_of == 0 || line_of <= line.line;
        let declared = variables.into_iter().filter(|variable| variable.role != Role::Local || here(variable.line));
        declared
            .map(|variable| {
                let escaped = variable.name.strip_prefix('&').map(str::to_string);
                let set =
                    variable.role != Role::Local || !variable.fixed || self.may_be_set(&variable.place, frame, pc);
                let (place, ty) = match (&escaped, set) {
                    (_, false) => (Place::Lost(Lost::NotSet), variable.ty),
                    (Some(_), true) => self.behind(&variable.place, variable.ty),
                    (None, true) => (variable.place, variable.ty),
                };
                Local {
                    escaped: escaped.is_some(),
                    name: escaped.unwrap_or(variable.name),
                    ty,
                    role: variable.role,
                    line: variable.line,
                    place,
                }
            })
            .collect()
    }

    /// Whether code before `pc` writes to a variable's own slot, or takes its address: an unoptimised function says
    /// where a variable lies long before it is there.
    fn may_be_set(&self, place: &Place, frame: &Frame, pc: u64) -> bool {
        let Place::Memory(address) = place else { return true };
        if *address < frame.sp || *address >= frame.end {
            return true;
        }
        let program = self.session.types.program();
        program.is_arm() || super::operand::writes_slot(self.session, frame, pc.wrapping_add(program.bias), *address)
    }

    /// What the pointer of an escaped variable leads to.
    fn behind(&self, place: &Place, ty: TypeId) -> (Place, TypeId) {
        let types = &self.session.types;
        let pointee = types.load(ty).ok().and_then(|ty| match ty.shape {
            Shape::Pointer(pointee) => pointee,
            _ => None,
        });
        let Some(pointee) = pointee else { return (Place::Lost(Lost::Unknown), ty) };
        let pointer = match place {
            Place::Memory(address) => self.session.memory.u64(*address).ok(),
            Place::Bytes(bytes) => bytes.get(..8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes),
            Place::Part(_, why) | Place::Lost(why) => return (Place::Lost(*why), pointee),
        };
        match pointer {
            Some(0) | None => (Place::Lost(Lost::NotSet), pointee),
            Some(pointer) => (Place::Memory(pointer), pointee),
        }
    }
}

/// DWARF's numbers of the stack pointers of amd64 and arm64.
const RSP: u16 = 7;
const SP: u16 = 31;
