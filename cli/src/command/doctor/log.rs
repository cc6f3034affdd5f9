//! The whole log, read: whether it is what a store promises.

use purlin::store::audit::{Audit, Progress, Report};

use super::files::told;
use super::finding::Finding;
use crate::operator::Operator;
use crate::place::Place;
use crate::progress::Bar;

/// So many faults are told.
const MOST: usize = 10;

pub(super) async fn examine(operator: &Operator, place: &Place, found: &mut Vec<Finding>) {
    if operator.stores().is_empty() {
        let advice = "see whether it has a gap, beside the process (purlin streams audit --service NAME), or check a copy \
                      as a whole: purlin store backup copy.db --service NAME; purlin doctor --store sqlite:copy.db --log";
        return found.push(Finding::warn("log", "a running process has the stores: it was not read", advice));
    }
    if let Place::Folder(_) | Place::File(..) = place {
        pages(place, found).await;
    }
    let audit = Audit { findings: MOST, ..Audit::default() };
    for served in operator.stores() {
        let bar = Bar::new(&format!("reading {}", served.name), "events");
        let audited = audit.run(&served.store, |progress| show(&bar, progress)).await;
        drop(bar);
        let about = format!("{}: log", served.name);
        found.push(match audited {
            Ok(report) => judged(about, &report),
            Err(error) => Finding::fail(about, told(&error), "restore a backup"),
        });
    }
}

fn show(bar: &Bar, progress: Progress) {
    match progress {
        Progress::Log { position, through, pass, passes } => {
            bar.at(position.0, through.0);
            if passes > 1 {
                bar.say(format!("(pass {pass} of {passes})"));
            }
        }
        Progress::Streams { done, of } => bar.say(format!("(and stream {done} of {of} by itself)")),
    }
}

fn judged(about: String, report: &Report) -> Finding {
    let Report { events, streams, sampled, .. } = report;
    if report.is_clean() {
        let said = format!(
            "{events} events of {streams} streams, without a gap; {sampled} of the streams also by themselves"
        );
        return Finding::ok(about, said);
    }
    Finding::fail(
        about,
        report.to_string(),
        "restore a backup, and keep this store for whoever looks into it",
    )
}

/// The pages of SQLite files.
async fn pages(place: &Place, found: &mut Vec<Finding>) {
    let files = match place {
        Place::File(file, _) => vec![(file.display().to_string(), file.clone())],
        Place::Folder(folder) => crate::place::sqlite_files(folder).unwrap_or_default(),
        Place::Database { .. } => Vec::new(),
    };
    for (name, file) in files {
        let about = format!("{name}: pages");
        found.push(match purlin_sqlite::check(&file).await {
            Ok(wrong) if wrong.is_empty() => Finding::ok(about, "SQLite finds nothing wrong in them"),
            Ok(wrong) => Finding::fail(about, wrong.join("; "), "restore a backup (`purlin store restore`)"),
            Err(error) => Finding::fail(about, told(&error), "restore a backup (`purlin store restore`)"),
        });
    }
}
