//! The line above each goroutine of a traceback (`goroutineheader` in `src/runtime/traceback.go`, Go 1.19 to 1.27):
//! `goroutine GOID[ gp=0x… m=(N mp=0x…|nil)] [STATUS[ (leaked)][ (scan)][ (durable)][, N minutes][, locked to
//! thread][, synctest (group|bubble) ID][ labels:{…}]][ {…}]:`

use super::labels;

/// Names of statuses (`gStatusStrings`); anything else in their place is a wait reason.
const STATUSES: [&[u8]; 13] = [
    b"idle",
    b"runnable",
    b"running",
    b"syscall",
    b"waiting",
    b"moribund_unused",
    b"dead",
    b"enqueue_unused",
    b"copystack",
    b"leaked",
    b"preempted",
    b"waiting for cgo callback",
    b"???",
];

const MAX_STATUS: usize = 256;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Header<'a> {
    pub goid: u64,
    pub g: Option<u64>,
    pub m: Option<i64>,
    pub status: &'a [u8],
    pub reason: Option<&'a [u8]>,
    pub leaked: bool,
    pub scan: bool,
    pub durable: bool,
    pub minutes: Option<u64>,
    pub locked: bool,
    pub bubble: Option<u64>,
    pub labels: labels::Pairs,
}

/// Reads a header; `None` if the line is not one, whole.
pub(super) fn parse(line: &[u8]) -> Option<Header<'_>> {
    let (goid, mut rest) = number(line.strip_prefix(b"goroutine ")?)?;
    let mut header = Header { goid, ..Header::default() };
    if let Some(after) = rest.strip_prefix(b" gp=") {
        let (g, after) = address(after)?;
        header.g = Some(g);
        rest = after.strip_prefix(b" m=")?;
        rest = match rest.strip_prefix(b"nil") {
            Some(after) => after,
            None => {
                let (m, after) = number(rest)?;
                header.m = i64::try_from(m).ok();
                address(after.strip_prefix(b" mp=")?)?.1
            }
        };
    }
    let rest = header.read_bracket(rest.strip_prefix(b" [")?)?;
    let rest = match rest.strip_prefix(b" ") {
        Some(braces) => {
            let (labels, after) = labels::parse_prefix(braces)?;
            header.labels = labels;
            after
        }
        None => rest,
    };
    (rest.trim_ascii_end() == b":").then_some(header)
}

impl<'a> Header<'a> {
    /// Reads what is between the square brackets and returns what follows them.
    fn read_bracket(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let head = &text[..text.len().min(MAX_STATUS)];
        let end = head.iter().position(|&b| b == b']' || b == b'{')?;
        let (body, rest) = match text[end] {
            b']' => (&text[..end], &text[end + 1..]),
            _ => {
                let (labels, after) = labels::parse_prefix(&text[end..])?;
                self.labels = labels;
                let before = text[..end].strip_suffix(b" labels:")?;
                (before.strip_suffix(b",").unwrap_or(before), after.strip_prefix(b"]")?)
            }
        };
        self.read_state(body);
        Some(rest)
    }

    /// Reads a status or wait reason with what follows it: `chan receive (nil chan), 12 minutes`.
    pub(super) fn read_state(&mut self, text: &'a [u8]) {
        let mut parts = split_comma(text);
        self.read_status(parts.next().unwrap_or_default());
        parts.for_each(|part| self.read_extra(part));
    }

    fn read_status(&mut self, mut text: &'a [u8]) {
        loop {
            let (flag, shorter) = if let Some(shorter) = text.strip_suffix(b" (durable)") {
                (&mut self.durable, shorter)
            } else if let Some(shorter) = text.strip_suffix(b" (scan)") {
                (&mut self.scan, shorter)
            } else if let Some(shorter) = text.strip_suffix(b" (leaked)") {
                (&mut self.leaked, shorter)
            } else {
                break;
            };
            *flag = true;
            text = shorter;
        }
        if STATUSES.contains(&text) {
            self.status = text;
        } else {
            self.status = b"waiting";
            self.reason = Some(text);
        }
    }

