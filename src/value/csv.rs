//! Values as cells of a CSV file.

use super::context::Context;
use super::float::{self, Rule};
use super::json::Json;
use super::plan::{Form, Plan};
use super::time::word_at;
use super::walk;
use crate::Result;

/// Writes values as CSV cells (RFC 4180), with the memory it needs for that.
///
/// Numbers, bools and times are plain; strings are raw; nil is an empty cell, and the empty string `""`.
/// What has no plain form (composites, interfaces, a string that is not UTF-8) is its JSON.
#[derive(Default)]
pub struct CsvCell {
    text: Vec<u8>,
}

impl CsvCell {
    /// Appends the cell of the value whose bytes are `value` to `out`, without a separator.
    pub fn write(&mut self, plan: &Plan, context: &Context<'_>, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.text.clear();
        match &plan.form {
            Form::Int | Form::Uint | Form::Bool => return plan.write(context, value, &mut Json::new(out)),
            Form::Float64 if value.len() == 8 => float::push_f64(out, f64::from_bits(word_at(value, 0)), Rule::Json),
            Form::Float32 => match <[u8; 4]>::try_from(value) {
                Ok(bits) => float::push_f32(out, f32::from_le_bytes(bits), Rule::Json),
                Err(_) => return self.json(plan, context, value, out),
            },
            Form::Time(offsets) if value.len() >= plan.size => {
                walk::time(context, offsets, value).push_rfc3339(out);
            }
            Form::String if value.len() == 16 => {
                match walk::text(context, word_at(value, 0), word_at(value, 8), context.options.string_limit) {
                    Ok(bytes) if std::str::from_utf8(&bytes).is_ok() => push_cell(out, &bytes),
                    _ => return self.json(plan, context, value, out),
                }
            }
            _ => return self.json(plan, context, value, out),
        }
        Ok(())
    }

    fn json(&mut self, plan: &Plan, context: &Context<'_>, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        plan.write(context, value, &mut Json::new(&mut self.text))?;
        if self.text != b"null" {
            push_cell(out, &self.text);
        }
        Ok(())
    }
}

/// Appends `text` as a cell, in quotes where CSV needs them.
fn push_cell(out: &mut Vec<u8>, text: &[u8]) {
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| byte.is_ascii_whitespace());
    let needs_quotes =
        edge(text.first()) || edge(text.last()) || text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if !needs_quotes {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for (index, piece) in text.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(piece);
    }
    out.push(b'"');
}
