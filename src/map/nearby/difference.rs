//! The exact difference of two texts, as code points.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A code point, or `INVALID + byte` for a byte that is not UTF-8.
pub type Unit = u32;

/// Added to bytes that are not UTF-8; above every code point.
const INVALID: u32 = 0x11_0000;
/// Middles whose lengths multiply to more are shown as one replacement.
const LARGEST_ALIGNMENT: usize = 1 << 16;
/// Code points spelled out of one run.
const SPELLED: usize = 8;
/// Characters kept at either end of a long equal run.
const KEPT: usize = 24;
/// Runs shown of one difference.
const RUNS: usize = 12;

/// The code points of `bytes`.
pub fn units(bytes: &[u8]) -> Vec<Unit> {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().chars().map(u32::from));
        out.extend(chunk.invalid().iter().map(|&byte| INVALID + byte as u32));
    }
    out
}

/// A run of the stored text, as it relates to the wanted one.
enum Run<'u> {
    Same(&'u [Unit]),
    /// Stored, instead of what was wanted; either may be empty.
    Changed(&'u [Unit], &'u [Unit]),
}

/// The stored text in terms of the wanted one: equal runs in quotes, others as code points, so
/// `"order-A" + U+0020` when a space follows, and `"caf" + U+0065 U+0301 (for U+00E9)` when a form differs.
pub fn spell(wanted: &[u8], stored: &[u8]) -> String {
    let (wanted, stored) = (units(wanted), units(stored));
    let runs = runs(&wanted, &stored);
    let mut out = String::new();
    for run in runs.iter().take(RUNS) {
        match run {
            Run::Same(same) => push(&mut out, " + ", &quote(same)),
            Run::Changed([], lacking) => push(&mut out, " ", &format!("(without {})", points(lacking))),
            Run::Changed(stored, []) => push(&mut out, " + ", &points(stored)),
            Run::Changed(stored, wanted) => {
                push(&mut out, " + ", &format!("{} (for {})", points(stored), points(wanted)))
            }
        }
    }
    if runs.len() > RUNS {
        out += " …";
    }
    out
}

fn push(out: &mut String, separator: &str, piece: &str) {
    if !out.is_empty() {
        *out += separator;
    }
    *out += piece;
}

fn runs<'u>(wanted: &'u [Unit], stored: &'u [Unit]) -> Vec<Run<'u>> {
    let prefix = wanted.iter().zip(stored).take_while(|(a, b)| a == b).count();
    let (w, s) = (&wanted[prefix..], &stored[prefix..]);
    let suffix = w.iter().rev().zip(s.iter().rev()).take_while(|(a, b)| a == b).count();
    let (w, s) = (&w[..w.len() - suffix], &s[..s.len() - suffix]);
    let mut runs = Vec::new();
    if prefix > 0 {
        runs.push(Run::Same(&stored[..prefix]));
    }
    match w.len() * s.len() {
        0 if w.len() + s.len() == 0 => {}
        1..=LARGEST_ALIGNMENT => align(w, s, &mut runs),
        _ => runs.push(Run::Changed(s, w)),
    }
    if suffix > 0 {
        runs.push(Run::Same(&stored[stored.len() - suffix..]));
    }
    runs
}

/// Splits two texts along their longest common subsequence.
fn align<'u>(w: &'u [Unit], s: &'u [Unit], runs: &mut Vec<Run<'u>>) {
    let width = s.len() + 1;
    let mut common = vec![0u16; (w.len() + 1) * width];
    for i in (0..w.len()).rev() {
        for j in (0..s.len()).rev() {
            common[i * width + j] = match w[i] == s[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < w.len() || j < s.len() {
        let (from_i, from_j) = (i, j);
        while i < w.len() && j < s.len() && w[i] == s[j] {
            (i, j) = (i + 1, j + 1);
        }
        if j > from_j {
            runs.push(Run::Same(&s[from_j..j]));
            continue;
        }
        while (i < w.len() || j < s.len()) && !(i < w.len() && j < s.len() && w[i] == s[j]) {
            let skip_wanted = i < w.len() && (j == s.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]);
            if skip_wanted {
                i += 1;
            } else {
                j += 1;
            }
        }
        runs.push(Run::Changed(&s[from_j..j], &w[from_i..i]));
    }
}

/// `U+0041 U+0042 "AB"`; what cannot be seen is not repeated in quotes.
fn points(units: &[Unit]) -> String {
    let spelled: Vec<String> = units.iter().take(SPELLED).map(|&unit| point(unit)).collect();
    let mut out = spelled.join(" ");
    if units.len() > SPELLED {
        out += &format!(" and {} more", units.len() - SPELLED);
    }
    if units.iter().all(|&unit| is_seen(unit)) {
        out += " ";
        out += &quote(units);
    }
    out
}

fn point(unit: Unit) -> String {
    match unit {
        INVALID.. => format!("0x{:02X}", unit - INVALID),
        _ => format!("U+{unit:04X}"),
    }
}

fn is_seen(unit: Unit) -> bool {
    use GeneralCategoryGroup::*;
    char::from_u32(unit).is_some_and(|c| matches!(c.general_category_group(), Letter | Number | Punctuation | Symbol))
}

/// Quoted, the middle of a long run left out.
pub fn quote(units: &[Unit]) -> String {
    let mut out = String::from("\"");
    let mut push = |units: &[Unit]| {
        for &unit in units {
            match char::from_u32(unit) {
                Some(c) if c == '"' || c == '\\' => out.extend(['\\', c]),
                Some(c) if c == ' ' || is_seen(unit) => out.push(c),
                Some(c) if c.general_category_group() == GeneralCategoryGroup::Mark => out.push(c),
                _ => out += &format!("<{}>", point(unit)),
            }
        }
    };
    if units.len() > 2 * KEPT + 1 {
        push(&units[..KEPT]);
        push(&['…' as u32]);
        push(&units[units.len() - KEPT..]);
    } else {
        push(units);
    }
    out.push('"');
    out
}
