//! Compares both of this crate's views of a trace, events and goroutines, with the oracle's text.

use crate::facts::{self, Facts};
use mapscope::evidence::trace::{parse, write_event, Events, Goroutine, Options, StackRef, Trace, TraceError};

/// The trace as text, and the error that ended it.
pub fn listing(data: &[u8]) -> (String, Option<TraceError>) {
    let mut out = String::new();
    let mut events = match Events::new(data) {
        Ok(events) => events,
        Err(error) => return (out, Some(error)),
    };
    loop {
        match events.next() {
            Ok(Some(event)) => write_event(&mut out, &events, &event).expect("writing to a string"),
            Ok(None) => return (out, None),
            Err(error) => return (out, Some(error)),
        }
    }
}

/// Panics at the first line that differs.
pub fn same_text(name: &str, ours: &str, oracle: &str) {
    if ours == oracle {
        return;
    }
    let (mut event, mut lines) = ("", ours.lines().zip(oracle.lines()));
    let differing = lines.by_ref().find(|(ours, oracle)| {
        if oracle.starts_with("M=") {
            event = oracle;
        }
        ours != oracle
    });
    match differing {
        Some((ours, oracle)) => panic!("{name}: at event {event}\n  oracle {oracle}\n  ours   {ours}"),
        None => panic!("{name}: {} bytes, the oracle has {}", ours.len(), oracle.len()),
    }
}

/// Compares every goroutine that `parse` tells of with the facts of the text.
pub fn same_goroutines(name: &str, data: &[u8], oracle: &str) {
    // Everything is kept, so that everything can be compared.
    let all = 1 << 30;
    let options =
        Options { max_spans: all, max_all_spans: all, max_ended: all, max_goroutines: all, ..Options::default() };
    let trace = parse(data, &options).expect("a trace");
    let facts = facts::read(oracle);
    assert_eq!(
        trace.goroutines.keys().collect::<Vec<_>>(),
        facts.keys().collect::<Vec<_>>(),
        "{name}: other goroutines"
    );
    assert_eq!(trace.counts.events as usize, oracle.lines().filter(|l| l.starts_with("M=")).count(), "{name}: events");
    for (goid, facts) in &facts {
        let ours = as_facts(&trace, &trace.goroutines[goid]);
        assert_eq!(&ours, facts, "{name}: goroutine {goid}");
    }
}

fn functions(trace: &Trace, stack: Option<StackRef>) -> Vec<String> {
    stack.map(|stack| trace.stack(stack).map(|f| f.function.to_owned()).collect()).unwrap_or_default()
}

fn as_facts(trace: &Trace, g: &Goroutine) -> Facts {
    let text = |id: Option<_>| id.map_or("", |id| trace.text(id)).to_owned();
    let or_none = |id: Option<i64>| id.unwrap_or(-1);
    let (proc, thread) = (|p: Option<u32>| or_none(p.map(i64::from)), |m: Option<u64>| or_none(m.map(|m| m as i64)));
    Facts {
        created: g.created.map(|c| (c.time, c.by)),
        ended: g.ended,
        state: g.state().name().to_owned(),
        last_block: g
            .last_block
            .map(|b| (b.time, text(b.reason), proc(b.proc), thread(b.thread), functions(trace, b.stack))),
        last_wake: g.wakers.back().map(|w| (w.time, w.by, functions(trace, w.stack))),
        blocks: g.blocks,
        wakes: g.wakes,
        syscalls: g.syscalls,
        samples: g.cpu_samples,
        map_samples: g.map_sample_count,
        states: g
            .spans
            .iter()
            .map(|s| {
                let executes = matches!(s.state.name(), "Running" | "Syscall");
                (s.start, s.state.name().to_owned(), executes.then(|| (thread(s.thread), proc(s.proc))))
            })
            .collect(),
    }
}
