//! Whoever answers reads lags behind whoever tells where the log ends: nobody asks without a pause, waits for ever, or
//! loses anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use purlin::bus::{Bus, Failure, Message};
use purlin::message::{Clock, Envelope};
use purlin::store::audit::Audit;
use purlin::store::memory::Memory;
use purlin::store::transfer::{self, CompareError, ExportError};
use purlin::store::{
    BoxFuture, Commit, Engine, Expected, Layer, LogFilter, LogPage, Position, ReadError, Store, StreamId,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// An engine whose log cannot be read as far as it goes.
struct Lagging {
    engine: Arc<dyn Engine>,
    answers: Arc<Answers>,
    head: watch::Receiver<Position>,
}

/// Up to where it answers, and how often it was asked.
struct Answers {
    up_to: AtomicU64,
    reads: AtomicUsize,
}

impl Answers {
    fn up_to(position: u64) -> Arc<Self> {
        Arc::new(Self { up_to: position.into(), reads: AtomicUsize::new(0) })
    }

    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }

    fn catch_up(&self) {
        self.up_to.store(u64::MAX, Ordering::Relaxed);
    }
}

impl Lagging {
    fn store(engine: &Arc<dyn Engine>, answers: &Arc<Answers>) -> Store {
        Store::new(Self { engine: Arc::clone(engine), answers: Arc::clone(answers), head: engine.watch() })
    }
}

impl Layer for Lagging {
    fn inner(&self) -> &dyn Engine {
        &*self.engine
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        assert!(self.answers.reads.fetch_add(1, Ordering::Relaxed) < 200, "it is asked without a pause");
        let up_to = Position(self.answers.up_to.load(Ordering::Relaxed));
        Box::pin(async move {
            if up_to == Position::START {
                return Err(ReadError::Unavailable("it is gone".into()));
            }
            let mut page = self.engine.read_log(after, filter, limit).await?;
            page.events.retain(|event| event.position <= up_to);
            page.through = page.through.min(up_to).max(after);
            Ok(page)
        })
    }
}

/// A store with three public events, and the same where they can be read up to a position only.
async fn lagging(up_to: u64) -> (Store, Store, Arc<Answers>) {
    let (engine, answers) = (memory(), Answers::up_to(up_to));
    let store = Lagging::store(&engine, &Answers::up_to(u64::MAX));
    append(&store, 3).await;
    (store, Lagging::store(&engine, &answers), answers)
}

fn memory() -> Arc<dyn Engine> {
    Arc::new(Memory::new())
}

