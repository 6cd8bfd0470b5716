//! Keys as they are shown beside goroutines: here their text is made, and only here it is cut.

use crate::error::Quiet;
use crate::map::identity::Key;
use crate::map::keys::Keys;
use crate::session::Session;
use crate::types::{TypeId, TypeSource};
use crate::value::{push_key, Context, Json, Options};
use crate::Result;
use serde_json::Value;

/// A key as text and as JSON, and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub text: String,
    pub json: Value,
    /// `None` where it cannot be read.
    pub identity: Option<Key>,
}

/// How much of a key is shown.
pub(super) fn options() -> Options {
    Options { string_limit: 1024, elements_limit: 200, ..Options::default() }
}

/// A key in Go syntax.
pub(super) fn key_text(context: &Context<'_>, ty: TypeId, bytes: &[u8]) -> Result<String> {
    let plan = context.plan(ty)?;
    let mut text = Vec::new();
    push_key(&plan, context, bytes, false, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A key as text and as JSON; `None` when it cannot be shown.
pub(super) fn shown(session: &Session, ty: TypeId, bytes: &[u8]) -> Option<Shown> {
    let context = Context::new(&*session.memory, &session.types, options(), &Quiet);
    let mut json = Vec::new();
    context.plan(ty).ok()?.write(&context, bytes, &mut Json::new(&mut json)).ok()?;
    let identity = Keys::new(&*session.memory, &session.types).identity(&*session.types.load(ty).ok()?, bytes).ok();
    Some(Shown { text: key_text(&context, ty, bytes).ok()?, json: serde_json::from_slice(&json).ok()?, identity })
}
