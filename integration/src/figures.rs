//! Durations of calls: their percentiles, the lines they are kept in, and the table they are
//! printed in.
//!
//! A file of figures has one JSON object a line, `{"runtime": .., "call": .., "ms": [..]}`, in the
//! order of the table: files of several programs can be put side by side.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

/// What was measured for one call, in milliseconds and in the order it happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one measurement.
    pub fn push(&mut self, value: Duration) {
        self.0.push(value.as_secs_f64() * 1000.0);
    }

    /// The smallest value that `percent` of the measurements do not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

/// The calls of one runtime, in the order they were first measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The runtime, or what else the column is about.
    pub name: String,
    rows: Vec<(String, Series)>,
}

impl Column {
    /// A column without rows.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds one measurement to the row of `call`.
    pub fn push(&mut self, call: &str, value: Duration) {
        self.row(call).push(value);
    }

    /// Forgets the measurements, so that the first of them, which warmed caches, do not count.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// What was measured for `call`.
    pub fn series(&self, call: &str) -> Option<&Series> {
        let mut rows = self.rows.iter();
        rows.find_map(|(name, series)| (name == call).then_some(series))
    }

    fn row(&mut self, call: &str) -> &mut Series {
        let found = self.rows.iter().position(|(name, _)| name == call);
        let index = found.unwrap_or_else(|| {
            self.rows.push((call.to_owned(), Series::default()));
            self.rows.len() - 1
        });
        &mut self.rows[index].1
    }
}

/// The columns as lines of JSON.
pub fn to_lines(columns: &[Column]) -> String {
    let mut lines = String::new();
    for column in columns {
        for (call, series) in &column.rows {
            let line = json!({"runtime": column.name, "call": call, "ms": series.0});
            let _ = writeln!(lines, "{line}");
        }
    }
    lines
}

/// Reads what [`to_lines`] wrote and adds it to `columns`, to a column of the same name if there
/// is one.
pub fn read_lines(path: &Path, columns: &mut Vec<Column>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path:?}"))?;
    for (number, line) in text.lines().enumerate() {
        parse_line(line, columns).with_context(|| format!("{path:?}, line {}", number + 1))?;
    }
    Ok(())
}

fn parse_line(line: &str, columns: &mut Vec<Column>) -> anyhow::Result<()> {
    let value: Value = serde_json::from_str(line)?;
    let name = value["runtime"].as_str().context("no runtime")?;
    let call = value["call"].as_str().context("no call")?;
    let index = columns.iter().position(|column| column.name == name);
    let index = index.unwrap_or_else(|| {
        columns.push(Column::new(name));
        columns.len() - 1
    });
    let row = columns[index].row(call);
    for ms in value["ms"].as_array().context("no ms")? {
        row.0.push(ms.as_f64().context("ms that are no number")?);
    }
    Ok(())
}

/// The columns as text: p50, p90 and p99 in milliseconds. The rows are in the order of the first
/// column; rows it has not follow.
pub fn table(columns: &[Column]) -> String {
    let mut calls: Vec<&str> = Vec::new();
    for (call, _) in columns.iter().flat_map(|column| &column.rows) {
        if !calls.contains(&call.as_str()) {
            calls.push(call);
        }
    }
    let mut text = format!("{:<32}", "ms: p50 p90 p99");
    for column in columns {
        let _ = write!(text, " | {:^26}", column.name);
    }
    text.push('\n');
    for call in calls {
        let _ = write!(text, "{call:<32}");
        for column in columns {
            text.push_str(" |");
            for percent in [50, 90, 99] {
                let value = column.series(call).and_then(|row| row.percentile(percent));
                let cell = value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
                let _ = write!(text, " {cell:>8}");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, call: &str, values: impl IntoIterator<Item = u64>) -> Column {
        let mut column = Column::new(name);
        for ms in values {
            column.push(call, Duration::from_millis(ms));
        }
        column
    }

    #[test]
    fn percentiles_are_measured_values() {
        let ten = column("a", "Call", (1..=10).rev());
        let row = ten.series("Call").unwrap();
        let percents = [1, 50, 51, 90, 99, 100].map(|percent| row.percentile(percent));
        assert_eq!(percents, [1.0, 5.0, 6.0, 9.0, 10.0, 10.0].map(Some));
        assert_eq!(Series::default().percentile(50), None);
    }

    #[test]
    fn one_measurement_is_every_percentile() {
        let one = column("a", "Call", [3]);
        for percent in [1, 50, 99] {
            assert_eq!(one.series("Call").unwrap().percentile(percent), Some(3.0));
        }
    }

    #[test]
    fn a_column_without_the_call_has_dashes() {
        let text = table(&[column("a", "Call", [2]), column("b", "Other", [4])]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            ["Call", "|", "2.00", "2.00", "2.00", "|", "-", "-", "-"]
        );
        assert_eq!(
            lines[1],
            ["Other", "|", "-", "-", "-", "|", "4.00", "4.00", "4.00"]
        );
    }

    #[test]
    fn lines_are_read_back_as_they_were() {
        let columns = vec![column("a", "Call", [2, 1]), column("b", "Call", [4])];
        let mut read = Vec::new();
        for line in to_lines(&columns).lines() {
            parse_line(line, &mut read).unwrap();
        }
        assert_eq!(read, columns);
    }

    #[test]
    fn a_line_without_figures_is_refused() {
        for line in ["", "{}", r#"{"runtime":"a","call":"b","ms":["c"]}"#] {
            assert!(parse_line(line, &mut Vec::new()).is_err(), "{line}");
        }
    }
}