async fn append(store: &Store, count: usize) {
    for _ in 0..count {
        let event = Envelope::raw("thing.counted", "1").public();
        let stream = StreamId::new("thing", 1).unwrap();
        store.commit(Commit::new().append(stream, Expected::Any, [event])).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_reads_on_once_it_can_though_nothing_more_is_committed() {
    let (_, store, answers) = lagging(1).await;
    let mut subscription = store.subscribe(Position::START, LogFilter::all()).unwrap();
    assert_eq!(subscription.next().await.unwrap().position, Position(1));
    answers.reads();
    timeout(Duration::from_secs(10), subscription.next()).await.unwrap_err();
    let reads = answers.reads();
    assert!((20..200).contains(&reads), "{reads} reads in ten seconds");
    answers.catch_up();
    for position in [2, 3] {
        let next = timeout(Duration::from_millis(300), subscription.next()).await.expect("it is there");
        assert_eq!(next.unwrap().position, Position(position));
    }
    answers.reads();
    timeout(Duration::from_secs(3600), subscription.next()).await.unwrap_err();
    assert_eq!(answers.reads(), 0, "at the end nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn a_relay_waits_for_a_source_that_lags_and_copies_all_of_it() {
    let (_, store, answers) = lagging(1).await;
    let bus = Bus::embedded(Store::memory());
    tokio::select! {
        end = bus.relay("things", &store) => panic!("the relay ended: {end:?}"),
        () = sleep(Duration::from_secs(10)) => {}
    }
    assert_eq!((bus.head(), answers.reads() < 200), (Position(1), true));
    answers.catch_up();
    tokio::select! {
        end = bus.relay("things", &store) => panic!("the relay ended: {end:?}"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    assert_eq!(bus.head(), Position(3));
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_for_a_bus_that_lags_and_handles_all_of_it() {
    let (store, ..) = lagging(1).await;
    let answers = Answers::up_to(1);
    let bus = Bus::embedded(Lagging::store(&memory(), &answers));
    let shop = Store::memory();
    let handle = async |_: (), message: Message| {
        let effect = Envelope::raw("effect.had", message.position.0.to_string());
        let stream = StreamId::new("effect", message.key()).unwrap();
        Ok::<_, Failure>(Commit::new().append(stream, Expected::Any, [effect]))
    };
    let group = || bus.group("g", &shop).lanes(2).on_with("thing.counted", &(), handle);
    let run = async |time: Duration| {
        tokio::select! {
            end = bus.relay("things", &store) => panic!("the relay ended: {end:?}"),
            end = group().run(CancellationToken::new()) => panic!("the group ended: {end:?}"),
            () = sleep(time) => {}
        }
    };
    run(Duration::from_secs(10)).await;
    assert_eq!((bus.head(), shop.head(), answers.reads() < 200), (Position(3), Position(1), true));
    answers.catch_up();
    run(Duration::from_secs(1)).await;
    assert_eq!(shop.head(), Position(3));
}

#[tokio::test(start_paused = true)]
async fn who_copies_or_compares_a_store_waits_a_while_and_then_says_why_he_cannot() {
    let (store, behind, answers) = lagging(1).await;
    let twin = Store::new(Memory::of_log(store.log_id(), Clock::system()));
    let mut lines = Vec::new();
    transfer::export(&store, &mut lines, |_| ()).await.unwrap();
    transfer::import(&twin, &lines[..], |_| ()).await.unwrap();
    for (one, other) in [(&behind, &twin), (&twin, &behind)] {
        let refused = transfer::compare(one, other, |_| ()).await.unwrap_err();
        let CompareError::Read(ReadError::Unavailable(why)) = refused else { panic!("{refused}") };
        assert!(why.to_string().contains("cannot be read behind 1"), "{why}");
        answers.reads();
    }
    let refused = transfer::export(&behind, &mut Vec::new(), |_| ()).await.unwrap_err();
    assert!(matches!(refused, ExportError::Read(ReadError::Unavailable(_))), "{refused}");
    let later = async {
        sleep(Duration::from_secs(5)).await;
        answers.reads();
        answers.catch_up();
    };
    let mut again = Vec::new();
    let (moved, ()) = futures_util::future::join(transfer::export(&behind, &mut again, |_| ()), later).await;
    assert_eq!(moved.unwrap().events, 3);
    assert_eq!(transfer::compare(&behind, &twin, |_| ()).await.unwrap().events, 3);
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_the_end_of_a_log_that_is_gone_learns_why() {
    let (engine, answers) = (memory(), Answers::up_to(u64::MAX));
    append(&Lagging::store(&engine, &answers), 3).await;
    let (told, head) = watch::channel(Position(3));
    let store = Store::new(Lagging { engine, head, answers: Arc::clone(&answers) });
    let audit = Audit::default();
    let follow = audit.follow(&store, Position(3), std::future::pending(), |_| ());
    let mut subscription = store.subscribe(Position(3), LogFilter::all()).unwrap();
    let gone = async {
        sleep(Duration::from_secs(5)).await;
        answers.up_to.store(0, Ordering::Relaxed);
        drop(told);
    };
    let (followed, next, ()) = futures_util::future::join3(follow, subscription.next(), gone).await;
    for refused in [followed.unwrap_err(), next.unwrap_err()] {
        let ReadError::Unavailable(why) = refused else { panic!("{refused}") };
        assert_eq!(why.to_string(), "it is gone");
    }
}
