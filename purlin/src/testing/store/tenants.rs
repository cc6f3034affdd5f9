//! What one tenant does, another neither sees nor meets.

use crate::message::Timestamp;
use crate::store::{
    Commit, CommitError, Conflict, EventQuery, Expected, LogFilter, Position, Query, Revision, Store,
    StreamId,
};

use super::{Harness, Note, event, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    tenants_are_apart(&harness.open("tenants").await).await;
    a_name_that_is_none_is_refused(&harness.open("names").await).await;
}

async fn tenants_are_apart(store: &Store) {
    store.define::<Note>().await.expect("a collection can be defined");
    // One name begins with the other, and a third store is the one without a tenant.
    let tenants = [store.tenant("acme").expect("a name"), store.tenant("acme2").expect("a name")];
    let due = Timestamp::from_second(5).expect("a time");
    let commit = |n: i64| {
        let events = [event(n.unsigned_abs()).public().tagged(["name:ada"])];
        Commit::new()
            .append(stream(1), Expected::NoStream, events)
            .put_expecting("one", &Note::new("mine", n), Revision::Absent, Some(due))
            .unless(EventQuery::tagged(["name:ada"]), store.head())
    };
    for (n, tenant) in tenants.iter().enumerate() {
        // The same stream, key and tag, and a condition that another's event would break.
        let free = Commit::new().unless(EventQuery::tagged(["name:ada"]), Position::START);
        tenant.commit(free).await.expect("another's tags are not seen");
        tenant.commit(commit(n.try_into().expect("small"))).await.expect("there is nothing of its own");
        let again = tenant.commit(commit(9)).await;
        match again {
            Err(CommitError::Conflict(Conflict::Stream { stream: of, .. })) => assert_eq!(of, stream(1)),
            Err(CommitError::Conflict(Conflict::Record { key, .. })) => assert_eq!(key, "one"),
            other => panic!("{other:?}"),
        }
    }
    for (n, tenant) in tenants.iter().enumerate() {
        let mine = tenant.read_stream(&stream(1), 1, 10).await.expect("readable");
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0].stream, stream(1));
        assert_eq!(mine[0].envelope.tags.iter().collect::<Vec<_>>(), ["name:ada"]);
        assert_eq!(tenant.read_stream_back(&stream(1), u64::MAX, 10).await.expect("readable"), mine);
        for filter in [
            LogFilter::all(),
            LogFilter::public(),
            LogFilter::category("thing"),
            LogFilter::tagged(["name:ada"]),
            LogFilter::kinds(["thing.counted"]),
        ] {
            let page = tenant.read_log(Position::START, &filter, 10).await.expect("readable");
            assert_eq!(page.events, mine, "{filter:?}");
        }
        for other in ["acme", "acme2"] {
            let filter = LogFilter { tenant: Some(other.into()), ..LogFilter::all() };
            let page = tenant.read_log(Position::START, &filter, 10).await.expect("readable");
            assert!(page.events.is_empty(), "a tenant's tenant, of which there is none");
        }
        let number = i64::try_from(n).expect("small");
        let mine = Some(Note::new("mine", number));
        assert_eq!(tenant.get::<Note>("one").await.expect("readable"), mine);
        let rows = tenant.get_records("notes", vec!["none".into(), "one".into()]).await.expect("readable");
        assert_eq!((rows[0].as_ref(), rows[1].as_ref().map(|row| &*row.key)), (None, Some("one")));
        assert_eq!(rows[1].as_ref().and_then(|row| row.decode().ok()), mine);
        for query in [
            Query::all(),
            Query::all().prefix("o"),
            Query::all().and("text", "mine"),
            Query::all().descending(),
        ] {
            let page = tenant.list::<Note>(query).await.expect("readable");
            let keys: Vec<_> = page.records.iter().map(|record| record.key.as_str()).collect();
            assert_eq!(keys, ["one"]);
        }
        let due = tenant.due::<Note>(due, 10).await.expect("readable");
        assert_eq!(due.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(), ["one"]);
    }
    // Each follows what is his, past what is another's.
    for tenant in &tenants {
        let mut follower = tenant.subscribe(Position::START, LogFilter::all()).expect("a filter");
        while follower.position() < store.head() {
            follower.page(1).await.expect("readable");
        }
        for (n, writer) in tenants.iter().cycle().take(6).enumerate() {
            let append = Commit::new().append(stream("followed"), Expected::Any, [event(n as u64)]);
            writer.commit(append).await.expect("an append");
        }
        for _ in 0..3 {
            let next = follower.next().await.expect("readable");
            assert_eq!(next.stream, stream("followed"));
        }
        let seen = follower.position();
        assert!(tenant.read_log(seen, &LogFilter::all(), 10).await.expect("readable").events.is_empty());
    }
    a_tenant_of_a_tenant_sees_his_own(&tenants[0]).await;
    // Deleting one's own leaves the other's.
    tenants[0].commit(Commit::new().delete::<Note>("one", Revision::Any)).await.expect("deleted");
    assert!(tenants[0].get::<Note>("one").await.expect("readable").is_none());
    assert!(tenants[1].get::<Note>("one").await.expect("readable").is_some());
    assert!(
        tenants[1].swap("notes", "other").await.is_err()
            && tenants[1].drop_collection("notes").await.is_err()
    );
    assert!(store.read_stream(&stream(1), 1, 10).await.expect("readable").is_empty(), "it is nobody's");
    let log = super::whole_log(store).await;
    let whose: Vec<_> = log.iter().map(|event| event.stream.tenant()).collect();
    assert_eq!(whose[..2], [Some("acme"), Some("acme2")]);
    assert!(whose.iter().all(Option::is_some));
}

async fn a_tenant_of_a_tenant_sees_his_own(tenant: &Store) {
    let inner = tenant.tenant("x").expect("a name");
    let append = Commit::new().append(stream("inner"), Expected::NoStream, [event(1).tagged(["inner"])]);
    inner.commit(append).await.expect("an append");
    for filter in [LogFilter::all(), LogFilter::category("thing"), LogFilter::tagged(["inner"])] {
        let page = inner.read_log(Position::START, &filter, 100).await.expect("readable");
        let streams: Vec<_> = page.events.iter().map(|event| event.stream.clone()).collect();
        assert_eq!(streams, [stream("inner")], "nothing of the tenant that it is part of: {filter:?}");
    }
    assert!(tenant.read_stream(&stream("inner"), 1, 1).await.expect("readable").is_empty());
}

async fn a_name_that_is_none_is_refused(store: &Store) {
    for name in ["", "A", "a~b", "a-b", "a b", &"x".repeat(49)] {
        assert!(store.tenant(name).is_err(), "{name:?}");
    }
    let tenant = store.tenant("acme").expect("a name");
    let long = StreamId::new("thing", "x".repeat(StreamId::MAX_LEN - 8)).expect("a name");
    let refused = tenant.commit(Commit::new().append(long.clone(), Expected::Any, [event(1)])).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    assert!(tenant.read_stream(&long, 1, 1).await.expect("there is none").is_empty());
}
