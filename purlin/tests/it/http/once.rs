//! Steps and their undoing under one key.

use bytes::Bytes;
use purlin::http::idempotency::{Done, Idempotency, Key, OnceError};
use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::store::{Commit, Expected, Store, StreamId};
use tokio::sync::Notify;

#[derive(Debug, thiserror::Error)]
#[error("the card was {0:?}")]
struct Trouble(FaultKind);

impl Fault for Trouble {
    fn kind(&self) -> FaultKind {
        self.0
    }
    fn code(&self) -> &str {
        "card"
    }
}

fn key(content: &[u8]) -> Key<'_> {
    Key { caller: "saga", key: "4711/reserve", content }
}

fn done(what: &str, answer: &'static str) -> Result<Done, Trouble> {
    let stream = StreamId::new("hold", "4711").unwrap();
    let commit = Commit::new().append(stream, Expected::Any, [Envelope::raw(what, "{}")]);
    Ok(Done { commit, answer: Bytes::from_static(answer.as_bytes()) })
}

async fn history(store: &Store) -> Vec<String> {
    let events = store.read_stream(&StreamId::new("hold", "4711").unwrap(), 1, 100).await.unwrap();
    events.iter().map(|event| event.envelope.kind.to_string()).collect()
}

#[tokio::test]
async fn a_step_is_done_once_and_undone_once() {
    let store = Store::memory();
    let idempotency = Idempotency::new(&store, Clock::system());
    for replayed in [false, true] {
        let once = idempotency.once(key(b"2 items"), async |_| done("hold.reserved", "h1")).await.unwrap();
        assert_eq!((&*once.answer, once.replayed), (&b"h1"[..], replayed));
        assert_eq!(once.position.0, 1);
    }
    let other = idempotency.once(key(b"3 items"), async |_| done("hold.reserved", "h1")).await;
    assert!(matches!(other, Err(OnceError::Reused)));
    for replayed in [false, true] {
        let undo = async |_, answer: Option<Bytes>| {
            assert_eq!(answer.as_deref(), Some(&b"h1"[..]));
            done("hold.released", "")
        };
        assert_eq!(idempotency.undo(key(b""), undo).await.unwrap().replayed, replayed);
    }
    let late = idempotency.once(key(b"2 items"), async |_| done("hold.reserved", "h1")).await;
    assert!(matches!(late, Err(OnceError::Undone)));
    assert_eq!(history(&store).await, ["hold.reserved", "hold.released"]);
}

#[tokio::test]
async fn a_step_that_arrives_after_its_undoing_is_refused() {
    let store = Store::memory();
    let idempotency = Idempotency::new(&store, Clock::system());
    let undo = async |_, answer: Option<Bytes>| {
        assert_eq!(answer, None);
        Ok::<_, Trouble>(Done::default())
    };
    idempotency.undo(key(b""), undo).await.unwrap();
    let late = idempotency.once(key(b"2 items"), async |_| done("hold.reserved", "h1")).await.unwrap_err();
    assert_eq!((late.kind(), late.code()), (FaultKind::Conflict, "undone"));
    assert!(history(&store).await.is_empty());
}

#[tokio::test]
async fn a_step_that_is_under_way_cannot_commit_once_it_is_taken_back() {
    let store = Store::memory();
    let idempotency = Idempotency::new(&store, Clock::system());
    let (started, go) = (Notify::new(), Notify::new());
    let step = idempotency.once(key(b"2 items"), async |_| {
        started.notify_one();
        go.notified().await;
        done("hold.reserved", "h1")
    });
    let undo = async {
        started.notified().await;
        let undone = idempotency.undo(key(b""), async |_, _| Ok::<_, Trouble>(Done::default())).await;
        go.notify_one();
        undone
    };
    let (step, undone) = tokio::join!(step, undo);
    undone.unwrap();
    assert!(matches!(step, Err(OnceError::Undone)));
    assert!(history(&store).await.is_empty());
}

#[tokio::test]
async fn a_refusal_is_kept_and_trouble_is_not() {
    for kind in [
        FaultKind::Conflict,
        FaultKind::NotFound,
        FaultKind::Rejected,
        FaultKind::Unavailable,
        FaultKind::Bug,
    ] {
        let idempotency = Idempotency::new(&Store::memory(), Clock::system());
        let first = idempotency.once(key(b""), async |_| Err::<Done, _>(Trouble(kind))).await.unwrap_err();
        assert_eq!(
            (first.kind(), first.code(), first.to_string()),
            (kind, "card", format!("the card was {kind:?}"))
        );
        let second = idempotency.once(key(b""), async |_| done("hold.reserved", "h1")).await;
        match kind {
            FaultKind::Unavailable | FaultKind::Bug => assert!(!second.unwrap().replayed),
            _ => assert_eq!(second.unwrap_err().to_string(), first.to_string()),
        }
    }
}

#[tokio::test]
async fn an_undoing_that_fails_goes_on_later_and_forbids_the_step_meanwhile() {
    let store = Store::memory();
    let idempotency = Idempotency::new(&store, Clock::system());
    idempotency.once(key(b""), async |_| done("hold.reserved", "h1")).await.unwrap();
    let failed = idempotency.undo(key(b""), async |_, _| Err(Trouble(FaultKind::Unavailable))).await;
    assert!(matches!(failed, Err(OnceError::Failed(_))));
    let step = idempotency.once(key(b""), async |_| done("hold.reserved", "h1")).await;
    assert!(matches!(step, Err(OnceError::Undone)));
    let undo = async |_, answer: Option<Bytes>| {
        assert_eq!(answer.as_deref(), Some(&b"h1"[..]), "the answer is still known");
        done("hold.released", "")
    };
    idempotency.undo(key(b""), undo).await.unwrap();
    assert_eq!(history(&store).await, ["hold.reserved", "hold.released"]);
}
