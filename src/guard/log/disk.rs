//! Has what was written to the log reach the disk, beside the work: one sync for all that was written meanwhile.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Where a file's entries have come to. Dropped, what was written still reaches the disk.
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    file: File,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// The last entry that was written, and the last that is on the disk.
    written: u64,
    synced: u64,
    /// Why nothing gets there any more.
    fault: Option<String>,
    waiting: Vec<(u64, oneshot::Sender<Option<String>>)>,
    ended: bool,
}

/// Whether an entry is on the disk.
pub enum Kept {
    /// It is.
    Yes,
    /// It never will be, and why.
    Never(String),
    /// It will be told, nothing or why not.
    Later(oneshot::Receiver<Option<String>>),
}

impl Disk {
    /// That of `file`, in which all up to the entry `last` are on the disk.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn new(file: File, last: u64) -> std::io::Result<Self> {
        let state = Mutex::new(State { written: last, synced: last, ..State::default() });
        let shared = Arc::new(Shared { file, state, woken: Condvar::new() });
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("guard-log".into()).spawn(move || own.keep_syncing())?;
        Ok(Self { shared })
    }

    /// The entry `id` was written.
    pub fn written(&self, id: u64) {
        self.shared.lock().written = id;
        self.shared.woken.notify_one();
    }

    /// The last entry that is on the disk.
    pub fn synced(&self) -> u64 {
        self.shared.lock().synced
    }

    /// Whether the entry `id` is.
    pub fn has(&self, id: u64) -> Kept {
        let mut state = self.shared.lock();
        if id <= state.synced {
            return Kept::Yes;
        }
        if let Some(fault) = &state.fault {
            return Kept::Never(fault.clone());
        }
        if id > state.written {
            return Kept::Never("it is not in the log".to_owned());
        }
        let (told, will_be) = oneshot::channel();
        state.waiting.push((id, told));
        Kept::Later(will_be)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.woken.notify_one();
    }
}

impl Shared {
    /// Nothing that is kept here can be half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_syncing(&self) {
        loop {
            let idle = |state: &mut State| state.written == state.synced && !state.ended;
            let state = self.woken.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let target = state.written;
            if target == state.synced {
                return;
            }
            drop(state);
            let outcome = self.file.sync_data();
            let mut state = self.lock();
            match outcome {
                Ok(()) => state.synced = target,
                Err(e) => state.fault = Some(format!("cannot have the log on the disk: {e}")),
            }
            let (fault, synced) = (state.fault.clone(), state.synced);
            let told: Vec<_> = state.waiting.extract_if(.., |(id, _)| fault.is_some() || *id <= synced).collect();
            drop(state);
            // One whose stream has ended hears nothing.
            told.into_iter().for_each(|(_, told)| drop(told.send(fault.clone())));
            if fault.is_some() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_once_it_is_on_the_disk() {
        let disk = Disk::new(tempfile::tempfile().unwrap(), 3).unwrap();
        assert!(matches!(disk.has(3), Kept::Yes));
        assert!(matches!(disk.has(4), Kept::Never(_)), "it was never written");
        for id in 4..200 {
            disk.written(id);
            match disk.has(id) {
                Kept::Yes => {}
                Kept::Later(told) => assert_eq!(told.blocking_recv(), Ok(None)),
                Kept::Never(why) => panic!("{why}"),
            }
            assert!(disk.synced() >= id);
        }
    }

    #[test]
    fn a_disk_that_fails_keeps_nothing_any_more() {
        // A socket cannot be synced (fsync(2), EINVAL).
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let disk = Disk::new(File::from(std::os::fd::OwnedFd::from(socket)), 0).unwrap();
        disk.written(1);
        let why = match disk.has(1) {
            Kept::Later(told) => told.blocking_recv().unwrap(),
            Kept::Never(why) => Some(why),
            Kept::Yes => None,
        };
        assert!(why.is_some_and(|why| why.contains("cannot have the log on the disk")));
        assert!(matches!(disk.has(1), Kept::Never(_)));
    }
}
