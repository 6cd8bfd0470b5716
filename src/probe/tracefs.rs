//! The kernel's text interface for probes: definitions in `uprobe_events`, one event for all probes of a watch.
//!
//! Every event of ours, and its group, is named `mapscope_PID_START_N` after the process that made it, so that a
//! later run removes what a killed one left. The kernel refuses to remove an event in use, so a running watch is safe.
//!
//! Source: Documentation/trace/uprobetracer.rst and kernel/trace/trace_probe.c, Linux 5.4 to 6.18.

use super::functions::{Arch, Awaits, KeyPlace, ProbePoint, ReturnPoint, Tells, Variant};
use super::uprobe_filter::Part;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What our groups start with.
const PREFIX: &str = "mapscope_";

/// What lies where a pointer to a key points, so that the kernel can follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PointedKey {
    /// The key's bytes: numbers, arrays, structs; anything, when several types are watched at once.
    #[default]
    Bytes,
    /// A string header: fetch the text too.
    String,
    /// An interface: fetch the value behind its data word too.
    Interface,
}

/// Directory of tracefs, mounted where the kernel or an older distribution puts it.
pub(super) fn directory() -> Result<PathBuf> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .map(PathBuf::from)
        .find(|d| d.join("README").exists())
        .ok_or_else(|| {
            usage(
                "kernel probes need tracefs, and none is visible here: mount it as root with \
                 `mount -t tracefs nodev /sys/kernel/tracing` (and be root, or use --engine gdb)",
            )
        })
}

/// Whether this kernel and these rights allow kernel probes; if not, one sentence with what is missing.
pub fn capability() -> Result<()> {
    let directory = directory()?;
    let events = directory.join("uprobe_events");
    if !events.exists() {
        return Err(usage("this kernel has no uprobes (CONFIG_UPROBE_EVENTS is off): use --engine gdb"));
    }
    OpenOptions::new().append(true).open(&events).map_err(|e| {
        usage(format!("cannot write {} ({e}): kernel probes need root, or that file made writable", events.display()))
    })?;
    may_trace(
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        &fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default(),
    )
}

/// Whether raw trace data may be read with these rights.
fn may_trace(status: &str, paranoid: &str) -> Result<()> {
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    let effective =
        status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok()).unwrap_or(0);
    let open_to_all = paranoid.trim().parse::<i32>().is_ok_and(|level| level <= -1);
    if effective & (SYS_ADMIN | PERFMON) != 0 || open_to_all {
        return Ok(());
    }
    Err(usage("kernel probes need the capability CAP_PERFMON (or root), or `sysctl kernel.perf_event_paranoid=-1`"))
}

/// What one event fetches at every hit.
#[derive(Debug, Clone)]
pub(super) struct Fetches<'a> {
    pub arch: Arch,
    /// Offset of `goid` in `runtime.g`.
    pub goid_offset: u64,
    pub key_words: usize,
    pub pointed: PointedKey,
    /// Whether outcomes are asked for: then the map's number of entries is fetched.
    pub outcomes: bool,
    /// Parts of the key's words to fetch besides, for a filter; with them comes the kind of key.
    pub parts: Option<&'a BTreeSet<Part>>,
}

/// Kernel names of registers.
struct Registers {
    arguments: [&'static str; 5],
    goroutine: &'static str,
    frame: &'static str,
    return_address: &'static str,
}

impl Registers {
    fn of(arch: Arch) -> Registers {
        match arch {
            Arch::Amd64 => Registers {
                arguments: ["%ax", "%bx", "%cx", "%di", "%si"],
                goroutine: "%r14",
                frame: "%bp",
                return_address: "$stack0",
            },
            Arch::Arm64 => Registers {
                arguments: ["%x0", "%x1", "%x2", "%x3", "%x4"],
                goroutine: "%x28",
                frame: "%x29",
                return_address: "%x30",
            },
        }
    }

