//! Lists the events of an execution trace, in the form of `go tool trace -d=parsed`.

use mapscope::evidence::trace::{write_event, Events};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: trace_events FILE")?;
    let data = std::fs::read(path)?;
    let mut events = Events::new(&data)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = String::new();
    while let Some(event) = events.next()? {
        line.clear();
        write_event(&mut line, &events, &event)?;
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(())
}
