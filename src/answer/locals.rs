//! `gomap goroutine` and `gomap locals`: one goroutine, and the variables of its frames.

use super::goroutines::{document as goroutine_document, place, text as goroutine_text};
use super::{sentences, write_error, Show};
use crate::error::Watch;
use crate::expression::{self, Hashers, Meaning, Scope};
use crate::goroutine::locals::{Level, Local, Locals};
use crate::goroutine::{self, Goroutine, Runtime};
use crate::memory::Memory;
use crate::session::{MapRef, Session};
use crate::types::TypeSource;
use crate::value::{Arena, Context, GoSyntax, Json, Overlay};
use crate::{Error, Result};
use serde_json::json;
use std::io::Write;

/// A frame that expressions are evaluated in.
#[derive(Debug, Clone, Copy)]
pub struct InFrame {
    pub goid: u64,
    /// Number in the stack as `locals` shows it; `None` means the innermost one with a variable of the name.
    pub frame: Option<usize>,
}

/// Shows one goroutine with its stack.
pub fn goroutine(session: &Session, goid: u64, as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let found = goroutine::find(session, goid, watch)?;
    let ids = goroutine::ids(&Runtime::of(session)?)?;
    let said = match as_json {
        true => goroutine_document(&found, &ids).to_string() + "\n",
        false => goroutine_text(&found, &ids, true),
    };
    out.write_all(said.as_bytes()).map_err(write_error)
}

/// Shows the variables of one frame of a goroutine, or of all.
pub fn locals(session: &Session, at: InFrame, show: &Show, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let found = goroutine::find(session, at.goid, watch)?;
    let locals = Locals::of(session, &found)?;
    let numbers = match at.frame {
        Some(frame) => frame..frame + 1,
        None => 0..locals.count(),
    };
    let mut said = Vec::new();
    if show.json {
        let head = json!({"goid": found.goid, "state": found.state(), "torn": sentences(&found.torn)}).to_string();
        said.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        said.extend_from_slice(b",\"frames\":[");
    }
    for (i, number) in numbers.enumerate() {
        watch.tick(i as u64, 0)?;
        let level = locals.level(number)?;
        if show.json {
            if i > 0 {
                said.push(b',');
            }
            document(session, &level, show, watch, &mut said)?;
        } else {
            text(session, &level, show, watch, &mut said)?;
        }
        super::flush_if_full(out, &mut said)?;
    }
    match show.json {
        true => said.extend_from_slice(b"]}\n"),
        false => found.torn.iter().for_each(|torn| said.extend_from_slice(format!("note: {torn}\n").as_bytes())),
    }
    super::flush(out, &mut said)
}

