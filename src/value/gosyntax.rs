//! Values in Go syntax, as `%#v` prints them.
//!
//! Where `%#v` shows less than a debugger's user needs, this shows more, still in Go syntax: followed
//! pointers (`&main.T{…}` at any level), the type of a scalar in an interface or behind a pointer where its
//! literal would have another one (`int64(1)`), bytes as text (`[]byte("…")`), funcs by name.

use super::context::Context;
use super::float::{self, Rule};
use super::plan::{FieldPlan, Form, Plan};
use super::quote;
use super::sink::{drain_if_full, Drain, Sink};
use super::time::GoTime;
use crate::map::keys::Keys;
use crate::Result;
use std::fmt::Display;
use std::io::Write;

/// Appends values in Go syntax to a buffer that the caller flushes between values.
pub struct GoSyntax<'b> {
    /// What was written so far.
    pub out: &'b mut Vec<u8>,
    drain: Option<Drain<'b>>,
    colour: bool,
    /// Where the dynamic values and pointees being written begin.
    starts: Vec<usize>,
    /// Whether this is a key, of which pointers are their addresses, whatever they lead to.
    of_key: bool,
    /// Addresses of the pointees being written.
    pointees: Vec<u64>,
    cut: bool,
}

/// ANSI colours by the role of a word.
#[derive(Clone, Copy)]
enum Role {
    Trouble = 31,
    Text = 32,
    Number = 33,
    Type = 36,
}

impl<'b> GoSyntax<'b> {
    /// Appends to `out`, with ANSI colours when `colour`.
    pub fn new(out: &'b mut Vec<u8>, colour: bool) -> GoSyntax<'b> {
        GoSyntax { out, drain: None, colour, starts: Vec::new(), of_key: false, pointees: Vec::new(), cut: false }
    }

    /// Appends keys to `out`: two that differ do not look alike, unless a limit cuts them.
    fn of_key(out: &'b mut Vec<u8>, colour: bool) -> GoSyntax<'b> {
        GoSyntax { of_key: true, ..GoSyntax::new(out, colour) }
    }

    /// Appends to `out`, which `drain` empties within long values too.
    pub fn draining(out: &'b mut Vec<u8>, drain: Drain<'b>, colour: bool) -> GoSyntax<'b> {
        GoSyntax { drain: Some(drain), ..GoSyntax::new(out, colour) }
    }

    /// Whether a limit has cut something short.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn paint(&mut self, role: Role, push: impl FnOnce(&mut Vec<u8>)) {
        if !self.colour {
            return push(self.out);
        }
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "\x1b[{}m", role as u8);
        push(self.out);
        self.put(b"\x1b[m");
    }

    fn type_name(&mut self, plan: &Plan) {
        self.paint(Role::Type, |out| out.extend_from_slice(plan.name().as_bytes()));
    }

    fn number(&mut self, text: &[u8]) {
        self.paint(Role::Number, |out| out.extend_from_slice(text));
    }

    /// `(*main.T)(0xc000…)`.
    fn conversion(&mut self, plan: &Plan, value: &str) {
        let parentheses = matches!(plan.form, Form::Pointer(_) | Form::UnsafePointer | Form::Func | Form::Chan);
        if parentheses {
            self.put(b"(");
        }
        self.type_name(plan);
        self.put(if parentheses { b")(" } else { b"(" });
        self.number(value.as_bytes());
        self.put(b")");
    }

    fn complex(&mut self, re: impl FnOnce(&mut Vec<u8>), im: impl FnOnce(&mut Vec<u8>)) {
        self.paint(Role::Number, |out| {
            out.push(b'(');
            re(out);
            let start = out.len();
            im(out);
            if !matches!(out.get(start), Some(b'+' | b'-')) {
                out.insert(start, b'+');
            }
            out.extend_from_slice(b"i)");
        });
    }

    /// In a key, what tells one NaN from another.
    fn bits_of_nan(&mut self, unusual: Option<u64>) {
        if let Some(bits) = unusual.filter(|_| self.of_key) {
            let _ = write!(self.out, " /* {bits:#x} */");
        }
    }

    fn quoted(&mut self, bytes: &[u8], len: u64) {
        self.paint(Role::Text, |out| quote::push_go_string(out, bytes));
        if bytes.len() as u64 != len {
            self.cut = true;
            self.put("…".as_bytes());
        }
    }

    fn separate(&mut self, index: u64) {
        if index > 0 {
            self.put(b", ");
        }
    }

    fn omitted(&mut self, index: u64, omitted: u64) {
        if omitted > 0 {
            self.cut = true;
            self.separate(index);
            let _ = write!(self.out, "…{omitted} more");
        }
    }

    /// Says the type of the scalar just written where its literal alone would have another one.
    fn end_typed(&mut self, plan: &Plan) {
        let Some(start) = self.starts.pop() else { return };
        if !plan.is_scalar() {
            return;
        }
        let says_float = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'N' | b'I'));
        let clear = match plan.name() {
            "bool" | "int" | "string" | "complex128" => true,
            "float64" => self.out.get(start..).is_some_and(says_float),
            _ => false,
        };
        if !clear {
            let value = self.out.split_off(start);
            self.type_name(plan);
            self.put(b"(");
            self.put(&value);
            self.put(b")");
        }
    }
}

/// Appends a key to `out` in Go syntax. Of two keys that a limit cuts to the same text each has its own mark.
pub fn push_key(plan: &Plan, context: &Context<'_>, bytes: &[u8], colour: bool, out: &mut Vec<u8>) -> Result<()> {
    let mut sink = GoSyntax::of_key(out, colour);
    plan.write(context, bytes, &mut sink)?;
    if sink.cut {
        let identity = Keys::new(context.memory, context.types).identity(plan.ty(), bytes);
        let mark = identity.map_or_else(|error| error.to_string(), |key| format!("#{:.8}", key.digest().to_string()));
        let _ = write!(out, " /* {mark} */");
    }
    Ok(())
}

