//! What was asked and how it ended: rates and latencies of any span of time.

use std::time::Duration;

use tokio::time::Instant;

/// One request of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// When it was to be asked: late senders count as waiting too.
    pub(super) due: Instant,
    /// When it was answered or given up.
    pub(super) over: Instant,
    /// The status of the answer; 0: there was none in time.
    pub(super) status: u16,
}

/// A span of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Span {
    /// How many seconds it has.
    pub(super) fn seconds(self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }

    fn has(self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// All that one kind of client asked.
#[derive(Debug)]
pub(super) struct Record {
    asked: Vec<Asked>,
    patience: Duration,
}

impl Record {
    pub(super) fn new(asked: Vec<Asked>, patience: Duration) -> Self {
        Self { asked, patience }
    }

    /// Good answers a second.
    pub(super) fn goodput(&self, span: Span) -> f64 {
        let good = |asked: &&Asked| asked.status == 200 && span.has(asked.over);
        self.asked.iter().filter(good).count() as f64 / span.seconds()
    }

    /// Which part of what was to be asked in the span was answered well, whenever.
    pub(super) fn part_served(&self, span: Span) -> f64 {
        let (mut all, mut good) = (0_u32, 0_u32);
        for asked in self.asked.iter().filter(|asked| span.has(asked.due)) {
            all += 1;
            good += u32::from(asked.status == 200);
        }
        f64::from(good) / f64::from(all)
    }

    /// The milliseconds that this part of what was to be asked in the span did not exceed. What was not answered well
    /// took as long as the client waits at most.
    pub(super) fn quantile(&self, part: f64, span: Span) -> f64 {
        let waited = |asked: &Asked| match asked.status {
            200 => asked.over - asked.due,
            _ => self.patience.max(asked.over - asked.due),
        };
        quantile(self.asked.iter().filter(|asked| span.has(asked.due)).map(waited), part)
    }

    /// As [`Record::quantile`], of the good answers alone.
    pub(super) fn good_quantile(&self, part: f64, span: Span) -> f64 {
        self.quantile_of(|status| status == 200, part, span)
    }

    /// As [`Record::quantile`], of the refusals (any answer but a good one) alone.
    pub(super) fn refusal_quantile(&self, part: f64, span: Span) -> f64 {
        self.quantile_of(|status| status != 200 && status != 0, part, span)
    }

    /// How many requests ended in the span with a status.
    pub(super) fn count(&self, status: u16, span: Span) -> usize {
        self.asked.iter().filter(|asked| asked.status == status && span.has(asked.over)).count()
    }

    fn quantile_of(&self, which: impl Fn(u16) -> bool, part: f64, span: Span) -> f64 {
        let asked = self.asked.iter().filter(|asked| span.has(asked.due) && which(asked.status));
        quantile(asked.map(|asked| asked.over - asked.due), part)
    }
}

fn quantile(waited: impl Iterator<Item = Duration>, part: f64) -> f64 {
    let mut waited: Vec<Duration> = waited.collect();
    waited.sort_unstable();
    let at = (waited.len().saturating_sub(1) as f64 * part).round() as usize;
    waited.get(at).map_or(f64::NAN, |waited| waited.as_secs_f64() * 1000.0)
}

/// How many seconds after `since` it is as before and stays so for a second: `is_well` is asked of spans of half a
/// second; none if it never is before `end`.
pub(super) fn recovery(since: Instant, end: Instant, is_well: impl Fn(Span) -> bool) -> Option<f64> {
    const WINDOW: Duration = Duration::from_millis(500);
    const STEP: Duration = Duration::from_millis(50);
    let well = |from: Instant| is_well(Span { from, to: from + WINDOW });
    let mut from = since;
    while from + 2 * WINDOW <= end {
        if well(from) && well(from + WINDOW / 2) && well(from + WINDOW) {
            return Some((from - since).as_secs_f64());
        }
        from += STEP;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Ten requests a second for ten seconds, each answered after 20 ms; those due from `from` to `to` are refused.
    fn record(start: Instant, from: u32, to: u32) -> Record {
        let asked = (0..100).map(|n| {
            let due = start + n * 100 * MS;
            Asked { due, over: due + 20 * MS, status: if (from..to).contains(&n) { 503 } else { 200 } }
        });
        Record::new(asked.collect(), 1000 * MS)
    }

    #[tokio::test]
    async fn what_is_refused_is_no_goodput_and_took_as_long_as_anybody_waits() {
        let start = Instant::now();
        let record = record(start, 50, 60);
        let span = |from: u32, to: u32| Span { from: start + from * 100 * MS, to: start + to * 100 * MS };
        assert_eq!((record.goodput(span(0, 50)), record.goodput(span(50, 60))), (10.0, 0.0));
        assert_eq!(record.part_served(span(40, 60)), 0.5);
        assert_eq!((record.quantile(0.99, span(0, 50)), record.quantile(0.99, span(0, 60))), (20.0, 1000.0));
        assert_eq!((record.good_quantile(1.0, span(0, 60)), record.count(503, span(0, 100))), (20.0, 10));
    }

    #[tokio::test]
    async fn recovery_is_when_it_is_well_and_stays_so() {
        let start = Instant::now();
        let record = record(start, 0, 30);
        let well = |span| record.goodput(span) >= 9.0;
        let took = recovery(start, start + 10_000 * MS, well).expect("a recovery");
        assert!((2.9..3.2).contains(&took), "{took}");
        assert_eq!(recovery(start, start + 3_000 * MS, well), None);
    }
}
