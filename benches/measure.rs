//! Measures the library itself on one map of a core: `measure EXE CORE MAP`, one JSON document.
//! Driven by benches/bench.py, which puts the peers beside it.

use mapscope::error::Quiet;
use mapscope::map::check::check;
use mapscope::map::keys::Keys;
use mapscope::map::lookup::Hasher;
use mapscope::map::Findings;
use mapscope::session::Session;
use std::hint::black_box;
use std::time::Instant;

/// The best of several runs, in seconds: the others were disturbed.
fn best<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    let time = |work: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(|_| time(&mut work)).fold(f64::INFINITY, f64::min)
}

/// A sum over all words of the blocks that hold the map's buckets or groups: what reading them costs at least.
fn plain_sum(blocks: &[&[u8]]) -> u64 {
    let words = |block: &[u8]| {
        block.chunks_exact(8).fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap())))
    };
    blocks.iter().map(|block| words(block)).fold(0, u64::wrapping_add)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [exe, core, name] = arguments.as_slice() else { return };
    let session = Session::core(core.as_ref(), Some(exe.as_ref())).expect("the core opens");
    let target = session.resolve(name).expect("the map is there");
    let map = session.open(target).expect("its header is sound");
    let mut blocks: Vec<&[u8]> = Vec::new();
    let (mut start, mut end) = (0, 0);
    map.each_cell(&Quiet, &mut Findings::default(), &mut |cell| {
        if cell.address != end {
            blocks.extend(session.memory.mapped(start, (end - start) as usize));
            start = cell.address;
        }
        end = cell.address + cell.bytes.len() as u64;
        Ok(true)
    })
    .expect("it can be walked");
    blocks.extend(session.memory.mapped(start, (end - start) as usize));
    let bytes: usize = blocks.iter().map(|block| block.len()).sum();
    let sum = best(5, || plain_sum(&blocks));
    let stats = best(5, || map.survey(&Quiet).expect("it can be counted"));

    let hasher = session.hasher(&map);
    let keys = Keys::new(map.memory, map.types);
    let mut some = Vec::new();
    let step = (map.count() / 1000).max(1);
    let mut at = 0;
    map.each(&Quiet, &mut |entry| {
        if at % step == 0 {
            some.push(entry.key.clone().expect("keys are readable").to_vec());
        }
        at += 1;
        Ok(true)
    })
    .expect("it can be walked");
    let lookups = best(3, || {
        some.iter()
            .filter(|key| map.look_up(&hasher, &keys, key, &Quiet).expect("it can be looked up").found.is_some())
            .count()
    });
    let checked = best(2, || check(&map, &hasher, None, &Quiet).expect("it can be checked").keys);
    // As on a host without AES instructions.
    let portable = match &hasher {
        Hasher::Known { state, recipe, function } => Hasher::Known {
            state: Box::new(state.as_ref().clone().portable()),
            recipe: recipe.clone(),
            function: function.clone(),
        },
        unknown => unknown.clone(),
    };
    let checked_portably = best(2, || check(&map, &portable, None, &Quiet).expect("it can be checked").keys);
    println!(
        "{}",
        serde_json::json!({
            "entries": map.count(),
            "bytes": bytes,
            "sum_bytes_per_second": bytes as f64 / sum,
            "stats_bytes_per_second": bytes as f64 / stats,
            "lookup_seconds": lookups / some.len() as f64,
            "check_keys_per_second": map.count() as f64 / checked,
            "portable_check_keys_per_second": map.count() as f64 / checked_portably,
        })
    );
}
