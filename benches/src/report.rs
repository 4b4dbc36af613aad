//! Puts the figures of all turns side by side: a table for people, JSON for programs.

use serde::Serialize;

use crate::{scenario::Measurement, stats::Spread};

/// The brokers' places in the alternation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

/// Everything that was measured, in the order in which it first came.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// What A and B are.
    a: String,
    b: Option<String>,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Figure {
    scenario: &'static str,
    case: String,
    metric: &'static str,
    unit: &'static str,
    /// One value for each round, in order.
    a: Vec<f64>,
    b: Vec<f64>,
    /// Spread of B/A, each from the two turns of one round.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Spread>,
}

impl Report {
    pub(crate) fn new(a: &str, b: Option<&str>) -> Self {
        Report { a: a.to_owned(), b: b.map(str::to_owned), figures: Vec::new() }
    }

    /// Adds the figures of one turn.
    pub(crate) fn add(
        &mut self,
        scenario: &'static str,
        side: Side,
        measurements: Vec<Measurement>,
    ) {
        for Measurement { case, metric, unit, value } in measurements {
            let known = self.figures.iter().position(|figure| {
                figure.scenario == scenario && figure.case == case && figure.metric == metric
            });
            let index = known.unwrap_or_else(|| {
                let (a, b, ratio) = (Vec::new(), Vec::new(), None);
                self.figures.push(Figure { scenario, case, metric, unit, a, b, ratio });
                self.figures.len() - 1
            });
            let figure = &mut self.figures[index];
            match side {
                Side::A => figure.a.push(value),
                Side::B => figure.b.push(value),
            }
            // A quotient is no quantity of its own, and one of nothing says nothing.
            let ratios = figure.a.iter().zip(&figure.b).filter(|(a, _)| **a > 0.0);
            figure.ratio = match figure.unit {
                "x" | "cores" => None,
                _ => Spread::of(ratios.map(|(a, b)| b / a)),
            };
        }
    }

    /// The report as JSON.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The report as one table for each scenario.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        let mut scenarios: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !scenarios.contains(&figure.scenario) {
                scenarios.push(figure.scenario);
            }
        }
        for scenario in scenarios {
            let figures = self.figures.iter().filter(|figure| figure.scenario == scenario);
            let mut header = vec![
                scenario.to_owned(),
                "figure".to_owned(),
                "unit".to_owned(),
                format!("A: {}", self.a),
            ];
            if let Some(b) = &self.b {
                header.push(format!("B: {b}"));
                header.push("B/A".to_owned());
            }
            let mut rows = vec![header];
            for figure in figures {
                let mut row = vec![
                    figure.case.clone(),
                    figure.metric.to_owned(),
                    figure.unit.to_owned(),
                    spread(Spread::of(figure.a.iter().copied())),
                ];
                if self.b.is_some() {
                    row.push(spread(Spread::of(figure.b.iter().copied())));
                    row.push(spread(figure.ratio));
                }
                rows.push(row);
            }
            text.push_str(&table(&rows));
            text.push('\n');
        }
        text
    }
}

/// Median, with lowest and highest in brackets where they differ.
fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => String::new(),
        Some(Spread { min, median, max }) if min == max => number(median),
        Some(Spread { min, median, max }) => {
            format!("{} ({}-{})", number(median), number(min), number(max))
        }
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A Markdown table with aligned columns.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("| {cell:<width$} "));
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64) -> Vec<Measurement> {
        vec![Measurement { case: "acks=all".to_owned(), metric: "cpu", unit: "us", value }]
    }

    #[test]
    fn ratios_pair_the_turns_of_a_round_whichever_came_first() {
        let mut report = Report::new("ours", Some("theirs"));
        report.add("produce", Side::A, measured(10.0));
        report.add("produce", Side::B, measured(40.0));
        report.add("produce", Side::B, measured(60.0));
        report.add("produce", Side::A, measured(20.0));
        assert_eq!(
            report.tables(),
            "\
| produce  | figure | unit | A: ours          | B: theirs        | B/A              |
|----------|--------|------|------------------|------------------|------------------|
| acks=all | cpu    | us   | 15.0 (10.0-20.0) | 50.0 (40.0-60.0) | 3.50 (3.00-4.00) |

"
        );
    }

    #[test]
    fn one_broker_alone_has_no_ratios() {
        let mut report = Report::new("ours", None);
        report.add("produce", Side::A, measured(0.5));
        assert_eq!(
            report.tables(),
            "\
| produce  | figure | unit | A: ours |
|----------|--------|------|---------|
| acks=all | cpu    | us   | 0.500   |

"
        );
    }
}
