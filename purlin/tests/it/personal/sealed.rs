//! What is sealed: wherever it stands, and whatever stands around it.

use proptest::prelude::*;
use purlin::aggregate::Repository;
use purlin::message::Envelope;
use purlin::projection::View;
use purlin::store::personal::{KEYS, MasterKey, Personal, PersonalState};
use purlin::store::{Commit, CommitError, Expected, Field, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Greetings, Heard, User, ada, registered};

#[tokio::test]
async fn data_from_outside_that_look_personal_stay_what_they_are() {
    let store = Store::memory();
    registered(&store).await;
    let event = store.sealed().read_stream(&StreamId::new("user", 1).unwrap(), 1, 1).await.unwrap().remove(0);
    // Somebody has seen how a name is stored, and writes the same as his own: into another stream, and a row.
    let stolen: Value = serde_json::from_slice(&event.envelope.data).unwrap();
    assert!(stolen["name"]["$personal"]["sealed"].is_string(), "{stolen}");
    let mine = StreamId::new("user", 2).unwrap();
    let data = stolen.to_string();
    let forged =
        Commit::new().append(mine.clone(), Expected::NoStream, [Envelope::raw("user.registered", data)]);
    store.define::<Heard>().await.unwrap();
    store
        .commit(forged.put_in(&Heard::collection(), "1", &stolen, purlin::store::Revision::Any, None))
        .await
        .unwrap();
    let read = store.read_stream(&mine, 1, 1).await.unwrap().remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&read.envelope.data).unwrap(), stolen, "it is kept as it is");
    let name = Repository::<User>::new(&store).load(2).await.unwrap().name.clone().unwrap();
    assert_eq!((name.get(), name.state()), (None, PersonalState::Sealed), "and is not opened for him");
    assert_eq!(store.get::<Heard>("1").await.unwrap().unwrap().name.get(), None);
    // Nor when it is put where it was, but elsewhere: by who writes to the store itself.
    let moved = Commit::new().append(StreamId::new("user", 3).unwrap(), Expected::NoStream, [event.envelope]);
    store.sealed().commit(moved).await.unwrap();
    let name = Repository::<User>::new(&store).load(3).await.unwrap().name.clone().unwrap();
    assert_eq!(name.get(), None, "a value is bound to its place");
}

#[tokio::test]
async fn what_cannot_be_personal_is_refused_and_said_why() {
    #[derive(Serialize, Deserialize)]
    struct Indexed {
        email: Personal<String>,
    }
    impl Row for Indexed {
        const COLLECTION: &'static str = "indexed";
        const FIELDS: &'static [Field] = &[Field::text("email")];
    }
    let store = Store::memory();
    store.define::<Indexed>().await.unwrap();
    let row = Indexed { email: Personal::new(&ada(), "ada@example.org".into()) };
    let nested = Personal::new(&ada(), Personal::new(&ada(), "Ada"));
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        name: Personal<String>,
        other: u8,
    }
    let flat = Flat { name: Personal::new(&ada(), "Ada".into()), other: 1 };
    fn put<T: Serialize>(value: &T) -> Commit {
        Commit::new().put_in(&Heard::collection(), "1", value, purlin::store::Revision::Any, None)
    }
    store.define::<Heard>().await.unwrap();
    // It came in a request, and nobody has said whom it is about.
    let outside: Heard = serde_json::from_str(r#"{"name":"Ada"}"#).unwrap();
    for (commit, why) in [
        (Commit::new().put("a", &row), "the field `email` of the collection `indexed` is indexed"),
        (put(&outside), "does not say whom it is about"),
        (put(&nested), "a personal value within a personal value"),
        (put(&flat), "cannot be flattened"),
    ] {
        let refused = store.commit(commit).await.unwrap_err();
        assert!(
            matches!(&refused, CommitError::Invalid(_)) && refused.to_string().contains(why),
            "{refused}"
        );
    }
    let forget = store.sealed().forget(&ada(), Commit::new()).await;
    assert!(matches!(forget, Err(CommitError::Invalid(_))));
    let plain = store.sealed().commit(put(&Heard { name: Personal::new(&ada(), "Ada".into()) })).await;
    assert!(matches!(plain, Err(CommitError::Invalid(_))), "it would stand there in plain");
    let (name, other) = (KEYS, "heard");
    for refused in [
        store.drop_collection(name).await,
        store.swap(name, other).await,
        store.swap(other, name).await,
        store.tenant("acme").unwrap().drop_collection(name).await,
        store.sealed().drop_collection(name).await,
    ] {
        assert!(matches!(&refused, Err(CommitError::Invalid(why)) if why.contains("keys of")), "{refused:?}");
    }
    let inline = View::new(Greetings::<1>, &store).inline();
    for past in [inline.sealed(), inline.clone().with_master_key(MasterKey::new(&[1; 32]))] {
        let refused = past.commit(Commit::new().put("1", &Heard { name: Personal::bare("x".into()) })).await;
        assert!(
            matches!(&refused, Err(CommitError::Invalid(why)) if why.contains("passes by")),
            "{refused:?}"
        );
    }
    let both = put(&Heard { name: Personal::new(&ada(), "Ada".into()) }).forget(&ada());
    assert!(
        matches!(store.commit(both).await, Err(CommitError::Forgotten(_))),
        "not in the commit that forgets"
    );
}

/// Any JSON, with names that a store could take for its own.
fn outside() -> impl Strategy<Value = Value> {
    let word =
        || prop_oneof![Just("$personal".to_owned()), Just("$$personal".to_owned()), "[a-z$\"\\\\]{0,5}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
        word().prop_map(|of| json!({ "$personal": { "of": of, "sealed": "AAAA" } })),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mixed {
    before: Value,
    names: Vec<Personal<Value>>,
    after: Value,
}

impl Row for Mixed {
    const COLLECTION: &'static str = "mixed";
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_stands_around_a_personal_value_is_read_back_as_it_was(
        before in outside(), inside in proptest::collection::vec(outside(), 0..3), after in outside()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = Store::memory();
            store.define::<Mixed>().await.unwrap();
            let names: Vec<_> = inside.iter().map(|value| Personal::new(&ada(), value.clone())).collect();
            let mixed = Mixed { before, names, after };
            store.commit(Commit::new().put("1", &mixed)).await.unwrap();
            let read = async || store.get::<Mixed>("1").await.unwrap().unwrap();
            assert_eq!(read().await, mixed);
            store.forget(&ada(), Commit::new()).await.unwrap();
            let forgotten = read().await;
            assert_eq!((forgotten.before, forgotten.after), (mixed.before, mixed.after));
            assert!(forgotten.names.iter().all(|name| name.state() == PersonalState::Forgotten));
        });
    }
}
