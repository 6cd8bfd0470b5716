use mapscope::evidence::trace::Events;
fn main() {
    let data = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let t = std::time::Instant::now();
    let mut e = Events::new(&data).unwrap();
    let mut n = 0u64;
    while let Ok(Some(_)) = e.next() { n += 1; }
    println!("{n} {:?}", t.elapsed());
}
