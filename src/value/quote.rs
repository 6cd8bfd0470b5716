//! Strings quoted as `strconv.Quote` does.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Appends `bytes` as a Go string literal; bytes that are not UTF-8 become `\x` escapes.
pub fn push_go_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if bytes.iter().fold(true, |plain, &byte| plain & is_plain(byte)) {
        out.extend_from_slice(bytes);
        return out.push(b'"');
    }
    for chunk in bytes.utf8_chunks() {
        push_text(out, chunk.valid());
        for byte in chunk.invalid() {
            push_hex_escape(out, *byte);
        }
    }
    out.push(b'"');
}

/// Whether the byte stands for itself in a literal.
fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') < 0x5f) & (byte != b'"') & (byte != b'\\')
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, c) in text.char_indices() {
        if c.is_ascii() && is_plain(c as u8) {
            continue;
        }
        if !c.is_ascii() && is_print(c) {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + c.len_utf8();
        push_escape(out, c);
    }
    out.extend_from_slice(&bytes[copied..]);
}

fn push_escape(out: &mut Vec<u8>, c: char) {
    let short: &[u8] = match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\x07' => b"\\a",
        '\x08' => b"\\b",
        '\x0c' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\x0b' => b"\\v",
        c if c.is_ascii() => return push_hex_escape(out, c as u8),
        c => {
            let code = c as u32;
            let long = if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") };
            return out.extend_from_slice(long.as_bytes());
        }
    };
    out.extend_from_slice(short);
}

fn push_hex_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
}

/// `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    use GeneralCategoryGroup::*;
    matches!(c.general_category_group(), Letter | Mark | Number | Punctuation | Symbol)
}
