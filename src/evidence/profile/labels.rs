//! Goroutine labels as text: `{"k":"v", …}` (debug=1, Go's %q), `{"k": "v", …}` (traceback, 1.26) and
//! `{k: v, req: "r 1"}` (traceback, 1.27).

/// Label keys and values, in order.
pub(super) type Pairs = Vec<(String, String)>;

/// Splits a label set, braces included, into key and value; `None` if `text` is not one.
pub(super) fn parse(text: &[u8]) -> Option<Pairs> {
    let (labels, rest) = parse_prefix(text)?;
    rest.is_empty().then_some(labels)
}

/// As [`parse`], for a label set with something after its closing brace, which is returned too.
pub(super) fn parse_prefix(text: &[u8]) -> Option<(Pairs, &[u8])> {
    let mut rest = text.strip_prefix(b"{")?;
    let mut labels = Vec::new();
    if let Some(after) = rest.strip_prefix(b"}") {
        return Some((labels, after));
    }
    loop {
        let (key, after) = word(rest)?;
        let after = after.strip_prefix(b":")?;
        let (value, after) = word(after.strip_prefix(b" ").unwrap_or(after))?;
        labels.push((key, value));
        match after.strip_prefix(b", ") {
            Some(next) => rest = next,
            None => return Some((labels, after.strip_prefix(b"}")?)),
        }
    }
}

/// A quoted string, or a bare word of the characters that Go 1.27 leaves unquoted (it may be empty).
fn word(text: &[u8]) -> Option<(String, &[u8])> {
    if let Some(inner) = text.strip_prefix(b"\"") {
        return unquote(inner);
    }
    let end = text.iter().position(|&b| !(b.is_ascii_alphanumeric() || b"./_".contains(&b))).unwrap_or(text.len());
    let (bare, rest) = text.split_at(end);
    Some((String::from_utf8_lossy(bare).into_owned(), rest))
}

/// Decodes Go escapes up to the closing quote.
fn unquote(text: &[u8]) -> Option<(String, &[u8])> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((String::from_utf8_lossy(&out).into_owned(), rest)),
            b'\\' => {
                let (&escape, after) = rest.split_first()?;
                rest = after;
                let digits = match escape {
                    b'a' => {
                        out.push(7);
                        continue;
                    }
                    b'b' => {
                        out.push(8);
                        continue;
                    }
                    b'f' => {
                        out.push(12);
                        continue;
                    }
                    b'n' => {
                        out.push(b'\n');
                        continue;
                    }
                    b'r' => {
                        out.push(b'\r');
                        continue;
                    }
                    b't' => {
                        out.push(b'\t');
                        continue;
                    }
                    b'v' => {
                        out.push(11);
                        continue;
                    }
                    b'x' => 2,
                    b'u' => 4,
                    b'U' => 8,
                    other => {
                        out.push(other);
                        continue;
                    }
                };
                let code = u32::from_str_radix(std::str::from_utf8(rest.get(..digits)?).ok()?, 16).ok()?;
                rest = rest.get(digits..)?;
                match digits {
                    2 => out.push(code as u8),
                    _ => out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn pairs(text: &str) -> Option<super::Pairs> {
        parse(text.as_bytes())
    }

    #[test]
    fn reads_the_three_forms() {
        let want = Some(vec![("k".to_string(), "b".to_string()), ("req".to_string(), "r 1".to_string())]);
        assert_eq!(pairs(r#"{"k":"b", "req":"r 1"}"#), want);
        assert_eq!(pairs(r#"{"k": "b", "req": "r 1"}"#), want);
        assert_eq!(pairs(r#"{k: b, req: "r 1"}"#), want);
        assert_eq!(pairs("{k: }"), Some(vec![("k".into(), "".into())]));
    }

    #[test]
    fn decodes_escapes_and_refuses_the_unfinished() {
        assert_eq!(pairs(r#"{"a\"\n":"\u00e9\x01\U0001f600, }"}"#), Some(vec![("a\"\n".into(), "é\u{1}😀, }".into())]));
        for bad in ["", "{", "{a", "{a:", r#"{"a": "b}"#, r#"{"a": "\u12"}"#, "{a: b} x", "{a b}"] {
            assert_eq!(pairs(bad), None, "{bad}");
        }
    }
}
