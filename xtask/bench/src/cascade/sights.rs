//! What was seen of a child, over a span of time.

use std::time::Duration;

use super::child::Sight;
use super::record::Span;

/// The largest value in the span.
pub(super) fn most(sights: &[Sight], name: &str, span: Span) -> f64 {
    values(sights, name, span).map(|(_, value)| value).fold(0.0, f64::max)
}

/// How much a number that only counts up grew in the span. A new life counts from zero.
pub(super) fn growth(sights: &[Sight], name: &str, span: Span) -> f64 {
    let mut grown = 0.0;
    let mut last = None;
    for (_, value) in values(sights, name, span) {
        grown += last.map_or(0.0, |last| if value < last { value } else { value - last });
        last = Some(value);
    }
    grown
}

/// The most that such a number grew within so long, anywhere in the span.
pub(super) fn most_growth(sights: &[Sight], name: &str, within: Duration, span: Span) -> f64 {
    let starts = values(sights, name, span).map(|(at, _)| Span { from: at, to: at + within });
    starts.map(|window| growth(sights, name, window)).fold(0.0, f64::max)
}

fn values<'a>(
    sights: &'a [Sight],
    name: &'a str,
    span: Span,
) -> impl Iterator<Item = (tokio::time::Instant, f64)> + 'a {
    let within = sights.iter().filter(move |sight| span.from <= sight.at && sight.at < span.to);
    within.filter_map(move |sight| Some((sight.at, *sight.said.get(name)?)))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_count_that_begins_anew_has_grown_by_what_it_says() {
        let start = Instant::now();
        let sight = |(at, value): (u32, f64)| Sight {
            at: start + at * MS,
            said: [("received".to_owned(), value)].into_iter().collect(),
        };
        let sights: Vec<_> =
            [(0, 10.0), (100, 30.0), (200, 30.0), (300, 5.0), (400, 45.0)].into_iter().map(sight).collect();
        let all = Span { from: start, to: start + 1000 * MS };
        assert_eq!(growth(&sights, "received", all), 20.0 + 5.0 + 40.0);
        assert_eq!(most(&sights, "received", all), 45.0);
        assert_eq!(most_growth(&sights, "received", 150 * MS, all), 40.0);
        assert_eq!(growth(&sights, "sent", all), 0.0);
    }
}
