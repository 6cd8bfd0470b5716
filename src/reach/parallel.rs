//! Work on many items by all cores, with the caller's thread free to report progress and to notice Ctrl-C.

use crate::error::Watch;
use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::Duration;

/// How often the caller's watch is asked while others work.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Fewer items than this are not worth a second thread.
const WORTH_SHARING: usize = 64;

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

/// Calls `f` with pieces of `items` and the index of the first item of each; the results are in the order of the
/// pieces. `alone` keeps all on this thread, as memory that is read through a debugger needs.
pub fn in_pieces<'i, T: Sync, R: Send>(
    items: &'i [T],
    alone: bool,
    watch: &dyn Watch,
    f: &(dyn Fn(usize, &'i [T], &dyn Watch) -> Result<R> + Sync),
) -> Result<Vec<R>> {
    if alone || items.len() < WORTH_SHARING {
        return Ok(vec![f(0, items, watch)?]);
    }
    let size = (items.len() / (8 * rayon::current_num_threads())).max(WORTH_SHARING / 4);
    let stop = AtomicBool::new(false);
    let (send, receive) = channel();
    rayon::in_place_scope(|scope| {
        let stop = &stop;
        scope.spawn(move |_| {
            let pieces = items.par_chunks(size).enumerate();
            let results: Result<Vec<R>> = pieces.map(|(i, piece)| f(i * size, piece, &Stop(stop))).collect();
            // Nobody listens any more only after a panic.
            let _ = send.send(results);
        });
        let mut interrupted = Ok(());
        loop {
            match receive.recv_timeout(ASK_EVERY) {
                Ok(results) => break interrupted.and(results),
                Err(RecvTimeoutError::Disconnected) => break Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) if interrupted.is_ok() => {
                    interrupted = watch.tick(0, 0);
                    stop.store(interrupted.is_err(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })
}