    fn argument(&self, n: u8) -> &'static str {
        self.arguments.get(n as usize).copied().unwrap_or("\\0")
    }

    /// Results come back in the registers of the first arguments.
    fn result(&self, n: u8) -> &'static str {
        self.argument(n)
    }
}

impl ReturnPoint {
    /// Its definition as a part of the event of `group`: `goid`, `r` the result that tells the outcome, `m` what lies where
    /// the map's address may be, `n` what that leads to.
    pub(super) fn definition(&self, arch: Arch, goid_offset: u64, group: &str, path: &str, file_offset: u64) -> String {
        let r = Registers::of(arch);
        let (result, map, count) = match self.tells {
            Tells::Elem | Tells::ElemOrNil | Tells::Done => (r.result(0), None, None),
            Tells::Found(n) => (r.result(n), None, None),
            Tells::Count { slot } => ("\\0", Some(format!("$stack{slot}")), Some(format!("+0($stack{slot})"))),
            Tells::Panic => ("\\0", None, None),
        };
        let or_zero = |fetch: Option<String>| fetch.unwrap_or("\\0".to_string());
        format!(
            "p:{group}/{group} {path}:{file_offset:#x} goid=+{goid_offset}({}):u64 r={result}:u64 m={}:u64 n={}:u64",
            r.goroutine,
            or_zero(map),
            or_zero(count)
        )
    }
}

impl Fetches<'_> {
    /// The definition of `point` as a part of the event of `group`; `path` must have no space in it.
    ///
    /// All parts have the same fields of 64 bits, so that they can share the event: `t` map type, `m` map, `a` and
    /// `n` the key's registers, `goid`, for outcomes `u`, the map's number of entries, `c1` to `c3` return addresses (the inner frames' by their frame
    /// pointers), `w0` and so on the key's bytes; for a filter `k`, what those are (1 the key, 2 the text of a
    /// string, 3 the value in an interface, 0 nothing), and `p0_8_16` and so on, bits of a word (here 16 from bit 8 of `w0`).
    pub fn definition(&self, group: &str, path: &str, file_offset: u64, point: &ProbePoint) -> String {
        let r = Registers::of(self.arch);
        let zero = "\\0";
        let (a, n) = match point.key {
            KeyPlace::None => (zero.to_string(), zero.to_string()),
            KeyPlace::Value32(k) => (format!("{}:b32@0/64", r.argument(k)), zero.to_string()),
            KeyPlace::Value64(k) => (r.argument(k).to_string(), zero.to_string()),
            KeyPlace::Pointer(k) if self.pointed == PointedKey::String => {
                (format!("+0({})", r.argument(k)), format!("+8({})", r.argument(k)))
            }
            KeyPlace::Pointer(k) if self.pointed == PointedKey::Interface => {
                (format!("+0({})", r.argument(k)), format!("+8({})", r.argument(k)))
            }
            KeyPlace::Pointer(k) => (r.argument(k).to_string(), zero.to_string()),
            KeyPlace::String(k) | KeyPlace::Interface(k) => {
                (r.argument(k).to_string(), r.argument(k.saturating_add(1)).to_string())
            }
        };
        let map_type = point.map_type.map_or(zero, |t| r.argument(t));
        let mut text = format!("p:{group}/{group} {path}:{file_offset:#x}");
        let mut field = |name: &str, fetch: &str| {
            let typed = if fetch.contains(':') { "" } else { ":u64" };
            let _ = write!(text, " {name}={fetch}{typed}");
        };
        field("t", map_type);
        field("m", r.argument(point.map));
        field("a", &a);
        field("n", &n);
        field("goid", &format!("+{}({})", self.goid_offset, r.goroutine));
        if self.outcomes {
            let is_counted = point.awaits != Awaits::Nothing && point.variant != Variant::Sync;
            field("u", &if is_counted { format!("+0({})", r.argument(point.map)) } else { zero.to_string() });
        }
        field("c1", r.return_address);
        field("c2", &format!("+8({})", r.frame));
        field("c3", &format!("+8(+0({}))", r.frame));
        for word in 0..self.key_words {
            field(&format!("w{word}"), &self.key_word(&r, point.key, word));
        }
        if let Some(parts) = self.parts {
            field("k", &format!("\\{}", self.kind(point.key)));
            for part in parts {
                let fetch = self.key_word(&r, point.key, part.word);
                let whole = fetch.split(':').next().unwrap_or(zero);
                let bits = format!("{whole}:b{}@{}/64", part.bits, part.bit);
                field(&part.field(), if whole == zero { zero } else { &bits });
            }
        }
        text
    }

    /// The definition with every register replaced by the stack pointer: as many reads, on a function that has no arguments.
    pub fn reading_only_the_stack(arch: Arch, definition: &str) -> String {
        let r = Registers::of(arch);
        let registers = r.arguments.iter().chain([&r.goroutine, &r.frame]);
        registers.fold(definition.to_string(), |text, register| text.replace(register, "%sp"))
    }

    /// What the key's words hold, as in [`Fetches::definition`].
    fn kind(&self, place: KeyPlace) -> u8 {
        match (place, self.pointed) {
            (KeyPlace::None, _) => 0,
            (KeyPlace::Value32(_) | KeyPlace::Value64(_), _) | (KeyPlace::Pointer(_), PointedKey::Bytes) => 1,
            (KeyPlace::String(_), _) | (KeyPlace::Pointer(_), PointedKey::String) => 2,
            (KeyPlace::Interface(_), _) | (KeyPlace::Pointer(_), PointedKey::Interface) => 3,
        }
    }

    /// The fetch of word `word` of the key's bytes.
    fn key_word(&self, r: &Registers, place: KeyPlace, word: usize) -> String {
        match place {
            KeyPlace::Value32(k) if word == 0 => format!("{}:b32@0/64", r.argument(k)),
            KeyPlace::Value64(k) if word == 0 => r.argument(k).to_string(),
            KeyPlace::None | KeyPlace::Value32(_) | KeyPlace::Value64(_) => "\\0".to_string(),
            KeyPlace::String(k) => format!("+{}({})", word * 8, r.argument(k)),
            KeyPlace::Pointer(k) => match self.pointed {
                PointedKey::Bytes => format!("+{}({})", word * 8, r.argument(k)),
                PointedKey::String => format!("+{}(+0({}))", word * 8, r.argument(k)),
                PointedKey::Interface => boxed_word(&format!("+8({})", r.argument(k)), word),
            },
            KeyPlace::Interface(k) => boxed_word(r.argument(k.saturating_add(1)), word),
        }
    }
}