impl Sink for GoSyntax<'_> {
    fn bool(&mut self, _plan: &Plan, value: bool) {
        self.number(if value { b"true" } else { b"false" });
    }

    fn int(&mut self, _plan: &Plan, value: i64) {
        self.number(itoa::Buffer::new().format(value).as_bytes());
    }

    fn uint(&mut self, _plan: &Plan, value: u64) {
        self.paint(Role::Number, |out| {
            let _ = write!(out, "{value:#x}");
        });
    }

    fn float32(&mut self, _plan: &Plan, value: f32) {
        self.paint(Role::Number, |out| float::push_f32(out, value, Rule::Go));
        self.bits_of_nan(float::unusual_nan32(value));
    }

    fn float64(&mut self, _plan: &Plan, value: f64) {
        self.paint(Role::Number, |out| float::push_f64(out, value, Rule::Go));
        self.bits_of_nan(float::unusual_nan64(value));
    }

    fn complex64(&mut self, _plan: &Plan, re: f32, im: f32) {
        self.complex(|out| float::push_f32(out, re, Rule::Go), |out| float::push_f32(out, im, Rule::Go));
        [re, im].into_iter().for_each(|part| self.bits_of_nan(float::unusual_nan32(part)));
    }

    fn complex128(&mut self, _plan: &Plan, re: f64, im: f64) {
        self.complex(|out| float::push_f64(out, re, Rule::Go), |out| float::push_f64(out, im, Rule::Go));
        [re, im].into_iter().for_each(|part| self.bits_of_nan(float::unusual_nan64(part)));
    }

    fn string(&mut self, _plan: &Plan, bytes: &[u8], len: u64) {
        self.quoted(bytes, len);
    }

    fn bytes(&mut self, plan: &Plan, bytes: &[u8], len: u64) {
        match plan.name() {
            "[]uint8" => self.paint(Role::Type, |out| out.extend_from_slice(b"[]byte")),
            _ => self.type_name(plan),
        }
        self.put(b"(");
        self.quoted(bytes, len);
        self.put(b")");
    }

    fn nil(&mut self, plan: &Plan) {
        self.conversion(plan, "nil");
    }

    fn pointer(&mut self, plan: &Plan, address: u64) {
        self.conversion(plan, &format!("{address:#x}"));
    }

    fn unfollowed(&mut self, plan: &Plan, address: u64) {
        self.pointer(plan, address);
        self.put(b" /* follow-limit */");
    }

    fn begin_pointee(&mut self, _plan: &Plan, _elem: &Plan, address: u64) {
        self.put(b"&");
        self.starts.push(self.out.len());
        self.pointees.push(address);
    }

    fn end_pointee(&mut self, _plan: &Plan, elem: &Plan) {
        self.end_typed(elem);
        let address = self.pointees.pop();
        // What lies behind further pointers is not what the key is.
        if let (true, true, Some(address)) = (self.of_key, self.pointees.is_empty(), address) {
            let _ = write!(self.out, " /* {address:#x} */");
        }
    }

    fn func(&mut self, _plan: &Plan, _closure: u64, name: &str) {
        self.put(name.as_bytes());
    }

    fn chan(&mut self, plan: &Plan, address: u64, len: u64, cap: u64) {
        self.conversion(plan, &format!("{address:#x}"));
        let _ = write!(self.out, " /* {len} of {cap} */");
    }

    fn time(&mut self, _plan: &Plan, time: &GoTime) {
        self.paint(Role::Number, |out| time.push_go_syntax(out));
    }

    fn begin_interface(&mut self, _plan: &Plan, _dynamic: &Plan) {
        self.starts.push(self.out.len());
    }

    fn end_interface(&mut self, _plan: &Plan, dynamic: &Plan) {
        self.end_typed(dynamic);
    }

    fn begin_struct(&mut self, plan: &Plan) {
        self.type_name(plan);
        self.put(b"{");
    }

    fn field(&mut self, _plan: &Plan, field: &FieldPlan, index: usize) {
        self.separate(index as u64);
        self.put(field.name.as_bytes());
        self.put(b":");
    }

    fn end_struct(&mut self, _plan: &Plan) {
        self.put(b"}");
    }

    fn begin_list(&mut self, plan: &Plan) {
        self.begin_struct(plan);
    }

    fn item(&mut self, index: u64) {
        self.separate(index);
    }

    fn end_list(&mut self, index: u64, omitted: u64) {
        self.omitted(index, omitted);
        self.put(b"}");
    }

    fn begin_map(&mut self, plan: &Plan) {
        self.begin_struct(plan);
    }

    fn key(&mut self, index: u64) {
        self.separate(index);
    }

    fn elem(&mut self) {
        self.put(b":");
    }

    fn end_entry(&mut self) {}

    fn end_map(&mut self, index: u64, omitted: u64, problem: Option<&dyn Display>) {
        self.omitted(index, omitted);
        if let Some(problem) = problem {
            self.separate(index + omitted);
            self.unreadable(problem);
        }
        self.put(b"}");
    }

    fn pause(&mut self) -> Result<()> {
        // Only scalars look back at where they began, and they never pause.
        drain_if_full(self.out, &mut self.drain)
    }

    fn unreadable(&mut self, why: &dyn Display) {
        self.paint(Role::Trouble, |out| {
            let _ = write!(out, "/* {why} */");
        });
    }
}
