//! Percentiles of durations, and the table they are printed in.

use std::fmt::Write as _;
use std::time::Duration;

/// What was measured for one call of one runtime, in the order it happened.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// Adds one measurement.
    pub fn push(&mut self, value: Duration) {
        self.0.push(value);
    }

    /// The measurements.
    pub fn values(&self) -> &[Duration] {
        &self.0
    }

    /// The smallest value that `percent` of the measurements do not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted
            .get(rank - 1)
            .map(|value| value.as_secs_f64() * 1000.0)
    }
}

/// Rows of `(call, one series per runtime)` as text: p50, p90 and p99 in milliseconds.
pub fn table(runtimes: &[String], rows: &[(String, Vec<Series>)]) -> String {
    let mut text = format!("{:<34}", "milliseconds: p50 p90 p99");
    for name in runtimes {
        let _ = write!(text, " | {name:^26}");
    }
    text.push('\n');
    for (call, series) in rows {
        let _ = write!(text, "{call:<34}");
        for one in series {
            let cells: Vec<String> = [50, 90, 99]
                .map(|percent| {
                    one.percentile(percent)
                        .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"))
                })
                .into();
            let _ = write!(text, " | {:>8} {:>8} {:>8}", cells[0], cells[1], cells[2]);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let mut series = Series::default();
        for ms in (1..=10).rev() {
            series.push(Duration::from_millis(ms));
        }
        assert_eq!(series.percentile(50), Some(5.0));
        assert_eq!(series.percentile(90), Some(9.0));
        assert_eq!(series.percentile(99), Some(10.0));
        assert_eq!(Series::default().percentile(50), None);
    }

    #[test]
    fn a_runtime_without_figures_has_dashes() {
        let mut series = Series::default();
        series.push(Duration::from_millis(2));
        let text = table(
            &["a".into(), "b".into()],
            &[("Call".into(), vec![series, Series::default()])],
        );
        assert!(text.contains("2.00"), "{text}");
        assert!(text.contains(" - "), "{text}");
    }
}
