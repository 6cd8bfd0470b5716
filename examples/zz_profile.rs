fn main(){let json=std::env::args().any(|a|a=="--json");let names:Vec<String>=std::env::args().skip(1).filter(|a|a!="--json").collect();
let data:Vec<Vec<u8>>=names.iter().map(|n|std::fs::read(n).unwrap()).collect();
let files:Vec<(&str,&[u8])>=names.iter().map(|n|n.as_str()).zip(data.iter().map(|d|d.as_slice())).collect();
let t=std::time::Instant::now();
match mapscope::evidence::profile_report::profile_report(&files,json){Ok(s)=>println!("{s}"),Err(e)=>println!("error: {e}")}
eprintln!("{:?}",t.elapsed());}
