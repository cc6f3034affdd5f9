//! What was read on its way out of the store: every personal value opened, or a placeholder.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::store::{ReadError, Record, Recorded};

use super::cipher::Place;
use super::engine::Personalized;
use super::keys::{Known, Standing};
use super::marker::{self, Body};
use super::scan;

/// So many keys are asked for at once.
const AT_ONCE: usize = 16;

/// Texts that are opened before others have their turn on a thread.
const TURN: usize = 1024;

/// A text that may have personal values, and where it stands.
type Text<'a> = (Place<'a>, &'a mut Bytes);

impl Personalized {
    pub(super) async fn open_events(&self, events: &mut [Recorded]) -> Result<(), ReadError> {
        let concerned = events.iter_mut().filter(|event| marker::may_be_in(&event.envelope.data));
        let texts: Vec<Text<'_>> =
            concerned.map(|event| (Place::Stream(&event.stream), &mut event.envelope.data)).collect();
        self.open(texts).await
    }

    pub(super) async fn open_records(&self, records: &mut [Record]) -> Result<(), ReadError> {
        let concerned = records.iter_mut().filter(|record| marker::may_be_in(&record.value));
        let texts: Vec<Text<'_>> =
            concerned.map(|record| (Place::Record(&record.key), &mut record.value)).collect();
        self.open(texts).await
    }

    async fn open(&self, texts: Vec<Text<'_>>) -> Result<(), ReadError> {
        if texts.is_empty() {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for (n, (_, text)) in texts.iter().enumerate() {
            turn(n).await;
            scan::each_at_rest(text, |body| {
                if body.sealed.is_some() {
                    names.insert(body.of.into_owned());
                }
            });
        }
        let names: Vec<String> = names.into_iter().collect();
        let mut subjects = HashMap::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let known = try_join_all(names.iter().map(|name| self.keys.of(name))).await?;
            subjects.extend(names.iter().map(String::as_str).zip(known));
        }
        for (n, (place, text)) in texts.into_iter().enumerate() {
            turn(n).await;
            *text = scan::to_memory(text, |body| opened(place, body, &subjects)).into();
        }
        Ok(())
    }
}

/// Before a text: lets others have their turn now and then.
async fn turn(n: usize) {
    if n > 0 && n.is_multiple_of(TURN) {
        tokio::task::yield_now().await;
    }
}

/// What can be read of a value here and now.
fn opened(place: Place<'_>, body: Body<'_>, subjects: &HashMap<&str, Known>) -> Body<'static> {
    let subject = body.of.into_owned();
    let of = |subject: String| Body { of: subject.into(), ..Body::default() };
    let Some(sealed) = body.sealed else { return Body { forgotten: true, ..of(subject) } };
    let standing = subjects.get(subject.as_str()).map(|known| &known.standing);
    let plain = match standing {
        Some(Standing::Forgotten) => return Body { forgotten: true, ..of(subject) },
        Some(Standing::Held(key)) => key.open(&subject, place, &sealed),
        // Another store sealed it, or its key cannot be had.
        Some(Standing::New | Standing::Locked(_)) | None => None,
    };
    match plain {
        Some(plain) => Body { plain: Some(plain.into()), stored: true, ..of(subject) },
        None => {
            let (sealed, at) = (sealed.into_owned().into(), place.name().into());
            Body { sealed: Some(sealed), at: Some(at), ..of(subject) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::message::{Envelope, Event};
    use crate::store::personal::{Personal, Subject};
    use crate::store::{Commit, Expected, Store, StreamId};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum UserEvent {
        Named { name: Personal<String> },
    }

    impl Event for UserEvent {}

    #[tokio::test]
    async fn who_opens_many_events_leaves_others_their_turn_and_who_opens_a_few_does_not_wait() {
        let (store, ada) = (Store::memory(), Subject::new("ada").unwrap());
        // They are looked through for whom they are about, then opened.
        for (events, expected) in [(1, 0), (TURN, 0), (TURN + 1, 2), (3 * TURN, 4)] {
            let stream = StreamId::new("user", events).unwrap();
            let named = || UserEvent::Named { name: Personal::new(&ada, "Ada".into()) };
            let named = (0..events).map(|_| Envelope::new("user", &named()).unwrap());
            store.commit(Commit::new().append(stream.clone(), Expected::Any, named)).await.unwrap();
            let (mut read, mut turns) = (pin!(store.read_stream(&stream, 1, 10_000)), 0);
            let read = loop {
                match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(read) => break read.unwrap(),
                    Poll::Pending => turns += 1,
                }
            };
            assert_eq!((read.len(), turns), (events, expected));
            for event in read {
                let UserEvent::Named { name } = event.envelope.decode().unwrap();
                assert_eq!(name.get().map(String::as_str), Some("Ada"));
            }
        }
    }
}
