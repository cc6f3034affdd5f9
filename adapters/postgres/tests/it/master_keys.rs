//! Two processes that were given two master keys.

use futures_util::future::join_all;
use purlin::store::personal::{MasterKey, Personal, Subject};
use purlin::store::{Commit, CommitError, Row, Store};

use crate::server::Server;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Named {
    name: Personal<String>,
}

impl Row for Named {
    const COLLECTION: &'static str = "named";
}

/// Whether somebody new could be written about.
async fn write(store: &Store, who: &str) -> bool {
    let name = Personal::new(&Subject::new(who).expect("a name"), "Ada".to_owned());
    match store.commit(Commit::new().put(who, &Named { name })).await {
        Ok(_) => true,
        Err(CommitError::MasterKey(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_make_the_first_keys_at_one_moment_one_makes_them_all() {
    let Some(server) = Server::start() else { return };
    for round in 0..10 {
        let schema = format!("keys{round}");
        let mut processes = Vec::new();
        for key in 1..=2 {
            let store = purlin_postgres::open(server.url(), &schema).await.expect("a store");
            store.define::<Named>().await.expect("a collection");
            processes.push((key, store.with_master_key(MasterKey::new(&[key; 32]))));
        }
        let writes = (0..10).map(|n| {
            let (key, store) = processes[n % 2].clone();
            async move { (key, write(&store, &format!("p{n}")).await) }
        });
        let done = join_all(writes).await;
        let right = done.iter().find(|(_, done)| *done).expect("one is right").0;
        assert!(done.iter().all(|(key, done)| *done == (*key == right)), "{right}: {done:?}");
        let keys = processes[0].1.personal_keys().await.expect("readable");
        assert_eq!((keys.plain, keys.wrapped.values().collect::<Vec<_>>()), (0, vec![&5]));
        for (_, store) in processes {
            store.close().await;
        }
    }
}
