//! A writer whose file work is done by a second thread, so that formatting need not wait for the disk.

use crate::Result;
use std::io::{Error, Write};
use std::sync::mpsc::{sync_channel, SyncSender};

/// Buffers that may wait to be written; more would only cost memory.
const WAITING: usize = 8;

struct Background {
    queue: SyncSender<Vec<u8>>,
}

impl Write for Background {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // The thread ends early only on an error, which `write_behind` reports.
        self.queue.send(bytes.to_vec()).map_err(|_| Error::other("the writing thread has ended"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `produce` with a writer that a second thread empties into `file`; a failed write is the result.
pub fn write_behind<T>(file: &mut (impl Write + Send), produce: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let (queue, buffers) = sync_channel::<Vec<u8>>(WAITING);
        let writer = scope.spawn(move || -> std::io::Result<()> {
            for buffer in buffers {
                file.write_all(&buffer)?;
            }
            file.flush()
        });
        let produced = produce(&mut Background { queue });
        let written = writer.join().unwrap_or_else(|_| Err(Error::other("the writing thread failed")));
        match written {
            Err(error) => Err(super::write_error(error)),
            Ok(()) => produced,
        }
    })
}
