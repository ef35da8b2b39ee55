//! A storage that remembers what the system refused: the library may take a file for damaged that only could not be read.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

/// The first error of the system, if there was one.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Mutex<Option<io::Error>>>);

impl Refusal {
    /// Takes it out.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        result.inspect_err(|error| {
            // Those say that the file is cut short, or none of the library's own.
            if !matches!(error.kind(), InvalidData | UnexpectedEof) {
                let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| copy(error));
            }
        })
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A storage, and where its refusals are noted.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) storage: S,
    pub(super) refusal: Refusal,
}

impl<S: StorageBackend> StorageBackend for Watched<S> {
    fn len(&self) -> io::Result<u64> {
        self.refusal.note(self.storage.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.refusal.note(self.storage.read(offset, out))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refusal.note(self.storage.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.refusal.note(self.storage.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.refusal.note(self.storage.write(offset, data))
    }
    fn close(&self) -> io::Result<()> {
        self.refusal.note(self.storage.close())
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}
