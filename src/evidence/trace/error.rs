//! Every way reading an execution trace can fail, each as one sentence that says what to do.

/// What is wrong with an execution trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The header is missing: some other file, or one cut off inside its first 16 bytes.
    #[error(
        "not a Go execution trace: the file does not start with \"go 1.N trace\"; give the file that \
         runtime/trace, /debug/pprof/trace or a flight recorder wrote"
    )]
    NotATrace,
    /// Written by Go 1.21 or older, whose format shares nothing with today's.
    #[error(
        "this trace has the format of Go 1.{0}, which ended with Go 1.21: convert it to today's events as text with \
         `go tool trace -d=parsed FILE` of Go 1.24 or later, or record it again with Go 1.22 or later"
    )]
    OldFormat(u32),
    /// Written by a Go that came after this reader.
    #[error("this trace has the format of Go 1.{0}, which this reader does not know (it knows 1.22 to 1.26): update mapscope")]
    UnknownFormat(u32),
    /// A length, an id or a tag that cannot be; `offset` is in bytes from the start of the file.
    #[error("the trace is damaged at byte {offset}: {what}; what stands before it is still used")]
    Damaged { offset: usize, what: &'static str },
    /// The file stops inside a generation, as when the process died before it stopped the trace.
    #[error(
        "the trace ends inside a generation at byte {offset}, as when its process died: that last second or so is \
         lost, because stacks and reasons are written at its end; what stands before it is still used"
    )]
    Truncated { offset: usize },
    /// The events contradict each other: no order of the threads' events explains them. `time` is in ns.
    #[error("the trace contradicts itself at {time} ns ({what}, id {id}); what stands before it is still used")]
    Order { time: i64, what: &'static str, id: i64 },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The file cannot be opened or mapped.
    #[error("cannot read the trace {path}: {reason}")]
    File { path: String, reason: String },
}
