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
    /// 5 in Go 1.25.5; 0 for a first release, a candidate or a development version.
    pub patch: u32,
    /// Experiments that differ from the release's own, without the `X:`.
    pub experiments: Vec<String>,
    /// The whole text.
    pub text: String,
}

/// The newest version whose layouts were checked.
pub const NEWEST_KNOWN: (u32, u32) = (1, 27);
/// The oldest version whose layouts were checked.
pub const OLDEST_KNOWN: (u32, u32) = (1, 19);

/// Bytes of the longest version text.
const MAX_VERSION: usize = 128;

impl GoVersion {
    /// Parses `go1.25.5`, `go1.27rc1`, `go1.25.5 X:noswissmap`, `devel go1.28-abcdef …`.
    pub fn parse(text: &str) -> Option<GoVersion> {
        let start = text.find("go1.")?;
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).map_or(s.len(), |end| end);
        let rest = &text[start + 4..];
        let minor = rest[..digits(rest)].parse().ok()?;
        let patch = rest[digits(rest)..].strip_prefix('.').map(|patch| &patch[..digits(patch)]);
        let patch = patch.and_then(|patch| patch.parse().ok()).unwrap_or(0);
        // `go1.25.5 X:a,b`, and `go1.26.6-X:a,b` since Go 1.26; a vendor's words may follow.
        let list = text.split_once("X:").and_then(|(_, list)| list.split_whitespace().next());
        let experiments = list.map(|list| list.split(',').map(str::to_string).collect()).unwrap_or_default();
        Some(GoVersion { major: 1, minor, patch, experiments, text: text.to_string() })
    }

    /// The version that `runtime.buildVersion` holds, found in an executable's bytes: some are shipped without build
    /// info. The linker gives the text a symbol of its own (`runtime.buildVersion.str`), which on 64-bit targets it
    /// aligns to 8 bytes and ends with a zero (src/cmd/link/internal/ld/data.go, go1.19 to 1.27).
    pub fn search(file: &[u8]) -> Option<GoVersion> {
        let starts = memchr::memmem::find_iter(file, "go1.").filter(|start| start % 8 == 0);
        let mut found = starts.filter_map(|start| {
            let text = file.get(start..)?.iter().take(MAX_VERSION);
            let text: Vec<u8> = text.copied().take_while(|&byte| byte != 0).collect();
            let text = std::str::from_utf8(&text).ok().filter(|text| file.get(start + text.len()) == Some(&0))?;
            // Not `go1.7.go`, a file's name.
            let number = text[2..].split([' ', '-']).next()?.replace("rc", ".").replace("beta", ".");
            let is_number = number.split('.').all(|part| part.parse::<u32>().is_ok());
            is_number.then(|| GoVersion::parse(text)).flatten()
        });
        let first = found.next()?;
        // Texts that contradict each other tell nothing.
        found.all(|other| other == first).then_some(first)
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

/// What the Go linker and the go command say of a build (`go version -m`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of Go.
    pub go: GoVersion,
    /// Import path of the main package; empty where the go command did not build it.
    pub path: String,
    /// The module of the main package.
    pub main: Option<ModuleVersion>,
    /// The modules that it depends on.
    pub dependencies: Vec<ModuleVersion>,
    /// Settings of the build: `-ldflags`, `CGO_ENABLED`, `GOARCH`, `GOEXPERIMENT`, `vcs.revision`, …
    pub settings: Vec<(String, String)>,
}

/// A module of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleVersion {
    /// Its path.
    pub path: String,
    /// Its version; `(devel)` for the main module.
    pub version: String,
}

/// Magic, pointer size, flags; then, inline since Go 1.18, version and module text, each with its length
/// (src/cmd/link/internal/ld/data.go `buildinfo`, src/debug/buildinfo/buildinfo.go, go1.19 to 1.27).
const MAGIC: &[u8] = b"\xff Go buildinf:";
const FLAGS: usize = 15;
const FLAG_INLINE: u8 = 2;
const HEADER: usize = 32;
/// Alignment of the block in its segment.
const ALIGN: usize = 16;
/// The go command puts 16 bytes before and behind the module text, so that tools find it.
const MARK: usize = 16;

impl BuildInfo {
    /// Reads the block that starts with `data`; `None` when it is not that, or of Go before 1.18.
    pub fn parse(data: &[u8]) -> Option<BuildInfo> {
        if !data.starts_with(MAGIC) || data.get(FLAGS)? & FLAG_INLINE == 0 {
            return None;
        }
        let (version, rest) = counted(data.get(HEADER..)?)?;
        let mut info = BuildInfo {
            go: GoVersion::parse(std::str::from_utf8(version).ok()?)?,
            path: String::new(),
            main: None,
            dependencies: Vec::new(),
            settings: Vec::new(),
        };
        let modules = counted(rest).map(|(text, _)| text).unwrap_or_default();
        let modules = modules.len().checked_sub(MARK).and_then(|end| modules.get(MARK..end)).unwrap_or_default();
        String::from_utf8_lossy(modules).lines().for_each(|line| info.read_line(line));
        Some(info)
    }

