//! Reads an execution trace and draws one goroutine, or says how much was read.

use mapscope::evidence::trace::{parse_file, timeline, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: trace_timeline FILE [GOID]")?;
    let goid = arguments.next().map(|goid| goid.parse()).transpose()?;
    let options = goid.map_or_else(Options::default, Options::focused);
    let trace = parse_file(path.as_ref(), &options, &mapscope::error::Quiet)?;
    match goid {
        Some(goid) => print!("{}", timeline(&trace, goid, 100, false)),
        None => {
            println!("{:#?}\nblocked at the end: {}", trace.counts, trace.blocked().count());
            trace.notes.iter().for_each(|note| println!("note: {note}"));
        }
    }
    Ok(())
}
