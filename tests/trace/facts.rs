//! What the oracle's text says about each goroutine, worked out from the text alone.

use std::collections::BTreeMap;

/// Start, name and, for those that run, M and P of a state.
pub type State = (i64, String, Option<(i64, i64)>);

/// One goroutine, as the text tells it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Facts {
    pub created: Option<(i64, Option<u64>)>,
    pub ended: Option<i64>,
    pub state: String,
    /// Time, reason, P, M, functions of the stack.
    pub last_block: Option<(i64, String, i64, i64, Vec<String>)>,
    /// Time, goroutine, functions of the waker's stack.
    pub last_wake: Option<(i64, Option<u64>, Vec<String>)>,
    pub blocks: u64,
    pub wakes: u64,
    pub syscalls: u64,
    pub samples: u64,
    pub map_samples: u64,
    pub states: Vec<State>,
}

/// An event of the text: its line, the functions of its two stacks.
struct Entry<'t> {
    line: &'t str,
    own: Vec<String>,
    stack: Vec<String>,
}

fn field<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let rest = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(rest)
}

fn number(line: &str, name: &str) -> i64 {
    field(line, name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut in_own = false;
    for line in text.lines() {
        match line {
            _ if line.starts_with("M=") => entries.push(Entry { line, own: Vec::new(), stack: Vec::new() }),
            "TransitionStack=" => in_own = true,
            "Stack=" => in_own = false,
            _ => {
                let Some((function, _)) = line.strip_prefix('\t').and_then(|l| l.split_once(" @ 0x")) else { continue };
                let entry = entries.last_mut().expect("a stack before the first event");
                let list = if in_own { &mut entry.own } else { &mut entry.stack };
                list.push(function.to_owned());
            }
        }
    }
    entries
}

/// The facts of every goroutine in the oracle's text.
pub fn read(text: &str) -> BTreeMap<u64, Facts> {
    let mut all: BTreeMap<u64, Facts> = BTreeMap::new();
    for Entry { line, own, stack } in entries(text) {
        let (time, thread, proc) = (number(line, "Time"), number(line, "M"), number(line, "P"));
        let current = u64::try_from(number(line, "G")).ok();
        if line.contains(" StackSample ") {
            if let Some(facts) = current.and_then(|goid| all.get_mut(&goid)) {
                facts.samples += 1;
                let in_map = |f: &String| f.starts_with("runtime.map") || f.starts_with("internal/runtime/maps.");
                facts.map_samples += u64::from(stack.iter().any(in_map));
            }
        }
        if !line.contains(" StateTransition ") || !line.contains(" GoID=") {
            continue;
        }
        let goid = number(line, "GoID") as u64;
        let change = line.split(' ').find(|word| word.contains("->")).expect("a transition");
        let (from, to) = change.split_once("->").expect("a transition");
        let facts = all.entry(goid).or_default();
        if from == to {
            continue;
        }
        match (from, to) {
            ("NotExist", _) => facts.created = Some((time, current)),
            ("Running", "Waiting") => {
                let reason = line.split_once("Reason=\"").map_or("", |(_, rest)| rest.trim_end_matches('"'));
                facts.blocks += 1;
                facts.last_block = Some((time, reason.to_owned(), proc, thread, own));
            }
            ("Waiting", _) => {
                facts.wakes += 1;
                facts.last_wake = Some((time, current, stack));
            }
            ("Running", "Syscall") => facts.syscalls += 1,
            _ => {}
        }
        facts.state = to.to_owned();
        if to == "NotExist" {
            facts.ended = Some(time);
        } else {
            let bound = (to == "Running" || to == "Syscall").then_some((thread, proc));
            facts.states.push((time, to.to_owned(), bound));
        }
    }
    all
}
