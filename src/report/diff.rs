//! Two keys side by side: what differs is marked, and numbered by code points where the eye cannot see how.

use super::html::escape;
use similar::{capture_diff_slices, Algorithm, DiffOp};
use std::ops::Range;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_security::confusable_detection::skeleton;

/// Signs of a middle that are aligned; a longer one is marked whole.
const LONGEST: usize = 4096;

/// Both texts as HTML, with marks on what is not in both.
pub fn marked(a: &str, b: &str) -> (String, String) {
    let (ours, theirs) = (signs(a), signs(b));
    let (mut left, mut right) = (String::new(), String::new());
    for op in differences(&ours, &theirs) {
        let (here, there) = (part(&ours, op.old_range()), part(&theirs, op.new_range()));
        match op {
            DiffOp::Equal { .. } => {
                here.iter().for_each(|sign| left += &escape(sign));
                there.iter().for_each(|sign| right += &escape(sign));
            }
            _ => {
                mark(here, there, &mut left);
                mark(there, here, &mut right);
            }
        }
    }
    (left, right)
}

fn part<'s, 't>(signs: &'s [&'t str], range: Range<usize>) -> &'s [&'t str] {
    signs.get(range).unwrap_or_default()
}

fn differences(a: &[&str], b: &[&str]) -> Vec<DiffOp> {
    let start = a.iter().zip(b).take_while(|(p, q)| p == q).count();
    let longest = a.len().min(b.len()) - start;
    let end = a.iter().rev().zip(b.iter().rev()).take(longest).take_while(|(p, q)| p == q).count();
    let (old_len, new_len) = (a.len() - start - end, b.len() - start - end);
    if old_len.max(new_len) <= LONGEST {
        return capture_diff_slices(Algorithm::Myers, a, b);
    }
    vec![
        DiffOp::Equal { old_index: 0, new_index: 0, len: start },
        DiffOp::Replace { old_index: start, old_len, new_index: start, new_len },
        DiffOp::Equal { old_index: start + old_len, new_index: start + new_len, len: end },
    ]
}

/// What is seen as one: a character with the marks on it, or an escape of a Go literal.
fn signs(text: &str) -> Vec<&str> {
    let mut signs = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\\' => escape_len(rest),
            _ => {
                let after = rest.char_indices().skip(1).find(|&(_, c)| !is_mark(c));
                after.map_or(rest.len(), |(at, _)| at)
            }
        };
        let (sign, after) = rest.split_at(end);
        signs.push(sign);
        rest = after;
    }
    signs
}

/// Bytes of the escape at the start of `text`: `\n`, `\x1b`, `\u200b`, `\U0001f600`.
fn escape_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let Some((_, kind)) = chars.next() else { return text.len() };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let is_whole = text.get(2..2 + digits).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_whole {
        2 + digits
    } else {
        1 + kind.len_utf8()
    }
}

/// Marks `here`, which stands where the other text has `there`; signs that need no number share one mark.
fn mark(here: &[&str], there: &[&str], out: &mut String) {
    let mut plain = String::new();
    for (n, sign) in here.iter().enumerate() {
        let looks_alike = there.get(n).is_some_and(|other| skeleton(sign).eq(skeleton(other)));
        let numbers: Vec<String> = sign
            .chars()
            .filter(|&c| is_unseen(c) || !c.is_ascii() && (looks_alike || poses_as_ascii(c)))
            .map(|c| format!("U+{:04X}", u32::from(c)))
            .collect();
        let shown = if *sign == " " { "\u{2423}".to_string() } else { escape(sign) };
        if numbers.is_empty() {
            plain += &shown;
            continue;
        }
        flush(&mut plain, out);
        *out += &format!("<mark>{shown}<small>{}</small></mark>", numbers.join(" "));
    }
    flush(&mut plain, out);
}

fn flush(plain: &mut String, out: &mut String) {
    if !plain.is_empty() {
        *out += &format!("<mark>{plain}</mark>");
        plain.clear();
    }
}

fn is_mark(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Mark
}

/// White space, controls, marks and what has no shape of its own.
fn is_unseen(c: char) -> bool {
    use GeneralCategoryGroup::*;
    !matches!(c.general_category_group(), Letter | Number | Punctuation | Symbol)
}

/// A character of another script that is taken for an ASCII one.
fn poses_as_ascii(c: char) -> bool {
    let mut buffer = [0; 4];
    let mut looks = skeleton(c.encode_utf8(&mut buffer)).peekable();
    looks.peek().is_some() && looks.all(|shape| shape.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::marked;

    #[track_caller]
    fn check(a: &str, b: &str, left: &str, right: &str) {
        assert_eq!(marked(a, b), (left.to_string(), right.to_string()));
    }

    #[test]
    fn what_the_eye_sees_is_marked_without_numbers() {
        check("Order-17", "order-18", "<mark>O</mark>rder-1<mark>7</mark>", "<mark>o</mark>rder-1<mark>8</mark>");
        check("aa", "aaa", "aa", "aa<mark>a</mark>");
        check("ab-cd", "abx-cd", "ab-cd", "ab<mark>x</mark>-cd");
        check("é", "e", "<mark>é</mark>", "<mark>e</mark>");
        check("Ω", "Ж", "<mark>Ω</mark>", "<mark>Ж</mark>");
        check("<i>", "<i>", "&lt;i&gt;", "&lt;i&gt;");
    }

    #[test]
    fn differences_apart_leave_what_is_between_them_unmarked() {
        check(
            "tenant-7/order 42 ",
            "Tenant-7/order 42",
            "<mark>t</mark>enant-7/order 42<mark>\u{2423}<small>U+0020</small></mark>",
            "<mark>T</mark>enant-7/order 42",
        );
    }

    #[test]
    fn what_the_eye_cannot_see_has_its_code_points() {
        check("\"a\"", "\"a\u{a0}\"", "&quot;a&quot;", "&quot;a<mark>\u{a0}<small>U+00A0</small></mark>&quot;");
        check("ab", "a\u{200b}b", "ab", "a<mark>\\u{200b}<small>U+200B</small></mark>b");
        // One form of é beside the other, a mark that one lacks, a letter of another script.
        check(
            "cafe\u{301}",
            "caf\u{e9}",
            "caf<mark>e\u{301}<small>U+0301</small></mark>",
            "caf<mark>\u{e9}<small>U+00E9</small></mark>",
        );
        check("e\u{301}", "e", "<mark>e\u{301}<small>U+0301</small></mark>", "<mark>e</mark>");
        check("p\u{430}y", "pay", "p<mark>\u{430}<small>U+0430</small></mark>y", "p<mark>a</mark>y");
    }

    #[test]
    fn an_escape_is_one_sign() {
        check(r"a\u200b", r"a\u200c", r"a<mark>\u200b</mark>", r"a<mark>\u200c</mark>");
        check(r"\\n", r"\\\n", r"\\<mark>n</mark>", r"\\<mark>\n</mark>");
    }

    #[test]
    fn very_long_texts_are_marked_in_their_middle() {
        let (a, b) = ("x".repeat(9000), "y".repeat(9000));
        let (left, _) = marked(&format!("<{a}>"), &format!("<{b}>"));
        assert_eq!(left, format!("&lt;<mark>{a}</mark>&gt;"));
    }
}
