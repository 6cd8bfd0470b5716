//! Floats written as Go writes them, from the shortest digits that read back as the same float.

/// Which of Go's rules decides between `123` and `1.23e+02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `encoding/json` (src/encoding/json/encode.go, `floatEncoder`): exponent below 1e-6 and from 1e21 on.
    Json,
    /// `%#v` (strconv's `'g'` with the shortest precision): exponent below 1e-4 and from 1e6 on.
    Go,
}

/// Appends a finite or non-finite float64; NaN and infinities as `NaN`, `+Inf`, `-Inf`.
pub fn push_f64(out: &mut Vec<u8>, value: f64, rule: Rule) {
    if let Some(name) = special(value) {
        return out.extend_from_slice(name);
    }
    push_finite(out, zmij::Buffer::new().format_finite(value), rule);
}

/// Appends a float32 by its own shortest digits.
pub fn push_f32(out: &mut Vec<u8>, value: f32, rule: Rule) {
    if let Some(name) = special(value.into()) {
        return out.extend_from_slice(name);
    }
    push_finite(out, zmij::Buffer::new().format_finite(value), rule);
}

/// The name of a float that has no digits.
pub fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some(b"NaN")
    } else if value > 0.0 {
        Some(b"+Inf")
    } else {
        Some(b"-Inf")
    }
}

/// The bits of a NaN that is not the one that `math.NaN` gives (src/math/bits.go) or, as a float32, its conversion.
pub fn unusual_nan64(value: f64) -> Option<u64> {
    Some(value.to_bits()).filter(|&bits| value.is_nan() && bits != 0x7ff8_0000_0000_0001)
}

/// See [`unusual_nan64`].
pub fn unusual_nan32(value: f32) -> Option<u64> {
    Some(value.to_bits().into()).filter(|&bits| value.is_nan() && bits != 0x7fc0_0000)
}

/// Rewrites the shortest form `text` (`-12.5`, `1e+16`, `1.25e-7`) by `rule`.
fn push_finite(out: &mut Vec<u8>, text: &str, rule: Rule) {
    let text = match text.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => text,
    };
    let plain = text.strip_suffix(".0").unwrap_or(text);
    // Between 1e-5 and 1e16 both agree for JSON: no exponent, and the digits need no move.
    if rule == Rule::Json && !text.contains('e') {
        return out.extend_from_slice(plain.as_bytes());
    }
    let mut digits = [0u8; 40];
    let mut count = 0;
    let mut point = None;
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((plain, "0"));
    for byte in mantissa.bytes() {
        if byte == b'.' {
            point = Some(count);
        } else if let Some(slot) = digits.get_mut(count as usize) {
            *slot = byte;
            count += 1;
        }
    }
    let digits = &digits[..count as usize];
    let leading = digits.iter().take_while(|&&d| d == b'0').count();
    let digits = &digits[leading..];
    let digits = &digits[..digits.iter().rposition(|&d| d != b'0').map_or(0, |last| last + 1)];
    if digits.is_empty() {
        return out.push(b'0');
    }
    // The value is 0.DIGITS * 10^scale.
    let scale = point.unwrap_or(count) - leading as i32 + exponent.parse::<i32>().unwrap_or(0);
    let (smallest, largest) = match rule {
        Rule::Json => (-6, 21),
        Rule::Go => (-4, 6),
    };
    if scale > smallest && scale <= largest {
        push_plain(out, digits, scale);
    } else {
        push_exponent(out, digits, scale - 1, rule);
    }
}

fn push_plain(out: &mut Vec<u8>, digits: &[u8], scale: i32) {
    if scale <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale.unsigned_abs() as usize, b'0');
        return out.extend_from_slice(digits);
    }
    let scale = scale as usize;
    match digits.split_at_checked(scale) {
        Some((whole, [])) => out.extend_from_slice(whole),
        Some((whole, fraction)) => {
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        None => {
            out.extend_from_slice(digits);
            out.resize(out.len() + scale - digits.len(), b'0');
        }
    }
}

fn push_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32, rule: Rule) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    // encoding/json shortens e-09 to e-9; strconv keeps two digits.
    if exponent < 10 && rule == Rule::Go {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}
