//! The table that a person reads.

use crate::{Measured, Reading};

/// The figures in columns.
pub(crate) fn table(figures: &[Measured]) -> String {
    let header = ["case", "ours", "limit", "peer", "ratio", "unit", "details"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(figures.iter().map(row)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for [case, ours, limit, peer, ratio, unit, details] in &rows {
        let [c, o, l, p, r, u, _] = widths;
        let line =
            format!("{case:<c$}  {ours:>o$}  {limit:>l$}  {peer:>p$}  {ratio:>r$}  {unit:<u$}  {details}");
        table += line.trim_end();
        table.push('\n');
    }
    table
}

fn row(figure: &Measured) -> [String; 7] {
    let side =
        |reading: Option<&Reading>| reading.map_or_else(|| "-".into(), |reading| number(reading.value));
    [
        figure.case.clone(),
        side(Some(&figure.ours)),
        side(figure.limit.as_ref()),
        side(figure.peer.as_ref()),
        figure.ratio().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
        figure.unit.name(),
        details(figure),
    ]
}

fn details(figure: &Measured) -> String {
    let of = |side: &str, reading: Option<&Reading>| {
        let details = reading.into_iter().flat_map(|reading| &reading.details);
        details.map(|(name, value)| format!("{side} {name} {}", number(*value))).collect::<Vec<_>>()
    };
    let goal = figure.goal.map(|goal| match goal.is_met(figure.ours.value) {
        true => format!("goal {goal}"),
        false => format!("goal {goal} MISSED"),
    });
    let all = [
        goal.into_iter().collect(),
        of("ours", Some(&figure.ours)),
        of("limit", figure.limit.as_ref()),
        of("peer", figure.peer.as_ref()),
    ];
    all.concat().join(", ")
}

/// `206,000` or `3.142`: as many digits as mean something.
fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        return format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = if value < 0.0 { String::from("-") } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figure, Unit};

    #[test]
    fn large_numbers_are_grouped_and_small_ones_keep_their_digits() {
        assert_eq!(
            [number(206_000.4), number(999.0), number(1_000.0), number(0.25)],
            ["206,000", "999", "1,000", "0.25"]
        );
        assert_eq!(number(1_234_567.0), "1,234,567");
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let figure = |case: &str, value: f64| {
            let figure = Figure::new("b", case, Unit::PerSecond("events"));
            figure.ours(move || Ok(value.into())).limit(|| Ok(1000.0.into())).measure(1).expect("a figure")
        };
        let table = table(&[figure("one", 500.0), figure("a longer case", 12_000.0)]);
        let columns: Vec<Option<usize>> =
            table.lines().map(|line| line.find("events/s").or(line.find("unit"))).collect();
        assert!(columns.iter().all(|column| *column == columns[0]), "{table}");
    }
}