    fn read_extra(&mut self, text: &[u8]) {
        if text == b"locked to thread" {
            self.locked = true;
        } else if let Some(minutes) = text.strip_suffix(b" minutes") {
            self.minutes = number(minutes).filter(|(_, rest)| rest.is_empty()).map(|(n, _)| n);
        } else if let Some(id) =
            text.strip_prefix(b"synctest bubble ").or_else(|| text.strip_prefix(b"synctest group "))
        {
            self.bubble = number(id).map(|(n, _)| n);
        }
    }
}

fn split_comma(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match memchr::memmem::find(text, b", ") {
            Some(at) => {
                rest = Some(&text[at + 2..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

/// A decimal number at the start of `text`, and what follows it.
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let value = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some((value, &text[end..]))
}

/// A hexadecimal number with `0x` at the start of `text`, and what follows it.
pub(super) fn address(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.strip_prefix(b"0x")?;
    let end = digits.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(digits.len());
    let value = u64::from_str_radix(std::str::from_utf8(&digits[..end]).ok()?, 16).ok()?;
    Some((value, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::{parse, Header};

    #[test]
    fn reads_every_form_of_header() {
        let base = |goid, status: &'static [u8]| Header { goid, status, ..Header::default() };
        let cases: [(&str, Header); 11] = [
            ("goroutine 1 [running]:", base(1, b"running")),
            (
                "goroutine 18 [chan receive (nil chan), 12 minutes, locked to thread]:",
                Header {
                    reason: Some(b"chan receive (nil chan)"),
                    minutes: Some(12),
                    locked: true,
                    ..base(18, b"waiting")
                },
            ),
            (
                "goroutine 3 [GC worker (idle) (scan)]: ",
                Header { reason: Some(b"GC worker (idle)"), scan: true, ..base(3, b"waiting") },
            ),
            (
                "goroutine 1 gp=0xc0000061c0 m=0 mp=0x5a3b20 [running]:",
                Header { g: Some(0xc0000061c0), m: Some(0), ..base(1, b"running") },
            ),
            (
                "goroutine 2 gp=0xc000006700 m=nil [force gc (idle)]:",
                Header { g: Some(0xc000006700), reason: Some(b"force gc (idle)"), ..base(2, b"waiting") },
            ),
            (
                "goroutine 7 [sleep, synctest group 5]:",
                Header { reason: Some(b"sleep"), bubble: Some(5), ..base(7, b"waiting") },
            ),
            (
                "goroutine 7 [chan receive (durable), 2 minutes, synctest bubble 9]:",
                Header {
                    reason: Some(b"chan receive"),
                    durable: true,
                    minutes: Some(2),
                    bubble: Some(9),
                    ..base(7, b"waiting")
                },
            ),
            (
                "goroutine 7 [select (no cases) (leaked) (scan)]:",
                Header { reason: Some(b"select (no cases)"), leaked: true, scan: true, ..base(7, b"waiting") },
            ),
            (
                r#"goroutine 7 [select, locked to thread labels:{"a]": "b, c"}]:"#,
                Header {
                    reason: Some(b"select"),
                    locked: true,
                    labels: vec![("a]".into(), "b, c".into())],
                    ..base(7, b"waiting")
                },
            ),
            (
                r#"goroutine 7 [running, labels:{"k": "v"}]:"#,
                Header { labels: vec![("k".into(), "v".into())], ..base(7, b"running") },
            ),
            (
                r#"goroutine 7 [select (leaked)] {k: b, req: "r ]: 1"}:"#,
                Header {
                    reason: Some(b"select"),
                    leaked: true,
                    labels: vec![("k".into(), "b".into()), ("req".into(), "r ]: 1".into())],
                    ..base(7, b"waiting")
                },
            ),
        ];
        for (line, want) in cases {
            assert_eq!(parse(line.as_bytes()).as_ref(), Some(&want), "{line}");
        }
    }

    #[test]
    fn refuses_what_only_looks_alike() {
        for line in [
            "goroutine 1",
            "goroutine 5]:",
            "goroutine x [running]:",
            "goroutine 99999999999999999999999 [running]:",
            "goroutine 1 [running]",
            "goroutine 1 [chan rec",
            "goroutine 1 [running] {k: b:",
            "goroutine profile: total 3",
            "created by main.main in goroutine 1",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }
}
