//! Events of a stream on their way up from an engine, however it cuts them into pages.

use super::{Engine, Limits, ReadError, Recorded, StreamId};

/// Whether there may be more behind a page that has fewer events than were asked for: an engine cuts it only because it
/// is large.
pub(super) fn is_cut(page: &[Recorded]) -> bool {
    page.iter().map(|event| event.envelope.data.len()).sum::<usize>() >= Limits::PAGE
}

/// Events of a stream, read from an engine in its pages by whoever makes other events of them, or wants them all.
///
/// Each page is taken from [`Reading::next`] and given back to [`Reading::add`], changed or not. What has become less than
/// a page by that would look like the end of the stream to whoever is above: there is a next page until it has not, or
/// the engine has no more.
pub(super) struct Reading<'e> {
    engine: &'e dyn Engine,
    stream: StreamId,
    is_backwards: bool,
    /// The version that comes next; backwards, the one behind it.
    at: u64,
    /// How many events are still wanted.
    limit: usize,
    /// Whether the engine has more, as far as its last page tells.
    more: bool,
    events: Vec<Recorded>,
}

impl<'e> Reading<'e> {
    /// As [`Engine::read_stream`].
    pub(super) fn forwards(engine: &'e dyn Engine, stream: StreamId, from: u64, limit: usize) -> Self {
        let (at, events) = (from.max(1), Vec::new());
        Self { engine, stream, is_backwards: false, at, limit, more: true, events }
    }

    /// As [`Engine::read_stream_back`].
    pub(super) fn backwards(engine: &'e dyn Engine, stream: StreamId, before: u64, limit: usize) -> Self {
        Self { is_backwards: true, at: before, ..Self::forwards(engine, stream, 0, limit) }
    }

    /// The engine's next page, as long as what was added would be taken for all there is.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Recorded>>, ReadError> {
        if is_cut(&self.events) { Ok(None) } else { self.page().await }
    }

    /// Adds what was made of a page.
    pub(super) fn add(&mut self, page: Vec<Recorded>) {
        if self.events.is_empty() { self.events = page } else { self.events.extend(page) }
    }

    /// What was added: a page as an engine gives it.
    pub(super) fn finish(self) -> Vec<Recorded> {
        self.events
    }

    /// All that is wanted, as the engine has it.
    pub(super) async fn all(mut self) -> Result<Vec<Recorded>, ReadError> {
        while let Some(page) = self.page().await? {
            self.add(page);
        }
        Ok(self.events)
    }

    /// The engine's next page, if it has more.
    async fn page(&mut self) -> Result<Option<Vec<Recorded>>, ReadError> {
        if !self.more {
            return Ok(None);
        }
        let (stream, at, limit) = (self.stream.clone(), self.at, self.limit);
        let page = match self.is_backwards {
            false => self.engine.read_stream(stream, at, limit).await?,
            true => self.engine.read_stream_back(stream, at, limit).await?,
        };
        self.limit -= page.len().min(limit);
        self.more = self.limit > 0 && is_cut(&page);
        if let Some(last) = page.last() {
            self.at = if self.is_backwards { last.version } else { last.version + 1 };
        }
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::message::{Envelope, Event};
    use crate::store::memory::Memory;
    use crate::store::personal::{Personal, Subject};
    use crate::store::{BoxFuture, Commit, Expected, Layer, Store};

    /// An engine that gives no more than it has to.
    struct Cutting(Memory);

    fn cut(mut events: Vec<Recorded>) -> Vec<Recorded> {
        let mut bytes = 0;
        let whole = events.iter().take_while(|event| {
            let before = bytes;
            bytes += event.envelope.data.len();
            before < Limits::PAGE
        });
        events.truncate(whole.count());
        events
    }

    impl Layer for Cutting {
        fn inner(&self) -> &dyn Engine {
            &self.0
        }

        fn read_stream(
            &self,
            stream: StreamId,
            from: u64,
            limit: usize,
        ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
            Box::pin(async move { Ok(cut(self.0.read_stream(stream, from, limit).await?)) })
        }

        fn read_stream_back(
            &self,
            stream: StreamId,
            before: u64,
            limit: usize,
        ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
            Box::pin(async move { Ok(cut(self.0.read_stream_back(stream, before, limit).await?)) })
        }
    }

    const EVENTS: usize = 4500;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum UserEvent {
        Named { name: Personal<String>, text: String },
    }

    impl Event for UserEvent {}

    /// More than two pages of events in one stream; what of each is personal has so many bytes.
    async fn append(store: &Store, stream: &StreamId, personal: usize) {
        let ada = Subject::new("ada").unwrap();
        let event = || UserEvent::Named {
            name: Personal::new(&ada, "a".repeat(personal)),
            text: "b".repeat(4000 - personal),
        };
        for _ in 0..EVENTS / 500 {
            let events = (0..500).map(|_| Envelope::new("user", &event()).unwrap());
            store.commit(Commit::new().append(stream.clone(), Expected::Any, events)).await.unwrap();
        }
    }

    fn versions(events: &[Recorded]) -> Vec<u64> {
        events.iter().map(|event| event.version).collect()
    }

    /// Whether all events come, and no page but the last is taken for it.
    async fn check(store: &Store, stream: &StreamId) {
        let there: Vec<u64> = (1..=EVENTS as u64).collect();
        let back: Vec<u64> = there.iter().rev().copied().collect();
        let events = store.read_stream(stream, 1, usize::MAX).await.unwrap();
        assert!(versions(&events) == there, "{} events", events.len());
        let events = store.read_stream_back(stream, u64::MAX, usize::MAX).await.unwrap();
        assert!(versions(&events) == back, "{} events backwards", events.len());
        for is_backwards in [false, true] {
            let (mut found, mut pages, mut more) = (Vec::new(), 0, true);
            while more {
                let page = match (is_backwards, found.last()) {
                    (false, last) => {
                        store.read_stream_page(stream, last.map_or(1, |last| last + 1), usize::MAX).await
                    }
                    (true, last) => {
                        store
                            .read_stream_back_page(stream, last.copied().unwrap_or(u64::MAX), usize::MAX)
                            .await
                    }
                };
                let (events, others) = page.unwrap();
                found.extend(versions(&events));
                (pages, more) = (pages + 1, others);
            }
            let all = if is_backwards { &back } else { &there };
            assert!(pages > 1 && found == *all, "{} events in {pages} pages", found.len());
        }
    }

    #[tokio::test]
    async fn no_page_is_taken_for_the_last_one_whatever_data_become_on_their_way() {
        let store = Store::new(Cutting(Memory::new()));
        let acme = store.tenant(&"a".repeat(48)).unwrap();
        let inner = acme.tenant(&"b".repeat(48)).unwrap();
        for (store, personal) in [(&store, 3000), (&acme, 1), (&inner, 2500)] {
            let stream = StreamId::new("user", personal).unwrap();
            append(store, &stream, personal).await;
            check(store, &stream).await;
        }
    }
}
