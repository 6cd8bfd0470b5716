//! The pinned Go toolchains, the lab program built with them, and the oracle.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// The toolchain whose `go tool trace` is the oracle, and whose test data is read.
pub const NEWEST: &str = "1.27.3";
/// One toolchain for each format and release line.
pub const VERSIONS: [&str; 6] = ["1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", NEWEST];

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache/mapscope");
    std::env::var_os("MAPSCOPE_CACHE").map_or_else(home, PathBuf::from)
}

/// The root of a toolchain, which `core-samples/toolchains.py` installs.
pub fn root(version: &str) -> PathBuf {
    let root = cache().join("go").join(version);
    assert!(root.join("bin/go").exists(), "Go {version} is missing: run python3 core-samples/toolchains.py {version}");
    root
}

/// A directory for a test's files, below cargo's target directory.
pub fn scratch() -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("trace");
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    directory
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn go_build(version: &str, directory: &Path, package: &str, out: &Path) {
    let build = ["build", "-trimpath", "-o"];
    run(Command::new(root(version).join("bin/go"))
        .current_dir(directory)
        .args(build)
        .arg(out)
        .arg(package)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOCACHE", cache().join("gocache").join(version))
        .env("GOPATH", cache().join("gopath"))
        .env_remove("GOROOT"));
}

/// The lab program built with one toolchain.
pub fn lab(version: &str) -> PathBuf {
    let out = scratch().join(format!("lab-{version}"));
    go_build(version, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace/lab"), ".", &out);
    out
}

/// Runs the lab program and reads the trace it wrote.
pub fn record(lab: &Path, arguments: &[&str]) -> Vec<u8> {
    let out = lab.with_extension("trace");
    run(Command::new(lab).args(arguments).arg("-o").arg(&out).stdin(Stdio::null()));
    std::fs::read(&out).expect("the lab's trace")
}

/// `go tool trace` of the newest toolchain, built once.
pub fn oracle() -> &'static Path {
    static ORACLE: OnceLock<PathBuf> = OnceLock::new();
    ORACLE.get_or_init(|| {
        let out = scratch().join("gotrace");
        go_build(NEWEST, &root(NEWEST).join("src"), "cmd/trace", &out);
        out
    })
}

/// What the oracle prints of a trace, and whether it read it to the end.
pub fn parsed(oracle: &Path, data: &[u8]) -> (String, bool) {
    // Tests run side by side: each call has its own file.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let file = scratch().join(format!("oracle-input-{}.trace", CALLS.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, data).expect("a scratch file");
    let output = Command::new(oracle).arg("-d=parsed").arg(&file).env("TZ", "UTC").output().expect("the oracle runs");
    std::fs::remove_file(&file).expect("the scratch file is there");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}
