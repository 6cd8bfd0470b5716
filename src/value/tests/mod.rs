//! Values made by hand against what Go prints; vectors that Go 1.27.3 itself wrote (testdata/vectors.go).

pub(crate) mod fake;
mod forms;
mod hostile;
mod keys;
mod patterns;
mod speed;
mod vectors;

use super::{Context, CsvCell, GoSyntax, Json, Options};
use crate::error::Quiet;
use crate::types::TypeId;
use fake::{FakeMemory, FakeTypes};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn context<'a>(memory: &'a FakeMemory, types: &'a FakeTypes, options: Options) -> Context<'a> {
    Context::new(memory, types, options, &Quiet)
}

fn json_with(memory: &FakeMemory, types: &FakeTypes, options: Options, ty: TypeId, value: &[u8]) -> String {
    let context = context(memory, types, options);
    let mut out = Vec::new();
    context.plan(ty).unwrap().write(&context, value, &mut Json::new(&mut out)).unwrap();
    text(out)
}

fn go_with(memory: &FakeMemory, types: &FakeTypes, options: Options, ty: TypeId, value: &[u8]) -> String {
    let context = context(memory, types, options);
    let mut out = Vec::new();
    context.plan(ty).unwrap().write(&context, value, &mut GoSyntax::new(&mut out, false)).unwrap();
    text(out)
}

fn csv(memory: &FakeMemory, types: &FakeTypes, ty: TypeId, value: &[u8]) -> String {
    let context = context(memory, types, Options::default());
    let mut out = Vec::new();
    CsvCell::default().write(&context.plan(ty).unwrap(), &context, value, &mut out).unwrap();
    text(out)
}
