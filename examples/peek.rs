use mapscope::{error::Quiet, session::Session};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let t = std::time::Instant::now();
    let s = Session::core(a[2].as_ref(), Some(a[1].as_ref())).unwrap();
    println!("open {:?} notes {:?}", t.elapsed(), s.notes);
    for e in &a[3..] {
        match s.resolve(e).and_then(|m| {
            let m = s.open(m)?;
            println!("{e}: {} {} {:#x} count {} {:?}", m.ty.name, m.layout(), m.address, m.count(), m.slots);
            let t = std::time::Instant::now();
            let v = m.survey(&Quiet)?;
            println!("  {:?} {v:?}", t.elapsed());
            let mut n = 0;
            m.each(&Quiet, &mut |e| {
                if n < 3 {
                    println!("   {:?} {:x?} {:x?}", e.place, e.key, e.elem);
                }
                n += 1;
                Ok(true)
            })?;
            println!("   n={n}");
            Ok(())
        }) {
            Ok(()) => {}
            Err(x) => println!("{e}: {x}"),
        }
    }
}
