//! The words of a Go literal: strings, runes, numbers, names.

/// Reads words from a text; `at` is the byte where the next one begins.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'t> {
    pub text: &'t str,
    pub at: usize,
}

/// Where a word is wrong and what should be there.
#[derive(Debug)]
pub(super) struct Wrong {
    pub at: usize,
    pub expected: &'static str,
}

impl<'t> Scanner<'t> {
    pub fn new(text: &'t str) -> Scanner<'t> {
        Scanner { text, at: 0 }
    }

    pub fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// The next character that is no space.
    pub fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    /// Consumes `word` when it comes next.
    pub fn accept(&mut self, word: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// The name that comes next, empty when none does.
    pub fn name(&mut self) -> &'t str {
        self.skip_space();
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    pub fn wrong<T>(&self, expected: &'static str) -> Result<T, Wrong> {
        Err(Wrong { at: self.at, expected })
    }

    /// A string literal, quoted or raw.
    pub fn string(&mut self) -> Result<Vec<u8>, Wrong> {
        if self.accept("`") {
            let Some(len) = self.rest().find('`') else { return self.wrong("a closing `") };
            let raw = self.rest()[..len].bytes().filter(|&byte| byte != b'\r').collect();
            self.at += len + 1;
            return Ok(raw);
        }
        if !self.accept("\"") {
            return self.wrong("a string in double quotes");
        }
        let mut out = Vec::new();
        loop {
            match self.rest().chars().next() {
                None | Some('\n') => return self.wrong("a closing \""),
                Some('"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(_) => self.character('"', &mut out)?,
            }
        }
    }

    /// A rune literal.
    pub fn rune(&mut self) -> Result<u32, Wrong> {
        if !self.accept("'") {
            return self.wrong("a rune in single quotes");
        }
        let mut bytes = Vec::new();
        let start = self.at;
        self.character('\'', &mut bytes)?;
        if !self.rest().starts_with('\'') {
            return self.wrong("a closing '");
        }
        self.at += 1;
        match (std::str::from_utf8(&bytes), bytes.as_slice()) {
            (Ok(text), _) => Ok(text.chars().next().map_or(0, u32::from)),
            // '\xff' is the code point 0xff.
            (Err(_), &[byte]) => Ok(byte.into()),
            _ => Err(Wrong { at: start, expected: "one character" }),
        }
    }

    /// One character or escape of a string or rune in `quote`s.
    fn character(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let Some(c) = self.rest().chars().next() else { return self.wrong("a character") };
        if c != '\\' {
            self.at += c.len_utf8();
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let Some(escape) = self.rest().chars().nth(1) else { return self.wrong("an escape such as \\n") };
        let plain = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            c if c == quote => c as u8,
            'x' => return self.code(2, 2, 16, true, out),
            '0'..='7' => return self.code(1, 3, 8, true, out),
            'u' => return self.code(2, 4, 16, false, out),
            'U' => return self.code(2, 8, 16, false, out),
            _ => return self.wrong("an escape such as \\n, \\\", \\x41 or \\u00e9"),
        };
        out.push(plain);
        self.at += 2;
        Ok(())
    }

    /// `digits` digits after a prefix of `prefix` bytes: one byte, or one code point.
    fn code(&mut self, prefix: usize, digits: usize, radix: u32, byte: bool, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let digits = self.rest().get(prefix..prefix + digits).filter(|text| text.chars().all(|c| c.is_digit(radix)));
        let Some((text, code)) = digits.and_then(|text| Some((text, u32::from_str_radix(text, radix).ok()?))) else {
            return self.wrong("an escape with all its digits");
        };
        match (u8::try_from(code), char::from_u32(code)) {
            (Ok(code), _) if byte => out.push(code),
            (_, Some(c)) if !byte => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return self.wrong("an escape of a valid character"),
        }
        self.at += prefix + text.len();
        Ok(())
    }

    /// A number, `NaN` or `Inf`, with its sign and without underscores; empty when none comes next.
    pub fn number(&mut self) -> String {
        self.skip_space();
        let rest = self.rest().as_bytes();
        let signed = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let mut len = signed;
        let hex = rest[signed..].starts_with(b"0x") || rest[signed..].starts_with(b"0X");
        for special in ["NaN", "Inf", "nan", "inf"] {
            let word = &rest[signed..];
            let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'.' | 0x80..);
            if word.starts_with(special.as_bytes()) && word.get(3).is_none_or(ends) {
                self.at += signed + 3;
                return self.text[self.at - signed - 3..self.at].into();
            }
        }
        if !rest.get(signed).is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return String::new();
        }
        while let Some(&byte) = rest.get(len) {
            let exponent_sign = matches!(byte, b'+' | b'-') && len > 0 && !hex && matches!(rest[len - 1], b'e' | b'E');
            let part = byte.is_ascii_alphanumeric() && byte != b'i' || matches!(byte, b'.' | b'_');
            let in_exponent = exponent_sign && len > signed;
            if !part && !in_exponent {
                break;
            }
            len += 1;
        }
        let number = &self.rest()[..len];
        self.at += len;
        number.replace('_', "")
    }
}

/// An integer in any of Go's bases.
pub(super) fn integer(number: &str) -> Option<i128> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] if lower.bytes().all(|byte| byte.is_ascii_digit()) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = match i128::from_str_radix(digits, radix) {
        Ok(value) => value,
        // 1e6 is an integer constant too.
        Err(_) if radix == 10 => {
            let value: f64 = digits.parse().ok()?;
            (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i128)?
        }
        Err(_) => return None,
    };
    Some(if negative { -value } else { value })
}

/// A float: decimal, an integer in any base, `NaN` or an infinity.
pub(super) fn float<F: std::str::FromStr>(number: &str) -> Option<F> {
    match number.trim_start_matches(['+', '-']).as_bytes() {
        [b'0', b'x' | b'X' | b'b' | b'B' | b'o' | b'O', ..] => integer(number)?.to_string().parse().ok(),
        _ => number.parse().ok(),
    }
}
