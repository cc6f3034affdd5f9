//! How far a group has come: which log it reads, in how many lanes, and the mark of each lane.

use serde::{Deserialize, Serialize};

use crate::store::{Commit, CommitError, LogId, Position, Query, ReadError, Revision, Row, Store};

use super::GroupError;

/// What a group must find again as it left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    pub(super) log: LogId,
    lanes: u32,
}

impl GroupRecord {
    pub(super) fn lanes(&self) -> u32 {
        self.lanes
    }

    /// The same group on another log.
    pub(super) fn following(&self, log: LogId) -> Self {
        Self { log, ..self.clone() }
    }
}

impl Row for GroupRecord {
    const COLLECTION: &'static str = "purlin_groups";
}

/// Every message of a lane at or before the position was handled, or parked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct MarkRow {
    position: Position,
}

impl Row for MarkRow {
    const COLLECTION: &'static str = "purlin_marks";
}

/// A lane's mark as it stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) position: Position,
    pub(super) revision: Revision,
}

impl Mark {
    /// Before the first message.
    pub(super) const START: Self = Self { position: Position::START, revision: Revision::Absent };

    pub(super) fn id(group: &str, lane: u32) -> String {
        format!("{group}/{lane:05}")
    }

    pub(super) async fn read(store: &Store, group: &str, lane: u32) -> Result<Self, ReadError> {
        let record = store.get_record(MarkRow::COLLECTION, &Self::id(group, lane)).await?;
        let Some(record) = record else { return Ok(Self::START) };
        let position = record.decode::<MarkRow>()?.position;
        Ok(Self { position, revision: Revision::Exact(record.revision) })
    }

    /// Requires the mark to be as it was read.
    pub(super) fn stays(&self, group: &str, lane: u32) -> Commit {
        Commit::new().require::<MarkRow>(Self::id(group, lane), self.revision)
    }

    /// The commit that moves the mark.
    pub(super) fn moved(&self, group: &str, lane: u32, to: Position) -> Commit {
        Commit::new().put_expecting(Self::id(group, lane), &MarkRow { position: to }, self.revision, None)
    }
}

/// How many lanes the group has, having checked that the bus is the one it knows; `wanted` is for a new group, and
/// must be the stored number otherwise.
pub(super) async fn lanes(
    store: &Store,
    group: &str,
    bus: &Store,
    wanted: Option<u32>,
) -> Result<u32, GroupError> {
    store.define::<GroupRecord>().await?;
    store.define::<MarkRow>().await?;
    let log = bus.log_id();
    let mut known = store.get::<GroupRecord>(group).await?;
    if known.is_none() {
        let new = GroupRecord { log, lanes: wanted.unwrap_or(super::Group::DEFAULT_LANES) };
        let commit = Commit::new().put_expecting(group, &new, Revision::Absent, None);
        match store.commit(commit).await {
            Err(CommitError::Conflict(_)) => known = store.get::<GroupRecord>(group).await?,
            other => drop(other?),
        }
        known = known.or(Some(new));
    }
    let known = known.expect("the group's record was read or written just now");
    let name = group.to_owned();
    if known.log != log {
        return Err(GroupError::OtherLog { group: name, known: known.log, found: log });
    }
    match wanted {
        Some(wanted) if wanted != known.lanes => {
            Err(GroupError::Lanes { group: name, stored: known.lanes, wanted })
        }
        _ => Ok(known.lanes),
    }
}

/// The marks of all lanes.
pub(super) async fn marks(store: &Store, group: &str, lanes: u32) -> Result<Vec<Mark>, ReadError> {
    let mut marks = vec![Mark::START; lanes as usize];
    let query = Query::all().prefix(format!("{group}/")).limit(lanes as usize);
    for record in store.list::<MarkRow>(query).await?.records {
        let lane = record.key.rsplit_once('/').and_then(|(_, lane)| lane.parse::<usize>().ok());
        if let Some(mark) = lane.and_then(|lane| marks.get_mut(lane)) {
            let position = record.decode::<MarkRow>()?.position;
            *mark = Mark { position, revision: Revision::Exact(record.revision) };
        }
    }
    Ok(marks)
}

/// The marks of the lanes that are furthest behind and furthest ahead.
pub(super) async fn ends(store: &Store, group: &str) -> Result<(Position, Position), ReadError> {
    let Some(known) = store.get::<GroupRecord>(group).await? else {
        return Ok((Position::START, Position::START));
    };
    Ok(ends_of(&marks(store, group, known.lanes).await?))
}

/// The lowest and the highest of some marks.
pub(super) fn ends_of(marks: &[Mark]) -> (Position, Position) {
    let positions = || marks.iter().map(|mark| mark.position);
    (positions().min().unwrap_or(Position::START), positions().max().unwrap_or(Position::START))
}

/// Which lane a key belongs to. The hash (64-bit FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>) is part of
/// what is stored: another would move keys to lanes with other marks.
pub(super) fn lane_of(key: &str, lanes: u32) -> u32 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits of FNV-1a are its weakest: the high half is folded in.
    let folded = hash ^ (hash >> 32);
    u32::try_from(folded % u64::from(lanes)).expect("less than the number of lanes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_key_never_changes() {
        assert_eq!(["", "a", "order-4711"].map(|key| lane_of(key, 32)), [1, 0, 21]);
    }

    #[test]
    fn keys_spread_over_the_lanes() {
        let mut counts = [0u32; 32];
        for number in 0..32_000 {
            counts[lane_of(&format!("0198-{number}"), 32) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
