//! Personal data: sealed wherever they are stored, and gone from everywhere when their subject is forgotten.

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::message::{Envelope, Event};
use crate::store::personal::{KEYS, Personal, PersonalState, Subject};
use crate::store::{
    Commit, CommitError, Expected, Field, LogFilter, Position, Query, Revision, Row, Store, StreamId,
};

use super::{Harness, stream, whole_log, whole_stream};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Happened {
    Named { name: Personal<String>, note: String },
    Gone,
}

impl Event for Happened {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Card {
    id: String,
    names: Vec<Personal<String>>,
}

impl Row for Card {
    const COLLECTION: &'static str = "cards";
    const FIELDS: &'static [Field] = &[Field::text("id")];
}

pub(super) async fn run<H: Harness>(harness: &H) {
    what_is_forgotten_is_gone_from_everywhere(&harness.open("personal-forgotten").await).await;
    a_subject_has_one_key_however_many_write_first(&harness.open("personal-first").await).await;
    who_forgets_and_who_writes_meet_in_one_order(&harness.open("personal-order").await).await;
    a_tenant_forgets_his_own_alone(&harness.open("personal-tenants").await).await;
}

fn subject(name: &str) -> Subject {
    Subject::new(name).expect("a name of the suite's own")
}

fn named(subject: &Subject, name: &str) -> Envelope {
    // A note that looks like a personal value is none.
    let note = "{\"$personal\":{\"of\":\"a\",\"sealed\":\"AAAA\"}}".to_owned();
    let event = Happened::Named { name: Personal::new(subject, name.to_owned()), note };
    Envelope::new("thing", &event).expect("an event of the suite's own")
}

fn name_of(envelope: &Envelope) -> Personal<String> {
    match envelope.decode().expect("what was written") {
        Happened::Named { name, .. } => name,
        Happened::Gone => panic!("nobody is gone"),
    }
}

/// What stands in the store, as an engine keeps it.
async fn at_rest(store: &Store) -> String {
    let sealed = store.sealed();
    let events = whole_log(&sealed).await.into_iter().map(|event| event.envelope.data);
    let records = sealed.list_records("cards", Query::all()).await.expect("readable").records;
    let records = records.into_iter().map(|record| record.value);
    let texts = events.chain(records).map(|text| String::from_utf8_lossy(&text).into_owned());
    texts.collect::<Vec<_>>().join("\n")
}

async fn what_is_forgotten_is_gone_from_everywhere(store: &Store) {
    let (ada, bob) = (subject("ada"), subject("bob"));
    store.define::<Card>().await.expect("defined");
    let card = Card {
        id: "1".into(),
        names: vec![Personal::new(&ada, "Ada".into()), Personal::new(&bob, "Bob".into())],
    };
    let written = Commit::new()
        .append(stream(1), Expected::NoStream, [named(&ada, "Ada"), named(&bob, "Bob").public()])
        .put_expecting("c", &card, Revision::Absent, Some(crate::message::Timestamp::UNIX_EPOCH));
    store.commit(written).await.expect("committed");

    let stored = at_rest(store).await;
    // Without the quotes a name may stand in a sealed value by chance.
    assert!(!stored.contains("\"Ada\"") && !stored.contains("\"Bob\""), "nothing stands in plain: {stored}");
    let moved = store.engine().archive(vec![stream(1)], 10).await.expect("archived");
    assert_eq!((moved.events, at_rest(store).await), (1, stored), "sealed values move as they lie");
    let names = |events: &[crate::store::Recorded]| {
        events.iter().map(|event| name_of(&event.envelope).into_value()).collect::<Vec<_>>()
    };
    let both = [Some("Ada".to_owned()), Some("Bob".to_owned())];
    assert_eq!(names(&whole_stream(store, &stream(1)).await), both, "a stream is read in plain");
    assert_eq!(names(&whole_log(store).await), both, "and so is the log");
    let page = store.read_log(Position::START, &LogFilter::public(), 9).await.expect("readable");
    assert_eq!(names(&page.events), both[1..], "or a part of it");
    assert_eq!(store.get::<Card>("c").await.expect("readable").as_ref(), Some(&card), "and a row");
    let rows = store.get_records("cards", vec!["none".into(), "c".into()]).await.expect("readable");
    let rows: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.decode::<Card>().ok())).collect();
    assert_eq!(rows, [None, Some(Some(card))], "and rows");
    let found = store.list::<Card>(Query::all().and("id", "1")).await.expect("readable").records;
    assert_eq!(found[0].decode::<Card>().expect("a card").names[0].get().map(String::as_str), Some("Ada"));

    let gone = Envelope::new("thing", &Happened::Gone).expect("an event");
    let stale = store.get::<Card>("c").await.expect("readable").expect("there");
    let forget = Commit::new().append(stream(2), Expected::NoStream, [gone]);
    store.forget(&ada, forget).await.expect("forgotten");
    assert_eq!(
        whole_stream(store, &stream(2)).await.len(),
        1,
        "the commit that forgets says what it is to say"
    );
    for events in [whole_stream(store, &stream(1)).await, whole_log(store).await] {
        let name = name_of(&events[0].envelope);
        assert_eq!((name.state(), name.subject()), (PersonalState::Forgotten, Some(&ada)));
        assert_eq!(name_of(&events[1].envelope).get().map(String::as_str), Some("Bob"), "nobody else is");
    }
    let due = store.due::<Card>(crate::message::Timestamp::UNIX_EPOCH, 1).await.expect("readable");
    for card in
        [store.get::<Card>("c").await.expect("readable").expect("there"), due[0].decode().expect("a card")]
    {
        assert_eq!(card.names[0].state(), PersonalState::Forgotten);
        assert_eq!(card.names[1].get().map(String::as_str), Some("Bob"));
    }

    let new = Commit::new().append(stream(3), Expected::NoStream, [named(&ada, "Ada again")]);
    let refused = store.commit(new).await;
    assert!(
        matches!(refused, Err(CommitError::Forgotten(subject)) if subject == ada),
        "nothing new is written"
    );
    store.commit(Commit::new().put("d", &stale)).await.expect("what was read before is written as forgotten");
    let late = store.get::<Card>("d").await.expect("readable").expect("there");
    assert_eq!(late.names[0].state(), PersonalState::Forgotten);
    store.forget(&ada, Commit::new()).await.expect("forgetting twice changes nothing");
    store
        .forget(&subject("nobody"), Commit::new())
        .await
        .expect("nor does it matter that nothing was written");
    assert_eq!(store.forgotten(None).await.expect("readable").0, [ada, subject("nobody")]);
}

