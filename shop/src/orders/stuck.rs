//! The checkouts that do not go on by themselves.

use purlin::message::{Clock, Timestamp};
use purlin::saga::{Directory, ListSagas, SagaState};
use purlin::store::{Cause, Query, Store};
use serde_json::{Value, json};

use super::deadline::Deadline;
use crate::contracts::service::StuckPage;

/// How many sagas that may be late are looked at together.
const READ: usize = 256;

/// How often is read for one page; what is not found by then is for the next.
const READS: usize = 16;

/// Lists what is stuck; cheap to clone.
#[derive(Clone)]
pub struct Stuck {
    store: Store,
    sagas: Directory,
    clock: Clock,
}

/// A part of the list; one part comes after the other.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Sagas in a state that needs somebody.
    State(SagaState),
    /// Sagas in a state that should be over by now.
    Late(SagaState),
    /// Choreographed checkouts that were not done in time.
    Overdue,
}

const PARTS: [Part; 5] = [
    Part::State(SagaState::Stuck),
    Part::State(SagaState::Blocked),
    Part::Late(SagaState::Running),
    Part::Late(SagaState::Compensating),
    Part::Overdue,
];

impl Stuck {
    /// What is stuck in a store.
    pub fn new(store: &Store, sagas: Directory, clock: &Clock) -> Self {
        Self { store: store.clone(), sagas, clock: clock.clone() }
    }

    /// A page of it, behind the one that `after` names; perhaps an empty one that is not the last.
    pub async fn list(self, after: Option<String>, limit: usize) -> Result<StuckPage, Cause> {
        let (mut part, mut behind) = place(after.as_deref());
        let mut items = Vec::new();
        let mut reads = 0;
        while part < PARTS.len() {
            reads += 1;
            let (found, next) = self.some(PARTS[part], behind.take(), limit - items.len()).await?;
            items.extend(found);
            (part, behind) = if next.is_some() { (part, next) } else { (part + 1, None) };
            if (items.len() >= limit || reads >= READS) && part < PARTS.len() {
                let next = Some(format!("{part}/{}", behind.unwrap_or_default()));
                return Ok(StuckPage { items, next });
            }
        }
        Ok(StuckPage { items, next: None })
    }

    /// At most `limit` of a part, and behind which one it goes on.
    async fn some(
        &self,
        part: Part,
        behind: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Value>, Option<String>), Cause> {
        match part {
            Part::State(state) => self.sagas(state, behind, limit, None).await,
            Part::Late(state) => self.sagas(state, behind, limit, Some(self.clock.now())).await,
            Part::Overdue => self.overdue(behind, limit).await,
        }
    }

    /// Sagas in a state; of those that should be over before a time, if one is given.
    async fn sagas(
        &self,
        state: SagaState,
        behind: Option<String>,
        limit: usize,
        late: Option<Timestamp>,
    ) -> Result<(Vec<Value>, Option<String>), Cause> {
        let after = behind.and_then(|id| id.parse().ok());
        let read = if late.is_some() { limit.max(READ) } else { limit };
        let wanted = ListSagas { state: Some(state), after, limit: read, ..ListSagas::default() };
        let page = self.sagas.list(wanted).await?;
        let (mut found, mut last) = (Vec::new(), after);
        for (id, row) in page.items {
            if found.len() >= limit {
                return Ok((found, last.map(|id| id.to_string())));
            }
            last = Some(id);
            let is_late = |now| row.deadline.is_some_and(|deadline| deadline < now);
            if !late.is_none_or(is_late) {
                continue;
            }
            let reason = row.reason.or_else(|| late.map(|_| "it goes on past its deadline".to_owned()));
            found.push(json!({
                "id": id, "kind": row.kind, "state": row.state, "reason": reason,
                "error": row.error.map(|error| error.to_string()),
                "started_at": row.started_at, "deadline": row.deadline,
            }));
        }
        Ok((found, page.next.map(|id| id.to_string())))
    }

    async fn overdue(
        &self,
        behind: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Value>, Option<String>), Cause> {
        let query = Query::all().and("state", "stuck").after(behind).limit(limit);
        let page = self.store.list::<Deadline>(query).await?;
        let mut found = Vec::new();
        for record in page.records {
            let row: Deadline = record.decode()?;
            found.push(json!({
                "id": row.order_id, "kind": "choreographed-checkout", "state": row.state,
                "reason": row.reason, "deadline": row.deadline,
            }));
        }
        Ok((found, page.next))
    }
}

/// In which part a page begins, and behind which one.
fn place(after: Option<&str>) -> (usize, Option<String>) {
    let Some((part, behind)) = after.and_then(|after| after.split_once('/')) else { return (0, None) };
    (part.parse().unwrap_or(PARTS.len()), Some(behind.to_owned()).filter(|behind| !behind.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use purlin::message::new_id;
    use purlin::saga::SagaRow;
    use purlin::store::Commit;

    use super::*;

    #[tokio::test]
    async fn all_that_is_stuck_is_listed_page_by_page() {
        let (store, clock) = (Store::memory(), Clock::system());
        store.define::<Deadline>().await.unwrap();
        let sagas = Directory::new(&store, clock.clone());
        sagas.prepare().await.unwrap();
        let mut expected = BTreeSet::new();
        for number in 0..250 {
            let order_id = new_id();
            let state = if number % 5 == 0 { "running" } else { "stuck" }.to_owned();
            if state == "stuck" {
                expected.insert(order_id.to_string());
            }
            let row = Deadline { order_id, deadline: clock.now(), state, reason: None };
            store.commit(Commit::new().put(order_id.to_string(), &row)).await.unwrap();
        }
        let stuck = Stuck::new(&store, sagas, &clock);
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = stuck.clone().list(after, 30).await.unwrap();
            assert!(page.items.len() <= 30);
            seen.extend(page.items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), expected.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[tokio::test]
    async fn few_late_sagas_among_many_are_found_in_few_pages() {
        let (store, clock) = (Store::memory(), Clock::system());
        store.define::<Deadline>().await.unwrap();
        let sagas = Directory::new(&store, clock.clone());
        sagas.prepare().await.unwrap();
        let (late, early) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut expected = Vec::new();
        for chunk in 0..10 {
            let mut commit = Commit::new();
            for number in 0..1000 {
                let id = new_id();
                let is_late = chunk % 5 == 1 && number < 3;
                expected.extend(is_late.then(|| id.to_string()));
                let deadline = if is_late { late } else { early };
                let row = json!({
                    "kind": "place-order", "state": SagaState::Running, "started_at": late, "deadline": deadline,
                });
                let row: SagaRow = serde_json::from_value(row).unwrap();
                commit = commit.put(id.to_string(), &row);
            }
            store.commit(commit).await.unwrap();
        }
        let stuck = Stuck::new(&store, sagas, &clock);
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = stuck.clone().list(after, 1).await.unwrap();
            assert!(page.items.len() <= 1);
            seen.extend(page.items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
        assert!(pages < 15, "{pages} pages for {} late sagas", expected.len());
    }
}