fn document(session: &Session, level: &Level, show: &Show, watch: &dyn Watch, out: &mut Vec<u8>) -> Result<()> {
    let line = &level.line;
    let head = json!({
        "frame": level.number, "func": &*line.func, "file": &*line.file, "line": line.line, "inlined": line.inlined,
        "note": level.note,
    });
    let head = head.to_string();
    out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    out.extend_from_slice(b",\"variables\":[");
    for (i, local) in level.locals.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let mut arena = Arena::default();
        let place = local.location(&mut arena);
        let address = place.ok().map(|place| place.address).filter(|&address| address < Arena::BASE);
        let ty = session.types.load(local.ty)?;
        let head = json!({
            "name": local.name, "type": &*ty.name, "kind": local.role.name(), "declared": local.line,
            "escaped": local.escaped, "address": address.map(|address| format!("{address:#x}")),
            "lost": place.err(),
        });
        let head = head.to_string();
        out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        out.extend_from_slice(b",\"value\":");
        match value(session, local, show, watch)? {
            Ok(value) => out.extend_from_slice(&value),
            Err(_) => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn text(session: &Session, level: &Level, show: &Show, watch: &dyn Watch, out: &mut Vec<u8>) -> Result<()> {
    let inlined = if level.line.inlined { "  [inlined]" } else { "" };
    out.extend_from_slice(format!("#{} {}{inlined}\n", level.number, place(&level.line)).as_bytes());
    for local in &level.locals {
        let ty = session.types.load(local.ty)?;
        out.extend_from_slice(format!("    {} {} {} = ", local.role.name(), local.name, ty.name).as_bytes());
        match value(session, local, show, watch)? {
            Ok(value) => out.extend_from_slice(&value),
            Err(why) => out.extend_from_slice(format!("<{why}>").as_bytes()),
        }
        out.push(b'\n');
    }
    if let Some(note) = &level.note {
        out.extend_from_slice(format!("    note: {note}\n").as_bytes());
    }
    Ok(())
}

/// A variable's value in the form asked for; why there is none, in words.
fn value(session: &Session, local: &Local, show: &Show, watch: &dyn Watch) -> Result<Result<Vec<u8>, String>> {
    let mut arena = Arena::default();
    let at = match local.location(&mut arena) {
        Ok(at) => at,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let memory = Overlay::new(&arena, &*session.memory);
    let bytes = match (&memory as &dyn Memory).bytes(at.address, session.types.load(at.ty)?.size as usize) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let context = Context::new(&memory, &session.types, show.values.clone(), watch);
    let plan = context.plan(at.ty)?;
    let mut text = Vec::new();
    match show.json {
        true => plan.write(&context, &bytes, &mut Json::new(&mut text))?,
        false => plan.write(&context, &bytes, &mut GoSyntax::new(&mut text, show.colour))?,
    }
    Ok(Ok(text))
}

/// Evaluates an expression over a frame's variables and package variables, and hands its meaning to `use_meaning`, with
/// the memory in which that lies.
fn evaluated<T>(
    session: &Session,
    expression: &str,
    at: InFrame,
    watch: &dyn Watch,
    use_meaning: impl FnOnce(Meaning, &dyn Memory) -> Result<T>,
) -> Result<T> {
    let found = goroutine::find(session, at.goid, watch)?;
    let named = name_in(expression).and_then(|name| variable(session, &found, at, name).transpose()).transpose()?;
    let mut arena = Arena::default();
    let place = named.as_ref().map(|local| (local.name.as_str(), local.location(&mut arena)));
    let memory = Overlay::new(&arena, &*session.memory);
    let look = |name: &str| match &place {
        Some((known, Ok(place))) if *known == name => Ok(Some(*place)),
        Some((known, Err(why))) if *known == name => Err(Error::Usage(format!("{name} is {why}"))),
        _ => Ok(None),
    };
    let scope = Scope { session, memory: &memory, locals: &look, hashers: &Hashers::default(), scans: true, watch };
    use_meaning(expression::evaluate(scope, expression)?, &memory)
}

/// The map that an expression leads to in a frame.
pub fn resolve_in(session: &Session, expression: &str, at: InFrame, watch: &dyn Watch) -> Result<MapRef> {
    evaluated(session, expression, at, watch, |meaning, memory| expression::map_at(&session.types, memory, meaning))
}

/// The type's name and the bytes of an expression's value in a frame.
pub fn evaluate_in(session: &Session, expression: &str, at: InFrame, watch: &dyn Watch) -> Result<(String, Vec<u8>)> {
    evaluated(session, expression, at, watch, |meaning, memory| {
        let place = meaning.place()?;
        let ty = session.types.load(place.ty)?;
        Ok((ty.name.to_string(), memory.bytes(place.address, ty.size as usize)?.into_owned()))
    })
}

/// The first name of an expression.
fn name_in(expression: &str) -> Option<&str> {
    let start = expression.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '(' | '&'));
    let end = start.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(start.len());
    start.get(..end).filter(|name| !name.is_empty())
}

/// The variable of this name that a frame, or the innermost frame that has one, means.
fn variable(session: &Session, found: &Goroutine, at: InFrame, name: &str) -> Result<Option<Local>> {
    let locals = Locals::of(session, found)?;
    if let Some(frame) = at.frame {
        return Ok(locals.level(frame)?.local(name).cloned());
    }
    for number in 0..locals.count() {
        if let Some(local) = locals.level(number)?.local(name) {
            return Ok(Some(local.clone()));
        }
    }
    Ok(None)
}
