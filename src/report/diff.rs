//! Two keys side by side, with the code points marked in which they differ.

use super::html::escape;

/// Both texts as HTML; what is not in their common start or end is marked, each code point with its number.
pub fn marked(a: &str, b: &str) -> (String, String) {
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let start = x.iter().zip(&y).take_while(|(p, q)| p == q).count();
    let longest = x.len().min(y.len()).saturating_sub(start);
    let end = x.iter().rev().zip(y.iter().rev()).take(longest).take_while(|(p, q)| p == q).count();
    (mark(&x, start, end), mark(&y, start, end))
}

fn mark(chars: &[char], start: usize, end: usize) -> String {
    let text = |part: Option<&[char]>| escape(&part.unwrap_or_default().iter().collect::<String>());
    let stop = chars.len().saturating_sub(end).max(start);
    let mut out = text(chars.get(..start));
    let middle = chars.get(start..stop).unwrap_or_default();
    for &c in middle {
        let shown = if c == ' ' { "\u{2423}".to_string() } else { escape(&c.to_string()) };
        out.push_str(&format!("<mark>{shown}<small>U+{:04X}</small></mark>", u32::from(c)));
    }
    out + &text(chars.get(stop..))
}

#[cfg(test)]
mod tests {
    use super::marked;

    #[test]
    fn the_differing_code_points_are_marked_and_nothing_else() {
        let space = "<mark>\u{2423}<small>U+0020</small></mark>";
        assert_eq!(marked("\"a \"", "\"a\""), (format!("&quot;a{space}&quot;"), "&quot;a&quot;".to_string()));
        let (nfd, nfc) = marked("cafe\u{301}", "caf\u{e9}");
        assert!(nfd.starts_with("caf<mark>e<small>U+0065</small></mark><mark>") && nfd.contains("U+0301"));
        assert_eq!(nfc, "caf<mark>\u{e9}<small>U+00E9</small></mark>");
        assert_eq!(marked("aa", "aaa").1, "aa<mark>a<small>U+0061</small></mark>");
        assert_eq!(marked("<i>", "<i>"), ("&lt;i&gt;".to_string(), "&lt;i&gt;".to_string()));
    }
}