/// Words behind an interface's data word: the first two are the value's (a string's header), the others what its first points at.
fn boxed_word(data: &str, word: usize) -> String {
    match word {
        0 | 1 => format!("+{}({data})", word * 8),
        _ => format!("+{}(+0({data}))", (word - 2) * 8),
    }
}

/// An event registered with the kernel; removed when dropped.
#[derive(Debug)]
pub(super) struct Registered {
    directory: PathBuf,
    group: String,
}

impl Registered {
    /// A group name that no other live watch has.
    pub fn group_name() -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let own = std::process::id();
        format!("{PREFIX}{own}_{}_{}", start_time(own).unwrap_or(0), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Registers the definitions, all of the same event of `group`.
    pub fn new(directory: &Path, group: String, definitions: &[String]) -> Result<Registered> {
        let registered = Registered { directory: directory.to_path_buf(), group };
        for definition in definitions {
            append(directory, definition).map_err(|e| {
                usage(format!("the kernel refuses the probe ({e}): use --engine gdb. Its definition was: {definition}"))
            })?;
        }
        Ok(registered)
    }

    /// The number that perf events know the event by.
    pub fn id(&self) -> Result<u64> {
        let text = self.read("id")?;
        text.trim().parse().map_err(|_| usage(format!("the kernel gives {text:?} as the number of our probe")))
    }

    /// The text that says where each field is in a record.
    pub fn format(&self) -> Result<String> {
        self.read("format")
    }

    /// How often its probes were passed, whatever the filters then said.
    pub fn passed(&self) -> Result<u64> {
        let path = self.directory.join("uprobe_profile");
        let profile = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        Ok(passed_in(&profile, &self.group))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.directory.join("events").join(&self.group).join(&self.group).join(file);
        fs::read_to_string(&path).map_err(|e| Error::file(&path, e))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next watch tries again.
        let _ = append(&self.directory, &format!("-:{0}/{0}", self.group));
    }
}

/// The sum of an event's counts, one a probe, in lines of path, event and count.
fn passed_in(profile: &str, event: &str) -> u64 {
    let counts = profile.lines().filter_map(|line| {
        let mut words = line.split_whitespace().rev();
        let count = words.next()?.parse::<u64>().ok()?;
        (words.next()? == event).then_some(count)
    });
    counts.fold(0, u64::saturating_add)
}

/// Removes the events of processes that no longer run; gives how many.
pub(super) fn remove_left_behind(directory: &Path) -> usize {
    let Ok(defined) = fs::read_to_string(directory.join("uprobe_events")) else { return 0 };
    let mut events: Vec<&str> = defined
        .lines()
        .filter_map(|l| l.split_whitespace().next()?.strip_prefix("p:"))
        .filter(|event| owner(event).is_some_and(|(pid, start)| start_time(pid) != Some(start)))
        .collect();
    events.sort_unstable();
    events.dedup();
    events.iter().filter(|event| append(directory, &format!("-:{event}")).is_ok()).count()
}

/// The process id and start time in the name of an event of ours.
fn owner(event: &str) -> Option<(u32, u64)> {
    let (group, name) = event.split_once('/')?;
    let mut parts = group.strip_prefix(PREFIX).filter(|_| name == group)?.split('_');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When the process started, in clock ticks since boot; `None` when it does not run.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22, counted behind the name, which may itself hold spaces and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Adds a line to `uprobe_events`; opening that file for truncation would remove everybody's probes.
fn append(directory: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(directory.join("uprobe_events"))?;
    file.write_all(format!("{line}\n").as_bytes())
}

pub(super) fn usage(sentence: impl Into<String>) -> Error {
    Error::Usage(sentence.into())
}

#[cfg(test)]
mod tests {
    use super::super::functions::access_point;
    use super::*;

    fn point(key: KeyPlace) -> ProbePoint {
        access_point(0x401006, key)
    }

    fn fetches(arch: Arch, parts: Option<&BTreeSet<Part>>) -> Fetches<'_> {
        Fetches { arch, goid_offset: 152, key_words: 2, pointed: PointedKey::Bytes, outcomes: false, parts }
    }

    #[test]
    fn definitions_name_registers_and_key_bytes() {
        let text = fetches(Arch::Amd64, None).definition("g", "/x", 0x1006, &point(KeyPlace::String(2)));
        assert_eq!(
            text,
            "p:g/g /x:0x1006 t=%ax:u64 m=%bx:u64 a=%cx:u64 n=%di:u64 goid=+152(%r14):u64 c1=$stack0:u64 \
             c2=+8(%bp):u64 c3=+8(+0(%bp)):u64 w0=+0(%cx):u64 w1=+8(%cx):u64"
        );
        let text = fetches(Arch::Arm64, None).definition("g", "/x", 0x1006, &point(KeyPlace::Pointer(2)));
        assert!(text.contains(" t=%x0:u64 m=%x1:u64 a=%x2:u64 n=\\0:u64 goid=+152(%x28):u64 c1=%x30:u64"), "{text}");
    }

    #[test]
    fn a_filter_gets_the_bits_that_it_compares() {
        let parts = BTreeSet::from([Part { word: 0, bit: 32, bits: 16 }, Part { word: 1, bit: 0, bits: 16 }]);
        let of = |key| fetches(Arch::Amd64, Some(&parts)).definition("g", "/x", 1, &point(key));
        let text = of(KeyPlace::String(2));
        assert!(
            text.ends_with(" w1=+8(%cx):u64 k=\\2:u64 p0_32_16=+0(%cx):b16@32/64 p1_0_16=+8(%cx):b16@0/64"),
            "{text}"
        );
        let text = of(KeyPlace::Value64(2));
        assert!(text.ends_with(" w1=\\0:u64 k=\\1:u64 p0_32_16=%cx:b16@32/64 p1_0_16=\\0:u64"), "{text}");
        assert!(of(KeyPlace::Interface(2)).contains(" k=\\3:u64 "));
    }

    /// A directory that takes our writes as tracefs does, except that it obeys none.
    fn fake_tracefs(name: &str, defined: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("mapscope-tracefs-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("uprobe_events"), defined).unwrap();
        directory
    }

    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let own = std::process::id();
        let start = start_time(own).unwrap();
        let defined = format!(
            "p:mapscope_{own}_{start}_0/mapscope_{own}_{start}_0 /proc/1/exe:0x10 t=%ax:u64\n\
             p:mapscope_{own}_{0}_0/mapscope_{own}_{0}_0 /proc/1/exe:0x10 t=%ax:u64\n\
             p:mapscope_4194305_5_3/mapscope_4194305_5_3 /proc/1/exe:0x10 t=%ax:u64\n\
             p:mapscope_4194305_5_3/mapscope_4194305_5_3 /proc/1/exe:0x20 t=%ax:u64\n\
             p:mapscope_4194305_5_3/not_ours /proc/1/exe:0x20\n\
             p:mapscope_of_somebody/else /bin/sh:0x10\n\
             p:probe_sh/main /bin/sh:0x10\n",
            start + 1
        );
        let directory = fake_tracefs("clean", &defined);
        assert_eq!(remove_left_behind(&directory), 2);
        let after = fs::read_to_string(directory.join("uprobe_events")).unwrap();
        let added: Vec<&str> = after[defined.len()..].lines().collect();
        let reused = format!("-:mapscope_{own}_{0}_0/mapscope_{own}_{0}_0", start + 1);
        assert_eq!(added.len(), 2);
        assert!(
            added.contains(&"-:mapscope_4194305_5_3/mapscope_4194305_5_3") && added.contains(&reused.as_str()),
            "{added:?}"
        );
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_event_is_removed_when_dropped() {
        let directory = fake_tracefs("drop", "");
        let registered = Registered::new(&directory, "mapscope_1_2_3".to_string(), &["p:a b".to_string()]).unwrap();
        assert!(registered.id().unwrap_err().to_string().contains("mapscope_1_2_3"));
        drop(registered);
        let after = fs::read_to_string(directory.join("uprobe_events")).unwrap();
        assert_eq!(after, "p:a b\n-:mapscope_1_2_3/mapscope_1_2_3\n");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn passes_are_summed_over_the_probes_of_the_event() {
        let profile = "  /proc/7/exe       mapscope_1_2_3        10\n  /a b    mapscope_1_2_3   5\n  /x   other  7\n\n";
        assert_eq!(passed_in(profile, "mapscope_1_2_3"), 15);
        assert_eq!(passed_in(profile, "none"), 0);
    }

    #[test]
    fn the_missing_capability_is_named() {
        assert!(may_trace("CapEff:\t000001ffffffffff\n", "2").is_ok());
        assert!(may_trace("CapEff:\t0000004000000000\n", "4").is_ok(), "CAP_PERFMON");
        assert!(may_trace("CapEff:\t0000000000000000\n", "-1\n").is_ok());
        let refused = may_trace("CapEff:\t0000000000000000\n", "2").unwrap_err().to_string();
        assert!(refused.contains("CAP_PERFMON") && refused.contains("perf_event_paranoid"), "{refused}");
        assert!(may_trace("", "").is_err());
    }
}
