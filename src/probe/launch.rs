//! A program held before its first instruction, so that probes can be set first.

use super::tracefs::usage;
use crate::Result;
use std::ffi::OsString;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// A program that has been loaded and does not run yet; killed when dropped before it was released.
///
/// Belongs to the thread that started it, as the kernel demands of a tracer.
pub struct Held {
    child: Option<Child>,
    _one_thread: PhantomData<*const ()>,
}

impl Held {
    /// Loads `program` with `args`; it shares our standard input and output unless `prepare` says otherwise.
    pub fn start(program: &OsString, args: &[OsString], prepare: impl FnOnce(&mut Command)) -> Result<Held> {
        let mut command = Command::new(program);
        command.args(args);
        prepare(&mut command);
        // SAFETY: between fork and exec only this one system call is made.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().map_err(|e| usage(format!("cannot start {}: {e}", program.to_string_lossy())))?;
        let held = Held { child: Some(child), _one_thread: PhantomData };
        let mut status = 0;
        // SAFETY: waits for our own child; `status` is a live integer.
        let waited = unsafe { libc::waitpid(held.pid() as i32, &mut status, 0) };
        if waited < 0 || !libc::WIFSTOPPED(status) {
            return Err(usage(format!("{} ended before it began", program.to_string_lossy())));
        }
        Ok(held)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Lets it run, free of us.
    pub fn release(mut self) -> Result<Child> {
        // SAFETY: the child is stopped and traced by this thread.
        let status = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid() as i32, 0, 0) };
        match self.child.take() {
            Some(child) if status == 0 => Ok(child),
            child => {
                self.child = child;
                Err(usage(format!("cannot let the program run ({})", std::io::Error::last_os_error())))
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
