//! Programs built with the pinned toolchains, and what Go's own tools say of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// One toolchain for each layout of the tables.
pub const VERSIONS: [&str; 9] =
    ["1.19", "1.20.14", "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// How a program is built, and what is done to it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Default,
    /// `-ldflags=-s -w`.
    Linked,
    /// `-buildmode=pie`.
    Pie,
    /// `-buildmode=pie -ldflags=-s -w`.
    LinkedPie,
    /// `strip -s` of the default build.
    Stripped,
    /// The same, and the section headers are gone too.
    NoSections,
    /// For arm64.
    Arm,
    /// With C code, linked by the system's linker, `-ldflags=-s -w`.
    Cgo,
    /// With a `GOEXPERIMENT`.
    Experiment(&'static str),
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache/mapscope");
    std::env::var_os("MAPSCOPE_CACHE").map_or_else(home, PathBuf::from)
}

/// The `go` of a toolchain: Debian's for 1.19, else one that `core-samples/toolchains.py` installs.
fn go(version: &str) -> PathBuf {
    let (go, install) = match version {
        "1.19" => (PathBuf::from("/usr/lib/go-1.19/bin/go"), "apt-get install golang-1.19-go".to_string()),
        _ => (cache().join("go").join(version).join("bin/go"), format!("python3 core-samples/toolchains.py {version}")),
    };
    assert!(go.exists(), "Go {version} is missing: run {install}");
    go
}

fn command(version: &str) -> Command {
    let mut command = Command::new(go(version));
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/lab"))
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOCACHE", cache().join("gocache").join(version))
        .env("GOPATH", cache().join("gopath"))
        .env_remove("GOROOT");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).expect("a tool prints UTF-8")
}

/// The lab program, built so; each build is made once in a test run.
pub fn lab(version: &str, mode: Mode) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("binary");
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    build(version, mode, &directory)
}

fn build(version: &str, mode: Mode, directory: &Path) -> PathBuf {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let out = directory.join(format!("lab-{version}-{mode:?}"));
    // Built anew in each run: the sources may have changed.
    if !BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(out.clone()) {
        return out;
    }
    let arguments: &[&str] = match mode {
        Mode::Default | Mode::Arm | Mode::Experiment(_) => &[],
        Mode::Cgo => &["-tags=cgolab", "-ldflags=-s -w"],
        Mode::Linked => &["-ldflags=-s -w"],
        Mode::Pie => &["-buildmode=pie"],
        Mode::LinkedPie => &["-buildmode=pie", "-ldflags=-s -w"],
        Mode::Stripped | Mode::NoSections => {
            let whole = build(version, Mode::Default, directory);
            run(Command::new("strip").arg("-s").arg("-o").arg(&out).arg(whole));
            if mode == Mode::NoSections {
                remove_section_headers(&out);
            }
            return out;
        }
    };
    let arch = if mode == Mode::Arm { "arm64" } else { "amd64" };
    // CGO_ENABLED=0 is what the go command takes for another processor.
    let cgo = if mode == Mode::Cgo { "1" } else { "0" };
    let experiment = if let Mode::Experiment(name) = mode { name } else { "" };
    let mut go = command(version);
    go.arg("build").args(arguments).arg("-o").arg(&out).arg(".");
    go.env("GOARCH", arch).env("CGO_ENABLED", cgo).env("GOEXPERIMENT", experiment);
    run(&mut go);
    out
}

/// e_shoff, e_shnum and e_shstrndx become 0, as packers of small binaries leave them.
fn remove_section_headers(path: &Path) {
    let mut file = std::fs::read(path).expect("the stripped program");
    file[0x28..0x30].fill(0);
    file[0x3c..0x40].fill(0);
    std::fs::write(path, file).expect("the program without section headers");
}

/// Address, size and name of the functions in the symbol table, as `go tool nm` tells them.
pub fn symbols(version: &str, program: &Path) -> Vec<(u64, u64, char, String)> {
    let list = text(command(version).args(["tool", "nm", "-size", "-sort", "address"]).arg(program));
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        // An undefined symbol has no address.
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let size = words.next()?.parse().ok()?;
        let kind = words.next()?.chars().next()?;
        let name: Vec<&str> = words.collect();
        Some((address, size, kind, name.join(" ")))
    };
    list.lines().filter_map(read).collect()
}

/// What `go version -m` says.
pub fn build_info(version: &str, program: &Path) -> String {
    text(command(version).args(["version", "-m"]).arg(program))
}

/// Runs the lab with these arguments and this input; its standard output.
pub fn ask(program: &Path, argument: &str, input: &str) -> String {
    use std::io::Write;
    let mut child =
        Command::new(program).arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the lab runs");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the lab ends");
    let _ = writer.join().expect("the writer ends");
    assert!(output.status.success(), "the lab failed");
    String::from_utf8(output.stdout).expect("the lab prints UTF-8")
}

/// The answer's first line, where the executable lies, and its documents.
pub fn documents(answer: &str) -> (u64, Vec<serde_json::Value>) {
    let mut lines = answer.lines();
    let base = lines.next().and_then(|line| line.parse().ok()).expect("the base");
    let documents = lines.take_while(|line| *line != "end").map(|line| serde_json::from_str(line).expect("a document"));
    (base, documents.collect())
}