async fn a_subject_has_one_key_however_many_write_first(store: &Store) {
    let ada = subject("ada");
    let write = |n: usize| {
        let (store, ada) = (store.clone(), ada.clone());
        async move {
            let stream = StreamId::new("thing", n).expect("a name");
            let event = named(&ada, &format!("Ada {n}"));
            store.commit(Commit::new().append(stream, Expected::NoStream, [event])).await.expect("committed");
        }
    };
    join_all((0..50).map(write)).await;
    let keys = store.list_records(KEYS, Query::all()).await.expect("readable").records;
    assert_eq!(keys.len(), 1, "one subject, one key");
    let log = whole_log(store).await;
    assert_eq!(log.len(), 50);
    for event in log {
        let name = name_of(&event.envelope).into_value();
        assert_eq!(name, Some(format!("Ada {}", event.stream.key())), "all of it can be read");
    }
}

/// Whatever is committed before a subject is forgotten is forgotten, and nothing of it is committed behind.
async fn who_forgets_and_who_writes_meet_in_one_order(store: &Store) {
    let ada = subject("ada");
    let write = |n: usize| {
        let (store, ada) = (store.clone(), ada.clone());
        async move {
            let stream = StreamId::new("thing", n).expect("a name");
            let event = named(&ada, &format!("Ada {n}"));
            match store.commit(Commit::new().append(stream, Expected::NoStream, [event])).await {
                Ok(committed) => Some(committed.position),
                Err(CommitError::Forgotten(_)) => None,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let forget = async {
        let gone = Envelope::new("thing", &Happened::Gone).expect("an event");
        let commit = Commit::new().append(stream("gone"), Expected::NoStream, [gone]);
        store.forget(&ada, commit).await.expect("forgotten").position
    };
    let (before, forgotten, after) =
        futures_util::join!(join_all((0..20).map(write)), forget, join_all((20..40).map(write)));
    for position in before.into_iter().chain(after).flatten() {
        assert!(position < forgotten, "{position} is behind {forgotten}");
    }
    for event in whole_log(store).await.iter().filter(|event| event.position != forgotten) {
        assert_eq!(name_of(&event.envelope).state(), PersonalState::Forgotten);
    }
}

/// Two tenants may call somebody by the same name, and mean two.
async fn a_tenant_forgets_his_own_alone(store: &Store) {
    let ada = subject("ada");
    let (acme, other) = (store.tenant("acme").expect("a name"), store.tenant("other").expect("a name"));
    store.define::<Card>().await.expect("defined");
    let card = || Card { id: "1".into(), names: vec![Personal::new(&ada, "Ada".to_owned())] };
    for tenant in [&acme, &other] {
        let written =
            Commit::new().append(stream(1), Expected::NoStream, [named(&ada, "Ada")]).put("c", &card());
        tenant.commit(written).await.expect("committed");
        assert_eq!(tenant.get::<Card>("c").await.expect("readable"), Some(card()));
    }
    acme.forget(&ada, Commit::new()).await.expect("forgotten");
    let all = whole_log(store).await.into_iter().map(|event| name_of(&event.envelope));
    let states: Vec<_> = all.map(|name| (name.subject().map(ToString::to_string), name.state())).collect();
    let expected = [("acme~ada", PersonalState::Forgotten), ("other~ada", PersonalState::Open)];
    assert_eq!(states, expected.map(|(name, state)| (Some(name.to_owned()), state)), "the store sees both");
    for (tenant, state) in [(&acme, PersonalState::Forgotten), (&other, PersonalState::Open)] {
        let read = tenant.read_stream(&stream(1), 1, 1).await.expect("readable");
        let name = name_of(&read[0].envelope);
        assert_eq!((name.subject(), name.state()), (Some(&ada), state));
        let row = tenant.get::<Card>("c").await.expect("readable").expect("there");
        assert_eq!((row.names[0].subject(), row.names[0].state()), (Some(&ada), state));
    }
    let new = |n: u64| Commit::new().append(stream(n), Expected::NoStream, [named(&ada, "Ada")]);
    assert!(matches!(acme.commit(new(2)).await, Err(CommitError::Forgotten(subject)) if subject == ada));
    other.commit(new(2)).await.expect("another's subject is not forgotten");
    assert_eq!(acme.forgotten(None).await.expect("readable").0, [ada]);
    assert_eq!(other.forgotten(None).await.expect("readable").0, []);
}
