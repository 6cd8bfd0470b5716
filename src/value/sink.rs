//! What a value is made of, as events; each output form is one [`Sink`].

use super::plan::{FieldPlan, Plan};
use super::time::GoTime;
use crate::Result;
use std::fmt::Display;

/// Receives a value piece by piece, outermost first. `plan` is always the type of the piece.
///
/// Everything between a `begin_…` and its `end_…` belongs to it; `index` counts from 0 and says where a
/// separator goes. `omitted` is the number of elements left out by a limit or lying in unreadable memory.
pub trait Sink {
    /// A bool.
    fn bool(&mut self, plan: &Plan, value: bool);
    /// A signed integer.
    fn int(&mut self, plan: &Plan, value: i64);
    /// An unsigned integer or uintptr.
    fn uint(&mut self, plan: &Plan, value: u64);
    /// A float32.
    fn float32(&mut self, plan: &Plan, value: f32);
    /// A float64.
    fn float64(&mut self, plan: &Plan, value: f64);
    /// A complex64.
    fn complex64(&mut self, plan: &Plan, re: f32, im: f32);
    /// A complex128.
    fn complex128(&mut self, plan: &Plan, re: f64, im: f64);
    /// A string: its first bytes, and its whole length.
    fn string(&mut self, plan: &Plan, bytes: &[u8], len: u64);
    /// A slice of bytes: its first bytes, and its whole length.
    fn bytes(&mut self, plan: &Plan, bytes: &[u8], len: u64);
    /// A nil pointer, slice, map, interface, func or channel.
    fn nil(&mut self, plan: &Plan);
    /// A pointer that is not followed, or an unsafe.Pointer.
    fn pointer(&mut self, plan: &Plan, address: u64);
    /// A pointer that would be followed, had [`Options::follow_limit`](super::Options::follow_limit) not been reached.
    fn unfollowed(&mut self, plan: &Plan, address: u64);
    /// A pointer whose pointee comes next.
    fn begin_pointee(&mut self, plan: &Plan, elem: &Plan, address: u64);
    /// The pointee is complete.
    fn end_pointee(&mut self, plan: &Plan, elem: &Plan);
    /// A func value: the address of its closure and what is known of its code.
    fn func(&mut self, plan: &Plan, closure: u64, name: &str);
    /// A channel: its address, the number of values in its buffer, and the buffer's size.
    fn chan(&mut self, plan: &Plan, address: u64, len: u64, cap: u64);
    /// A `time.Time`.
    fn time(&mut self, plan: &Plan, time: &GoTime);
    /// An interface whose dynamic value comes next.
    fn begin_interface(&mut self, plan: &Plan, dynamic: &Plan);
    /// The dynamic value is complete.
    fn end_interface(&mut self, plan: &Plan, dynamic: &Plan);
    /// A struct whose fields come next.
    fn begin_struct(&mut self, plan: &Plan);
    /// A field whose value comes next.
    fn field(&mut self, plan: &Plan, field: &FieldPlan, index: usize);
    /// The struct is complete.
    fn end_struct(&mut self, plan: &Plan);
    /// A slice or array whose elements come next.
    fn begin_list(&mut self, plan: &Plan);
    /// An element comes next.
    fn item(&mut self, index: u64);
    /// The slice or array is complete.
    fn end_list(&mut self, index: u64, omitted: u64);
    /// A map whose entries come next.
    fn begin_map(&mut self, plan: &Plan);
    /// A key comes next.
    fn key(&mut self, index: u64);
    /// An elem comes next.
    fn elem(&mut self);
    /// The entry is complete.
    fn end_entry(&mut self);
    /// The map is complete; `problem` says why when its entries could not all be read.
    fn end_map(&mut self, index: u64, omitted: u64, problem: Option<&dyn Display>);
    /// Comes between the elements and entries of long values: the time to flush what was written.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }
    /// A piece that cannot be read, and why.
    fn unreadable(&mut self, why: &dyn Display);
}

/// Takes away what a sink has written so far, leaving the buffer empty.
pub type Drain<'b> = &'b mut dyn FnMut(&mut Vec<u8>) -> Result<()>;

/// A buffer fuller than this is drained at the next pause.
const FULL: usize = 1 << 18;

/// Drains a full buffer, when there is a drain.
pub(super) fn drain_if_full(out: &mut Vec<u8>, drain: &mut Option<Drain<'_>>) -> Result<()> {
    match drain {
        Some(drain) if out.len() > FULL => drain(out),
        _ => Ok(()),
    }
}
