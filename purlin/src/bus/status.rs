//! How far a group has come, and what it has parked.

use serde::Serialize;

use crate::store::{Query, ReadError};

use super::parked::{KeyState, ParkedKey};
use super::{Group, mark};

/// What the store of a group says of it, whether it runs or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// How many positions of the bus the group's last lane has yet to look at. Lanes that meet no message of their
    /// own store their marks only now and then, so an idle group may show up to about a thousand.
    pub lag: u64,
    /// How many messages are parked: tried again, dead, or waiting behind one that is.
    pub parked: u64,
    /// How many keys wait for the next attempt of their first message.
    pub retrying_keys: u64,
    /// How many keys wait for an operator.
    pub dead_keys: u64,
}

pub(super) async fn of(group: &Group) -> Result<GroupStatus, ReadError> {
    let name = group.name().to_owned();
    let mut status = GroupStatus { group: name, lag: 0, parked: 0, retrying_keys: 0, dead_keys: 0 };
    match count(group, &mut status).await {
        // Before the group has run for the first time there is no collection to read.
        Err(ReadError::Invalid(_)) => status.lag = group.bus.head().0,
        other => other?,
    }
    Ok(status)
}

async fn count(group: &Group, status: &mut GroupStatus) -> Result<(), ReadError> {
    let (lowest, _) = mark::ends(&group.store, &group.name).await?;
    status.lag = group.bus.head().0.saturating_sub(lowest.0);
    let mut after = None;
    loop {
        let query = Query::all().prefix(format!("{}/", group.name)).after(after).limit(1000);
        let page = group.store.list::<ParkedKey>(query).await?;
        for record in &page.records {
            let key: ParkedKey = record.decode()?;
            status.parked += key.count;
            match key.state {
                KeyState::Retrying => status.retrying_keys += 1,
                KeyState::Dead => status.dead_keys += 1,
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
