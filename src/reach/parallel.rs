//! Work on many items by all cores, with the caller's thread free to report progress and to notice Ctrl-C.

use crate::error::Watch;
use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::Duration;

/// How often the caller's watch is asked while others work.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Fewer items than this are not worth a second thread.
const WORTH_SHARING: usize = 64;
/// Items of one piece at most, so that progress shows.
const MAX_PIECE: usize = 1 << 10;

/// A watch for the threads that work: only the caller's own thread can ask the user's.
struct Stop<'s>(&'s AtomicBool);

impl Watch for Stop<'_> {
    fn tick(&self, _done: u64, _total: u64) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// How many items came before these, and how many there are with all that are known to follow.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub before: u64,
    pub total: u64,
}

impl Progress {
    /// Of work that these items are all of.
    pub fn of<T>(items: &[T]) -> Progress {
        Progress { before: 0, total: items.len() as u64 }
    }
}

/// Calls `f` with pieces of `items` and the index of the first item of each; the results are in the order of the
/// pieces. `alone` keeps all on this thread, as memory that is read through a debugger needs.
pub fn in_pieces<'i, T: Sync, R: Send>(
    items: &'i [T],
    alone: bool,
    progress: Progress,
    watch: &dyn Watch,
    f: &(dyn Fn(usize, &'i [T], &dyn Watch) -> Result<R> + Sync),
) -> Result<Vec<R>> {
    let size = (items.len() / (8 * rayon::current_num_threads())).clamp(WORTH_SHARING / 4, MAX_PIECE);
    let Progress { before, total } = progress;
    if alone || items.len() < WORTH_SHARING {
        let pieces = items.chunks(size).enumerate();
        return pieces
            .map(|(i, piece)| {
                watch.tick(before + (i * size) as u64, total)?;
                f(i * size, piece, watch)
            })
            .collect();
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(before));
    let (send, receive) = channel();
    rayon::in_place_scope(|scope| {
        let (stop, done) = (&stop, &done);
        scope.spawn(move |_| {
            let pieces = items.par_chunks(size).enumerate().map(|(i, piece)| {
                let result = f(i * size, piece, &Stop(stop));
                done.fetch_add(piece.len() as u64, Ordering::Relaxed);
                result
            });
            let results: Result<Vec<R>> = pieces.collect();
            // Nobody listens any more only after a panic.
            let _ = send.send(results);
        });
        let mut interrupted = Ok(());
        loop {
            match receive.recv_timeout(ASK_EVERY) {
                Ok(results) => break interrupted.and(results),
                Err(RecvTimeoutError::Disconnected) => break Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) if interrupted.is_ok() => {
                    interrupted = watch.tick(done.load(Ordering::Relaxed), total);
                    stop.store(interrupted.is_err(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })
}
