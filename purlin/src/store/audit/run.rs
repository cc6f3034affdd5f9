//! The audit of a whole log.

use crate::store::{Position, ReadError, Recorded, Store};

use super::pages::{Next, next};
use super::sample::Sample;
use super::scan::Scan;
use super::{Audit, Damage, Progress, Report};

impl Audit {
    /// Reads the log from its beginning to where it ended when the audit began, and tells what is wrong with it. Others
    /// may write meanwhile. `progress` hears of every page.
    ///
    /// An event that cannot be read is a finding; a store that cannot read at the moment is an error.
    pub async fn run(&self, store: &Store, mut progress: impl FnMut(Progress)) -> Result<Report, ReadError> {
        // Whether a log is whole does not hang on who may read what is personal in it.
        let store = &store.sealed();
        let report = Report::new(store.log_id(), store.head(), self.findings);
        let mut scan = Scan::new(self, report, Position::START, store.limits());
        let mut sample = Sample::new(self.samples);
        self.first_pass(store, &mut scan, &mut sample, &mut progress).await?;
        scan.report.streams = scan.versions.streams();
        scan.report.passes = scan.versions.shares();
        for rest in 1..scan.versions.shares() {
            scan.versions.turn_to(rest);
            self.another_pass(store, &mut scan, rest + 1, &mut progress).await?;
            scan.report.streams += scan.versions.streams();
        }
        let (mut report, of) = (scan.report, sample.len());
        sample.compare(store, &mut report, |done| progress(Progress::Streams { done, of })).await?;
        Ok(report)
    }

    async fn first_pass(
        &self,
        store: &Store,
        scan: &mut Scan,
        sample: &mut Sample,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ReadError> {
        let through = scan.report.through;
        while scan.last < through {
            match next(store, scan.last, self.page).await? {
                Next::Page(mut page) => {
                    let (before, reached) = (scan.last, page.through.min(through));
                    page.events.retain(|event| event.position <= through);
                    scan.page(&page.events, reached);
                    page.events.iter().for_each(|event| sample.see(event));
                    if scan.last == before {
                        // It gives again what it gave before.
                        break;
                    }
                }
                Next::Unreadable(why) => scan.unreadable(why),
                Next::End => {
                    let due = Position(scan.last.0 + 1);
                    scan.report.find(due, None, Damage::Missing(through));
                    break;
                }
            }
            let passes = scan.versions.shares();
            progress(Progress::Log { position: scan.last, through, pass: 1, passes });
        }
        Ok(())
    }

    /// Reads the log once more, for another share of its streams.
    async fn another_pass(
        &self,
        store: &Store,
        scan: &mut Scan,
        pass: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ReadError> {
        let (mut position, through, passes) = (Position::START, scan.report.through, scan.versions.shares());
        while position < through {
            position = match next(store, position, self.page).await? {
                Next::Page(page) if page.through > position => {
                    let asked = |event: &&Recorded| event.position <= through;
                    for event in page.events.iter().filter(asked) {
                        scan.version(event.position, &event.stream, event.version);
                    }
                    page.through.min(through)
                }
                Next::Unreadable(_) => Position(position.0 + 1),
                Next::Page(_) | Next::End => break,
            };
            progress(Progress::Log { position, through, pass, passes });
        }
        Ok(())
    }
}
