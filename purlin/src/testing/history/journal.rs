//! Where operations are written down as they begin and end.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::{Answer, Ask, Entry, History, operation};

/// Writes down what the clients of one process ask and hear. Clones write the same history.
///
/// In a file the history outlives the process, and several processes may write it: an entry is one write at the file's
/// end, so that the order of the lines is that of what happened.
#[derive(Clone)]
pub struct Journal {
    process: u32,
    count: Arc<AtomicU32>,
    sink: Sink,
}

#[derive(Clone)]
enum Sink {
    Memory(Arc<Mutex<Vec<Entry>>>),
    File(Arc<File>),
}

impl Journal {
    /// A journal in memory.
    pub fn memory() -> Self {
        Self::of(1, Sink::Memory(Arc::default()))
    }

    /// The journal of a process in a file that others may write to as well. No two processes of a history have the same
    /// number; one that was started again is another.
    pub fn file(file: &Path, process: u32) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(file)?;
        Ok(Self::of(process, Sink::File(Arc::new(file))))
    }

    fn of(process: u32, sink: Sink) -> Self {
        Self { process, count: Arc::default(), sink }
    }

    /// The number of the process.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// How many operations were begun.
    pub fn begun(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Writes down that a client is about to ask, and numbers the operation; no number is 0.
    pub(super) fn asked(&self, ask: Ask) -> u64 {
        let number = operation(self.process, self.count.fetch_add(1, Ordering::AcqRel) + 1);
        self.write(Entry::Asked(number, ask));
        number
    }

    /// Writes down what it heard.
    pub(super) fn answered(&self, number: u64, answer: Answer) {
        self.write(Entry::Answered(number, answer));
    }

    /// Writes down that all that a process asked is over: it is gone, and nothing of it is on its way any more.
    pub fn gone(&self, process: u32) {
        self.write(Entry::Gone(process));
    }

    /// Writes an entry.
    pub(super) fn write(&self, entry: Entry) {
        match &self.sink {
            Sink::Memory(entries) => entries.lock().expect("no panic holds the entries").push(entry),
            Sink::File(file) => {
                let mut file: &File = file;
                file.write_all(entry.line().as_bytes()).expect("the journal can be written");
            }
        }
    }

    /// What a journal in memory holds; nothing of one in a file ([`History::read`]).
    pub fn history(&self) -> History {
        match &self.sink {
            Sink::Memory(entries) => History(entries.lock().expect("no panic holds the entries").clone()),
            Sink::File(_) => History::default(),
        }
    }
}
