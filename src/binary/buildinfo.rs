//! The Go version and experiments that a binary was built with.

use object::{Object, ObjectSection};
use std::fmt;

/// A Go version, as in `go1.25.5 X:noswissmap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoVersion {
    /// 1 in Go 1.25.5.
    pub major: u32,
    /// 25 in Go 1.25.5.
    pub minor: u32,
    /// Experiments that differ from the release's own, without the `X:`.
    pub experiments: Vec<String>,
    /// The whole text.
    pub text: String,
}

/// The newest version whose layouts were checked.
pub const NEWEST_KNOWN: (u32, u32) = (1, 27);
/// The oldest version whose layouts were checked.
pub const OLDEST_KNOWN: (u32, u32) = (1, 19);

impl GoVersion {
    /// Parses `go1.25.5`, `go1.27rc1`, `go1.25.5 X:noswissmap`, `devel go1.28-abcdef …`.
    pub fn parse(text: &str) -> Option<GoVersion> {
        let start = text.find("go1.")?;
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).map_or(s.len(), |end| end);
        let rest = &text[start + 4..];
        let minor = rest[..digits(rest)].parse().ok()?;
        let experiments = text.split_once("X:").map(|(_, list)| list.split([',', ' ']).map(str::to_string).collect());
        Some(GoVersion { major: 1, minor, experiments: experiments.unwrap_or_default(), text: text.to_string() })
    }

    /// Whether the binary was built with this experiment switched from the release's default.
    pub fn has_experiment(&self, name: &str) -> bool {
        self.experiments.iter().any(|e| e == name)
    }

    /// Whether maps are Swiss tables: Go 1.24 and later, unless `noswissmap` (1.24 and 1.25 only).
    pub fn has_swiss_maps(&self) -> bool {
        self.number() >= (1, 24) && !self.has_experiment("noswissmap")
    }

    /// `(1, 25)` for Go 1.25.5.
    pub fn number(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// A sentence for the user when this version is outside what was checked.
    pub fn warning(&self) -> Option<String> {
        let (newest, oldest) = (NEWEST_KNOWN, OLDEST_KNOWN);
        if self.number() > newest {
            return Some(format!(
                "{} is newer than Go {}.{}, the newest known; layouts are taken from the binary and may be misread",
                self.text, newest.0, newest.1
            ));
        }
        (self.number() < oldest)
            .then(|| format!("{} is older than Go {}.{}, the oldest supported", self.text, oldest.0, oldest.1))
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Magic, pointer size, flags; then, inline since Go 1.18, the version as length and text
/// (src/cmd/link/internal/ld/data.go `buildinfo`, go1.19 to 1.27).
const MAGIC: &[u8] = b"\xff Go buildinf:";
const FLAG_INLINE: u8 = 2;
const HEADER: usize = 32;

/// The version in an executable's `.go.buildinfo` section; `None` when it is no Go program of 1.18 or later.
pub fn version(file: &[u8]) -> Option<GoVersion> {
    let object = object::File::parse(file).ok()?;
    let section = object.section_by_name(".go.buildinfo")?;
    parse(section.data().ok()?)
}

fn parse(data: &[u8]) -> Option<GoVersion> {
    if !data.starts_with(MAGIC) || data.get(15)? & FLAG_INLINE == 0 {
        return None;
    }
    let (len, text) = uvarint(data.get(HEADER..)?)?;
    GoVersion::parse(std::str::from_utf8(text.get(..usize::try_from(len).ok()?)?).ok()?)
}

/// A little-endian base-128 number, and what follows it.
pub fn uvarint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in data.iter().enumerate().take(10) {
        value |= ((byte & 0x7f) as u64).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &data[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_forms() {
        let known = |text| GoVersion::parse(text).map(|v| (v.number(), v.experiments.join("+")));
        assert_eq!(
            known("go1.25.5 X:noswissmap,nosynchashtriemap"),
            Some(((1, 25), "noswissmap+nosynchashtriemap".into()))
        );
        assert_eq!(known("go1.27rc1"), Some(((1, 27), String::new())));
        assert_eq!(known("devel go1.28-0a1b2c Mon Jan 5"), Some(((1, 28), String::new())));
        assert_eq!(known("go2"), None);
        assert!(!GoVersion::parse("go1.25.5 X:noswissmap").unwrap().has_swiss_maps());
        assert!(GoVersion::parse("go1.28").unwrap().warning().is_some());
    }
}
