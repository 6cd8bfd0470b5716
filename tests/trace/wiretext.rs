//! The text form of a trace, as the toolchain's own test data has it, turned into a trace file.
//!
//! `Trace Go1.NN`, then an event a line: its name and `name=value` arguments; a stack is followed by its
//! frames, a string by `data="..."`.

/// What a test file expects of its trace, and the trace's bytes.
pub struct Case {
    pub succeeds: bool,
    pub data: Vec<u8>,
}

/// Event names by tag, up to the experiments.
const NAMES: [&str; 53] = [
    "",
    "EventBatch",
    "Stacks",
    "Stack",
    "Strings",
    "String",
    "CPUSamples",
    "CPUSample",
    "Frequency",
    "ProcsChange",
    "ProcStart",
    "ProcStop",
    "ProcSteal",
    "ProcStatus",
    "GoCreate",
    "GoCreateSyscall",
    "GoStart",
    "GoDestroy",
    "GoDestroySyscall",
    "GoStop",
    "GoBlock",
    "GoUnblock",
    "GoSyscallBegin",
    "GoSyscallEnd",
    "GoSyscallEndBlocked",
    "GoStatus",
    "STWBegin",
    "STWEnd",
    "GCActive",
    "GCBegin",
    "GCEnd",
    "GCSweepActive",
    "GCSweepBegin",
    "GCSweepEnd",
    "GCMarkAssistActive",
    "GCMarkAssistBegin",
    "GCMarkAssistEnd",
    "HeapAlloc",
    "HeapGoal",
    "GoLabel",
    "UserTaskBegin",
    "UserTaskEnd",
    "UserRegionBegin",
    "UserRegionEnd",
    "UserLog",
    "GoSwitch",
    "GoSwitchDestroy",
    "GoCreateBlocked",
    "GoStatusStack",
    "ExperimentalBatch",
    "Sync",
    "ClockSnapshot",
    "EndOfGeneration",
];

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_arguments(out: &mut Vec<u8>, words: std::str::SplitWhitespace) {
    for word in words {
        let (_, value) = word.split_once('=').expect("name=value");
        push_number(out, value.parse().expect("a number"));
    }
}

/// Undoes Go's quoting.
pub fn unquote(text: &str) -> Vec<u8> {
    let inner = text.trim().strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("quoted data");
    let (mut out, mut chars) = (Vec::new(), inner.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match chars.next().expect("an escape") {
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'a' => out.push(7),
            'b' => out.push(8),
            'v' => out.push(11),
            'f' => out.push(12),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).expect("hex"));
            }
            other => out.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out
}

/// Reads a `.test` file of the toolchain's `src/internal/trace/testdata/tests`.
pub fn read(text: &str) -> Case {
    let (_, rest) = text.split_once("-- expect --\n").expect("an expectation");
    let (expect, trace) = rest.split_once("-- trace --\n").expect("a trace");
    let without_comment = |line: &'_ str| match line.starts_with("data=") {
        true => line.len(),
        false => line.find('#').unwrap_or(line.len()),
    };
    let lines = trace.lines().map(|l| l.trim()).map(|l| l[..without_comment(l)].trim());
    let mut lines = lines.filter(|l| !l.is_empty());
    let version = lines.next().and_then(|l| l.strip_prefix("Trace Go1.")).expect("a version");
    let mut data = format!("go 1.{version} trace\0\0\0").into_bytes();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        if line.contains("pc=") {
            push_arguments(&mut data, line.split_whitespace());
            continue;
        }
        let tag = NAMES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("unknown event {name}"));
        data.push(tag as u8);
        push_arguments(&mut data, words);
        if name == "String" || name == "ExperimentalBatch" {
            let bytes = unquote(lines.next().and_then(|l| l.strip_prefix("data=")).expect("data"));
            push_number(&mut data, bytes.len() as u64);
            data.extend(bytes);
        }
    }
    Case { succeeds: expect.trim().starts_with("SUCCESS"), data }
}
