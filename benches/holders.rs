//! How long the reverse lookup takes: `holders EXE CORE` prints one JSON document.

use mapscope::error::Quiet;
use mapscope::goroutine::holders::holders;
use mapscope::goroutine::{list, Blocked};
use mapscope::session::Session;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().filter(|word| word != "--bench").collect();
    let [_, exe, core] = &words[..] else { panic!("usage: holders EXE CORE") };
    let session = Session::core(Path::new(core), Some(Path::new(exe))).expect("a core");
    let goroutines = list(&session, &Quiet).expect("goroutines");
    let waits = goroutines.all.iter().filter_map(|goroutine| goroutine.blocked_on.as_ref());
    let wanted: Vec<u64> = waits.flat_map(Blocked::addresses).collect();
    let start = Instant::now();
    let found = holders(&session, &wanted, &Quiet).expect("holders");
    let seconds = start.elapsed().as_secs_f64();
    // By map: the herd's own, and that in which os/signal keeps the channel that the main goroutine waits on.
    let mut maps: BTreeMap<&str, u64> = BTreeMap::new();
    for holder in found.of.values().flatten() {
        *maps.entry(&holder.map).or_default() += 1;
    }
    let document = serde_json::json!({
        "waiters": wanted.len(), "entries": found.entries, "found": found.of.len(), "maps": maps, "seconds": seconds,
    });
    println!("{document}");
}
