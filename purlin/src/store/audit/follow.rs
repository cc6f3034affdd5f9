//! Follows a log while others write.

use std::fmt;

use crate::store::{Position, ReadError, Store};

use super::behind::Behind;
use super::pages::{Next, next};
use super::scan::Scan;
use super::{Audit, Report};

/// How many events that a process has not heard of are looked for when it is to end; who is far behind is not to chase after
/// all that is written meanwhile.
const UNHEARD: u64 = 10_000;

/// What a follower saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// What it read, and what was wrong with it.
    pub report: Report,
    /// How many times it looked back.
    pub looks: u64,
}

impl Audit {
    /// Tails the log behind a position until `until` comes, then to where the log has come by then, however much is written
    /// behind that. Whenever it has passed half of [`Audit::behind`] events, and at the end, it reads again what is behind
    /// its cursor: nothing may have come there, changed, or gone.
    ///
    /// `progress` hears of what was read and found so far: before anything is, and whenever it goes on.
    pub async fn follow(
        &self,
        store: &Store,
        after: Position,
        until: impl Future<Output = ()>,
        mut progress: impl FnMut(&Report),
    ) -> Result<Followed, ReadError> {
        // What is read again must be what it was, whoever is forgotten meanwhile.
        let store = &store.sealed();
        let report = Report::new(store.log_id(), after, self.findings);
        let mut tail = Tail {
            audit: self,
            store,
            scan: Scan::new(self, report, after, store.limits()),
            behind: Behind::new(after, self.behind),
            looks: 0,
            since: 0,
        };
        let (mut until, mut watch) = (std::pin::pin!(until), store.watch());
        progress(tail.report());
        loop {
            watch.borrow_and_update();
            tokio::select! {
                biased;
                () = &mut until => break,
                caught_up = tail.step() => if !caught_up? {
                    progress(tail.report());
                    continue;
                },
            }
            tokio::select! {
                () = &mut until => break,
                changed = watch.changed() => if changed.is_err() {
                    // Why nothing more is told, whoever reads may learn.
                    tail.step().await?;
                    let untold = "the store tells no more of what is committed, and does not say why";
                    return Err(ReadError::Unavailable(untold.into()));
                },
            }
        }
        // What this process has not heard of yet is looked for, if it can be read.
        let heard = store.head();
        let end = store.head_up_to(Position(heard.0.saturating_add(UNHEARD))).await.unwrap_or(heard);
        while tail.behind.cursor() < end && !tail.step().await? {
            progress(tail.report());
        }
        tail.end().await
    }
}

struct Tail<'a> {
    audit: &'a Audit,
    store: &'a Store,
    scan: Scan,
    behind: Behind,
    looks: u64,
    /// How many events were passed since the last look back.
    since: usize,
}

impl Tail<'_> {
    /// What was read and found so far.
    fn report(&mut self) -> &Report {
        let report = &mut self.scan.report;
        (report.through, report.streams) = (self.behind.cursor(), self.scan.versions.streams());
        report
    }

    /// Reads a page; whether there was nothing more.
    async fn step(&mut self) -> Result<bool, ReadError> {
        match next(self.store, self.behind.cursor(), self.audit.page).await? {
            Next::Page(page) if page.through > self.behind.cursor() => {
                self.scan.page(&page.events, page.through);
                self.behind.pass(&page.events, page.through);
                self.since += page.events.len();
            }
            Next::Unreadable(why) => {
                self.scan.unreadable(why);
                self.behind.pass(&[], self.scan.last);
            }
            Next::Page(_) | Next::End => return Ok(true),
        }
        if self.since > self.audit.behind / 2 {
            self.look_back().await?;
        }
        Ok(false)
    }

    async fn look_back(&mut self) -> Result<(), ReadError> {
        self.behind.look_back(self.store, self.audit.page, &mut self.scan.report).await?;
        (self.looks, self.since) = (self.looks + 1, 0);
        Ok(())
    }

    async fn end(mut self) -> Result<Followed, ReadError> {
        self.look_back().await?;
        let mut report = self.scan.report;
        self.behind.look_far_back(self.store, self.audit.page, &mut report).await?;
        (report.through, report.streams) = (self.behind.cursor(), self.scan.versions.streams());
        report.passes = 1;
        Ok(Followed { report, looks: self.looks })
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "looked back {} times; {}", self.looks, self.report)
    }
}
