//! Why a process may not be read or stopped: what is missing, as the system itself tells.

use std::fmt;
use std::io;

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Read,
    Stop,
}

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    Gone,
    Zombie { parent: i32 },
    KernelThread,
    Traced { by: i32, name: String },
    OtherOwner { theirs: u32, ours: u32 },
    NotDumpable,
    Scope(u32),
    Seccomp,
    Namespace,
    Unknown(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CAPABILITY: &str = "CAP_SYS_PTRACE (root has it; in a container: --cap-add SYS_PTRACE)";
        match self {
            Obstacle::Gone => f.write_str("it has ended"),
            Obstacle::Zombie { parent } => {
                write!(f, "it is a zombie: it has ended, and its parent, process {parent}, has not asked how; its memory is gone")
            }
            Obstacle::KernelThread => f.write_str("it is a kernel thread, which has no memory of its own"),
            Obstacle::Traced { by, name } => {
                write!(f, "process {by} ({name}) traces it already: detach that first, or use --no-stop to read it running")
            }
            Obstacle::OtherOwner { theirs, ours } => {
                write!(f, "it belongs to user {theirs}, and you are user {ours}: run as that user, or with {CAPABILITY}")
            }
            Obstacle::NotDumpable => write!(
                f,
                "it is not dumpable (it was started with other rights, or asked for that by prctl): run with {CAPABILITY}"
            ),
            Obstacle::Scope(3) => f.write_str("kernel.yama.ptrace_scope is 3: nobody may, until this machine starts anew"),
            Obstacle::Scope(2) => write!(f, "kernel.yama.ptrace_scope is 2: run with {CAPABILITY}"),
            Obstacle::Scope(scope) => write!(
                f,
                "kernel.yama.ptrace_scope is {scope}: only a process's ancestors may; set it to 0, or run with {CAPABILITY}"
            ),
            Obstacle::Seccomp => f.write_str(
                "a seccomp filter of this process forbids it, as that of a container does: start the container with \
                 --cap-add SYS_PTRACE or --security-opt seccomp=unconfined",
            ),
            Obstacle::Namespace => {
                f.write_str("it is in another user namespace, where your CAP_SYS_PTRACE does not count")
            }
            Obstacle::Unknown(error) => f.write_str(error),
        }
    }
}

/// Why `error` came of reading process `pid`, or of stopping its thread `tid`.
pub fn why_denied(pid: i32, tid: i32, error: &io::Error, act: Act) -> String {
    obstacle(pid, tid, error, act).to_string()
}

fn obstacle(pid: i32, tid: i32, error: &io::Error, act: Act) -> Obstacle {
    let unknown = || Obstacle::Unknown(error.to_string());
    let Some(status) = Status::of(&format!("/proc/{pid}/task/{tid}")).or_else(|| Status::of(&format!("/proc/{pid}")))
    else {
        return Obstacle::Gone;
    };
    let number = |name| status.number(name);
    if status.state() == Some('Z') || status.state() == Some('X') {
        return Obstacle::Zombie { parent: number("PPid").unwrap_or(0) as i32 };
    }
    if number("Kthread") == Some(1) || (status.word("VmSize").is_none() && status.word("Kthread").is_none()) {
        return Obstacle::KernelThread;
    }
    match number("TracerPid") {
        Some(by) if by != 0 && act == Act::Stop => {
            let name = Status::of(&format!("/proc/{by}")).and_then(|tracer| Some(tracer.word("Name")?.to_string()));
            return Obstacle::Traced { by: by as i32, name: name.unwrap_or_else(|| "of another container".into()) };
        }
        _ => {}
    }
    let Some(own) = Status::of("/proc/self") else { return unknown() };
    if error.raw_os_error() == Some(libc::ENOSYS) {
        return Obstacle::Seccomp;
    }
    if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return unknown();
    }
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let capable =
        own.word("CapEff").and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0) & CAP_SYS_PTRACE != 0;
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().and_then(|s| s.trim().parse().ok());
    let (theirs, ours) = (number("Uid").unwrap_or(0) as u32, own.number("Uid").unwrap_or(0) as u32);
    // SECCOMP_MODE_FILTER (include/uapi/linux/seccomp.h).
    let filtered = own.number("Seccomp") == Some(2);
    match scope {
        Some(3) if act == Act::Stop => Obstacle::Scope(3),
        _ if capable && filtered => Obstacle::Seccomp,
        _ if capable => Obstacle::Namespace,
        _ if theirs != ours => Obstacle::OtherOwner { theirs, ours },
        _ if owner(pid).is_some_and(|owner| owner != theirs) => Obstacle::NotDumpable,
        Some(scope) if scope > 0 => Obstacle::Scope(scope),
        _ if filtered => Obstacle::Seccomp,
        _ => unknown(),
    }
}

/// The owner of a process's files in /proc: root, where it is not dumpable (proc(5)).
fn owner(pid: i32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|about| about.uid())
}

/// Whether a thread has ended, though it is still listed.
pub fn has_ended(pid: i32, tid: i32) -> bool {
    let status = Status::of(&format!("/proc/{pid}/task/{tid}"));
    status.is_none_or(|status| matches!(status.state(), Some('Z' | 'X')))
}

/// What a thread does, in words, by its state and where the kernel says that it waits.
pub fn state_of(pid: i32, tid: i32) -> String {
    let path = format!("/proc/{pid}/task/{tid}");
    let Some(state) = Status::of(&path).and_then(|status| status.state()) else { return "it has ended".into() };
    // proc_pid_status(5).
    let word = match state {
        'D' => "in uninterruptible sleep in the kernel",
        'R' => "running",
        'S' => "sleeping",
        'T' => "stopped by a signal",
        't' => "stopped by a tracer",
        'Z' | 'X' => "ended",
        _ => "of a state that is not known here",
    };
    let place = std::fs::read_to_string(format!("{path}/wchan")).unwrap_or_default();
    let place = match place.as_str() {
        "" | "0" => String::new(),
        place => format!(", in {place}"),
    };
    format!("it is {word} (state {state}{place})")
}

/// A `status` file of /proc.
struct Status(String);

impl Status {
    fn of(directory: &str) -> Option<Status> {
        let bytes = std::fs::read(format!("{directory}/status")).ok()?;
        Some(Status(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The first word behind a name.
    fn word(&self, name: &str) -> Option<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.word(name)?.parse().ok()
    }

    fn state(&self) -> Option<char> {
        self.word("State")?.chars().next()
    }
}
