//! A store whose log is not what was written.

use std::sync::{Arc, Mutex};

use purlin::store::memory::Memory;
use purlin::store::{
    BoxFuture, Engine, Layer, LogFilter, LogPage, Position, ReadError, Recorded, Store, StreamId,
};

/// What is made of the events that the log, or a stream, really has.
type Damage = Box<dyn FnMut(Vec<Recorded>) -> Vec<Recorded> + Send>;

/// A store in memory whose readers see something else.
#[derive(Clone)]
pub(crate) struct Damaged {
    engine: Memory,
    log: Arc<Mutex<Damage>>,
    stream: Arc<Mutex<Damage>>,
    unreadable: Arc<Mutex<Vec<u64>>>,
}

impl Damaged {
    pub(crate) fn new() -> Self {
        let right = || Arc::new(Mutex::new(Box::new(|events| events) as Damage));
        Self { engine: Memory::new(), log: right(), stream: right(), unreadable: Arc::default() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.clone())
    }

    /// From now on the log is read so.
    pub(crate) fn log(&self, damage: impl FnMut(Vec<Recorded>) -> Vec<Recorded> + Send + 'static) {
        *self.log.lock().unwrap() = Box::new(damage);
    }

    /// From now on streams are read so.
    pub(crate) fn stream(&self, damage: impl FnMut(Vec<Recorded>) -> Vec<Recorded> + Send + 'static) {
        *self.stream.lock().unwrap() = Box::new(damage);
    }

    /// The event at this position cannot be read.
    pub(crate) fn unreadable(&self, position: u64) {
        self.unreadable.lock().unwrap().push(position);
    }

    fn look(&self, events: &[Recorded]) -> Result<(), ReadError> {
        let unreadable = self.unreadable.lock().unwrap();
        match events.iter().find(|event| unreadable.contains(&event.position.0)) {
            Some(event) => Err(ReadError::Unreadable {
                what: format!("the event at {}", event.position),
                source: "the checksum is wrong".into(),
            }),
            None => Ok(()),
        }
    }
}

impl Layer for Damaged {
    fn inner(&self) -> &dyn Engine {
        &self.engine
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let events = self.engine.read_stream(stream, from, limit).await?;
            self.look(&events)?;
            Ok((self.stream.lock().unwrap())(events))
        })
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            let mut page = self.engine.read_log(after, filter, limit).await?;
            self.look(&page.events)?;
            page.events = (self.log.lock().unwrap())(page.events);
            Ok(page)
        })
    }
}