    /// Finds the block in the bytes of a file or of a data segment.
    pub fn search(data: &[u8]) -> Option<BuildInfo> {
        let starts = memchr::memmem::find_iter(data, MAGIC).filter(|start| start % ALIGN == 0);
        starts.filter_map(|start| BuildInfo::parse(data.get(start..)?)).next()
    }

    /// The build info of an executable: of its section, else, without sections, of anywhere in it.
    pub fn of_file(file: &[u8]) -> Option<BuildInfo> {
        let object = object::File::parse(file).ok()?;
        let section = object.section_by_name(".go.buildinfo").and_then(|section| section.data().ok());
        section.and_then(BuildInfo::parse).or_else(|| BuildInfo::search(file))
    }

    /// The value of a setting.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The processor it was built for, as Go names it.
    pub fn arch(&self) -> Option<&str> {
        self.setting("GOARCH")
    }

    /// One line of the module text: a word that says what, and fields after tabs.
    fn read_line(&mut self, line: &str) {
        let mut fields = line.split('\t');
        let (what, first, second) = (fields.next(), fields.next().unwrap_or_default(), fields.next());
        let module = || ModuleVersion { path: first.to_string(), version: second.unwrap_or_default().to_string() };
        match what {
            Some("path") => self.path = first.to_string(),
            Some("mod") => self.main = Some(module()),
            Some("dep") => self.dependencies.push(module()),
            // The module that replaces the last one.
            Some("=>") => {
                if let Some(last) = self.dependencies.last_mut() {
                    *last = module();
                }
            }
            Some("build") => {
                let setting = line.strip_prefix("build\t").and_then(setting);
                self.settings.extend(setting);
            }
            _ => {}
        }
    }
}

/// `key=value`, each quoted as Go quotes where it needs that.
fn setting(text: &str) -> Option<(String, String)> {
    let (key, rest) = match text.starts_with('"') {
        true => unquote(text)?,
        false => text.split_once('=').map(|(key, _)| (key.to_string(), &text[key.len()..]))?,
    };
    let value = rest.strip_prefix('=')?;
    let value = unquote(value).map_or_else(|| value.to_string(), |(value, _)| value);
    Some((key, value))
}

/// The text of a quoted string at the start of `text`, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        return raw.split_once('`').map(|(value, rest)| (value.to_string(), rest));
    }
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

/// Bytes with their length before them, and what follows.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = uvarint(data)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
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
    fn a_version_without_build_info() {
        let found = |bytes: &[u8]| GoVersion::search(bytes).map(|version| version.text);
        assert_eq!(found(b"........go1.26.5\0go1.7.go\0"), Some("go1.26.5".into()));
        assert_eq!(found(b"go1.25.5 X:noswissmap\0"), Some("go1.25.5 X:noswissmap".into()));
        assert_eq!(found(b"go1.27rc1\0"), Some("go1.27rc1".into()));
        // Unaligned, unended, a file's name, contradicting.
        for none in [&b".go1.26.5\0"[..], b"go1.26.5", b"go1.7.go\0", b"go1.26.5\0.......go1.26.6\0"] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[test]
    fn versions_of_all_forms() {
        let known = |text| GoVersion::parse(text).map(|v| (v.number(), v.experiments.join("+")));
        assert_eq!(
            known("go1.25.5 X:noswissmap,nosynchashtriemap"),
            Some(((1, 25), "noswissmap+nosynchashtriemap".into()))
        );
        assert_eq!(known("go1.27rc1"), Some(((1, 27), String::new())));
        assert_eq!(known("devel go1.28-0a1b2c Mon Jan 5"), Some(((1, 28), String::new())));
        assert_eq!(known("go1.26.6-X:mapsplitgroup"), Some(((1, 26), "mapsplitgroup".into())));
        assert_eq!(known("go1.22.3 (Red Hat 1.22.3-1.el9) X:a,b vendor"), Some(((1, 22), "a+b".into())));
        assert_eq!(GoVersion::parse("go1.25.11").map(|v| v.patch), Some(11));
        assert_eq!(GoVersion::parse("go1.27rc1").map(|v| v.patch), Some(0));
        assert_eq!(known("go2"), None);
        assert!(!GoVersion::parse("go1.25.5 X:noswissmap").unwrap().has_swiss_maps());
        assert!(GoVersion::parse("go1.28").unwrap().warning().is_some());
    }
}
